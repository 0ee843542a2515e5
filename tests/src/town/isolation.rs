//! Every node cut off in turn and joined again, under load, without any other fault.
//!
//! Here: [`isolation`]: how soon the others lead all groups without it, that they take commands then, and that its return costs no
//! leadership for longer than that. Not here: storms.
//!
//! Source: HAZARDS S16.

use core::time::Duration;

use rand::Rng;
use synod::system::ReplicaAddress;
use synod_consensus::GroupId;

use super::faults::links_apart;
use super::world::{Event, LED_WITHIN, Scale, World};
use crate::violation::{Violation, broken};

/// How often it is looked whether all groups are led.
const GLANCE: Duration = Duration::from_millis(10);

/// How a node is cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// Nothing passes.
    Both,
    /// It hears the others, and they do not hear it.
    Mute,
    /// They hear it, and it does not hear them.
    Deaf,
}

/// What cutting one node off cost.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How it was cut off.
    pub cut: Cut,
    /// From the cut until every group was led by another node.
    pub led_without: Duration,
    /// Commands that were acknowledged after that, until it was joined again.
    pub acknowledged_without: u64,
    /// The longest time that a group had no leader after the node was joined again, until everything was at rest.
    pub unled_after: Duration,
}

/// Cuts each of this many nodes off in turn, first wholly, then in one direction, then in the other, for so many rounds altogether.
pub fn isolation(
    seed: u64,
    nodes: u64,
    shards: u32,
    rounds: usize,
) -> Result<Vec<Round>, Violation> {
    let scale = Scale {
        nodes: (nodes, nodes),
        shards: (shards, shards),
        ..Scale::SMALL
    };
    // Clients of an even world fall silent when it is calm.
    let mut world = World::of_scale(seed * 2 + 1, scale).quiet();
    world.start_all()?;
    world.rest()?;
    world.push(Duration::ZERO, Event::Client);
    let stores: Vec<u64> = world.nodes.keys().copied().collect();
    let mut history = Vec::new();
    for round in 0..rounds {
        let store = stores[round % stores.len()];
        let cut = [Cut::Both, Cut::Mute, Cut::Deaf][round / stores.len() % 3];
        let mut links = links_apart(&[store].into(), &stores, false);
        links.retain(|(from, _)| match cut {
            Cut::Both => true,
            Cut::Mute => *from == store,
            Cut::Deaf => *from != store,
        });
        world.network.cut(&links, world.now);
        let led_without = world.led_but_by(store)?;
        let acknowledged = world.acknowledged();
        // Long enough, now and then, that others think it dead.
        let apart = world.rng.random_range(1_000..20_000);
        world.run_for(Duration::from_millis(apart))?;
        let acknowledged_without = world.acknowledged() - acknowledged;
        world.network.mend(&links);
        let unled_after = world.longest_unled()?;
        history.push(Round {
            cut,
            led_without,
            acknowledged_without,
            unled_after,
        });
    }
    Ok(history)
}

impl World {
    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.now + time;
        while self.next_at().is_some_and(|at| at <= until) {
            self.once()?;
        }
        self.now = until;
        Ok(())
    }

    /// Up to where the groups have acknowledged commands, summed up.
    fn acknowledged(&self) -> u64 {
        let groups = self.ledger.groups.values();
        groups.map(|past| past.acknowledged.get()).sum()
    }

    /// From now until every group is led by a node other than this one.
    fn led_but_by(&mut self, store: u64) -> Result<Duration, Violation> {
        let began = self.now;
        let groups: Vec<GroupId> = self.founding.groups().collect();
        loop {
            let leads = |group: &GroupId| self.is_led_but_by(*group, store);
            let Some(unled) = groups.iter().find(|group| !leads(group)) else {
                return Ok(self.now - began);
            };
            if self.now - began > LED_WITHIN {
                let detail = format!("{unled} is not led while store {store} is cut off");
                return broken("Led Again", detail);
            }
            self.run_for(GLANCE)?;
        }
    }

    fn is_led_but_by(&self, group: GroupId, store: u64) -> bool {
        let mut leaders = self.leaders_of(group);
        leaders
            .any(|leader| ReplicaAddress::of(leader.key.replica).store != store && !leader.stopped)
    }

    /// The longest time that any group is without a leader from now until everything is at rest.
    fn longest_unled(&mut self) -> Result<Duration, Violation> {
        let groups: Vec<GroupId> = self.founding.groups().collect();
        let mut since = vec![None; groups.len()];
        let mut longest = Duration::ZERO;
        self.calm_at = Some(self.now);
        let judged_from = self.now + Duration::from_secs(3); // nothing has begun before
        while self.now < judged_from || self.unrest().is_some() {
            self.run_for(GLANCE)?;
            for (group, since) in groups.iter().zip(&mut since) {
                if self.leader_of(*group).is_some() {
                    *since = None;
                } else {
                    let since = *since.get_or_insert(self.now);
                    longest = longest.max(self.now - since);
                }
            }
            if self.now > judged_from + LED_WITHIN * 6 {
                let reason = self.unrest().unwrap_or_default();
                return broken("Settles", reason);
            }
        }
        Ok(longest)
    }

    fn once(&mut self) -> Result<(), Violation> {
        let Some(event) = self.next() else {
            return broken("Settles", "nothing happens any more");
        };
        match event {
            // Judged here.
            Event::Judge => Ok(()),
            event => self.happen(event).map(drop),
        }
    }
}
