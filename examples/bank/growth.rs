//! What a node that joined cost, and how even it made the cluster.
//!
//! Here: [`Growth`], read from where shards lived before and after: copies that were made beside the fewest that would do, and the
//! largest node's copies and leaderships beside the quota. All nodes of the demo are worth the same and none has a zone, so a quota is a
//! share. Not here: asking for the placement (`play`), words (`report`).

use std::collections::BTreeMap;

use synod::wire::RoutingTable;

/// Copies of a shard, with nodes enough.
const COPIES: usize = 3;

/// One join.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Growth {
    pub(crate) name: String,
    /// Nodes afterwards.
    pub(crate) nodes: usize,
    /// Copies on a node that did not hold them before.
    pub(crate) moves: usize,
    /// The fewest copies with which every node has its share, rounded down or up.
    pub(crate) least: usize,
    pub(crate) replicas: Largest,
    pub(crate) leaders: Largest,
}

/// The node that has most of something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Largest {
    pub(crate) has: usize,
    pub(crate) quota: f64,
}

impl Largest {
    pub(crate) fn ratio(self) -> f64 {
        self.has as f64 / self.quota.max(f64::MIN_POSITIVE)
    }
}

impl Growth {
    /// What the join of this name changed.
    pub(crate) fn between(name: &str, before: &RoutingTable, after: &RoutingTable) -> Self {
        let nodes = after.stores.len();
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        let mut led: BTreeMap<u64, usize> = BTreeMap::new();
        let mut holds: BTreeMap<u64, usize> = BTreeMap::new();
        let mut moves = 0;
        for (before, after) in before.shards.iter().zip(&after.shards) {
            for store in &before.replicas {
                *held.entry(*store).or_default() += 1;
            }
            for store in &after.replicas {
                *holds.entry(*store).or_default() += 1;
                moves += usize::from(!before.replicas.contains(store));
            }
            if let Some(leader) = after.leader {
                *led.entry(leader).or_default() += 1;
            }
        }
        let shards = after.shards.len();
        let copies = shards * COPIES.min(nodes);
        let (share, most) = (copies / nodes.max(1), copies.div_ceil(nodes.max(1)));
        let held = |store: u64| held.get(&store).copied().unwrap_or(0);
        let stores = || after.stores.iter().map(|known| held(known.store));
        let stay: usize = stores().map(|held| held.min(most)).sum();
        let lacking: usize = stores().map(|held| share.saturating_sub(held)).sum();
        let largest = |of: BTreeMap<u64, usize>, all: usize| Largest {
            has: of.into_values().max().unwrap_or(0),
            quota: all as f64 / nodes.max(1) as f64,
        };
        Self {
            name: name.to_owned(),
            nodes,
            moves,
            least: lacking.max(copies.saturating_sub(stay)),
            replicas: largest(holds, copies),
            leaders: largest(led, shards),
        }
    }

    /// Copies made for each that had to be.
    pub(crate) fn ratio(&self) -> f64 {
        self.moves as f64 / self.least.max(1) as f64
    }

    pub(crate) fn in_words(&self) -> String {
        let Self {
            nodes,
            moves,
            least,
            replicas,
            leaders,
            ..
        } = self;
        format!(
            "{moves} copies made, {least} would do ({:.3}); the largest of {nodes} nodes holds {} of {:.1} copies ({:.3}) and leads {} of {:.1} shards ({:.3})",
            self.ratio(),
            replicas.has,
            replicas.quota,
            replicas.ratio(),
            leaders.has,
            leaders.quota,
            leaders.ratio(),
        )
    }
}

#[cfg(test)]
mod tests {
    use synod::wire::{ShardPlace, Sharding, StoreAddress};

    use super::*;

    fn table(stores: u64, places: &[(&[u64], u64)]) -> RoutingTable {
        let place = |(replicas, leader): &(&[u64], u64)| ShardPlace {
            replicas: replicas.to_vec(),
            leader: Some(*leader),
        };
        let store = |store| StoreAddress {
            store,
            name: format!("n{store}"),
            addresses: Vec::new(),
        };
        RoutingTable {
            cluster: 1,
            epoch: 1,
            sharding: Sharding {
                seed: 0,
                shards: places.len() as u32,
            },
            stores: (1..=stores).map(store).collect(),
            shards: places.iter().map(place).collect(),
        }
    }

    #[test]
    fn a_fourth_node_is_owed_its_quarter_and_what_was_moved_besides_is_seen() {
        let all: &[u64] = &[1, 2, 3];
        let before = table(3, &[(all, 1), (all, 2), (all, 3), (all, 1)]);
        let after = table(
            4,
            &[
                (&[4, 2, 3], 4),
                (&[1, 4, 3], 1),
                (&[1, 2, 4], 2),
                (&[1, 2, 3], 2),
            ],
        );
        let growth = Growth::between("join n4", &before, &after);
        assert_eq!((growth.nodes, growth.moves, growth.least), (4, 3, 3));
        assert_eq!((growth.replicas.has, growth.replicas.quota), (3, 3.0));
        assert_eq!((growth.leaders.has, growth.leaders.ratio()), (2, 2.0));
        // A fourth copy goes there, too.
        let other = table(
            4,
            &[
                (&[4, 2, 3], 4),
                (&[1, 4, 3], 1),
                (&[1, 2, 4], 2),
                (&[1, 2, 4], 2),
            ],
        );
        let growth = Growth::between("join n4", &before, &other);
        assert_eq!((growth.moves, growth.least), (4, 3));
        assert!((growth.ratio() - 4.0 / 3.0).abs() < 1e-9);
        assert!((growth.replicas.ratio() - 4.0 / 3.0).abs() < 1e-9);
    }
}
