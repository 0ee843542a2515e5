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
use crate::evaluation::{BaseError, ExportError, export};
use crate::group::actor::Making;
use crate::group::base::{ViewBase, not_read, tell_unreadable};
use crate::storage::{
    CheckpointError, CheckpointSource, Disk, DiskFile, OpenMode, RowsError, StateRows, TakeSource,
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

/// A snapshot that somebody needs.
struct Wanted {
    key: ReplicaKey,
    to: ReplicaId,
    /// Whether it is needed still. Asked with the queue locked, so it must not ask the queue.
    still: Box<dyn Fn() -> bool + Send>,
    take: TakeSource,
}

#[derive(Default)]
struct Waiting {
    wanted: VecDeque<Wanted>,
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

    /// A snapshot of a replica is wanted for another one, as long as `still` says so: then nothing more is done for it. `take` is called
    /// on the thread, unless it is not wanted any more; never after the thread ended.
    pub(super) fn source(
        &self,
        key: ReplicaKey,
        to: ReplicaId,
        still: Box<dyn Fn() -> bool + Send>,
        take: TakeSource,
    ) {
        let wanted = Wanted {
            key,
            to,
            still,
            take,
        };
        let mut waiting = self.queue.lock();
        // What is wanted is as bounded as the shipments; what was wanted is not.
        let (stay, gone) = std::mem::take(&mut waiting.wanted)
            .into_iter()
            .partition(|known: &Wanted| (known.key, known.to) != (key, to) && (known.still)());
        waiting.wanted = stay;
        waiting.wanted.push_back(wanted);
        drop(waiting);
        let _nobody_needs_them: VecDeque<Wanted> = gone;
        self.queue.changed.notify_all();
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().wanted.len()
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
            if let Some(wanted) = waiting.wanted.pop_front() {
                drop(waiting);
                self.answer(wanted);
                continue;
            }
            let pause = if sweeps { SWEEP_PAUSE } else { LOOK };
            let woken = self.queue.changed.wait_timeout(waiting, pause);
            let (waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
            if !waiting.closed && waiting.wanted.is_empty() {
                drop(waiting);
                let swept = catch_unwind(AssertUnwindSafe(|| self.rows.sweep(SWEEP_ROWS)));
                sweeps = match swept {
                    Ok(Err(error @ RowsError::Damaged { .. })) => {
                        tracing::warn!(%error, "rows that nobody has any more stay where they are");
                        true
                    }
                    // What fails otherwise fails at the next checkpoint, too, and is said there.
                    swept => matches!(swept, Ok(Ok(true))),
                };
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

    /// Of the same rows another snapshot would come to the same, without end.
    fn unreadable(&self, key: ReplicaKey, error: &BaseError) {
        tell_unreadable(&*self.receivers, key, error);
    }

    fn answer(&self, wanted: Wanted) {
        if !(wanted.still)() {
            return;
        }
        let source = catch_unwind(AssertUnwindSafe(|| self.export(&wanted)));
        let Wanted {
            key, still, take, ..
        } = wanted;
        if still() {
            take(source.unwrap_or_else(|_| Err(self.unusable(key, "it panicked".into()))));
        }
    }

    fn export(&self, wanted: &Wanted) -> Result<Option<CheckpointSource>, CheckpointError> {
        let (key, to) = (wanted.key, wanted.to);
        let unusable = |detail: String| self.unusable(key, detail);
        let view = self.rows.view(key).map_err(|error| {
            self.unreadable(key, &not_read(&error));
            unusable(error.to_string())
        })?;
        let Some(view) = view else {
            return Ok(None);
        };
        // The log behind it is to be kept from now on: this may take longer than its tail lasts (E28).
        let position = view.head().meta.position;
        self.receivers
            .tell(key, News::Making(Making { to, position }));
        let base = ViewBase::new(view);
        let written = self.write(wanted, &base);
        if let Err(ExportError::Rows(error)) = &written {
            self.unreadable(key, error);
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

    fn write(&self, wanted: &Wanted, base: &ViewBase) -> Result<Written, ExportError> {
        let (group, replica) = (wanted.key.group.get(), wanted.key.replica.get());
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
            still: &*wanted.still,
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
    still: &'a (dyn Fn() -> bool + Send),
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.queue.lock().closed {
            return Err(io::Error::other("the node stops"));
        }
        if !(self.still)() {
            return Err(io::Error::other("nobody needs it any more"));
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
