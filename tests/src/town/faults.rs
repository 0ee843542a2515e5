//! What goes wrong, and what operators do, in a storm.

use core::time::Duration;
use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::IndexedRandom;
use synod::system::{
    Goals, ReplicaAddress, SystemCommand, SystemState, move_replica, rebalance, voters_for,
};
use synod_consensus::{Configuration, GroupId, ReplicaId, ReplicaKey};

use super::network::Link;
use super::node::Waits;
use super::steward::Moment;
use super::world::{Event, World};
use crate::violation::Violation;

/// The end of a fault.
#[derive(Debug)]
pub(super) enum Undo {
    Start { store: u64 },
    ZoneReturns { stores: Vec<u64> },
    Mend(Vec<Link>),
    Hasten { store: u64 },
    Sync { store: u64, to: Duration },
    Resumed { store: u64, life: u64 },
}

/// The links that part `apart` from the rest of `all`; `one_way`: only those that lead there.
pub(super) fn links_apart(apart: &BTreeSet<u64>, all: &[u64], one_way: bool) -> Vec<Link> {
    let mut links = Vec::new();
    for a in apart {
        for b in all.iter().filter(|b| !apart.contains(b)) {
            links.push((*a, *b));
            if !one_way {
                links.push((*b, *a));
            }
        }
    }
    links
}

impl World {
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        if self.calm_at.is_some() {
            return Ok(());
        }
        let pause = self.scale.pause.mul_f64(self.rng.random_range(0.1..2.0));
        self.push(pause, Event::Fault);
        if self.rng.random_bool(0.5) {
            self.operate()
        } else {
            self.coverage.count("faults");
            self.strike()
        }
    }

    fn running(&self) -> Vec<u64> {
        { self.nodes.values() }
            .filter(|node| node.runs(self.now))
            .map(|node| node.store)
            .collect()
    }

    fn some_time(&mut self) -> Duration {
        let most = [2_000, 6_000, 25_000][self.rng.random_range(0..3)];
        Duration::from_millis(self.rng.random_range(300..most))
    }

    fn strike(&mut self) -> Result<(), Violation> {
        let running = self.running();
        let Some(&store) = running.choose(&mut self.rng) else {
            return Ok(());
        };
        let time = self.some_time();
        match self.rng.random_range(0..12) {
            0 | 1 => {
                self.coverage.count("crashes");
                self.crash(store)?;
            }
            2 => {
                // As after SIGTERM: it says goodbye, hands over, ends, and starts again.
                let until = self.now + Duration::from_secs(3);
                if let Some(process) = self.process(store) {
                    process.stopping.get_or_insert(until);
                }
                self.coverage.count("stops");
            }
            3 => {
                let now = self.now;
                let node = self.nodes.get_mut(&store).expect("it runs");
                node.paused_until = now + time;
                node.silent_since.get_or_insert(now);
                let life = node.life;
                self.coverage.count("pauses");
                self.push(time, Event::Undo(Undo::Resumed { store, life }));
            }
            4 | 5 => self.partition(&running, time),
            6 => {
                let by = Duration::from_millis(self.rng.random_range(20..250));
                self.network.slow(store, Some(by));
                self.coverage.count("slow_nodes");
                self.push(time, Event::Undo(Undo::Hasten { store }));
            }
            7 => {
                let node = self.nodes.get_mut(&store).expect("it runs");
                let to = node.sync;
                node.sync = Duration::from_millis(self.rng.random_range(10..150));
                self.coverage.count("slow_disks");
                self.push(time, Event::Undo(Undo::Sync { store, to }));
            }
            8 => self.wipe(store)?,
            9 => self.damage(store)?,
            10 => self.lose_zone()?,
            _ => {
                if self.rng.random_bool(0.3)
                    && let Some(leader) = self.system_leader()
                {
                    self.coverage.count("system_leader_crashes");
                    self.crash(leader)?;
                } else {
                    // The rarest moment is waited for whenever another one is.
                    let chosen = Moment::ALL.choose(&mut self.rng).copied();
                    self.ambushes
                        .extend(chosen.into_iter().chain([Moment::Absent]));
                }
            }
        }
        Ok(())
    }

    fn partition(&mut self, running: &[u64], time: Duration) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        let one_way = self.rng.random_bool(0.3);
        let apart: BTreeSet<u64> = if self.rng.random_bool(0.5) {
            running.choose(&mut self.rng).copied().into_iter().collect()
        } else {
            let share = self.rng.random_range(0.2..0.5);
            { all.iter().copied() }
                .filter(|_| self.rng.random_bool(share))
                .collect()
        };
        let links = links_apart(&apart, &all, one_way);
        self.coverage.count(match one_way {
            true => "one_way_partitions",
            false => "partitions",
        });
        self.network.cut(&links, self.now);
        self.push(time, Event::Undo(Undo::Mend(links)));
    }

    /// The effective configurations of every group, wherever they are known.
    fn configurations(&self) -> Vec<(GroupId, Configuration)> {
        let past = self.ledger.groups.iter();
        let committed = past.map(|(group, past)| (*group, past.configuration.1.clone()));
        let hosted = { self.nodes.values() }
            .filter_map(|node| node.process.as_ref())
            .flat_map(|process| &process.hosted)
            .map(|(group, replica)| (*group, replica.group.status().configuration));
        committed.chain(hosted).collect()
    }

    /// Whether every group keeps its majority when these are lost for ever, too. Only asked while everybody else runs: then every
    /// configuration that may ever count is known.
    pub(super) fn may_lose(&self, lose: impl Fn(ReplicaKey) -> bool) -> bool {
        let everybody_runs = { self.nodes.values() }.all(|node| node.gone || node.runs(self.now));
        let stays = |group: GroupId, id: &ReplicaId| {
            let key = ReplicaKey {
                group,
                replica: *id,
            };
            let node = self.nodes.get(&ReplicaAddress::of(*id).store);
            let process = node.and_then(|node| node.process.as_ref());
            let hosted = process.and_then(|process| process.hosted.get(&group));
            hosted.is_some_and(|replica| replica.key == key) && !lose(key)
        };
        everybody_runs
            && self.goals_keep_majorities(&lose)
            && self.configurations().iter().all(|(group, configuration)| {
                [&configuration.voters, &configuration.outgoing]
                    .iter()
                    .all(|half| {
                        let stay = half.iter().filter(|id| stays(*group, id)).count();
                        half.is_empty() || stay * 2 > half.len()
                    })
            })
    }

    /// Whether the voters of every goal that one of these is to be a voter of keep a majority, too: the group's leader, which has just
    /// heard it, may begin the change to them. Nobody can know better then.
    fn goals_keep_majorities(&self, lose: impl Fn(ReplicaKey) -> bool) -> bool {
        let is_lost = |key: &ReplicaKey| {
            let node = self.nodes.get(&ReplicaAddress::of(key.replica).store);
            node.is_none_or(|node| node.gone) || self.ledger.lost.contains(key)
        };
        { self.ledger.system.groups.iter() }
            .filter(|(group, _)| **group != GroupId::ZERO)
            .all(|(group, entry)| {
                let stores = &entry.placement.stores;
                let replicas = { stores.iter() }
                    .filter_map(|store| self.ledger.system.replica_on(*group, *store));
                let keys = replicas.map(|replica| ReplicaKey {
                    group: *group,
                    replica,
                });
                let (lost, others): (Vec<_>, Vec<_>) = keys.partition(is_lost);
                let more = others.into_iter().filter(|key| lose(*key)).count();
                more == 0 || (lost.len() + more) * 2 < voters_for(stores.len())
            })
    }

    /// A node loses its disk, and with it its identity: it never comes back.
    fn wipe(&mut self, store: u64) -> Result<(), Violation> {
        let enough = self.ledger.system.takers().count() > 3;
        if enough && self.may_lose(|key| ReplicaAddress::of(key.replica).store == store) {
            self.coverage.count("wipes");
            self.nodes.get_mut(&store).expect("it runs").gone = true;
            self.crash(store)?;
            if self.rng.random_bool(0.7) {
                self.join(); // the same machine under another name
            }
        }
        Ok(())
    }

    /// A replica cannot be read at the next start.
    fn damage(&mut self, store: u64) -> Result<(), Violation> {
        let hosted = { self.process(store) }.map(|process| {
            let hosted = process.hosted.values();
            hosted.map(|replica| replica.key).collect::<Vec<_>>()
        });
        let shards = |key: &ReplicaKey| key.group != GroupId::ZERO;
        let candidates: Vec<_> = hosted.into_iter().flatten().filter(shards).collect();
        let Some(&key) = candidates.choose(&mut self.rng) else {
            return Ok(());
        };
        if self.may_lose(|lost| lost == key) {
            self.coverage.count("damages");
            let node = self.nodes.get_mut(&store).expect("it runs");
            node.disk.damaged.insert(key);
            self.crash(store)?;
        }
        Ok(())
    }

    fn lose_zone(&mut self) -> Result<(), Violation> {
        let zones: BTreeSet<String> = { self.nodes.values() }
            .filter_map(|node| node.description.zone.clone())
            .collect();
        let zones: Vec<String> = zones.into_iter().collect();
        let Some(zone) = zones.choose(&mut self.rng) else {
            return Ok(());
        };
        let stores: Vec<u64> = { self.nodes.values() }
            .filter(|node| node.description.zone.as_ref() == Some(zone) && node.process.is_some())
            .map(|node| node.store)
            .collect();
        self.coverage.count("zones_lost");
        // Now and then it stays away for so long that others get its copies.
        let longer = Duration::from_millis(self.rng.random_range(1_000..15_000));
        let away = { self.replace_after }.filter(|_| self.rng.random_bool(0.5));
        for store in &stores {
            match away {
                Some(_) => self.stop(*store)?,
                None => self.crash(*store)?,
            }
        }
        if let Some(replace_after) = away {
            let returns = Event::Undo(Undo::ZoneReturns { stores });
            self.push(replace_after + longer, returns);
        }
        Ok(())
    }

    /// The nodes of a zone that was lost for long start again, one after the other.
    fn zone_returns(&mut self, stores: Vec<u64>) {
        let system = &self.ledger.system;
        let away = |store: &&u64| system.absent.contains(store);
        let replaced = stores.iter().filter(away).count();
        let members = { stores.iter() }.filter(|store| system.members.contains_key(store));
        if replaced > 0 {
            self.coverage.count("zones_returned");
        }
        if replaced > 0 && replaced == members.count() {
            self.coverage.count("zones_replaced");
        }
        for store in stores {
            let back = Duration::from_millis(self.rng.random_range(0..3_000));
            self.push(back, Event::Undo(Undo::Start { store }));
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) -> Result<(), Violation> {
        match undo {
            Undo::Start { store } => self.start(store)?,
            Undo::ZoneReturns { stores } => self.zone_returns(stores),
            Undo::Mend(links) if self.calm_at.is_none() => self.network.mend(&links),
            Undo::Mend(_) => {}
            Undo::Hasten { store } => self.network.slow(store, None),
            Undo::Sync { store, to } => {
                if let Some(node) = self.nodes.get_mut(&store) {
                    node.sync = node.sync.min(to);
                }
            }
            Undo::Resumed { store, life } => {
                if self.lives(store, life) {
                    self.nodes.get_mut(&store).expect("it lives").silent_since = None;
                }
            }
        }
        Ok(())
    }

    /// An operator does something, if the system group listens.
    fn operate(&mut self) -> Result<(), Violation> {
        let most = self.scale.nodes.1 + 5;
        let present = self.nodes.values().filter(|node| !node.gone).count() as u64;
        let choice = self.rng.random_range(0..10);
        if choice < 3 && present < most {
            self.join();
            if self.rng.random_bool(0.3) {
                self.join();
            }
            return Ok(());
        }
        let Some(leader) = self.system_leader() else {
            return Ok(());
        };
        let state = self.process(leader).expect("it leads").system.clone();
        let members: Vec<u64> = state.members.keys().copied().collect();
        let Some(&store) = members.choose(&mut self.rng) else {
            return Ok(());
        };
        match choice {
            3 | 4 => {
                let both = self.rng.random_bool(0.4);
                self.wish(leader, "drains", &SystemCommand::Drain { store, on: true })?;
                if both && let Some(&store) = members.choose(&mut self.rng) {
                    let command = SystemCommand::Drain { store, on: true };
                    self.wish(leader, "second_drains", &command)?;
                }
            }
            5 => {
                if let Some(&store) = state.draining.iter().next() {
                    let command = SystemCommand::Drain { store, on: false };
                    self.wish(leader, "drains_undone", &command)?;
                }
            }
            6 => self.remove_drained(leader, &state)?,
            7 | 8 => {
                let shards = u64::from(self.shards);
                let group = GroupId::new(self.rng.random_range(1..=shards));
                let to = store;
                let holders = state
                    .groups
                    .get(&group)
                    .map(|entry| entry.placement.stores.clone());
                if let Some(&from) = holders.unwrap_or_default().choose(&mut self.rng)
                    && let Ok(goals) = move_replica(&state, group, from, to)
                {
                    self.place(leader, "moves_by_hand", &state, goals)?;
                }
            }
            _ => {
                let afresh = self.rng.random_bool(0.5);
                if let Ok(goals) = rebalance(&state, afresh) {
                    self.place(leader, "rebalances", &state, goals)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a drained member out, if it may go.
    pub(super) fn remove_drained(
        &mut self,
        leader: u64,
        state: &SystemState,
    ) -> Result<(), Violation> {
        let Some(system) = self.replica(leader, GroupId::ZERO) else {
            return Ok(());
        };
        let configuration = system.group.status().configuration;
        let votes = |store: &u64| {
            let mut voters = configuration.voters.iter().chain(&configuration.outgoing);
            voters.any(|id| ReplicaAddress::of(*id).store == *store)
        };
        let free = |store: &u64| state.shards_on(*store) == 0 && !votes(store);
        if let Some(store) = state.draining.iter().copied().find(free) {
            self.wish(leader, "removals", &SystemCommand::Remove { store })?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        leader: u64,
        name: &'static str,
        state: &SystemState,
        Goals { goals, .. }: Goals,
    ) -> Result<(), Violation> {
        let epoch = state.epoch;
        match goals.is_empty() {
            true => Ok(()),
            false => self.wish(leader, name, &SystemCommand::Place { epoch, goals }),
        }
    }

    pub(super) fn wish(
        &mut self,
        leader: u64,
        name: &'static str,
        command: &SystemCommand,
    ) -> Result<(), Violation> {
        if self.propose_system(leader, command, Waits::Operator)? {
            self.coverage.count(name);
        }
        Ok(())
    }
}
