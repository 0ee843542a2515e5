//! What a member says about itself, signed.
//!
//! Here: [`Record`], its order ([`Position`], [`MemberState`]), [`SignedRecord`] and the two traits that keep keys out of this
//! crate. Not here: what others say ([`crate::accusation`]), the member table ([`crate::swim`]).
//! Source: DESIGN section 10; hazards M12, M45, E32.

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded;
use crate::ids::StoreId;

const NAME_BYTES_MAX: usize = 128;
const ZONE_BYTES_MAX: usize = 64;
const BUILD_BYTES_MAX: usize = 64;
const ROLE_BYTES_MAX: usize = 32;
const ROLES_MAX: usize = 8;
const ADDRESSES_MAX: usize = 8;
/// Encoded record. With its signature it must fit one datagram of the smallest QUIC path (1,200 bytes before headers).
const RECORD_BYTES_MAX: usize = 768;
/// An Ed25519 signature has 64.
const SIGNATURE_BYTES_MAX: usize = 128;
/// Above this no incarnation is believed, so that a refutation can always be one higher (hazard M12: at the maximum an
/// accusation cannot be refuted).
const INCARNATION_MAX: u64 = 1 << 62;
/// Precedes the record in what is signed, so that the key's other uses can never be taken for a record.
const SIGNATURE_DOMAIN: &[u8] = b"synod member record 1\0";

/// The standing of a member. Ordered: within one position the later one wins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum MemberState {
    /// It said so.
    #[serde(rename = "a")]
    Alive,
    /// Somebody could not reach it; it still counts as a member.
    #[serde(rename = "s")]
    Suspect,
    /// It did not refute in time. A hint, undone by a higher position.
    #[serde(rename = "d")]
    Dead,
    /// It said goodbye.
    #[serde(rename = "l")]
    Left,
}

/// How new what a member says is. Only the member itself originates a higher one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Start count of the store.
    pub generation: u64,
    /// Counts refutations and changes within one start.
    pub incarnation: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.incarnation)
    }
}

/// What a member wants others to know. Build it with `..Default::default()`: fields are added.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Metadata {
    /// What fails together with it (a rack, a data centre); at most 64 bytes.
    #[serde(rename = "z", deserialize_with = "zone")]
    pub zone: Option<String>,
    /// Its share of the load relative to others; 0 = takes none.
    #[serde(rename = "c")]
    pub capacity: u32,
    /// Version of the program; at most 64 bytes.
    #[serde(
        rename = "b",
        deserialize_with = "bounded::string::<_, BUILD_BYTES_MAX>"
    )]
    pub build: String,
    /// At most 8, of at most 32 bytes each.
    #[serde(rename = "r", deserialize_with = "roles")]
    pub roles: Vec<String>,
    /// What its build understands; records of builds that did not say so yet have the first of everything.
    #[serde(rename = "v", skip_serializing_if = "Versions::are_first")]
    pub versions: Versions,
    /// It runs, but serves badly: its actors are stuck or far behind. Set by [`crate::Swim::set_degraded`].
    #[serde(rename = "d", skip_serializing_if = "core::ops::Not::not")]
    pub degraded: bool,
}

/// Up to where a member's build understands what all of them must: one number for each language, counted from 1. Fields are added.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Versions {
    /// Commands of the log that decides who is a member.
    #[serde(rename = "s")]
    pub system: u32,
}

impl Versions {
    fn are_first(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { system: 1 }
    }
}

/// What a member says about itself at one position.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// The subject. The key: names and addresses may change hands, a store id never does.
    #[serde(rename = "s")]
    pub store: StoreId,
    /// The node's name; at most 128 bytes.
    #[serde(
        rename = "n",
        deserialize_with = "bounded::string::<_, NAME_BYTES_MAX>"
    )]
    pub name: String,
    /// Start count of the store.
    #[serde(rename = "g")]
    pub generation: u64,
    /// Counts refutations and changes within one start.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// [`MemberState::Alive`] or [`MemberState::Left`]: nobody accuses itself.
    #[serde(rename = "t")]
    pub state: MemberState,
    /// Where it can be reached, best first; at most 8.
    #[serde(
        rename = "a",
        deserialize_with = "bounded::list::<_, _, ADDRESSES_MAX>"
    )]
    pub addresses: Vec<SocketAddr>,
    /// The rest.
    #[serde(rename = "m", default)]
    pub metadata: Metadata,
}

impl Record {
    /// How new it is.
    pub fn position(&self) -> Position {
        Position {
            generation: self.generation,
            incarnation: self.incarnation,
        }
    }

    /// Signs it. Refused: a state only others may give, or anything over its bound.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedRecord, RecordError> {
        let encoded = rmp_serde::to_vec_named(&self).map_err(|_| RecordError::Malformed)?;
        let signature = signer.sign(&signed_bytes(&encoded));
        SignedRecord::new(Bytes::from(encoded), signature) // the decoder's bounds are the only ones
    }
}

/// A record as its subject signed it: the very bytes are relayed, so that fields this version does not know survive. Cheap to
/// clone: a round of gossip hands on many.
#[derive(Clone)]
pub struct SignedRecord(Arc<Signed>);

struct Signed {
    encoded: Bytes,
    signature: Bytes,
    record: Record,
}

impl SignedRecord {
    /// Decodes the record inside, within its bounds. The signature is not checked here: see [`SignedRecord::is_signed`].
    pub fn new(encoded: Bytes, signature: Bytes) -> Result<Self, RecordError> {
        if encoded.len() > RECORD_BYTES_MAX || signature.len() > SIGNATURE_BYTES_MAX {
            return Err(RecordError::TooLarge {
                got: encoded.len().max(signature.len()),
                most: RECORD_BYTES_MAX,
            });
        }
        let record: Record = rmp_serde::from_slice(&encoded).map_err(|_| RecordError::Malformed)?;
        if !matches!(record.state, MemberState::Alive | MemberState::Left)
            || record.incarnation > INCARNATION_MAX
        {
            return Err(RecordError::NotItsToSay);
        }
        Ok(Self(Arc::new(Signed {
            encoded,
            signature,
            record,
        })))
    }

    /// What was signed.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// Whether its subject's key made the signature.
    pub fn is_signed(&self, verifier: &dyn Verifier) -> bool {
        verifier.verify(
            self.0.record.store,
            &signed_bytes(&self.0.encoded),
            &self.0.signature,
        )
    }

    /// Bytes of what was signed and of the signature.
    pub fn encoded_bytes(&self) -> usize {
        self.0.encoded.len() + self.0.signature.len()
    }

    /// Its own encoding: a map of two one-letter names with a byte string each.
    pub(crate) fn packed_bytes(&self) -> usize {
        let string = |bytes: &Bytes| 2 + if bytes.len() < 0x100 { 2 } else { 3 } + bytes.len();
        1 + string(&self.0.encoded) + string(&self.0.signature)
    }

    /// Bytes it takes inside a packet, at most.
    pub(crate) fn wire_bytes(&self) -> usize {
        self.0.encoded.len() + self.0.signature.len() + 24 // two keys, three headers of at most 5 bytes, the rumour's tag
    }
}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.record.fmt(f)
    }
}

impl PartialEq for SignedRecord {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.encoded == other.0.encoded && self.0.signature == other.0.signature
    }
}

impl Eq for SignedRecord {}

impl Serialize for SignedRecord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("SignedRecord", 2)?;
        fields.serialize_field("r", &self.0.encoded)?;
        fields.serialize_field("s", &self.0.signature)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for SignedRecord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(
                rename = "r",
                deserialize_with = "bounded::bytes::<_, RECORD_BYTES_MAX>"
            )]
            encoded: Bytes,
            #[serde(
                rename = "s",
                deserialize_with = "bounded::bytes::<_, SIGNATURE_BYTES_MAX>"
            )]
            signature: Bytes,
        }
        let wire = Wire::deserialize(from)?;
        Self::new(wire.encoded, wire.signature).map_err(serde::de::Error::custom)
    }
}

/// The own member, as it starts.
#[derive(Clone, Debug)]
pub struct LocalMember {
    /// As the system log numbered it.
    pub store: StoreId,
    /// The node's name; at most 128 bytes.
    pub name: String,
    /// Start count of the store: higher than at any earlier start.
    pub generation: u64,
    /// Where it can be reached, best first; at most 8.
    pub addresses: Vec<SocketAddr>,
    /// The rest.
    pub metadata: Metadata,
}

/// Signs with the own node's key. Deterministic (Ed25519 is): one record has one signature.
pub trait Signer {
    /// The signature of `bytes`; at most 128 bytes.
    fn sign(&self, bytes: &[u8]) -> Bytes;
}

/// Knows every admitted store's key.
pub trait Verifier {
    /// Whether `signature` of `bytes` was made by the key that the system log has for `store`; `false` for an unknown store.
    fn verify(&self, store: StoreId, bytes: &[u8], signature: &[u8]) -> bool;
}

/// Why a record cannot be made or taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorten names, roles or the list of addresses.
    #[error("a member record or signature of {got} bytes is too large, at most {most} are allowed")]
    TooLarge {
        /// Bytes of the larger part.
        got: usize,
        /// The bound.
        most: usize,
    },
    /// Undecodable, or a field is over its bound.
    #[error("the member record is malformed or a field of it is over its bound")]
    Malformed,
    /// A state or an incarnation that no subject may claim.
    #[error("the member record claims a standing that its subject cannot claim")]
    NotItsToSay,
}

fn signed_bytes(encoded: &[u8]) -> Vec<u8> {
    [SIGNATURE_DOMAIN, encoded].concat()
}

fn zone<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Short<ZONE_BYTES_MAX>>::deserialize(from)?.map(|zone| zone.0))
}

fn roles<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let roles: Vec<Short<ROLE_BYTES_MAX>> = bounded::list::<_, _, ROLES_MAX>(from)?;
    Ok(roles.into_iter().map(|role| role.0).collect())
}

/// A string of at most `MAX` bytes, where a field attribute does not reach.
struct Short<const MAX: usize>(String);

impl<'de, const MAX: usize> Deserialize<'de> for Short<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        bounded::string::<_, MAX>(from).map(Self)
    }
}
