//! What holds of every plan, over random histories of clusters.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::quota::Band;
use super::zones::Zones;
use super::*;

const COPIES: usize = 3;
const SEED: u64 = 7;

/// What happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    Join { weight: u32, zone: Option<u8> },
    Leave(usize),
    Drain(usize),
    Return(usize),
    Weigh(usize, u32),
    Rezone(usize, Option<u8>),
    ZoneLost(u8),
}

fn zone() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![1 => Just(None), 4 => (0..4_u8).prop_map(Some)]
}

fn event(zoned: bool) -> impl Strategy<Value = Event> {
    let zone = move || zone().prop_map(move |zone| zone.filter(|_| zoned));
    prop_oneof![
        5 => (1..4_u32, zone()).prop_map(|(weight, zone)| Event::Join { weight, zone }),
        2 => any::<usize>().prop_map(Event::Leave),
        2 => any::<usize>().prop_map(Event::Drain),
        2 => any::<usize>().prop_map(Event::Return),
        1 => (any::<usize>(), 1..5_u32).prop_map(|(site, weight)| Event::Weigh(site, weight)),
        1 => (any::<usize>(), zone()).prop_map(|(site, zone)| Event::Rezone(site, zone)),
        1 => (0..4_u8).prop_map(Event::ZoneLost),
    ]
}

struct Cluster {
    sites: Vec<Site>,
    shards: Vec<Shard>,
    joined: u64,
    /// Replicas placed on a site that did not hold them, and the fewest that any plan could have placed, summed over the history.
    moved: usize,
    needed: usize,
}

impl Cluster {
    fn new(shards: u64) -> Self {
        let shard = |number: u64| Shard {
            point: Ring::point(SEED, &number.to_le_bytes()),
            home: Home::default(),
        };
        let mut cluster = Self {
            sites: Vec::new(),
            shards: (0..shards).map(shard).collect(),
            joined: 0,
            moved: 0,
            needed: 0,
        };
        cluster.happen(Event::Join {
            weight: 1,
            zone: None,
        });
        cluster
    }

    fn happen(&mut self, event: Event) {
        let count = self.sites.len();
        match event {
            Event::Join { weight, zone } => {
                self.joined += 1;
                self.sites.push(Site {
                    // Names in no order of arrival.
                    store: StoreId::new(self.joined.wrapping_mul(0x9E37_79B9) % 10_007),
                    weight,
                    zone: zone.map(|zone| zone.to_string()),
                    takes: true,
                });
            }
            Event::Leave(site) if count > 1 => {
                self.sites.remove(site % count);
            }
            Event::Drain(site) => self.sites[site % count].takes = false,
            Event::Return(site) => self.sites[site % count].takes = true,
            Event::Weigh(site, weight) => self.sites[site % count].weight = weight,
            Event::Rezone(site, zone) => {
                self.sites[site % count].zone = zone.map(|zone| zone.to_string());
            }
            Event::ZoneLost(zone) => {
                let zone = Some(zone.to_string());
                if self.sites.iter().any(|site| site.zone != zone) {
                    self.sites.retain(|site| site.zone != zone);
                }
            }
            Event::Leave(_) => {}
        }
    }

    fn open(&self) -> Vec<&Site> {
        let sites: BTreeMap<StoreId, &Site> =
            self.sites.iter().map(|site| (site.store, site)).collect();
        sites.into_values().filter(|site| site.takes).collect()
    }

    fn plan(&self) -> Plan {
        plan(SEED, COPIES, &self.sites, &self.shards)
    }

    /// Fewest replicas that any plan must place: copies that nobody holds, what is above a quota or in a crowded zone and so must
    /// leave, and what is below a quota and so must come.
    fn least(&self, bands: &[Band], zones: &Zones, open: &[&Site], held: usize) -> usize {
        let place = |store: &StoreId| open.binary_search_by_key(store, |site| site.store).ok();
        let mut loads = vec![0; open.len()];
        let (mut missing, mut crowded) = (0, 0);
        for shard in &self.shards {
            let valid: Vec<usize> = shard.home.stores.iter().filter_map(place).collect();
            valid.iter().for_each(|site| loads[*site] += 1);
            missing += held.saturating_sub(valid.len());
            let mut in_zone = vec![0; zones.count()];
            valid.iter().for_each(|site| in_zone[zones.of[*site]] += 1);
            let surplus =
                |(zone, count): (usize, &usize)| count.saturating_sub(zones.bounds(zone).1);
            let extra: usize = in_zone.iter().enumerate().map(surplus).sum();
            crowded += extra.saturating_sub(valid.len().saturating_sub(held));
        }
        let over = |(load, band): (&usize, &Band)| load.saturating_sub(band.most);
        let under = |(load, band): (&usize, &Band)| band.least.saturating_sub(*load);
        let over: usize = loads.iter().zip(bands).map(over).sum();
        let under: usize = loads.iter().zip(bands).map(under).sum();
        let all: usize = loads.iter().sum();
        let spare = (all + missing).saturating_sub(held * self.shards.len());
        (missing + over.saturating_sub(spare).max(crowded)).max(under)
    }

    /// Whether every site would hold its share, give or take less than one replica.
    fn within(&self, planned: &Plan) -> bool {
        let open = self.open();
        let held = open.len().min(COPIES);
        let zones = Zones::of(&open, held);
        let weights: Vec<u32> = open.iter().map(|site| site.weight).collect();
        let quotas = quota::replicas(&weights, &zones, self.shards.len(), held);
        open.iter().zip(quotas).all(|(site, quota)| {
            let band = Band::around(quota);
            let holds = |home: &&Home| home.stores.contains(&site.store);
            let load = planned.homes.iter().filter(holds).count();
            (band.least..=band.most).contains(&load)
        })
    }

    /// Every site leads its share, give or take less than one shard, zones or not: what a set of sites holds alone is never more than
    /// the least of its shares in the zones that it takes part in, and its share of the leaderships is between those.
    fn leaders_within(
        planned: &Plan,
        open: &[&Site],
        weights: &[u32],
        loads: &BTreeMap<StoreId, usize>,
    ) {
        let held = { open.iter() }.map(|site| loads.get(&site.store).copied().unwrap_or(0));
        let held: Vec<usize> = held.collect();
        let quotas = quota::leaders(weights, &held, planned.homes.len());
        for (site, quota) in open.iter().zip(quotas) {
            let leads = |home: &&Home| home.leader == Some(site.store);
            let led = planned.homes.iter().filter(leads).count();
            let band = Band::around(quota);
            assert!(
                (band.least..=band.most).contains(&led),
                "{led} led, by quota {quota}"
            );
        }
    }

    /// Plans, checks everything that must hold of the plan, and carries it out.
    fn settle(&mut self) {
        let planned = self.plan();
        let open = self.open();
        let held = open.len().min(COPIES);
        if held == 0 {
            let known = |store: &StoreId| self.sites.iter().any(|site| site.store == *store);
            let kept = |shard: &Shard| Home {
                stores: shard.home.stores.iter().copied().filter(known).collect(),
                leader: shard.home.leader.filter(known),
            };
            let homes: Vec<Home> = self.shards.iter().map(kept).collect();
            assert!(planned.homes == homes, "nowhere to go, so nothing goes");
            for (shard, home) in self.shards.iter_mut().zip(homes) {
                shard.home = home;
            }
            return;
        }
        let zones = Zones::of(&open, held);
        let weights: Vec<u32> = open.iter().map(|site| site.weight).collect();
        let quotas = quota::replicas(&weights, &zones, self.shards.len(), held);
        let bands: Vec<Band> = quotas.into_iter().map(Band::around).collect();

        let mut loads: BTreeMap<StoreId, usize> = BTreeMap::new();
        let mut moved = 0;
        for (shard, home) in self.shards.iter().zip(&planned.homes) {
            let distinct: BTreeSet<StoreId> = home.stores.iter().copied().collect();
            assert_eq!(
                distinct.len(),
                home.stores.len(),
                "a site holds a shard once"
            );
            let place = |store: &StoreId| open.binary_search_by_key(store, |site| site.store);
            let taken: Vec<usize> = home.stores.iter().filter_map(|s| place(s).ok()).collect();
            assert_eq!(taken.len(), held, "every copy that sites can hold");
            for store in home.stores.iter().filter(|store| place(store).is_err()) {
                assert!(held < COPIES && shard.home.stores.contains(store));
                assert!(home.stores.len() <= COPIES, "a last resort, not an extra");
            }
            for zone in 0..zones.count() {
                let there = taken.iter().filter(|site| zones.of[**site] == zone).count();
                let (least, most) = zones.bounds(zone);
                assert!(
                    (least..=most).contains(&there),
                    "{there} copies in zone {zone}"
                );
            }
            taken
                .iter()
                .for_each(|site| *loads.entry(open[*site].store).or_default() += 1);
            let leader = home.leader.expect("every shard has a leader");
            assert!(home.stores.contains(&leader) && place(&leader).is_ok());
            let new = home
                .stores
                .iter()
                .filter(|store| !shard.home.stores.contains(store));
            moved += new.count();
        }
        for (site, band) in open.iter().zip(&bands) {
            let load = loads.get(&site.store).copied().unwrap_or(0);
            assert!(
                (band.least..=band.most).contains(&load),
                "{load} outside {band:?}"
            );
        }
        Self::leaders_within(&planned, &open, &weights, &loads);
        let needed = self.least(&bands, &zones, &open, held);
        self.moved += moved;
        self.needed += needed;

        for (shard, home) in self.shards.iter_mut().zip(&planned.homes) {
            shard.home = home.clone();
        }
        let again = self.plan();
        assert_eq!(again, planned, "planning twice changes nothing");
        self.sites.reverse();
        assert_eq!(self.plan(), planned, "the order of members is nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_is_valid_balanced_sticky_and_the_same_for_all(
        shards in 1..80_u64,
        zoned in any::<bool>(),
        events in proptest::collection::vec(any::<bool>().prop_flat_map(event), 1..40),
    ) {
        let mut cluster = Cluster::new(shards);
        cluster.settle();
        for event in events {
            let event = match event {
                Event::Join { weight, .. } if !zoned => Event::Join { weight, zone: None },
                Event::Rezone(site, _) if !zoned => Event::Rezone(site, None),
                event => event,
            };
            cluster.happen(event);
            cluster.settle();
            let (moved, needed) = (cluster.moved, cluster.needed);
            prop_assert!(4 * moved <= 5 * needed, "{moved} placed, {needed} would do");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_that_was_placed_by_a_wish_stays_there(
        shards in 1..40_u64,
        zoned in any::<bool>(),
        events in proptest::collection::vec(any::<bool>().prop_flat_map(event), 3..12),
        wish in (any::<usize>(), any::<usize>(), any::<usize>()),
    ) {
        let mut cluster = Cluster::new(shards);
        for event in events {
            cluster.happen(match event {
                Event::Join { weight, .. } if !zoned => Event::Join { weight, zone: None },
                Event::Rezone(site, _) if !zoned => Event::Rezone(site, None),
                event => event,
            });
        }
        cluster.settle();
        let kept = wish.0 % cluster.shards.len();
        let home = &mut cluster.shards[kept].home;
        let others: Vec<StoreId> = {
            let open = cluster.sites.iter().filter(|site| site.takes);
            open.map(|site| site.store).filter(|store| !home.stores.contains(store)).collect()
        };
        prop_assume!(!others.is_empty() && !home.stores.is_empty());
        let place = wish.1 % home.stores.len();
        let (from, to) = (home.stores[place], others[wish.2 % others.len()]);
        home.stores[place] = to;
        let planned = plan_around(SEED, COPIES, &cluster.sites, &cluster.shards, Some(kept as u32));
        let granted = |home: &Home| home.stores.contains(&to) && !home.stores.contains(&from);
        let taken = granted(&planned.homes[kept]);
        if !zoned {
            prop_assert!(taken, "only zones are in the way of a site that takes replicas");
        }
        prop_assume!(taken);
        let within = cluster.within(&planned);
        for (shard, home) in cluster.shards.iter_mut().zip(planned.homes.clone()) {
            shard.home = home;
        }
        let again = cluster.plan();
        // Where nobody else can make up for it, the planner would: who carries out wishes looks first.
        prop_assert!(!within || again.homes == planned.homes, "nobody takes the wish back");
        let said = shortfalls(COPIES, &cluster.sites, cluster.shards.len());
        prop_assert_eq!(said, planned.shortfalls);
    }
}
