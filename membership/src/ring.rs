//! The consistent-hash ring: which stores a point of the hash space prefers, and in which order.
//!
//! Here: [`Ring`]. It knows no shard and no table: the planner of `runtime` uses it as first fill and tie-breaker and keeps the
//! balance by quotas, which no bare ring can (DESIGN section 10). Same members, in any order, give the same ring.
//! Source: Karger et al., consistent hashing (1997); virtual nodes as in Dynamo (2007), 4.2.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::StoreId;

/// Virtual nodes per unit of weight. The load of equal members then spreads by about 1 / sqrt(64) = 12 %.
const POINTS_PER_WEIGHT: u32 = 64;
/// Weights above it count as it, so that one member takes at most 4,096 points.
const WEIGHT_MAX: u32 = 64;

/// One member, as the ring sees it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RingMember {
    /// Who.
    pub store: StoreId,
    /// Share relative to the others: 1 is an ordinary node, 0 takes nothing, more than 64 counts as 64.
    pub weight: u32,
    /// What fails together with it; `None` = nothing does.
    pub zone: Option<String>,
}

/// Points of all members on the circle of u64.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ring {
    /// Sorted; the second is an index into `members`.
    points: Vec<(u64, u32)>,
    /// Sorted by store; weight above 0. The second numbers the zones; a member without zone has one to itself.
    members: Vec<(StoreId, u32)>,
    zones: usize,
}

impl Ring {
    /// The ring of `members`. All nodes must use the same `seed`. A store named twice counts once, with its larger weight.
    pub fn new(seed: u64, members: &[RingMember]) -> Self {
        let mut known: BTreeMap<StoreId, &RingMember> = BTreeMap::new();
        for member in members.iter().filter(|member| member.weight > 0) {
            let best = known.entry(member.store).or_insert(member);
            *best = (*best).max(member);
        }
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut zones = 0;
        let mut ring = Self {
            points: Vec::new(),
            members: Vec::with_capacity(known.len()),
            zones: 0,
        };
        for (index, member) in (0u32..).zip(known.values()) {
            let fresh = zones;
            let zone = match &member.zone {
                Some(zone) => *numbers.entry(zone).or_insert(fresh),
                None => fresh,
            };
            zones = zones.max(zone + 1);
            ring.members.push((member.store, zone));
            for number in 0..member.weight.min(WEIGHT_MAX) * POINTS_PER_WEIGHT {
                let mut name = [0; 12];
                name[..8].copy_from_slice(&member.store.get().to_le_bytes());
                name[8..].copy_from_slice(&number.to_le_bytes());
                ring.points.push((Self::point(seed, &name), index));
            }
        }
        ring.zones = zones as usize;
        ring.points.sort_unstable(); // equal points: the smaller store first, whoever came first
        ring
    }

    /// Where `bytes` lie on the circle.
    pub fn point(seed: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, seed)
    }

    /// All stores, each once, in the order in which their first points lie clockwise from `point`.
    pub fn clockwise(&self, point: u64) -> impl Iterator<Item = StoreId> {
        let start = self.points.partition_point(|&(at, _)| at < point);
        let (before, behind) = self.points.split_at(start);
        let mut seen = vec![false; self.members.len()];
        behind.iter().chain(before).filter_map(move |(_, index)| {
            let first = !core::mem::replace(&mut seen[*index as usize], true);
            first.then(|| self.members[*index as usize].0)
        })
    }

    /// The first `n` distinct stores clockwise from `point`, one per zone as long as there are zones without one, then a
    /// second per zone, and so on. Fewer when there are fewer stores. The first is always the nearest.
    pub fn owners(&self, point: u64, n: usize) -> Vec<StoreId> {
        let n = n.min(self.members.len());
        if n == 0 {
            return Vec::new();
        }
        let start = self.points.partition_point(|&(at, _)| at < point);
        let mut seen = BTreeSet::new();
        let mut by_round: Vec<Vec<StoreId>> = vec![Vec::new()]; // the k-th store met of its zone is of round k
        let mut met = vec![0usize; self.zones];
        for offset in 0..self.points.len() {
            let (_, index) = self.points[(start + offset) % self.points.len()];
            if !seen.insert(index) {
                continue;
            }
            let (store, zone) = self.members[index as usize];
            let round = met[zone as usize];
            met[zone as usize] += 1;
            if round == by_round.len() {
                by_round.push(Vec::new());
            }
            by_round[round].push(store);
            if by_round[0].len() == n || seen.len() == self.members.len() {
                break;
            }
        }
        by_round.into_iter().flatten().take(n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(store: u64, weight: u32, zone: Option<&str>) -> RingMember {
        RingMember {
            store: StoreId::new(store),
            weight,
            zone: zone.map(str::to_owned),
        }
    }

    fn shards(seed: u64) -> impl Iterator<Item = u64> {
        (0u64..4_096).map(move |shard| Ring::point(seed, &shard.to_le_bytes()))
    }

    #[test]
    fn order_of_members_does_not_matter() {
        // DESIGN section 10: every node computes the ring from the log's members, which it may hold in any order.
        let mut members: Vec<_> = (1..20)
            .map(|id| member(id, id as u32 % 4, Some(["a", "b", "c"][id as usize % 3])))
            .collect();
        let ring = Ring::new(7, &members);
        members.reverse();
        members.push(members[3].clone());
        assert_eq!(ring, Ring::new(7, &members));
        assert_ne!(ring, Ring::new(8, &members));
    }

    #[test]
    fn owners_are_distinct_and_in_different_zones_while_zones_last() {
        // Dynamo 4.3: the preference list skips positions so that it holds distinct physical nodes.
        let members: Vec<_> = (1..=9)
            .map(|id| member(id, 1, Some(["a", "b", "c"][id as usize % 3])))
            .collect();
        let ring = Ring::new(1, &members);
        for point in shards(1) {
            let five = ring.owners(point, 5);
            let zones: Vec<u64> = five.iter().map(|store| store.get() % 3).collect();
            assert_eq!(five.iter().collect::<BTreeSet<_>>().len(), 5);
            assert_eq!(
                zones[..3].iter().collect::<BTreeSet<_>>().len(),
                3,
                "one per zone first"
            );
            assert_ne!(
                zones[3], zones[4],
                "then a second one of two different zones"
            );
            assert_eq!(ring.owners(point, 1), five[..1], "the nearest stays first");
            assert_eq!(ring.owners(point, 3), five[..3]);
        }
    }

    #[test]
    fn fewer_members_or_zones_than_owners_give_what_there_is() {
        // A small cluster: three replicas wanted, one or two stores there, both in one zone.
        assert!(Ring::new(1, &[]).owners(5, 3).is_empty());
        assert!(Ring::new(1, &[member(1, 0, None)]).owners(5, 3).is_empty());
        let ring = Ring::new(
            1,
            &[
                member(1, 1, Some("a")),
                member(2, 1, Some("a")),
                member(3, 0, Some("b")),
            ],
        );
        assert_eq!(
            ring.owners(u64::MAX, 3)
                .into_iter()
                .collect::<BTreeSet<_>>(),
            [1.into(), 2.into()].into()
        );
    }

    #[test]
    fn a_new_member_takes_points_and_moves_nothing_between_the_others() {
        // Karger et al. 1997: monotonicity.
        let members: Vec<_> = (1..=10).map(|id| member(id, 1, None)).collect();
        let (before, after) = (Ring::new(3, &members[..9]), Ring::new(3, &members));
        let mut moved = 0;
        for point in shards(3) {
            let (old, new) = (before.owners(point, 1)[0], after.owners(point, 1)[0]);
            assert!(old == new || new == StoreId::new(10));
            moved += usize::from(old != new);
        }
        assert!(
            (4_096 / 15..4_096 / 6).contains(&moved),
            "about a tenth moves, {moved} did"
        );
    }

    #[test]
    fn weight_is_share() {
        // Capacity of a member is relative to the others.
        let ring = Ring::new(5, &[member(1, 1, None), member(2, 3, None)]);
        let heavy = shards(5)
            .filter(|&point| ring.owners(point, 1)[0] == StoreId::new(2))
            .count();
        assert!(
            (4_096 * 65 / 100..4_096 * 85 / 100).contains(&heavy),
            "{heavy} of 4096"
        );
    }
}
