//! Where each group should live, given the members.
//!
//! Here: [`plan`], a pure and deterministic function from members to goals: replica sets follow the hash ring, leaders
//! are spread evenly over the stores of their replica sets. Called by the system leader when members change.
//! Not here: which step to take next (`reconcile`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use synod_consensus::GroupId;
use synod_membership::{Ring, RingMember, StoreId};

use super::state::SystemState;

/// Where one group should live.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Placement {
    /// Stores that should hold a replica.
    pub stores: Vec<u64>,
    /// Store that should lead; `None` = whoever does.
    pub leader: Option<u64>,
}

/// Voters that a set of `stores` copies should have: the largest odd number in it. Two voters are worse than one (E24).
pub fn voters_for(stores: usize) -> usize {
    if stores % 2 == 1 {
        stores
    } else {
        stores.saturating_sub(1)
    }
}

/// Goals that differ from the state's present ones. Planning again after they were committed gives none.
pub fn plan(state: &SystemState) -> Vec<(GroupId, Placement)> {
    let Some(founding) = &state.founding else {
        return Vec::new();
    };
    let members: Vec<RingMember> = state
        .members
        .iter()
        .map(|(store, member)| RingMember {
            store: StoreId::new(*store),
            weight: member.capacity.max(1),
            zone: member.zone.clone(),
        })
        .collect();
    let ring = Ring::new(founding.sharding.seed, &members);
    let copies = founding.copies as usize;

    let mut goals: BTreeMap<GroupId, Placement> = BTreeMap::new();
    goals.insert(GroupId::ZERO, system_goal(state));
    for group in founding.groups().skip(1) {
        let point = Ring::point(founding.sharding.seed, &group.get().to_le_bytes());
        let stores = ring
            .owners(point, copies)
            .into_iter()
            .map(StoreId::get)
            .collect();
        goals.insert(
            group,
            Placement {
                stores,
                leader: None,
            },
        );
    }
    spread_leaders(state, &mut goals);
    goals.retain(|group, goal| {
        state
            .groups
            .get(group)
            .is_none_or(|entry| entry.placement != *goal)
    });
    goals.into_iter().collect()
}

/// Every member learns the system log; which of them vote is decided from [`system_voters`].
fn system_goal(state: &SystemState) -> Placement {
    Placement {
        stores: state.members.keys().copied().collect(),
        leader: None,
    }
}

/// How many members vote in the system group: 3, and 5 from five members on (DESIGN section 8).
pub fn system_voters(members: usize) -> usize {
    match members {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// Gives each shard a leader among its stores so that no store leads more than its share: in ring order, a store that
/// still has room; one that led before comes first, so that planning twice moves nothing.
fn spread_leaders(state: &SystemState, goals: &mut BTreeMap<GroupId, Placement>) {
    let mut led: BTreeMap<u64, usize> = state.members.keys().map(|store| (*store, 0)).collect();
    let shards = goals.len().saturating_sub(1);
    let quota = shards.div_ceil(led.len().max(1));
    let mut open = Vec::new();
    for (group, goal) in goals
        .iter_mut()
        .filter(|(group, _)| **group != GroupId::ZERO)
    {
        let before = state
            .groups
            .get(group)
            .and_then(|entry| entry.placement.leader);
        match before.filter(|store| goal.stores.contains(store) && led[store] < quota) {
            Some(store) => {
                goal.leader = Some(store);
                *led.get_mut(&store).expect("a member") += 1;
            }
            None => open.push(*group),
        }
    }
    for group in open {
        let goal = goals.get_mut(&group).expect("a planned group");
        let rank = |store: &u64| led.get(store).copied().unwrap_or(usize::MAX);
        let Some(store) = goal.stores.iter().copied().min_by_key(rank) else {
            continue;
        };
        goal.leader = Some(store);
        *led.entry(store).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::state::{Founding, MemberEntry, SystemCommand};
    use crate::wire::{Sharding, encode};
    use bytes::Bytes;

    fn cluster(nodes: u64, shards: u32) -> SystemState {
        let mut state = SystemState::default();
        let founding = Founding {
            cluster: 9,
            sharding: Sharding { seed: 1, shards },
            copies: 3,
            name: "n1".into(),
            key: Bytes::new(),
            others: Vec::new(),
        };
        apply(&mut state, SystemCommand::Found(founding));
        for node in 2..=nodes {
            join(&mut state, node);
        }
        state
    }

    fn join(state: &mut SystemState, node: u64) {
        let name = format!("n{node}");
        let member = MemberEntry {
            name,
            key: Bytes::new(),
            capacity: 1,
            zone: None,
            nonce: node,
        };
        apply(state, SystemCommand::Admit(member));
        let goals = plan(state);
        let epoch = state.epoch;
        apply(state, SystemCommand::Place { epoch, goals });
    }

    fn apply(state: &mut SystemState, command: SystemCommand) {
        let index = state.applied.next();
        state.apply(index, &encode(&command));
    }

    #[test]
    fn planning_twice_moves_nothing() {
        for nodes in 1..=7 {
            let mut state = cluster(nodes, 64);
            let goals = plan(&state);
            let epoch = state.epoch;
            apply(&mut state, SystemCommand::Place { epoch, goals });
            assert_eq!(plan(&state), Vec::new(), "{nodes} nodes");
        }
    }

    #[test]
    fn leaders_are_spread_evenly() {
        // E34: the founder must not lead every group for ever.
        for nodes in 1..=6u64 {
            let state = cluster(nodes, 256);
            let mut led: BTreeMap<u64, u64> = BTreeMap::new();
            for (group, entry) in &state.groups {
                if *group != GroupId::ZERO {
                    let leader = entry.placement.leader.expect("every shard has a leader");
                    assert!(entry.placement.stores.contains(&leader));
                    *led.entry(leader).or_default() += 1;
                }
            }
            let most = led.values().max().copied().unwrap_or(0);
            assert!(most <= (256 / nodes) * 5 / 4 + 1, "{nodes} nodes: {led:?}");
            assert_eq!(led.len() as u64, nodes);
        }
    }

    #[test]
    fn a_joiner_takes_its_share_and_little_else_moves() {
        let before = cluster(3, 256);
        let mut after = before.clone();
        join(&mut after, 4);
        let moved = after
            .groups
            .iter()
            .filter(|(group, entry)| {
                entry
                    .placement
                    .stores
                    .iter()
                    .collect::<std::collections::BTreeSet<_>>()
                    != before.groups[*group].placement.stores.iter().collect()
            })
            .count();
        assert!(
            moved > 100 && moved < 256,
            "{moved} of 256 sets changed; three quarters are expected"
        );
    }

    #[test]
    fn two_stores_have_one_voter() {
        // E24.
        assert_eq!(
            (0..=5).map(voters_for).collect::<Vec<_>>(),
            [0, 1, 1, 3, 3, 5]
        );
    }
}
