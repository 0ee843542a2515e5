//! What the log promises, on the virtual disk and on the real one.

use synod::storage::{LogOptions, RealDisk, SegmentedLog};
use synod_consensus::{LogIndex, LogStore, StoreError, Write, conformance};
use tests::disk::VirtualDisk;

use super::{append, born, compact, entry, everything, hard_state, key, open, options};

// DESIGN 8: one suite for every store. E30: the power goes at each reopening, so that a missing sync would show.
#[test]
fn conforms_on_a_virtual_disk_that_loses_power_at_each_reopening() {
    for seed in 0..16 {
        let disk = VirtualDisk::new(seed);
        let mut opened = disk.clone();
        let mut nth = seed;
        conformance::check(&mut || {
            // The suite compares the store before with the one after: the crash strikes a copy of the disk, the old one lives on.
            nth += 1;
            opened = opened.fork(nth);
            opened.crash();
            Box::new(open(&opened))
        });
    }
}

#[test]
fn conforms_on_the_real_disk_with_files_made_ahead() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check(&mut || {
        let disk = RealDisk::new(folder.path().join("log")).unwrap();
        let options = LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        Box::new(SegmentedLog::open(Box::new(disk), options).unwrap())
    });
}

// DESIGN 3 and 13: one write and one sync per batch, over however many groups.
#[test]
fn batch_over_many_groups_is_one_write_and_one_sync() {
    let disk = VirtualDisk::new(1);
    let mut log = SegmentedLog::open(
        disk.folder("log"),
        LogOptions {
            segment_bytes: 1 << 20,
            ..options()
        },
    )
    .unwrap();
    let keys: Vec<_> = (1..=64).map(|group| key(group, group)).collect();
    log.write(
        &keys
            .iter()
            .map(|key| (*key, vec![born()]))
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let before = disk.counters();
    let batch: Vec<_> = keys
        .iter()
        .map(|key| (*key, vec![append(1, 1..=8, 256), hard_state(1, 0)]))
        .collect();
    log.write(&batch).unwrap();
    let after = disk.counters();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs),
        (1, 1)
    );
    assert_eq!(log.recover(keys[63]).unwrap().unwrap().entries.len(), 8);
}

// H80: a gap append reached the disk of another store, which then refused to open for ever.
#[test]
fn gap_is_refused_without_touching_the_disk() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born(), append(1, 1..=3, 10)])])
        .unwrap();
    let before = (disk.counters(), everything(&log));
    let gap = log.write(&[
        (key(1, 1), vec![append(1, 4..=4, 10)]),
        (key(1, 1), vec![append(1, 6..=6, 10)]),
    ]);
    assert!(
        matches!(gap, Err(StoreError::Gap { index, last, .. }) if (index.get(), last.get()) == (6, 4)),
        "{gap:?}"
    );
    let inner = log.write(&[(
        key(1, 1),
        vec![Write::Append(
            [entry(1, 4, 1), entry(1, 6, 1)].into_iter().collect(),
        )],
    )]);
    assert!(matches!(inner, Err(StoreError::Gap { .. })), "{inner:?}");
    let compacted = log.write(&[(key(1, 1), vec![compact(1, 2), append(1, 2..=2, 10)])]);
    assert!(
        matches!(compacted, Err(StoreError::Gap { .. })),
        "{compacted:?}"
    );
    let unknown = log.write(&[
        (key(1, 1), vec![append(1, 4..=4, 10)]),
        (key(2, 1), vec![hard_state(1, 0)]),
    ]);
    assert!(
        matches!(unknown, Err(StoreError::UnknownReplica { .. })),
        "{unknown:?}"
    );
    assert_eq!(
        (disk.counters().writes, disk.counters().syncs),
        (before.0.writes, before.0.syncs)
    );
    assert_eq!(
        everything(&log),
        before.1,
        "nothing of a refused batch stays"
    );
    log.write(&[(key(1, 1), vec![append(1, 4..=4, 10)])])
        .expect("the store goes on");
    disk.crash();
    assert_eq!(
        open(&disk)
            .recover(key(1, 1))
            .unwrap()
            .unwrap()
            .entries
            .len(),
        4
    );
}

// H39: what keeps entries must follow "an append at i drops everything after i", in memory and after a restart.
#[test]
fn truncated_suffix_is_never_seen_again() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born(), append(1, 1..=10, 100)])])
        .unwrap();
    log.write(&[(key(1, 1), vec![append(2, 4..=5, 50)])])
        .unwrap();
    for _ in 0..2 {
        let entries = log
            .fetch(key(1, 1), LogIndex::new(1), LogIndex::new(100), usize::MAX)
            .unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.term.get(), entry.index.get(), entry.payload.len()))
            .collect();
        assert_eq!(
            seen,
            [
                (1, 1, 100),
                (1, 2, 100),
                (1, 3, 100),
                (2, 4, 50),
                (2, 5, 50)
            ]
        );
        assert_eq!(
            log.term_at(key(1, 1), LogIndex::new(4))
                .map(|term| term.get()),
            Some(2)
        );
        assert_eq!(log.term_at(key(1, 1), LogIndex::new(6)), None);
        disk.crash();
        log = open(&disk);
    }
}

// H77: a removed and re-created replica must not read the old one's log.
#[test]
fn new_incarnation_never_reads_the_old_log() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    log.write(&[(
        key(1, 1),
        vec![born(), append(1, 1..=9, 100), hard_state(4, 9)],
    )])
    .unwrap();
    log.write(&[
        (key(1, 1), vec![Write::Drop]),
        (key(1, 2), vec![born(), append(5, 1..=2, 10)]),
    ])
    .unwrap();
    disk.crash();
    let log = open(&disk);
    assert_eq!(log.replicas(), [key(1, 2)]);
    assert_eq!(log.recover(key(1, 1)).unwrap(), None);
    let newer = log.recover(key(1, 2)).unwrap().unwrap();
    assert_eq!((newer.entries.len(), newer.hard_state.term.get()), (2, 0));
}

// H72: an error of a sync, then success: later writes must not be acknowledged past the hole, and the sync is never asked again.
#[test]
fn first_sync_error_is_sticky_and_never_retried() {
    for seed in 0..32 {
        let disk = VirtualDisk::new(seed);
        let mut log = open(&disk);
        log.write(&[(key(1, 1), vec![born(), append(1, 1..=3, 300)])])
            .unwrap();
        let acknowledged = everything(&log);
        disk.fail_sync_in(1);
        let failed = log
            .write(&[(key(1, 1), vec![append(1, 4..=6, 300)])])
            .unwrap_err();
        let text = failed.to_string();
        assert!(
            text.contains("cannot sync in virtual/log") && text.contains("input/output error"),
            "{text}"
        );
        let counters = disk.counters();
        for _ in 0..3 {
            assert_eq!(
                log.write(&[(key(1, 1), vec![append(1, 4..=4, 10)])]),
                Err(failed.clone()),
                "the first error is the answer"
            );
        }
        assert_eq!(disk.counters(), counters, "the disk is not asked again");
        assert_eq!(
            everything(&log),
            acknowledged,
            "nothing unacknowledged is seen"
        );

        // The process restarts and reads what only the page cache has; then the power goes. What opening showed must still be there.
        disk.kill();
        let shown = everything(&open(&disk));
        disk.crash();
        assert_eq!(everything(&open(&disk)), shown, "seed {seed}");
    }
}

// H74: a new replica, its hard state and its first entries are there together or not at all.
#[test]
fn birth_is_atomic_at_every_moment_of_a_power_loss() {
    for seed in 0..64 {
        let disk = VirtualDisk::new(seed);
        let mut log = open(&disk);
        log.write(&[(key(1, 1), vec![born()])]).unwrap();
        let before = everything(&log);
        disk.lose_power_in(1 + seed % 2);
        let birth = vec![born(), append(1, 1..=5, 400), hard_state(1, 5)];
        assert!(
            log.write(&[(key(2, 7), birth), (key(1, 1), vec![hard_state(1, 0)])])
                .is_err()
        );
        disk.crash();
        let log = open(&disk);
        let after = everything(&log);
        if after != before {
            let newborn = log.recover(key(2, 7)).unwrap().expect("both or none");
            assert_eq!(
                (
                    newborn.entries.len(),
                    newborn.hard_state.term.get(),
                    newborn.hard_state.commit.get()
                ),
                (5, 1, 5)
            );
            assert_eq!(
                log.recover(key(1, 1))
                    .unwrap()
                    .unwrap()
                    .hard_state
                    .term
                    .get(),
                1
            );
        }
    }
}

// DESIGN 13: a full disk. The log refuses loudly, and what it acknowledged is there afterwards.
#[test]
fn full_disk_fails_the_log_and_loses_nothing() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    disk.set_capacity(Some(20 << 10));
    let mut acknowledged = 0;
    let error = (1..1_000)
        .find_map(|index| {
            let result = log.write(&[(key(1, 1), vec![append(1, index..=index, 500)])]);
            acknowledged += u64::from(result.is_ok());
            result.err()
        })
        .expect("the disk is full at some time");
    assert!(
        error
            .to_string()
            .contains("cannot get a new file in virtual/log"),
        "{error}"
    );
    disk.set_capacity(None);
    disk.crash();
    let mut log = open(&disk);
    assert_eq!(
        log.recover(key(1, 1)).unwrap().unwrap().entries.len() as u64,
        acknowledged
    );
    log.write(&[(
        key(1, 1),
        vec![append(1, acknowledged + 1..=acknowledged + 20, 500)],
    )])
    .unwrap();
}

// DESIGN 13: a batch larger than a file is still one batch.
#[test]
fn batch_larger_than_a_file_is_whole() {
    let disk = VirtualDisk::new(3);
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born(), append(1, 1..=100, 1_000)])])
        .unwrap();
    log.write(&[
        (key(1, 1), vec![append(1, 101..=300, 1_000)]),
        (key(2, 1), vec![born()]),
    ])
    .unwrap();
    let seen = everything(&log);
    disk.crash();
    assert_eq!(everything(&open(&disk)), seen);
}

#[test]
fn same_writes_give_the_same_files() {
    let run = || {
        let disk = VirtualDisk::new(1);
        let mut log = open(&disk);
        for index in 1..200 {
            let mut writes = vec![append(1, index..=index, 200)];
            if index == 1 {
                writes.insert(0, born());
            }
            if index % 7 == 0 {
                writes.push(compact(1, index - 3));
            }
            log.write(&[(key(1, 1), writes)]).unwrap();
        }
        let names = disk.names("log");
        names
            .iter()
            .map(|name| (name.clone(), disk.contents("log", name)))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
