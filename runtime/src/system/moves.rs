//! What moved, and what became of it.
//!
//! Here: [`Moves`], a list for people. The system leader looks at goals and reports, and notes of every group whose copies are not where
//! they belong when that began, when the new copies had caught up, and how it ended. It decides nothing. It begins anew with every system
//! leader: a move under way is then noted as begun, and those that ended are forgotten.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use synod_consensus::{GroupId, ReplicaId};

use super::reconcile::caught_up;
use super::report::GroupReport;
use super::state::{GroupEntry, ReplicaAddress, SystemState};

/// Ended moves that are remembered.
const ENDED_MAX: usize = 256;

/// Copies of one group on their way.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Which group.
    pub group: GroupId,
    /// Stores that give a copy up.
    pub from: BTreeSet<u64>,
    /// Stores that get one.
    pub to: BTreeSet<u64>,
    /// When it was first seen, by the system leader's clock.
    pub begun: Duration,
    /// When the new copies were first seen to have caught up.
    pub caught_up: Option<Duration>,
    /// When and how it ended.
    pub ended: Option<(Duration, MoveEnd)>,
}

/// How a move ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MoveEnd {
    /// The copies are where they belong.
    Done,
    /// They no longer belong there, and this is why, as a sentence.
    GivenUp(String),
}

/// Moves under way and moves that ended lately.
#[derive(Debug, Default)]
pub struct Moves {
    open: BTreeMap<GroupId, Move>,
    ended: VecDeque<Move>,
}

impl Moves {
    /// Looks at every group that a leader reported lately. Returns each move that has just begun, caught up or ended.
    pub(super) fn look<'a>(
        &mut self,
        now: Duration,
        state: &SystemState,
        report: impl Fn(GroupId) -> Option<&'a GroupReport>,
    ) -> Vec<Move> {
        let mut news = Vec::new();
        for (group, entry) in &state.groups {
            let Some(report) = report(*group) else {
                continue;
            };
            if !self.open.contains_key(group) && is_home(entry, report) {
                continue;
            }
            let goal: BTreeSet<u64> = entry.placement.stores.iter().copied().collect();
            let sight = Sight::of(entry, report);
            if let Some(mut known) = self.open.remove(group) {
                if let Some(reason) = given_up(&known, &goal, state) {
                    known.ended = Some((now, MoveEnd::GivenUp(reason)));
                } else {
                    let fresh = known.caught_up.is_none() && known.to.is_subset(&sight.caught_up);
                    if fresh {
                        known.caught_up = Some(now);
                        news.push(known.clone());
                    }
                    if sight.settled && sight.present == goal && known.caught_up.is_some() {
                        known.ended = Some((now, MoveEnd::Done));
                    }
                }
                if known.ended.is_none() {
                    self.open.insert(*group, known);
                    continue;
                }
                news.push(known.clone());
                self.ended.push_back(known);
                if self.ended.len() > ENDED_MAX {
                    self.ended.pop_front();
                }
            }
            if sight.present == goal {
                continue;
            }
            let begun = Move {
                group: *group,
                from: sight.present.difference(&goal).copied().collect(),
                to: goal.difference(&sight.present).copied().collect(),
                begun: now,
                caught_up: None,
                ended: None,
            };
            news.push(begun.clone());
            self.open.insert(*group, begun);
        }
        news
    }

    /// All that is known: first those that ended, oldest first, then those under way.
    pub fn all(&self) -> impl Iterator<Item = &Move> {
        self.ended.iter().chain(self.open.values())
    }
}

/// Whether a group's copies are just where they belong: nearly always, so it is found without a set.
pub(super) fn is_home(entry: &GroupEntry, report: &GroupReport) -> bool {
    let configuration = &report.configuration;
    let (voters, learners) = (&configuration.voters, &configuration.learners);
    let goal = &entry.placement.stores;
    let belongs = |id: &ReplicaId| goal.contains(&ReplicaAddress::of(*id).store);
    configuration.outgoing.is_empty()
        && configuration.learners_next.is_empty()
        && voters.len() + learners.len() == goal.len()
        && voters.iter().chain(learners).all(belongs)
}

/// A group as its leader reports it, by stores.
struct Sight {
    /// Stores with a copy, voting or not.
    present: BTreeSet<u64>,
    /// Those whose copy has caught up.
    caught_up: BTreeSet<u64>,
    /// No change of the configuration is under way, and nothing is left of former copies.
    settled: bool,
}

impl Sight {
    fn of(entry: &GroupEntry, report: &GroupReport) -> Self {
        let configuration = &report.configuration;
        let voters = configuration.voters.union(&configuration.outgoing);
        let learners = configuration.learners.union(&configuration.learners_next);
        let all = voters.union(&learners);
        let stores = |ids: &mut dyn Iterator<Item = &ReplicaId>| -> BTreeSet<u64> {
            ids.map(|id| ReplicaAddress::of(*id).store).collect()
        };
        Self {
            present: stores(&mut all.iter()),
            caught_up: stores(&mut all.iter().filter(|id| caught_up(**id, report))),
            settled: report.configuration_committed
                && configuration.outgoing.is_empty()
                && configuration.learners_next.is_empty()
                && entry.replicas.iter().all(|id| all.contains(id)),
        }
    }
}

/// Why a move has no goal any more.
fn given_up(known: &Move, goal: &BTreeSet<u64>, state: &SystemState) -> Option<String> {
    if known.to.is_subset(goal) && known.from.is_disjoint(goal) {
        return None;
    }
    let first = known.to.iter().find(|store| !goal.contains(store));
    let why = first.and_then(|store| match state.members.get(store) {
        None => Some(format!("store {store} is no member any more")),
        Some(member) if state.draining.contains(store) => Some(format!("`{}` drains", member.name)),
        Some(member) if state.absent.contains(store) => {
            Some(format!("`{}` is absent", member.name))
        }
        Some(_) => None,
    });
    Some(why.unwrap_or_else(|| "a newer placement wants it otherwise".to_owned()))
}

#[cfg(test)]
mod tests;
