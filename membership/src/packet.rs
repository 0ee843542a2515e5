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
use crate::record::{Position, SignedRecord, Verifier};

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
    /// The rumours are all that the sender knows in these parts. Reliable lane.
    #[serde(rename = "t")]
    SyncReply {
        #[serde(rename = "b", deserialize_with = "bounded::list::<_, _, BUCKETS>")]
        parts: Vec<u8>,
    },
    /// The rumours are what the reply lacked. Reliable lane.
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
}

/// Four integers of 9 bytes, six one-letter names, a verdict, two map headers and the tag.
const ACCUSATION_BYTES_MAX: usize = 4 * 9 + 6 * 2 + 2 + 2 + 2;

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
            Body::SyncReply { .. } => "sync_reply",
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
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::accusation::Verdict;
    use crate::record::{MemberState, Metadata, Record, Signer};

    struct Plain;
    impl Signer for Plain {
        fn sign(&self, bytes: &[u8]) -> Bytes {
            Bytes::copy_from_slice(&[bytes.len() as u8; 64])
        }
    }

    fn record(
        store: u64,
        name: &str,
        generation: u64,
        incarnation: u64,
        addresses: usize,
    ) -> SignedRecord {
        let record = Record {
            store: StoreId::new(store),
            name: name.to_owned(),
            generation,
            incarnation: incarnation >> 2,
            state: if incarnation.is_multiple_of(2) {
                MemberState::Alive
            } else {
                MemberState::Left
            },
            addresses: (0..addresses)
                .map(|port| ([127, 0, 0, 1], port as u16).into())
                .collect(),
            metadata: Metadata {
                zone: Some("z".repeat(64)),
                capacity: u32::MAX,
                ..Metadata::default()
            },
        };
        record.sign(&Plain).unwrap()
    }

    prop_compose! {
        fn any_record()(store: u64, name in "[a-z]{0,128}", generation: u64, incarnation: u64, addresses in 0usize..=8)
            -> SignedRecord { record(store, &name, generation, incarnation, addresses) }
    }

    prop_compose! {
        fn any_accusation()(subject: u64, generation: u64, incarnation: u64, dead: bool, accuser: u64) -> Accusation {
            let verdict = if dead { Verdict::Dead } else { Verdict::Suspect };
            Accusation { subject: subject.into(), generation, incarnation, verdict, accuser: accuser.into() }
        }
    }

    fn any_rumour() -> impl Strategy<Value = Rumour> {
        prop_oneof![
            any_record().prop_map(Rumour::Record),
            any_accusation().prop_map(Rumour::Accusation)
        ]
    }

    fn any_body() -> impl Strategy<Value = Body> {
        prop_oneof![
            Just(Body::Gossip),
            Just(Body::SyncPush),
            (any::<u64>(), any::<bool>())
                .prop_map(|(sequence, reliable)| Body::Ping { sequence, reliable }),
            any::<(u64, u64)>().prop_map(|(sequence, target)| Body::PingRequest {
                sequence,
                target: target.into()
            }),
            any::<(u64, u64)>().prop_map(|(sequence, target)| Body::Ack {
                sequence,
                target: target.into()
            }),
            any::<(u64, u64)>().prop_map(|(sequence, target)| Body::Nack {
                sequence,
                target: target.into()
            }),
            prop::collection::vec(any::<u64>(), 0..=BUCKETS)
                .prop_map(|buckets| Body::SyncRequest { buckets }),
            prop::collection::vec(any::<u8>(), 0..=BUCKETS)
                .prop_map(|parts| Body::SyncReply { parts }),
            prop::collection::vec(any::<u64>(), 0..=REFERRALS_MAX).prop_map(|others| {
                Body::SyncBusy {
                    others: others.into_iter().map(StoreId::new).collect(),
                }
            }),
        ]
    }

    prop_compose! {
        fn any_packet()(
            generation: u64, incarnation: u64, hash: u64, want: bool, body in any_body(),
            rumours in prop::collection::vec(any_rumour(), 0..20),
        ) -> Packet { Packet { generation, incarnation, hash, want, body, rumours } }
    }

    proptest! {
        #[test]
        fn every_packet_comes_back_as_it_was(packet in any_packet()) {
            // M44: what the encoder writes is what the decoder reads.
            let bytes = packet.encode();
            prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            // M44: 2026's panics of other decoders on short and odd input.
            let _ = Packet::decode(&bytes);
            let _ = Packet::decode(&[&[VERSION], &bytes[..]].concat());
        }

        #[test]
        fn damaged_packets_never_panic(packet in any_packet(), at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            // M44: near misses reach further into the decoder than noise does.
            let mut bytes = packet.encode();
            let (at, cut) = (at.index(bytes.len()), cut.index(bytes.len()));
            bytes[at] = to;
            let _ = Packet::decode(&bytes);
            let _ = Packet::decode(&bytes[..cut]);
        }

        #[test]
        fn estimate_of_bytes_is_never_too_small(packet in any_packet(), count in prop::sample::select(vec![0usize, 1, 255, 256])) {
            // M43: counts of 0, 1, 255 and 256, and one budget for the whole packet.
            let rumours: Vec<Rumour> = packet.rumours.iter().cycle().take(count).cloned().collect();
            let estimate: usize = rumours.iter().map(Rumour::wire_bytes).sum();
            let small = matches!(packet.body, Body::Gossip | Body::Ping { .. } | Body::Ack { .. } | Body::Nack { .. } | Body::PingRequest { .. });
            let bare = if small { Packet::BYTES_BARE } else { 512 };
            let packet = Packet { rumours, ..packet };
            prop_assert!(packet.encode().len() <= bare + estimate);
        }
    }

    fn bare(body: Body, rumours: Vec<Rumour>) -> Packet {
        Packet {
            generation: 1,
            incarnation: 2,
            hash: 3,
            want: false,
            body,
            rumours,
        }
    }

    #[test]
    fn announced_lengths_are_refused_before_anything_is_reserved() {
        // M44: 32-bit length fields that other implementations trusted. 0xdd = array, 0xdb = string, 0xc6 = bytes of u32 length.
        for marker in [0xdd_u8, 0xdb, 0xc6, 0xdf] {
            let bytes = [&[VERSION, 0x81, 0xa1, b'r', marker][..], &[0xff; 4]].concat();
            assert_eq!(Packet::decode(&bytes), Err(PacketError::Malformed));
        }
    }

    #[test]
    fn bounds_of_fields_hold_in_the_decoder() {
        // M44: the encoder's good will is no bound.
        let many = bare(
            Body::SyncRequest {
                buckets: vec![1; BUCKETS + 1],
            },
            Vec::new(),
        );
        assert_eq!(Packet::decode(&many.encode()), Err(PacketError::Malformed));
        let many = bare(
            Body::SyncBusy {
                others: vec![StoreId::new(1); REFERRALS_MAX + 1],
            },
            Vec::new(),
        );
        assert_eq!(Packet::decode(&many.encode()), Err(PacketError::Malformed));
        assert_eq!(
            Packet::decode(&vec![VERSION; Packet::BYTES_MAX + 1]),
            Err(PacketError::TooLarge {
                got: Packet::BYTES_MAX + 1
            })
        );
        assert_eq!(Packet::decode(&[]), Err(PacketError::Malformed));
        assert_eq!(
            Packet::decode(&[9, 0x80]),
            Err(PacketError::UnknownVersion { got: 9 })
        );
        let long = Record {
            name: "n".repeat(129),
            ..record(1, "n", 1, 0, 1).record().clone()
        };
        assert!(long.sign(&Plain).is_err());
        let crowded = Record {
            addresses: vec![([127, 0, 0, 1], 1).into(); 9],
            ..record(1, "n", 1, 0, 1).record().clone()
        };
        assert!(crowded.sign(&Plain).is_err());
        let dead = Record {
            state: MemberState::Dead,
            ..record(1, "n", 1, 0, 1).record().clone()
        };
        assert!(dead.sign(&Plain).is_err(), "M45: nobody accuses itself");
        let vast = Record {
            incarnation: u64::MAX,
            ..record(1, "n", 1, 0, 1).record().clone()
        };
        assert!(
            vast.sign(&Plain).is_err(),
            "M12: at the maximum nobody could refute"
        );
    }

    #[test]
    fn trailing_bytes_are_refused() {
        // M43, foca#18: junk after a packet was read as rumours.
        let mut bytes = bare(Body::Gossip, Vec::new()).encode();
        bytes.push(0);
        assert_eq!(Packet::decode(&bytes), Err(PacketError::Malformed));
    }

    #[test]
    fn deep_nesting_is_refused() {
        // M44: an unknown field of arrays in arrays must not use up the stack.
        let deep = [&[VERSION, 0x81, 0xa1, b'x'][..], &[0x91; 10_000], &[0xc0]].concat();
        assert_eq!(Packet::decode(&deep), Err(PacketError::Malformed));
    }

    #[test]
    fn first_format_still_decodes() {
        // STYLE 11: bytes of version 1, as first released: {g: 1, i: 2, h: 3, b: {p: {q: 7}}}; later fields have defaults.
        let bytes = b"\x01\x84\xa1g\x01\xa1i\x02\xa1h\x03\xa1b\x81\xa1p\x81\xa1q\x07";
        let packet = bare(
            Body::Ping {
                sequence: 7,
                reliable: false,
            },
            Vec::new(),
        );
        assert_eq!(Packet::decode(bytes), Ok(packet));
    }

    #[test]
    fn unknown_fields_are_skipped_and_relayed_records_keep_theirs() {
        // DESIGN 12: versions meet; the signature covers the very bytes.
        let bytes = b"\x01\x85\xa1g\x01\xa1i\x02\xa1h\x03\xa1z\x92\x01\x02\xa1b\xa1g";
        assert_eq!(Packet::decode(bytes), Ok(bare(Body::Gossip, Vec::new())));
    }
}
