//! The thread that makes snapshots of rows, and that removes rows which nobody has any more.
//!
//! A snapshot is one consistent read of a replica's rows, written to a file that has no name any more: it is gone with its last
//! reader, also after a crash. Not here: when it is wanted and sent (`group::freight`), its format (`evaluation::export`).

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synod_consensus::{ReplicaId, ReplicaKey, SnapshotOffer};

use super::{News, Receivers};
use crate::evaluation::export;
use crate::group::actor::{Making, RowsDamaged};
use crate::group::base::ViewBase;
use crate::storage::{
    CheckpointError, CheckpointSource, Disk, DiskFile, OpenMode, StateRows, TakeSource,
};

/// Rows removed in one commit: some milliseconds of work, so that a snapshot never waits long.
const SWEEP_ROWS: usize = 2_000;
/// Between two such commits: the removal may take long, but never more than a small part of the disk's time.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// How often it is looked for rows to remove while there is nothing else to do.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a snapshot written at once.
const PIECE: usize = 256 << 10;
/// End of the name that a snapshot's file has for a moment.
const SUFFIX: &str = ".export";

#[derive(Default)]
struct Waiting {
    wanted: VecDeque<(ReplicaKey, ReplicaId, TakeSource)>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on the thread, which ends with it.
pub(super) struct Exports {
    queue: Arc<Queue>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Exports {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl Exports {
    /// Starts the thread. `disk`: where the files lie; what an earlier life left of them goes.
    pub(super) fn start(
        rows: StateRows,
        disk: Box<dyn Disk>,
        receivers: Arc<dyn Receivers>,
    ) -> io::Result<Self> {
        for name in disk.list()? {
            if name.ends_with(SUFFIX) {
                disk.remove(&name)?;
            }
        }
        let queue = Arc::new(Queue::default());
        let worker = Worker {
            queue: queue.clone(),
            rows,
            disk,
            receivers,
        };
        let thread = std::thread::Builder::new()
            .name("synod-exports".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A snapshot of a replica is wanted for another one. `take` is called on the thread; never after it ended.
    pub(super) fn source(&self, key: ReplicaKey, to: ReplicaId, take: TakeSource) {
        self.queue.lock().wanted.push_back((key, to, take));
        self.queue.changed.notify_all();
    }

    /// Ends the thread and waits for it.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        let thread = crate::group::lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // its panics are caught
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    rows: StateRows,
    disk: Box<dyn Disk>,
    receivers: Arc<dyn Receivers>,
}

impl Worker {
    fn run(self) {
        let mut sweeps = true;
        loop {
            let mut waiting = self.queue.lock();
            if waiting.closed {
                let unanswered = std::mem::take(&mut waiting.wanted);
                drop(waiting);
                return drop(unanswered);
            }
            if let Some((key, to, take)) = waiting.wanted.pop_front() {
                drop(waiting);
                let source = catch_unwind(AssertUnwindSafe(|| self.export(key, to)));
                take(source.unwrap_or_else(|_| Err(self.unusable(key, "it panicked".into()))));
                continue;
            }
            let pause = if sweeps { SWEEP_PAUSE } else { LOOK };
            let woken = self.queue.changed.wait_timeout(waiting, pause);
            let (waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
            if !waiting.closed && waiting.wanted.is_empty() {
                drop(waiting);
                let swept = catch_unwind(AssertUnwindSafe(|| self.rows.sweep(SWEEP_ROWS)));
                // What fails here fails at the next checkpoint, too, and is said there.
                sweeps = matches!(swept, Ok(Ok(true)));
            }
        }
    }

    fn unusable(&self, key: ReplicaKey, detail: String) -> CheckpointError {
        CheckpointError::Damaged {
            key,
            file: self.disk.place(),
            detail,
        }
    }

    fn export(
        &self,
        key: ReplicaKey,
        to: ReplicaId,
    ) -> Result<Option<CheckpointSource>, CheckpointError> {
        let unusable = |detail: String| self.unusable(key, detail);
        let view = self
            .rows
            .view(key)
            .map_err(|error| unusable(error.to_string()))?;
        let Some(view) = view else {
            return Ok(None);
        };
        // The log behind it is to be kept from now on: this may take longer than its tail lasts (E28).
        let position = view.head().meta.position;
        self.receivers
            .tell(key, News::Making(Making { to, position }));
        let base = ViewBase::new(view);
        let written = self.write(key, &base);
        if let Some(reason) = base.failed() {
            let damaged = RowsDamaged(reason.to_owned());
            self.receivers.tell(key, News::Damaged(damaged));
        }
        let Written { file, at, checksum } =
            written.map_err(|error| unusable(error.to_string()))?;
        let offer = SnapshotOffer {
            meta: base.view().head().meta.clone(),
            bytes: at,
            checksum: u64::from(checksum),
        };
        Ok(Some(CheckpointSource::new(offer, file)))
    }

    fn write(&self, key: ReplicaKey, base: &ViewBase) -> io::Result<Written> {
        let (group, replica) = (key.group.get(), key.replica.get());
        let name = format!("{group:016x}-{replica:016x}{SUFFIX}");
        let file = self.disk.open(&name, OpenMode::Create)?;
        self.disk.remove(&name)?;
        let mut written = Written {
            file,
            at: 0,
            checksum: 0,
        };
        let target = Target {
            written: &mut written,
            queue: &self.queue,
        };
        let out = BufWriter::with_capacity(PIECE, target);
        export(base, &base.view().head().head, out)?;
        Ok(written)
    }
}

struct Written {
    file: Box<dyn DiskFile>,
    at: u64,
    checksum: u32,
}

struct Target<'a> {
    written: &'a mut Written,
    queue: &'a Queue,
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.queue.lock().closed {
            return Err(io::Error::other("the node stops"));
        }
        let written = &mut *self.written;
        written.file.write_at(written.at, bytes)?;
        written.at += bytes.len() as u64;
        written.checksum = crc32c::crc32c_append(written.checksum, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
