//! States on disk: the latest wins, a batch is whole or not there, damage concerns one replica, old files go.

use bytes::Bytes;
use synod::storage::{Checkpoint, CheckpointError, Checkpoints};
use synod_consensus::{LogIndex, LogStore, ReplicaKey};
use tests::disk::VirtualDisk;

use super::{append, born, compact, key, meta, open as open_log};

const STATE: &str = "state";

fn open(disk: &VirtualDisk) -> Checkpoints {
    Checkpoints::open(disk.folder(STATE)).unwrap_or_else(|error| panic!("{error}"))
}

fn checkpoint(key: ReplicaKey, index: u64, bytes: usize) -> Checkpoint {
    let data: Vec<u8> = (0..bytes)
        .map(|at| (at as u64 * 13 + index + key.group.get()) as u8)
        .collect();
    Checkpoint {
        key,
        meta: meta(1, index),
        data: Bytes::from(data),
    }
}

fn covered(checkpoints: &Checkpoints, key: ReplicaKey) -> Option<u64> {
    let found = checkpoints
        .load(key)
        .unwrap_or_else(|error| panic!("{error}"))?;
    let index = found.meta.position.index.get();
    assert_eq!(
        found,
        checkpoint(key, index, found.data.len()),
        "the bytes are those that were put"
    );
    Some(index)
}

// E28: a checkpoint is durable before anybody hears of it, so that the log may be compacted.
#[test]
fn put_survives_the_power_loss_right_after_it() {
    for seed in 0..32 {
        let disk = VirtualDisk::new(seed);
        let mut checkpoints = open(&disk);
        for index in 1..=5 {
            checkpoints
                .put(&[
                    checkpoint(key(1, 1), index, 3_000),
                    checkpoint(key(2, 1), index * 2, 10),
                ])
                .unwrap();
            disk.crash();
            checkpoints = open(&disk);
            assert_eq!(
                (
                    covered(&checkpoints, key(1, 1)),
                    covered(&checkpoints, key(2, 1))
                ),
                (Some(index), Some(index * 2))
            );
        }
    }
}

// E28: the power may go at every moment between the checkpoint and the log's compaction; state and log never leave a hole.
#[test]
fn checkpoint_and_log_leave_no_hole_at_any_moment() {
    for seed in 0..300 {
        let disk = VirtualDisk::new(seed);
        let mut log = open_log(&disk);
        let mut checkpoints = open(&disk);
        log.write(&[(key(1, 1), vec![born(), append(1, 1..=30, 100)])])
            .unwrap();
        disk.lose_power_in(1 + seed % 30);
        let work = || {
            for index in [10, 20, 30] {
                checkpoints
                    .put(&[checkpoint(key(1, 1), index, 2_000)])
                    .ok()?;
                log.write(&[(key(1, 1), vec![compact(1, index)])]).ok()?;
            }
            Some(())
        };
        let finished = { work }();
        disk.crash();
        let recovered = open_log(&disk).recover(key(1, 1)).unwrap().unwrap();
        let base = recovered.base.position.index;
        let state = open(&disk)
            .restore(key(1, 1), base)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let covered = state.map_or(LogIndex::ZERO, |state| state.meta.position.index);
        let last = base.get() + recovered.entries.len() as u64;
        assert!(
            base <= covered && last == 30,
            "seed {seed}: log ({base}, {last}], state {covered}"
        );
        assert!(finished.is_none() || base.get() == 30);
    }
}

// Issue 2 and DESIGN 7: corrupt storage stops that replica, loudly, and no other one.
#[test]
fn damaged_body_is_reported_for_its_replica_alone() {
    let disk = VirtualDisk::new(1);
    open(&disk)
        .put(&[
            checkpoint(key(1, 1), 5, 1_000),
            checkpoint(key(2, 1), 6, 1_000),
        ])
        .unwrap();
    let name = disk.names(STATE).remove(0);
    let length = disk.contents(STATE, &name).len();
    disk.flip_bit(STATE, &name, length - 10, 0);
    let checkpoints = open(&disk);
    assert_eq!(covered(&checkpoints, key(1, 1)), Some(5));
    let error = checkpoints.load(key(2, 1)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Damaged { key: damaged, .. } if *damaged == key(2, 1)),
        "{error}"
    );
    assert!(
        error.to_string().ends_with(&format!(
            "in virtual/state/{name} is damaged: its checksum is wrong"
        )),
        "{error}"
    );
}

// Every bit of a file: what is read is what was put, or an error, or a hole that `restore` sees.
#[test]
fn no_flipped_bit_gives_another_state() {
    let disk = VirtualDisk::new(1);
    open(&disk)
        .put(&[checkpoint(key(1, 1), 5, 40), checkpoint(key(2, 1), 6, 40)])
        .unwrap();
    let name = disk.names(STATE).remove(0);
    for at in 0..disk.contents(STATE, &name).len() {
        let disk = disk.fork(1);
        disk.flip_bit(STATE, &name, at, (at % 8) as u8);
        let checkpoints = open(&disk);
        let mut wrong = 0;
        for (key, index) in [(key(1, 1), 5), (key(2, 1), 6)] {
            match checkpoints.restore(key, LogIndex::new(index)) {
                Ok(found) => assert_eq!(found, Some(checkpoint(key, index, 40)), "byte {at}"),
                Err(CheckpointError::Damaged { .. } | CheckpointError::Missing { .. }) => {
                    wrong += 1
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        let head = at < 24;
        assert!(
            wrong == if head { 2 } else { 1 } || (16..20).contains(&at),
            "byte {at}: {wrong} replicas are concerned"
        );
        assert_eq!(
            disk.names(STATE),
            std::slice::from_ref(&name),
            "a damaged file is kept"
        );
    }
}

// DESIGN 13: files are reclaimed; the latest of a replica wins, also over an older one that comes later.
#[test]
fn superseded_files_go_and_the_latest_stays() {
    let disk = VirtualDisk::new(1);
    let mut checkpoints = open(&disk);
    checkpoints.put(&[checkpoint(key(9, 1), 1, 100)]).unwrap();
    for index in 1..=100 {
        checkpoints
            .put(&[checkpoint(key(1, 1), index, 100_000)])
            .unwrap();
    }
    checkpoints.put(&[checkpoint(key(1, 1), 50, 10)]).unwrap();
    assert_eq!(
        (
            covered(&checkpoints, key(1, 1)),
            covered(&checkpoints, key(9, 1))
        ),
        (Some(100), Some(1))
    );
    assert_eq!(checkpoints.files(), 2);
    disk.crash();
    let mut checkpoints = open(&disk);
    assert_eq!(
        (
            covered(&checkpoints, key(1, 1)),
            covered(&checkpoints, key(9, 1)),
            checkpoints.files()
        ),
        (Some(100), Some(1), 2)
    );
    checkpoints.retain(|kept| kept == key(9, 1));
    assert_eq!(
        (checkpoints.replicas(), checkpoints.files()),
        (vec![key(9, 1)], 1)
    );
}

// One small live checkpoint in a large file must not hold it for ever.
#[test]
fn mostly_superseded_files_are_emptied() {
    let disk = VirtualDisk::new(1);
    let mut checkpoints = open(&disk);
    for round in 1..=40 {
        // Every file holds one large state that is soon superseded and one small one that stays.
        let quiet = checkpoint(key(100 + round, 1), 1, 1_000);
        checkpoints
            .put(&[checkpoint(key(1, 1), round, 2 << 20), quiet])
            .unwrap();
    }
    let bytes: usize = disk
        .names(STATE)
        .iter()
        .map(|name| disk.contents(STATE, name).len())
        .sum();
    assert!(bytes < 30 << 20, "{} MiB for 2 MiB of states", bytes >> 20);
    disk.crash();
    let checkpoints = open(&disk);
    assert_eq!(covered(&checkpoints, key(1, 1)), Some(40));
    for round in 1..=40 {
        assert_eq!(covered(&checkpoints, key(100 + round, 1)), Some(1));
    }
}

#[test]
fn first_error_is_sticky() {
    let disk = VirtualDisk::new(1);
    let mut checkpoints = open(&disk);
    checkpoints.put(&[checkpoint(key(1, 1), 1, 100)]).unwrap();
    disk.fail_sync_in(1);
    assert!(checkpoints.put(&[checkpoint(key(1, 1), 2, 100)]).is_err());
    assert!(checkpoints.put(&[checkpoint(key(1, 1), 3, 100)]).is_err());
    assert_eq!(
        covered(&checkpoints, key(1, 1)),
        Some(1),
        "the last durable one is still the newest"
    );
}
