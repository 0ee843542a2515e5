//! Who leads what.
//!
//! Here: [`lead`], which gives every shard a leader among its holders, in proportion to weight. A leader stays if it may. Where two
//! sites cannot exchange a leadership directly, third ones pass it on.

use super::chains::{self, Step};
use super::quota::{self, Band};
use super::replicas::Spread;
use super::{Shard, Site};

struct Leads<'a, 'b> {
    spread: &'a Spread<'b>,
    bands: Vec<Band>,
    /// Per shard.
    leader: Vec<u32>,
    /// Per site.
    led: Vec<Vec<u32>>,
}

/// The leader of each shard, by place.
pub(super) fn lead(
    weights: &[u32],
    spread: &Spread<'_>,
    open: &[&Site],
    shards: &[Shard],
) -> Vec<u32> {
    let held: Vec<usize> = (0..open.len() as u32)
        .map(|site| spread.load(site))
        .collect();
    let quotas = quota::leaders(weights, &held, shards.len());
    let mut leads = Leads {
        spread,
        bands: quotas.into_iter().map(Band::around).collect(),
        leader: vec![u32::MAX; shards.len()],
        led: vec![Vec::new(); open.len()],
    };
    for (number, shard) in (0..).zip(shards) {
        let before = shard.home.leader;
        let place = before.and_then(|store| {
            let place = open.binary_search_by_key(&store, |site| site.store).ok()?;
            Some(place as u32)
        });
        if let Some(site) = place.filter(|site| spread.holders(number).contains(site)) {
            leads.give(number, site);
        }
    }
    for number in 0..shards.len() as u32 {
        if leads.leader[number as usize] == u32::MAX {
            let holders = spread.holders(number).iter().copied();
            let emptiest = holders.min_by_key(|site| (leads.over(*site), *site));
            leads.give(number, emptiest.expect("every shard is held"));
        }
    }
    leads.balance();
    leads.leader
}

impl Leads<'_, '_> {
    fn give(&mut self, shard: u32, site: u32) {
        self.leader[shard as usize] = site;
        self.led[site as usize].push(shard);
    }

    fn count(&self, site: u32) -> i64 {
        self.led[site as usize].len() as i64
    }

    fn most(&self, site: u32) -> i64 {
        self.bands[site as usize].most as i64
    }

    fn least(&self, site: u32) -> i64 {
        self.bands[site as usize].least as i64
    }

    fn over(&self, site: u32) -> i64 {
        self.count(site) - self.least(site)
    }

    fn balance(&mut self) {
        let sites = 0..self.led.len() as u32;
        for site in sites.clone() {
            while self.count(site) > self.most(site) {
                let below = self.path(&[site], |to| self.over(to) < 0);
                let path =
                    below.or_else(|| self.path(&[site], |to| self.count(to) < self.most(to)));
                let Some(path) = path else { break };
                self.shift(path);
            }
        }
        for site in sites.clone() {
            while self.over(site) < 0 {
                let spare: Vec<u32> = sites.clone().filter(|from| self.over(*from) > 0).collect();
                let Some(path) = self.path(&spare, |to| to == site) else {
                    break; // too few of its shards: nobody can help
                };
                self.shift(path);
            }
        }
    }

    /// The shortest chain of leaderships handed from one holder to another.
    fn path(&self, starts: &[u32], ends: impl Fn(u32) -> bool) -> Option<Vec<Step>> {
        let to_holders = |from: u32| {
            let led = self.led[from as usize].iter();
            led.flat_map(|shard| self.spread.holders(*shard).iter().map(|to| (*shard, *to)))
        };
        chains::shortest(self.led.len(), starts, to_holders, |_| true, ends)
    }

    fn shift(&mut self, path: Vec<Step>) {
        for Step { shard, from, to } in path {
            self.led[from as usize].retain(|other| *other != shard);
            self.give(shard, to);
        }
    }
}
