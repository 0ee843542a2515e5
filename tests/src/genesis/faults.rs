//! What goes wrong, by chance and at the worst moments.
//!
//! Here: crashes (of one, of all at once), wiped disks, cut wires, operators who try another list. Not here: loss and delay of single
//! messages (`world`).

use core::time::Duration;

use rand::Rng;

use super::world::{Event, World, moment};
use crate::violation::Violation;

impl World {
    /// One fault, and the appointment of the next.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let next = Duration::from_millis(self.rng.random_range(50..1_200));
        self.push(next, Event::Fault);
        self.coverage.count("faults");
        let who = self.rng.random_range(0..self.seeds.len());
        match self.rng.random_range(0..20) {
            0..8 => self.crash(who),
            8..13 => {
                self.cut(who);
                Ok(())
            }
            13 => self.blackout(),
            14..17 if self.wipes => self.wipe(who),
            17 => self.try_another_list(who),
            _ => Ok(()),
        }
    }

    /// The moment that the ambush waited for has come: seed `at` sends what it waited for. The strike follows at once or within a
    /// few writes.
    pub(super) fn spring_ambush(&mut self, at: usize) {
        self.coverage.count("ambushes");
        let bound = Duration::from_millis([2, 20, 80][self.rng.random_range(0..3)]);
        let soon = self.below(bound);
        self.push(soon, Event::Strike { at });
    }

    /// Some of: nothing arrives for a while, all crash, one or two disks are lost, one seed is cut off.
    pub(super) fn strike(&mut self, at: usize) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        if self.rng.random_bool(0.6) {
            self.silent_until = self.now + self.below(Duration::from_millis(300));
        }
        if self.rng.random_bool(0.5) {
            self.blackout()?;
        }
        if self.rng.random_bool(0.4) {
            let one = self.rng.random_range(0..self.seeds.len());
            self.cut(one);
        }
        if self.wipes {
            if self.rng.random_bool(0.5) {
                self.wipe(at)?;
            }
            if self.rng.random_bool(0.3) {
                let who = self.rng.random_range(0..self.seeds.len());
                self.wipe(who)?;
            }
        }
        if self.rng.random_bool(0.6) {
            self.ambush = Some(moment(&mut self.rng));
        }
        Ok(())
    }

    /// The process ends. Of the writes under way, the first few may have reached the disk.
    pub(super) fn stop(&mut self, who: usize) -> Result<(), Violation> {
        let seed = &mut self.seeds[who];
        seed.genesis = None;
        seed.process += 1;
        let writing = core::mem::take(&mut seed.writing);
        if !writing.is_empty() {
            self.coverage.count("crashes_while_writing");
        }
        for (_, bytes) in writing {
            if self.rng.random_bool(0.5) {
                break;
            }
            self.reach_disk(who, &bytes)?;
        }
        Ok(())
    }

    fn crash(&mut self, who: usize) -> Result<(), Violation> {
        if self.seeds[who].genesis.is_none() {
            return Ok(());
        }
        self.coverage.count("crashes");
        self.stop(who)?;
        self.restart_later(who);
        Ok(())
    }

    fn restart_later(&mut self, who: usize) {
        let down = match self.rng.random_range(0..4) {
            0 => Duration::from_secs(4),
            1 => Duration::from_millis(700),
            _ => Duration::from_millis(60),
        };
        let down = self.below(down);
        self.push(down, Event::Start { who });
    }

    fn blackout(&mut self) -> Result<(), Violation> {
        self.coverage.count("blackouts");
        for who in 0..self.seeds.len() {
            self.crash(who)?;
        }
        if self.wipes && self.rng.random_bool(0.5) {
            let who = self.rng.random_range(0..self.seeds.len());
            return self.wipe(who);
        }
        Ok(())
    }

    /// The disk is lost, and the process with it.
    fn wipe(&mut self, who: usize) -> Result<(), Violation> {
        self.coverage.count("wipes");
        self.stop(who)?;
        let seed = &mut self.seeds[who];
        let word = |disk: &super::history::Disk| {
            let durable = disk.durable.as_ref();
            durable.is_some_and(|durable| durable.electorate.is_some())
        };
        if word(&seed.disk) {
            self.coverage.count("wipes_after_the_word");
        }
        if self.history.is_chosen() {
            self.coverage.count("wipes_after_the_choice");
        }
        seed.disk = Default::default();
        let name = seed.name.clone();
        self.history.wiped(&name);
        self.restart_later(who);
        Ok(())
    }

    /// Nothing gets through between two, or between one and all others.
    fn cut(&mut self, one: usize) {
        self.coverage.count("cuts");
        let alone = self.rng.random_bool(0.4);
        let peer = self.rng.random_range(0..self.seeds.len());
        let one_way = self.rng.random_bool(0.3);
        let until = self.below(Duration::from_secs(4));
        for other in 0..self.seeds.len() {
            if other != one && (alone || other == peer) {
                self.cuts.insert((one, other));
                if !one_way {
                    self.cuts.insert((other, one));
                }
                self.push(until, Event::Mend { one, other });
            }
        }
    }

    /// An operator restarts a seed with all names, or with one fewer.
    fn try_another_list(&mut self, who: usize) -> Result<(), Violation> {
        self.coverage.count("other_lists_tried");
        let everybody = self.everybody.clone();
        let missing = self.rng.random_range(0..self.seeds.len() * 2);
        let missing = self.seeds.get(missing).map(|seed| seed.name.clone());
        let seed = &mut self.seeds[who];
        let me = seed.name.clone();
        let names = everybody
            .iter()
            .filter(|name| **name == me || Some(*name) != missing.as_ref());
        if let Ok(list) = synod_consensus::genesis::SeedList::new(names.cloned()) {
            seed.list = list;
        }
        self.crash(who)
    }
}
