//! Placements that an operator wishes for.
//!
//! Here: [`move_replica`] and [`rebalance`], pure: from the system state and a wish to new goals, or to one sentence why not. A wish is
//! no rule that the planner would have to remember: its goals are a placement that the planner would leave as it is. So a move stays
//! until something else moves that shard, and where it gives a node more or less than its share, another shard makes up for it at once.
//! Not here: who may wish (`node`), carrying it out (`reconcile`).

use std::collections::BTreeSet;

use synod_consensus::GroupId;
use synod_membership::StoreId;
use synod_membership::placement::{Home, Plan};

use super::plan::{Ground, Placement};
use super::state::SystemState;

/// New goals, for [`SystemCommand::Place`](super::SystemCommand::Place) on the epoch of the state that they were made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Goals {
    /// Groups whose goal changes; empty when all is so already.
    pub goals: Vec<(GroupId, Placement)>,
    /// What that means.
    pub changes: Vec<PlacementChange>,
}

/// One copy goes from one store to another, or a group's preferred leader changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlacementChange {
    /// A replica moves; without `from` it is one more copy, without `to` one less.
    Replica {
        /// Of which group.
        group: GroupId,
        /// Who gives it up.
        from: Option<u64>,
        /// Who gets it.
        to: Option<u64>,
    },
    /// Another store should lead.
    Leader {
        /// Which group.
        group: GroupId,
        /// Who should.
        to: u64,
    },
}

/// Moves the copy of `group` on store `from` to store `to`. The answer is one sentence when that cannot be, or would not last.
pub fn move_replica(
    state: &SystemState,
    group: GroupId,
    from: u64,
    to: u64,
) -> Result<Goals, String> {
    let founding = state
        .founding
        .as_ref()
        .ok_or("the cluster is not founded yet")?;
    let mut ground = Ground::of(state, founding);
    let Some(place) = ground.groups.iter().position(|known| *known == group) else {
        let last = founding.sharding.shards.saturating_sub(1);
        return Err(format!("there is no such shard: they are 0 to {last}"));
    };
    let shard = group.get() - 1;
    let name = |store: u64| state.name_of(store);
    let home = &mut ground.shards[place].home;
    let (gives, takes) = (StoreId::new(from), StoreId::new(to));
    let (holds, has) = (home.stores.contains(&gives), home.stores.contains(&takes));
    if from != to && has && !holds {
        return Ok(Goals::default()); // the same wish again
    }
    if !holds {
        let holders: Vec<String> = home.stores.iter().map(|store| name(store.get())).collect();
        return Err(format!(
            "`{}` is to hold no copy of shard {shard}: {} are",
            name(from),
            holders.join(", ")
        ));
    }
    if has {
        return Err(format!(
            "`{}` holds a copy of shard {shard} already",
            name(to)
        ));
    }
    if state.draining.contains(&to) {
        return Err(format!(
            "`{0}` drains and takes nothing: `synod drain {0} --undo` first",
            name(to)
        ));
    }
    if state.absent.contains(&to) {
        return Err(format!("`{}` is absent: start it first", name(to)));
    }
    let leads = home.leader == Some(gives);
    home.stores
        .iter_mut()
        .filter(|store| **store == gives)
        .for_each(|store| *store = takes);
    if leads {
        home.leader = Some(takes);
    }
    let granted = |home: &Home| home.stores.contains(&takes) && !home.stores.contains(&gives);
    let planned = ground.plan_around(Some(place as u32));
    if !granted(&planned.homes[place]) {
        return Err(format!(
            "the zones do not allow shard {shard} on `{}` instead of `{}`: its copies lie in as many zones as there are",
            name(to),
            name(from)
        ));
    }
    for (shard, home) in ground.shards.iter_mut().zip(&planned.homes) {
        shard.home = home.clone();
    }
    if !granted(&ground.plan().homes[place]) {
        return Err(format!(
            "it would be moved back at once: `{}` would hold more or `{}` less than its share, and no other shard can make up for it",
            name(to),
            name(from)
        ));
    }
    Ok(Goals::of(state, &ground, planned))
}

/// What the planner would change now; `afresh`, what it would change if nothing lay anywhere yet: then every move by hand and every
/// trace of nodes that came and went is given up.
pub fn rebalance(state: &SystemState, afresh: bool) -> Result<Goals, String> {
    let founding = state
        .founding
        .as_ref()
        .ok_or("the cluster is not founded yet")?;
    let mut ground = Ground::of(state, founding);
    if afresh {
        if state.takers().next().is_none() {
            return Err("no node takes replicas".to_owned());
        }
        for shard in &mut ground.shards {
            shard.home = Home::default();
        }
    }
    let planned = ground.plan();
    Ok(Goals::of(state, &ground, planned))
}

impl Goals {
    fn of(state: &SystemState, ground: &Ground, planned: Plan) -> Self {
        let mut all = Self::default();
        for (group, goal) in ground.goals(planned) {
            let before = state.groups.get(&group).map(|entry| &entry.placement);
            if before == Some(&goal) {
                continue;
            }
            let of = |placement: Option<&Placement>| -> BTreeSet<u64> {
                let stores = placement.into_iter().flat_map(|known| &known.stores);
                stores.copied().collect()
            };
            let (old, new) = (of(before), of(Some(&goal)));
            let mut given = old.difference(&new).copied();
            let mut taken = new.difference(&old).copied();
            loop {
                let (from, to) = (given.next(), taken.next());
                if from.is_none() && to.is_none() {
                    break;
                }
                all.changes
                    .push(PlacementChange::Replica { group, from, to });
            }
            if let Some(to) = goal.leader
                && before.and_then(|before| before.leader) != Some(to)
            {
                all.changes.push(PlacementChange::Leader { group, to });
            }
            all.goals.push((group, goal));
        }
        all
    }
}

#[cfg(test)]
mod tests;
