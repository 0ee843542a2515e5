//! Nodes that stop and come back under load, and how long that keeps a group from taking commands.
//!
//! Here: [`returns`], a history of stops and starts without any other fault. Not here: storms.
//!
//! Source: thesis, 3.10: a leader that hands over takes no commands until its heir holds everything.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::Rng;
use synod_consensus::{GroupId, GroupOptions};

use super::world::{Event, Scale, World};
use crate::violation::Violation;

/// How long groups took no commands because their leaders handed over.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    since: BTreeMap<GroupId, Duration>,
    longest: Duration,
    ended: u64,
}

impl Pauses {
    pub(super) fn begins(&mut self, group: GroupId, now: Duration) {
        self.since.entry(group).or_insert(now);
    }

    /// It takes commands again, here or elsewhere.
    pub(super) fn ends(&mut self, group: GroupId, now: Duration) {
        if let Some(since) = self.since.remove(&group) {
            self.longest = self.longest.max(now.saturating_sub(since));
            self.ended += 1;
        }
    }
}

/// What the return of one node cost.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// Leaderships that were handed over until everything was at rest.
    pub handed_over: u64,
    /// The longest time for which a group took no commands because of it.
    pub longest_pause: Duration,
}

/// Stops each of five nodes in turn for some seconds, for so many rounds altogether, while much is written; whoever comes back is
/// brought up to date by little and little.
pub fn returns(seed: u64, rounds: usize) -> Result<Vec<Return>, Violation> {
    let scale = Scale {
        nodes: (5, 5),
        shards: (16, 16),
        append_every: Duration::from_micros(500),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).quiet();
    let options = GroupOptions {
        append_bytes: 300,
        inflight_appends: 1,
        keep_entries: 4_000,
        ..(*world.options).clone()
    };
    world.options = options.check().expect("these hang together");
    world.start_all()?;
    world.rest()?;
    world.push(Duration::ZERO, Event::Client);
    let stores: Vec<u64> = world.nodes.keys().copied().collect();
    let mut history = Vec::new();
    for round in 0..rounds {
        let store = stores[round % stores.len()];
        let away = Duration::from_millis(world.rng.random_range(2_000..8_000));
        world.stop(store)?;
        world.run_for(away)?;
        world.pauses = Pauses::default();
        world.start(store)?;
        world.rest()?;
        history.push(Return {
            handed_over: world.pauses.ended,
            longest_pause: world.pauses.longest,
        });
    }
    Ok(history)
}
