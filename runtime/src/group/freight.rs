//! Snapshots of a node's replicas on their way, out and in.
//!
//! Here: [`Freight`], one per node, with a thread of its own for the disk work: at most [`SHIPMENTS_MAX`] snapshots leave at once, the others
//! wait in order; all together leave at no more than a number of bytes per second; what arrives is stored, verified and decoded. A
//! snapshot that leaves is the replica's newest checkpoint, read in pieces from its file: nothing is encoded for it, and it
//! takes no memory. Not here: what is sent when (`synod-consensus`), the files (`storage`).
//!
//! No arbiter waits for any of it: group actors hand over and hear by message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use synod_consensus::{
    ChunkReceived, ChunkWanted, ReplicaId, ReplicaKey, SnapshotId, SnapshotMeta,
};

use super::actor::{ChunkRead, ChunkStored, Fetched, Provide};
use super::machine::{Decoded, Machine};
use super::registry::Registry;
use crate::storage::{CheckpointSource, CheckpointWriter, PartialError, Partials};

/// Snapshots that leave a node at once: enough to fill a link while one of the receivers installs, few enough that each is done soon.
const SHIPMENTS_MAX: usize = 4;
/// Requests for a snapshot that wait; beyond it they are dropped, and the groups ask again every few seconds.
const WAITING_MAX: usize = 4_096;
/// Bytes that arrived and are not stored yet; beyond it they are not stored, and the leaders send them again.
const ARRIVED_BYTES_MAX: usize = 64 << 20;
/// A shipment whose receiver has taken nothing for so long gives way to one that waits.
const IDLE: Duration = Duration::from_secs(10);
/// Default of [`Freight::start`]'s `bytes_per_second`: half of a gigabit link, so that the other half stays for commands.
pub(crate) const BYTES_PER_SECOND: u64 = 64 << 20;
/// What the budget may save up while nothing is sent.
const BURST: Duration = Duration::from_millis(20);

/// What was shipped and received since the start.
#[derive(Debug, Default)]
pub(crate) struct FreightCounters {
    /// Bytes of snapshots read to be sent.
    pub(crate) sent_bytes: AtomicU64,
    /// Bytes of snapshots stored.
    pub(crate) received_bytes: AtomicU64,
    /// Snapshots taken over.
    pub(crate) installed: AtomicU64,
    /// Snapshots that arrived and were not what their name says.
    pub(crate) damaged: AtomicU64,
    /// Pieces not stored, because too much waited or the disk refused.
    pub(crate) not_stored: AtomicU64,
}

impl FreightCounters {
    /// Each with the name that operators see.
    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        let all = [
            ("snapshot_bytes_sent", &self.sent_bytes),
            ("snapshot_bytes_received", &self.received_bytes),
            ("snapshots_installed", &self.installed),
            ("snapshots_damaged", &self.damaged),
            ("snapshot_pieces_not_stored", &self.not_stored),
        ];
        all.into_iter()
            .map(|(name, value)| (name.to_owned(), value.load(Ordering::Relaxed)))
            .collect()
    }
}

enum Task {
    Store(ReplicaKey, ChunkReceived),
    /// Too much waited: the group only hears what is held.
    Refuse(ReplicaKey, ChunkReceived),
    Drop(ReplicaKey, SnapshotId),
    Install(ReplicaKey, SnapshotMeta, SnapshotId, Machine),
    Forget(ReplicaKey),
}

type Way = (ReplicaKey, ReplicaId);
/// Only the freight's thread reads it; the lock lets its handle lie beside.
type Source = Arc<Mutex<CheckpointSource>>;

#[derive(Debug)]
struct Shipment {
    source: Option<Source>,
    moved_at: Instant,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    arrived_bytes: usize,
    /// In the order in which they were asked for; one per way.
    reads: VecDeque<(ReplicaKey, ChunkWanted)>,
    shipments: BTreeMap<Way, Shipment>,
    waiting: VecDeque<Way>,
    closed: bool,
}

struct Depot {
    state: Mutex<State>,
    changed: Condvar,
    registry: Arc<Registry>,
    checkpoints: CheckpointWriter,
    bytes_per_second: u64,
    counters: FreightCounters,
}

/// The freight of one node; its thread ends with it.
pub(crate) struct Freight {
    depot: Arc<Depot>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    held: Mutex<BTreeMap<ReplicaKey, (SnapshotMeta, SnapshotId, u64)>>,
}

impl Drop for Freight {
    fn drop(&mut self) {
        self.depot.state().closed = true;
        self.depot.changed.notify_all();
    }
}

impl std::fmt::Debug for Freight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Freight")
            .field("bytes_per_second", &self.depot.bytes_per_second)
            .field("counters", &self.depot.counters)
            .finish_non_exhaustive()
    }
}

impl Freight {
    /// Starts the thread. `replicas`: whose partial snapshots an earlier life may have left.
    pub(crate) fn start(
        registry: Arc<Registry>,
        checkpoints: CheckpointWriter,
        partials: Partials,
        replicas: impl IntoIterator<Item = ReplicaKey>,
        bytes_per_second: u64,
    ) -> std::io::Result<Self> {
        let held = replicas
            .into_iter()
            .filter_map(|key| Some((key, partials.held(key)?)))
            .collect();
        let depot = Arc::new(Depot {
            state: Mutex::default(),
            changed: Condvar::new(),
            registry,
            checkpoints,
            bytes_per_second: bytes_per_second.max(1),
            counters: FreightCounters::default(),
        });
        let worker = Worker {
            depot: depot.clone(),
            partials,
            free_at: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("synod-snapshots".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            depot,
            thread: Mutex::new(Some(thread)),
            held: Mutex::new(held),
        })
    }

    /// What an earlier life left of a snapshot for this replica; told once.
    pub(crate) fn take_held(&self, key: ReplicaKey) -> Option<(SnapshotMeta, SnapshotId, u64)> {
        super::lock(&self.held).remove(&key)
    }

    /// A follower needs a snapshot: it is provided when it is its turn.
    pub(crate) fn request(&self, key: ReplicaKey, to: ReplicaId) {
        let mut state = self.depot.state();
        let way = (key, to);
        if state.shipments.contains_key(&way) {
            return; // its source is being opened
        }
        if !state.waiting.contains(&way) && state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(way);
        }
        state.retire_idle();
        self.depot.clone().provide(state);
    }

    /// A piece is to be read, as soon as the budget allows.
    pub(crate) fn read(&self, key: ReplicaKey, wanted: ChunkWanted) {
        let mut state = self.depot.state();
        let same =
            |(other, read): &(ReplicaKey, ChunkWanted)| *other == key && read.to == wanted.to;
        match state.reads.iter().position(same) {
            Some(place) => state.reads[place].1 = wanted,
            None => state.reads.push_back((key, wanted)),
        }
        if let Some(shipment) = state.shipments.get_mut(&(key, wanted.to)) {
            shipment.moved_at = Instant::now();
        }
        drop(state);
        self.depot.changed.notify_all();
    }

    /// Nothing more is read for this follower.
    pub(crate) fn end(&self, key: ReplicaKey, to: ReplicaId) {
        let mut state = self.depot.state();
        state.forget_way((key, to));
        self.depot.clone().provide(state);
    }

    /// A piece that arrived.
    pub(crate) fn store(&self, key: ReplicaKey, chunk: ChunkReceived) {
        let mut state = self.depot.state();
        let task = if state.arrived_bytes + chunk.data.len() > ARRIVED_BYTES_MAX {
            Task::Refuse(key, chunk)
        } else {
            state.arrived_bytes += chunk.data.len();
            Task::Store(key, chunk)
        };
        state.tasks.push_back(task);
        drop(state);
        self.depot.changed.notify_all();
    }

    /// All pieces of a snapshot have been stored: verifies, decodes and makes it the newest checkpoint.
    pub(crate) fn install(
        &self,
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
        machine: Machine,
    ) {
        self.push(Task::Install(key, meta, id, machine));
    }

    /// What is held of a snapshot is not wanted any more.
    pub(crate) fn drop_partial(&self, key: ReplicaKey, id: SnapshotId) {
        self.push(Task::Drop(key, id));
    }

    /// The replica is gone: its shipments end, and what it held goes.
    pub(crate) fn forget(&self, key: ReplicaKey) {
        self.leave(key);
        self.push(Task::Forget(key));
    }

    /// The replica's actor ended: its shipments do, too.
    pub(crate) fn leave(&self, key: ReplicaKey) {
        let mut state = self.depot.state();
        let ways: BTreeSet<Way> = state
            .shipments
            .keys()
            .chain(&state.waiting)
            .filter(|(other, _)| *other == key)
            .copied()
            .collect();
        ways.into_iter().for_each(|way| state.forget_way(way));
        self.depot.clone().provide(state);
    }

    fn push(&self, task: Task) {
        self.depot.state().tasks.push_back(task);
        self.depot.changed.notify_all();
    }

    /// What was done so far.
    pub(crate) fn counters(&self) -> &FreightCounters {
        &self.depot.counters
    }

    /// Ends the thread and waits for it. What has not arrived as a whole stays on disk.
    pub(crate) fn close(&self) {
        self.depot.state().closed = true;
        self.depot.changed.notify_all();
        let thread = super::lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // its panics are caught
        }
    }
}

impl State {
    fn forget_way(&mut self, way: Way) {
        self.shipments.remove(&way);
        self.waiting.retain(|other| *other != way);
        self.reads.retain(|(key, wanted)| (*key, wanted.to) != way);
    }

    /// Lets shipments that stand still give way, if others wait.
    fn retire_idle(&mut self) {
        if self.waiting.is_empty() || self.shipments.len() < SHIPMENTS_MAX {
            return;
        }
        let reads = &self.reads;
        self.shipments.retain(|way, shipment| {
            let reading = reads.iter().any(|(key, wanted)| (*key, wanted.to) == *way);
            reading || shipment.moved_at.elapsed() < IDLE
        });
    }
}

impl Depot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a source for whoever is next, as long as there is room.
    fn provide(self: Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut next = Vec::new();
        while state.shipments.len() < SHIPMENTS_MAX
            && let Some(way) = state.waiting.pop_front()
        {
            let shipment = Shipment {
                source: None,
                moved_at: Instant::now(),
            };
            state.shipments.insert(way, shipment);
            next.push(way);
        }
        drop(state);
        for (key, to) in next {
            let depot = self.clone();
            let opened = Box::new(
                move |source: Result<Option<CheckpointSource>, _>| match source {
                    Ok(Some(source)) => depot.opened(key, to, source),
                    Ok(None) => depot.state().forget_way((key, to)),
                    Err(error) => {
                        tracing::error!(group = %key.group, %error, "the newest checkpoint cannot be sent to a replica that needs it");
                        depot.state().forget_way((key, to));
                    }
                },
            );
            self.checkpoints.source(key, opened);
        }
    }

    fn opened(&self, key: ReplicaKey, to: ReplicaId, source: CheckpointSource) {
        let offer = source.offer().clone();
        let mut state = self.state();
        let Some(shipment) = state.shipments.get_mut(&(key, to)) else {
            return;
        };
        shipment.source = Some(Arc::new(Mutex::new(source)));
        shipment.moved_at = Instant::now();
        drop(state);
        match self.registry.of_key(key) {
            Some(hosted) => hosted.group.do_send(Provide { to, offer }),
            None => self.state().forget_way((key, to)),
        }
    }
}

struct Worker {
    depot: Arc<Depot>,
    partials: Partials,
    /// When the budget allows to send again.
    free_at: Instant,
}

enum Work {
    Task(Task),
    Read(ReplicaKey, ChunkWanted, Option<Source>),
}

impl Worker {
    fn run(mut self) {
        while let Some(work) = self.next() {
            let key = match &work {
                Work::Read(key, ..)
                | Work::Task(
                    Task::Store(key, _)
                    | Task::Refuse(key, _)
                    | Task::Drop(key, _)
                    | Task::Install(key, ..)
                    | Task::Forget(key),
                ) => *key,
            };
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(work))).is_err() {
                tracing::error!(group = %key.group, "the handling of a snapshot panicked");
            }
        }
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
            if state.reads.is_empty() {
                state = depot
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if now < self.free_at {
                let wait = self.free_at - now;
                let woken = depot.changed.wait_timeout(state, wait);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            } else if let Some((key, wanted)) = state.reads.pop_front() {
                let shipment = state.shipments.get(&(key, wanted.to));
                let source = shipment.and_then(|shipment| shipment.source.clone());
                return Some(Work::Read(key, wanted, source));
            }
        }
    }

    fn carry_out(&mut self, work: Work) {
        match work {
            Work::Read(key, wanted, source) => {
                self.read(key, wanted, source.as_deref().map(super::lock).as_deref())
            }
            Work::Task(Task::Store(key, chunk)) => self.store(key, &chunk),
            Work::Task(Task::Refuse(key, chunk)) => {
                self.depot
                    .counters
                    .not_stored
                    .fetch_add(1, Ordering::Relaxed);
                let held = self.partials.held(key).filter(|(_, id, _)| *id == chunk.id);
                self.stored(key, chunk.id, held.map_or(0, |(_, _, held)| held));
            }
            Work::Task(Task::Drop(key, id)) => self.partials.drop_partial(key, id),
            Work::Task(Task::Install(key, meta, id, machine)) => {
                self.install(key, meta, id, &machine);
            }
            Work::Task(Task::Forget(key)) => self.partials.remove(key),
        }
    }

    fn read(&mut self, key: ReplicaKey, wanted: ChunkWanted, source: Option<&CheckpointSource>) {
        let data = source
            .filter(|source| source.offer().id() == wanted.id)
            .map(|source| source.read(wanted.offset, wanted.bytes));
        let data = match data {
            Some(Ok(data)) => Some(data),
            Some(Err(error)) => {
                tracing::error!(group = %key.group, %error, "a checkpoint cannot be read");
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
        if let Some(hosted) = self.depot.registry.of_key(key) {
            hosted.group.do_send(ChunkRead { wanted, data });
        }
    }

    fn store(&mut self, key: ReplicaKey, chunk: &ChunkReceived) {
        let counters = &self.depot.counters;
        let held = match self.partials.store(key, chunk) {
            Ok(held) => {
                counters
                    .received_bytes
                    .fetch_add(chunk.data.len() as u64, Ordering::Relaxed);
                held
            }
            Err(error) => {
                counters.not_stored.fetch_add(1, Ordering::Relaxed);
                tracing::error!(group = %key.group, %error, "a piece of a snapshot cannot be stored");
                0
            }
        };
        self.stored(key, chunk.id, held);
    }

    fn stored(&self, key: ReplicaKey, id: SnapshotId, held: u64) {
        if let Some(hosted) = self.depot.registry.of_key(key) {
            hosted.group.do_send(ChunkStored { id, held });
        }
    }

    fn install(&mut self, key: ReplicaKey, meta: SnapshotMeta, id: SnapshotId, machine: &Machine) {
        let depot = self.depot.clone();
        let tell = move |result: Result<Decoded, FetchError>| {
            if let Some(hosted) = depot.registry.of_key(key) {
                let counter = match &result {
                    Ok(_) => &depot.counters.installed,
                    Err(_) => &depot.counters.damaged,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                hosted.group.do_send(Fetched { meta, id, result });
            }
        };
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

/// Why a snapshot that arrived is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It is fetched again.
    #[error("{0}")]
    Partial(PartialError),
    /// Whole, but nothing that this program can read: the replica stops.
    #[error("{0}")]
    Undecodable(String),
}
