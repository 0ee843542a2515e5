//! What the encoder writes, what the decoder takes, and how much of it. Long runs: `PROPTEST_CASES=100000 cargo test -p
//! synod-membership packet`.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::accusation::Verdict;
use crate::record::{Metadata, Record, Signer, Versions};

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

pub(crate) fn any_rumour() -> impl Strategy<Value = Rumour> {
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
        (
            prop::collection::vec(any::<u8>(), 0..=BUCKETS),
            prop::collection::vec(any_claim(), 0..40)
        )
            .prop_map(|(parts, claims)| Body::SyncDigest { parts, claims }),
        prop::collection::vec(any::<u64>(), 0..40).prop_map(|wanted| Body::SyncExchange {
            wanted: wanted.into_iter().map(StoreId::new).collect()
        }),
        prop::collection::vec(any::<u64>(), 0..=REFERRALS_MAX).prop_map(|others| {
            Body::SyncBusy {
                others: others.into_iter().map(StoreId::new).collect(),
            }
        }),
    ]
}

prop_compose! {
    fn any_claim()(store: u64, generation: u64, incarnation: u64, state in 0usize..4) -> Claim {
        use MemberState::{Alive, Dead, Left, Suspect};
        Claim(store.into(), generation, incarnation, [Alive, Suspect, Dead, Left][state])
    }
}

prop_compose! {
    pub(crate) fn any_packet()(
        generation: u64, incarnation: u64, hash: u64, want: bool, body in any_body(),
        rumours in prop::collection::vec(any_rumour(), 0..20),
    ) -> Packet { Packet { generation, incarnation, hash, want, body, rumours } }
}

proptest! {
    #[test]
    fn every_packet_comes_back_as_it_was(packet in any_packet()) {
        // M44: what the encoder writes is what the decoder reads.
        let bytes = packet.encode();
        prop_assert_eq!(packet.encoded_bytes(), bytes.len());
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
        let bare = if small { Packet::BYTES_BARE } else { 2_048 };
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
fn a_record_that_says_nothing_of_versions_has_the_first() {
    // STYLE 11: {z: nil, c: 1, b: "0.1.0", r: []}, as builds wrote it before there was a second version of anything.
    let bytes = b"\x84\xa1z\xc0\xa1c\x01\xa1b\xa50.1.0\xa1r\x90";
    let before: Metadata = rmp_serde::from_slice(bytes).unwrap();
    assert_eq!(before.versions, Versions { system: 1 });
    assert_eq!(rmp_serde::to_vec_named(&before).unwrap(), bytes);
    let later = Metadata {
        versions: Versions { system: 7 },
        ..before
    };
    let encoded = rmp_serde::to_vec_named(&later).unwrap();
    assert_eq!(encoded.len(), bytes.len() + 6);
    let decoded: Metadata = rmp_serde::from_slice(&encoded).unwrap();
    assert_eq!(decoded, later);
}

#[test]
fn unknown_fields_are_skipped_and_relayed_records_keep_theirs() {
    // DESIGN 12: versions meet; the signature covers the very bytes.
    let bytes = b"\x01\x85\xa1g\x01\xa1i\x02\xa1h\x03\xa1z\x92\x01\x02\xa1b\xa1g";
    assert_eq!(Packet::decode(bytes), Ok(bare(Body::Gossip, Vec::new())));
}

proptest! {
    #[test]
    fn records_of_any_bytes_are_refused_or_within_their_bounds(
        signed in any_record(), noise in prop::collection::vec(any::<u8>(), 0..900), at: prop::sample::Index, to: u8, cut: prop::sample::Index,
    ) {
        // M44: the record inside a packet is decoded on its own, from the very bytes that were signed.
        let encoded = rmp_serde::to_vec_named(signed.record()).unwrap();
        let mut damaged = encoded.clone();
        damaged[at.index(encoded.len())] = to;
        let pieces = [noise, damaged, encoded[..cut.index(encoded.len())].to_vec()];
        for bytes in pieces {
            let signature = Bytes::from_static(&[7; 64]);
            if let Ok(signed) = SignedRecord::new(bytes.into(), signature) {
                let record = signed.record();
                prop_assert!(record.name.len() <= 128 && record.addresses.len() <= 8 && record.metadata.roles.len() <= 8);
                prop_assert!(matches!(record.state, MemberState::Alive | MemberState::Left) && record.incarnation <= 1 << 62);
            }
        }
    }
}
