//! Bytes from outside: never a panic, never more memory than their size justifies, and what decodes is what is encoded again.
//!
//! Here: arbitrary bytes, and valid ones with bytes changed, cut out, doubled or replaced by the heads of huge lists, for the messages of a
//! group and of the founding, what the founding keeps on disk, and configurations.
//! Not here: frames around them (crate `synod`).

use core::fmt::Debug;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bench::Bench;
use super::{inputs, run};
use crate::genesis::{
    self, Acceptor, Ballot, Body, Card, ClusterId, Durable, Electorate, Incarnation, Record,
    SeedList, SeedName,
};
use crate::{Configuration, Message};

/// What the serializer sets aside for a list before its first element has come, at most, and a little more.
const ASIDE: u64 = (1 << 20) + (64 << 10);
/// Memory per byte of input: an id in a set is one byte on the wire, and a node of a tree in memory; a vector grows by doubling.
const PER_BYTE: u64 = 256;

/// One thing done to bytes.
#[derive(Clone, Debug)]
enum Harm {
    Set(usize, u8),
    Cut(usize, usize),
    Double(usize, usize),
    Insert(usize, Vec<u8>),
    End(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let huge = prop_oneof![
        Just(b"\xdd\xff\xff\xff\xff".to_vec()), // a list, a map, bytes, text of four billion
        Just(b"\xdf\xff\xff\xff\xff".to_vec()),
        Just(b"\xc6\xff\xff\xff\xff".to_vec()),
        Just(b"\xdb\xff\xff\xff\xff".to_vec()),
        Just(b"\xdc\xff\xff".to_vec()),
        Just(vec![0x91; 3_000]), // lists in lists
        vec(any::<u8>(), 1..20),
    ];
    let at = || any::<u16>().prop_map(usize::from);
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Harm::Set(at, byte)),
        2 => (at(), 1_usize..20).prop_map(|(at, bytes)| Harm::Cut(at, bytes)),
        2 => (at(), 1_usize..40).prop_map(|(at, bytes)| Harm::Double(at, bytes)),
        3 => (at(), huge).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => at().prop_map(Harm::End),
    ]
}

fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        match harm {
            Harm::Set(at, byte) => bytes[at % length] = *byte,
            Harm::Cut(at, count) => {
                bytes.drain(at % length..(at % length + count).min(length));
            }
            Harm::Double(at, count) => {
                let part = bytes[at % length..(at % length + count).min(length)].to_vec();
                bytes.splice(at % length..at % length, part);
            }
            Harm::Insert(at, part) => {
                bytes.splice(
                    at % length..(at % length + part.len()).min(length),
                    part.clone(),
                );
            }
            Harm::End(at) => bytes.truncate(at % length),
        }
    }
    bytes
}

/// Decodes as a `T`; returns whether that went well.
fn judge<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let mut decoded = None;
    let asked = allocation_counter::measure(|| decoded = rmp_serde::from_slice::<T>(bytes).ok());
    let limit = ASIDE + PER_BYTE * bytes.len() as u64;
    assert!(
        asked.bytes_total <= limit,
        "{} bytes of memory for {} bytes",
        asked.bytes_total,
        bytes.len()
    );
    let Some(value) = decoded else {
        return false;
    };
    let again = rmp_serde::to_vec_named(&value).expect("what was decoded can be encoded");
    assert_eq!(
        rmp_serde::from_slice::<T>(&again).expect("and decoded again"),
        value
    );
    true
}

fn judge_all(bytes: &[u8]) -> u64 {
    let judges = [
        judge::<Message>,
        judge::<genesis::Message>,
        judge::<genesis::Durable>,
        judge::<genesis::Record>,
        judge::<genesis::SeedList>,
    ];
    let decoded = judges
        .into_iter()
        .map(|judge| u64::from(judge(bytes)))
        .sum();
    if let Some(configuration) = Configuration::decode(bytes) {
        let again = configuration.encode();
        assert_eq!(Configuration::decode(&again), Some(configuration));
        assert!(again.len() <= bytes.len(), "each id once");
    }
    decoded
}

/// A message of the founding, of each kind in turn, and what a disk keeps by then.
fn founding(seed: u64) -> [Vec<u8>; 2] {
    let names = ["a", "b", "c"].map(|name| SeedName::new(name).unwrap());
    let list = SeedList::new(names.clone()).unwrap();
    let card = Card::new(Bytes::from(vec![6; 32])).unwrap();
    let disk = (Incarnation(seed), card.clone());
    let electorate = Electorate::draw(&list, |_| Some(disk.clone())).unwrap();
    let ballot = Ballot {
        round: seed >> 8,
        place: seed as u8,
    };
    let payload = Bytes::from(vec![5; 40]);
    let record = Record::new(ClusterId(u128::from(seed) << 64), payload).unwrap();
    let body = match seed % 7 {
        0 => Body::Statement {
            incarnation: Incarnation(seed),
            list: list.clone(),
            card: card.clone(),
            electorate: (seed & 8 == 0).then(|| electorate.clone()),
            complete: seed & 16 == 0,
            ask: seed,
            echo: 0,
        },
        1 => Body::Holds {
            cluster: record.cluster(),
            electorate: None,
            echo: seed,
        },
        2 => Body::Chosen {
            electorate: electorate.clone(),
            record: record.clone(),
        },
        3 => Body::Prepare {
            electorate: electorate.clone(),
            ballot,
        },
        4 => Body::Promise {
            electorate: electorate.clone(),
            ballot,
            accepted: Some((ballot, record.clone())),
        },
        5 => Body::Accept {
            electorate: electorate.clone(),
            ballot,
            record: record.clone(),
        },
        _ => Body::Refused {
            electorate: electorate.clone(),
            ballot,
            promised: ballot,
        },
    };
    let message = genesis::Message {
        from: names[0].clone(),
        body,
    };
    let durable = Durable {
        incarnation: Incarnation(seed),
        list,
        card,
        electorate: Some(electorate),
        complete: true,
        acceptor: Acceptor {
            promised: Some(ballot),
            accepted: Some((ballot, record.clone())),
        },
        chosen: Some(record),
    };
    [
        rmp_serde::to_vec_named(&message).unwrap(),
        rmp_serde::to_vec_named(&durable).unwrap(),
    ]
}

// M44: bytes from outside are bounded before they are believed.
#[test]
fn no_bytes_harm_a_decoder() {
    run(4_000, &vec(any::<u8>(), 0..300), |bytes| {
        judge_all(&bytes);
    });
}

// M44. Bytes that are almost right get further than random ones.
#[test]
fn no_harmed_message_harms_a_decoder() {
    let decoded = core::cell::Cell::new(0_u64);
    let heard = vec((inputs::term(), inputs::said()), 1..4);
    run(2_000, &(heard, vec(harm(), 0..4)), |(heard, harms)| {
        for message in Bench::new(3).messages(heard) {
            let bytes = rmp_serde::to_vec_named(&message).unwrap();
            if harms.is_empty() {
                assert_eq!(rmp_serde::from_slice::<Message>(&bytes).unwrap(), message);
            }
            decoded.set(decoded.get() + judge_all(&harmed(bytes, &harms)));
        }
    });
    assert!(
        decoded.get() > 400,
        "only {} of the harmed messages still decoded",
        decoded.get()
    );
}

// M44, for what seeds say and keep.
#[test]
fn no_harmed_founding_harms_a_decoder() {
    let decoded = core::cell::Cell::new(0_u64);
    run(
        2_000,
        &(any::<u64>(), vec(harm(), 0..4)),
        |(seed, harms)| {
            for bytes in founding(seed) {
                decoded.set(decoded.get() + judge_all(&harmed(bytes, &harms)));
            }
        },
    );
    assert!(
        decoded.get() > 400,
        "only {} of the harmed values still decoded",
        decoded.get()
    );
}

// M44: the same for the bytes of a configuration entry.
#[test]
fn no_harmed_configuration_harms_its_decoder() {
    let ids =
        || vec((0_u64..20).prop_map(crate::ReplicaId::new), 0..6).prop_map(crate::Members::from);
    let configuration = (ids(), ids(), ids(), ids());
    run(
        2_000,
        &(configuration, vec(harm(), 1..4)),
        |((voters, outgoing, learners, learners_next), harms)| {
            let configuration = Configuration {
                voters,
                outgoing,
                learners,
                learners_next,
            };
            let bytes = harmed(configuration.encode().to_vec(), &harms);
            let mut decoded = None;
            let asked = allocation_counter::measure(|| decoded = Configuration::decode(&bytes));
            assert!(
                asked.bytes_total <= PER_BYTE * bytes.len() as u64,
                "{} bytes of memory",
                asked.bytes_total
            );
            if let Some(configuration) = decoded {
                assert_eq!(
                    Configuration::decode(&configuration.encode()),
                    Some(configuration)
                );
            }
        },
    );
}
