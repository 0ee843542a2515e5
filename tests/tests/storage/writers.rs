//! The threads that own the log and the checkpoints: what waits goes together, nothing is acknowledged early, a failure reaches everybody.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use synod::storage::{
    Checkpoint, CheckpointSink, CheckpointWriter, Checkpoints, LogWriter, WriteRequest, WriteSink,
};
use synod_consensus::{
    Configuration, Group, GroupId, GroupOptions, LogIndex, LogStore, Output, PersistToken,
    ReplicaId, ReplicaKey, Restored, Write,
};
use tests::disk::VirtualDisk;

use super::{LOG, append, born, key, meta, open, options};

#[derive(Debug)]
pub(super) enum Heard {
    Completed(Vec<(ReplicaKey, PersistToken)>),
    Checkpointed(Vec<(ReplicaKey, LogIndex)>),
    Failed(String),
}

pub(super) struct Sink(pub(super) Sender<Heard>);

impl WriteSink for Sink {
    fn completed(&self, done: Vec<(ReplicaKey, PersistToken)>) {
        let _ = self.0.send(Heard::Completed(done));
    }

    fn failed(&self, error: String) {
        let _ = self.0.send(Heard::Failed(error));
    }
}

impl CheckpointSink for Sink {
    fn checkpointed(&self, done: Vec<(ReplicaKey, LogIndex)>) {
        let _ = self.0.send(Heard::Checkpointed(done));
    }

    fn failed(&self, error: String) {
        let _ = self.0.send(Heard::Failed(error));
    }
}

/// Real tokens: the first one that a lone voter asks with.
fn token(serial: u64) -> PersistToken {
    let me = ReplicaId::new(1);
    let restored = Restored::founding(Configuration::of_voters([me]));
    let options = GroupOptions::default().check().unwrap();
    let mut group = Group::new(
        options,
        GroupId::new(serial),
        me,
        restored,
        serial,
        Duration::ZERO,
    )
    .unwrap();
    group.campaign(Duration::ZERO);
    while let Some(output) = group.poll_output() {
        if let Output::Persist(persist) = output {
            return persist.token;
        }
    }
    panic!("a lone voter that campaigns persists its vote")
}

pub(super) fn request(key: ReplicaKey, writes: Vec<Write>) -> WriteRequest {
    WriteRequest {
        key,
        token: Some(token(key.group.get())),
        writes,
    }
}

fn log_writer(disk: &VirtualDisk) -> (LogWriter, [Receiver<Heard>; 2]) {
    let ((first, first_heard), (second, second_heard)) = (channel(), channel());
    let writer = LogWriter::start(
        Box::new(open(disk)),
        vec![Box::new(Sink(first)), Box::new(Sink(second))],
    )
    .unwrap();
    (writer, [first_heard, second_heard])
}

pub(super) fn completed(heard: &Receiver<Heard>) -> Vec<ReplicaKey> {
    match heard.recv().unwrap() {
        Heard::Completed(done) => done.into_iter().map(|(key, _)| key).collect(),
        other => panic!("{other:?}"),
    }
}

// H73 (the store's part): no acknowledgement before the bytes are durable. DESIGN 13: all that waits becomes one write and one sync.
#[test]
fn nothing_is_completed_before_its_sync_and_what_waits_goes_together() {
    let disk = VirtualDisk::new(1);
    let (writer, heard) = log_writer(&disk);
    writer.submit(
        0,
        vec![
            request(key(1, 1), vec![born()]),
            request(key(2, 1), vec![born()]),
        ],
    );
    assert_eq!(completed(&heard[0]), [key(1, 1), key(2, 1)]);

    disk.stall(true);
    let before = disk.counters();
    writer.submit(0, vec![request(key(1, 1), vec![append(1, 1..=1, 100)])]);
    disk.wait_for_stalled_sync();
    for index in 1..=50 {
        writer.submit(
            (index % 2) as usize,
            vec![request(key(2, 1), vec![append(1, index..=index, 10)])],
        );
    }
    assert!(
        writer.queued_bytes() > 51 * 10,
        "what waits is accounted for"
    );
    assert!(
        heard.iter().all(|heard| heard.try_recv().is_err()),
        "nothing is durable yet"
    );
    disk.stall(false);
    assert_eq!(completed(&heard[0]), [key(1, 1)]);
    assert_eq!(
        (completed(&heard[0]).len(), completed(&heard[1]).len()),
        (25, 25)
    );
    assert_eq!(
        (
            disk.counters().writes - before.writes,
            disk.counters().syncs - before.syncs
        ),
        (2, 2)
    );
    let counters = writer.counters();
    assert_eq!(
        (counters.batches, counters.fsyncs, counters.requests),
        (3, 3, 53)
    );
    writer.close();
    assert_eq!(writer.queued_bytes(), 0);
    disk.crash();
    assert_eq!(
        open(&disk)
            .recover(key(2, 1))
            .unwrap()
            .unwrap()
            .entries
            .len(),
        50
    );
}

// H72: the first failure is told to every sink once; nothing is acknowledged afterwards, nothing is held.
#[test]
fn failure_reaches_every_sink_and_ends_the_log() {
    let disk = VirtualDisk::new(1);
    let (writer, heard) = log_writer(&disk);
    writer.submit(0, vec![request(key(1, 1), vec![born()])]);
    assert_eq!(completed(&heard[0]), [key(1, 1)]);
    disk.fail_sync_in(1);
    writer.submit(1, vec![request(key(1, 1), vec![append(1, 1..=1, 100)])]);
    for heard in &heard {
        let Heard::Failed(error) = heard.recv().unwrap() else {
            panic!("a failure is expected")
        };
        assert!(error.contains("cannot sync in virtual/log"), "{error}");
    }
    writer.submit(0, vec![request(key(1, 1), vec![append(1, 1..=1, 100)])]);
    writer.close();
    assert!(writer.has_failed());
    assert_eq!(
        writer.queued_bytes(),
        0,
        "what nobody will write is not held"
    );
    assert!(
        heard.iter().all(|heard| heard.recv().is_err()),
        "told once, then silence"
    );
}

// A bug in the caller's writes must not stall the groups silently either.
#[test]
fn refused_batch_fails_the_writer_loudly() {
    let disk = VirtualDisk::new(1);
    let (writer, heard) = log_writer(&disk);
    writer.submit(0, vec![request(key(1, 1), vec![append(1, 5..=5, 1)])]);
    let Heard::Failed(error) = heard[1].recv().unwrap() else {
        panic!("a failure is expected")
    };
    assert!(error.contains("does not exist in this store"), "{error}");
}

// E28, H73: a checkpoint is told when it is durable.
#[test]
fn checkpoints_that_wait_share_one_file_and_are_told_when_durable() {
    let disk = VirtualDisk::new(1);
    let (sink, heard) = channel();
    let checkpoints = Checkpoints::open(disk.folder("state")).unwrap();
    let writer = CheckpointWriter::start(checkpoints, vec![Box::new(Sink(sink))]).unwrap();
    let checkpoint = |group: u64, index: u64| Checkpoint {
        key: key(group, 1),
        meta: meta(1, index),
        data: Bytes::from(vec![7; 5_000]),
    };
    disk.stall(true);
    writer.submit(0, vec![checkpoint(1, 3)]);
    disk.wait_for_stalled_sync();
    for group in 2..=9 {
        writer.submit(0, vec![checkpoint(group, group)]);
    }
    writer.remove(key(9, 1));
    assert!(heard.try_recv().is_err() && writer.queued_bytes() > 9 * 5_000);
    disk.stall(false);
    let mut told = Vec::new();
    while told.len() < 9 {
        match heard.recv().unwrap() {
            Heard::Checkpointed(done) => told.extend(
                done.into_iter()
                    .map(|(key, index)| (key.group.get(), index.get())),
            ),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told[..3], [(1, 3), (2, 2), (3, 3)]);
    writer.close();
    assert_eq!(
        (
            writer.counters().files,
            writer.counters().checkpoints,
            writer.queued_bytes()
        ),
        (2, 9, 0)
    );
    disk.crash();
    let mut checkpoints = Checkpoints::open(disk.folder("state")).unwrap();
    checkpoints.retain(|kept| kept != key(9, 1)); // as the log, which knows no replica 9 any more, would have it
    assert_eq!(
        checkpoints.replicas(),
        (1..=8).map(|group| key(group, 1)).collect::<Vec<_>>()
    );
}

// The log can be opened again as soon as `close` returns: its thread for files is gone, too.
#[test]
fn closed_writer_leaves_a_log_that_opens() {
    let disk = VirtualDisk::new(1);
    for round in 1..=20 {
        let log = synod::storage::SegmentedLog::open(
            disk.folder(LOG),
            synod::storage::LogOptions {
                background: true,
                ..options()
            },
        );
        let (sink, heard) = channel();
        let writer = LogWriter::start(Box::new(log.unwrap()), vec![Box::new(Sink(sink))]).unwrap();
        let mut writes = vec![append(1, round * 10 - 9..=round * 10, 300)];
        if round == 1 {
            writes.insert(0, born());
        }
        writer.submit(0, vec![request(key(1, 1), writes)]);
        assert_eq!(completed(&heard), [key(1, 1)]);
        writer.close();
        disk.crash();
    }
    assert_eq!(
        open(&disk)
            .recover(key(1, 1))
            .unwrap()
            .unwrap()
            .entries
            .len(),
        200
    );
}
