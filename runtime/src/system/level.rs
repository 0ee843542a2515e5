//! Which commands a cluster of several builds may use.
//!
//! Here: [`Level`], the number that a build, a command and a cluster have; when a cluster is raised ([`SystemState::next_level`]); who
//! holds it up, in words; and the raise's effect on the state. A build says its level in gossip and when it joins. The cluster's own level is
//! an entry of the system log, so it never falls, and whoever joins or comes back must know it. Not here: what each level
//! brought (`command`), proposing (`node::gate`).
//!
//! Source: the cluster version of etcd and the version gates of CockroachDB; DESIGN section 14 (a feature switches on when every member
//! has it).

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{SystemCommand, SystemOutcome};
use super::state::{SystemState, refused};

/// How much of the system group's language a build, a command or a cluster uses; counted from 1. Whoever knows one knows all below.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)] // the same bytes as a bare u32
pub struct Level(u32);

impl Level {
    /// That of the first builds, which said nothing of levels.
    pub const FIRST: Self = Self(1);

    /// The level of this number; 0 is read as the first.
    pub const fn new(number: u32) -> Self {
        match number {
            0 => Self::FIRST,
            number => Self(number),
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether it is that of the first builds. For formats that say nothing then, as those did.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of the members' builds where the system group is led.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Announced {
    /// What members said, by store, each the last that was heard of it; who is missing was not heard. Of a dead member it counts, too,
    /// for it is to come back with the same build or a newer one; with an older one it refuses to start, or stops at the first command
    /// that it does not know and says so.
    pub levels: BTreeMap<u64, Level>,
    /// Stores that vote in the system group: without them, no command is committed.
    pub electorate: BTreeSet<u64>,
}

impl SystemState {
    /// Members whose build does not know `level`, as far as was heard. Absent members count, for they come back; drained ones do not
    /// once they vote in no group: they hold nothing then that could stop.
    pub fn behind(&self, level: Level, announced: &Announced) -> Vec<u64> {
        let shards = self.shards_by_store();
        let drained = |store: &u64| {
            self.draining.contains(store)
                && shards.get(store).copied().unwrap_or(0) == 0
                && !announced.electorate.contains(store)
        };
        let knows = |store: &u64| {
            let known = announced.levels.get(store);
            known.is_some_and(|known| *known >= level)
        };
        self.members
            .keys()
            .copied()
            .filter(|store| !drained(store) && !knows(store))
            .collect()
    }

    /// The highest level that every member's build knows and that `build`, which is to propose it, knows too, if that is above the
    /// cluster's.
    pub fn next_level(&self, build: Level, announced: &Announced) -> Option<Level> {
        let known = announced.levels.values().copied().chain([build]);
        let candidates = known.filter(|level| *level > self.level && *level <= build);
        candidates
            .filter(|level| self.behind(*level, announced).is_empty())
            .max()
    }

    /// Why `command` has to wait, if it has to: the sentence names the members that hold it up. What is `announced` is asked only for a
    /// command that the cluster does not know anyway.
    pub fn gate(
        &self,
        command: &SystemCommand,
        announced: impl FnOnce() -> Announced,
    ) -> Result<(), String> {
        let level = command.level();
        if level <= self.level {
            return Ok(());
        }
        let announced = announced();
        let behind = self.behind(level, &announced);
        match (command, behind.is_empty()) {
            (SystemCommand::Raise { .. }, true) => Ok(()),
            (_, true) => Err(format!(
                "this needs a cluster of level {level}, and this one is about to be raised from level {}: try again in a moment",
                self.level
            )),
            (_, false) => Err(format!(
                "this needs a cluster of level {level}, and this one stays at level {} until these members run a newer build: {}",
                self.level,
                self.builds(&behind, &announced)
            )),
        }
    }

    /// What holds the cluster below `level`, in a sentence, if anything does.
    pub fn held_back(&self, level: Level, announced: &Announced) -> Option<String> {
        let behind = self.behind(level, announced);
        (level > self.level && !behind.is_empty()).then(|| {
            format!(
                "the cluster stays at level {} instead of {level} until these members run a newer build: {}",
                self.level,
                self.builds(&behind, announced)
            )
        })
    }

    fn builds(&self, stores: &[u64], announced: &Announced) -> String {
        let said = |store: &u64| match announced.levels.get(store) {
            Some(level) => format!("{} (level {level})", self.name_of(*store)),
            None => format!("{} (not heard yet)", self.name_of(*store)),
        };
        stores.iter().map(said).collect::<Vec<_>>().join(", ")
    }

    /// Why a drained member must not take replicas again, if so: its build is below the cluster's level, which did not wait for it.
    pub fn must_stay_drained(&self, store: u64, announced: &Announced) -> Result<(), String> {
        match announced.levels.get(&store) {
            Some(known) if *known < self.level => Err(format!(
                "the cluster is at level {}, and the build of `{}` knows up to level {known}: start it with a newer build first",
                self.level,
                self.name_of(store)
            )),
            None if !self.level.is_first() => Err(format!(
                "`{}` was not heard yet, and the cluster is at level {}: start it first",
                self.name_of(store),
                self.level
            )),
            _ => Ok(()),
        }
    }

    /// Raises the cluster, for ever. Doing it twice changes nothing; decided on another placement than this, it is refused, because
    /// somebody may have joined meanwhile.
    pub(super) fn raise(&mut self, epoch: u64, level: Level) -> SystemOutcome {
        if level > self.level {
            if epoch != self.epoch {
                return refused("the placement changed meanwhile");
            }
            self.level = level;
        }
        SystemOutcome::Done
    }
}

#[cfg(test)]
mod tests;
