//! Which members are away for so long that others are to hold their copies.
//!
//! Here: [`Watch`], with which the system leader counts how long each member is silent, by its own monotonic clock and only while it
//! looks: a leader that is new, or that stood still itself, has heard nobody be silent. And the effect of its word on the state. A
//! verdict is an entry of the system log; gossip is a hint that a member is there, never the reason why one counts as gone.
//! Not here: placing the copies elsewhere (`plan`), moving them (`reconcile`), removing what is left on a store that comes back
//! (`node::replicas`).
//!
//! Source: DESIGN sections 10 and 11 (a silent node, `replace_after`).

use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use synod_consensus::{Configuration, GroupId, ReplicaId};

use super::command::{SystemCommand, SystemOutcome};
use super::reconcile::has_majority;
use super::state::{GroupEntry, ReplicaAddress, SystemState, refused};

/// A pause between two looks counts as at most this: what happened in a longer one nobody saw.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// An absent member that is heard for so long is back.
const BACK_AFTER: Duration = Duration::from_secs(2);

/// How long members are heard, or not.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Silence after which a member's copies are rebuilt elsewhere; `None`: never.
    replace_after: Option<Duration>,
    looked: Option<Duration>,
    spells: BTreeMap<u64, Spell>,
}

#[derive(Clone, Copy, Debug)]
struct Spell {
    heard: bool,
    lasts: Duration,
}

impl Watch {
    pub(super) fn new(replace_after: Option<Duration>) -> Self {
        Self {
            replace_after,
            ..Self::default()
        }
    }

    /// Looks around: `heard` are the stores that gave a sign of life lately.
    pub(super) fn look(&mut self, now: Duration, state: &SystemState, heard: &BTreeSet<u64>) {
        let before = self.looked.replace(now).unwrap_or(now);
        let pause = now.saturating_sub(before).min(LOOK_MAX);
        self.spells
            .retain(|store, _| state.members.contains_key(store));
        for store in state.members.keys() {
            let heard = heard.contains(store);
            let fresh = Spell {
                heard,
                lasts: Duration::ZERO,
            };
            let spell = self.spells.entry(*store).or_insert(fresh);
            match spell.heard == heard {
                true => spell.lasts += pause,
                false => *spell = fresh,
            }
        }
    }

    /// The next word for the log, if one is due. `configuration` is what a group's leader said lately, if it did.
    ///
    /// A member is declared absent only one at a time, while more members are heard than not (else it is this node that is cut
    /// off), while enough others take its copies, and while every group that has a majority keeps it without this one and those that
    /// are absent already. A group whose majority is silent waits for its return or for an operator, and holds up nobody else.
    pub(super) fn verdict<'a>(
        &self,
        state: &SystemState,
        configuration: impl Fn(GroupId) -> Option<&'a Configuration>,
    ) -> Option<SystemCommand> {
        let epoch = state.epoch;
        let word = |store: u64, on: bool| SystemCommand::Absent { epoch, store, on };
        let is_back = |store: &&u64| {
            let spell = self.spells.get(store);
            spell.is_some_and(|spell| spell.heard && spell.lasts >= BACK_AFTER)
        };
        if let Some(store) = state.absent.iter().find(is_back) {
            return Some(word(*store, false));
        }
        let replace_after = self.replace_after?;
        let silent: Vec<(u64, Duration)> = self
            .spells
            .iter()
            .filter(|(_, spell)| !spell.heard)
            .map(|(store, spell)| (*store, spell.lasts))
            .collect();
        if silent.len() * 2 >= state.members.len() {
            return None;
        }
        let copies = state.founding.as_ref()?.copies as usize;
        let mut due: Vec<(u64, Duration)> = silent
            .into_iter()
            .filter(|(_, lasts)| *lasts >= replace_after)
            .filter(|(store, _)| !state.absent.contains(store) && !state.draining.contains(store))
            .collect();
        due.sort_by_key(|(store, lasts)| (core::cmp::Reverse(*lasts), *store));
        let may_go = |store: u64| {
            let takers = state.takers().filter(|taker| *taker != store).count();
            let stays = |id: &ReplicaId| {
                let of = ReplicaAddress::of(*id).store;
                of != store && !state.absent.contains(&of)
            };
            let is_heard = |id: &ReplicaId| {
                let spell = self.spells.get(&ReplicaAddress::of(*id).store);
                spell.is_some_and(|spell| spell.heard)
            };
            let lives_on = |(group, entry): (&GroupId, &GroupEntry)| {
                let listed = || Configuration::of_voters(entry.replicas.iter().copied());
                let known =
                    configuration(*group).map_or_else(|| Cow::Owned(listed()), Cow::Borrowed);
                !has_majority(&known, is_heard) || has_majority(&known, stays)
            };
            takers >= copies && state.groups.iter().all(lives_on)
        };
        let first = due.into_iter().find(|(store, _)| may_go(*store));
        first.map(|(store, _)| word(store, true))
    }
}

impl SystemState {
    /// Members that take replicas.
    pub fn takers(&self) -> impl Iterator<Item = u64> + '_ {
        let leaves = |store: &u64| self.draining.contains(store) || self.absent.contains(store);
        self.members
            .keys()
            .copied()
            .filter(move |store| !leaves(store))
    }

    /// Has others hold what a member held that is away for long, or, with `on` false, lets it take replicas again. Doing it twice
    /// changes nothing; decided on another placement than this, it is refused, because somebody else may have left meanwhile.
    pub(super) fn absent(&mut self, epoch: u64, store: u64, on: bool) -> SystemOutcome {
        if self.absent.contains(&store) == on {
            return SystemOutcome::Done;
        }
        if epoch != self.epoch {
            return refused("the placement changed meanwhile");
        }
        if !self.members.contains_key(&store) {
            return refused(&format!("store {store} is no member"));
        }
        if on && !self.takers().any(|taker| taker != store) {
            return refused(&format!(
                "store {store} is the last that takes replicas: nobody could take its copies"
            ));
        }
        match on {
            true => self.absent.insert(store),
            false => self.absent.remove(&store),
        };
        self.epoch += 1;
        SystemOutcome::Done
    }
}

#[cfg(test)]
mod tests;
