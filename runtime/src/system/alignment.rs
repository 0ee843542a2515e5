//! What one store has to do so that it holds just what the system log lists for it.
//!
//! Here: [`Alignment`], from the state and what is there to replicas that begin and end, and [`newest`], which of the replicas that a
//! restart finds may go on. A replica begins only when the log lists it and ends only when the log no longer does (H77, H78, E26).
//! Not here: actors and files (`node::replicas`), when files may go (`retirements`).

use std::collections::BTreeMap;

use synod_consensus::{GroupId, ReplicaId, ReplicaKey};

use super::state::SystemState;

/// What begins and ends on a store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Alignment {
    /// Replicas that had stopped for good and are retired now.
    pub buried: Vec<ReplicaKey>,
    /// Other replicas that are retired now.
    pub retired: Vec<ReplicaKey>,
    /// Replicas to create, empty, after the former ones of their groups have ended.
    pub created: Vec<ReplicaKey>,
}

impl Alignment {
    /// Of `store`, on which these replicas are `hosted`, and these have stopped for good, hosted or not (`lost`).
    pub fn of(
        state: &SystemState,
        store: u64,
        hosted: &BTreeMap<GroupId, ReplicaId>,
        lost: &BTreeMap<GroupId, ReplicaId>,
    ) -> Self {
        let is_retired =
            |(group, replica): &(&GroupId, &ReplicaId)| state.is_retired(**group, **replica);
        let key = |(&group, &replica): (&GroupId, &ReplicaId)| ReplicaKey { group, replica };
        let buried: Vec<_> = lost.iter().filter(is_retired).map(key).collect();
        let retired: Vec<_> = hosted
            .iter()
            .filter(is_retired)
            .map(key)
            .filter(|key| !buried.contains(key))
            .collect();
        let is_free = |group: &GroupId| {
            hosted.get(group).is_none_or(|replica| {
                let (group, replica) = (*group, *replica);
                state.is_retired(group, replica)
            })
        };
        // Never born again, empty, under the id of one that stopped or an older one (E26).
        let is_new = |key: &ReplicaKey| {
            let stopped = lost.get(&key.group);
            stopped.is_none_or(|lost| {
                *lost < key.replica || buried.iter().any(|b| b.group == key.group)
            })
        };
        let created = state
            .replicas_on(store)
            .filter(|(group, _)| is_free(group))
            .map(|(group, replica)| ReplicaKey { group, replica })
            .filter(is_new)
            .collect();
        Self {
            buried,
            retired,
            created,
        }
    }
}

/// Of the replicas that a store's log holds, the newest one of each group. Ids grow, and a store gets a second replica of a group only
/// once its first is retired: the system log lists at most this one, whatever of its end the store may have lost.
pub fn newest(found: impl Iterator<Item = ReplicaKey>) -> BTreeMap<GroupId, ReplicaId> {
    let mut newest = BTreeMap::new();
    for key in found {
        let known = newest.entry(key.group).or_insert(key.replica);
        *known = key.replica.max(*known);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::plan::tests::{apply, cluster};
    use crate::system::{SystemCommand, SystemOutcome};

    const GROUP: GroupId = GroupId::new(1);

    fn on(state: &SystemState, store: u64) -> BTreeMap<GroupId, ReplicaId> {
        state.replicas_on(store).collect()
    }

    #[test]
    fn a_store_creates_what_is_listed_and_ends_only_what_no_longer_is() {
        let mut state = cluster(1, 2);
        let hosted = on(&state, 1);
        assert_eq!(hosted.len(), 3);
        let none = BTreeMap::new();
        assert_eq!(
            Alignment::of(&state, 1, &hosted, &none),
            Alignment::default()
        );
        assert_eq!(Alignment::of(&state, 1, &none, &none).created.len(), 3);

        let group = GROUP;
        let replica = hosted[&group];
        let key = ReplicaKey { group, replica };
        let apart = apply(&mut state, SystemCommand::Retire { group, replica });
        assert_eq!(apart, SystemOutcome::Done);
        let SystemOutcome::Allotted { replica: next } =
            apply(&mut state, SystemCommand::Allot { group, store: 1 })
        else {
            panic!("a member can be allotted a replica")
        };
        let next = ReplicaKey {
            group,
            replica: next,
        };
        let alignment = Alignment::of(&state, 1, &hosted, &none);
        assert_eq!(alignment.retired, [key]);
        assert_eq!(
            alignment.created,
            [next],
            "the former one ends in the same step"
        );

        // An older state than the store's own replicas: it has not heard of them, so they stay (H78).
        let older = cluster(1, 2);
        let ahead = BTreeMap::from([(group, next.replica)]);
        assert_eq!(Alignment::of(&older, 1, &ahead, &none).retired, []);
    }

    #[test]
    fn what_stopped_for_good_is_not_born_again_before_it_is_retired() {
        // E26.
        let mut state = cluster(1, 2);
        let (group, replica) = (GROUP, on(&state, 1)[&GROUP]);
        let key = ReplicaKey { group, replica };
        let mut hosted = on(&state, 1);
        hosted.remove(&group);
        let lost = BTreeMap::from([(group, replica)]);
        assert_eq!(
            Alignment::of(&state, 1, &hosted, &lost),
            Alignment::default()
        );
        apply(&mut state, SystemCommand::Retire { group, replica });
        apply(&mut state, SystemCommand::Allot { group, store: 1 });
        let alignment = Alignment::of(&state, 1, &hosted, &lost);
        assert_eq!(alignment.buried, [key]);
        assert_eq!(alignment.created.len(), 1);
        assert!(alignment.created[0].replica > replica);
    }

    #[test]
    fn of_several_replicas_of_a_group_the_newest_goes_on() {
        let key = |replica| ReplicaKey {
            group: GROUP,
            replica: ReplicaId::new(replica),
        };
        let found = [key(7), key(9), key(8)];
        assert_eq!(
            newest(found.into_iter()),
            BTreeMap::from([(GROUP, ReplicaId::new(9))])
        );
    }
}
