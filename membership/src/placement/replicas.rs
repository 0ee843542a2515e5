//! Who holds what.
//!
//! Here: [`Spread`], every shard's sites and every site's shards, and the three movements: keep, fill, balance. Not here: how much a
//! site should hold (`quota`), who leads (`leaders`).

use crate::Ring;
use crate::ids::StoreId;

use super::chains::{self, Step};
use super::quota::Band;
use super::zones::Zones;
use super::{Shard, Site};

/// A table of shards and sites, both by place.
#[derive(Debug)]
pub(super) struct Spread<'a> {
    zones: &'a Zones,
    bands: &'a [Band],
    copies: usize,
    stores: Vec<StoreId>,
    /// Per shard.
    holders: Vec<Vec<u32>>,
    /// Per site.
    shards: Vec<Vec<u32>>,
    /// A shard that moves for no other's sake.
    kept: Option<u32>,
}

impl<'a> Spread<'a> {
    /// What may stay as it is.
    pub(super) fn new(
        open: &[&Site],
        zones: &'a Zones,
        bands: &'a [Band],
        copies: usize,
        shards: &[Shard],
    ) -> Self {
        let mut spread = Self {
            zones,
            bands,
            copies,
            stores: open.iter().map(|site| site.store).collect(),
            holders: vec![Vec::with_capacity(copies); shards.len()],
            shards: vec![Vec::new(); open.len()],
            kept: None,
        };
        for (number, shard) in (0..).zip(shards) {
            for store in &shard.home.stores {
                if let Ok(site) = spread.stores.binary_search(store)
                    && !spread.holds(site as u32, number)
                {
                    spread.add(number, site as u32);
                }
            }
        }
        for number in 0..shards.len() as u32 {
            spread.trim(number);
        }
        spread
    }

    /// From now on this shard stays where it is.
    pub(super) fn keeping(mut self, kept: Option<u32>) -> Self {
        self.kept = kept;
        self
    }

    pub(super) fn homes(&self) -> impl Iterator<Item = &[u32]> {
        self.holders.iter().map(Vec::as_slice)
    }

    pub(super) fn holders(&self, shard: u32) -> &[u32] {
        &self.holders[shard as usize]
    }

    pub(super) fn load(&self, site: u32) -> usize {
        self.shards[site as usize].len()
    }

    fn holds(&self, site: u32, shard: u32) -> bool {
        self.holders[shard as usize].contains(&site)
    }

    fn band(&self, site: u32) -> Band {
        self.bands[site as usize]
    }

    fn zone(&self, site: u32) -> usize {
        self.zones.of[site as usize]
    }

    fn add(&mut self, shard: u32, site: u32) {
        self.holders[shard as usize].push(site);
        self.shards[site as usize].push(shard);
    }

    fn remove(&mut self, shard: u32, site: u32) {
        self.holders[shard as usize].retain(|other| *other != site);
        let shards = &mut self.shards[site as usize];
        let place = shards.iter().position(|other| *other == shard);
        shards.swap_remove(place.expect("it holds the shard"));
    }

    /// Copies of a shard in a zone.
    fn in_zone(&self, shard: u32, zone: usize) -> usize {
        let holders = self.holders[shard as usize].iter();
        holders.filter(|site| self.zone(**site) == zone).count()
    }

    /// Copies that zones still need of a shard.
    fn owed_to_zones(&self, shard: u32) -> usize {
        if self.zones.bounds_are_loose() {
            return 0;
        }
        let owed = |zone: usize| {
            let least = self.zones.bounds(zone).0;
            least.saturating_sub(self.in_zone(shard, zone))
        };
        (0..self.zones.count()).map(owed).sum()
    }

    /// Gives up what zones or the number of copies do not allow, from the fullest site first.
    fn trim(&mut self, shard: u32) {
        loop {
            let holders = &self.holders[shard as usize];
            let crowded = |site: &&u32| {
                let zone = self.zone(**site);
                self.in_zone(shard, zone) > self.zones.bounds(zone).1
            };
            let spare = |site: &&u32| {
                let zone = self.zone(**site);
                self.in_zone(shard, zone) > self.zones.bounds(zone).0
            };
            let surplus = |site: &&u32| {
                let most = self.band(**site).most as i64;
                (self.load(**site) as i64 - most, **site)
            };
            let fullest = if holders.iter().any(|site| crowded(&site)) {
                holders.iter().filter(crowded).max_by_key(surplus)
            } else if holders.len() + self.owed_to_zones(shard) > self.copies {
                holders.iter().filter(spare).max_by_key(surplus)
            } else {
                return;
            };
            let site = *fullest.expect("a zone that owes nothing has one to spare");
            self.remove(shard, site);
        }
    }

    /// Whether a further copy of `shard` may lie on `site`.
    fn may_add(&self, shard: u32, site: u32) -> bool {
        let zone = self.zone(site);
        let (least, most) = self.zones.bounds(zone);
        let there = self.in_zone(shard, zone);
        let missing = self.copies - self.holders[shard as usize].len();
        let wanted = there < least || (there < most && self.owed_to_zones(shard) < missing);
        wanted && !self.holds(site, shard)
    }

    /// Whether the copy of `shard` on `from` may lie on `to` instead.
    fn may_move(&self, shard: u32, from: u32, to: u32) -> bool {
        if self.holds(to, shard) || self.kept == Some(shard) {
            return false;
        }
        let (old, new) = (self.zone(from), self.zone(to));
        old == new
            || (self.in_zone(shard, new) < self.zones.bounds(new).1
                && self.in_zone(shard, old) > self.zones.bounds(old).0)
    }

    /// Gives every shard all its copies.
    pub(super) fn fill(&mut self, ring: &Ring, shards: &[Shard]) {
        for (number, shard) in (0..).zip(shards) {
            while self.holders[number as usize].len() < self.copies {
                let site = self.next_site(ring, number, shard.point);
                self.add(number, site);
            }
        }
    }

    /// Where the next copy of a shard goes: clockwise to the first site below its quota, or to the first with room, or to one that
    /// first hands something over.
    fn next_site(&mut self, ring: &Ring, shard: u32, point: u64) -> u32 {
        let mut with_room = None;
        for store in ring.clockwise(point) {
            let Ok(site) = self.stores.binary_search(&store) else {
                continue;
            };
            let site = site as u32;
            let (load, band) = (self.load(site), self.band(site));
            if load < band.most && self.may_add(shard, site) {
                if load < band.least {
                    return site;
                }
                with_room.get_or_insert(site);
            }
        }
        with_room.unwrap_or_else(|| self.make_room(shard))
    }

    fn make_room(&mut self, shard: u32) -> u32 {
        let sites = 0..self.stores.len() as u32;
        let full: Vec<u32> = sites.filter(|site| self.may_add(shard, *site)).collect();
        let has_room = |spread: &Self, site: u32| spread.load(site) < spread.band(site).most;
        match self.path(&full, |site| has_room(self, site)) {
            Some(path) => self.shift(&path),
            // Above its quota rather than a copy less.
            None => {
                let surplus = |site: &u32| self.load(*site) as i64 - self.band(*site).most as i64;
                let least = full.iter().min_by_key(|site| (surplus(site), **site));
                *least.expect("there are at least as many sites as copies")
            }
        }
    }

    /// Brings every site into its band.
    pub(super) fn balance(&mut self) {
        let sites = 0..self.stores.len() as u32;
        // First those above: their moves fill those below.
        let mut over: Vec<u32> = sites.clone().collect();
        over.sort_by_key(|site| {
            (
                self.band(*site).most as i64 - self.load(*site) as i64,
                *site,
            )
        });
        for site in over {
            while self.load(site) > self.band(site).most && self.relieve(site) {}
        }
        let mut under: Vec<u32> = sites.collect();
        under.sort_by_key(|site| {
            (
                self.load(*site) as i64 - self.band(*site).least as i64,
                *site,
            )
        });
        for site in under {
            while self.load(site) < self.band(site).least && self.supply(site) {}
        }
    }

    /// Takes one replica from `from`, for a site below its quota or else for one with room.
    fn relieve(&mut self, from: u32) -> bool {
        let below = |spread: &Self, site: u32| spread.load(site) < spread.band(site).least;
        let has_room = |spread: &Self, site: u32| spread.load(site) < spread.band(site).most;
        let want =
            |spread: &Self, site: &u32| spread.load(*site) as i64 - spread.band(*site).least as i64;
        for wanted in [below, has_room] {
            let sites = 0..self.stores.len() as u32;
            let to: Vec<u32> = sites.filter(|site| wanted(self, *site)).collect();
            let gives = |spread: &mut Self, to: u32| spread.hand_over(from, to);
            if self.first_that(to, |spread, site| want(spread, &site), gives) {
                return true;
            }
            if let Some(path) = self.path(&[from], |site| wanted(self, site)) {
                self.shift(&path);
                return true;
            }
        }
        false
    }

    /// Gives one replica to `to`, from a site that has one more than it needs.
    fn supply(&mut self, to: u32) -> bool {
        let sites = 0..self.stores.len() as u32;
        let spare = |site: &u32| self.load(*site) > self.band(*site).least;
        let from: Vec<u32> = sites.filter(spare).collect();
        let fullest = |spread: &Self, site: u32| {
            core::cmp::Reverse(spread.load(site) - spread.band(site).least)
        };
        let gives = |spread: &mut Self, from: u32| spread.hand_over(from, to);
        if self.first_that(from.clone(), fullest, gives) {
            return true;
        }
        let path = self.path(&from, |site| site == to);
        if let Some(path) = &path {
            self.shift(path);
        }
        path.is_some()
    }

    /// Tries sites in the order of `key`, then of their places, until one works; what does not work changes nothing.
    fn first_that<K: Ord>(
        &mut self,
        mut sites: Vec<u32>,
        key: impl Fn(&Self, u32) -> K,
        works: impl Fn(&mut Self, u32) -> bool,
    ) -> bool {
        // Nearly always the first one works, and the others need not be put in order.
        let first = sites
            .iter()
            .copied()
            .min_by_key(|site| (key(self, *site), *site));
        if first.is_some_and(|first| works(self, first)) {
            return true;
        }
        sites.sort_unstable_by_key(|site| (key(self, *site), *site));
        sites.into_iter().skip(1).any(|site| works(self, site))
    }

    /// Moves one replica directly. Where the search for it begins is drawn from the two names, so that no two sites always share the
    /// same shards.
    fn hand_over(&mut self, from: u32, to: u32) -> bool {
        let shards = &self.shards[from as usize];
        let mut names = [0; 24];
        names[..8].copy_from_slice(&self.stores[from as usize].get().to_le_bytes());
        names[8..16].copy_from_slice(&self.stores[to as usize].get().to_le_bytes());
        names[16..].copy_from_slice(&(shards.len() as u64).to_le_bytes());
        let begin = (Ring::point(0, &names) % shards.len().max(1) as u64) as usize;
        let (before, behind) = shards.split_at(begin);
        let mut in_turn = behind.iter().chain(before).copied();
        let movable = in_turn.find(|shard| self.may_move(*shard, from, to));
        if let Some(shard) = movable {
            self.remove(shard, from);
            self.add(shard, to);
        }
        movable.is_some()
    }

    /// The shortest chain of single moves from one of `starts` to a site that `ends` it.
    fn path(&self, starts: &[u32], ends: impl Fn(u32) -> bool) -> Option<Vec<Step>> {
        let sites = self.stores.len();
        let anywhere = |from: u32| {
            let shards = self.shards[from as usize].iter();
            shards.flat_map(move |shard| (0..sites as u32).map(move |to| (*shard, to)))
        };
        let may = |step: Step| self.may_move(step.shard, step.from, step.to);
        chains::shortest(sites, starts, anywhere, may, ends)
    }

    /// Carries out a chain of moves. Returns where it began: there is room for one more now.
    fn shift(&mut self, path: &[Step]) -> u32 {
        for Step { shard, from, to } in path {
            self.remove(*shard, *from);
            self.add(*shard, *to);
        }
        path.first().expect("a path has a step").from
    }
}
