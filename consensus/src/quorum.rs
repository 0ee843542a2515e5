//! How many are enough.
//!
//! Here: majorities, simple and joint, over positions, rounds, times and votes. Pure arithmetic; checked against the naive formula
//! for all sizes 1-7. Source: Raft paper 5.2, 6; H22, H30.

use crate::options::Sabotage;
use crate::{Configuration, ReplicaId};

/// How many of `size` decide.
pub(crate) fn majority(size: usize, sabotage: Option<Sabotage>) -> usize {
    match sabotage {
        Some(Sabotage::MajorityOfOne) => 1,
        _ => size / 2 + 1,
    }
}

/// The greatest of `values` that `needed` of them have reached. Every value is compared with every other (H30: never a scan that
/// trusts an order): halves are small, and so nothing needs to be copied and sorted.
/// `None` when there are fewer than `needed`: an empty half decides nothing (H49).
fn reached_by<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone, needed: usize) -> Option<T> {
    let enough = |value: &T| values.clone().filter(|other| other >= value).count() >= needed;
    values.clone().filter(enough).max()
}

/// A place in a leader's list of peers, or [`MYSELF`].
type Place = u16;

/// The leader, which is none of its peers.
const MYSELF: Place = Place::MAX;

/// Which members make up the two halves, as places in a leader's list of peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Halves {
    incoming: Box<[Place]>,
    outgoing: Box<[Place]>,
}

impl Halves {
    /// Looks every voter up once, so that no message needs to.
    pub(crate) fn new(
        configuration: &Configuration,
        me: ReplicaId,
        place: impl Fn(ReplicaId) -> usize,
    ) -> Self {
        let half = |voters: &[ReplicaId]| {
            let place = |voter: &ReplicaId| match *voter == me {
                true => MYSELF,
                false => { Place::try_from(place(*voter)).ok() }
                    .filter(|place| *place != MYSELF)
                    .expect("a configuration names fewer than 2^16 replicas"),
            };
            voters.iter().map(place).collect()
        };
        Self {
            incoming: half(&configuration.voters),
            outgoing: half(&configuration.outgoing),
        }
    }

    /// The greatest value that a quorum has reached: a majority of the new half and, in a joint configuration, of the old one.
    pub(crate) fn reached<T: Ord + Copy>(
        &self,
        sabotage: Option<Sabotage>,
        mine: T,
        of: impl Fn(usize) -> T,
    ) -> Option<T> {
        let half = |places: &[Place]| {
            let values = places.iter().map(|place| match *place {
                MYSELF => mine,
                place => of(usize::from(place)),
            });
            reached_by(values, majority(places.len(), sabotage))
        };
        let incoming = half(&self.incoming)?;
        if self.outgoing.is_empty() || sabotage == Some(Sabotage::NewHalfDecides) {
            Some(incoming)
        } else {
            Some(incoming.min(half(&self.outgoing)?))
        }
    }
}

impl Halves {
    /// Whether a quorum says yes.
    pub(crate) fn agree(
        &self,
        sabotage: Option<Sabotage>,
        mine: bool,
        of: impl Fn(usize) -> bool,
    ) -> bool {
        let half = |places: &[Place]| {
            let yes = |place: &&Place| match **place {
                MYSELF => mine,
                place => of(usize::from(place)),
            };
            places.iter().filter(yes).count() >= majority(places.len(), sabotage)
        };
        half(&self.incoming) && (self.outgoing.is_empty() || half(&self.outgoing))
    }
}

/// What the votes so far say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Won,
    Lost,
    Open,
}

/// Counts votes under a configuration; votes of others than its voters count nothing.
pub(crate) fn verdict(
    configuration: &Configuration,
    votes: &[(ReplicaId, bool)],
    sabotage: Option<Sabotage>,
) -> Verdict {
    let half = |voters: &[ReplicaId]| {
        let cast = |granted: bool| {
            votes
                .iter()
                .filter(|(voter, vote)| *vote == granted && voters.contains(voter))
                .count()
        };
        let needed = majority(voters.len(), sabotage);
        if cast(true) >= needed {
            Verdict::Won
        } else if cast(false) + needed > voters.len() {
            Verdict::Lost
        } else {
            Verdict::Open
        }
    };
    let incoming = half(&configuration.voters);
    if !configuration.is_joint() || sabotage == Some(Sabotage::NewHalfDecides) {
        return incoming;
    }
    match (incoming, half(&configuration.outgoing)) {
        (Verdict::Won, Verdict::Won) => Verdict::Won,
        (Verdict::Lost, _) | (_, Verdict::Lost) => Verdict::Lost,
        _ => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Members;

    #[test]
    fn majorities_of_one_to_seven() {
        // H22: off by one for even sizes.
        assert_eq!(
            (1..=7).map(|n| majority(n, None)).collect::<Vec<_>>(),
            [1, 2, 2, 3, 3, 4, 4]
        );
        assert_eq!(
            reached_by(core::iter::empty::<u64>(), majority(0, None)),
            None
        );
    }

    /// Two halves of 1-7 and 0-7 voters out of ids 0-9, values for all, votes for some; replica 0 is the leader.
    fn group() -> impl Strategy<Value = (Configuration, Vec<u64>, Vec<Option<bool>>)> {
        let half = |least| {
            proptest::collection::btree_set((0..10_u64).prop_map(ReplicaId::new), least..=7)
                .prop_map(Members::from)
        };
        let votes = proptest::collection::vec(proptest::option::of(any::<bool>()), 10);
        (
            half(1),
            half(0),
            proptest::collection::vec(0..12_u64, 10),
            votes,
        )
            .prop_map(|(voters, outgoing, values, votes)| {
                (
                    Configuration {
                        voters,
                        outgoing,
                        ..Configuration::default()
                    },
                    values,
                    votes,
                )
            })
    }

    fn more_than_half(voters: &[ReplicaId], holds: impl Fn(usize) -> bool) -> bool {
        2 * voters
            .iter()
            .filter(|voter| holds(voter.get() as usize))
            .count()
            > voters.len()
    }

    fn quorum(configuration: &Configuration, holds: impl Fn(usize) -> bool + Copy) -> bool {
        let outgoing =
            configuration.outgoing.is_empty() || more_than_half(&configuration.outgoing, holds);
        more_than_half(&configuration.voters, holds) && outgoing
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_a_quorum_reached_is_what_the_naive_formula_says((configuration, values, _) in group()) {
            // H22, H30: the greatest value v such that more than half of each half has at least v.
            let halves = Halves::new(&configuration, ReplicaId::new(0), |voter| voter.get() as usize);
            let reached = halves.reached(None, values[0], |place| values[place]);
            let naive = (0..12).rev().find(|v| quorum(&configuration, |replica| values[replica] >= *v));
            prop_assert_eq!(reached, naive);
            for v in 0..12 {
                let agree = halves.agree(None, values[0] >= v, |place| values[place] >= v);
                prop_assert_eq!(agree, quorum(&configuration, |replica| values[replica] >= v));
            }
        }

        #[test]
        fn an_election_is_decided_when_the_naive_formula_says_so((configuration, _, votes) in group()) {
            let cast: Vec<_> = (0..10).filter_map(|i| votes[i].map(|vote| (ReplicaId::new(i as u64), vote))).collect();
            let won = quorum(&configuration, |replica| votes[replica] == Some(true));
            let winnable = quorum(&configuration, |replica| votes[replica] != Some(false));
            let naive = if won { Verdict::Won } else if winnable { Verdict::Open } else { Verdict::Lost };
            prop_assert_eq!(verdict(&configuration, &cast, None), naive);
        }
    }
}
