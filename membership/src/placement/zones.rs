//! What zones allow: how many copies of one shard a zone may and must hold.
//!
//! Copies are spread as evenly as the zones' sizes permit: no zone holds one more while another that has a free site holds two less.

use std::collections::BTreeMap;

use super::{Shortfall, Site};

/// The zones of the sites that take replicas.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    /// By place of the site.
    pub(super) of: Vec<usize>,
    /// Sites of each.
    sizes: Vec<usize>,
    /// `None`: a site by itself.
    names: Vec<Option<String>>,
    /// Copies of one shard in a zone that has sites enough: this many at most, one less at least.
    each: usize,
    copies: usize,
}

impl Zones {
    /// Zones of `open`, for `copies` of every shard: at most as many as there are sites.
    pub(super) fn of(open: &[&Site], copies: usize) -> Self {
        let mut zones = Self {
            of: Vec::with_capacity(open.len()),
            sizes: Vec::new(),
            names: Vec::new(),
            each: 1,
            copies,
        };
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for site in open {
            let fresh = zones.sizes.len();
            let zone = match &site.zone {
                Some(name) => *numbers.entry(name).or_insert(fresh),
                None => fresh,
            };
            if zone == fresh {
                zones.sizes.push(0);
                zones.names.push(site.zone.clone());
            }
            zones.sizes[zone] += 1;
            zones.of.push(zone);
        }
        let room = |each: usize| {
            zones
                .sizes
                .iter()
                .map(|size| each.min(*size))
                .sum::<usize>()
        };
        zones.each = (1..=copies)
            .find(|each| room(*each) >= copies)
            .expect("every site holds one");
        zones
    }

    pub(super) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Copies of one shard that a zone must, and may, hold.
    pub(super) fn bounds(&self, zone: usize) -> (usize, usize) {
        let size = self.sizes[zone];
        (size.min(self.each - 1), size.min(self.each))
    }

    /// Whether no zone must hold anything: then none is ever owed a copy.
    pub(super) fn bounds_are_loose(&self) -> bool {
        self.each == 1
    }

    /// Says what is less than wished because of zones.
    pub(super) fn explain(
        &self,
        open: &[&Site],
        quotas: &[f64],
        shards: usize,
        shortfalls: &mut Vec<Shortfall>,
    ) {
        if self.names.iter().all(Option::is_none) {
            return;
        }
        if self.each > 1 {
            shortfalls.push(Shortfall::FewZones {
                zones: self.count(),
                copies: self.copies,
                each: self.each,
            });
        }
        let weights: Vec<u32> = open.iter().map(|site| site.weight).collect();
        let alone: Vec<Site> = open
            .iter()
            .map(|site| Site {
                zone: None,
                ..(*site).clone()
            })
            .collect();
        let alone = Self::of(&alone.iter().collect::<Vec<_>>(), self.copies);
        let shares = super::quota::replicas(&weights, &alone, shards, self.copies);
        for (zone, name) in self.names.iter().enumerate() {
            let sum = |loads: &[f64]| -> f64 {
                let within = loads.iter().zip(&self.of).filter(|(_, of)| **of == zone);
                within.map(|(load, _)| load).sum()
            };
            let (holds, share) = (sum(quotas), sum(&shares));
            if let Some(zone) = name
                && (holds - share).abs() > 0.1 * share
            {
                shortfalls.push(Shortfall::UnevenZones {
                    zone: zone.clone(),
                    holds: holds.round() as usize,
                    share: share.round() as usize,
                });
            }
        }
    }
}
