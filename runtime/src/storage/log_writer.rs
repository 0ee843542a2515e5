//! The thread that owns a node's log.
//!
//! Here: [`LogWriter`]: whatever waits, from all groups of all arbiters, becomes one write and one sync; then each arbiter's
//! [`WriteSink`] hears which of its writes are durable. Under load a little more gathers before the next one (group commit).
//! Not here: the log (`log`); who may queue how much (groups hold credits against [`LogWriter::queued_bytes`]).
//!
//! The first error goes to every sink and ends the log: what waited is dropped unacknowledged, and so is all that comes later (H72).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use synod_consensus::{LogStore, PersistToken, ReplicaKey, Write};

use super::queue::WriteQueue;

/// Bytes of one write. Larger ones gain no throughput and let the first in line wait (8 MiB: about 10 ms on an NVMe disk).
const WRITE_BYTES_MAX: usize = 8 << 20;
/// What may wait before groups should hold back. With 4 MiB in flight per group, 16 busy groups fill it.
const QUEUED_BYTES_LIMIT: usize = 64 << 20;
/// A batch of so many requests says that several commands are under way at once: then the next one gathers.
const GATHER_FROM: u64 = 4;
/// It gathers for so many times as long as the last write and sync took, so that on a disk that syncs within half a millisecond the disk
/// and the wake-ups around each sync get a fifth of the time. On two cores with three nodes and 64 clients this gave a fifth to a third
/// more commands per second, at a lower median latency, than syncing at once, and with 8 to 32 clients no less; one command at a time is
/// never put off.
const GATHER_SYNCS: u32 = 4;
/// But never for longer than this.
const GATHER_MOST: Duration = Duration::from_millis(2);
/// And never for more than this: so many bytes take about as long to copy, check and write as a sync takes by itself, so that waiting for
/// more of them saves little. Callers that each wait for their last append would otherwise sit out the whole pause.
const GATHER_BYTES: usize = 128 << 10;
/// What a write is accounted for besides its payloads.
const WRITE_OVERHEAD: usize = 64;

/// Writes of one replica that belong together.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// Whose log.
    pub key: ReplicaKey,
    /// Comes back when `writes` are durable; `None` when nobody waits.
    pub token: Option<PersistToken>,
    /// In order.
    pub writes: Vec<Write>,
}

impl WriteRequest {
    fn bytes(&self) -> usize {
        let payload = |write: &Write| match write {
            Write::Append(entries) => entries.iter().map(synod_consensus::Entry::charge).sum(),
            Write::HardState(_) | Write::Compact { .. } | Write::Reset { .. } | Write::Drop => 0,
        };
        WRITE_OVERHEAD
            + self
                .writes
                .iter()
                .map(|write| WRITE_OVERHEAD + payload(write))
                .sum::<usize>()
    }
}

/// Where completions go; one per consensus arbiter. Called on the writer's thread: hand over and return.
pub trait WriteSink: Send {
    /// These are durable, in the order in which they were submitted.
    fn completed(&self, done: Vec<(ReplicaKey, PersistToken)>);
    /// The log has failed. Called once; nothing is completed afterwards. The node stops.
    fn failed(&self, error: String);
}

/// What a log writer has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogCounters {
    /// Writes, each followed by one sync.
    pub batches: u64,
    /// Syncs asked of the disk for them.
    pub fsyncs: u64,
    /// Requests in them.
    pub requests: u64,
    /// Bytes in them, as accounted.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    batches: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
}

struct Shared {
    queue: WriteQueue<(usize, WriteRequest)>,
    counters: Counters,
}

/// Ends the thread when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.close(); // the thread writes what waits and ends; nobody waits for it here, it may be the one that drops
    }
}

/// A handle on the writer's thread.
#[derive(Clone)]
pub struct LogWriter(Arc<Owner>);

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("queued_bytes", &self.queued_bytes())
            .field("counters", &self.counters())
            .finish()
    }
}

impl LogWriter {
    /// Starts the thread. `sinks` are numbered from 0. Fails only when the system has no thread left.
    pub fn start(
        log: Box<dyn LogStore + Send>,
        sinks: Vec<Box<dyn WriteSink>>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: WriteQueue::new(),
            counters: Counters::default(),
        });
        let worker = Worker {
            log,
            sinks,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("synod-log".into())
            .spawn(move || worker.run())?;
        Ok(Self(Arc::new(Owner {
            shared,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Queues a batch for the sink with this number. Never blocks. After a failure or a close it is dropped, and the sinks have been told.
    pub fn submit(&self, sink: usize, batch: Vec<WriteRequest>) {
        let sized = batch
            .into_iter()
            .map(|request| (request.bytes(), (sink, request)));
        self.0.shared.queue.push(sized);
    }

    /// Bytes that wait or are being written.
    pub fn queued_bytes(&self) -> usize {
        self.0.shared.queue.bytes()
    }

    /// What [`Self::queued_bytes`] should stay below: groups that find it reached stop taking proposals.
    pub fn queued_bytes_limit(&self) -> usize {
        QUEUED_BYTES_LIMIT
    }

    /// What was done so far. Also the progress that liveness beats carry: it stands still when the disk does.
    pub fn counters(&self) -> LogCounters {
        let counters = &self.0.shared.counters;
        let batches = counters.batches.load(Ordering::Relaxed);
        LogCounters {
            batches,
            fsyncs: batches,
            requests: counters.requests.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether the log has failed.
    pub fn has_failed(&self) -> bool {
        self.0.shared.counters.failed.load(Ordering::Acquire)
    }

    /// Writes what waits, ends the thread and waits for it, so that the log can be opened again. Must not be called from a sink.
    pub fn close(&self) {
        self.0.shared.queue.close();
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join(); // panics of the log are caught and told to the sinks
        }
    }
}

struct Worker {
    log: Box<dyn LogStore + Send>,
    sinks: Vec<Box<dyn WriteSink>>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self) {
        let mut taken = Vec::new();
        let mut batch = Vec::new();
        let mut done: Vec<Vec<(ReplicaKey, PersistToken)>> =
            self.sinks.iter().map(|_| Vec::new()).collect();
        while let Some(bytes) = self.shared.queue.take(WRITE_BYTES_MAX, &mut taken) {
            let requests = taken.len() as u64;
            for (sink, WriteRequest { key, token, writes }) in taken.drain(..) {
                batch.push((key, writes));
                if let Some(token) = token {
                    done[sink].push((key, token));
                }
            }
            // A panic inside the log must reach the groups like any other failure: a silent writer would stall them for ever.
            let began = Instant::now();
            let written = catch_unwind(AssertUnwindSafe(|| self.log.write(&batch)));
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(format!("the log panicked: {}", panic_text(&*panic))),
            };
            if let Some(error) = error {
                self.shared.counters.failed.store(true, Ordering::Release);
                self.shared.queue.abandon();
                self.shared.queue.release(bytes);
                tracing::error!(
                    error,
                    "the log has failed; this node acknowledges nothing more"
                );
                for sink in &self.sinks {
                    sink.failed(error.clone());
                }
                return;
            }
            let took = began.elapsed();
            let counters = &self.shared.counters;
            counters.batches.fetch_add(1, Ordering::Relaxed);
            counters.requests.fetch_add(requests, Ordering::Relaxed);
            counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            self.shared.queue.release(bytes);
            for (sink, done) in self.sinks.iter().zip(&mut done) {
                if !done.is_empty() {
                    sink.completed(std::mem::take(done));
                }
            }
            batch.clear(); // after the callers were told: it frees many small allocations
            if requests >= GATHER_FROM {
                let pause = (took * GATHER_SYNCS).min(GATHER_MOST);
                self.shared.queue.gather(pause, GATHER_BYTES);
            }
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
