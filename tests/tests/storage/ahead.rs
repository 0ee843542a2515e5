//! What making files ahead of need costs the disk, on real files with the thread that does it.

use synod::storage::{Disk, LogOptions, SegmentedLog};
use synod_consensus::LogStore;

use super::real::Faulty;
use super::{append, born, compact, everything, key, options};

const MIB: u64 = 1 << 20;
/// Of one batch.
const BYTES: u64 = 64 << 10;
/// What it takes after a round of checkpoints until the files that are not needed any more are taken back.
const AFTER: u64 = 2 * BYTES;

fn open(disk: &Faulty) -> SegmentedLog {
    let options = LogOptions {
        segment_bytes: MIB,
        background: true,
        ..options()
    };
    SegmentedLog::open(disk.share(), options).unwrap()
}

/// A log of one replica, with files of a mebibyte.
fn young() -> (tempfile::TempDir, Faulty, SegmentedLog) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(folder.path());
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    (folder, disk, log)
}

/// Appends so many bytes behind what `written` batches were appended before; every fourth MiB is a round of checkpoints.
fn fill(log: &mut SegmentedLog, written: u64, bytes: u64) -> u64 {
    let last = written + bytes / BYTES;
    for index in written + 1..=last {
        let mut writes = vec![append(1, index..=index, BYTES as usize)];
        if index % (4 * MIB / BYTES) == 0 {
            writes.push(compact(1, index)); // four files go at once
        }
        log.write(&[(key(1, 1), writes)]).unwrap();
    }
    last
}

// Section 13: appends never stall. What is filled with zeros is what their syncs wait behind.
#[test]
fn files_that_come_back_many_at_once_are_not_filled_again() {
    let (_folder, disk, mut log) = young();
    fill(&mut log, 0, 64 * MIB);
    let zeros = disk.set(|fault| fault.bytes) - 64 * MIB;
    assert!(zeros < 12 * MIB, "{zeros} bytes beside what was appended");
}

// The same where many nodes share a disk, and one of them starts again.
#[test]
fn files_that_wait_to_be_used_again_outlive_a_restart() {
    let (_folder, disk, mut log) = young();
    let written = fill(&mut log, 0, 64 * MIB + AFTER);
    drop(log); // and with it the thread that takes files back
    let before = disk.set(|fault| fault.bytes);
    let mut log = open(&disk);
    fill(&mut log, written, 4 * MIB);
    drop(log);
    let zeros = disk.set(|fault| fault.bytes) - before - 4 * MIB;
    assert!(zeros < MIB, "{zeros} bytes beside what was appended");
}

// What is in such a file could pass for frames of a log that begins anew with its numbers.
#[test]
fn where_there_is_no_log_nothing_waits_to_be_used_again() {
    let (folder, disk, mut log) = young();
    fill(&mut log, 0, 16 * MIB + AFTER);
    drop(log);
    let mut spares = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "tmp") {
            spares += 1;
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(spares > 0, "the test needs some");
    let log = open(&disk);
    assert!(log.replicas().is_empty());
    drop(log);
    let mut names = disk.share().list().unwrap();
    names.retain(|name| name.ends_with(".tmp"));
    assert!(names.is_empty(), "{names:?}");
}

// DESIGN 13: a node whose disk was full for a while goes on. The file that could not be made ahead of need is made when it is needed, and
// what was begun of it took no room meanwhile.
#[test]
fn a_file_for_which_there_was_no_room_is_made_once_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(folder.path());
    disk.set(|fault| fault.room = Some(MIB + MIB / 2));
    let mut log = open(&disk);
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    let written = fill(&mut log, 0, MIB / 2);
    disk.wait_until(|fault| fault.refused > 0 && fault.removed > 0);
    disk.set(|fault| fault.room = None);
    let written = fill(&mut log, written, 4 * MIB);
    drop(log);
    let last = everything(&open(&disk)).0[0]
        .1
        .entries
        .last()
        .map(|entry| entry.index.get());
    assert_eq!(last, Some(written));
}
