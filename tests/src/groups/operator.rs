//! The operator: grows, shrinks and moves the group, hands leadership about, takes checkpoints, replaces machines that are gone.

use core::time::Duration;
use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::{Change, Members, ReplicaId, Role, Status, Term};

use super::event::Event;
use super::replica::Replica;
use super::world::World;
use crate::disk::VirtualDisk;

/// Machines that one world ever has.
const MACHINES_MAX: u64 = 18;
const VOTERS_MAX: usize = 7;
const LEARNERS_MAX: usize = 3;

impl World {
    /// Those who lead or think so, the latest last; a paused process does neither.
    pub(super) fn leaders(&self) -> Vec<(Term, ReplicaId)> {
        let mut leading: Vec<_> = self
            .statuses()
            .filter(|(runs, status)| *runs && status.role == Role::Leader)
            .map(|(_, status)| (status.term, status.replica))
            .collect();
        leading.sort_unstable();
        leading
    }

    /// Those who would lead if they were not paused.
    pub(super) fn paused_leaders(&self) -> Vec<(Term, ReplicaId)> {
        self.statuses()
            .filter(|(runs, status)| !*runs && status.role == Role::Leader)
            .map(|(_, status)| (status.term, status.replica))
            .collect()
    }

    /// The latest leader that runs.
    pub(super) fn leading_now(&self) -> Option<ReplicaId> {
        self.leaders().last().map(|(_, leader)| *leader)
    }

    /// Of all processes: whether it runs, and how it stands.
    fn statuses(&self) -> impl Iterator<Item = (bool, &Status)> {
        let replicas = self.replicas.values();
        replicas.filter_map(|replica| Some((replica.runs(), &replica.process.as_ref()?.status)))
    }

    /// The leader of the latest term, if it runs and knows that its configuration is committed and simple.
    pub(crate) fn settled_leader(&self) -> Option<Status> {
        let (runs, leader) = self
            .statuses()
            .filter(|(_, status)| status.role == Role::Leader)
            .max_by_key(|(_, status)| status.term)?;
        let settled =
            runs && !leader.configuration.is_joint() && leader.configuration_index <= leader.commit;
        settled.then(|| leader.clone())
    }

    /// Whether a configuration change is under way somewhere.
    pub(crate) fn is_changing(&self) -> bool {
        self.statuses().any(|(_, status)| {
            status.role == Role::Leader
                && (status.configuration.is_joint() || status.configuration_index > status.commit)
        })
    }

    /// Lost for good, or about to be found so.
    fn is_gone(&self, replica: ReplicaId) -> bool {
        self.replicas
            .get(&replica)
            .is_none_or(|replica| replica.retired || replica.damaged)
    }

    /// One decision; returns whom it concerned.
    pub(crate) fn operate(&mut self) -> Option<ReplicaId> {
        let pause = Duration::from_millis(self.rng.random_range(100..900));
        self.push(pause, Event::Operate);
        if self.now < self.calm_until {
            return None;
        }
        let leader = self.settled_leader()?;
        self.retire_removed(&leader);
        match self.rng.random_range(0..20) {
            0..4 => return self.hand_over(&leader),
            4 | 5 => {
                let voters = leader.configuration.voters.iter().copied();
                self.preferred = voters.choose(&mut self.rng);
                let (now, preferred) = (self.now, self.preferred);
                for replica in self.replicas.values_mut().filter(|replica| replica.runs()) {
                    if let Some(process) = &mut replica.process {
                        process.group.prefer(process.clock.shows(now), preferred);
                    }
                }
                return None;
            }
            _ => {}
        }
        let (voters, learners) = self.wish(&leader)?;
        let alive = voters.iter().filter(|voter| !self.is_gone(**voter)).count();
        if voters.len() > VOTERS_MAX || 2 * alive <= voters.len() {
            return None;
        }
        let change = Change {
            expected: leader.configuration_index,
            voters: voters.into(),
            learners: learners.into(),
        };
        let now = self.now;
        let process = self.replicas.get_mut(&leader.replica)?.process.as_mut()?;
        let shown = process.clock.shows(now);
        match process.group.change(shown, change) {
            Ok(_) => {
                self.coverage.count("changes_begun");
                if self.rng.random_bool(0.5) {
                    let soon = Duration::from_micros(self.rng.random_range(0..12_000));
                    self.push(soon, Event::CrashAMember);
                }
            }
            Err(_) => self.coverage.count("changes_refused"),
        }
        Some(leader.replica)
    }

    /// What the system log would tell nodes: replicas that a committed configuration no longer names are given up.
    fn retire_removed(&mut self, leader: &Status) {
        let gone: Vec<_> = self
            .replicas
            .values()
            .filter(|replica| {
                !replica.retired
                    && !leader.configuration.contains(replica.id())
                    && self.born_before(replica, leader)
            })
            .map(Replica::id)
            .collect();
        for id in gone {
            if self.rng.random_bool(0.3) {
                self.retire(id);
            }
        }
    }

    /// A newcomer that was never added is not one that was removed.
    fn born_before(&self, replica: &Replica, leader: &Status) -> bool {
        !self.newcomers.contains(&replica.id()) && leader.replica != replica.id()
    }

    fn hand_over(&mut self, leader: &Status) -> Option<ReplicaId> {
        let heirs = leader
            .configuration
            .voters
            .iter()
            .copied()
            .filter(|voter| *voter != leader.replica);
        let to = heirs.choose(&mut self.rng)?;
        let (now, from) = (self.now, leader.replica);
        let process = self.replicas.get_mut(&from)?.process.as_mut()?;
        let shown = process.clock.shows(now);
        let _refused = if to.get() % 2 == 0 {
            process.group.transfer(shown, to)
        } else {
            process.group.prepare_transfer(shown, to)
        };
        if self.rng.random_bool(0.4) {
            // The former leader, or the next one, is cut off just when the place changes hands.
            let alone = if self.rng.random() { from } else { to };
            let links = self.all_links_of(alone);
            let soon = Duration::from_micros(self.rng.random_range(0..20_000));
            let longest = if self.rng.random() { 900 } else { 3_000 };
            let lasting = Duration::from_millis(self.rng.random_range(300..longest));
            self.cut(soon, links, lasting);
            if alone == from && self.rng.random() {
                let life = self.replicas[&to].life;
                self.push(soon, Event::Crash { id: to, life });
            }
            if self.rng.random() {
                self.suspect(from, 0..300);
            }
        }
        Some(from)
    }

    /// The next configuration, by chance but never one that cannot decide.
    fn wish(&mut self, leader: &Status) -> Option<(BTreeSet<ReplicaId>, BTreeSet<ReplicaId>)> {
        let set = |members: &Members| BTreeSet::from(members.clone());
        let (mut voters, mut learners) = (
            set(&leader.configuration.voters),
            set(&leader.configuration.learners),
        );
        let lost = voters.iter().copied().find(|voter| self.is_gone(*voter));
        learners.retain(|learner| !self.is_gone(*learner));
        self.newcomers
            .retain(|newcomer| !leader.configuration.contains(*newcomer));
        let wanted = if voters.len() < 5 { 1 } else { 2 };
        let few = learners.len() < wanted && voters.len() < VOTERS_MAX;
        if few && self.rng.random_bool(0.7) {
            learners.insert(self.newcomer()?);
            return Some((voters, learners));
        }
        if let (Some(lost), Some(learner)) = (lost, learners.first().copied()) {
            voters.remove(&lost);
            voters.insert(learner);
            learners.remove(&learner);
            return Some((voters, learners));
        }
        match self.rng.random_range(0..10) {
            0 | 1 => {
                let learner = learners.pop_first()?;
                voters.insert(learner);
            }
            2 => {
                let learner = learners.pop_first()?;
                let voter = voters.iter().copied().choose(&mut self.rng)?;
                voters.remove(&voter);
                voters.insert(learner);
            }
            3 | 4 => {
                let voter = voters.iter().copied().choose(&mut self.rng)?;
                voters.remove(&voter);
            }
            5 => {
                let voter = voters.iter().copied().choose(&mut self.rng)?;
                voters.remove(&voter);
                learners.insert(voter);
            }
            6 if learners.len() < LEARNERS_MAX => {
                learners.insert(self.newcomer()?);
            }
            7 | 8 => {
                // As many at once as a minority is.
                let count = learners.len().min((voters.len() - 1) / 2);
                for _ in 0..count {
                    let voter = voters.iter().copied().choose(&mut self.rng)?;
                    voters.remove(&voter);
                }
                let newcomers: Vec<_> = learners.iter().copied().take(count).collect();
                for learner in newcomers {
                    learners.remove(&learner);
                    voters.insert(learner);
                }
            }
            _ => {
                learners.pop_first()?;
            }
        }
        (!voters.is_empty()).then_some((voters, learners))
    }

    /// A machine with an empty disk and an id that was never used.
    fn newcomer(&mut self) -> Option<ReplicaId> {
        if let Some(waiting) = self.newcomers.first() {
            return Some(*waiting);
        }
        if self.last_machine >= MACHINES_MAX {
            return None;
        }
        self.last_machine += 1;
        let id = ReplicaId::new(self.last_machine);
        let disk = VirtualDisk::new(self.rng.random());
        let slow_ppm = self.draw_slowness();
        self.replicas
            .insert(id, Replica::new(id, disk, None, slow_ppm));
        self.newcomers.insert(id);
        self.coverage.count("newcomers");
        self.push(Duration::ZERO, Event::Start { id });
        Some(id)
    }

    /// Every running replica now and then writes a checkpoint and forgets what it covers.
    pub(crate) fn take_checkpoint(&mut self, id: ReplicaId) {
        let pause = Duration::from_millis(self.rng.random_range(200..3_000));
        self.push(pause, Event::Checkpoint { id });
        let everything = self.rng.random_bool(0.3);
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| replica.runs()) else {
            return;
        };
        let coverage = &mut self.coverage;
        if replica
            .checkpoint(now, everything, false, coverage)
            .is_err()
        {
            self.fail(id);
        }
    }
}
