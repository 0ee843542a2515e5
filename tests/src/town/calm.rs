//! After the faults: what must be so again, and by when.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use synod::system::{Description, ReplicaAddress, SystemCommand, SystemState, plan};
use synod_consensus::{GroupId, LogStore, Members, ReplicaId, ReplicaKey};

use super::Sabotage;
use super::descriptions::without_zones;
use super::faults::Undo;
use super::node::{Process, Replica};
use super::world::{Event, LED_WITHIN, SETTLED_WITHIN, World};
use crate::violation::{Violation, broken};

impl World {
    /// Faults are over: links are whole, processes run.
    pub(super) fn calm(&mut self) -> Result<(), Violation> {
        let now = self.now;
        self.calm_at = Some(now);
        self.network.heal();
        self.ambushes.clear();
        let stores: Vec<u64> = self.nodes.keys().copied().collect();
        for store in stores {
            let node = self.nodes.get_mut(&store).expect("listed");
            node.sync = node.sync.min(Duration::from_millis(6));
            if node.process.is_none() && !node.gone {
                self.push(Duration::ZERO, Event::Undo(Undo::Start { store }));
            } else if node.paused_until > now {
                // It goes on as its events come up.
                node.paused_until = now;
                node.silent_since = None;
                let (life, groups): (u64, Vec<GroupId>) = (
                    node.life,
                    { node.process.as_ref() }
                        .map(|process| process.hosted.keys().copied().collect())
                        .unwrap_or_default(),
                );
                if let Some(process) = &mut node.process {
                    process.look_at = now;
                    process.rest.beats_at(now);
                    for replica in process.hosted.values_mut() {
                        replica.wake = Some(now);
                    }
                }
                self.push(Duration::ZERO, Event::Look { store, life });
                if self.rests {
                    self.push(Duration::ZERO, Event::Beat { store, life });
                }
                for group in groups {
                    self.push(Duration::ZERO, Event::Wake { store, life, group });
                }
            }
        }
        self.push(Duration::ZERO, Event::Judge);
        Ok(())
    }

    /// How long after calm everything is where it belongs, if it is.
    pub(super) fn judge(&mut self) -> Result<Option<Duration>, Violation> {
        let since = self.now - self.calm_at.unwrap_or(self.now);
        if self.led_in.is_none() {
            match self.unled() {
                None => self.led_in = Some(since),
                Some(group) if since > LED_WITHIN => {
                    let detail = format!(
                        "group {group} has no leader {since:?} after the faults\n{}",
                        self.describe(group)
                    );
                    return broken("Led Again", detail);
                }
                Some(_) => {}
            }
        }
        self.tidy()?;
        match self.unrest() {
            None => {
                self.at_rest()?;
                Ok(Some(since))
            }
            Some(reason) if since > SETTLED_WITHIN => {
                broken("Settles", format!("{since:?} after the faults: {reason}"))
            }
            Some(reason) => {
                self.last_unrest = reason;
                Ok(None)
            }
        }
    }

    /// The operator drains and removes those who never come back.
    fn tidy(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.system_leader() else {
            return Ok(());
        };
        let state = self.process(leader).expect("it leads").system.clone();
        let watched = self.replace_after.is_some() && !self.tidies;
        let gone = |store: &&u64| self.nodes.get(store).is_none_or(|node| node.gone);
        let gone: Vec<u64> = state.members.keys().filter(gone).copied().collect();
        let copies = self.founding.copies as usize;
        // The watch leaves to people what it cannot be sure of.
        let unsure = gone.len() * 2 >= state.members.len();
        for store in gone {
            let takers = state.takers().filter(|taker| *taker != store).count();
            let watched = watched && !unsure && takers >= copies;
            let is_known = state.draining.contains(&store) || state.absent.contains(&store);
            if !watched && !is_known {
                let command = SystemCommand::Drain { store, on: true };
                self.wish(leader, "dead_drained", &command)?;
            }
        }
        // Where too few take copies, those who were to leave stay.
        if state.takers().count() < copies {
            let lives = |store: &&u64| self.nodes.get(store).is_some_and(|node| !node.gone);
            if let Some(&store) = state.draining.iter().find(lives) {
                let command = SystemCommand::Drain { store, on: false };
                self.wish(leader, "leavers_stay", &command)?;
            }
        }
        self.remove_drained(leader, &state)
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = (u64, &Process)> {
        { self.nodes.iter() }.filter_map(|(store, node)| Some((*store, node.process.as_ref()?)))
    }

    /// The replica that leads a group and decides; of several the newest.
    pub(super) fn leader_of(&self, group: GroupId) -> Option<&Replica> {
        self.leaders_of(group)
            .max_by_key(|replica| replica.leadership)
    }

    /// All that lead it and believe that they may decide.
    pub(super) fn leaders_of(&self, group: GroupId) -> impl Iterator<Item = &Replica> {
        let processes = self.processes();
        let hosted = processes.filter_map(move |(_, process)| process.hosted.get(&group));
        hosted.filter(|replica| replica.leadership.is_some())
    }

    fn unled(&self) -> Option<GroupId> {
        let mut groups = self.founding.groups();
        groups.find(|group| self.leader_of(*group).is_none())
    }

    /// Why it is not all as it should be, if so.
    pub(super) fn unrest(&self) -> Option<String> {
        if let Some(group) = self.unled() {
            return Some(format!("group {group} has no leader"));
        }
        if let Some(number) = self
            .applicants
            .iter()
            .position(|applicant| !applicant.admitted)
        {
            return Some(format!("applicant {number} is not admitted"));
        }
        let truth = &self.ledger.system;
        let last = self.ledger.groups[&GroupId::ZERO].last();
        for (store, process) in self.processes() {
            if process.system.applied < last {
                return Some(format!("store {store} has not applied the system log"));
            }
        }
        if let Some(reason) = self.misdescribed(truth) {
            return Some(reason);
        }
        let zoneless =
            (self.sabotage == Some(Sabotage::ZonesForgotten)).then(|| without_zones(truth));
        if !plan(zoneless.as_ref().unwrap_or(truth)).is_empty() {
            return Some("the placement is not planned".to_owned());
        }
        let gone = |store: &u64| self.nodes.get(store).is_none_or(|node| node.gone);
        // Where too few are left, a member that leaves keeps what nobody else can take, until another one comes.
        let all_may_go = truth.takers().count() >= self.founding.copies as usize;
        let kept = truth.members.keys().find(|store| {
            gone(store)
                && !truth.absent.contains(store)
                && !(truth.draining.contains(store)
                    && (truth.shards_on(**store) == 0 || !all_may_go))
        });
        if let Some(store) = kept {
            let (draining, absent) = (&truth.draining, &truth.absent);
            return Some(format!(
                "store {store} is gone, and still counted on: {draining:?} drain, {absent:?} are absent of {:?}",
                truth.members.keys()
            ));
        }
        if let Some(store) = truth.absent.iter().find(|store| !gone(store)) {
            return Some(format!("store {store} is there, and still absent"));
        }
        self.founding.groups().find_map(|group| {
            let reason = self.group_unrest(group, truth)?;
            Some(format!("group {group}: {reason}\n{}", self.describe(group)))
        })
    }

    fn group_unrest(&self, group: GroupId, truth: &SystemState) -> Option<String> {
        let entry = &truth.groups[&group];
        let leader = self.leader_of(group).expect("looked at before");
        let status = leader.group.status();
        let configuration = &status.configuration;
        if configuration.is_joint() || status.configuration_index > status.commit {
            return Some("a change is under way".to_owned());
        }
        let listed: Members = entry.replicas.iter().copied().collect();
        if configuration.members() != listed {
            return Some(format!(
                "{configuration:?} is not what the log lists: {listed:?}"
            ));
        }
        let stores: BTreeSet<u64> = entry
            .replicas
            .iter()
            .map(|id| ReplicaAddress::of(*id).store)
            .collect();
        let wanted: BTreeSet<u64> = entry.placement.stores.iter().copied().collect();
        if stores != wanted {
            return Some(format!("it lies on {stores:?} and not on {wanted:?}"));
        }
        let preferred = truth.preferred_leader(group).filter(|id| {
            let node = &self.nodes[&ReplicaAddress::of(*id).store];
            node.process.is_some() && configuration.voters.contains(id)
        });
        if preferred.is_some_and(|preferred| preferred != leader.key.replica) {
            return Some(format!("{} leads, not {preferred:?}", leader.key.replica));
        }
        let last = self.ledger.groups[&group].last();
        for id in &configuration.members() {
            let store = ReplicaAddress::of(*id).store;
            let Some(process) = self
                .nodes
                .get(&store)
                .and_then(|node| node.process.as_ref())
            else {
                continue; // it is gone
            };
            let hosted = process
                .hosted
                .get(&group)
                .filter(|replica| replica.key.replica == *id);
            let Some(replica) = hosted else {
                return Some(format!("store {store} does not host {id}"));
            };
            if replica.machine.applied.plus(64) < last {
                return Some(format!(
                    "store {store} has applied {} of {last}",
                    replica.machine.applied
                ));
            }
            if !replica.group.has_caught_up() {
                return Some(format!("store {store} has not caught up"));
            }
        }
        for (store, process) in self.processes() {
            let here = process
                .hosted
                .get(&group)
                .map(|replica| replica.key.replica);
            if here.is_some_and(|id| !entry.replicas.contains(&id)) {
                return Some(format!("store {store} hosts {here:?}, which nobody lists"));
            }
            let on_disk = self.nodes[&store].disk.logs.replicas().into_iter();
            let orphan = { on_disk }
                .find(|key| key.group == group && !entry.replicas.contains(&key.replica));
            if let Some(key) = orphan {
                return Some(format!("store {store} keeps files of {key:?}"));
            }
        }
        None
    }

    /// What must hold of a cluster at rest.
    fn at_rest(&mut self) -> Result<(), Violation> {
        let truth = &self.ledger.system;
        for (group, past) in &self.ledger.groups {
            let leader = self.leader_of(*group).expect("at rest");
            if leader.machine.applied < past.acknowledged {
                return broken(
                    "Committed Entries",
                    format!(
                        "group {group}: {} was acknowledged, the leader's state ends at {}",
                        past.acknowledged, leader.machine.applied
                    ),
                );
            }
        }
        for (store, process) in self.processes() {
            let mut seen = process.system.clone();
            seen.applied = truth.applied;
            if seen != *truth {
                return broken(
                    "Committed Entries",
                    format!("store {store} holds another system state"),
                );
            }
        }
        if self.sabotage == Some(Sabotage::Lopsided) {
            let mut truth = truth.clone();
            for entry in truth.groups.values_mut() {
                entry.placement.leader = entry.placement.stores.first().copied();
                entry.placement.stores.truncate(1);
            }
            return self.balanced(&truth);
        }
        self.spread_over_zones(truth)?;
        self.balanced(truth)
    }

    /// Replicas and leaderships by quota, where no zone and no want of nodes speaks against it.
    fn balanced(&self, truth: &SystemState) -> Result<(), Violation> {
        let takers: Vec<u64> = truth.takers().collect();
        let said: BTreeMap<u64, Description> = { truth.members.keys() }
            .map(|store| (*store, self.said(truth, *store)))
            .collect();
        let zoned = said.values().any(|said| said.zone.is_some());
        let copies = self.founding.copies as usize;
        if zoned || takers.len() < copies {
            return Ok(());
        }
        let weight = |store: &u64| said[store].capacity as f64;
        let quotas = quotas(&takers, weight, self.shards as usize, copies);
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        let mut led: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, entry) in truth
            .groups
            .iter()
            .filter(|(group, _)| **group != GroupId::ZERO)
        {
            for store in &entry.placement.stores {
                *held.entry(*store).or_default() += 1;
            }
            if let Some(leader) = entry.placement.leader {
                *led.entry(leader).or_default() += 1;
            }
        }
        for store in &takers {
            let (quota, held) = (quotas[store], held.get(store).copied().unwrap_or(0) as f64);
            if held < (quota + 1e-6).floor() || held > (quota - 1e-6).ceil() {
                return broken(
                    "Balance",
                    format!("store {store} holds {held} copies, its quota is {quota}: {held:?}"),
                );
            }
        }
        let even = takers
            .iter()
            .all(|store| weight(store) == weight(&takers[0]));
        for store in takers.iter().filter(|_| even) {
            let led = led.get(store).copied().unwrap_or(0);
            let quota = self.shards as usize / takers.len();
            if led < quota || led > quota + 1 {
                return broken(
                    "Balance",
                    format!("store {store} leads {led} shards, its quota is {quota}"),
                );
            }
        }
        Ok(())
    }

    /// A group, as every replica of it sees it.
    pub(super) fn describe(&self, group: GroupId) -> String {
        let truth = self.ledger.system.groups.get(&group);
        let past = self.ledger.groups.get(&group);
        let mut text = format!(
            "  listed {:?}\n  committed {:?}",
            truth,
            past.map(|past| &past.configuration)
        );
        for (store, node) in &self.nodes {
            let hosted = { node.process.as_ref() }.and_then(|process| process.hosted.get(&group));
            let keys: Vec<ReplicaId> = { node.disk.logs.replicas().into_iter() }
                .filter(|key: &ReplicaKey| key.group == group)
                .map(|key| key.replica)
                .collect();
            match hosted {
                Some(replica) => {
                    let s = replica.group.status();
                    text += &format!(
                        "\n  store {store}: {} {:?} term {} leader {:?} open {:?} commit {} applied {} last {} configuration {} {:?}",
                        s.replica,
                        s.role,
                        s.term,
                        s.leader,
                        replica.leadership,
                        s.commit,
                        s.applied,
                        s.last,
                        s.configuration_index,
                        s.configuration
                    );
                }
                None if !keys.is_empty() => {
                    text += &format!(
                        "\n  store {store}: files of {keys:?}, gone {}, up {}",
                        node.gone,
                        node.process.is_some()
                    )
                }
                None => {}
            }
        }
        text
    }
}

/// How many copies every store should hold: by weight, but none more than one of each shard.
pub(super) fn quotas(
    takers: &[u64],
    weight: impl Fn(&u64) -> f64,
    shards: usize,
    copies: usize,
) -> BTreeMap<u64, f64> {
    let mut quotas = BTreeMap::new();
    let mut open: Vec<u64> = takers.to_vec();
    let mut left = (shards * copies.min(takers.len())) as f64;
    loop {
        let sum: f64 = open.iter().map(&weight).sum();
        let share = |store: &u64| left * weight(store) / sum;
        let full: Vec<u64> = { open.iter().copied() }
            .filter(|store| share(store) >= shards as f64)
            .collect();
        if full.is_empty() {
            let rest: Vec<(u64, f64)> = open.iter().map(|store| (*store, share(store))).collect();
            quotas.extend(rest);
            return quotas;
        }
        for store in full {
            quotas.insert(store, shards as f64);
            open.retain(|other| *other != store);
            left -= shards as f64;
        }
    }
}
