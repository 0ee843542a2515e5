//! What groups at rest said once, and nobody heard.
//!
//! Here: [`unheard`], a history of leaderships that move while no report arrives. Not here: storms, in which some frames are lost, and
//! something is said again for other reasons before anybody waits for it.

use core::time::Duration;

use super::Sabotage;
use super::world::{Scale, World};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// Long enough for groups to get other leaders and to rest.
const AWAY: Duration = Duration::from_secs(8);

/// Stops and starts nodes of a cluster of five that rests, so often, while nothing that is said to the system leader arrives.
pub fn unheard(
    seed: u64,
    rounds: usize,
    sabotage: Option<Sabotage>,
) -> Result<Coverage, Violation> {
    let scale = Scale {
        nodes: (5, 5),
        shards: (12, 12),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).resting(true).quiet();
    world.sabotage = sabotage;
    world.start_all()?;
    for _ in 0..rounds {
        world.rest()?;
        world.run_for(AWAY)?; // until all groups rest
        let Some(system) = world.system_leader() else {
            return broken("Led Again", "nobody leads the system group, at rest");
        };
        let others: Vec<u64> = { world.nodes.keys().copied() }
            .filter(|store| *store != system)
            .collect();
        let store = others[world.moments() as usize % others.len()];
        world.network.frames_lost = 1.0;
        world.stop(store)?;
        world.run_for(AWAY)?;
        world.start(store)?;
        world.run_for(AWAY)?;
        world.network.frames_lost = 0.0;
    }
    world.rest()?;
    Ok(world.coverage)
}
