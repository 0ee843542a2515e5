//! What goes wrong, and when.
//!
//! Here: the fault plan of [`World`]: one fault after the other, drawn by the seed, each with its end. Not here: the wire's
//! steady faults ([`super::network`]).

use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_membership::{Metadata, StoreId};

use super::agenda::Happening;
use super::cluster::Entry;
use super::network::Cut;
use super::world::World;
use crate::violation::Violation;

/// Stores that one seed may bring into being.
const STORES_MAX: usize = 45;
/// In a crowd: so many more than it began with.
const STORES_MORE: usize = 20;

impl World {
    /// One fault, and the appointment for the next.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        let (least, most) = self.pace.gap;
        let next = self.interval.mul_f64(self.rng.random_range(least..most));
        self.schedule(next, Happening::Fault);
        self.coverage.count("faults");
        match self.rng.random_range(0..100) {
            0..20 => self.crash(),
            20..27 => self.wipe(),
            27..34 => self.pause(),
            34..39 => self.starve(),
            39..42 => self.jump(),
            42..56 => self.partition(),
            56..66 => self.cut_off_one(),
            66..70 => self.lose_more(),
            70..75 => self.leave(),
            75..82 => self.join(),
            82..87 => self.remove(),
            87..92 => self.copy(),
            92..95 => self.forge(),
            _ => self.advertise(),
        }
    }

    fn stores_most(&self) -> usize {
        STORES_MAX.max(self.size + STORES_MORE)
    }

    fn spell(&mut self, least: f64, most: f64) -> Duration {
        let spell = least * (most / least).powf(self.rng.random());
        self.interval.mul_f64(spell)
    }

    /// A running process that is not the last but one.
    fn victim(&mut self) -> Option<usize> {
        let running = self.running();
        if running.len() <= 2 {
            return None;
        }
        running.into_iter().choose(&mut self.rng)
    }

    fn crash(&mut self) -> Result<(), Violation> {
        let Some(victim) = self.victim() else {
            return Ok(());
        };
        self.coverage.count("crashes");
        self.stop(victim);
        if self.rng.random_bool(0.9) {
            let back = self.spell(0.5, 150.0);
            let store = self.processes[victim].store;
            self.schedule(back, Happening::Restart(store));
        }
        Ok(())
    }

    /// E32: the disk is lost; the node comes back under the same name as a new store whose count starts at 1.
    fn wipe(&mut self) -> Result<(), Violation> {
        let Some(victim) = self
            .victim()
            .filter(|_| self.disks.len() < self.stores_most())
        else {
            return Ok(());
        };
        self.coverage.count("wipes");
        let store = self.processes[victim].store;
        let name = self.disks[&store].name.clone();
        self.stop(victim);
        let fresh = self.new_store(name);
        let back = self.spell(0.5, 50.0);
        self.schedule(back, Happening::Restart(fresh));
        if self.rng.random_bool(0.7) {
            self.append(Entry::Remove(store));
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Violation> {
        let Some(victim) = self.victim() else {
            return Ok(());
        };
        self.coverage.count("pauses");
        let spell = self.spell(0.3, 60.0);
        self.processes[victim].paused_until = Some(self.now + spell);
        self.schedule(spell, Happening::Resume(victim));
        Ok(())
    }

    /// Overload: it has its processor for a few percent of the time.
    fn starve(&mut self) -> Result<(), Violation> {
        let Some(process) = self.victim() else {
            return Ok(());
        };
        self.coverage.count("starved");
        let until = self.now + self.spell(5.0, 80.0);
        self.stall(process, until)
    }

    /// Its clock jumps ahead, as after a suspended machine's return.
    fn jump(&mut self) -> Result<(), Violation> {
        let Some(victim) = self.victim() else {
            return Ok(());
        };
        self.coverage.count("clock_jumps");
        let ahead = self.spell(0.5, 100.0);
        self.processes[victim].clock.jump(ahead);
        self.act(victim, None, |swim, now| swim.tick(now))
    }

    fn partition(&mut self) -> Result<(), Violation> {
        self.coverage.count("partitions");
        let share = self.rng.random_range(0.1..0.6);
        let stores: Vec<StoreId> = self.disks.keys().copied().collect();
        let (one, other): (Vec<_>, Vec<_>) = stores
            .into_iter()
            .partition(|_| self.rng.random_bool(share));
        let spell = self.spell(1.0, 120.0);
        self.cut(&one, &other, false, spell);
        self.cut(&other, &one, false, spell);
        Ok(())
    }

    /// One node hears nobody, is heard by nobody, or both; its system may say so.
    fn cut_off_one(&mut self) -> Result<(), Violation> {
        let Some(victim) = self.victim() else {
            return Ok(());
        };
        let one = [self.processes[victim].store];
        let others: Vec<StoreId> = self
            .disks
            .keys()
            .copied()
            .filter(|store| *store != one[0])
            .collect();
        let spell = self.spell(1.0, 80.0);
        let ways = self.rng.random_range(0..3);
        if ways < 2 {
            let loud = self.rng.random_bool(0.4);
            self.cut(&one, &others, loud, spell);
        }
        if ways != 1 {
            self.cut(&others, &one, false, spell);
        }
        if ways > 0 {
            self.coverage.count("one_way_cuts");
        }
        Ok(())
    }

    fn cut(&mut self, from: &[StoreId], to: &[StoreId], loud: bool, spell: Duration) {
        self.cuts += 1;
        let (number, from, to) = (
            self.cuts,
            from.iter().copied().collect(),
            to.iter().copied().collect(),
        );
        self.network.cuts.push(Cut {
            number,
            from,
            to,
            loud,
        });
        self.schedule(spell, Happening::Mend(number));
    }

    fn lose_more(&mut self) -> Result<(), Violation> {
        self.coverage.count("losses");
        self.network.loss = self.rng.random_range(0.0..0.4);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Violation> {
        let Some(victim) = self
            .victim()
            .filter(|&victim| self.processes[victim].joined)
        else {
            return Ok(());
        };
        self.coverage.count("farewells");
        self.processes[victim].leaving = true;
        self.schedule(self.interval * 20, Happening::Kill(victim)); // whoever cannot say goodbye goes without
        if self.rng.random_bool(0.6) {
            let store = self.processes[victim].store;
            let back = self.spell(21.0, 150.0);
            self.schedule(back, Happening::Restart(store));
        }
        self.act(victim, None, |swim, now| swim.leave(now))
    }

    fn join(&mut self) -> Result<(), Violation> {
        if self.disks.len() >= self.stores_most() {
            return Ok(());
        }
        self.coverage.count("joins");
        let name = format!("n{}", self.disks.len() + 1);
        let store = self.new_store(name);
        let soon = self.spell(0.01, 2.0);
        self.schedule(soon, Happening::Restart(store));
        Ok(())
    }

    /// Mostly of stores that are down; sometimes of a living one, which then stops when it learns so.
    fn remove(&mut self) -> Result<(), Violation> {
        let up: Vec<StoreId> = self
            .running()
            .into_iter()
            .map(|process| self.processes[process].store)
            .collect();
        let living = self.rng.random_bool(0.2) && up.len() > 3;
        let candidates = self
            .disks
            .iter()
            .filter(|(store, disk)| !disk.removed && up.contains(store) == living);
        let Some(store) = candidates.map(|(&store, _)| store).choose(&mut self.rng) else {
            return Ok(());
        };
        self.coverage.count("removals");
        self.append(Entry::Remove(store));
        Ok(())
    }

    /// M20: a copy of a running node's disk is started, with the same start count or an older one.
    fn copy(&mut self) -> Result<(), Violation> {
        let Some(victim) = self
            .victim()
            .filter(|&victim| self.processes[victim].joined)
        else {
            return Ok(());
        };
        self.coverage.count("copies");
        let generation = self.processes[victim].generation - u64::from(self.rng.random_bool(0.5));
        let store = self.processes[victim].store;
        self.start(store, generation, true)
    }

    /// M45: a member signs for others, which its own key cannot, for a while.
    fn forge(&mut self) -> Result<(), Violation> {
        let Some(victim) = self.victim() else {
            return Ok(());
        };
        self.coverage.count("forgers");
        let spell = self.spell(1.0, 40.0);
        self.forger = Some((victim, self.now + spell));
        Ok(())
    }

    fn advertise(&mut self) -> Result<(), Violation> {
        let Some(one) = self.running().into_iter().choose(&mut self.rng) else {
            return Ok(());
        };
        let metadata = Metadata {
            capacity: self.rng.random_range(1..10),
            ..Metadata::default()
        };
        let addresses = vec![self.processes[one].address];
        self.act(one, None, move |swim, now| {
            let kept = swim.advertise(now, addresses, metadata);
            assert!(kept.is_ok(), "metadata within its bounds");
        })
    }
}
