//! Snapshots of a node's replicas on their way, out and in.
//!
//! Here: [`Freight`], one per node, with a thread of its own for the disk work: at most [`SHIPMENTS_MAX`] snapshots leave at once, the others
//! wait in order; all together leave at no more than a number of bytes per second; what arrives is stored, verified and decoded. A
//! snapshot that leaves is the replica's newest checkpoint: of a state that lies in rows a file is made of them for it (`exports`), of
//! another one it is the file that is there. It is read in pieces and takes no memory. Not here: what is sent when (`synod-consensus`), the files (`storage`).
//!
//! No arbiter waits for any of it: group actors hand over and hear by message ([`News`]). Whatever a group asks is answered, also
//! when it comes to nothing: a group that waits for a piece repeats nothing, and one that installs is mute meanwhile.
//! The rooms beside this one: [`worker`], the thread, [`exports`] and [`installs`], two more, for states that lie in rows, and [`kept`],
//! for those that come back.

mod exports;
mod installs;
mod kept;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use synod_consensus::{
    ChunkReceived, ChunkWanted, GroupId, Refusal, ReplicaId, ReplicaKey, SnapshotId, SnapshotMeta,
};

use super::actor::{
    CheckpointGone, ChunkRead, ChunkStored, Fetched, Making, Provide, RowsUnreadable,
};
use super::machine::Machine;
use super::overlays::Overlays;
use crate::evaluation::BaseError;
use crate::storage::{CheckpointError, CheckpointSource, CheckpointWriter, PartialError, Partials};
use exports::Exports;
use kept::Kept;
use worker::Worker;

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
    /// Snapshots that their receivers did not take over.
    pub(crate) refused: AtomicU64,
    /// Snapshots given up because their receivers answered and took nothing.
    pub(crate) stalled: AtomicU64,
    /// Followers for which the log was not kept any longer, so that they need another snapshot.
    pub(crate) left_behind: AtomicU64,
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
            ("snapshots_refused", &self.refused),
            ("snapshots_stalled", &self.stalled),
            ("snapshots_left_behind", &self.left_behind),
        ];
        all.into_iter()
            .map(|(name, value)| (name.to_owned(), value.load(Ordering::Relaxed)))
            .collect()
    }
}

/// What a replica hears of its freight.
#[derive(Debug)]
pub(crate) enum News {
    /// The snapshot that a follower is to get is being made.
    Making(Making),
    /// It is a follower's turn to get a snapshot.
    Provide(Provide),
    /// The newest checkpoint cannot be opened or read, so that a follower gets nothing of it.
    Gone(CheckpointGone),
    /// Answers [`Freight::read`].
    Read(ChunkRead),
    /// Answers [`Freight::store`].
    Stored(ChunkStored),
    /// Answers [`Freight::install`].
    Fetched(Box<Fetched>),
    /// A row of its state cannot be read.
    Unreadable(RowsUnreadable),
}

/// Whom the freight tells its news. Called on its threads: hand over and return.
pub(crate) trait Receivers: Send + Sync {
    /// Returns whether the replica is here; if it is not, nobody waits for the news.
    fn tell(&self, key: ReplicaKey, news: News) -> bool;
}

enum Task {
    Store(ReplicaKey, ChunkReceived),
    /// Too much waited, or the disk is short of room: the group only hears what is held. The piece itself is gone already.
    Refuse(ReplicaKey, SnapshotId),
    Drop(ReplicaKey, SnapshotId),
    Install(ReplicaKey, SnapshotMeta, SnapshotId, Machine),
    Forget(ReplicaKey),
}

type Way = (ReplicaKey, ReplicaId);
/// Only the freight's thread reads it; the lock lets its handle lie beside.
type Source = Arc<Mutex<CheckpointSource>>;

#[derive(Debug)]
struct Shipment {
    /// Tells it from an earlier one on the same way.
    serial: u64,
    /// `None` while it is being opened.
    source: Option<Source>,
    /// What the receiver is known to hold.
    held: u64,
    /// It was asked for since it was offered: the offer came too late, and another one is wanted.
    again: bool,
    /// When the receiver last took something; the time in which a read waited for the budget does not count.
    moved_at: Instant,
}

/// A piece to be read.
struct Reading {
    key: ReplicaKey,
    wanted: ChunkWanted,
    since: Instant,
}

impl Reading {
    fn way(&self) -> Way {
        (self.key, self.wanted.to)
    }
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    arrived_bytes: usize,
    /// In the order in which they were asked for; one per way.
    reads: VecDeque<Reading>,
    shipments: BTreeMap<Way, Shipment>,
    /// The serial of the last shipment.
    serials: u64,
    waiting: VecDeque<Way>,
    kept: Kept,
    closed: bool,
}

struct Depot {
    state: Mutex<State>,
    changed: Condvar,
    receivers: Arc<dyn Receivers>,
    checkpoints: CheckpointWriter,
    /// Where states lie in rows.
    exports: Option<Exports>,
    bytes_per_second: u64,
    counters: FreightCounters,
    /// For the states that arrive.
    overlays: Arc<Overlays>,
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
        receivers: Arc<dyn Receivers>,
        checkpoints: CheckpointWriter,
        partials: Partials,
        replicas: impl IntoIterator<Item = ReplicaKey>,
        bytes_per_second: u64,
        overlays: Arc<Overlays>,
    ) -> std::io::Result<Self> {
        let held = replicas
            .into_iter()
            .filter_map(|key| Some((key, partials.held(key)?)))
            .collect();
        let exports = match checkpoints.rows() {
            Some(rows) => Some(Exports::start(
                rows.clone(),
                partials.share_disk(),
                receivers.clone(),
            )?),
            None => None,
        };
        let depot = Arc::new(Depot {
            state: Mutex::default(),
            changed: Condvar::new(),
            receivers,
            checkpoints,
            exports,
            bytes_per_second: bytes_per_second.max(1),
            counters: FreightCounters::default(),
            overlays,
        });
        let worker = Worker::new(depot.clone(), partials)?;
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
        if let Some(shipment) = state.shipments.get_mut(&way) {
            shipment.again = true; // its source is being opened, or offered
            return;
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
        let now = Instant::now();
        let way = (key, wanted.to);
        if let Some(shipment) = state.shipments.get_mut(&way)
            && wanted.held > shipment.held
        {
            shipment.held = wanted.held;
            shipment.moved_at = now;
        }
        match state.reads.iter_mut().find(|read| read.way() == way) {
            Some(read) => read.wanted = wanted,
            None => state.reads.push_back(Reading {
                key,
                wanted,
                since: now,
            }),
        }
        drop(state);
        self.depot.changed.notify_all();
    }

    /// Nothing more is read for this follower. If it may come back for the rest, the snapshot is kept for a while.
    pub(crate) fn end(&self, key: ReplicaKey, to: ReplicaId, resumable: bool) {
        let way = (key, to);
        if resumable {
            let mut state = self.depot.state();
            let shipment = state.shipments.get(&way);
            if let Some(source) = shipment.and_then(|shipment| shipment.source.clone()) {
                state.kept.put(way, source, Instant::now());
            }
        }
        self.depot.clone().end(way, None);
        self.depot.changed.notify_all();
    }

    /// A piece that arrived.
    pub(crate) fn store(&self, key: ReplicaKey, chunk: ChunkReceived) {
        let mut state = self.depot.state();
        let waits = state.arrived_bytes + chunk.data.len();
        let task = if waits > ARRIVED_BYTES_MAX || self.depot.overlays.disk_is_short() {
            Task::Refuse(key, chunk.id)
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
        let unread: Vec<_> = ways
            .into_iter()
            .filter_map(|way| state.forget_way(way))
            .collect();
        state.kept.forget(|(other, _)| other != key);
        self.depot.clone().provide(state);
        unread.into_iter().for_each(|read| self.depot.unread(read));
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
        // First whoever looks at the rows: what arrives may wait until nobody does (`storage::rows_tree`).
        if let Some(exports) = &self.depot.exports {
            exports.close();
        }
        let thread = super::lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // its panics are caught
        }
    }
}

impl State {
    /// Returns the read that waited for it, which is to be answered all the same.
    #[must_use]
    fn forget_way(&mut self, way: Way) -> Option<Reading> {
        self.shipments.remove(&way);
        self.waiting.retain(|other| *other != way);
        let place = self.reads.iter().position(|read| read.way() == way)?;
        self.reads.remove(place)
    }

    /// Lets shipments that stand still give way, if others wait. One that is being opened does not stand still: forgotten, it would
    /// be asked for and opened again, and who hears of two sources takes the second for superfluous and ends both.
    fn retire_idle(&mut self) {
        if self.waiting.is_empty() || self.shipments.len() < SHIPMENTS_MAX {
            return;
        }
        let (reads, kept, now) = (&self.reads, &mut self.kept, Instant::now());
        self.shipments.retain(|way, shipment| {
            let reading = reads.iter().any(|read| read.way() == *way);
            let Some(source) = &shipment.source else {
                return true;
            };
            let stays = reading || shipment.moved_at.elapsed() < IDLE;
            if !stays {
                kept.put(*way, source.clone(), now);
            }
            stays
        });
    }
}

impl Depot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, key: ReplicaKey, news: News) -> bool {
        self.receivers.tell(key, news)
    }

    /// A piece that will not be read.
    fn unread(&self, Reading { key, wanted, .. }: Reading) {
        let data = None;
        self.tell(key, News::Read(ChunkRead { wanted, data }));
    }

    /// Whether the node goes on.
    fn goes_on(&self) -> bool {
        !self.state().closed
    }

    /// Whether the shipment of this serial goes on.
    fn ships(&self, way: Way, serial: u64) -> bool {
        let state = self.state();
        let shipment = state.shipments.get(&way);
        shipment.is_some_and(|shipment| shipment.serial == serial)
    }

    /// Ends what is on this way, or only the shipment of this serial.
    fn end(self: Arc<Self>, way: Way, serial: Option<u64>) {
        let mut state = self.state();
        let present = state.shipments.get(&way).map(|shipment| shipment.serial);
        if serial.is_some() && serial != present {
            return;
        }
        let again = state.shipments.get(&way).is_some_and(|known| known.again);
        let unread = state.forget_way(way);
        if again && state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(way);
        }
        self.clone().provide(state);
        if let Some(read) = unread {
            self.unread(read);
        }
    }

    /// Opens a source for whoever is next, as long as there is room.
    fn provide(self: Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut next = Vec::new();
        while state.shipments.len() < SHIPMENTS_MAX
            && let Some(way) = state.waiting.pop_front()
        {
            state.serials += 1;
            let serial = state.serials;
            let shipment = Shipment {
                serial,
                source: None,
                held: 0,
                again: false,
                moved_at: Instant::now(),
            };
            let kept = state.kept.take(way, shipment.moved_at);
            state.shipments.insert(way, shipment);
            next.push((way, serial, kept));
        }
        drop(state);
        for (way, serial, kept) in next {
            let depot = self.clone();
            if let Some(source) = kept {
                depot.offer(way, serial, source);
                continue;
            }
            let (key, to) = way;
            let opened = Box::new(move |source| depot.opened(way, serial, source));
            match &self.exports {
                Some(exports) if key.group != GroupId::ZERO => {
                    let depot = self.clone();
                    let still = Box::new(move || depot.ships(way, serial));
                    exports.source(key, to, still, opened);
                }
                _ => self.checkpoints.source(key, opened),
            }
        }
    }

    fn opened(
        self: Arc<Self>,
        way: Way,
        serial: u64,
        source: Result<Option<CheckpointSource>, CheckpointError>,
    ) {
        let (key, _) = way;
        let source = match source {
            Ok(Some(source)) => source,
            Ok(None) => {
                tracing::warn!(group = %key.group, "a replica needs a checkpoint, and there is none; a fresh one is made");
                self.tell(key, News::Gone(CheckpointGone));
                return self.end(way, Some(serial));
            }
            Err(error) => {
                tracing::error!(group = %key.group, %error, "the newest checkpoint cannot be sent to a replica that needs it; a fresh one is made");
                self.tell(key, News::Gone(CheckpointGone));
                return self.end(way, Some(serial));
            }
        };
        self.offer(way, serial, Arc::new(Mutex::new(source)));
    }

    fn offer(self: Arc<Self>, way: Way, serial: u64, source: Source) {
        let (key, to) = way;
        let offer = super::lock(&source).offer().clone();
        let mut state = self.state();
        let shipment = state.shipments.get_mut(&way);
        let Some(shipment) = shipment.filter(|shipment| shipment.serial == serial) else {
            return; // it ended meanwhile
        };
        shipment.source = Some(source);
        shipment.again = false;
        shipment.moved_at = Instant::now();
        drop(state);
        if !self.tell(key, News::Provide(Provide { to, offer })) {
            self.end(way, Some(serial));
        }
    }
}

/// Why a snapshot that arrived is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It is fetched again.
    #[error("{0}")]
    Partial(PartialError),
    /// A bug: it is fetched again.
    #[error("its handling panicked")]
    Panicked,
    /// Whole, but nothing that this program can read: the replica stops.
    #[error("{0}")]
    Undecodable(String),
    /// It was taken over, and its rows cannot be read back.
    #[error(transparent)]
    Unreadable(BaseError),
}

impl FetchError {
    /// What the leader is told of it.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Partial(PartialError::Missing | PartialError::Damaged) | Self::Undecodable(_) => {
                Refusal::Damaged
            }
            Self::Partial(PartialError::Io(_) | PartialError::Ended)
            | Self::Unreadable(_)
            | Self::Panicked => Refusal::NotKept,
        }
    }
}
