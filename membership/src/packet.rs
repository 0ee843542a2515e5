//! The wire of the gossip: one kind of packet, for datagrams and for the reliable lane.
//!
//! Here: [`Packet`], its body and rumours, encoding and bounded decoding. Not here: what the machine does with them
//! ([`crate::swim`]); lanes and frames (`runtime`). Format: one version byte, then named MessagePack with one-letter names
//! (a full membership of a thousand nodes is sent when a node joins).
//! Source: hazards M43 (one budget for a packet), M44 (cap everything before decode), M46 (the sender's generation in every packet).

use serde::{Deserialize, Serialize};

use crate::accusation::Accusation;
use crate::bounded;
use crate::ids::StoreId;
use crate::record::{MemberState, Position, SignedRecord, Verifier};

/// The only version so far.
const VERSION: u8 = 1;
/// Rumours in one packet: a full sync of the largest membership, each with a record and an accusation.
const RUMOURS_MAX: usize = 16_384;
/// Parts into which a membership is divided for comparison.
pub(crate) const BUCKETS: usize = 32;
/// Other members named to a node that was turned away.
pub(crate) const REFERRALS_MAX: usize = 8;

/// One message between two members. Opaque to the caller: it encodes, decodes, screens and hands it over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Packet {
    /// The sender's own position.
    #[serde(rename = "g")]
    pub(crate) generation: u64,
    #[serde(rename = "i")]
    pub(crate) incarnation: u64,
    /// The sender's membership hash.
    #[serde(rename = "h")]
    pub(crate) hash: u64,
    /// "I do not have the record of your position: send it."
    #[serde(rename = "w", default, skip_serializing_if = "core::ops::Not::not")]
    pub(crate) want: bool,
    #[serde(rename = "b")]
    pub(crate) body: Body,
    #[serde(
        rename = "r",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list::<_, _, RUMOURS_MAX>"
    )]
    pub(crate) rumours: Vec<Rumour>,
}

/// What a packet is for, besides the rumours on it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Body {
    /// Rumours only.
    #[serde(rename = "g")]
    Gossip,
    /// "Are you there?"
    #[serde(rename = "p")]
    Ping {
        #[serde(rename = "q")]
        sequence: u64,
        /// Answer on the reliable lane, as this came.
        #[serde(rename = "r", default)]
        reliable: bool,
    },
    /// "Ask `target` for me." SWIM's ping-req.
    #[serde(rename = "i")]
    PingRequest {
        #[serde(rename = "q")]
        sequence: u64,
        #[serde(rename = "t")]
        target: StoreId,
    },
    /// "`target` is there", from itself or from a helper that heard it.
    #[serde(rename = "a")]
    Ack {
        #[serde(rename = "q")]
        sequence: u64,
        #[serde(rename = "t")]
        target: StoreId,
    },
    /// "I am there and asked `target`, which did not answer me."
    #[serde(rename = "n")]
    Nack {
        #[serde(rename = "q")]
        sequence: u64,
        #[serde(rename = "t")]
        target: StoreId,
    },
    /// "My membership differs from yours; these are the hashes of its parts." Reliable lane.
    #[serde(rename = "s")]
    SyncRequest {
        #[serde(rename = "b", deserialize_with = "bounded::list::<_, _, BUCKETS>")]
        buckets: Vec<u64>,
    },
    /// "These parts differ, and this is what I hold in them." Reliable lane.
    #[serde(rename = "d")]
    SyncDigest {
        #[serde(rename = "b", deserialize_with = "bounded::list::<_, _, BUCKETS>")]
        parts: Vec<u8>,
        #[serde(rename = "c", deserialize_with = "bounded::list::<_, _, RUMOURS_MAX>")]
        claims: Vec<Claim>,
    },
    /// "The rumours are what you lack; of these I want to know." Reliable lane.
    #[serde(rename = "x")]
    SyncExchange {
        #[serde(rename = "o", deserialize_with = "bounded::list::<_, _, RUMOURS_MAX>")]
        wanted: Vec<StoreId>,
    },
    /// The rumours are what was wanted. Reliable lane.
    #[serde(rename = "u")]
    SyncPush,
    /// "Too many ask me at once; ask one of these."
    #[serde(rename = "y")]
    SyncBusy {
        #[serde(
            rename = "o",
            deserialize_with = "bounded::list::<_, _, REFERRALS_MAX>"
        )]
        others: Vec<StoreId>,
    },
}

/// What the sender of a digest holds of one member: store, generation, incarnation, state. An array: a digest has many.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Claim(
    pub(crate) StoreId,
    pub(crate) u64,
    pub(crate) u64,
    pub(crate) MemberState,
);

impl Claim {
    /// What is compared: the later one has something to tell.
    pub(crate) fn standing(self) -> (Position, MemberState) {
        let Self(_, generation, incarnation, state) = self;
        let position = Position {
            generation,
            incarnation,
        };
        (position, state)
    }
}

/// One piece of news.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Rumour {
    #[serde(rename = "r")]
    Record(SignedRecord),
    #[serde(rename = "a")]
    Accusation(Accusation),
}

impl Rumour {
    /// Bytes it takes inside a packet, at most.
    pub(crate) fn wire_bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.wire_bytes(),
            Self::Accusation(_) => ACCUSATION_BYTES_MAX,
        }
    }

    fn encoded_bytes(&self) -> usize {
        match self {
            Self::Record(record) => TAG_BYTES + record.packed_bytes(),
            Self::Accusation(accusation) => {
                let Ok(bytes) = rmp_serde::to_vec_named(accusation) else {
                    unreachable!("plain integers into a Vec")
                };
                TAG_BYTES + bytes.len()
            }
        }
    }
}

/// Four integers of 9 bytes, six one-letter names, a verdict, two map headers and the tag.
const ACCUSATION_BYTES_MAX: usize = 4 * 9 + 6 * 2 + 2 + 2 + 2;

/// A map of one entry with a one-letter name.
const TAG_BYTES: usize = 3;

impl Packet {
    /// Encoded bytes of the largest packet that is sent or decoded: a full sync. Frames of the reliable lane must admit it.
    pub const BYTES_MAX: usize = 2 << 20;

    /// At most so many bytes has a datagram's packet without rumours: version, five named fields, a body of at most three, the
    /// header of the rumours.
    pub(crate) const BYTES_BARE: usize = 96;

    /// The bytes for the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        if rmp_serde::encode::write_named(&mut bytes, self).is_err() {
            unreachable!("plain integers, strings and bytes into a Vec");
        }
        bytes
    }

    /// Length of [`Packet::encode`], at little cost.
    pub fn encoded_bytes(&self) -> usize {
        let rumours: usize = self.rumours.iter().map(Rumour::encoded_bytes).sum();
        let bare = Self {
            rumours: Vec::new(),
            body: self.body.clone(),
            ..*self
        };
        let header = match self.rumours.len() {
            0 => 0,
            1..16 => 3, // the field's name and the list's length
            16..0x1_0000 => 5,
            _ => 7,
        };
        bare.encode().len() + header + rumours
    }

    /// Decodes what a peer sent. Whatever the bytes are, it takes no more memory than a small multiple of their length.
    /// Signatures are not checked here: see [`Packet::verify`] and [`crate::Swim::screen`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(PacketError::TooLarge { got: bytes.len() });
        }
        let (&version, mut rest) = bytes.split_first().ok_or(PacketError::Malformed)?;
        if version != VERSION {
            return Err(PacketError::UnknownVersion { got: version });
        }
        let mut decoder = rmp_serde::Deserializer::new(&mut rest);
        decoder.set_max_depth(DEPTH_MAX);
        let packet = Self::deserialize(&mut decoder).map_err(|_| PacketError::Malformed)?;
        if !rest.is_empty() {
            return Err(PacketError::Malformed); // trailing bytes: another format, or a mistake
        }
        Ok(packet)
    }

    /// Drops every record that its subject's key did not sign, and says how many. [`crate::Swim::screen`] does the same
    /// without checking again what is already held.
    pub fn verify(&mut self, verifier: &dyn Verifier) -> usize {
        self.retain_records(|record| record.is_signed(verifier))
    }

    pub(crate) fn retain_records(&mut self, mut keep: impl FnMut(&SignedRecord) -> bool) -> usize {
        let before = self.rumours.len();
        self.rumours.retain(|rumour| match rumour {
            Rumour::Record(record) => keep(record),
            Rumour::Accusation(_) => true,
        });
        before - self.rumours.len()
    }

    /// A fixed name of its kind, for counters and traces.
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::Gossip => "gossip",
            Body::Ping { .. } => "ping",
            Body::PingRequest { .. } => "ping_request",
            Body::Ack { .. } => "ack",
            Body::Nack { .. } => "nack",
            Body::SyncRequest { .. } => "sync_request",
            Body::SyncDigest { .. } => "sync_digest",
            Body::SyncExchange { .. } => "sync_exchange",
            Body::SyncPush => "sync_push",
            Body::SyncBusy { .. } => "sync_busy",
        }
    }

    /// The signed records on it.
    pub fn records(&self) -> impl Iterator<Item = &SignedRecord> {
        self.rumours.iter().filter_map(|rumour| match rumour {
            Rumour::Record(record) => Some(record),
            Rumour::Accusation(_) => None,
        })
    }

    /// The accusations on it.
    pub fn accusations(&self) -> impl Iterator<Item = &Accusation> {
        self.rumours.iter().filter_map(|rumour| match rumour {
            Rumour::Record(_) => None,
            Rumour::Accusation(accusation) => Some(accusation),
        })
    }

    pub(crate) fn sender(&self) -> Position {
        Position {
            generation: self.generation,
            incarnation: self.incarnation,
        }
    }
}

/// Nesting of a well-formed packet is below 10; unknown fields may bring a little more.
const DEPTH_MAX: usize = 24;

/// Why bytes are no packet. Drop them and count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Over [`Packet::BYTES_MAX`].
    #[error(
        "a gossip packet of {got} bytes is over the bound of {}",
        Packet::BYTES_MAX
    )]
    TooLarge {
        /// Its length.
        got: usize,
    },
    /// From a later version.
    #[error("gossip version {got} is not known here")]
    UnknownVersion {
        /// Its first byte.
        got: u8,
    },
    /// Undecodable, or a field is over its bound.
    #[error("the gossip packet is malformed or a field of it is over its bound")]
    Malformed,
}

#[cfg(test)]
pub(crate) mod tests;
