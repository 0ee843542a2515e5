//! Files go when nothing in them is needed, and quiet groups do not hold them.

use synod_consensus::{LogStore, ReplicaKey, Write};
use tests::disk::VirtualDisk;

use super::{LOG, append, born, compact, everything, hard_state, key, open};

fn log_files(disk: &VirtualDisk) -> usize {
    disk.names(LOG)
        .iter()
        .filter(|name| name.ends_with(".log"))
        .count()
}

// DESIGN 13: a file goes when every group's records in it are compacted or rewritten; idle groups pin nothing.
#[test]
fn busy_group_among_idle_ones_keeps_the_log_short() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    let idle: Vec<ReplicaKey> = (2..=60).map(|group| key(group, 1)).collect();
    let birth = |key: &ReplicaKey| {
        (
            *key,
            vec![
                born(),
                append(1, 1..=1, 50),
                hard_state(1, 1),
                compact(1, 1),
            ],
        )
    };
    log.write(&idle.iter().map(birth).collect::<Vec<_>>())
        .unwrap();
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    let quiet: Vec<_> = idle.iter().map(|key| log.recover(*key).unwrap()).collect();
    for index in 1..=2_000 {
        log.write(&[(
            key(1, 1),
            vec![append(1, index..=index, 300), hard_state(1, index)],
        )])
        .unwrap();
        if index % 5 == 0 {
            log.write(&[(key(1, 1), vec![compact(1, index)])]).unwrap();
        }
        assert!(
            log_files(&disk) <= 9,
            "{} files after {index} batches",
            log_files(&disk)
        );
        assert!(
            log.pinned().is_empty(),
            "only records of idle groups were old"
        );
        if index % 400 == 0 {
            let state = everything(&log);
            disk.crash();
            log = open(&disk);
            assert_eq!(everything(&log), state);
        }
    }
    for (key, before) in idle.iter().zip(quiet) {
        assert_eq!(
            log.recover(*key).unwrap(),
            before,
            "carried forward unchanged"
        );
    }
}

// DESIGN 13: groups whose entries hold an old file are named, so that the node checkpoints them; then the file goes.
#[test]
fn groups_whose_entries_hold_old_files_are_listed_until_compacted() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    let watch = log.watch();
    log.write(&[
        (key(1, 1), vec![born()]),
        (
            key(7, 1),
            vec![born(), append(1, 1..=3, 100), hard_state(1, 3)],
        ),
    ])
    .unwrap();
    let mut index = 0;
    let mut fill = |log: &mut synod::storage::SegmentedLog, batches: u64| {
        for _ in 0..batches {
            index += 1;
            log.write(&[(
                key(1, 1),
                vec![append(1, index..=index, 300), compact(1, index)],
            )])
            .unwrap();
        }
    };
    assert!(log.pinned().is_empty());
    fill(&mut log, 100);
    assert_eq!(
        (log.pinned(), watch.pinned()),
        (vec![key(7, 1)], vec![key(7, 1)])
    );
    let held = log_files(&disk);
    assert!(
        held > 6 && watch.files() == held,
        "{held} files, {} shown",
        watch.files()
    );
    log.write(&[(key(7, 1), vec![compact(1, 3)])]).unwrap();
    assert!(log.pinned().is_empty() && watch.pinned().is_empty());
    fill(&mut log, 20);
    assert!(log_files(&disk) <= 5, "{} files", log_files(&disk));
    let state = everything(&log);
    disk.crash();
    assert_eq!(everything(&open(&disk)), state);
}

// H77, H80: files with old records of a replica go one by one; what is left must replay to the same state at every moment.
#[test]
fn every_moment_of_reclamation_replays_to_the_same_state() {
    let disk = VirtualDisk::new(1);
    let mut log = open(&disk);
    let keys: Vec<ReplicaKey> = (1..=5).map(|group| key(group, group)).collect();
    log.write(
        &keys
            .iter()
            .map(|key| (*key, vec![born()]))
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let mut last = [0_u64; 5];
    for round in 1..=600_u64 {
        let nth = (round * 7 % 5) as usize;
        let writes = match round % 11 {
            // Overwrites a suffix, so that entries of one index lie in several files.
            3 if last[nth] > 2 => {
                last[nth] -= 1;
                vec![append(round, last[nth] - 1..=last[nth], 200)]
            }
            5 => vec![compact(round, last[nth])],
            7 if nth == 2 => {
                last[nth] = 0;
                vec![Write::Drop, born()]
            }
            8 => {
                last[nth] += 10;
                vec![Write::Reset {
                    to: super::meta(round, last[nth]),
                }]
            }
            _ => {
                last[nth] += 2;
                vec![
                    append(round, last[nth] - 1..=last[nth], 350),
                    hard_state(round, last[nth]),
                ]
            }
        };
        // What is compacted stays within the log: an overwritten suffix may have cut it.
        if log.write(&[(keys[nth], writes)]).is_err() {
            let known = log.recover(keys[nth]).unwrap().unwrap();
            last[nth] = known.base.position.index.get() + known.entries.len() as u64;
        }
        if round % 3 == 0 {
            let fork = disk.fork(round);
            fork.crash();
            assert_eq!(
                everything(&open(&fork)),
                everything(&log),
                "after round {round}"
            );
        }
    }
}
