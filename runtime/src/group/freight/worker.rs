//! The thread that does a node's disk work for snapshots: one task after another, reads at the pace of the budget.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use synod_consensus::{ChunkReceived, ChunkWanted, GroupId, ReplicaKey, SnapshotId, SnapshotMeta};

use super::installs::Installs;
use super::{BURST, Depot, FetchError, News, Reading, Source, Task};
use crate::group::actor::{CheckpointGone, ChunkRead, ChunkStored, Fetched};
use crate::group::lock;
use crate::group::machine::Machine;
use crate::storage::{CheckpointSource, Partials};

pub(super) struct Worker {
    depot: Arc<Depot>,
    partials: Partials,
    /// Of states that lie in rows.
    installs: Option<Installs>,
    /// When the budget allows to send again.
    free_at: Instant,
}

enum Work {
    Task(Task),
    Read(Reading, Option<Source>),
}

/// What is owed to a group whatever becomes of its task.
enum Owed {
    Nothing,
    Read(ChunkWanted),
    Stored(SnapshotId),
    Fetched(SnapshotMeta, SnapshotId),
}

impl Work {
    fn owed(&self) -> (ReplicaKey, Owed) {
        match self {
            Self::Read(read, _) => (read.key, Owed::Read(read.wanted)),
            Self::Task(Task::Store(key, chunk)) => (*key, Owed::Stored(chunk.id)),
            Self::Task(Task::Refuse(key, id)) => (*key, Owed::Stored(*id)),
            Self::Task(Task::Install(key, meta, id, _)) => (*key, Owed::Fetched(meta.clone(), *id)),
            Self::Task(Task::Drop(key, _) | Task::Forget(key)) => (*key, Owed::Nothing),
        }
    }
}

impl Worker {
    /// Starts the thread for installations, too.
    pub(super) fn new(depot: Arc<Depot>, partials: Partials) -> io::Result<Self> {
        let installs = match depot.checkpoints.rows() {
            Some(rows) => Some(Installs::start(depot.clone(), rows.clone())?),
            None => None,
        };
        Ok(Self {
            depot,
            partials,
            installs,
            free_at: Instant::now(),
        })
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.next() {
            let (key, owed) = work.owed();
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(work))).is_err() {
                tracing::error!(group = %key.group, "the handling of a snapshot panicked");
                // It may panic again; what the group is owed, it gets.
                let _panicked = catch_unwind(AssertUnwindSafe(|| self.partials.remove(key)));
                self.settle(key, owed);
            }
        }
    }

    /// Says of a task that it came to nothing.
    fn settle(&self, key: ReplicaKey, owed: Owed) {
        let news = match owed {
            Owed::Nothing => return,
            Owed::Read(wanted) => News::Read(ChunkRead { wanted, data: None }),
            Owed::Stored(id) => News::Stored(ChunkStored { id, held: None }),
            Owed::Fetched(meta, id) => {
                let result = Err(FetchError::Panicked);
                News::Fetched(Box::new(Fetched { meta, id, result }))
            }
        };
        self.depot.tell(key, news);
    }

    /// The next thing to do; `None` at the end.
    fn next(&mut self) -> Option<Work> {
        let depot = self.depot.clone();
        let mut state = depot.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.tasks.pop_front() {
                if let Task::Store(_, chunk) = &task {
                    state.arrived_bytes -= chunk.data.len();
                }
                return Some(Work::Task(task));
            }
            let now = Instant::now();
            state.kept.let_go(now);
            if state.reads.is_empty() {
                let Some(until) = state.kept.until() else {
                    let woken = depot.changed.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let wait = until.saturating_duration_since(now);
                let woken = depot.changed.wait_timeout(state, wait);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            } else if now < self.free_at {
                let wait = self.free_at - now;
                let woken = depot.changed.wait_timeout(state, wait);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            } else if let Some(read) = state.reads.pop_front() {
                let shipment = state.shipments.get_mut(&read.way());
                let source = shipment.and_then(|shipment| {
                    shipment.moved_at += read.since.elapsed();
                    shipment.source.clone()
                });
                return Some(Work::Read(read, source));
            }
        }
    }

    fn carry_out(&mut self, work: Work) {
        match work {
            Work::Read(read, source) => {
                let source = source.as_deref().map(lock);
                self.read(read.key, read.wanted, source.as_deref());
            }
            Work::Task(Task::Store(key, chunk)) => self.store(key, &chunk),
            Work::Task(Task::Refuse(key, id)) => {
                let counters = &self.depot.counters;
                counters.not_stored.fetch_add(1, Ordering::Relaxed);
                let held = self.partials.held(key).filter(|(_, known, _)| *known == id);
                self.stored(key, id, Some(held.map_or(0, |(_, _, held)| held)));
            }
            Work::Task(Task::Drop(key, id)) => self.partials.drop_partial(key, id),
            Work::Task(Task::Install(key, meta, id, machine)) => {
                self.install(key, meta, id, &machine);
            }
            Work::Task(Task::Forget(key)) => {
                self.partials.remove(key);
                // One that was installed just before is on its way there, behind a removal that its owner may have asked for.
                match &self.installs {
                    Some(installs) if key.group != GroupId::ZERO => installs.forget(key),
                    _ => self.depot.checkpoints.remove(key),
                }
            }
        }
    }

    fn read(&mut self, key: ReplicaKey, wanted: ChunkWanted, source: Option<&CheckpointSource>) {
        let data = source
            .filter(|source| source.offer().id() == wanted.id)
            .map(|source| source.read(wanted.offset, wanted.bytes));
        let data = match data {
            Some(Ok(data)) => Some(data),
            Some(Err(error)) => {
                tracing::error!(group = %key.group, %error, "a checkpoint cannot be read; a fresh one is made");
                self.depot.tell(key, News::Gone(CheckpointGone));
                // It is of no more use, also to those who come back.
                self.depot.clone().end((key, wanted.to), None);
                None
            }
            None => None,
        };
        let bytes = data.as_ref().map_or(0, |data| data.len() as u64);
        let counters = &self.depot.counters;
        counters.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now = Instant::now();
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.depot.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let saved = now.checked_sub(BURST).unwrap_or(now);
        self.free_at = self.free_at.max(saved) + cost;
        self.depot.tell(key, News::Read(ChunkRead { wanted, data }));
    }

    fn store(&mut self, key: ReplicaKey, chunk: &ChunkReceived) {
        let counters = &self.depot.counters;
        let held = match self.partials.store(key, chunk) {
            Ok(held) => {
                counters
                    .received_bytes
                    .fetch_add(chunk.data.len() as u64, Ordering::Relaxed);
                Some(held)
            }
            Err(error) => {
                counters.not_stored.fetch_add(1, Ordering::Relaxed);
                tracing::error!(group = %key.group, %error, "a piece of a snapshot cannot be stored");
                None
            }
        };
        self.stored(key, chunk.id, held);
    }

    fn stored(&self, key: ReplicaKey, id: SnapshotId, held: Option<u64>) {
        self.depot.tell(key, News::Stored(ChunkStored { id, held }));
    }

    fn install(&mut self, key: ReplicaKey, meta: SnapshotMeta, id: SnapshotId, machine: &Machine) {
        if let (Machine::Shard(_), Some(installs)) = (machine, &self.installs) {
            return installs.install(key, meta, id, self.partials.only(key));
        }
        let depot = self.depot.clone();
        let tell = move |result| depot.fetched(key, meta, id, result);
        let data = match self.partials.whole(key, id) {
            Ok(data) => data,
            Err(error) => return tell(Err(FetchError::Partial(error))),
        };
        match machine.decode(id.position.index, &data) {
            Ok(decoded) => {
                self.partials.release(key);
                let adopted = Box::new(move || tell(Ok(decoded)));
                self.depot.checkpoints.adopt(key, adopted);
            }
            Err(error) => {
                self.partials.remove(key);
                tell(Err(FetchError::Undecodable(error.to_string())));
            }
        }
    }
}
