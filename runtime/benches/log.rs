//! Durable appends to the segmented log on a real disk, beside a bare file that takes the same bytes.
//!
//! `cargo bench -p synod --bench log`: for batches of 64 groups x 8 entries and 1,000 x 1 of 256 bytes, entries per second of the log (one
//! write and one sync per batch, compacted as it goes, so that files are recycled) and of the bare file (same bytes, preallocated and
//! written before, one `fdatasync` per batch); then the same through the writer's thread from 64 callers; then the time of one small
//! durable append, and of opening a log of 512 MiB. `benches/peers` runs raft-engine beside the 64 callers.
//! `SECONDS` and `DIRECTORY` (which must be on the disk in question, not in memory) change the run.

mod callers;

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callers::ENTRY;
use hdrhistogram::Histogram;
use synod::storage::{Disk, LogOptions, OpenMode, RealDisk, SegmentedLog};
use synod_consensus::{
    Configuration, Entry, EntryKind, GroupId, LogIndex, LogStore, Position, ReplicaId, ReplicaKey,
    SnapshotMeta, Term, Write,
};

fn key(group: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: ReplicaId::new(1),
    }
}

fn base(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(u64::from(index > 0)), LogIndex::new(index)),
        configuration: Configuration::of_voters([1, 2, 3].map(ReplicaId::new)),
        configuration_index: LogIndex::ZERO,
    }
}

fn entry(index: u64, payload: &Bytes) -> Entry {
    Entry {
        term: Term::new(1),
        index: LogIndex::new(index),
        kind: EntryKind::Normal,
        payload: payload.clone(),
    }
}

fn open(folder: &Path) -> SegmentedLog {
    let disk = RealDisk::new(folder).expect("the folder can be made");
    SegmentedLog::open(Box::new(disk), LogOptions::default()).expect("the log opens")
}

/// Entries per second of the log, and what a sync took.
fn log(folder: &Path, groups: u64, each: u64, seconds: u64) -> (f64, Histogram<u64>) {
    let mut log = open(folder);
    let payload = Bytes::from(vec![0x5a; ENTRY]);
    log.write(
        &(1..=groups)
            .map(|group| (key(group), vec![Write::Reset { to: base(0) }]))
            .collect::<Vec<_>>(),
    )
    .expect("births");
    let (mut last, mut entries, mut spent) = (0, 0, Duration::ZERO);
    let mut times = Histogram::new_with_bounds(1, 60_000_000, 3).expect("sound bounds");
    let mut batches = 0_u64;
    while spent < Duration::from_secs(seconds) {
        let mut batch: Vec<_> = (1..=groups)
            .map(|group| {
                (
                    key(group),
                    vec![Write::Append(
                        (last + 1..=last + each)
                            .map(|index| entry(index, &payload))
                            .collect(),
                    )],
                )
            })
            .collect();
        // Every group is compacted once in 64 batches, a few per batch.
        for (key, writes) in &mut batch {
            if last > 0 && (key.group.get() + batches).is_multiple_of(64) {
                writes.push(Write::Compact { to: base(last) });
            }
        }
        let begun = Instant::now();
        log.write(&batch).expect("a write");
        let took = begun.elapsed();
        spent += took;
        times.saturating_record(took.as_micros() as u64);
        last += each;
        entries += groups * each;
        batches += 1;
    }
    (entries as f64 / spent.as_secs_f64(), times)
}

/// Entries per second of a bare file: what the disk can do with the same bytes.
fn bare(folder: &Path, entries: u64, seconds: u64) -> f64 {
    let disk = RealDisk::new(folder).expect("the folder can be made");
    let mut file = disk.open("bare", OpenMode::Create).expect("a file");
    let bytes = vec![0x5a; usize::try_from(entries).expect("small") * (ENTRY + 44)];
    let length = 64 << 20;
    for at in (0..length).step_by(1 << 20) {
        file.write_at(at, &vec![0; 1 << 20]).expect("a write");
    }
    file.sync().expect("a sync");
    let (mut at, mut batches, begun) = (0, 0_u64, Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        if at + bytes.len() as u64 > length {
            at = 0;
        }
        file.write_at(at, &bytes).expect("a write");
        file.sync().expect("a sync");
        at += bytes.len() as u64;
        batches += 1;
    }
    (batches * entries) as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    let seconds = env::var("SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(3);
    let parent = env::var("DIRECTORY").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    for (nth, (groups, each)) in [(64, 8), (1_000, 1)].into_iter().enumerate() {
        let (rate, times) = log(
            &folder.path().join(format!("log-{nth}")),
            groups,
            each,
            seconds,
        );
        let bare = bare(&folder.path().join("bare"), groups * each, seconds);
        println!(
            "{groups} groups x {each} entries of {ENTRY} B: log {:.2} M entries/s (batch p50 {} us, p99 {} us, max {} us), bare file {:.2} M",
            rate / 1e6,
            times.value_at_quantile(0.5),
            times.value_at_quantile(0.99),
            times.max(),
            bare / 1e6
        );
    }
    for (name, way, window) in [
        (
            "one thread",
            callers::arbiter as fn(&Path, callers::Load) -> callers::Run,
            1,
        ),
        ("one thread", callers::arbiter, 4),
        ("a thread per caller", callers::threads, 1),
    ] {
        let load = callers::Load {
            callers: 64,
            each: 8,
            window,
            time: Duration::from_secs(seconds),
        };
        let callers = tempfile::tempdir_in(folder.path()).expect("a folder");
        let run = way(&callers.path().join("log"), load);
        println!(
            "64 callers ({name}, {window} x 8 entries each under way) through the writer: {:.2} M entries/s, {:.0} ns of processor time each, {:.0} syncs/s",
            run.entries / 1e6,
            run.cpu,
            run.syncs.unwrap_or_default()
        );
    }
    let (_, times) = log(&folder.path().join("small"), 1, 1, seconds);
    println!(
        "one durable append: p50 {} us, p99 {} us",
        times.value_at_quantile(0.5),
        times.value_at_quantile(0.99)
    );
    reopen(&folder.path().join("reopen"));
}

fn reopen(folder: &Path) {
    let payload = Bytes::from(vec![0x5a; ENTRY]);
    let mut filled = open(folder);
    filled
        .write(&[(key(1), vec![Write::Reset { to: base(0) }])])
        .expect("a birth");
    let mut last = 0;
    while last < (512 << 20) / (ENTRY as u64 + 44) {
        filled
            .write(&[(
                key(1),
                vec![Write::Append(
                    (last + 1..=last + 4096)
                        .map(|index| entry(index, &payload))
                        .collect(),
                )],
            )])
            .expect("a write");
        last += 4096;
    }
    drop(filled);
    let begun = Instant::now();
    let log = open(folder);
    println!("opening 512 MiB with {last} entries: {:?}", begun.elapsed());
    let begun = Instant::now();
    let recovered = log.recover(key(1)).expect("readable").expect("there");
    println!(
        "reading {} entries back: {:?}",
        recovered.entries.len(),
        begun.elapsed()
    );
}
