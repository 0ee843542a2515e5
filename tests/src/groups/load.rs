//! The clients: commands and linearizable reads, to the leader, to former leaders, in bursts.

use core::time::Duration;

use rand::Rng;
use synod_consensus::{ProposeError, ReplicaId, Role};

use super::replica::{Pending, payload_of};
use super::world::{Event, World};

impl World {
    /// Whom a client takes for the leader: mostly the latest, sometimes one that was.
    fn addressee(&mut self) -> Option<ReplicaId> {
        let mut leading: Vec<_> = self
            .replicas
            .values()
            .filter_map(|replica| {
                let status = replica.process.as_ref()?.group.status();
                (status.role == Role::Leader).then_some((status.term, replica.id()))
            })
            .collect();
        leading.sort_unstable();
        let latest = leading.last()?.1;
        let stale = leading[self.rng.random_range(0..leading.len())].1;
        Some(if self.rng.random_bool(0.4) {
            stale
        } else {
            latest
        })
    }

    pub(crate) fn client_commands(&mut self) -> Option<ReplicaId> {
        let pause = Duration::from_micros(self.rng.random_range(1_000..self.command_gap));
        self.push(pause, Event::Command);
        let to = self.addressee()?;
        let burst = if self.rng.random_bool(0.1) {
            self.rng.random_range(2..24)
        } else {
            1
        };
        let now = self.now;
        for _ in 0..burst {
            self.last_command += 1;
            let id = self.last_command;
            let length = if self.rng.random_bool(0.01) {
                self.rng.random_range(0..6_000)
            } else {
                self.rng.random_range(0..120)
            };
            let floor = self.history.floor;
            let process = self.replicas.get_mut(&to)?.process.as_mut()?;
            match process.group.propose(now, payload_of(id, length)) {
                Ok(position) => {
                    let pending = Pending {
                        id,
                        term: position.term,
                        floor,
                    };
                    if process.pending.insert(position.index, pending).is_some() {
                        self.coverage.count("overwritten");
                    }
                }
                Err(ProposeError::Busy { .. }) => self.coverage.count("refused_busy"),
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
        let to = self.addressee()?;
        let (now, floor) = (self.now, self.history.floor);
        let process = self.replicas.get_mut(&to)?.process.as_mut()?;
        if let Ok(read) = process.group.read(now) {
            process.reads.insert(read, floor);
        }
        Some(to)
    }
}
