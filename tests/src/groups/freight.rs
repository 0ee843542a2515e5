//! The snapshots of one simulated process on their way, out and in, as the runtime handles them.
//!
//! Here: what waits for the one thread that does the disk work, one piece of work per turn; the real partial file and the real
//! checkpoint file that is read to be shipped; the permits that shipments wait for. Not here: how long a turn takes, what breaks
//! meanwhile (`shipping`), when a snapshot is needed (`synod-consensus`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use synod::storage::{CheckpointSource, Partials};
use synod_consensus::{ChunkReceived, ChunkWanted, ReplicaId, SnapshotId, SnapshotMeta};

/// A shipment whose receiver has taken nothing for so long gives way to one that waits.
const IDLE: Duration = Duration::from_secs(10);

/// Disk work for arriving snapshots, in order.
#[derive(Debug)]
pub(super) enum Task {
    Store(ChunkReceived),
    Drop(SnapshotId),
    Install(SnapshotMeta, SnapshotId),
}

/// What is next.
#[derive(Debug)]
pub(super) enum Work {
    Task(Task),
    Read(ChunkWanted),
}

/// A snapshot that leaves.
#[derive(Debug)]
struct Shipment {
    /// `None`: it is being opened.
    source: Option<CheckpointSource>,
    moved_at: Duration,
}

#[derive(Debug)]
pub(crate) struct Freight {
    pub(super) partials: Partials,
    tasks: VecDeque<Task>,
    /// In the order in which they were asked for; one per follower.
    reads: VecDeque<ChunkWanted>,
    shipments: BTreeMap<ReplicaId, Shipment>,
    waiting: VecDeque<ReplicaId>,
    permits: usize,
    /// A turn is arranged.
    pub(super) turn_due: bool,
    /// What an earlier life left in the partial file: it may have holes.
    pub(super) left_by_a_crash: Option<SnapshotId>,
}

impl Freight {
    /// `permits`: snapshots that may leave at once.
    pub(super) fn new(partials: Partials, permits: usize) -> Self {
        Self {
            partials,
            tasks: VecDeque::new(),
            reads: VecDeque::new(),
            shipments: BTreeMap::new(),
            waiting: VecDeque::new(),
            permits,
            turn_due: false,
            left_by_a_crash: None,
        }
    }

    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    /// A newer request for the same follower replaces an older one.
    pub(super) fn read(&mut self, wanted: ChunkWanted, now: Duration) {
        match self.reads.iter().position(|read| read.to == wanted.to) {
            Some(place) => self.reads[place] = wanted,
            None => self.reads.push_back(wanted),
        }
        if let Some(shipment) = self.shipments.get_mut(&wanted.to) {
            shipment.moved_at = now;
        }
    }

    /// A follower needs a snapshot. Returns whether a standing shipment gave way.
    pub(super) fn request(&mut self, to: ReplicaId, now: Duration) -> bool {
        if self.shipments.contains_key(&to) {
            return false;
        }
        if !self.waiting.contains(&to) {
            self.waiting.push_back(to);
        }
        if self.shipments.len() < self.permits {
            return false;
        }
        let before = self.shipments.len();
        let reads = &self.reads;
        self.shipments.retain(|to, shipment| {
            reads.iter().any(|read| read.to == *to) || now < shipment.moved_at + IDLE
        });
        self.shipments.len() < before
    }

    /// Whose turn it is to have a source opened: as many as there are permits.
    pub(super) fn admit(&mut self, now: Duration) -> Vec<ReplicaId> {
        let free = self.permits.saturating_sub(self.shipments.len());
        let next: Vec<_> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        for to in &next {
            let shipment = Shipment {
                source: None,
                moved_at: now,
            };
            self.shipments.insert(*to, shipment);
        }
        next
    }

    /// Whether somebody waits for a permit.
    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The source for `to` is open; not kept if the shipment is over.
    pub(super) fn opened(
        &mut self,
        to: ReplicaId,
        source: CheckpointSource,
        now: Duration,
    ) -> bool {
        let Some(shipment) = self.shipments.get_mut(&to) else {
            return false;
        };
        shipment.source = Some(source);
        shipment.moved_at = now;
        true
    }

    /// Nothing more is read for this follower.
    pub(super) fn end(&mut self, to: ReplicaId) {
        self.shipments.remove(&to);
        self.waiting.retain(|other| *other != to);
        self.reads.retain(|read| read.to != to);
    }

    /// What is arriving comes before what leaves.
    pub(super) fn next(&mut self) -> Option<Work> {
        let task = self.tasks.pop_front().map(Work::Task);
        task.or_else(|| self.reads.pop_front().map(Work::Read))
    }

    /// Whether the next turn stores, reads, or has nothing to do.
    pub(super) fn next_is_read(&self) -> Option<bool> {
        match self.tasks.front() {
            Some(_) => Some(false),
            None => self.reads.front().map(|_| true),
        }
    }

    /// The file that is read for this follower, if it is still the one that was offered.
    pub(super) fn source(&self, wanted: &ChunkWanted) -> Option<&CheckpointSource> {
        let source = self.shipments.get(&wanted.to)?.source.as_ref()?;
        (source.offer().id() == wanted.id).then_some(source)
    }
}
