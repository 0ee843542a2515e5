//! What waits for the disk is bounded, and a disk that is gone holds nobody up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fjall::AbstractTree;
use synod_consensus::ReplicaKey;

use super::rows::{RowWrite, StateRows};
use super::rows_tests::{key, write};
use super::rows_tree::{MEMTABLES_BYTES, RUNS_MAX, RowsError, SEALED_MAX};

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Does it on a thread of its own, which is left behind if it never ends.
fn beside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (told, ends) = channel();
    std::thread::spawn(move || {
        let _nobody_waits = told.send(act());
    });
    ends
}

/// What memtables may have: the bound, and the one commit that lets the tree see that all of it is in files.
const HELD_MOST: u64 = MEMTABLES_BYTES + (1 << 20) + (16 << 10);

/// Puts rows of 16 KiB, a mebibyte at once, and says how much memtables had at most.
fn fill(rows: &StateRows, key: ReplicaKey, mebibytes: u64, done: &AtomicU64) -> u64 {
    let space = rows.space(key);
    let mut most = 0;
    for turn in 1..=mebibytes {
        let row = |number: u64| {
            let name = format!("{:04}-{turn:04}", number * 37 % 64);
            (
                name.into_bytes(),
                Some(vec![turn.to_le_bytes()[0]; 16 << 10]),
            )
        };
        let write = RowWrite {
            changes: (0..64).map(row).collect(),
            ..write(key, &space, turn, &[])
        };
        rows.put([write]).unwrap();
        most = most.max(rows.tree().held());
        done.store(turn, Ordering::Relaxed);
    }
    most
}

/// Returns once nothing was done for a second, or it has ended.
fn until_still(done: &AtomicU64, ended: impl Fn() -> bool) {
    let (mut seen, mut still) = (0, 0);
    while still < 100 && !ended() {
        std::thread::sleep(Duration::from_millis(10)); // between two looks
        let now = done.load(Ordering::Relaxed);
        still = if now == seen { still + 1 } else { 0 };
        seen = now;
    }
}

#[test]
fn what_is_not_in_files_yet_is_bounded_also_while_the_disk_is_behind() {
    // Section 4: every queue is bounded. Memory takes rows faster than any disk, and compactions take the same thread.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let most = fill(&rows, key(1, 1), 160, &AtomicU64::new(0));
    assert!(most <= HELD_MOST, "{most} bytes");
    assert_eq!(rows.space(key(1, 1)).scan(b"").count(), 160 * 64);
}

#[test]
fn what_a_view_keeps_in_memory_is_bounded_and_writes_go_on_when_it_ends() {
    // Section 4. The tree lets no memtable go that is younger than a view.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let done = AtomicU64::new(0);
    let mebibytes = MEMTABLES_BYTES >> 19;
    let one = key(1, 1);
    let first = write(one, &rows.space(one), 0, &[("a", Some("1"))]);
    rows.put([first]).unwrap();
    let view = rows.view(one).unwrap().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fill(&rows, one, mebibytes, &done));
        until_still(&done, || writer.is_finished());
        assert_eq!(view.scan(b"").count(), 1, "of its moment");
        drop(view);
        let most = writer.join().unwrap();
        assert!(most <= HELD_MOST, "{most} bytes");
    });
    assert_eq!(done.into_inner(), mebibytes);
}

/// Writes rows of a mebibyte until one is refused.
fn fill_without_end(rows: &StateRows, key: ReplicaKey, written: &AtomicU64) -> RowsError {
    let space = rows.space(key);
    for turn in 1.. {
        let write = RowWrite {
            changes: vec![(vec![b'b'], Some(vec![7; 1 << 20]))],
            ..write(key, &space, turn, &[])
        };
        if let Err(error) = rows.put([write]) {
            return error;
        }
        written.store(turn, Ordering::Relaxed);
    }
    unreachable!("it ends with an error")
}

#[test]
fn a_write_that_waits_for_room_does_not_hinder_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let one = key(1, 1);
    let space = rows.space(one);
    rows.put([write(one, &space, 0, &[("a", Some("1"))])])
        .unwrap();
    let _view = rows.view(one).unwrap().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fill_without_end(&rows, one, &AtomicU64::new(0)));
        while rows.tree().held() + (1 << 20) <= MEMTABLES_BYTES {
            std::thread::sleep(Duration::from_millis(1)); // between two looks
        }
        rows.close();
        let error = writer.join().unwrap();
        assert!(matches!(error, RowsError::Closed { .. }), "{error}");
    });
}

#[test]
fn writes_go_on_beside_views_without_end() {
    // Followers that need snapshots, one after the other: there is hardly a moment without a view.
    const VIEWERS: u64 = 2;
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let one = key(1, 1);
    rows.put([write(one, &rows.space(one), 0, &[("a", Some("1"))])])
        .unwrap();
    // The first one takes long, so that memory is full.
    let first = rows.view(one).unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let writer = {
        let (rows, done) = (rows.clone(), done.clone());
        beside(move || fill(&rows, one, MEMTABLES_BYTES >> 19, &done))
    };
    until_still(&done, || false);
    assert!(
        done.load(Ordering::Relaxed) < MEMTABLES_BYTES >> 19,
        "it waits"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|_| {
            let (rows, stop) = (rows.clone(), stop.clone());
            std::thread::spawn(move || {
                // The next one begins before the last one ends.
                let mut view = rows.view(one).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20)); // what an export takes
                    view = rows.view(one).unwrap();
                }
                drop(view);
            })
        })
        .collect();
    until(|| rows.tree().views() > VIEWERS);
    drop(first);
    let most = writer.recv_timeout(PATIENCE);
    stop.store(true, Ordering::Relaxed);
    for viewer in viewers {
        viewer.join().unwrap();
    }
    let most = most.expect("it was held up");
    // Of every view that ends, one commit more may lie behind the next one.
    let bound = HELD_MOST + ((2 * VIEWERS) << 20);
    assert!(most <= bound, "{most} bytes");
}

fn until(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1)); // between two looks
    }
}

/// Folders of files of the tree's levels.
fn tables_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tables_below(&path));
            if path.file_name().is_some_and(|name| name == "tables") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_write_ends_when_the_trees_thread_has_failed_and_so_does_the_store() {
    // A full disk, met while memtables become files and the next ones wait already.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let one = key(1, 1);
    let done = Arc::new(AtomicU64::new(0));
    let mut writer = None;
    rows.tree()
        .with(|open| {
            let flushing = open.rows.tree.get_flush_lock();
            let (rows, done) = (rows.clone(), done.clone());
            let written = done.clone();
            writer = Some(beside(move || fill_without_end(&rows, one, &written)));
            until_still(&done, || false);
            assert!(open.rows.sealed_memtable_count() >= SEALED_MAX, "it waits");
            for tables in tables_below(folder.path()) {
                std::fs::rename(&tables, tables.with_extension("gone")).unwrap();
            }
            drop(flushing);
            Ok(())
        })
        .unwrap();
    let error = writer.expect("begun").recv_timeout(PATIENCE);
    let error = error.expect("it hangs");
    assert!(matches!(error, RowsError::Unusable { .. }), "{error}");
    let closed = beside(move || rows.close());
    closed.recv_timeout(PATIENCE).expect("the end hangs");
}

#[test]
fn runs_that_nobody_has_merged_hold_no_write_up_for_ever() {
    // The tree compacts once per memtable; in a large store that may not be enough for the first level.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let runs = || {
        let runs = rows.tree().with(|open| Ok(open.rows.tree.l0_run_count()));
        runs.unwrap()
    };
    rows.tree()
        .with(|open| {
            for turn in 0..30_u8 {
                open.rows.insert(vec![2], vec![turn])?;
                open.rows.tree.flush_active_memtable(0)?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(runs(), 30, "as many as the tree itself waits for");
    let put = {
        let rows = rows.clone();
        beside(move || {
            let one = key(1, 1);
            rows.put([write(one, &rows.space(one), 1, &[("a", Some("1"))])])
        })
    };
    let put = put.recv_timeout(PATIENCE).expect("it hangs");
    assert_eq!(put.unwrap().len(), 1);
    assert!(runs() < RUNS_MAX);
}
