//! The clients: commands and linearizable reads, to the leader, to former leaders, in bursts.

use core::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::{ProposeError, ReplicaId, Role};

use super::event::{Event, Request};
use super::machine::{Ask, Command, KEYS};
use super::process::{Pending, Reading};
use super::replica::Replica;
use super::world::World;

/// How much longer clients wait between commands while a group is left alone.
const CALM: u32 = 10;

impl World {
    /// Whom a client takes for the leader: mostly the latest, sometimes one that was.
    fn addressee(&mut self, share_of_stale: f64) -> Option<ReplicaId> {
        let mut leading = self.leaders();
        let latest = leading.last()?.1;
        leading.extend(self.paused_leaders());
        let stale = leading[self.rng.random_range(0..leading.len())].1;
        Some(if self.rng.random_bool(share_of_stale) {
            stale
        } else {
            latest
        })
    }

    /// Brings a client's request to a process; what it asks of a paused one waits there.
    fn bring(&mut self, to: ReplicaId, request: Request) -> Option<ReplicaId> {
        let replica = self.replicas.get(&to)?;
        if replica.runs() {
            self.ask(to, request);
            return Some(to);
        }
        let (id, life) = (to, replica.life);
        self.push(Duration::ZERO, Event::Asked { id, life, request });
        None
    }

    /// A client's request is taken up by a process that runs.
    pub(super) fn ask(&mut self, id: ReplicaId, request: Request) {
        match request {
            Request::Commands => self.propose(id),
            Request::Read => self.read(id, true),
            Request::ReadHere => self.read(id, false),
        }
    }

    /// Another leader was elected: those who ask the former ones do so at this very moment, and go on for a while.
    pub(super) fn visit_former_leaders(&mut self, newest: ReplicaId) {
        let former = self.leaders().into_iter().chain(self.paused_leaders());
        let former: Vec<_> = former.filter(|(_, id)| *id != newest).collect();
        if !former.is_empty()
            && let Some(trial) = self.tried.take()
        {
            self.coverage.count(trial.elected());
        }
        for (_, id) in former {
            let life = self.replicas[&id].life;
            let request = Request::Read;
            self.push(Duration::ZERO, Event::Asked { id, life, request });
            for _ in 0..4 {
                let at = Duration::from_millis(self.rng.random_range(0..800));
                self.push(at, Event::Asked { id, life, request });
            }
        }
    }

    /// What a client wants of a number. Values are the command's own id, so that each is set once.
    fn command(&mut self) -> Command {
        let (id, key) = (self.oracle.next_id(), self.rng.random_range(0..KEYS));
        let ask = match self.rng.random_range(0..5) {
            0 | 1 => Ask::Add(self.rng.random_range(1..9)),
            2 | 3 => Ask::Swap(id << 8),
            _ => Ask::CompareAndSet {
                expected: self.oracle.last_seen(key),
                value: id << 8,
            },
        };
        Command { id, key, ask }
    }

    pub(crate) fn client_commands(&mut self) -> Option<ReplicaId> {
        // In the calm, no more than the slowest follower with the smallest window takes besides what it missed.
        let gap = if self.healing {
            40_000
        } else {
            self.command_gap
        };
        let mut pause = Duration::from_micros(self.rng.random_range(1_000..gap));
        if self.now < self.calm_until {
            pause *= CALM;
        }
        self.push(pause, Event::Command);
        let to = self.addressee(0.4)?;
        self.bring(to, Request::Commands)
    }

    fn propose(&mut self, to: ReplicaId) {
        let burst = if self.rng.random_bool(0.1) {
            self.rng.random_range(2..24)
        } else {
            1
        };
        let now = self.now;
        for _ in 0..burst {
            let padding = if self.rng.random_bool(0.01) {
                self.rng.random_range(0..6_000)
            } else {
                self.rng.random_range(0..100)
            };
            let command = self.command();
            let floor = self.history.floor;
            let replica = self.replicas.get_mut(&to).expect("held back otherwise");
            let process = replica.process.as_mut().expect("held back otherwise");
            let shown = process.clock.shows(now);
            match process.group.propose(shown, command.encode(padding)) {
                Ok(position) => {
                    let id = self.oracle.ask(command.key, command.ask);
                    let pending = Pending {
                        id,
                        term: position.term,
                        floor,
                    };
                    // One that waited there for an earlier term may still come true, by another leader (Raft paper, figure 8).
                    if process.pending.insert(position.index, pending).is_some() {
                        self.coverage.count("overwritten");
                    }
                }
                Err(ProposeError::Busy { .. }) => {
                    process.watch.was_busy = true;
                    self.coverage.count("refused_busy");
                }
                Err(ProposeError::Transferring { .. }) => {
                    self.coverage.count("refused_transferring")
                }
                Err(_) => self.coverage.count("refused"),
            }
        }
    }

    pub(crate) fn client_reads(&mut self) -> Option<ReplicaId> {
        let pause = Duration::from_micros(self.rng.random_range(1_000..self.command_gap * 3));
        self.push(pause, Event::Read);
        let by_leader = self.rng.random_bool(0.7);
        let to = if by_leader {
            self.addressee(0.8)? // who only reads has no reason to look for another leader
        } else {
            let up = self.replicas.values().filter(|replica| replica.is_up());
            up.map(Replica::id).choose(&mut self.rng)?
        };
        let request = if by_leader {
            Request::Read
        } else {
            Request::ReadHere
        };
        self.bring(to, request)
    }

    fn read(&mut self, to: ReplicaId, by_leader: bool) {
        let key = self.rng.random_range(0..KEYS);
        let (now, floor, step) = (self.now, self.history.floor, self.steps);
        let replica = self.replicas.get_mut(&to).expect("held back otherwise");
        let paused = replica.resumed.filter(|(at, _)| *at == now);
        let process = replica.process.as_mut().expect("held back otherwise");
        let status = &process.status;
        let leads = status.role == Role::Leader;
        let is_open = process.asked.term_at(status.commit) == Some(status.term);
        let shown = process.clock.shows(now);
        let begun = if by_leader {
            process.group.read(shown)
        } else {
            process.group.read_here(shown)
        };
        let Ok(read) = begun else {
            if !leads {
                self.coverage.count("follower_read_refused");
            }
            return;
        };
        if leads && !is_open {
            self.coverage.count("read_before_the_terms_first_commit");
        }
        let lease = process.group.options().lease;
        let beside_others = status.configuration.voters.len() > 1;
        let outlasted = paused.is_some_and(|(_, lasted)| lasted > lease);
        if leads && is_open && beside_others && !lease.is_zero() && outlasted {
            self.coverage
                .count("read_after_a_pause_outlasted_the_lease");
            if self.leading.is_some_and(|(_, term)| term > status.term) {
                self.coverage
                    .count("read_after_a_pause_saw_another_elected");
            }
        }
        let reading = Reading {
            id: self.oracle.ask(key, Ask::Read),
            key,
            floor,
            step,
            by_leader: leads,
            beside_others,
            leasable: is_open
                && status.applied == status.commit
                && beside_others
                && !lease.is_zero(),
            given_up: process.watch.has_given_up(status.term),
        };
        process.reads.insert(read, reading);
    }
}
