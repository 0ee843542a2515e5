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

// Section 13: appends never stall. What is filled with zeros is what their syncs wait behind.
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
