//! Trials of leases: a group is left alone until its leader's lease is steady, then something happens that only the rules of leases
//! make harmless (thesis 6.4.1; H57 to H59).
//!
//! Each takes the leader from the others just so that they may elect another as early as they ever may, while clients ask the former one.
//! Here: the calm and the faults. Not here: who asks the former leader (`clients`), what must hold (`history`).

use core::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::ReplicaId;

use super::event::Event;
use super::world::World;

/// How long leader and followers are apart: longer than a lease, a wait for another leader, and its election.
const APART: core::ops::Range<u64> = 2_000..3_500;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What happens to a group that was left alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trial {
    Restarts,
    LateAnswers,
    Clocks,
    Transfer,
    Pause,
}

impl Trial {
    /// What is counted when it strikes.
    fn struck(self) -> &'static str {
        match self {
            Self::Restarts => "trial_restarts",
            Self::LateAnswers => "trial_late_answers",
            Self::Clocks => "trial_clocks",
            Self::Transfer => "trial_transfer",
            Self::Pause => "trial_pause",
        }
    }

    /// What is counted when another leader was elected beside the former one.
    pub(super) fn elected(self) -> &'static str {
        match self {
            Self::Restarts => "trial_restarts_elected_another",
            Self::LateAnswers => "trial_late_answers_elected_another",
            Self::Clocks => "trial_clocks_elected_another",
            Self::Transfer => "trial_transfer_elected_another",
            Self::Pause => "trial_pause_elected_another",
        }
    }
}

impl World {
    /// Leaves the group alone for a while, before and after.
    pub(super) fn arrange_trial(&mut self) {
        let alone = millis(self.rng.random_range(2_000..4_000));
        let after = alone + millis(self.rng.random_range(APART));
        self.calm_until = self.now + after;
        self.push(alone, Event::Trial);
        self.push(after, Event::Storm);
    }

    /// One of the faults; returns whom it concerned.
    pub(super) fn trial(&mut self) -> Option<ReplicaId> {
        let leader = self.leading_now()?;
        let runs = |id: &ReplicaId| {
            let replica = self.replicas.get(id);
            *id != leader && replica.is_some_and(|replica| replica.runs())
        };
        let status = &self.replicas[&leader].process.as_ref()?.status;
        let voters = &status.configuration.voters;
        let heirs: Vec<_> = voters.iter().copied().filter(runs).collect();
        if 2 * heirs.len() <= voters.len() {
            return None; // they elect nobody without it
        }
        let trial = [
            Trial::Restarts,
            Trial::LateAnswers,
            Trial::Clocks,
            Trial::Transfer,
            Trial::Pause,
        ][self.rng.random_range(0..5)];
        self.coverage.count("faults");
        self.coverage.count(trial.struck());
        self.tried = Some(trial);
        match trial {
            Trial::Restarts => self.try_restarts(leader, heirs),
            Trial::LateAnswers => self.try_late_answers(leader, &heirs),
            Trial::Clocks => self.try_clocks(leader),
            Trial::Transfer => return self.try_transfer(leader, &heirs),
            Trial::Pause => {
                let lasting = millis(self.rng.random_range(500..3_000));
                self.pause(leader, lasting);
                self.suspect(leader, 0..200);
            }
        }
        None
    }

    fn part(&mut self, soon: Duration, leader: ReplicaId) {
        let lasting = millis(self.rng.random_range(APART));
        let links = self.all_links_of(leader);
        self.cut(soon, links, lasting);
    }

    /// All others are killed at once, and come back at once: they remember no leader, and must remember that they promised (H57).
    fn try_restarts(&mut self, leader: ReplicaId, others: Vec<ReplicaId>) {
        self.part(Duration::ZERO, leader);
        for id in others {
            let life = self.replicas[&id].life;
            let soon = millis(self.rng.random_range(0..30));
            let back = millis(self.rng.random_range(5..60));
            self.push(soon, Event::Restart { id, life, back });
        }
    }

    /// Answers to heartbeats arrive late, and go on arriving when nothing else does: what counts is when they were asked for (H58).
    fn try_late_answers(&mut self, leader: ReplicaId, others: &[ReplicaId]) {
        let by = millis(self.rng.random_range(700..1_300)); // within check-quorum's patience
        let lasting = by + millis(self.rng.random_range(0..600));
        let links: Vec<_> = others.iter().map(|other| (*other, leader)).collect();
        let congest = Event::Congest { links, by, lasting };
        self.push(Duration::ZERO, congest);
        self.part(lasting, leader);
        let soon = lasting.as_millis() as u64;
        self.suspect(leader, soon..soon + 100);
    }

    /// The leader's clock gets as slow as it may, all others are right (H58).
    fn try_clocks(&mut self, leader: ReplicaId) {
        let (now, most) = (self.now, self.options.clock_drift_ppm);
        for replica in self.replicas.values_mut() {
            let slow_ppm = if replica.id() == leader { most } else { 0 };
            replica.turn_clock(now, slow_ppm);
        }
        self.part(Duration::ZERO, leader);
        self.suspect(leader, 0..100);
    }

    /// Leadership is handed over, and the former leader hears nothing of it (H59).
    fn try_transfer(&mut self, leader: ReplicaId, heirs: &[ReplicaId]) -> Option<ReplicaId> {
        let to = heirs.iter().copied().choose(&mut self.rng)?;
        let now = self.now;
        let process = self.running(leader);
        let shown = process.clock.shows(now);
        process.group.transfer(shown, to).ok()?;
        self.deaf_in_transfer = Some(leader);
        Some(leader)
    }
}
