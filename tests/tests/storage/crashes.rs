//! Random batches, power lost at random moments, against the in-memory store as the oracle.
//!
//! The claim: after each reopening the log is exactly what the acknowledged batches made, or that plus the one batch that was in flight.

use proptest::prelude::*;
use synod_consensus::{LogStore, MemoryStore, ReplicaKey, Write};
use tests::disk::VirtualDisk;

use super::{append, born, compact, everything, hard_state, key, meta, open};

/// One change of one replica, to be made to fit its log.
#[derive(Clone, Debug)]
enum Act {
    HardState { term: u8, commit: u8 },
    Append { back: u8, count: u8, bytes: u16 },
    Compact { part: u8 },
    Reset { ahead: u8 },
    Drop,
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<(u8, Act)>),
    /// The process ends in order and starts again.
    Reopen,
    Kill,
    Crash,
    /// The power goes at the nth change of the disk from now.
    LosePower(u8),
    /// The nth sync from now fails.
    FailSync(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (any::<u8>(), any::<u8>()).prop_map(|(term, commit)| Act::HardState { term, commit }),
        8 => (0..4_u8, 1..6_u8, 0..700_u16).prop_map(|(back, count, bytes)| Act::Append { back, count, bytes }),
        4 => any::<u8>().prop_map(|part| Act::Compact { part }),
        1 => (0..20_u8).prop_map(|ahead| Act::Reset { ahead }),
        1 => Just(Act::Drop),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => proptest::collection::vec((0..6_u8, act()), 1..6).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => Just(Step::Crash),
        3 => (1..8_u8).prop_map(Step::LosePower),
        1 => (1..8_u8).prop_map(Step::FailSync),
    ]
}

/// Makes acts fit what the oracle holds.
fn fit(oracle: &MemoryStore, acts: &[(u8, Act)]) -> Vec<(ReplicaKey, Vec<Write>)> {
    let mut state = oracle.clone();
    let mut batch = Vec::new();
    for (replica, act) in acts {
        let key = key(u64::from(*replica % 3), u64::from(*replica));
        let mut writes = Vec::new();
        let log = state.recover(key).unwrap().unwrap_or_else(|| {
            writes.push(born());
            Default::default()
        });
        let base = log.base.position.index.get();
        let last = base + log.entries.len() as u64;
        let term = log.hard_state.term.get() + 1;
        writes.push(match act {
            Act::HardState { term, commit } => hard_state(u64::from(*term), u64::from(*commit)),
            Act::Append { back, count, bytes } => {
                let first = (last + 1).saturating_sub(u64::from(*back)).max(base + 1);
                append(
                    term,
                    first..=first + u64::from(*count) - 1,
                    usize::from(*bytes),
                )
            }
            Act::Compact { part } => compact(term, base + (last - base) * u64::from(*part) / 255),
            Act::Reset { ahead } => Write::Reset {
                to: meta(term, last + u64::from(*ahead)),
            },
            Act::Drop => Write::Drop,
        });
        state.write(&[(key, writes.clone())]).expect("made to fit");
        batch.push((key, writes));
    }
    batch
}

fn run(seed: u64, steps: &[Step]) {
    let disk = VirtualDisk::new(seed);
    let mut log = open(&disk);
    let mut oracle = MemoryStore::new();
    for step in steps {
        let mut in_flight = None;
        match step {
            Step::Batch(acts) => {
                let batch = fit(&oracle, acts);
                let mut next = oracle.clone();
                next.write(&batch).expect("made to fit");
                let written = log.write(&batch).is_ok();
                if written {
                    oracle = next;
                } else {
                    in_flight = Some(next);
                }
                // The power may also go while an old file is removed, after the batch was acknowledged.
                if disk.power_is_off() {
                    disk.crash();
                } else {
                    assert_eq!(everything(&log), everything(&oracle));
                    if written {
                        continue;
                    }
                    disk.kill();
                }
            }
            Step::LosePower(nth) => {
                disk.lose_power_in(u64::from(*nth));
                continue;
            }
            Step::FailSync(nth) => {
                disk.fail_sync_in(u64::from(*nth));
                continue;
            }
            Step::Reopen => drop(log),
            Step::Kill => disk.kill(),
            Step::Crash => disk.crash(),
        }
        // Opening changes the disk as well (a name, the last frame once more): the power may go there, too.
        log = loop {
            match super::try_open(&disk) {
                Ok(_) if disk.power_is_off() => disk.crash(),
                Ok(log) => break log,
                Err(error) if disk.power_is_off() || error.to_string().contains("cannot open") => {
                    disk.crash()
                }
                Err(error) => panic!("{error}"),
            }
        };
        match in_flight {
            Some(next) if everything(&log) == everything(&next) => oracle = next,
            _ => assert_eq!(
                everything(&log),
                everything(&oracle),
                "acknowledged, and nothing else"
            ),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    // E30, H72, H76: acknowledged batches are never lost, whatever the disk does at a crash; a batch is whole or not there.
    #[test]
    fn acknowledged_batches_survive_every_crash(seed: u64, steps in proptest::collection::vec(step(), 1..120)) {
        run(seed, &steps);
    }
}

// The negative control (E30): with syncs that do nothing, the same crashes lose acknowledged batches within 200 seeds, and the log opens
// as if nothing had happened.
#[test]
fn lying_syncs_lose_acknowledged_batches() {
    let lost = (0..200).filter(|seed| {
        let disk = VirtualDisk::new(*seed);
        let mut log = open(&disk);
        log.write(&[(key(1, 1), vec![born()])]).unwrap();
        disk.let_syncs_lie(true);
        for index in 1..=20 {
            log.write(&[(key(1, 1), vec![append(1, index..=index, 600)])])
                .unwrap();
        }
        let acknowledged = everything(&log);
        disk.crash();
        let log = open(&disk);
        let entries = log.recover(key(1, 1)).unwrap().unwrap().entries;
        assert!(
            acknowledged.0[0].1.entries.starts_with(&entries),
            "what is left is a prefix"
        );
        entries.len() < 20
    });
    assert_eq!(lost.count(), 200, "each of these crashes forgets something");
}
