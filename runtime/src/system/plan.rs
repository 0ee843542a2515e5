//! Where each group should live, given the members.
//!
//! Here: [`plan`], from the system group's state to goals that differ from it. How shards and their leaders are spread is
//! `synod_membership::placement`'s business. Called by the system leader when members change.
//! Not here: which step to take next (`reconcile`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use synod_consensus::GroupId;
use synod_membership::placement::{self, Home, Plan, Shard, Site};
use synod_membership::{Ring, StoreId};

use super::state::{Founding, SystemState};

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
    let ground = Ground::of(state, founding);
    let planned = ground.plan();
    let of_shards = ground.goals(planned);
    core::iter::once((GroupId::ZERO, system_goal(state)))
        .chain(of_shards)
        .filter(|(group, goal)| {
            let present = state.groups.get(group);
            present.is_none_or(|entry| entry.placement != *goal)
        })
        .collect()
}

/// Why the placement is not as wished, in sentences, while a member leaves, is absent or has a zone.
pub fn shortfalls(state: &SystemState) -> Vec<String> {
    let zoned = || state.members.values().any(|member| member.zone.is_some());
    let leaving = !state.draining.is_empty() || !state.absent.is_empty();
    match &state.founding {
        Some(founding) if leaving || zoned() => {
            let shards = founding.sharding.shards as usize;
            let known = placement::shortfalls(founding.copies as usize, &sites(state), shards);
            known.iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    }
}

/// What a plan is made from: the groups of shards with where they should live now, and who may hold them.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    seed: u64,
    copies: usize,
    pub(super) groups: Vec<GroupId>,
    sites: Vec<Site>,
    pub(super) shards: Vec<Shard>,
}

impl Ground {
    pub(super) fn of(state: &SystemState, founding: &Founding) -> Self {
        let seed = founding.sharding.seed;
        let groups: Vec<GroupId> = founding.groups().skip(1).collect();
        let shards = groups
            .iter()
            .map(|group| Shard {
                point: Ring::point(seed, &group.get().to_le_bytes()),
                home: state
                    .groups
                    .get(group)
                    .map_or_else(Home::default, |entry| home_of(&entry.placement)),
            })
            .collect();
        Self {
            seed,
            copies: founding.copies as usize,
            groups,
            sites: sites(state),
            shards,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan_around(None)
    }

    /// A plan in which other shards make up for where the one at this place is.
    pub(super) fn plan_around(&self, kept: Option<u32>) -> Plan {
        placement::plan_around(self.seed, self.copies, &self.sites, &self.shards, kept)
    }

    /// The plan as goals, all of them.
    pub(super) fn goals(&self, plan: Plan) -> impl Iterator<Item = (GroupId, Placement)> + use<> {
        let groups = self.groups.clone().into_iter();
        groups.zip(plan.homes).map(|(group, home)| {
            let stores = home.stores.into_iter().map(StoreId::get).collect();
            let leader = home.leader.map(StoreId::get);
            (group, Placement { stores, leader })
        })
    }
}

fn sites(state: &SystemState) -> Vec<Site> {
    let takers: BTreeSet<u64> = state.takers().collect();
    state
        .members
        .iter()
        .map(|(store, member)| Site {
            store: StoreId::new(*store),
            weight: member.capacity.max(1),
            zone: member.zone.clone(),
            takes: takers.contains(store),
        })
        .collect()
}

fn home_of(placement: &Placement) -> Home {
    Home {
        stores: placement.stores.iter().copied().map(StoreId::new).collect(),
        leader: placement.leader.map(StoreId::new),
    }
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

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::system::command::{SystemCommand, SystemOutcome};
    use crate::system::level::Level;
    use crate::system::state::MemberEntry;
    use crate::wire::Sharding;
    use bytes::Bytes;

    pub(in crate::system) fn cluster(nodes: u64, shards: u32) -> SystemState {
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
            level: Level::FIRST,
            described: 0,
        };
        apply(state, SystemCommand::Admit(member));
        let goals = plan(state);
        let epoch = state.epoch;
        apply(state, SystemCommand::Place { epoch, goals });
    }

    pub(in crate::system) fn apply(
        state: &mut SystemState,
        command: SystemCommand,
    ) -> SystemOutcome {
        let index = state.applied.next();
        state.take(index, command)
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
            assert_eq!(most, 256_u64.div_ceil(nodes), "{nodes} nodes: {led:?}");
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
            .filter(|(group, _)| **group != GroupId::ZERO)
            .filter(|(group, entry)| {
                let set = |stores: &[u64]| stores.iter().copied().collect::<BTreeSet<_>>();
                set(&entry.placement.stores) != set(&before.groups[*group].placement.stores)
            })
            .count();
        assert_eq!(moved, 192, "a quarter of 256 x 3");
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
