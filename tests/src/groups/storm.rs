//! What goes wrong, by chance: machines, disks, links.

use core::time::Duration;

use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};
use synod_consensus::ReplicaId;

use super::event::{Event, Request};
use super::world::World;

/// Without an acknowledgement for so long, faults stay away.
const NO_PROGRESS_MAX: Duration = Duration::from_secs(8);
/// The share of faults that hit a group that was left alone for a while.
const TRIALS: f64 = 0.13;

impl World {
    /// One fault.
    pub(crate) fn storm(&mut self) {
        self.tried = None;
        if !self.options.lease.is_zero() && self.rng.random_bool(TRIALS) {
            return self.arrange_trial();
        }
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
            victim = self.leading_now().unwrap_or(victim);
        }
        let kind = self.rng.random_range(0..100);
        if !(28..38).contains(&kind) {
            self.coverage.count("faults"); // others are counted when they strike
        }
        match kind {
            0..16 => self.crash(victim, false),
            16..28 => self.crash(victim, true),
            28..34 => {
                let nth = self.rng.random_range(1..4);
                self.replicas[&victim].disk.lose_power_in(nth);
            }
            34..38 => {
                let replica = self.replicas.get_mut(&victim).expect("up");
                replica.disk.fail_sync_in(1);
                replica.sync_will_fail = true;
            }
            38..40 => {
                self.coverage.count("blackouts");
                for id in up {
                    self.crash(id, true);
                }
            }
            40..48 => {
                // Some long enough that a leader gives way (H21).
                let lasting = if self.rng.random_bool(0.35) {
                    Duration::from_millis(self.rng.random_range(4_000..7_000))
                } else {
                    self.span(50, 5_000)
                };
                let until = self.now + lasting;
                self.replicas.get_mut(&victim).expect("up").stall(until);
            }
            48..56 => {
                let lasting = self.span(50, 4_000);
                self.pause(victim, lasting);
                if self.rng.random() {
                    self.suspect(victim, 100..400);
                }
            }
            56..61 => {
                if self.may_lose(victim) {
                    self.coverage.count("wiped");
                    self.retire(victim);
                }
            }
            61..67 => self.damage(victim),
            67..71 => self.fill(victim),
            71..75 => self.suspect(victim, 0..150),
            _ => self.partition(victim),
        }
    }

    /// The failure detectors of the others take `peer` for dead, one after the other, so many milliseconds from now.
    pub(crate) fn suspect(&mut self, peer: ReplicaId, within: core::ops::Range<u64>) {
        let others = self.replicas.values().filter(|replica| replica.is_up());
        let lives: Vec<_> = others.map(|replica| (replica.id(), replica.life)).collect();
        for (id, life) in lives {
            let at = Duration::from_millis(self.rng.random_range(within.clone()));
            self.push(at, Event::Suspect { id, life, peer });
        }
    }

    /// The process is stopped for so long, and knows nothing of it; half the time a client's read is the first that it finds then.
    pub(super) fn pause(&mut self, id: ReplicaId, lasting: Duration) {
        let now = self.now;
        let replica = self.replicas.get_mut(&id).expect("up");
        let life = replica.life;
        if replica.runs() {
            self.coverage.count("pauses");
        }
        replica.pause(now, now + lasting);
        self.push(lasting, Event::Resume { id, life });
        if self.rng.random() {
            let request = Request::Read;
            self.push(Duration::ZERO, Event::Asked { id, life, request });
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
        self.down(id, power);
        let back = self.span(5, 6_000);
        self.push(back, Event::Start { id });
        if self.rng.random() {
            self.suspect(id, 100..400);
        }
    }

    fn down(&mut self, id: ReplicaId, power: bool) {
        if self.is_changing() {
            self.coverage.count("configuration_changes_with_a_crash");
        }
        self.coverage.count("crashes");
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        if let Some(process) = replica.stop(power) {
            let is_installing = process.is_installing();
            process
                .watch
                .crashes(&process.status, is_installing, &mut self.coverage);
            self.coverage
                .add("outcomes_unknown", process.pending.len() as u64);
        }
        if power && self.rng.random_bool(0.8) && replica.damage_partial(&mut self.rng) {
            self.coverage.count("partial_bits_flipped"); // what was not synced may come back as anything
        }
    }

    /// A disk refused: its process ends as if the power had gone, and comes back.
    pub(crate) fn fail(&mut self, id: ReplicaId) {
        self.coverage.count("disk_failures");
        let replica = self.replicas.get_mut(&id);
        if let Some(replica) = replica.filter(|replica| replica.is_up()) {
            replica.refused(&mut self.coverage);
            self.crash(id, true);
        } else {
            let back = self.span(5, 2_000);
            self.push(back, Event::Start { id });
        }
    }

    /// Whether the others can do without this disk, and replace it.
    pub(super) fn may_lose(&self, victim: ReplicaId) -> bool {
        let Some(leader) = self.settled_leader() else {
            return false;
        };
        let configuration = &leader.configuration;
        let all_agree = self
            .replicas
            .values()
            .filter(|replica| !replica.retired && configuration.contains(replica.id()))
            .all(|replica| {
                replica.process.as_ref().is_some_and(|process| {
                    process.status.configuration_index == leader.configuration_index
                })
            });
        let complete = configuration.members().iter().all(|member| {
            self.replicas
                .get(member)
                .is_some_and(|replica| !replica.retired && !replica.damaged)
        });
        configuration.voters.len() >= 3
            && configuration.contains(victim)
            && all_agree
            && complete
            && !self.is_changing()
    }

    /// The machine goes down, and a bit of its log flips meanwhile: at its return the log is refused, or was not touched where it counts.
    fn damage(&mut self, victim: ReplicaId) {
        if self.may_lose(victim) {
            self.crash(victim, true);
            let replica = self.replicas.get_mut(&victim).expect("just crashed");
            if replica.damage(&mut self.rng) {
                self.coverage.count("bits_flipped");
            }
        }
    }

    /// The disk has hardly any room left, for a while.
    fn fill(&mut self, victim: ReplicaId) {
        self.coverage.count("disks_filled");
        let disk = &self.replicas[&victim].disk;
        let left = self.rng.random_range(0..8_000);
        disk.set_capacity(Some(disk.used() + left));
        let until = self.span(500, 8_000);
        self.push(until, Event::Room { id: victim });
    }

    /// Links break so long from now.
    pub(super) fn cut(
        &mut self,
        soon: Duration,
        links: Vec<(ReplicaId, ReplicaId)>,
        lasting: Duration,
    ) {
        let name = "cut_at_the_worst_moment";
        let cut = Event::Cut {
            links,
            lasting,
            name,
        };
        self.push(soon, cut);
    }

    /// All links from and to a machine.
    pub(super) fn all_links_of(&self, id: ReplicaId) -> Vec<(ReplicaId, ReplicaId)> {
        let others = self.replicas.keys().copied().filter(|other| *other != id);
        others
            .flat_map(|other| [(id, other), (other, id)])
            .collect()
    }

    /// The process is killed and comes back soon, as one does that is watched over.
    pub(super) fn restart(&mut self, id: ReplicaId, back: Duration) {
        self.coverage.count("quick_restarts");
        self.down(id, false);
        self.push(back, Event::Start { id });
    }

    /// A switch dies: the links of a machine get slow, then break, one peer after the other; those behind it are restarted by what
    /// watches over them, and suspect the machine that they do not hear any more.
    fn fade_out(&mut self, victim: ReplicaId) {
        let leading = self.leading_now();
        let leading = leading.filter(|_| self.rng.random_bool(0.6));
        let victim = leading.unwrap_or(victim);
        let mut others: Vec<_> = self
            .replicas
            .values()
            .filter(|replica| replica.is_up() && replica.id() != victim)
            .map(|replica| (replica.id(), replica.life))
            .collect();
        others.shuffle(&mut self.rng);
        let way = self.rng.random_range(0..4);
        let links_of = |other| match way {
            0 => vec![(other, victim)],
            1 => vec![(victim, other)],
            _ => vec![(victim, other), (other, victim)],
        };
        let mut at = Duration::ZERO;
        if self.rng.random_bool(0.35) {
            let links = others.iter().flat_map(|(other, _)| links_of(*other));
            let links: Vec<_> = links.collect();
            let by = Duration::from_millis(self.rng.random_range(50..1_500));
            at = by + Duration::from_millis(self.rng.random_range(0..1_000));
            let lasting = at;
            self.push(Duration::ZERO, Event::Congest { links, by, lasting });
        }
        let between = [5, 5, 5, 300, 1_500][self.rng.random_range(0..5)];
        let restarted = [0.0, 0.3, 1.0, 1.0][self.rng.random_range(0..4)];
        for (other, life) in others {
            let lasting = Duration::from_millis(self.rng.random_range(1_500..5_000));
            let links = links_of(other);
            let name = "links_died_one_by_one";
            let cut = Event::Cut {
                links,
                lasting,
                name,
            };
            self.push(at, cut);
            if self.rng.random_bool(restarted) {
                let soon = at + Duration::from_millis(self.rng.random_range(0..100));
                let back = Duration::from_millis(self.rng.random_range(5..150));
                let id = other;
                self.push(soon, Event::Restart { id, life, back });
            } else if self.rng.random_bool(0.8) {
                let soon = at + Duration::from_millis(self.rng.random_range(50..400));
                let (id, peer) = (other, victim);
                self.push(soon, Event::Suspect { id, life, peer });
            }
            at += Duration::from_millis(self.rng.random_range(0..between));
        }
    }

    fn partition(&mut self, victim: ReplicaId) {
        self.coverage.count("partitions");
        if self.rng.random_bool(0.4) {
            return self.fade_out(victim);
        }
        let all: Vec<_> = self.replicas.keys().copied().collect();
        let others: Vec<_> = all.iter().copied().filter(|id| *id != victim).collect();
        let mut links = Vec::new();
        let way = self.rng.random_range(0..8);
        if matches!(way, 4 | 5) {
            self.coverage.count("one_way_cuts");
        }
        match way {
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
        if self.rng.random() {
            self.suspect(victim, 100..400);
        }
    }
}
