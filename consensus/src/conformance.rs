//! The suite that every [`LogStore`] passes: in memory, on real files, on the simulator's virtual disk.
//!
//! Called by the tests of each store. `open` opens the *same* medium each time, so that what was written before must be there
//! again; it panics with the claim that failed.

use bytes::Bytes;

use crate::storage::{HardState, LogStore, Recovered, ReplicaKey, StoreError, Write};
use crate::{
    Configuration, Entry, EntryKind, GroupId, LogIndex, Position, ReplicaId, SnapshotMeta, Term,
};

/// Runs every case. The medium must be empty at the first `open`; each case uses replicas of its own.
pub fn check(open: &mut dyn FnMut() -> Box<dyn LogStore>) {
    starts_empty(open);
    only_reset_creates_a_replica(open);
    append_replaces_its_index_and_everything_after(open);
    a_gap_is_refused_and_harms_nothing(open);
    one_bad_write_refuses_the_whole_batch(open);
    hard_state_is_the_last_one_written(open);
    compact_forgets_a_prefix(open);
    reset_forgets_all_entries_and_keeps_the_hard_state(open);
    fetch_is_bounded_by_index_and_bytes(open);
    drop_forgets_one_incarnation_only(open);
    replicas_do_not_see_each_other(open);
    many_small_batches_survive_reopening(open);
    all_kinds_and_sizes_of_payload_come_back(open);
}

type Open<'a> = &'a mut dyn FnMut() -> Box<dyn LogStore>;

fn key(group: u64, replica: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: ReplicaId::new(replica),
    }
}

fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry {
        term: Term::new(term),
        index: LogIndex::new(index),
        kind: EntryKind::Normal,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn entries(term: u64, indexes: core::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes
        .map(|i| entry(term, i, format!("{term}.{i}").as_bytes()))
        .collect()
}

fn meta(term: u64, index: u64, voters: &[u64]) -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(term), LogIndex::new(index)),
        configuration: Configuration::of_voters(voters.iter().copied().map(ReplicaId::new)),
        configuration_index: LogIndex::new(index / 2),
    }
}

fn born(to: SnapshotMeta) -> Write {
    Write::Reset { to }
}

/// Reads from the open store and again after opening it anew: both must show `expected`.
fn expect(
    open: Open<'_>,
    store: Box<dyn LogStore>,
    key: ReplicaKey,
    expected: Option<&Recovered>,
    claim: &str,
) -> Box<dyn LogStore> {
    assert_eq!(
        store.recover(key).expect("recover").as_ref(),
        expected,
        "{claim}: before reopening"
    );
    drop(store);
    let store = open();
    assert_eq!(
        store.recover(key).expect("recover").as_ref(),
        expected,
        "{claim}: after reopening"
    );
    store
}

fn starts_empty(open: Open<'_>) {
    let store = open();
    assert_eq!(store.replicas(), [], "a new store holds no replica");
    expect(open, store, key(1, 1), None, "an unknown replica is None");
}

fn only_reset_creates_a_replica(open: Open<'_>) {
    let key = key(2, 1);
    let mut store = open();
    for write in [
        Write::HardState(HardState::default()),
        Write::Append(entries(1, 1..=1).into()),
        Write::Compact {
            to: meta(0, 0, &[]),
        },
    ] {
        let refused = store.write(&[(key, vec![write])]);
        assert_eq!(
            refused,
            Err(StoreError::UnknownReplica { key }),
            "a write to a replica that nobody created is refused"
        );
    }
    store
        .write(&[(key, vec![Write::Drop])])
        .expect("dropping what does not exist does nothing");
    store
        .write(&[(
            key,
            vec![
                born(meta(0, 0, &[1, 2, 3])),
                Write::Append(entries(1, 1..=2).into()),
            ],
        )])
        .expect("reset creates");
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(0, 0, &[1, 2, 3]),
        entries: entries(1, 1..=2),
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "a created replica is there",
    );
}

fn append_replaces_its_index_and_everything_after(open: Open<'_>) {
    // H26, H39, H76
    let key = key(3, 1);
    let mut store = open();
    store
        .write(&[(
            key,
            vec![
                born(meta(0, 0, &[1])),
                Write::Append(entries(1, 1..=9).into()),
            ],
        )])
        .expect("write");
    store
        .write(&[(key, vec![Write::Append(entries(2, 4..=5).into())])])
        .expect("overwrite");
    let mut log = entries(1, 1..=3);
    log.extend(entries(2, 4..=5));
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(0, 0, &[1]),
        entries: log.clone(),
    };
    let mut store = expect(
        open,
        store,
        key,
        Some(&expected),
        "an append at 4 leaves nothing old after it",
    );
    store
        .write(&[(
            key,
            vec![
                Write::Append(entries(3, 6..=7).into()),
                Write::Append(entries(4, 7..=7).into()),
            ],
        )])
        .expect("twice in one batch");
    log.extend(entries(3, 6..=6));
    log.extend(entries(4, 7..=7));
    let expected = Recovered {
        entries: log,
        ..expected
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "appends of one batch follow each other",
    );
}

fn a_gap_is_refused_and_harms_nothing(open: Open<'_>) {
    // H80, H32
    let key = key(4, 1);
    let mut store = open();
    store
        .write(&[(
            key,
            vec![
                born(meta(2, 10, &[1])),
                Write::Append(entries(3, 11..=12).into()),
            ],
        )])
        .expect("write");
    for bad in [
        entries(3, 14..=14),
        entries(3, 10..=12),
        vec![entry(3, 13, b"x"), entry(3, 15, b"y")],
        entries(3, 1..=1),
    ] {
        let refused = store.write(&[(key, vec![Write::Append(bad.into())])]);
        assert!(
            matches!(refused, Err(StoreError::Gap { .. })),
            "a gap is refused, not written: {refused:?}"
        );
    }
    let refused = store.write(&[(
        key,
        vec![Write::Compact {
            to: meta(3, 13, &[1]),
        }],
    )]);
    assert!(
        matches!(refused, Err(StoreError::Gap { .. })),
        "compacting beyond the end is refused: {refused:?}"
    );
    store
        .write(&[(key, vec![Write::Append(entries(3, 13..=13).into())])])
        .expect("a refused write does not stop the store");
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(2, 10, &[1]),
        entries: entries(3, 11..=13),
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "a refused write left no trace",
    );
}

fn one_bad_write_refuses_the_whole_batch(open: Open<'_>) {
    let (good, bad) = (key(5, 1), key(5, 2));
    let mut store = open();
    store
        .write(&[
            (good, vec![born(meta(0, 0, &[1]))]),
            (bad, vec![born(meta(0, 0, &[1]))]),
        ])
        .expect("write");
    let hard_state = HardState {
        term: Term::new(9),
        vote: None,
        commit: LogIndex::ZERO,
    };
    let batch = [
        (
            good,
            vec![
                Write::HardState(hard_state),
                Write::Append(entries(9, 1..=1).into()),
            ],
        ),
        (bad, vec![Write::Append(entries(9, 2..=2).into())]),
    ];
    assert!(
        matches!(store.write(&batch), Err(StoreError::Gap { .. })),
        "the bad half is refused"
    );
    let expected = Recovered {
        base: meta(0, 0, &[1]),
        ..Recovered::default()
    };
    let store = expect(
        open,
        store,
        good,
        Some(&expected),
        "nothing of a refused batch is seen",
    );
    expect(
        open,
        store,
        bad,
        Some(&expected),
        "nothing of a refused batch is seen",
    );
}

fn hard_state_is_the_last_one_written(open: Open<'_>) {
    // H74
    let key = key(6, 1);
    let mut store = open();
    store
        .write(&[(key, vec![born(meta(0, 0, &[1, 2]))])])
        .expect("write");
    let mut hard_state = HardState::default();
    for term in 1..=5 {
        hard_state = HardState {
            term: Term::new(term),
            vote: (term % 2 == 1).then(|| ReplicaId::new(term)),
            commit: LogIndex::new(term),
        };
        store
            .write(&[(
                key,
                vec![
                    Write::HardState(hard_state),
                    Write::Append(entries(term, term..=term).into()),
                ],
            )])
            .expect("write");
    }
    let mut log = Vec::new();
    (1..=5).for_each(|i| log.extend(entries(i, i..=i)));
    let expected = Recovered {
        hard_state,
        base: meta(0, 0, &[1, 2]),
        entries: log,
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "term, vote and commit are those of the last write",
    );
}

fn compact_forgets_a_prefix(open: Open<'_>) {
    let key = key(7, 1);
    let mut store = open();
    store
        .write(&[(
            key,
            vec![
                born(meta(0, 0, &[1])),
                Write::Append(entries(1, 1..=10).into()),
            ],
        )])
        .expect("write");
    store
        .write(&[(
            key,
            vec![Write::Compact {
                to: meta(1, 4, &[1, 2]),
            }],
        )])
        .expect("compact");
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(1, 4, &[1, 2]),
        entries: entries(1, 5..=10),
    };
    let mut store = expect(
        open,
        store,
        key,
        Some(&expected),
        "entries through 4 are gone, the rest stays",
    );
    store
        .write(&[(
            key,
            vec![Write::Compact {
                to: meta(1, 2, &[1]),
            }],
        )])
        .expect("an older compaction is late, not wrong");
    let mut store = expect(
        open,
        store,
        key,
        Some(&expected),
        "an older compaction changes nothing",
    );
    let refused = store.fetch(key, LogIndex::new(4), LogIndex::new(6), usize::MAX);
    assert!(
        matches!(refused, Err(StoreError::Compacted { .. })),
        "compacted entries cannot be fetched: {refused:?}"
    );
    store
        .write(&[(
            key,
            vec![Write::Compact {
                to: meta(1, 10, &[1, 2]),
            }],
        )])
        .expect("compact all");
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(1, 10, &[1, 2]),
        entries: vec![],
    };
    let mut store = expect(
        open,
        store,
        key,
        Some(&expected),
        "a log may be compacted to nothing",
    );
    store
        .write(&[(key, vec![Write::Append(entries(2, 11..=11).into())])])
        .expect("append after the base");
    let expected = Recovered {
        entries: entries(2, 11..=11),
        ..expected
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "an empty log goes on after its base",
    );
}

fn reset_forgets_all_entries_and_keeps_the_hard_state(open: Open<'_>) {
    // H80: a snapshot ahead of the log leaves a hole that must not be appended into.
    let key = key(8, 1);
    let mut store = open();
    let hard_state = HardState {
        term: Term::new(4),
        vote: Some(ReplicaId::new(2)),
        commit: LogIndex::new(3),
    };
    store
        .write(&[(
            key,
            vec![
                born(meta(0, 0, &[1])),
                Write::HardState(hard_state),
                Write::Append(entries(4, 1..=5).into()),
            ],
        )])
        .expect("write");
    store
        .write(&[(
            key,
            vec![
                Write::Reset {
                    to: meta(4, 50, &[1, 2, 3]),
                },
                Write::Append(entries(4, 51..=52).into()),
            ],
        )])
        .expect("reset");
    let expected = Recovered {
        hard_state,
        base: meta(4, 50, &[1, 2, 3]),
        entries: entries(4, 51..=52),
    };
    let mut store = expect(
        open,
        store,
        key,
        Some(&expected),
        "the log begins anew after 50",
    );
    store
        .write(&[(
            key,
            vec![Write::Reset {
                to: meta(4, 20, &[1]),
            }],
        )])
        .expect("reset backwards");
    let expected = Recovered {
        hard_state,
        base: meta(4, 20, &[1]),
        entries: vec![],
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "a reset may also lead back",
    );
}

fn fetch_is_bounded_by_index_and_bytes(open: Open<'_>) {
    let key = key(9, 1);
    let mut store = open();
    let log: Vec<_> = (1..=20).map(|i| entry(1, i, &[7; 100])).collect();
    store
        .write(&[(
            key,
            vec![born(meta(0, 0, &[1])), Write::Append(log.clone().into())],
        )])
        .expect("write");
    let fetch = |store: &dyn LogStore, from, through, bytes| {
        store
            .fetch(key, LogIndex::new(from), LogIndex::new(through), bytes)
            .expect("fetch")
    };
    for store in [store, open()] {
        assert_eq!(
            fetch(&*store, 3, 5, usize::MAX),
            log[2..5],
            "both ends are inclusive"
        );
        assert_eq!(fetch(&*store, 3, 20, 250), log[2..4], "as many as fit");
        assert_eq!(fetch(&*store, 3, 20, 1), log[2..3], "at least one");
        assert_eq!(
            fetch(&*store, 19, 90, usize::MAX),
            log[18..],
            "short at the end"
        );
        assert_eq!(
            fetch(&*store, 21, 90, usize::MAX),
            [],
            "nothing behind the end"
        );
    }
    let unknown = ReplicaKey {
        replica: ReplicaId::new(99),
        ..key
    };
    let refused = open().fetch(unknown, LogIndex::new(1), LogIndex::new(1), 1);
    assert_eq!(refused, Err(StoreError::UnknownReplica { key: unknown }));
}

fn drop_forgets_one_incarnation_only(open: Open<'_>) {
    // H77
    let (old, new) = (key(10, 1), key(10, 2));
    let mut store = open();
    store
        .write(&[(
            old,
            vec![
                born(meta(0, 0, &[1])),
                Write::Append(entries(1, 1..=3).into()),
            ],
        )])
        .expect("write");
    store
        .write(&[(new, vec![born(meta(0, 0, &[]))]), (old, vec![Write::Drop])])
        .expect("drop");
    let store = expect(open, store, old, None, "a dropped replica is gone");
    assert!(
        !store.replicas().contains(&old) && store.replicas().contains(&new),
        "replicas() lists what exists"
    );
    let expected = Recovered {
        base: meta(0, 0, &[]),
        ..Recovered::default()
    };
    let mut store = expect(
        open,
        store,
        new,
        Some(&expected),
        "the new incarnation never reads the old log",
    );
    let refused = store.write(&[(old, vec![Write::Append(entries(1, 4..=4).into())])]);
    assert_eq!(
        refused,
        Err(StoreError::UnknownReplica { key: old }),
        "a late write does not revive it"
    );
}

fn replicas_do_not_see_each_other(open: Open<'_>) {
    let mut store = open();
    let keys: Vec<_> = (0..20).map(|group| key(100 + group, 1)).collect();
    store
        .write(
            &keys
                .iter()
                .map(|k| (*k, vec![born(meta(0, 0, &[1]))]))
                .collect::<Vec<_>>(),
        )
        .expect("write");
    for round in 1..=10 {
        let batch = |k: &ReplicaKey| {
            (
                *k,
                vec![Write::Append(entries(k.group.get(), round..=round).into())],
            )
        };
        store
            .write(&keys.iter().map(batch).collect::<Vec<_>>())
            .expect("write");
    }
    drop(store);
    let store = open();
    for key in keys {
        let recovered = store.recover(key).expect("recover").expect("exists");
        assert_eq!(
            recovered.entries,
            entries(key.group.get(), 1..=10),
            "{key:?} holds its own entries"
        );
    }
}

fn many_small_batches_survive_reopening(open: Open<'_>) {
    let key = key(11, 1);
    let mut store = open();
    store
        .write(&[(key, vec![born(meta(0, 0, &[1]))])])
        .expect("write");
    for i in 1..=300 {
        store
            .write(&[(key, vec![Write::Append(entries(1, i..=i).into())])])
            .expect("write");
        if i % 50 == 0 {
            store
                .write(&[(
                    key,
                    vec![Write::Compact {
                        to: meta(1, i - 10, &[1]),
                    }],
                )])
                .expect("compact");
            drop(store);
            store = open();
        }
    }
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(1, 290, &[1]),
        entries: entries(1, 291..=300),
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "many batches, many compactions",
    );
}

fn all_kinds_and_sizes_of_payload_come_back(open: Open<'_>) {
    let key = key(12, 1);
    let mut store = open();
    let kinds = [EntryKind::Noop, EntryKind::Configuration, EntryKind::Normal];
    let sizes = [0, 1, 255, 256, 4_095, 4_096, 65_536, 1 << 20];
    let log: Vec<_> = (1_u64..)
        .zip(sizes)
        .map(|(i, size)| Entry {
            kind: kinds[i as usize % 3],
            ..entry(1, i, &vec![i as u8; size])
        })
        .collect();
    store
        .write(&[(
            key,
            vec![born(meta(0, 0, &[1])), Write::Append(log.clone().into())],
        )])
        .expect("write");
    let expected = Recovered {
        hard_state: HardState::default(),
        base: meta(0, 0, &[1]),
        entries: log,
    };
    expect(
        open,
        store,
        key,
        Some(&expected),
        "bytes are the caller's own",
    );
}
