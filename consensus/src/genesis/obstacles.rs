//! What an operator is told when nothing can be founded as things are.
//!
//! Here: when an [`Obstacle`] stands and when it is healed. What concerns others is judged only while every listed seed's answer is
//! fresh; in between the last judgement stands, so that one silent seed (which is perhaps just being put right) changes nothing.

use super::machine::Genesis;
use super::output::{Obstacle, Output};
use super::seed::SeedName;

impl Genesis {
    /// Why nothing can be founded as things are; `None` again once it healed, or while somebody has not answered yet.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }

    /// Listed seeds whose present answer is still missing. Founding waits for every one of them.
    pub fn unheard(&self) -> Vec<SeedName> {
        if !self.is_asking() {
            return Vec::new();
        }
        let mut unheard = self.others();
        let (now, fresh) = (self.now, self.options.fresh);
        unheard.retain(|seed| {
            let heard = self.roster.fresh(now, fresh, seed).is_some();
            !heard && self.roster.stranger(now, fresh, seed).is_none()
        });
        unheard
    }

    pub(super) fn look_for_obstacles(&mut self) {
        let bound = self.find_bound();
        if bound.is_none() && !self.unheard().is_empty() {
            return;
        }
        let found = bound.or_else(|| self.find_obstacle());
        if let Some(Obstacle::Lost { wiped }) = &found {
            let (now, fresh) = (self.now, self.options.fresh);
            let told = |seed: &SeedName| {
                let cluster = self.roster.stranger(now, fresh, seed)?;
                Some((seed.clone(), cluster))
            };
            if let Some((told_by, cluster)) = wiped.iter().find_map(told) {
                return self.join(told_by, cluster);
            }
        }
        if found != self.obstacle {
            self.obstacle.clone_from(&found);
            if let Some(obstacle) = found {
                self.effect(Output::Obstructed(obstacle));
            }
        }
    }

    /// Nobody else has to be asked about that.
    fn find_bound(&self) -> Option<Obstacle> {
        let (electorate, given) = (self.electorate()?, self.given.as_ref()?);
        (electorate.list() != given).then(|| Obstacle::Bound {
            begun: electorate.list().clone(),
            given: given.clone(),
        })
    }

    fn find_obstacle(&self) -> Option<Obstacle> {
        let durable = self.durable.as_ref()?;
        let list = self.list()?;
        let others = self.others();
        let heard = |seed: &SeedName| self.roster.get(seed);
        let different: Vec<_> = others
            .iter()
            .filter_map(|seed| Some((seed.clone(), heard(seed)?.list.clone())))
            .filter(|(_, theirs)| theirs != list)
            .collect();
        if !different.is_empty() && !durable.complete {
            return Some(Obstacle::Differs {
                mine: list.clone(),
                others: different,
            });
        }
        let electorate = durable.electorate.as_ref()?;
        if !durable.complete {
            let elsewhere = |seed: &SeedName| {
                let word = heard(seed).and_then(|heard| heard.electorate.as_ref());
                word.is_some_and(|word| word != electorate)
            };
            let others: Vec<_> = others
                .iter()
                .filter(|seed| elsewhere(seed))
                .cloned()
                .collect();
            if !others.is_empty() {
                return Some(Obstacle::Torn { others });
            }
        }
        let (now, fresh) = (self.now, self.options.fresh);
        let is_wiped = |seed: &SeedName| {
            if self.roster.stranger(now, fresh, seed).is_some() {
                return true;
            }
            let present = if *seed == self.me {
                Some(durable.incarnation)
            } else {
                heard(seed).map(|heard| heard.incarnation)
            };
            present != electorate.incarnation(seed)
        };
        let wiped: Vec<_> = list.iter().filter(|seed| is_wiped(seed)).cloned().collect();
        let living = list.len() - wiped.len();
        (living < electorate.majority()).then_some(Obstacle::Lost { wiped })
    }
}
