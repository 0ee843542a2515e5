//! Appends of 64 groups from 64 callers: Synod's log writer and raft-engine 0.4.2, in turns, on one disk.
//!
//! `cargo bench --manifest-path runtime/benches/peers/Cargo.toml`: requests of 8 entries of 256 incompressible bytes, each durable before
//! its caller goes on. Two shapes: *one thread* owns all 64 groups (an arbiter of Synod; the writer of a TiKV store, which puts all waiting
//! regions into one `LogBatch`), and *a thread per caller*. Synod also runs with four requests under way per caller; raft-engine's `write`
//! blocks, so it cannot. Entries per second are medians over `ROUNDS` (5) of `SECONDS` (2) each, on `DIRECTORY`, which must be on the disk
//! in question and not in memory; `ONLY=synod` runs those with the word in their name.
//! Both compact as they go and recycle files of 64 MiB. raft-engine's compression is off: on such bytes it only costs.

#[path = "../callers/mod.rs"]
mod callers;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use callers::{COMPACT_EVERY, ENTRY, Load, Meter, Run, noise};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

/// An entry whose first eight bytes are its index.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        u64::from_le_bytes(entry.value[..8].try_into().expect("eight bytes"))
    }
}

/// One caller's stream for raft-engine.
struct Stream {
    group: u64,
    last: u64,
    requests: u64,
    entries: Vec<BytesValue>,
}

impl Stream {
    fn new(group: u64, each: u64) -> Self {
        let mut entry = BytesValue::new();
        entry.value = noise(group);
        Self {
            group,
            last: 0,
            requests: 0,
            entries: vec![entry; usize::try_from(each).expect("few")],
        }
    }

    fn add(&mut self, batch: &mut LogBatch) {
        for entry in &mut self.entries {
            self.last += 1;
            entry.value[..8].copy_from_slice(&self.last.to_le_bytes());
        }
        batch
            .add_entries::<Indexed>(self.group, &self.entries)
            .expect("it fits");
        self.requests += 1;
    }

    fn compact(&self, engine: &Engine) {
        if (self.requests + self.group).is_multiple_of(COMPACT_EVERY) {
            engine.compact_to(self.group, self.last);
        }
    }
}

fn engine(folder: &Path) -> Engine {
    let config = Config {
        dir: folder.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize::mb(64),
        purge_threshold: ReadableSize::mb(256),
        ..Config::default()
    };
    Engine::open(config).expect("raft-engine opens")
}

/// Runs `work` while another thread purges, as TiKV does.
fn with_purger<T>(engine: &Engine, work: impl FnOnce() -> T) -> T {
    let over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ended = Arc::clone(&over);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                engine.purge_expired_files().expect("a purge");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

fn raft_engine_one_thread(folder: &Path, load: Load) -> Run {
    let engine = engine(folder);
    let mut streams: Vec<_> = (1..=load.callers)
        .map(|group| Stream::new(group, load.each))
        .collect();
    with_purger(&engine, || {
        let (mut batch, mut durable, meter) = (LogBatch::default(), 0, Meter::start());
        while meter.elapsed() < load.time {
            for stream in &mut streams {
                stream.add(&mut batch);
            }
            engine.write(&mut batch, true).expect("a write");
            durable += load.callers * load.each;
            for stream in &streams {
                stream.compact(&engine);
            }
        }
        meter.stop(durable, None)
    })
}

fn raft_engine_threads(folder: &Path, load: Load) -> Run {
    let engine = engine(folder);
    with_purger(&engine, || {
        let meter = Meter::start();
        let durable: u64 = std::thread::scope(|scope| {
            let callers: Vec<_> = (1..=load.callers)
                .map(|group| {
                    let (engine, meter) = (&engine, &meter);
                    scope.spawn(move || {
                        let mut stream = Stream::new(group, load.each);
                        let (mut batch, mut durable) = (LogBatch::default(), 0);
                        while meter.elapsed() < load.time {
                            stream.add(&mut batch);
                            engine.write(&mut batch, true).expect("a write");
                            durable += load.each;
                            stream.compact(engine);
                        }
                        durable
                    })
                })
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().expect("a caller"))
                .sum()
        });
        meter.stop(durable, None)
    })
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn main() {
    let parent = env::var("DIRECTORY").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let closed = Load {
        callers: 64,
        each: 8,
        window: 1,
        time: Duration::from_secs(number("SECONDS", 2)),
    };
    let pipelined = Load {
        window: 4,
        ..closed
    };
    type Way = fn(&Path, Load) -> Run;
    let ways: [(&str, Load, Way); 6] = [
        ("one thread, synod", closed, callers::arbiter),
        ("one thread, raft-engine", closed, raft_engine_one_thread),
        (
            "one thread, synod, 4 under way",
            pipelined,
            callers::arbiter,
        ),
        ("64 threads, synod", closed, callers::threads),
        ("64 threads, raft-engine", closed, raft_engine_threads),
        (
            "64 threads, synod, 4 under way",
            pipelined,
            callers::threads,
        ),
    ];
    let only = env::var("ONLY").unwrap_or_default();
    let mut runs = vec![Vec::new(); ways.len()];
    for _ in 0..number("ROUNDS", 5) {
        for ((name, load, way), runs) in ways.iter().zip(&mut runs) {
            if !name.contains(&only) {
                continue;
            }
            let folder = tempfile::tempdir_in(&parent).expect("a folder");
            runs.push(way(&folder.path().join("log"), *load));
        }
    }
    println!(
        "64 groups, requests of {} entries of {ENTRY} B",
        closed.each
    );
    for ((name, ..), mut runs) in ways.iter().zip(runs) {
        if runs.is_empty() {
            continue;
        }
        runs.sort_by(|a, b| a.entries.total_cmp(&b.entries));
        let Run {
            entries,
            syncs,
            cpu,
        } = runs[runs.len() / 2];
        let syncs = syncs.map_or_else(String::new, |syncs| {
            format!(", {syncs:.0} syncs/s of {:.0} entries", entries / syncs)
        });
        println!(
            "{name:32} {:.2} M entries/s, {:.0} MB/s, {cpu:.0} ns of processor time per entry{syncs}",
            entries / 1e6,
            entries * ENTRY as f64 / 1e6
        );
    }
}
