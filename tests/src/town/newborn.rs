//! A node that is away when its first copies are allotted to it, and comes back to groups that rest.
//!
//! Here: [`newborn`], a history of such returns. Not here: storms, in which one world in hundreds meets it.

use core::time::Duration;

use super::Sabotage;
use super::world::{LED_WITHIN, Scale, World};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// Long enough for groups to rest without it.
const AWAY: Duration = Duration::from_secs(12);
/// How often it is looked whether a copy is allotted.
const GLANCE: Duration = Duration::from_millis(1);

/// So many nodes come to a cluster of nine that rests, each ending as soon as the log lists a copy on it, to start again much later.
pub fn newborn(
    seed: u64,
    returns: usize,
    sabotage: Option<Sabotage>,
) -> Result<Coverage, Violation> {
    let scale = Scale {
        nodes: (9, 9),
        shards: (8, 8),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).resting(true).quiet();
    world.alike = true;
    world.sabotage = sabotage;
    world.start_all()?;
    for _ in 0..returns {
        world.rest()?;
        world.run_for(AWAY)?; // until all groups rest
        world.come_and_go()?;
    }
    world.rest()?;
    Ok(world.coverage)
}

impl World {
    fn come_and_go(&mut self) -> Result<(), Violation> {
        let began = self.now;
        self.join();
        let store = loop {
            self.run_for(GLANCE)?;
            let newest = self.nodes.last_key_value().map(|(store, _)| *store);
            let truth = &self.ledger.system;
            match newest.filter(|store| truth.replicas_on(*store).count() > 1) {
                Some(store) => break store,
                None if self.now - began > LED_WITHIN => {
                    return broken("Settles", "nothing is allotted to a node that came");
                }
                None => {}
            }
        };
        self.stop(store)?;
        self.run_for(AWAY)?;
        self.coverage.count("returns");
        self.start(store)
    }
}
