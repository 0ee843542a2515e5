//! What goes wrong, by chance: machines, disks, links.

use core::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::{ReplicaId, Role};

use super::world::{Event, World};

/// Without an acknowledgement for so long, faults stay away.
const NO_PROGRESS_MAX: Duration = Duration::from_secs(8);

impl World {
    /// One fault.
    pub(crate) fn storm(&mut self) {
        let pause = Duration::from_millis(self.rng.random_range(200..self.storm_gap));
        self.push(pause, Event::Storm);
        let answered = self.coverage.get("acknowledged");
        if answered > self.answered.1 {
            self.answered = (self.now, answered);
        } else if self.now > self.answered.0 + NO_PROGRESS_MAX {
            return; // calm until something is acknowledged again: so progress is demanded within the storm, too
        }
        let up: Vec<_> = self
            .replicas
            .values()
            .filter(|replica| replica.is_up())
            .map(|replica| replica.id())
            .collect();
        let Some(mut victim) = up.iter().copied().choose(&mut self.rng) else {
            return;
        };
        if self.rng.random_bool(0.4) {
            let leads = |id: &&ReplicaId| {
                let process = self.replicas[*id].process.as_ref();
                process.is_some_and(|process| process.group.status().role == Role::Leader)
            };
            victim = up.iter().find(leads).copied().unwrap_or(victim);
        }
        self.coverage.count("faults");
        match self.rng.random_range(0..100) {
            0..18 => self.crash(victim, false),
            18..32 => self.crash(victim, true),
            32..38 => {
                self.coverage.count("power_lost_while_writing");
                let nth = self.rng.random_range(1..4);
                self.replicas[&victim].disk.lose_power_in(nth);
            }
            38..42 => {
                self.coverage.count("syncs_failed");
                self.replicas[&victim].disk.fail_sync_in(1);
            }
            42..45 => {
                self.coverage.count("blackouts");
                for id in up {
                    self.crash(id, true);
                }
            }
            45..53 => {
                self.coverage.count("stalls");
                let until = self.now + self.span(50, 5_000);
                self.replicas.get_mut(&victim).expect("up").stalled_until = until;
            }
            53..61 => {
                self.coverage.count("pauses");
                let until = self.now + self.span(50, 4_000);
                self.replicas.get_mut(&victim).expect("up").paused_until = until;
            }
            61..64 => self.wipe(victim),
            _ => self.partition(victim),
        }
    }

    pub(crate) fn span(&mut self, least: u64, most: u64) -> Duration {
        // Mostly short, sometimes long.
        let most = if self.rng.random_bool(0.3) {
            most
        } else {
            least + (most - least) / 6
        };
        Duration::from_millis(self.rng.random_range(least..most))
    }

    /// The process dies and comes back; with `power`, the machine loses what it did not sync.
    pub(crate) fn crash(&mut self, id: ReplicaId, power: bool) {
        if self.is_changing() {
            self.coverage.count("configuration_changes_with_a_crash");
        }
        self.coverage.count("crashes");
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        if let Some(process) = replica.stop(power) {
            self.coverage
                .add("outcomes_unknown", process.pending.len() as u64);
        }
        let back = self.span(5, 6_000);
        self.push(back, Event::Start { id });
    }

    /// A disk refused: its process ends as if the power had gone, and comes back.
    pub(crate) fn fail(&mut self, id: ReplicaId) {
        self.coverage.count("disk_failures");
        if self
            .replicas
            .get(&id)
            .is_some_and(|replica| replica.is_up())
        {
            self.crash(id, true);
        } else {
            let back = self.span(5, 2_000);
            self.push(back, Event::Start { id });
        }
    }

    /// The disk is lost for good; only while the others can replace it.
    fn wipe(&mut self, victim: ReplicaId) {
        let Some(leader) = self.settled_leader() else {
            return;
        };
        let configuration = &leader.configuration;
        let all_agree = self
            .replicas
            .values()
            .filter(|replica| !replica.retired && configuration.contains(replica.id()))
            .all(|replica| {
                replica.process.as_ref().is_some_and(|process| {
                    process.group.status().configuration_index == leader.configuration_index
                })
            });
        let complete = configuration.members().iter().all(|member| {
            self.replicas
                .get(member)
                .is_some_and(|replica| !replica.retired)
        });
        if configuration.voters.len() >= 3
            && configuration.contains(victim)
            && all_agree
            && complete
            && !self.is_changing()
        {
            self.coverage.count("wiped");
            self.retire(victim);
        }
    }

    fn partition(&mut self, victim: ReplicaId) {
        self.coverage.count("partitions");
        let all: Vec<_> = self.replicas.keys().copied().collect();
        let others: Vec<_> = all.iter().copied().filter(|id| *id != victim).collect();
        let mut links = Vec::new();
        match self.rng.random_range(0..8) {
            0..4 => others
                .iter()
                .for_each(|other| links.extend([(victim, *other), (*other, victim)])),
            4 => others.iter().for_each(|other| links.push((victim, *other))),
            5 => others.iter().for_each(|other| links.push((*other, victim))),
            6 => {
                let half: Vec<_> = all
                    .iter()
                    .copied()
                    .filter(|_| self.rng.random_bool(0.5))
                    .collect();
                for a in &all {
                    for b in &all {
                        if half.contains(a) != half.contains(b) {
                            links.push((*a, *b));
                        }
                    }
                }
            }
            _ => {
                if let Some(other) = others.into_iter().choose(&mut self.rng) {
                    links.extend([(victim, other), (other, victim)]);
                }
            }
        }
        self.network.cut(&links);
        // Half of them long enough for another leader.
        let long = self.rng.random_bool(0.5);
        let until = if long {
            Duration::from_millis(self.rng.random_range(2_000..6_000))
        } else {
            self.span(100, 3_000)
        };
        self.push(until, Event::Mend { links });
    }
}
