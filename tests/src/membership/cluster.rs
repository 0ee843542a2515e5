//! The life of stores and processes: the log that admits and removes, starts, joins, pauses, ends.
//!
//! Here: what the node of `runtime` and the system group do around the machine. Not here: one step of a machine
//! ([`super::world`]), what goes wrong ([`super::faults`]).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_membership::{LocalMember, Metadata, StoreId, Swim};

use super::agenda::Happening;
use super::invariants::Observer;
use super::process::{Keys, Process, WrongClock};
use super::sabotage::Sabotage;
use super::world::{MESSAGES_LEAST, World};
use crate::violation::{Violation, broken};

/// Stores whose names every node was given to find the others by: the first ones.
const SEEDS: u64 = 2;

/// One entry of the system log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Admit(StoreId),
    Remove(StoreId),
}

/// What a store's disk and the log know about it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) starts: u64,
    pub(super) removed: bool,
}

impl World {
    /// The log admits a store before it says a word (M41).
    pub(super) fn new_store(&mut self, name: String) -> StoreId {
        let store = StoreId::new(self.disks.len() as u64 + 1);
        self.disks.insert(
            store,
            Disk {
                name,
                starts: 0,
                removed: false,
            },
        );
        self.append(Entry::Admit(store));
        store
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if let Entry::Remove(store) = entry
            && let Some(disk) = self.disks.get_mut(&store)
        {
            disk.removed = true;
        }
        self.log.push(entry);
        for process in 0..self.processes.len() {
            if self.processes[process].up {
                self.appoint_catch_up(process);
            }
        }
    }

    fn appoint_catch_up(&mut self, process: usize) {
        let lag = self
            .interval
            .mul_f64(self.rng.random_range(0.0f64..1.5).powi(4));
        self.schedule(lag, Happening::CatchUp(process));
    }

    pub(super) fn catch_up(&mut self, process: usize) -> Result<(), Violation> {
        if !self.processes[process].joined {
            return Ok(()); // it has no log yet
        }
        if self.processes[process].paused_until.is_some() {
            self.schedule(self.interval, Happening::CatchUp(process));
            return Ok(());
        }
        let entries: Vec<Entry> = self.log[self.processes[process].applied..].to_vec();
        for entry in entries {
            if !self.processes[process].up {
                break;
            }
            self.processes[process].applied += 1;
            match entry {
                Entry::Admit(store) => {
                    self.processes[process].admitted.insert(store);
                    self.act(process, None, |swim, now| swim.admitted(now, [store]))?;
                }
                Entry::Remove(store) => {
                    self.processes[process].admitted.remove(&store);
                    self.processes[process].observer.forget(store);
                    self.act(process, None, |swim, _| swim.removed(store))?;
                    if store == self.processes[process].store {
                        self.stop(process);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, store: StoreId) -> Result<(), Violation> {
        let up = self
            .processes
            .iter()
            .any(|process| process.up && process.store == store && !process.is_copy);
        let Some(disk) = self
            .disks
            .get_mut(&store)
            .filter(|disk| !up && !disk.removed)
        else {
            return Ok(());
        };
        disk.starts += 1;
        let generation = disk.starts;
        if generation > 1 {
            self.coverage.count("restarts");
        }
        self.start(store, generation, false)
    }

    /// Every start has a new address.
    pub(super) fn start(
        &mut self,
        store: StoreId,
        generation: u64,
        is_copy: bool,
    ) -> Result<(), Violation> {
        let number = self.processes.len();
        let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7_000));
        let origin = Duration::from_millis(self.rng.random_range(0..1_000_000));
        let clock = WrongClock::new(origin, self.rng.random_range(0.95..1.05));
        let me = LocalMember {
            store,
            name: self.disks[&store].name.clone(),
            generation,
            addresses: vec![address],
            metadata: Metadata {
                capacity: 1,
                ..Metadata::default()
            },
        };
        let made = Swim::new(
            self.options.clone(),
            me,
            Box::new(Keys(store)),
            self.rng.random(),
            clock.shows(self.now),
        );
        let Ok(mut swim) = made else {
            return broken("Bounds", format!("{store} cannot start"));
        };
        if self.sabotage == Some(Sabotage::Oversized) {
            swim.set_datagram_bytes(self.options.datagram_bytes * 2);
        }
        self.processes.push(Process {
            store,
            generation,
            address,
            swim,
            up: true,
            is_copy,
            joined: false,
            leaving: false,
            applied: 0,
            admitted: BTreeSet::from([store]),
            paused_until: None,
            backlog: Vec::new(),
            observer: Observer::new(store, self.suspicion_least),
            seeds_once: None,
            looked: 0,
            clock,
            wakes_at: Duration::MAX,
        });
        self.addresses.insert(address, number);
        self.act(number, None, |_, _| {})?;
        if self.moved
            && let Some(last) = (0..number)
                .rev()
                .find(|&one| self.processes[one].store == store)
        {
            return self.remember(number, last);
        }
        self.join_cluster(number)
    }

    /// Through any member that answers: its share of the log, and its full view.
    pub(super) fn join_cluster(&mut self, process: usize) -> Result<(), Violation> {
        if !self.processes[process].up || self.processes[process].joined {
            return Ok(());
        }
        if self.processes[process].paused_until.is_some() {
            self.schedule(self.interval, Happening::Join(process));
            return Ok(());
        }
        let store = self.processes[process].store;
        let seeds: Vec<usize> = self
            .running()
            .into_iter()
            .filter(|&seed| self.processes[seed].store != store)
            .collect();
        let first_ever = self
            .processes
            .iter()
            .filter(|process| process.joined)
            .count()
            == 0;
        let answers = |&seed: &usize| {
            let (seed, me) = (&self.processes[seed], &self.processes[process]);
            let blocked = |from, to| {
                self.network
                    .cuts
                    .iter()
                    .any(|cut| cut.from.contains(from) && cut.to.contains(to))
            };
            seed.joined && !blocked(&seed.store, &me.store) && !blocked(&me.store, &seed.store)
        };
        let Some(seed) = seeds.into_iter().filter(answers).choose(&mut self.rng) else {
            if first_ever {
                self.processes[process].joined = true;
                self.appoint_catch_up(process);
            } else {
                self.schedule(self.interval, Happening::Join(process));
            }
            return Ok(());
        };
        self.processes[process].joined = true;
        let mut view = self.processes[seed].swim.view();
        if self.processes[process].is_copy && self.rng.random_bool(0.5) {
            view.retain(|record| record.record().store != store); // not told of itself: it must find out
        }
        let applied = self.processes[seed].applied;
        let admitted = self.processes[seed].admitted.clone();
        let known: Vec<StoreId> = if self.sabotage == Some(Sabotage::OpenDoor) {
            (1..1_000).map(StoreId::new).collect()
        } else {
            admitted.iter().copied().collect()
        };
        let removed: Vec<StoreId> = self.log[..applied]
            .iter()
            .filter_map(|entry| match entry {
                Entry::Remove(store) => Some(*store),
                Entry::Admit(_) => None,
            })
            .collect();
        if removed.contains(&store) {
            self.stop(process);
            return Ok(());
        }
        self.processes[process].applied = applied;
        self.processes[process].admitted = admitted;
        self.processes[process].admitted.insert(store);
        self.appoint_catch_up(process);
        if let Some(own) = self.processes[process].swim.member(store) {
            let own = own.signed().clone();
            self.act(seed, None, |swim, now| swim.introduce(now, own))?;
        }
        self.act(process, None, |swim, now| {
            for store in removed {
                swim.removed(store);
            }
            swim.admitted(now, known);
            swim.learn(now, view);
        })
    }

    /// Every process of a store ends at once; each comes back within a while, at another address, with the log on its disk. Logs
    /// hold no addresses, so they find each other by the names of their seeds alone.
    pub(super) fn move_all(&mut self) {
        let stores: Vec<StoreId> = self
            .running()
            .into_iter()
            .map(|one| self.processes[one].store)
            .collect();
        for process in 0..self.processes.len() {
            self.stop(process);
        }
        for store in stores {
            let back = self.interval.mul_f64(self.rng.random_range(0.0..20.0));
            self.schedule(back, Happening::Restart(store));
        }
    }

    /// A start with the log of the last one.
    fn remember(&mut self, process: usize, last: usize) -> Result<(), Violation> {
        let applied = self.processes[last].applied;
        let admitted = self.processes[last].admitted.clone();
        self.processes[process].joined = true;
        self.processes[process].applied = applied;
        self.processes[process].admitted = admitted.clone();
        self.act(process, None, |swim, now| swim.admitted(now, admitted))?;
        self.seek(process)
    }

    /// Introduces itself to every seed that its name leads to, until one is known to it.
    pub(super) fn seek(&mut self, process: usize) -> Result<(), Violation> {
        let me = &self.processes[process];
        if !me.up || me.swim.members().count() > 1 {
            return Ok(());
        }
        let (store, own) = (me.store, me.swim.view());
        // What the names stand for now: the newest process of each of the first stores.
        let resolved = (1..=SEEDS).map(StoreId::new).filter_map(|seed| {
            let known = |&number: &usize| self.processes[number].store == seed;
            (0..self.processes.len()).rev().find(known)
        });
        let mut seeds: Vec<usize> = resolved.collect();
        if self.sabotage == Some(Sabotage::ResolveOnce) {
            seeds = self.processes[process]
                .seeds_once
                .get_or_insert(seeds)
                .clone();
        }
        for seed in seeds {
            if !self.processes[seed].up || self.processes[seed].store == store {
                continue;
            }
            let view = self.processes[seed].swim.view();
            let own = own.clone();
            self.act(seed, None, |swim, now| {
                own.into_iter()
                    .for_each(|record| swim.introduce(now, record));
            })?;
            self.act(process, None, |swim, now| swim.learn(now, view))?;
        }
        self.schedule(self.interval, Happening::Seek(process));
        Ok(())
    }

    pub(super) fn stop(&mut self, process: usize) {
        self.processes[process].up = false;
        self.processes[process].backlog.clear();
    }

    pub(super) fn resume(&mut self, process: usize) -> Result<(), Violation> {
        if self.processes[process]
            .paused_until
            .is_some_and(|until| until > self.now)
        {
            return Ok(());
        }
        self.processes[process].paused_until = None;
        // E22: whether the timer or the socket is read first is up to the scheduler.
        if self.rng.random_bool(0.5) {
            self.act(process, None, |swim, now| swim.tick(now))?;
        }
        for arrival in core::mem::take(&mut self.processes[process].backlog) {
            self.arrive(process, arrival)?;
        }
        self.act(process, None, |swim, now| swim.tick(now))
    }

    /// A process without enough processor: it stands still for a while, runs for a moment, and so on.
    pub(super) fn stall(&mut self, process: usize, until: Duration) -> Result<(), Violation> {
        let spell = self.interval.mul_f64(self.rng.random_range(0.2..1.9));
        let moment = self.interval.mul_f64(0.04);
        if !self.processes[process].up || self.now >= until {
            return Ok(());
        }
        if self.processes[process].paused_until.is_none() {
            self.processes[process].paused_until = Some(self.now + spell);
            self.schedule(spell, Happening::Resume(process));
        }
        self.schedule(spell + moment, Happening::Stall { process, until });
        Ok(())
    }

    pub(super) fn wake(&mut self, process: usize) -> Result<(), Violation> {
        if self.sabotage == Some(Sabotage::Amnesia) && self.messages > MESSAGES_LEAST / 2 {
            self.sabotage = None;
            self.processes[process].observer.ignore_events();
            let Process {
                store,
                generation,
                address,
                clock,
                ..
            } = self.processes[process];
            let name = self.disks[&store].name.clone();
            let me = LocalMember {
                store,
                name,
                generation,
                addresses: vec![address],
                metadata: Metadata::default(),
            };
            let admitted: Vec<StoreId> = self.processes[process].admitted.iter().copied().collect();
            let view = self.processes[process].swim.view();
            let options = self.options.clone();
            let Ok(swim) = Swim::new(options, me, Box::new(Keys(store)), 1, clock.shows(self.now))
            else {
                return Ok(());
            };
            self.processes[process].swim = swim;
            self.act(process, None, |swim, now| {
                swim.admitted(now, admitted);
                view.into_iter()
                    .filter(|record| record.record().store != store)
                    .for_each(|record| swim.introduce(now, record));
            })?;
        }
        self.act(process, None, |swim, now| swim.tick(now))
    }
}
