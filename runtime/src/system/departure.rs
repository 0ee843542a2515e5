//! How a member leaves for good: drained first, then removed.
//!
//! Here: the two commands' effects on the state. A draining member takes nothing new and gives up what others can take; a removed
//! one is none of the cluster's any more, and its store id is used up. Not here: moving what it holds (`reconcile`), how the
//! removed node hears of it (`node`).

use std::collections::{BTreeMap, BTreeSet};

use synod_consensus::GroupId;

use super::command::SystemOutcome;
use super::state::{ReplicaAddress, SystemState, refused};

impl SystemState {
    /// Lets a member give up what it holds, or take replicas again. Doing it twice changes nothing.
    pub(super) fn drain(&mut self, store: u64, on: bool) -> SystemOutcome {
        let Some(member) = self.members.get(&store) else {
            return refused(&format!("store {store} is no member"));
        };
        if on && !self.draining.contains(&store) {
            if !self.takers().any(|taker| taker != store) {
                return refused(&format!(
                    "`{}` is the last node that takes replicas: add another one first",
                    member.name
                ));
            }
            self.draining.insert(store);
            self.epoch += 1;
        } else if !on && self.draining.remove(&store) {
            self.epoch += 1;
        }
        SystemOutcome::Done
    }

    /// Takes a drained member out, for ever. Doing it twice changes nothing.
    pub(super) fn remove(&mut self, store: u64) -> SystemOutcome {
        let Some(member) = self.members.get(&store) else {
            return match self.removed.contains_key(&store) {
                true => SystemOutcome::Done,
                false => refused(&format!("store {store} is no member")),
            };
        };
        let name = member.name.clone();
        if !self.draining.contains(&store) {
            return refused(&format!("`{name}` takes replicas: drain it first"));
        }
        let holds = self.shards_on(store);
        if holds > 0 {
            return refused(&format!(
                "`{name}` still holds {holds} shards: wait until it is drained; if it never is, too few other nodes can take them"
            ));
        }
        self.members.remove(&store);
        self.draining.remove(&store);
        self.absent.remove(&store);
        self.removed.insert(store, name);
        self.epoch += 1;
        SystemOutcome::Done
    }

    /// After members were given up: when nobody who takes replicas is left, all do again, for there is nobody else.
    pub(super) fn leave_somebody_who_takes(&mut self) {
        self.draining
            .retain(|store| self.members.contains_key(store));
        self.absent.retain(|store| self.members.contains_key(store));
        if self.takers().next().is_none() {
            self.draining.clear();
            self.absent.clear();
        }
    }

    /// How many shards have a replica on a store, or may still have one: until it is retired, a replica counts.
    pub fn shards_on(&self, store: u64) -> usize {
        self.shards_by_store()
            .get(&store)
            .map_or(0, |shards| *shards as usize)
    }

    /// Shards with a replica on each store, or that may still have one.
    pub fn shards_by_store(&self) -> BTreeMap<u64, u32> {
        let mut shards = BTreeMap::new();
        for (_, entry) in self
            .groups
            .iter()
            .filter(|(group, _)| **group != GroupId::ZERO)
        {
            let stores: BTreeSet<u64> = entry
                .replicas
                .iter()
                .map(|id| ReplicaAddress::of(*id).store)
                .collect();
            for store in stores {
                *shards.entry(store).or_default() += 1;
            }
        }
        shards
    }

    /// What people call a member; who is none has only a number.
    pub fn name_of(&self, store: u64) -> String {
        match self.members.get(&store) {
            Some(member) => member.name.clone(),
            None => format!("store {store}"),
        }
    }

    /// The store of the member of that name.
    pub fn store_named(&self, name: &str) -> Option<u64> {
        let known = self.members.iter().find(|(_, member)| member.name == name);
        known.map(|(store, _)| *store)
    }
}
