//! A replica that stops for good while its group rests, and the one that could do without it is not heard of any more.
//!
//! Here: [`mourning`], a history of such losses. Each is what the question to a group at rest is for: its leader's last word names a
//! majority without the lost replica, and has not been true for long, but nothing that was said since arrived. Storms meet that too
//! seldom. Not here: storms.

use core::time::Duration;

use synod::system::ReplicaAddress;
use synod_consensus::{GroupId, ReplicaId, ReplicaKey};

use super::Sabotage;
use super::world::{Scale, World};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// So long the second replica is away when the first is said to have stopped for good.
const AWAY: Duration = Duration::from_secs(8);
/// Within this time whoever would be buried too early is.
const BURIED_WITHIN: Duration = Duration::from_secs(5);

/// So many losses in a cluster of seven that rests.
pub fn mourning(
    seed: u64,
    losses: usize,
    sabotage: Option<Sabotage>,
) -> Result<Coverage, Violation> {
    let scale = Scale {
        nodes: (7, 7),
        shards: (14, 14),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).resting(true).quiet();
    world.sabotage = sabotage;
    world.start_all()?;
    for _ in 0..losses {
        world.rest()?;
        world.run_for(AWAY)?; // until all groups rest
        world.mourn()?;
    }
    world.rest()?;
    Ok(world.coverage)
}

impl World {
    fn mourn(&mut self) -> Result<(), Violation> {
        let Some(system) = self.system_leader() else {
            return broken("Led Again", "nobody leads the system group, at rest");
        };
        let groups: Vec<GroupId> = self.founding.groups().skip(1).collect();
        let chosen = groups
            .into_iter()
            .find_map(|group| self.three_but(group, system));
        let Some((leader, first, second)) = chosen else {
            return Ok(());
        };
        self.coverage.count("losses");
        let link = [(leader, system)];
        self.network.cut(&link, self.now);
        let away = ReplicaAddress::of(second).store;
        self.stop(away)?;
        let store = ReplicaAddress::of(first.replica).store;
        let node = self.nodes.get_mut(&store).expect("it runs");
        node.disk.damaged.insert(first);
        self.stop(store)?;
        self.run_for(AWAY)?;
        self.start(store)?;
        self.run_for(BURIED_WITHIN)?;
        self.network.mend(&link);
        self.start(away)
    }

    /// The store that leads a group at rest, and two other replicas, none of them on this store; without all three the system group still has
    /// its majority, so that its leader stays.
    fn three_but(&self, group: GroupId, system: u64) -> Option<(u64, ReplicaKey, ReplicaId)> {
        let leader = self.leader_of(group)?;
        let voters = leader.group.status().configuration.voters;
        let is_there = voters
            .iter()
            .any(|id| ReplicaAddress::of(*id).store == system);
        let decides = |id: &&ReplicaId| {
            let on_same = |other: &ReplicaId| {
                ReplicaAddress::of(*other).store == ReplicaAddress::of(**id).store
            };
            !voters.iter().any(on_same)
        };
        let of_system = self.leader_of(GroupId::ZERO)?.group.status().configuration;
        let stays = of_system.voters.iter().filter(decides).count() > of_system.voters.len() / 2;
        let mut others = voters
            .iter()
            .copied()
            .filter(|id| *id != leader.key.replica);
        let (replica, second) = (others.next()?, others.next()?);
        let first = ReplicaKey { group, replica };
        let store = ReplicaAddress::of(leader.key.replica).store;
        (leader.group.is_resting() && !is_there && stays).then_some((store, first, second))
    }
}
