//! What nodes say of themselves (their zone, what they are worth), changed at a start now and then: told to the log by the system
//! leader, and planned by.
//!
//! Here: this part of [`World`]. Not here: how others hear of it (`sight`).

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::system::{
    Announced, BUILD_LEVEL, Description, MemberEntry, ReplicaAddress, Step, SystemCommand,
    SystemState,
};
use synod_consensus::GroupId;

use super::node::Process;
use super::world::World;
use crate::violation::{Violation, broken};

/// How often a node that starts again says something else than before.
const CHANGES: f64 = 0.15;

/// What a node may say: it is in one of so many zones, if there are any, and worth one if all are `alike`.
pub(super) fn draw(rng: &mut ChaCha8Rng, zones: u64, alike: bool) -> Description {
    let zone = (zones > 0).then(|| {
        let zone = rng.random_range(0..zones);
        format!("z{zone}")
    });
    let capacity = match alike {
        true => 1,
        false => [1, 1, 1, 2, 3][rng.random_range(0..5)],
    };
    Description { zone, capacity }
}

/// A state of which nobody would learn that there are zones.
pub(super) fn without_zones(state: &SystemState) -> SystemState {
    let mut state = state.clone();
    for member in state.members.values_mut() {
        member.zone = None;
    }
    state
}

impl Process {
    /// Builds, as far as this node of that store has heard.
    pub(super) fn announced(&self, store: u64) -> Announced {
        let heard = self.said.keys().copied().chain([store]);
        let levels = heard.map(|store| (store, BUILD_LEVEL)).collect();
        let system = self.hosted.get(&GroupId::ZERO);
        let voters = system.map(|replica| replica.group.status().configuration.voters);
        let electorate = voters.unwrap_or_default();
        Announced {
            levels,
            electorate: { electorate.iter() }
                .map(|id| ReplicaAddress::of(*id).store)
                .collect(),
        }
    }

    /// What this node, if it leads, is to tell the log.
    pub(super) fn news(&self) -> impl Iterator<Item = Step> + use<> {
        let news = self.system.descriptions(&self.said);
        news.into_iter().map(Step::Propose)
    }
}

impl World {
    /// A node that starts again may stand elsewhere, or be worth more or less.
    pub(super) fn describe_anew(&mut self, store: u64, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let is_restart = self.nodes[&store].life > 0 && self.calm_at.is_none();
        if !is_restart || !rng.random_bool(CHANGES) {
            return;
        }
        let description = draw(&mut rng, self.zones, self.alike);
        let node = self.nodes.get_mut(&store).expect("known");
        if core::mem::replace(&mut node.description, description.clone()) != description {
            self.coverage.count("descriptions_changed");
        }
    }

    /// What a member says of itself, if it runs and the cluster may hear of it; else what the log says.
    pub(super) fn said(&self, truth: &SystemState, store: u64) -> Description {
        let MemberEntry { zone, capacity, .. } = truth.members[&store].clone();
        let command = SystemCommand::Describe {
            store,
            generation: 0,
            zone: zone.clone(),
            capacity,
        };
        let node = self.nodes.get(&store);
        match node.filter(|node| node.process.is_some() && truth.level >= command.level()) {
            Some(node) => node.description.clone(),
            None => Description { zone, capacity },
        }
    }

    /// Who is described in the log otherwise than it describes itself.
    pub(super) fn misdescribed(&self, truth: &SystemState) -> Option<String> {
        truth.members.iter().find_map(|(store, member)| {
            let said = self.said(truth, *store);
            let known = member.zone == said.zone && member.capacity == said.capacity;
            (!known).then(|| format!("store {store} says that it is {said:?}, the log: {member:?}"))
        })
    }

    /// The copies of a shard lie in as many zones as there are, as evenly as those have stores. Judged by what the nodes say.
    pub(super) fn spread_over_zones(&self, truth: &SystemState) -> Result<(), Violation> {
        // A store without a zone is one by itself.
        let zone_of = |store: u64| {
            let zone = self.said(truth, store).zone;
            zone.unwrap_or_else(|| format!("store {store}"))
        };
        let mut zones: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for store in truth.takers() {
            zones.entry(zone_of(store)).or_default().insert(store);
        }
        let shards = truth.groups.iter();
        for (group, entry) in shards.filter(|(group, _)| **group != GroupId::ZERO) {
            let holds = |stores: &BTreeSet<u64>| {
                let held = entry.placement.stores.iter();
                held.filter(|store| stores.contains(store)).count()
            };
            let fullest = zones.values().map(holds).max();
            let free = zones.values().filter(|stores| holds(stores) < stores.len());
            let emptiest = free.map(holds).min();
            if let (Some(most), Some(least)) = (fullest, emptiest)
                && most > least + 1
            {
                let stores = &entry.placement.stores;
                let detail = format!("group {group} lies on {stores:?}, zones: {zones:?}");
                return broken("Zones", detail);
            }
        }
        Ok(())
    }
}
