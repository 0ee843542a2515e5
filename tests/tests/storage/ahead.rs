//! What making files ahead of need costs the disk, on real files with the thread that does it.

use synod::storage::{Disk, LogOptions, SegmentedLog};
use synod_consensus::LogStore;

use super::real::Faulty;
use super::{append, born, compact, key, options};

const MIB: u64 = 1 << 20;
/// Of one batch.
const BYTES: u64 = 64 << 10;

fn open(disk: &Faulty, segment_bytes: u64) -> SegmentedLog {
    let options = LogOptions {
        segment_bytes,
        background: true,
        ..options()
    };
    SegmentedLog::open(disk.share(), options).unwrap()
}

// Section 13: appends never stall. The zeros of a whole file at once are what their syncs wait behind.
#[test]
fn the_next_file_is_filled_in_step_with_appends() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(folder.path());
    let mut log = open(&disk, 32 * MIB);
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    disk.wait_until(|fault| fault.bytes >= 4 * MIB); // it has begun
    let mut appended = 0;
    for index in 1..=18 * MIB / BYTES {
        log.write(&[(key(1, 1), vec![append(1, index..=index, BYTES as usize)])])
            .unwrap();
        appended += BYTES;
        let most = 3 * appended + 8 * MIB + MIB / 4; // frames, twice as many zeros, a piece before and one under way, heads
        let written = disk.set(|fault| fault.bytes);
        assert!(written <= most, "{written} bytes after {appended}");
    }
    // The present file is half full: the next one is there.
    disk.wait_until(|fault| fault.bytes >= 32 * MIB + appended);
}

#[test]
fn files_that_come_back_many_at_once_are_not_filled_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(folder.path());
    let mut log = open(&disk, MIB);
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    let rounds = 64 * MIB / BYTES;
    for index in 1..=rounds {
        let mut writes = vec![append(1, index..=index, BYTES as usize)];
        if index % (4 * MIB / BYTES) == 0 {
            writes.push(compact(1, index)); // as a round of checkpoints does it: four files at once
        }
        log.write(&[(key(1, 1), writes)]).unwrap();
    }
    let zeros = disk.set(|fault| fault.bytes) - rounds * BYTES;
    assert!(zeros < 12 * MIB, "{zeros} bytes beside what was appended");
}
