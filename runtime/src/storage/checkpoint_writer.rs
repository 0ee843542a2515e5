//! The thread that owns a node's checkpoints.
//!
//! Here: [`CheckpointWriter`]: whatever waits becomes one write of rows, or one file, with one sync; then each arbiter's
//! [`CheckpointSink`] hears which of its replicas may compact their logs through where (E28: in this order).
//! Not here: the rows (`rows`) and the files (`checkpoints`), taking a state (its owner).
//!
//! A thread of its own, so that large states never stand before small appends. The first error goes to every sink; logs are then not
//! compacted any more, which loses nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use synod_consensus::{LogIndex, ReplicaKey, SnapshotMeta};

use super::checkpoints::{Checkpoint, CheckpointError, Checkpoints};
use super::log_writer::panic_text;
use super::partials::CheckpointSource;
use super::queue::WriteQueue;
use super::rows::{RowWrite, StateRows};
use super::rows_going::Staging;
use super::rows_read::RowSpace;

/// Bytes of one file.
const WRITE_BYTES_MAX: usize = 32 << 20;
/// What may wait before owners should stop taking checkpoints.
const QUEUED_BYTES_LIMIT: usize = 64 << 20;
/// Checkpoints gather for so long after each file: they are in no command's way (compaction waits for them, a replica that takes a
/// snapshot over, files of retired replicas), and every file costs the file system an inode and two syncs.
const GATHER: Duration = Duration::from_millis(50);
/// What a checkpoint is accounted for besides its state.
const OVERHEAD: usize = 256;

/// Where completions go; one per consensus arbiter. Called on the writer's thread: hand over and return.
pub trait CheckpointSink: Send {
    /// These are durable: the log of each may be compacted through its index.
    fn checkpointed(&self, done: Vec<(ReplicaKey, LogIndex)>);
    /// No checkpoint can be written any more. Called once.
    fn failed(&self, error: String);
}

/// What a checkpoint writer has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckpointCounters {
    /// Files written and writes of rows, each synced once.
    pub files: u64,
    /// Checkpoints in them.
    pub checkpoints: u64,
    /// Bytes in them, as accounted.
    pub bytes: u64,
}

/// Takes the newest checkpoint of a replica, to be read in pieces.
pub type TakeSource = Box<dyn FnOnce(Result<Option<CheckpointSource>, CheckpointError>) + Send>;
/// Hears that a received snapshot is the newest checkpoint. Not called when checkpoints have failed: the sinks hear that.
pub type Adopted = Box<dyn FnOnce() + Send>;

/// An owner's head and what changed of its rows.
pub type RowChanges = (Bytes, Vec<(Vec<u8>, Option<Vec<u8>>)>);

/// What a checkpoint writes.
pub enum CheckpointContent {
    /// A whole state.
    State(Bytes),
    /// What changed since the last checkpoint.
    Rows {
        /// Where the replica's rows lie.
        space: RowSpace,
        /// Gives the rows; called on the writer's thread.
        encode: Box<dyn FnOnce() -> RowChanges + Send>,
    },
}

/// A checkpoint to be written.
pub struct CheckpointLater {
    /// Whose.
    pub key: ReplicaKey,
    /// What it covers.
    pub meta: SnapshotMeta,
    /// About how long it will be, for the bound of the queue.
    pub bytes: usize,
    /// What it holds. Rows of a state that was replaced meanwhile are not written, and nobody is told.
    pub content: CheckpointContent,
}

impl std::fmt::Debug for CheckpointLater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointLater")
            .field("key", &self.key)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

enum Task {
    Put { sink: usize, later: CheckpointLater },
    Adopt(ReplicaKey, Adopted),
    AdoptRows(Box<AdoptRows>),
    Source(ReplicaKey, TakeSource),
    Remove(ReplicaKey),
}

struct AdoptRows {
    key: ReplicaKey,
    staging: Staging,
    meta: SnapshotMeta,
    head: Bytes,
    done: Adopted,
}

struct Shared {
    queue: WriteQueue<Task>,
    files: AtomicU64,
    checkpoints: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
}

struct Owner {
    shared: Arc<Shared>,
    rows: Option<StateRows>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// A handle on the writer's thread.
#[derive(Clone)]
pub struct CheckpointWriter(Arc<Owner>);

impl std::fmt::Debug for CheckpointWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointWriter")
            .field("queued_bytes", &self.queued_bytes())
            .field("counters", &self.counters())
            .finish()
    }
}

impl CheckpointWriter {
    /// Starts the thread. `sinks` are numbered from 0. Fails only when the system has no thread left.
    pub fn start(
        checkpoints: Checkpoints,
        sinks: Vec<Box<dyn CheckpointSink>>,
    ) -> std::io::Result<Self> {
        Self::start_with(checkpoints, None, sinks)
    }

    /// Like [`Self::start`], for states that lie in rows, too.
    pub fn start_with(
        checkpoints: Checkpoints,
        rows: Option<StateRows>,
        sinks: Vec<Box<dyn CheckpointSink>>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: WriteQueue::new(),
            files: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        let worker = Worker {
            checkpoints,
            rows: rows.clone(),
            sinks,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("synod-checkpoints".into())
            .spawn(move || worker.run())?;
        Ok(Self(Arc::new(Owner {
            shared,
            rows,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Queues checkpoints for the sink with this number. Never blocks. After a failure or a close they are dropped.
    pub fn submit(&self, sink: usize, batch: Vec<Checkpoint>) {
        let later = batch.into_iter().map(|checkpoint| {
            let Checkpoint { key, meta, data } = checkpoint;
            CheckpointLater {
                key,
                meta,
                bytes: data.len(),
                content: CheckpointContent::State(data),
            }
        });
        self.submit_later(sink, later.collect());
    }

    /// Like [`Self::submit`], of states that are not encoded yet.
    pub fn submit_later(&self, sink: usize, batch: Vec<CheckpointLater>) {
        let sized = batch
            .into_iter()
            .map(|later| (OVERHEAD + later.bytes, Task::Put { sink, later }));
        self.0.shared.queue.push(sized);
    }

    /// Makes what a replica received, verified and synced, its newest checkpoint, in order with what was submitted before. `done` is
    /// called on the writer's thread.
    pub fn adopt(&self, key: ReplicaKey, done: Adopted) {
        self.0
            .shared
            .queue
            .push([(OVERHEAD, Task::Adopt(key, done))]);
    }

    /// The rows of states that lie in rows.
    pub fn rows(&self) -> Option<&StateRows> {
        self.0.rows.as_ref()
    }

    /// Makes staged rows those of a replica, in order with what was submitted before. `done` is called on the writer's thread.
    pub fn adopt_rows(
        &self,
        key: ReplicaKey,
        staging: Staging,
        meta: SnapshotMeta,
        head: Bytes,
        done: Adopted,
    ) {
        let task = Task::AdoptRows(Box::new(AdoptRows {
            key,
            staging,
            meta,
            head,
            done,
        }));
        self.0.shared.queue.push([(OVERHEAD, task)]);
    }

    /// Opens the newest checkpoint of a replica whose state is a file. `take` is called on the writer's thread.
    pub fn source(&self, key: ReplicaKey, take: TakeSource) {
        self.0
            .shared
            .queue
            .push([(OVERHEAD, Task::Source(key, take))]);
    }

    /// Forgets a replica's checkpoint, in order with what was submitted before. Nobody is told.
    pub fn remove(&self, key: ReplicaKey) {
        self.0.shared.queue.push([(OVERHEAD, Task::Remove(key))]);
    }

    /// Bytes that wait or are being written.
    pub fn queued_bytes(&self) -> usize {
        self.0.shared.queue.bytes()
    }

    /// What [`Self::queued_bytes`] should stay below.
    pub fn queued_bytes_limit(&self) -> usize {
        QUEUED_BYTES_LIMIT
    }

    /// What was done so far.
    pub fn counters(&self) -> CheckpointCounters {
        let shared = &self.0.shared;
        CheckpointCounters {
            files: shared.files.load(Ordering::Relaxed),
            checkpoints: shared.checkpoints.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether no checkpoint can be written any more.
    pub fn has_failed(&self) -> bool {
        self.0.shared.failed.load(Ordering::Acquire)
    }

    /// Writes what waits, ends the thread and waits for it; closes the rows. Must not be called from a sink.
    pub fn close(&self) {
        self.0.shared.queue.close();
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join(); // panics are caught and told to the sinks
        }
        if let Some(rows) = &self.0.rows {
            rows.close();
        }
    }
}

struct Worker {
    checkpoints: Checkpoints,
    rows: Option<StateRows>,
    sinks: Vec<Box<dyn CheckpointSink>>,
    shared: Arc<Shared>,
}

/// What was taken from the queue at once.
#[derive(Default)]
struct Turn {
    states: Vec<Checkpoint>,
    /// Encoded one after the other, as they are written.
    rows: Vec<Box<dyn FnOnce() -> RowWrite + Send>>,
    /// Whom to tell of whose checkpoint.
    sinks: BTreeMap<ReplicaKey, usize>,
    adopted: Vec<(ReplicaKey, Adopted)>,
    adopted_rows: Vec<AdoptRows>,
    removed: Vec<ReplicaKey>,
    sources: Vec<(ReplicaKey, TakeSource)>,
}

impl Turn {
    fn add(&mut self, task: Task) {
        match task {
            Task::Put { sink, later } => {
                let CheckpointLater {
                    key, meta, content, ..
                } = later;
                self.sinks.insert(key, sink);
                match content {
                    CheckpointContent::State(data) => {
                        self.states.push(Checkpoint { key, meta, data });
                    }
                    CheckpointContent::Rows { space, encode } => {
                        self.rows.push(Box::new(move || {
                            let (head, changes) = encode();
                            RowWrite {
                                key,
                                space,
                                meta,
                                head,
                                changes,
                            }
                        }));
                    }
                }
            }
            Task::Adopt(key, done) => self.adopted.push((key, done)),
            Task::AdoptRows(adopt) => self.adopted_rows.push(*adopt),
            Task::Source(key, take) => self.sources.push((key, take)),
            // A removed replica's id is never used again, so a checkpoint that was queued before is not wanted either.
            Task::Remove(key) => self.removed.push(key),
        }
    }
}

impl Worker {
    fn run(mut self) {
        let mut taken = Vec::new();
        while let Some(bytes) = self.shared.queue.take(WRITE_BYTES_MAX, &mut taken) {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let mut turn = Turn::default();
                taken.drain(..).for_each(|task| turn.add(task));
                self.carry_out(turn)
            }));
            let done = match result {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(format!("the checkpoints panicked: {}", panic_text(&*panic))),
            };
            let done = match done {
                Ok(done) => done,
                Err(error) => return self.fail(bytes, &error),
            };
            let checkpoints: usize = done.iter().map(Vec::len).sum();
            if checkpoints > 0 {
                self.shared.files.fetch_add(1, Ordering::Relaxed);
                self.shared
                    .checkpoints
                    .fetch_add(checkpoints as u64, Ordering::Relaxed);
                self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            self.shared.queue.release(bytes);
            for (sink, done) in self.sinks.iter().zip(done) {
                if !done.is_empty() {
                    sink.checkpointed(done);
                }
            }
            self.shared.queue.gather(GATHER, WRITE_BYTES_MAX);
        }
    }

    fn fail(&self, bytes: usize, error: &str) {
        self.shared.failed.store(true, Ordering::Release);
        self.shared.queue.abandon();
        self.shared.queue.release(bytes);
        tracing::error!(
            error,
            "checkpoints have failed; logs are not compacted any more"
        );
        for sink in &self.sinks {
            sink.failed(error.to_owned());
        }
    }

    /// What each sink is to hear. On an error nothing of it is.
    fn carry_out(&mut self, turn: Turn) -> Result<Vec<Vec<(ReplicaKey, LogIndex)>>, String> {
        let failed = |error: CheckpointError| error.to_string();
        let mut done: Vec<(ReplicaKey, LogIndex)> = turn
            .states
            .iter()
            .map(|state| (state.key, state.meta.position.index))
            .collect();
        self.checkpoints.put(&turn.states).map_err(failed)?;
        for (key, adopted) in turn.adopted {
            self.checkpoints.adopt(key).map_err(failed)?;
            adopted();
        }
        if let Some(rows) = &self.rows {
            let written = rows.put(turn.rows.into_iter().map(|encode| encode()));
            let written = written.map_err(|error| error.to_string())?;
            done.extend(written);
            for adopt in turn.adopted_rows {
                let AdoptRows {
                    key,
                    staging,
                    meta,
                    head,
                    done,
                } = adopt;
                rows.adopt(key, staging, meta, head)
                    .map_err(|error| error.to_string())?;
                done();
            }
            for key in &turn.removed {
                rows.remove(*key).map_err(|error| error.to_string())?;
            }
        }
        for key in turn.removed {
            self.checkpoints.remove(key);
        }
        for (key, take) in turn.sources {
            take(self.checkpoints.source(key));
        }
        let mut sorted: Vec<Vec<_>> = self.sinks.iter().map(|_| Vec::new()).collect();
        for (key, index) in done {
            sorted[turn.sinks[&key]].push((key, index));
        }
        Ok(sorted)
    }
}
