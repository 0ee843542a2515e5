//! One replica of a story, and what is left of it when it does not run.

use std::collections::VecDeque;

use crate::storage::LogStore;
use crate::{Entries, Entry, Group, GroupId, MemoryStore, Output, Persist, ReplicaKey, Restored};

use super::id;
use super::shelf::{Shelf, Snapshot};

pub(super) struct Node {
    pub(super) group: Group,
    pub(super) store: MemoryStore,
    /// Writes that the disk has not done yet.
    pub(super) queue: VecDeque<Persist>,
    /// While true, the queue only grows.
    pub(super) disk_held: bool,
    /// While true, nothing is applied.
    pub(super) apply_held: bool,
    pub(super) to_apply: VecDeque<Entries>,
    /// Payloads of applied `Normal` entries, in order.
    pub(super) applied: Vec<Entry>,
    /// Its checkpoint and its snapshots.
    pub(super) shelf: Shelf,
    /// Outputs that a story may ask for.
    pub(super) events: Vec<Output>,
}

impl Node {
    /// Reads a chunk that is wanted, if there is one.
    pub(super) fn read_one(&mut self) -> bool {
        let Some((to, wanted)) = self.shelf.wanted.pop_first() else {
            return false;
        };
        let data = self
            .shelf
            .sources
            .get(&to)
            .map(|source| source.read(&wanted));
        let now = self.group.now;
        self.group.chunk_read(now, wanted, data);
        true
    }
}

/// What is left of a replica that does not run.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) store: MemoryStore,
    pub(super) shelf: Shelf,
}

impl Disk {
    /// What `replica` would start from.
    pub(super) fn restored(&self, replica: u64) -> Restored {
        let key = ReplicaKey {
            group: GroupId::ZERO,
            replica: id(replica),
        };
        let state = self.shelf.checkpoint.as_ref();
        let state = state.map(|found| found.meta.clone());
        match self.store.recover(key).unwrap() {
            Some(recovered) => Restored::after_restart(recovered, Some(state.unwrap_or_default())),
            None => Restored::newcomer(),
        }
    }
}

pub(super) fn snapshot_of(node: &Node) -> Option<Snapshot> {
    let meta = node.group.meta_at(node.group.applied)?;
    Some(Snapshot::of(meta, &node.applied))
}
