//! Which stores should hold which shard, given what is and who is there.
//!
//! Here: [`plan()`], pure and deterministic: the same table and the same sites, in any order, give the same plan, and a plan made of
//! its own outcome changes nothing; so a shard that [`plan_around`] placed by somebody's wish stays there. The rooms: how much every
//! site should carry (`quota`), what zones allow (`zones`), who holds what (`replicas`), who leads (`leaders`), the search that
//! both share (`chains`). Not here: who is a member (the system group's log), which step comes next (the reconciler of `runtime`),
//! the ring itself (`ring`).
//!
//! A bare ring cannot balance a few hundred shards: its fullest node holds 1.6 times the mean at 50 nodes, whatever the virtual
//! nodes. So the ring proposes, quotas decide, and what is in place already stays there if it can (DESIGN section 10):
//!
//! 1. Replicas that may stay do: on a site that takes replicas, within what zones allow.
//! 2. Missing ones go to the first site clockwise that has room, sites below their quota first.
//! 3. Sites above their quota hand over to those below, one replica at a time, through third sites where two cannot exchange
//!    directly. Every exchange lies on a shortest augmenting path, and quotas that all zones allow always have one
//!    (integral flows; Ahuja, Magnanti, Orlin, *Network Flows*, 6.5 and 9.6).
//! 4. Leaders are spread in the same way over the sites that hold their shards.

mod chains;
mod leaders;
#[cfg(test)]
mod properties;
mod quota;
mod replicas;
#[cfg(test)]
mod stories;
mod zones;

use std::collections::BTreeMap;

use crate::Ring;
use crate::ids::StoreId;
use crate::ring::RingMember;

use quota::Band;
use zones::Zones;

/// A store that may hold replicas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// Which.
    pub store: StoreId,
    /// Its share of the load relative to the others'; 0 takes nothing.
    pub weight: u32,
    /// What fails together with it; `None`: nothing does.
    pub zone: Option<String>,
    /// False while it is to give up what it holds: it keeps a replica only as long as nobody else can take it.
    pub takes: bool,
}

/// Where one shard lives, or should.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Home {
    /// Stores that hold it, in the order in which they came to it.
    pub stores: Vec<StoreId>,
    /// Who should lead it.
    pub leader: Option<StoreId>,
}

/// One shard, as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shard {
    /// Its place on the ring.
    pub point: u64,
    /// Where it is now; nowhere, if it is new.
    pub home: Home,
}

/// Where every shard should be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In the order of the shards.
    pub homes: Vec<Home>,
    /// Why it is not better.
    pub shortfalls: Vec<Shortfall>,
}

/// What the sites make impossible.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Shortfall {
    /// Add nodes, or stop draining some.
    #[error("{sites} nodes take replicas, fewer than the {copies} copies of every shard")]
    FewSites {
        /// Sites that take replicas.
        sites: usize,
        /// Copies wished for.
        copies: usize,
    },
    /// Add zones: the loss of one takes more than one copy of some shards.
    #[error("{zones} zones for {copies} copies: a zone holds up to {each} copies of one shard")]
    FewZones {
        /// Zones that take replicas.
        zones: usize,
        /// Copies of a shard.
        copies: usize,
        /// Most copies of one shard in one zone.
        each: usize,
    },
    /// Add capacity to the other zones, or to this one: keeping copies in different zones goes before equal load.
    #[error(
        "zone {zone:?} holds {holds} replicas, its weight would give it {share}: copies must lie in different zones"
    )]
    UnevenZones {
        /// Which.
        zone: String,
        /// Replicas that its sites should hold in all.
        holds: usize,
        /// Replicas that they would hold by weight alone.
        share: usize,
    },
}

/// What the sites allow, before anybody asks which shard lies where.
struct Frame<'a> {
    sites: BTreeMap<StoreId, &'a Site>,
    /// Those that take replicas, by store.
    open: Vec<&'a Site>,
    /// Copies of every shard that they can hold.
    held: usize,
    shares: Option<Shares>,
    shortfalls: Vec<Shortfall>,
}

/// How much each open site should hold, by place.
struct Shares {
    zones: Zones,
    weights: Vec<u32>,
    quotas: Vec<f64>,
}

impl<'a> Frame<'a> {
    fn of(copies: usize, sites: &'a [Site], shards: usize) -> Self {
        let sites: BTreeMap<StoreId, &Site> = sites.iter().map(|site| (site.store, site)).collect();
        let open: Vec<&Site> = sites
            .values()
            .filter(|site| site.takes && site.weight > 0)
            .copied()
            .collect();
        let held = open.len().min(copies);
        let mut shortfalls = Vec::new();
        if held < copies {
            let sites = open.len();
            shortfalls.push(Shortfall::FewSites { sites, copies });
        }
        let shares = (held > 0).then(|| {
            let zones = Zones::of(&open, held);
            let weights: Vec<u32> = open.iter().map(|site| site.weight).collect();
            let quotas = quota::replicas(&weights, &zones, shards, held);
            zones.explain(&open, &quotas, shards, &mut shortfalls);
            Shares {
                zones,
                weights,
                quotas,
            }
        });
        Self {
            sites,
            open,
            held,
            shares,
            shortfalls,
        }
    }
}

/// Why no plan of `copies` replicas of so many shards on these sites is as wished. What [`plan()`] says, at the cost of no plan.
pub fn shortfalls(copies: usize, sites: &[Site], shards: usize) -> Vec<Shortfall> {
    Frame::of(copies, sites, shards).shortfalls
}

/// Plans `copies` replicas of every shard and a leader among them. `seed` is the cluster's, as for [`Ring`].
///
/// Without a site that takes replicas everything stays where there is a site at all.
pub fn plan(seed: u64, copies: usize, sites: &[Site], shards: &[Shard]) -> Plan {
    plan_around(seed, copies, sites, shards, None)
}

/// The same, but where a site has too much or too little, other shards make up for it: the one at place `kept` gives a copy up only
/// where its site takes none or a zone may not hold it.
pub fn plan_around(
    seed: u64,
    copies: usize,
    sites: &[Site],
    shards: &[Shard],
    kept: Option<u32>,
) -> Plan {
    let frame = Frame::of(copies, sites, shards.len());
    let Frame {
        sites,
        open,
        held,
        shares,
        shortfalls,
    } = frame;
    let Some(Shares {
        zones,
        weights,
        quotas,
    }) = shares
    else {
        let known = |home: &Home| Home {
            stores: home
                .stores
                .iter()
                .filter(|s| sites.contains_key(s))
                .copied()
                .collect(),
            leader: home.leader.filter(|store| sites.contains_key(store)),
        };
        let homes = shards.iter().map(|shard| known(&shard.home)).collect();
        return Plan { homes, shortfalls };
    };

    let ring = Ring::new(seed, &members(&open));
    let bands: Vec<Band> = quotas.iter().copied().map(Band::around).collect();
    let mut spread = replicas::Spread::new(&open, &zones, &bands, held, shards).keeping(kept);
    spread.fill(&ring, shards);
    spread.balance();
    let led = leaders::lead(&weights, &spread, &open, shards);

    let place = |store: &StoreId| open.binary_search_by_key(store, |site| site.store);
    let homes = shards
        .iter()
        .zip(spread.homes())
        .zip(led)
        .map(|((shard, holders), leader)| {
            let stays = |store: &&StoreId| {
                place(store).is_ok_and(|place| holders.contains(&(place as u32)))
            };
            let before: Vec<StoreId> = shard.home.stores.iter().filter(stays).copied().collect();
            let new = holders
                .iter()
                .map(|place| open[*place as usize].store)
                .filter(|store| !before.contains(store));
            let mut stores: Vec<StoreId> = before.iter().copied().chain(new).collect();
            // Nobody else can take these: a copy more is worth more than an empty node.
            let last_resort = shard.home.stores.iter().filter(|store| {
                let closed = sites.contains_key(store) && place(store).is_err();
                closed && !stores.contains(store)
            });
            let missing = copies - held;
            let last_resort: Vec<StoreId> = last_resort.take(missing).copied().collect();
            stores.extend(last_resort);
            let leader = Some(open[leader as usize].store);
            Home { stores, leader }
        })
        .collect();
    Plan { homes, shortfalls }
}

fn members(open: &[&Site]) -> Vec<RingMember> {
    open.iter()
        .map(|site| RingMember {
            store: site.store,
            weight: site.weight,
            zone: site.zone.clone(),
        })
        .collect()
}
