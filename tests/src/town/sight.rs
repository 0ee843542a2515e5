//! What failure detectors see, and how many copies are on their way.
//!
//! Here: this part of [`World`]. Not here: the wires (`network`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use synod::system::{ReplicaAddress, Said};

use super::world::{Event, World};
use crate::violation::Violation;

/// How often failure detectors look.
const SIGHT_EVERY: Duration = Duration::from_millis(250);

impl World {
    /// Everybody hears of those whom it reaches over whatever ways there are.
    pub(super) fn sight(&mut self) -> Result<(), Violation> {
        let now = self.now;
        self.push(SIGHT_EVERY, Event::Sight);
        self.count_moves();
        let running: Vec<u64> = { self.nodes.values() }
            .filter(|node| node.runs(now))
            .map(|node| node.store)
            .collect();
        for circle in self.network.circles(&running) {
            let says_goodbye = |store: &u64| {
                let process = self.nodes[store].process.as_ref();
                process.is_some_and(|process| process.stopping.is_some())
            };
            let leaving: BTreeSet<u64> = circle.iter().copied().filter(says_goodbye).collect();
            let removed = |store: &u64| {
                self.ledger.system.is_given_up(*store)
                    && circle.iter().any(|other| {
                        let process = self.nodes[other].process.as_ref();
                        process.is_some_and(|process| process.system.is_given_up(*store))
                    })
            };
            let removed: Vec<u64> = circle.iter().copied().filter(removed).collect();
            let says = |store: &u64| {
                let node = &self.nodes[store];
                let (generation, description) = (node.life, node.description.clone());
                let said = Said {
                    generation,
                    description,
                };
                (*store, said)
            };
            let said: Vec<(u64, Said)> = circle.iter().map(says).collect();
            for store in &circle {
                let process = self
                    .nodes
                    .get_mut(store)
                    .and_then(|node| node.process.as_mut());
                let Some(process) = process else { continue };
                for (other, said) in &said {
                    let known = process.said.get(other);
                    if known.is_none_or(|known| known.generation != said.generation) {
                        process.said.insert(*other, said.clone());
                    }
                }
                for other in &circle {
                    if leaving.contains(other) {
                        process.heard.remove(other);
                    } else {
                        process.heard.insert(*other, now);
                    }
                }
                if removed.contains(store) {
                    // Whoever still answers it says so.
                    process.failed = Some("others say that it was removed".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Copies of shards on their way, in all and to one store.
    fn count_moves(&mut self) {
        let mut to: BTreeMap<u64, u64> = BTreeMap::new();
        for (group, past) in self.ledger.groups.iter().skip(1) {
            let Some(entry) = self.ledger.system.groups.get(group) else {
                continue;
            };
            for id in &past.configuration.1.learners {
                let store = ReplicaAddress::of(*id).store;
                let node = self.nodes.get(&store);
                let lives = node.is_some_and(|node| node.runs(self.now));
                if lives && entry.placement.stores.len() == 3 {
                    *to.entry(store).or_default() += 1;
                }
            }
        }
        self.coverage
            .most("most_copies_under_way", to.values().sum());
        let most = to.values().max().copied().unwrap_or(0);
        self.coverage
            .most("most_copies_under_way_to_one_store", most);
    }
}
