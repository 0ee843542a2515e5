//! Orders that come too late.
//!
//! An order may stand in a queue while its sender is deposed, the goal changes, and another order takes its place. Most late ones find
//! another configuration than the one that they expect. One that brings a new copy in may find it as it was: the copy's replica, no
//! longer wanted and named nowhere, may be retired meanwhile, and must not come in after that.
//!
//! Here: [`Stamp`], which every order carries; [`Fence`], by which a group's leader refuses what is older than what it has seen;
//! [`Fences`], by which the system leader knows that nothing can bring a replica in any more that it is about to retire. Not here: what
//! is ordered (`reconcile`), how it travels (`node`).
//!
//! Source: fencing tokens; HAZARDS H77, H78.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use synod_consensus::{Configuration, GroupId, LogIndex, Members, ReplicaId, Term};

use super::level::Level;
use super::reconcile::{Order, OrderKind};
use super::report::GroupReport;
use super::state::SystemState;

/// Builds from this level on stamp orders and refuse late ones.
pub(super) const FENCED: Level = Level::new(3);

/// Who gave an order, and on which placement. Of two orders the one with the greater stamp was given later.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Stamp {
    /// Term of the system leader that gave it; 0: a build that does not say.
    pub term: u64,
    /// Epoch of the placement that it was computed on.
    pub epoch: u64,
}

/// The greatest stamp that a group's leader has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fence(Stamp);

impl Order {
    /// Whether it would bring a replica into this configuration that `state` knows as retired: one must not come in any more, whoever
    /// ordered it. Asked where it is carried out; that node's copy of the log may know.
    pub fn brings_retired(&self, state: &SystemState, configuration: &Configuration) -> bool {
        let OrderKind::Change {
            voters, learners, ..
        } = &self.kind
        else {
            return false;
        };
        let present = configuration.members();
        let mut named = voters.iter().chain(learners);
        named.any(|id| !present.contains(id) && state.is_retired(self.group, *id))
    }
}

impl Fence {
    /// What it has seen, for reports.
    pub const fn stamp(self) -> Stamp {
        self.0
    }

    /// Whether `replica`, which leads its group in `term`, carries this order out: it was given to it in this term, and none that was
    /// given later was seen.
    pub fn accept(&mut self, order: &Order, replica: ReplicaId, term: Term) -> bool {
        let mine = order.leader == replica && (order.term == term || order.term == Term::default());
        let late = order.stamp.term != 0 && order.stamp < self.0;
        if mine && !late {
            self.0 = self.0.max(order.stamp);
        }
        mine && !late
    }
}

/// What the system leader remembers of its orders, in one term.
#[derive(Debug, Default)]
pub(super) struct Fences {
    term: u64,
    /// The last change of each group that was ordered.
    named: BTreeMap<GroupId, Named>,
}

/// What was ordered of one configuration of a group; once it has another one, none of that can happen any more.
#[derive(Debug)]
struct Named {
    expected: LogIndex,
    /// Epoch of the last placement on which it was ordered.
    epoch: u64,
    /// Whom the orders on that placement named.
    names: Members,
}

impl Fences {
    /// Who leads in another term than before has no memory of what it ordered then.
    pub(super) fn lead(&mut self, term: Term) {
        if self.term != term.get() {
            *self = Self {
                term: term.get(),
                ..Self::default()
            };
        }
    }

    const fn stamp(&self, epoch: u64) -> Stamp {
        Stamp {
            term: self.term,
            epoch,
        }
    }

    /// Stamps an order that is given now, on the placement of `epoch`, and remembers whom it names.
    pub(super) fn give(&mut self, order: Order, epoch: u64) -> Order {
        let stamp = self.stamp(epoch);
        let order = Order { stamp, ..order };
        self.note(&order);
        order
    }

    fn note(&mut self, order: &Order) {
        let OrderKind::Change {
            expected,
            voters,
            learners,
        } = &order.kind
        else {
            return;
        };
        let (expected, epoch) = (*expected, order.stamp.epoch);
        let mut names = voters.union(learners);
        if let Some(known) = self.named.get(&order.group)
            && (known.expected, known.epoch) == (expected, epoch)
        {
            names = names.union(&known.names);
        }
        let named = Named {
            expected,
            epoch,
            names,
        };
        self.named.insert(order.group, named);
    }

    /// Whether no order on its way to the group's leader, which reported this, can bring `replica` in any more. Not so: a
    /// [`OrderKind::Fence`] helps.
    pub(super) fn shut_out(&self, report: &GroupReport, replica: ReplicaId) -> bool {
        let named = self.named.get(&report.group);
        if named.is_some_and(|named| named.expected > report.configuration_index) {
            return false; // a report of before that order
        }
        let named = named.filter(|named| named.expected == report.configuration_index);
        let epoch = match named {
            // It left the goal since: the placement has a later epoch.
            Some(named) if named.names.contains(&replica) => named.epoch + 1,
            Some(named) => named.epoch,
            None => 0,
        };
        // Former leaders of the system group gave theirs in lower terms.
        report.fence >= self.stamp(epoch)
    }
}

#[cfg(test)]
mod tests;
