//! How many copies a cluster moves while nodes come and go, beside how many it must.
//!
//! Here: [`movement`], a history of joins, drains, losses and returns, of single nodes and of zones, each after the one before has come
//! to rest; now and then the leader of the system group crashes on the way. And the fewest copies that any plan would make. Not here:
//! storms.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::Rng;
use rand::seq::IndexedRandom;
use synod::system::{ReplicaAddress, SystemCommand, SystemState};
use synod_consensus::GroupId;

use super::steward::Moment;
use super::world::{Event, Scale, World};
use crate::violation::{Violation, broken};

/// Silence after which the copies of a node are rebuilt: longer than a node that crashed is down.
const REPLACE_AFTER: Duration = Duration::from_secs(12);
/// How often the system leader crashes on the way.
const STRIKES: f64 = 0.4;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A node came.
    Join,
    /// One was drained, and taken out.
    Drain,
    /// One fell silent for so long that others hold its copies.
    Loss,
    /// Who had been lost came back.
    Return,
    /// All nodes of a zone fell silent for as long.
    ZoneLoss,
    /// A zone came back.
    ZoneReturn,
}

/// What one event moved.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which.
    pub kind: Kind,
    /// The leader of the system group crashed on the way.
    pub struck: bool,
    /// Nodes that took copies afterwards.
    pub takers: usize,
    /// Copies that were made.
    pub made: u64,
    /// The fewest copies that any plan within the quotas and zones makes.
    pub least: u64,
}

/// What a history is of.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Fewest and most nodes to begin with.
    pub nodes: (u64, u64),
    /// Shards.
    pub shards: u32,
    /// Events.
    pub steps: usize,
    /// All nodes have one capacity.
    pub alike: bool,
    /// Zones, of nearly as many nodes each; 0: none.
    pub zones: u64,
    /// Nodes are lost and come back, and the system leader crashes; else nodes only join and are drained.
    pub losses: bool,
}

/// A history of that course, in an order drawn from the seed.
pub fn movement(seed: u64, course: &Course) -> Result<Vec<Step>, Violation> {
    let scale = Scale {
        nodes: course.nodes,
        shards: (course.shards, course.shards),
        ..Scale::SMALL
    };
    let mut world = World::of_scale(seed, scale).quiet();
    (world.alike, world.zones) = (course.alike, course.zones);
    if course.losses {
        (world.replace_after, world.tidies) = (Some(REPLACE_AFTER), false);
    }
    for (store, node) in &mut world.nodes {
        node.description.zone = (course.zones > 0).then(|| zone(store % course.zones));
    }
    world.start_all()?;
    world.rest()?;
    let mut past = Past {
        world,
        course: *course,
        away: Vec::new(),
    };
    (0..course.steps).map(|_| past.step()).collect()
}

fn zone(number: u64) -> String {
    format!("z{number}")
}

struct Past {
    world: World,
    course: Course,
    /// Who is lost at the moment, one or a zone.
    away: Vec<u64>,
}

impl Past {
    fn step(&mut self) -> Result<Step, Violation> {
        let before = self.world.ledger.system.clone();
        let made = self.world.ledger.copies_allotted;
        let ambushed = self.course.losses && self.world.rng.random_bool(STRIKES);
        if ambushed {
            let moment = Moment::ALL.choose(&mut self.world.rng);
            self.world.ambushes = moment.into_iter().copied().collect();
        }
        let kind = self.begin(&before)?;
        self.world.rest()?;
        let waits = !core::mem::take(&mut self.world.ambushes).is_empty();
        let after = &self.world.ledger.system;
        Ok(Step {
            kind,
            struck: ambushed && !waits,
            takers: after.takers().count(),
            made: self.world.ledger.copies_allotted - made,
            least: least(&before, after, self.course.shards as usize),
        })
    }

    fn begin(&mut self, state: &SystemState) -> Result<Kind, Violation> {
        let takers: Vec<u64> = state.takers().collect();
        let (few, many) = (
            takers.len() <= 4,
            takers.len() as u64 >= self.course.nodes.1 + 3,
        );
        let chance = self.world.rng.random_range(0..100);
        if !self.course.losses {
            return if few || (!many && chance < 55) {
                self.join(&takers);
                Ok(Kind::Join)
            } else {
                self.drain(&takers)
            };
        }
        if !self.away.is_empty() && chance < 50 {
            return self.come_back();
        }
        match chance % 20 {
            _ if few => self.join(&takers),
            0..7 if !many => self.join(&takers),
            0..11 => return self.drain(&takers),
            11..16 => {
                let alone = takers[self.world.rng.random_range(0..takers.len())];
                if self.lose(&[alone])? {
                    return Ok(Kind::Loss);
                }
                self.join(&takers);
            }
            _ => {
                let zoned = self.in_zones(&takers);
                let sizes: Vec<&Vec<u64>> = zoned.values().collect();
                if let Some(stores) = sizes.choose(&mut self.world.rng)
                    && self.lose(stores)?
                {
                    return Ok(Kind::ZoneLoss);
                }
                self.join(&takers);
            }
        }
        Ok(Kind::Join)
    }

    /// Takers by their zone.
    fn in_zones(&self, takers: &[u64]) -> BTreeMap<String, Vec<u64>> {
        let mut zones: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for number in 0..self.course.zones {
            zones.insert(zone(number), Vec::new());
        }
        for store in takers {
            let zone = self.world.nodes[store].description.zone.clone();
            if let Some(stores) = zone.and_then(|zone| zones.get_mut(&zone)) {
                stores.push(*store);
            }
        }
        zones
    }

    /// A node comes, to the smallest zone.
    fn join(&mut self, takers: &[u64]) {
        let zones = self.in_zones(takers);
        let smallest = zones.iter().min_by_key(|(_, stores)| stores.len());
        let zone = smallest.map(|(zone, _)| zone.clone());
        self.world.join();
        let applicant = self.world.applicants.last_mut().expect("it just came");
        applicant.member.zone = zone;
    }

    fn drain(&mut self, takers: &[u64]) -> Result<Kind, Violation> {
        let store = takers[self.world.rng.random_range(0..takers.len())];
        let Some(leader) = self.world.system_leader() else {
            let detail = "nobody leads the system group, without a fault";
            return broken("Led Again", detail);
        };
        let command = SystemCommand::Drain { store, on: true };
        self.world.wish(leader, "drains", &command)?;
        Ok(Kind::Drain)
    }

    /// All of these end at once, and stay away. False: some group would not have a majority without them, or others are away already.
    fn lose(&mut self, stores: &[u64]) -> Result<bool, Violation> {
        let lost = |store: u64| stores.contains(&store);
        let members = self.world.ledger.system.members.len();
        let may = self.away.is_empty()
            && !stores.is_empty()
            && (stores.len() + 1) * 2 < members
            && self
                .world
                .may_lose(|key| lost(ReplicaAddress::of(key.replica).store));
        if !may {
            return Ok(false);
        }
        for store in stores {
            self.world.stop(*store)?;
            self.world.nodes.get_mut(store).expect("known").gone = true;
        }
        self.away = stores.to_vec();
        Ok(true)
    }

    fn come_back(&mut self) -> Result<Kind, Violation> {
        let stores = core::mem::take(&mut self.away);
        for store in &stores {
            self.world.nodes.get_mut(store).expect("known").gone = false;
            self.world.start(*store)?;
        }
        Ok(match stores.len() {
            1 => Kind::Return,
            _ => Kind::ZoneReturn,
        })
    }
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

/// Those that take copies, and how much each should hold.
struct Quotas {
    /// Stores of each zone; one without a zone is one by itself.
    zones: Vec<BTreeSet<u64>>,
    /// Copies of one shard in a zone that has stores enough: this many at most, one less at least.
    each: usize,
    of: BTreeMap<u64, f64>,
}

impl Quotas {
    fn of(state: &SystemState, shards: usize, copies: usize) -> Self {
        let mut named: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for store in state.takers() {
            let zone = state.members[&store].zone.clone();
            let zone = zone.unwrap_or_else(|| format!("store {store}"));
            named.entry(zone).or_default().insert(store);
        }
        let zones: Vec<BTreeSet<u64>> = named.into_values().collect();
        let fit = |each: usize| zones.iter().map(|zone| zone.len().min(each)).sum::<usize>();
        let total = shards as f64 * copies.min(fit(copies)) as f64;
        let each = { 1..=copies }.find(|each| fit(*each) >= copies);
        let mut quotas = Self {
            zones,
            each: each.unwrap_or(copies),
            of: BTreeMap::new(),
        };
        let height = shards as f64;
        let weight = |store: &u64| f64::from(state.members[store].capacity);
        let poured = |zone: &BTreeSet<u64>, level: f64| -> f64 {
            let sites = zone.iter();
            sites.map(|store| (weight(store) * level).min(height)).sum()
        };
        let holds = |zone: &BTreeSet<u64>, level: f64| {
            let (least, most) = quotas.bounds(zone);
            poured(zone, level).clamp(least as f64 * height, most as f64 * height)
        };
        let level = level_of(total, |level| {
            quotas.zones.iter().map(|zone| holds(zone, level)).sum()
        });
        let mut of = BTreeMap::new();
        for zone in &quotas.zones {
            let within = level_of(holds(zone, level), |level| poured(zone, level));
            of.extend({ zone.iter() }.map(|store| (*store, (weight(store) * within).min(height))));
        }
        quotas.of = of;
        quotas
    }

    /// Copies of one shard that a zone must, and may, hold.
    fn bounds(&self, zone: &BTreeSet<u64>) -> (usize, usize) {
        (zone.len().min(self.each - 1), zone.len().min(self.each))
    }
}

/// How high water stands that is poured into vessels of which `held` says what they hold up to a level.
fn level_of(total: f64, held: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        match held(middle) < total {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The fewest copies that any plan within the quotas and zones of `after` makes from where they lie in `before`.
fn least(before: &SystemState, after: &SystemState, shards: usize) -> u64 {
    const COPIES: usize = 3;
    let quotas = Quotas::of(after, shards, COPIES);
    let each = COPIES.min(quotas.of.len());
    let mut task = Task::default();
    let (source, sink) = (task.place(), task.place());
    let stores: BTreeMap<u64, usize> = { quotas.of.iter() }
        .map(|(store, quota)| {
            let place = task.place();
            let (least, most) = ((quota + 1e-6).floor(), (quota - 1e-6).ceil());
            task.edge(place, sink, (least as usize, most as usize), 0);
            (*store, place)
        })
        .collect();
    let of_shards = { before.groups.iter() }.filter(|(group, _)| **group != GroupId::ZERO);
    for (_, entry) in of_shards {
        let shard = task.place();
        task.edge(source, shard, (0, each), 0);
        for zone in &quotas.zones {
            let there = task.place();
            task.edge(shard, there, quotas.bounds(zone), 0);
            for store in zone {
                let made = !entry.placement.stores.contains(store);
                task.edge(there, stores[store], (0, 1), i64::from(made));
            }
        }
    }
    task.cheapest(source, sink, shards * each) as u64
}

/// Copies that are to be brought from shards to stores at the least cost: a flow, found by shortest augmenting paths (Ahuja, Magnanti,
/// Orlin, *Network Flows*, 9.7).
#[derive(Default)]
struct Task {
    /// By place: the edges that leave it.
    out: Vec<Vec<usize>>,
    /// Each beside its reverse: where it leads, how much more it takes, and what one costs.
    edges: Vec<(usize, usize, i64)>,
    /// What must be brought over single edges.
    owed: usize,
}

/// What each that must be brought is worth: more than all others may cost.
const OWED: i64 = 1 << 20;

impl Task {
    fn place(&mut self) -> usize {
        self.out.push(Vec::new());
        self.out.len() - 1
    }

    /// From here to there at least and at most so much.
    fn edge(&mut self, from: usize, to: usize, (least, most): (usize, usize), cost: i64) {
        for (room, cost) in [(least, cost - OWED), (most - least, cost)] {
            if room > 0 {
                self.out[from].push(self.edges.len());
                self.edges.push((to, room, cost));
                self.out[to].push(self.edges.len());
                self.edges.push((from, 0, -cost));
            }
        }
        self.owed += least;
    }

    /// The cost of bringing so much, one after the other over the cheapest way that is left.
    fn cheapest(mut self, source: usize, sink: usize, much: usize) -> i64 {
        let mut cost = self.owed as i64 * OWED;
        for _ in 0..much {
            let mut far = vec![i64::MAX; self.out.len()];
            let mut came = vec![usize::MAX; self.out.len()];
            let mut waits = vec![false; self.out.len()];
            let mut next = VecDeque::from([source]);
            far[source] = 0;
            while let Some(place) = next.pop_front() {
                waits[place] = false;
                for &edge in &self.out[place] {
                    let (to, room, cost) = self.edges[edge];
                    if room > 0 && far[place] + cost < far[to] {
                        (far[to], came[to]) = (far[place] + cost, edge);
                        if !core::mem::replace(&mut waits[to], true) {
                            next.push_back(to);
                        }
                    }
                }
            }
            assert!(far[sink] < i64::MAX, "stores take all copies");
            cost += far[sink];
            let mut place = sink;
            while place != source {
                let edge = came[place];
                self.edges[edge].1 -= 1;
                self.edges[edge ^ 1].1 += 1;
                place = self.edges[edge ^ 1].0;
            }
        }
        assert!((0..OWED).contains(&cost), "what is owed is brought");
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_way_brings_what_is_owed_and_no_more_than_fits() {
        // Three to bring, over two ways: the dear one takes so many at least, the cheap one two at most.
        for (least, dears) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            let mut task = Task::default();
            let (source, sink, dear, cheap) =
                (task.place(), task.place(), task.place(), task.place());
            task.edge(source, dear, (least, 3), 3);
            task.edge(source, cheap, (0, 2), 0);
            task.edge(dear, sink, (0, 3), 0);
            task.edge(cheap, sink, (0, 3), 1);
            let paid = task.cheapest(source, sink, 3);
            assert_eq!(paid, dears * 3 + (3 - dears), "at least {least}");
        }
    }
}
