//! Callers of the log writer's thread: 64 groups, each with an own stream of appends.
//!
//! Here: [`Load`], [`Run`], and [`arbiter`] and [`threads`], which drive a [`LogWriter`] the two ways a program can. Used by the benchmark
//! `log`, and by the one that runs raft-engine beside it (`peers`, a package of its own).
//! Not here: other logs, medians, what is printed.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod::storage::{LogOptions, LogWriter, RealDisk, SegmentedLog, WriteRequest, WriteSink};
use synod_consensus::{
    Configuration, Entry, EntryKind, Group, GroupId, GroupOptions, LogIndex, Output, PersistToken,
    Position, ReplicaId, ReplicaKey, Restored, SnapshotMeta, Term, Write,
};

/// Bytes of an entry's payload.
pub(crate) const ENTRY: usize = 256;
/// A caller compacts its log once in so many requests, so that files are recycled.
pub(crate) const COMPACT_EVERY: u64 = 64;

/// What the callers do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Groups, each with an own stream of appends.
    pub(crate) callers: u64,
    /// Entries per request.
    pub(crate) each: u64,
    /// Requests of one caller under way at once; 1 is a closed loop.
    pub(crate) window: u64,
    /// For how long.
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Durable entries per second.
    pub(crate) entries: f64,
    /// Syncs per second; `None` where the log does not tell.
    pub(crate) syncs: Option<f64>,
    /// Processor time of the whole process per entry, in nanoseconds: what a busy machine does not change much.
    pub(crate) cpu: f64,
}

/// Measures one run.
pub(crate) struct Meter {
    begun: Instant,
    cpu: u64,
}

impl Meter {
    /// Begins.
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu: cpu_ticks(),
        }
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends, after so many durable entries.
    pub(crate) fn stop(self, entries: u64, syncs: Option<u64>) -> Run {
        let seconds = self.begun.elapsed().as_secs_f64();
        Run {
            entries: entries as f64 / seconds,
            syncs: syncs.map(|syncs| syncs as f64 / seconds),
            cpu: (cpu_ticks() - self.cpu) as f64 * 1e7 / entries as f64,
        }
    }
}

/// User and system time of this process in hundredths of a second, as Linux counts them.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().expect("a name in brackets");
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

/// Bytes that no compressor makes smaller, as an encrypted or already packed state would be.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..ENTRY)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn base(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(u64::from(index > 0)), LogIndex::new(index)),
        configuration: Configuration::of_voters([1, 2, 3].map(ReplicaId::new)),
        configuration_index: LogIndex::ZERO,
    }
}

/// A real token: the first that a lone voter asks with. Callers are told apart by their key.
fn token() -> PersistToken {
    let me = ReplicaId::new(1);
    let restored = Restored::founding(Configuration::of_voters([me]));
    let options = GroupOptions::default().check().expect("sound options");
    let mut group = Group::new(options, GroupId::new(1), me, restored, 1, Duration::ZERO)
        .expect("a lone voter");
    group.campaign(Duration::ZERO);
    while let Some(output) = group.poll_output() {
        if let Output::Persist(persist) = output {
            return persist.token;
        }
    }
    unreachable!("a lone voter that campaigns persists its vote")
}

/// One caller's stream.
struct Caller {
    key: ReplicaKey,
    token: PersistToken,
    payload: Bytes,
    last: u64,
    requests: u64,
}

impl Caller {
    fn new(group: u64, token: PersistToken) -> Self {
        Self {
            key: ReplicaKey {
                group: GroupId::new(group),
                replica: ReplicaId::new(1),
            },
            token,
            payload: noise(group).into(),
            last: 0,
            requests: 0,
        }
    }

    fn birth(&self) -> WriteRequest {
        self.request(vec![Write::Reset { to: base(0) }])
    }

    fn request(&self, writes: Vec<Write>) -> WriteRequest {
        WriteRequest {
            key: self.key,
            token: Some(self.token),
            writes,
        }
    }

    fn next(&mut self, each: u64) -> WriteRequest {
        let mut writes = Vec::with_capacity(2);
        let entries = (self.last + 1..=self.last + each).map(|index| Entry {
            term: Term::new(1),
            index: LogIndex::new(index),
            kind: EntryKind::Normal,
            payload: self.payload.clone(),
        });
        writes.push(Write::Append(entries.collect()));
        self.requests += 1;
        // Not all callers at once.
        if self.last > 0 && (self.requests + self.key.group.get()).is_multiple_of(COMPACT_EVERY) {
            writes.push(Write::Compact {
                to: base(self.last),
            });
        }
        self.last += each;
        self.request(writes)
    }
}

/// Hands completions over as an arbiter's sink does: one message per batch.
struct Mailbox(Sender<Vec<(ReplicaKey, PersistToken)>>);

impl WriteSink for Mailbox {
    fn completed(&self, done: Vec<(ReplicaKey, PersistToken)>) {
        let _ = self.0.send(done); // nobody listens once the run is over
    }

    fn failed(&self, error: String) {
        panic!("{error}");
    }
}

/// Wakes one thread per completion.
struct Bells(Vec<Sender<()>>);

impl WriteSink for Bells {
    fn completed(&self, done: Vec<(ReplicaKey, PersistToken)>) {
        for (key, _) in done {
            let caller = usize::try_from(key.group.get() - 1).expect("few callers");
            let _ = self.0[caller].send(());
        }
    }

    fn failed(&self, error: String) {
        panic!("{error}");
    }
}

fn writer(folder: &Path, sink: Box<dyn WriteSink>) -> LogWriter {
    let disk = RealDisk::new(folder).expect("the folder can be made");
    let log = SegmentedLog::open(Box::new(disk), LogOptions::default()).expect("the log opens");
    LogWriter::start(Box::new(log), vec![sink]).expect("a thread")
}

/// All callers on one thread, as groups are on their arbiter: what is complete is answered with the next requests, as one batch.
pub(crate) fn arbiter(folder: &Path, load: Load) -> Run {
    let token = token();
    let mut callers: Vec<_> = (1..=load.callers)
        .map(|group| Caller::new(group, token))
        .collect();
    let (mailbox, heard) = channel();
    let writer = writer(folder, Box::new(Mailbox(mailbox)));
    let mut under_way = callers.len() as u64;
    writer.submit(0, callers.iter().map(Caller::birth).collect());
    settle(&heard, &mut under_way);
    let (before, meter) = (writer.counters(), Meter::start());
    for _ in 0..load.window {
        let batch = callers.iter_mut().map(|caller| caller.next(load.each));
        writer.submit(0, batch.collect());
    }
    under_way = load.window * load.callers;
    let mut durable = 0;
    while meter.elapsed() < load.time {
        let mut done = heard.recv().expect("the writer lives");
        for more in heard.try_iter() {
            done.extend(more);
        }
        durable += done.len() as u64 * load.each;
        let batch = done.iter().map(|(key, _)| {
            let caller = usize::try_from(key.group.get() - 1).expect("few callers");
            callers[caller].next(load.each)
        });
        writer.submit(0, batch.collect());
    }
    let run = meter.stop(durable, Some(writer.counters().fsyncs - before.fsyncs));
    settle(&heard, &mut under_way);
    writer.close();
    run
}

fn settle(heard: &Receiver<Vec<(ReplicaKey, PersistToken)>>, under_way: &mut u64) {
    while *under_way > 0 {
        *under_way -= heard.recv().expect("the writer lives").len() as u64;
    }
}

/// A thread per caller, each of which sleeps until its request is durable.
pub(crate) fn threads(folder: &Path, load: Load) -> Run {
    let token = token();
    let (bells, heard): (Vec<_>, Vec<_>) = (0..load.callers).map(|_| channel()).unzip();
    let writer = writer(folder, Box::new(Bells(bells)));
    let (before, meter) = (writer.counters(), Meter::start());
    let durable = std::thread::scope(|scope| {
        let callers: Vec<_> = (1..)
            .zip(heard)
            .map(|(group, heard)| {
                let (mut caller, writer, meter) = (Caller::new(group, token), &writer, &meter);
                scope.spawn(move || {
                    writer.submit(0, vec![caller.birth()]);
                    heard.recv().expect("the writer lives");
                    for _ in 0..load.window {
                        writer.submit(0, vec![caller.next(load.each)]);
                    }
                    let mut durable = 0;
                    while meter.elapsed() < load.time {
                        heard.recv().expect("the writer lives");
                        durable += load.each;
                        writer.submit(0, vec![caller.next(load.each)]);
                    }
                    for _ in 0..load.window {
                        heard.recv().expect("the writer lives");
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
    let run = meter.stop(durable, Some(writer.counters().fsyncs - before.fsyncs));
    writer.close();
    run
}
