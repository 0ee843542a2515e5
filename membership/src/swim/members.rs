//! The table of members, as one observer sees them.
//!
//! Here: [`Member`], the table with its order and its incremental hash. Not here: the rules by which a claim changes it
//! ([`super::merge`]), who is admitted ([`super::Swim::admitted`]).
//! Source: hazards M16 (one entry per store), M31 (hash only what all agree on), M49 (the hash is exported).

use std::collections::{BTreeMap, BTreeSet};

use core::ops::Bound;
use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::StoreId;
use crate::packet::BUCKETS;
use crate::record::{MemberState, Position, Record, SignedRecord};
use crate::swim::flapping::Flaps;
use crate::swim::suspicion::Suspicion;

/// What this observer knows about one member.
#[derive(Clone, Debug)]
pub struct Member {
    pub(crate) signed: SignedRecord,
    pub(crate) state: MemberState,
    /// Since when it has this state, by the observer's clock.
    pub(crate) since: Duration,
    /// There exactly while `state` is `Suspect`.
    pub(crate) suspicion: Option<Box<Suspicion>>, // rare: a member takes half the room without it

    pub(crate) flaps: Flaps,
    /// When this observer last heard it refute a suspicion.
    pub(crate) refuted_at: Option<Duration>,
}

impl Member {
    /// It answered a suspicion within `memory`: rather slow than gone when it is silent again.
    pub(crate) fn refuted_within(&self, now: Duration, memory: Duration) -> bool {
        self.refuted_at.is_some_and(|at| now <= at + memory)
    }

    /// Its store.
    pub fn store(&self) -> StoreId {
        self.record().store
    }

    /// The newest thing it said. Its `state` is what the member claimed; [`Member::state`] is what the observer holds.
    pub fn record(&self) -> &Record {
        self.signed.record()
    }

    /// The same with its signature, to be handed on.
    pub fn signed(&self) -> &SignedRecord {
        &self.signed
    }

    /// What the observer holds.
    pub fn state(&self) -> MemberState {
        self.state
    }

    /// Since when, by the observer's clock.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Alive or only suspected.
    pub fn is_present(&self) -> bool {
        self.state <= MemberState::Suspect
    }

    /// Alive, does not call itself degraded, and did not come back from the dead again and again of late: fit to be relied on.
    pub fn is_steady(&self) -> bool {
        self.state == MemberState::Alive
            && !self.flaps.is_held()
            && !self.record().metadata.degraded
    }

    /// How new the newest thing it said is.
    pub fn position(&self) -> Position {
        self.record().position()
    }
}

/// All members, the own one included.
#[derive(Debug, Default)]
pub(crate) struct Members {
    table: BTreeMap<StoreId, Member>,
    /// XOR of the digests of the members of each bucket.
    buckets: [u64; BUCKETS],
    /// Alive and suspected ones, in no order, so that one of them is drawn in constant time.
    present: Vec<StoreId>,
    /// Where each of them stands there.
    places: BTreeMap<StoreId, usize>,
    /// Those in state `Dead`.
    dead: BTreeSet<StoreId>,
}

impl Members {
    pub(crate) fn get(&self, store: StoreId) -> Option<&Member> {
        self.table.get(&store)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.values()
    }

    /// All of them, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Alive and suspected ones, the own one included: the `N` of every formula.
    pub(crate) fn present(&self) -> usize {
        self.present.len()
    }

    /// The `place`-th of them, in no particular order.
    pub(crate) fn present_at(&self, place: usize) -> Option<&Member> {
        self.get(*self.present.get(place)?)
    }

    /// The only way to write: keeps hash and count true. `change` gets `None` for an unknown store, and leaves what shall be.
    pub(crate) fn update<T>(
        &mut self,
        store: StoreId,
        change: impl FnOnce(&mut Option<Member>) -> T,
    ) -> T {
        let mut slot = self.table.remove(&store);
        let mut account = |slot: &Option<Member>| {
            let Some(member) = slot else { return false };
            self.buckets[bucket(store)] ^= digest(member);
            member.is_present()
        };
        let before = account(&slot);
        let result = change(&mut slot);
        let after = account(&slot);
        if after && !before {
            self.places.insert(store, self.present.len());
            self.present.push(store);
        } else if before && !after {
            self.drop_present(store);
        }
        if slot
            .as_ref()
            .is_some_and(|member| member.state == MemberState::Dead)
        {
            self.dead.insert(store);
        } else if !self.dead.is_empty() {
            self.dead.remove(&store);
        }
        if let Some(member) = slot {
            self.table.insert(store, member);
        }
        result
    }

    /// The dead one after `store`, in a circle.
    pub(crate) fn dead_after(&self, store: StoreId) -> Option<StoreId> {
        let mut after = self.dead.range((Bound::Excluded(store), Bound::Unbounded));
        after.next().or(self.dead.first()).copied()
    }

    fn drop_present(&mut self, store: StoreId) {
        let Some(place) = self.places.remove(&store) else {
            return;
        };
        self.present.swap_remove(place);
        if let Some(&moved) = self.present.get(place) {
            self.places.insert(moved, place);
        }
    }

    pub(crate) fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    pub(crate) fn hash(&self) -> u64 {
        self.buckets.iter().fold(0, |all, part| all ^ part)
    }
}

/// The part of the membership that a store belongs to.
pub(crate) fn bucket(store: StoreId) -> usize {
    (store.get() % BUCKETS as u64) as usize
}

/// What observers must agree on: position, and whether the member is there. A suspicion ends by itself and differs from
/// observer to observer meanwhile, so it counts as alive.
fn digest(member: &Member) -> u64 {
    let position = member.position();
    let standing = match member.state {
        MemberState::Alive | MemberState::Suspect => 0u64,
        MemberState::Dead => 1,
        MemberState::Left => 2,
    };
    let mut bytes = [0; 32];
    for (part, value) in [
        member.store().get(),
        position.generation,
        position.incarnation,
        standing,
    ]
    .into_iter()
    .enumerate()
    {
        bytes[part * 8..part * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }
    xxh3_64(&bytes)
}
