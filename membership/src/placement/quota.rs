//! How much every site should carry.
//!
//! Here: loads in proportion to weight, as far as no site holds a shard twice and no zone more or less copies than it may: "water"
//! poured into vessels of a width (the weight) and a height (what fits), first into the zones, then within each. Not here: who
//! carries what (`replicas`).

use super::zones::Zones;

/// Whole loads that a site may have: its quota rounded down and up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Band {
    pub(super) least: usize,
    pub(super) most: usize,
}

impl Band {
    pub(super) fn around(quota: f64) -> Self {
        // Sums of shares of whole numbers: what is this near to one is one.
        const NOISE: f64 = 1e-6;
        Self {
            least: (quota + NOISE).floor() as usize,
            most: (quota - NOISE).ceil().max(0.0) as usize,
        }
    }
}

/// The replicas that each site should hold, of `shards` shards with `copies` each.
pub(super) fn replicas(weights: &[u32], zones: &Zones, shards: usize, copies: usize) -> Vec<f64> {
    let height = shards as f64;
    let in_zone = |zone: usize| -> Vec<(usize, f64)> {
        let of = zones.of.iter().enumerate().filter(|(_, of)| **of == zone);
        of.map(|(place, _)| (place, f64::from(weights[place])))
            .collect()
    };
    let vessels: Vec<Vec<(usize, f64)>> = (0..zones.count()).map(in_zone).collect();
    let fits = |zone: usize, level: f64| -> f64 {
        let sum: f64 = vessels[zone]
            .iter()
            .map(|(_, weight)| (weight * level).min(height))
            .sum();
        let (least, most) = zones.bounds(zone);
        sum.clamp(least as f64 * height, most as f64 * height)
    };
    let total = height * copies as f64;
    let level = level_of(total, |level| {
        (0..vessels.len()).map(|zone| fits(zone, level)).sum()
    });
    let mut quotas = vec![0.0; weights.len()];
    for (zone, vessel) in vessels.iter().enumerate() {
        let share = fits(zone, level);
        let within = level_of(share, |level| {
            let sites = vessel.iter();
            sites.map(|(_, weight)| (weight * level).min(height)).sum()
        });
        for (place, weight) in vessel {
            quotas[*place] = (weight * within).min(height);
        }
    }
    quotas
}

/// The shards that each site should lead: in proportion to weight, none more than it holds.
pub(super) fn leaders(weights: &[u32], held: &[usize], shards: usize) -> Vec<f64> {
    let fits =
        |level: f64, place: usize| (f64::from(weights[place]) * level).min(held[place] as f64);
    let level = level_of(shards as f64, |level| {
        (0..weights.len()).map(|place| fits(level, place)).sum()
    });
    (0..weights.len()).map(|place| fits(level, place)).collect()
}

/// The level at which the vessels hold `total` in all; as high as the fullest, if they do not hold it. `held` grows with the level.
fn level_of(total: f64, held: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while held(high) < total && high < 1e15 {
        high *= 2.0;
    }
    // Halved until no number lies between the two.
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if held(middle) < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::super::Site;
    use super::*;
    use crate::ids::StoreId;

    fn sites(zones: &[Option<&str>]) -> Vec<Site> {
        let site = |(store, zone): (usize, &Option<&str>)| Site {
            store: StoreId::new(store as u64 + 1),
            weight: 1,
            zone: zone.map(str::to_owned),
            takes: true,
        };
        zones.iter().enumerate().map(site).collect()
    }

    fn quotas(zones: &[Option<&str>], weights: &[u32], copies: usize) -> Vec<i64> {
        let sites = sites(zones);
        let open: Vec<&Site> = sites.iter().collect();
        let zones = Zones::of(&open, copies);
        let quotas = replicas(weights, &zones, 120, copies);
        quotas
            .into_iter()
            .map(|quota| quota.round() as i64)
            .collect()
    }

    #[test]
    fn quotas_follow_weights_until_a_site_would_hold_a_shard_twice() {
        assert_eq!(quotas(&[None; 4], &[1, 1, 1, 1], 3), [90, 90, 90, 90]);
        assert_eq!(quotas(&[None; 4], &[2, 1, 1, 2], 2), [80, 40, 40, 80]);
        // The heavy one would hold 180 of 120 shards: it holds all, the others share the rest.
        assert_eq!(quotas(&[None; 4], &[9, 1, 1, 1], 3), [120, 80, 80, 80]);
    }

    #[test]
    fn copies_in_different_zones_go_before_equal_load() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        // One site alone in its zone holds a copy of every shard, however many sites the other zones have.
        assert_eq!(quotas(&[a, b, b, c, c], &[1; 5], 3), [120, 60, 60, 60, 60]);
        // Two zones, three copies: each holds one or two of every shard.
        assert_eq!(
            quotas(&[a, b, b, b, b], &[1; 5], 3),
            [120, 60, 60, 60, 60],
            "one site cannot hold two"
        );
        assert_eq!(quotas(&[a, a, b, b, b, b], &[1; 6], 3), [60; 6]);
        assert_eq!(quotas(&[a, a, b], &[1, 1, 8], 3), [120, 120, 120]);
    }

    #[test]
    fn a_band_is_the_whole_numbers_around_a_quota() {
        let band = |least, most| Band { least, most };
        assert_eq!(Band::around(2.5), band(2, 3));
        assert_eq!(Band::around(2.999_999_999_9), band(3, 3));
        assert_eq!(Band::around(3.000_000_000_1), band(3, 3));
        assert_eq!(Band::around(0.0), band(0, 0));
    }
}
