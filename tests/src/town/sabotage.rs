//! What is taken away or put in on purpose, so that it can be shown that it is noticed.
//!
//! Here: [`Sabotage`], and what it makes of steps and of changes. Where it is no more than a word it stands at its place.

use synod::system::{Order, OrderKind, ReplicaAddress, Step, SystemCommand};
use synod_consensus::{GroupId, Members, ReplicaId};

use super::world::{UNNOTICED, World};

/// A safeguard taken away or a bug put in, so that it can be shown that it is noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sabotage {
    /// One replica is a majority.
    MajorityOfOne,
    /// A group takes a learner in that nobody allotted.
    Stranger,
    /// A change leaves one of three voters out.
    EvenVoters,
    /// A change takes a replica in that was retired.
    Revenant,
    /// A replica is retired while its group still has it.
    RetiredEarly,
    /// Files of a retired replica go before its retirement is durable.
    FilesGoAtOnce,
    /// A retired replica goes on.
    RetiredGoesOn,
    /// A change leaves only a voter that is dead, and the group takes it.
    OnlyTheDead,
    /// Every order is given twice.
    OrdersTwice,
    /// Orders go out in heaps.
    OrdersInHeaps,
    /// Checkpoints name no configuration.
    ConfigurationForgotten,
    /// The timers of one group never ring.
    NoTimer,
    /// Files of retired replicas stay.
    FilesStay,
    /// Orders never arrive.
    OrdersLost,
    /// Copies lie on the first of their stores only.
    Lopsided,
    /// What a node says of itself at a later start is not told to the log.
    WordsUnheard,
    /// Plans are made as if there were no zones.
    ZonesForgotten,
    /// Nobody compares what was said with what was heard: a report that is lost is never repeated.
    SumsUnsaid,
    /// A lost replica is buried on what its group said when it went to rest.
    OldWordsTrusted,
    /// Beats go to those only whom a replica's own configuration names.
    ListedUnheard,
}

impl World {
    /// What a sabotage makes of steps.
    pub(super) fn tampered_steps(&self, mut steps: Vec<Step>) -> Vec<Step> {
        match self.sabotage {
            Some(Sabotage::OrdersTwice) => {
                let orders = steps.iter().filter(|step| matches!(step, Step::Order(_)));
                let again: Vec<Step> = orders.cloned().collect();
                steps.extend(again);
            }
            Some(Sabotage::OrdersInHeaps) => {
                if let Some(Step::Order(first)) = steps
                    .iter()
                    .find(|step| matches!(step, Step::Order(_)))
                    .cloned()
                {
                    let more = (1_000..1_030).map(|group| {
                        let group = GroupId::new(group);
                        Step::Order(Order {
                            group,
                            ..first.clone()
                        })
                    });
                    steps.extend(more);
                }
            }
            Some(Sabotage::OrdersLost) => steps.retain(|step| matches!(step, Step::Propose(_))),
            Some(Sabotage::RetiredEarly) => {
                let early = steps.iter().filter_map(|step| self.left_out(step)).next();
                steps.extend(early.map(Step::Propose));
            }
            _ => {}
        }
        steps
    }

    /// The retirement of a replica that a change leaves out.
    fn left_out(&self, step: &Step) -> Option<SystemCommand> {
        let Step::Order(order) = step else {
            return None;
        };
        let OrderKind::Change {
            voters, learners, ..
        } = &order.kind
        else {
            return None;
        };
        let group = order.group;
        let named = self.ledger.groups[&group].configuration.1.members();
        let stays = |id: &ReplicaId| voters.contains(id) || learners.contains(id);
        let replica = *named.iter().find(|id| !stays(id))?;
        Some(SystemCommand::Retire { group, replica })
    }

    /// What a sabotage makes of a change.
    pub(super) fn tampered(
        &self,
        group: GroupId,
        mut voters: Members,
        mut learners: Members,
    ) -> (Members, Members) {
        match self.sabotage {
            Some(Sabotage::Stranger) => {
                let (store, serial) = (77, 7_777_777);
                learners.insert(ReplicaAddress { store, serial }.id());
            }
            Some(Sabotage::EvenVoters) if voters.len() == 3 => {
                let last = voters[2];
                voters.remove(&last);
            }
            Some(Sabotage::Revenant) => {
                if let Some(id) = self.ledger.retired_of(group) {
                    learners.insert(id);
                }
            }
            Some(Sabotage::OnlyTheDead) => {
                let is_dead = |id: &&ReplicaId| {
                    let node = self.nodes.get(&ReplicaAddress::of(**id).store);
                    let since = node.and_then(|node| node.silent_since);
                    since.is_some_and(|since| self.now - since > UNNOTICED)
                };
                if let Some(dead) = voters.iter().copied().find(|id| is_dead(&id)) {
                    voters = [dead].into_iter().collect();
                    learners = Members::new();
                }
            }
            _ => {}
        }
        (voters, learners)
    }
}
