//! Which other stores a node has to do with because of its groups: beats go there, and are expected from some.
//!
//! Here: [`Ties`], from the [`Circle`] of each group of which there is a replica here. Not here: the beats themselves (`node::beats`),
//! what rests by them (`synod_consensus::claims`).

use std::collections::BTreeSet;

use synod_consensus::{Configuration, GroupId, Members};

use super::state::{ReplicaAddress, SystemState};

/// One group as a node with a replica of it knows it.
#[derive(Clone, Debug, Default)]
pub struct Circle {
    /// The stores that are told when its leader is silent.
    pub listeners: BTreeSet<u64>,
    /// The leader's store.
    pub leader: Option<u64>,
    /// The stores that the system log lists.
    pub listed: BTreeSet<u64>,
}

impl Circle {
    /// The listeners of a group in this configuration. The learners of a shard listen too: others may know already that one of them
    /// votes, and need its vote at once when the leader dies over that change. Those of the system group are all nodes, and stay what
    /// they are.
    pub fn listeners(group: GroupId, configuration: &Configuration) -> BTreeSet<u64> {
        match group {
            GroupId::ZERO => stores_of(&configuration.voters.union(&configuration.outgoing)),
            _ => stores_of(&configuration.members()),
        }
    }

    /// The stores on which the log lists a shard. A replica that was allotted while its node was away, or that missed a change, knows
    /// nothing of those it belongs to; its leader may rest without it until the two nodes hear each other.
    pub fn listed(group: GroupId, state: &SystemState) -> BTreeSet<u64> {
        let shard = (group != GroupId::ZERO).then_some(group);
        let entry = shard.and_then(|group| state.groups.get(&group));
        let ids = entry.into_iter().flat_map(|entry| &entry.replicas);
        ids.map(|id| ReplicaAddress::of(*id).store).collect()
    }
}

fn stores_of(ids: &Members) -> BTreeSet<u64> {
    ids.iter().map(|id| ReplicaAddress::of(*id).store).collect()
}

/// What a node has to do with others because of its groups.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Ties {
    /// Who listens in the groups in which it listens, and who is listed with it: beats go there, for one of the two leads or may lead one
    /// day, and the other says what rests with it.
    pub fellows: BTreeSet<u64>,
    /// Who leads a group in which it listens: beats are expected from there.
    pub leaders: BTreeSet<u64>,
}

impl Ties {
    /// Those of the store `me`.
    pub fn of(me: u64, circles: impl Iterator<Item = Circle>) -> Self {
        let mut ties = Self::default();
        for circle in circles {
            if circle.listeners.contains(&me) {
                ties.leaders.extend(circle.leader);
                ties.fellows.extend(circle.listeners);
            }
            if circle.listed.contains(&me) {
                ties.fellows.extend(circle.listed);
            }
        }
        ties.fellows.remove(&me);
        ties.leaders.remove(&me);
        ties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(listeners: &[u64], leader: Option<u64>) -> Circle {
        Circle {
            listeners: listeners.iter().copied().collect(),
            leader,
            listed: BTreeSet::new(),
        }
    }

    #[test]
    fn beats_go_to_all_who_listen_and_are_expected_from_leaders() {
        // Issue 4: a node keeps connections to those with whom it shares groups, and not to all of a thousand.
        let groups = [
            circle(&[1, 2, 3], Some(2)),
            circle(&[1, 4, 5, 11], None),
            circle(&[1, 6, 7], Some(1)),
            circle(&[8, 9, 10, 1], Some(9)), // a learner here may vote already, for all that the others know
            circle(&[12, 13, 14], Some(12)),
        ];
        let ties = Ties::of(1, groups.into_iter());
        assert_eq!(
            ties.fellows,
            BTreeSet::from([2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
        );
        assert_eq!(ties.leaders, BTreeSet::from([2, 9]));
    }

    #[test]
    fn a_replica_that_knows_of_nobody_has_ties_with_all_who_are_listed() {
        // Node 9 got its first replica of a group while it was away, and the group rested without it. Back again, 9 knew of no tie with
        // the leader's node and never beat there, so nobody woke the leader, and the copy stayed empty until somebody asked for something.
        let newborn = Circle {
            listed: BTreeSet::from([5, 6, 8, 9, 10]),
            ..Circle::default()
        };
        let ties = Ties::of(9, [newborn].into_iter());
        assert_eq!(ties.fellows, BTreeSet::from([5, 6, 8, 10]));
        assert_eq!(ties.leaders, BTreeSet::new(), "it follows nobody yet");
    }
}
