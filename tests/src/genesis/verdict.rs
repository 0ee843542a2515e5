//! Whether a calm world has come to rest: everybody is in one cluster, or says truly why not.

use std::collections::BTreeSet;

use synod_consensus::genesis::{Electorate, Genesis, Obstacle};

use super::world::{Seed, World};
use crate::violation::{Violation, broken};

impl World {
    /// `Ok` once everybody is in a cluster or names an obstacle that is really there. Asked again until the time is up.
    pub(super) fn verdict(&self) -> Result<(), Violation> {
        let mut clusters = BTreeSet::new();
        for seed in &self.seeds {
            if let Some(cluster) = seed.disk.holds {
                clusters.insert(cluster);
                continue;
            }
            let genesis = seed.genesis.as_ref();
            let Some(obstacle) = genesis.and_then(Genesis::obstacle) else {
                let waits_for = genesis.map(Genesis::unheard);
                let disks: Vec<_> = self.seeds.iter().map(|seed| &seed.disk).collect();
                let detail = format!(
                    "{} is in no cluster and does not say why; it waits for {waits_for:?}; disks: {disks:#?}",
                    seed.name
                );
                return broken("Liveness", detail);
            };
            if self.agrees() {
                return broken("Exactly One", format!("{}: {obstacle:?}", seed.name));
            }
            if !self.is_true(seed, obstacle) {
                return broken("Liveness", format!("{}: {obstacle:?}", seed.name));
            }
        }
        let disjoint = self.seeds.iter().any(|seed| seed.list != self.everybody);
        if clusters.len() > 1 && !self.history.excused && !disjoint {
            return broken("One Cluster", format!("seeds are in {clusters:?}"));
        }
        Ok(())
    }

    /// All lists were the same throughout, and no disk was lost: crashes and the network alone hinder nobody for good.
    fn agrees(&self) -> bool {
        let never = |name| self.coverage.get(name) == 0;
        never("wipes") && never("lists_differ") && never("other_lists_tried")
    }

    fn is_true(&self, seed: &Seed, obstacle: &Obstacle) -> bool {
        let word = |seed: &Seed| seed.disk.durable.as_ref()?.electorate.clone();
        let list = |seed: &Seed| {
            let begun = word(seed);
            begun.map_or(seed.list.clone(), |begun| begun.list().clone())
        };
        match obstacle {
            Obstacle::Differs { mine, others } => {
                *mine == list(seed)
                    && others.iter().all(|(other, theirs)| {
                        let other = self.seeds.iter().find(|seed| seed.name == *other);
                        other.is_some_and(|other| list(other) == *theirs && theirs != mine)
                    })
            }
            Obstacle::Bound { begun, given } => {
                word(seed).is_some_and(|word| word.list() == begun)
                    && *given == seed.list
                    && begun != given
            }
            Obstacle::Lost { wiped } => word(seed).is_some_and(|word| {
                self.wiped_of(&word) == wiped.len()
                    && word.list().len() - wiped.len() < word.majority()
            }),
            Obstacle::Torn { others } => {
                self.coverage.get("wipes") > 0
                    && !others.is_empty()
                    && self.seeds.iter().any(|other| {
                        word(other).is_some_and(|word_of_other| Some(word_of_other) != word(seed))
                    })
            }
            _ => false,
        }
    }

    /// How many disks of `electorate` are gone.
    fn wiped_of(&self, electorate: &Electorate) -> usize {
        let is_gone = |seed: &&Seed| {
            let present = seed
                .disk
                .durable
                .as_ref()
                .map(|durable| durable.incarnation);
            electorate.list().contains(&seed.name) && electorate.incarnation(&seed.name) != present
        };
        self.seeds.iter().filter(is_gone).count()
    }

    pub(super) fn count_the_end(&mut self) {
        let founded = self.seeds.iter().any(|seed| {
            let durable = seed.disk.durable.as_ref();
            durable.is_some_and(|durable| durable.chosen.is_some())
        });
        if self.agrees() {
            self.coverage.count("all_agreed");
        }
        if founded && self.coverage.get("lists_put_right") > 0 {
            self.coverage.count("foundings_after_lists_were_put_right");
        }
        let in_cluster = |seed: &Seed| seed.disk.holds.is_some();
        if self.seeds.iter().all(in_cluster) {
            self.coverage.count("ended_in_a_cluster");
        } else {
            self.coverage.count("ended_with_an_obstacle");
        }
        if self.history.excused {
            self.coverage.count("two_clusters_excused_by_lost_disks");
        }
    }
}
