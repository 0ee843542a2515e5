//! How many copies a cluster moves while nodes come and go, beside how many it must.
//!
//! Here: [`movement`], a history of joins and drains without faults, each after the one before has come to rest. Not here: storms.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::Rng;
use synod::system::{SystemCommand, SystemState};
use synod_consensus::GroupId;

use super::calm::quotas;
use super::world::{Event, Scale, World};
use crate::violation::{Violation, broken};

/// What one coming or going moved.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// A node came; else one was drained.
    pub joined: bool,
    /// Copies that were made.
    pub made: u64,
    /// The fewest copies that any plan within the quotas makes.
    pub least: u64,
}

/// Joins and drains of a cluster of 3 to 9 nodes with this many shards, in an order drawn from the seed.
/// Nodes differ in capacity unless they are `alike`.
pub fn movement(seed: u64, shards: u32, steps: usize, alike: bool) -> Result<Vec<Step>, Violation> {
    let scale = Scale {
        nodes: (3, 9),
        shards: (shards, shards),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).quiet();
    world.alike = alike;
    world.start_all()?;
    world.rest()?;
    let mut history = Vec::new();
    for _ in 0..steps {
        let before = world.ledger.system.clone();
        let made = world.ledger.copies_allotted;
        let takers: Vec<u64> = before.takers().collect();
        let joined = takers.len() <= 4 || (takers.len() < 12 && world.rng.random_bool(0.55));
        if joined {
            world.join();
        } else {
            let store = takers[world.rng.random_range(0..takers.len())];
            let Some(leader) = world.system_leader() else {
                return broken(
                    "Led Again",
                    "nobody leads the system group, without a fault",
                );
            };
            let command = SystemCommand::Drain { store, on: true };
            world.wish(leader, "drains", &command)?;
        }
        world.rest()?;
        history.push(Step {
            joined,
            made: world.ledger.copies_allotted - made,
            least: least(&before, &world.ledger.system, shards as usize),
        });
    }
    Ok(history)
}

impl World {
    /// Until everything is at rest, which it is not for a moment after something was begun.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        const BEGINS_WITHIN: Duration = Duration::from_secs(3);
        self.calm_at = Some(self.now);
        self.push(BEGINS_WITHIN, Event::Judge);
        self.go_on().map(drop)
    }
}

/// The fewest copies that any plan within the quotas of `after` makes from where they lie in `before`: those that no store may keep, and
/// those that stores below their quota lack.
fn least(before: &SystemState, after: &SystemState, shards: usize) -> u64 {
    let takers: Vec<u64> = after.takers().collect();
    let copies = 3;
    let weight = |store: &u64| f64::from(after.members[store].capacity);
    let quotas = quotas(&takers, weight, shards, copies);
    let mut held: BTreeMap<u64, usize> = BTreeMap::new();
    let of_shards = before
        .groups
        .iter()
        .filter(|(group, _)| **group != GroupId::ZERO);
    for store in of_shards.flat_map(|(_, entry)| &entry.placement.stores) {
        *held.entry(*store).or_default() += 1;
    }
    let held = |store: &u64| held.get(store).copied().unwrap_or(0);
    let wanted = shards * copies.min(takers.len());
    let stay: usize = { takers.iter() }
        .map(|store| held(store).min((quotas[store] - 1e-6).ceil() as usize))
        .sum();
    let lacking: usize = { takers.iter() }
        .map(|store| ((quotas[store] + 1e-6).floor() as usize).saturating_sub(held(store)))
        .sum();
    wanted.saturating_sub(stay).max(lacking) as u64
}
