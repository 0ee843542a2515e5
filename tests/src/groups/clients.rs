//! The clients: commands and linearizable reads, to the leader, to former leaders, in bursts.

use core::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::{ProposeError, ReplicaId, Role};

use super::event::Event;
use super::machine::{Ask, Command, KEYS};
use super::process::{Pending, Reading};
use super::replica::Replica;
use super::world::World;

impl World {
    /// Whom a client takes for the leader: mostly the latest, sometimes one that was.
    fn addressee(&mut self, share_of_stale: f64) -> Option<ReplicaId> {
        let mut leading: Vec<_> = self
            .replicas
            .values()
            .filter_map(|replica| {
                let status = &replica.process.as_ref()?.status;
                (status.role == Role::Leader).then_some((status.term, replica.id()))
            })
            .collect();
        leading.sort_unstable();
        let latest = leading.last()?.1;
        let stale = leading[self.rng.random_range(0..leading.len())].1;
        Some(if self.rng.random_bool(share_of_stale) {
            stale
        } else {
            latest
        })
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
        let pause = Duration::from_micros(self.rng.random_range(1_000..self.command_gap));
        self.push(pause, Event::Command);
        let to = self.addressee(0.4)?;
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
            let process = self.replicas.get_mut(&to)?.process.as_mut()?;
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
        Some(to)
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
        let key = self.rng.random_range(0..KEYS);
        let (now, floor, step) = (self.now, self.history.floor, self.steps);
        let process = self.replicas.get_mut(&to)?.process.as_mut()?;
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
            return Some(to);
        };
        if leads && !is_open {
            self.coverage.count("read_before_the_terms_first_commit");
        }
        let reading = Reading {
            id: self.oracle.ask(key, Ask::Read),
            key,
            floor,
            step,
            by_leader: leads,
            beside_others: status.configuration.voters.len() > 1,
            leasable: is_open
                && status.applied == status.commit
                && status.configuration.voters.len() > 1
                && !process.group.options().lease.is_zero(),
            given_up: process.watch.has_given_up(status.term),
        };
        process.reads.insert(read, reading);
        Some(to)
    }
}
