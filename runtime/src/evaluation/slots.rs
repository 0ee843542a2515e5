//! The entities that one leadership has active.
//!
//! Here: [`Slots`]: per entity the decoded instance, its newest image (pending, else proposed, else applied) with the
//! version that the next effect is based on, and who waits for it; the least recently used idle ones go when a bound is
//! reached. Not here: committed images (`state`), running handlers (`leadership`).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::leadership::Call;
use super::shares::{Share, Shares};
use crate::entity::State;

/// An entity: position of its kind in the table, and its key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct EntityAt {
    pub(super) kind: usize,
    pub(super) key: Rc<str>,
}

pub(super) struct Slot {
    /// The decoded entity; none while its handler runs, and after a failed command until the next one.
    pub(super) state: Option<State>,
    /// The newest image. While the entity does not exist: its initial state, encoded, so that a command that leaves it
    /// as it was is seen to change nothing.
    pub(super) base: Bytes,
    pub(super) exists: bool,
    /// Log index of the newest effect that has one; zero while the entity does not exist.
    pub(super) version: LogIndex,
    /// Batch and place of the newest effect, while that batch is open.
    pub(super) pending: Option<(u64, usize)>,
    /// The newest batch with an effect of this entity.
    pub(super) newest_batch: u64,
    pub(super) running: bool,
    pub(super) queue: VecDeque<Call>,
    used: u64,
}

impl Slot {
    /// A slot whose instance is in use.
    pub(super) fn new(base: Bytes, exists: bool, version: LogIndex) -> Self {
        Self {
            state: None,
            base,
            exists,
            version,
            pending: None,
            newest_batch: 0,
            running: false,
            queue: VecDeque::new(),
            used: 0,
        }
    }
}

/// What a slot costs beside its image, for the bound in bytes.
const SLOT_BYTES: usize = 256;
/// How many idle slots are looked at for one that may go; the others have effects in flight, which are bounded.
const EVICTION_LOOKS: usize = 8;

pub(super) struct Slots {
    kinds: Vec<BTreeMap<Rc<str>, Slot>>,
    idle: BTreeMap<u64, EntityAt>,
    stamp: u64,
    count: usize,
    bytes: usize,
    shares: Shares,
    /// While there is any slot.
    share: Option<Share>,
}

impl Slots {
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            shares,
            share: None,
            kinds: Vec::new(),
            idle: BTreeMap::new(),
            stamp: 0,
            count: 0,
            bytes: 0,
        }
    }

    pub(super) fn get(&self, kind: usize, key: &str) -> Option<&Slot> {
        self.kinds.get(kind)?.get(key)
    }

    pub(super) fn get_mut(&mut self, kind: usize, key: &str) -> Option<&mut Slot> {
        self.kinds.get_mut(kind)?.get_mut(key)
    }

    /// The key as the slot holds it, so that it is allocated once.
    pub(super) fn key(&self, kind: usize, key: &str) -> Option<Rc<str>> {
        Some(Rc::clone(self.kinds.get(kind)?.get_key_value(key)?.0))
    }

    pub(super) fn insert(&mut self, at: &EntityAt, slot: Slot) {
        if self.kinds.len() <= at.kind {
            self.kinds.resize_with(at.kind + 1, BTreeMap::new);
        }
        self.count += 1;
        self.bytes += SLOT_BYTES + slot.base.len();
        self.share.get_or_insert_with(|| self.shares.enter());
        if let Some(replaced) = self.kinds[at.kind].insert(Rc::clone(&at.key), slot) {
            self.idle.remove(&replaced.used);
            self.count -= 1;
            self.bytes -= SLOT_BYTES + replaced.base.len();
        }
    }

    /// Sets the newest image.
    pub(super) fn set_base(&mut self, at: &EntityAt, base: Bytes, exists: bool) {
        if let Some(slot) = self.kinds[at.kind].get_mut(&*at.key) {
            self.bytes = self.bytes - slot.base.len() + base.len();
            slot.base = base;
            slot.exists = exists;
        }
    }

    pub(super) fn remove(&mut self, at: &EntityAt) -> Option<Slot> {
        let slot = self.kinds.get_mut(at.kind)?.remove(&*at.key)?;
        self.idle.remove(&slot.used);
        self.count -= 1;
        self.bytes -= SLOT_BYTES + slot.base.len();
        if self.count == 0 {
            self.share = None;
        }
        Some(slot)
    }

    /// The entity is about to be used: it is not idle.
    pub(super) fn busy(&mut self, at: &EntityAt) {
        if let Some(slot) = self
            .kinds
            .get_mut(at.kind)
            .and_then(|k| k.get_mut(&*at.key))
        {
            self.idle.remove(&slot.used);
            slot.used = 0;
        }
    }

    /// The entity was just used and nothing runs on it.
    pub(super) fn touch(&mut self, at: &EntityAt) {
        if let Some(slot) = self
            .kinds
            .get_mut(at.kind)
            .and_then(|k| k.get_mut(&*at.key))
        {
            self.idle.remove(&slot.used);
            self.stamp += 1;
            slot.used = self.stamp;
            self.idle.insert(self.stamp, at.clone());
        }
    }

    /// Lets the least recently used idle entities go until both bounds hold, except those with effects in flight. The last one stays,
    /// however large: the next command may be for it.
    pub(super) fn trim(&mut self, count_max: usize, bytes_max: usize, batch_done: u64) {
        while self.count > 1 && (self.count > count_max || self.bytes > bytes_max) {
            if !self.let_one_go(batch_done) {
                return;
            }
        }
    }

    /// Lets all idle entities go, except those with effects in flight.
    pub(super) fn clear_idle(&mut self, batch_done: u64) {
        while self.let_one_go(batch_done) {}
    }

    fn let_one_go(&mut self, batch_done: u64) -> bool {
        let victim = self
            .idle
            .values()
            .take(EVICTION_LOOKS)
            .find(|at| {
                self.get(at.kind, &at.key).is_some_and(|slot| {
                    !slot.running && slot.queue.is_empty() && slot.newest_batch <= batch_done
                })
            })
            .cloned();
        victim.is_some_and(|victim| self.remove(&victim).is_some())
    }

    /// How many there are, and their bytes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    /// Drops every slot and returns who waited, entity by entity, in order.
    pub(super) fn clear(&mut self) -> Vec<Call> {
        let mut waiting = Vec::new();
        for rows in &mut self.kinds {
            for (_, slot) in std::mem::take(rows) {
                waiting.extend(slot.queue);
            }
        }
        *self = Self::new(self.shares.clone());
        waiting
    }
}
