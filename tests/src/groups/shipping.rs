//! Snapshots that leave and arrive: when the disk gets to them, and what goes wrong at that moment.
//!
//! Here: the turns of a process's [`Freight`](super::freight::Freight), checkpoints, installations. Not here: the queues (`freight`), the
//! log (`replica`).

use core::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod::storage::{Checkpoint, PartialError};
use synod_consensus::{ReplicaId, SnapshotId, SnapshotMeta};

use super::event::Event;
use super::freight::{Task, Work};
use super::machine::Machine;
use super::process::{Adopted, Witnesses};
use super::replica::{DiskFailed, Replica, STATE};
use super::world::World;
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// How a snapshot's turn went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    Done,
    /// A snapshot is durable here; its state has to be told to the group.
    Adopted,
}

impl World {
    /// The thread for snapshots gets to its next piece of work: mostly soon, sometimes only when its budget or its disk allows.
    pub(super) fn schedule_freight(&mut self, id: ReplicaId) {
        let is_slow = !self.healing && self.rng.random_bool(0.04);
        let micros = if is_slow {
            self.rng.random_range(5_000..600_000)
        } else {
            self.rng.random_range(10..600)
        };
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let Some(process) = replica.process.as_mut() else {
            return;
        };
        let Some(is_read) = process.freight.next_is_read() else {
            return;
        };
        if core::mem::replace(&mut process.freight.turn_due, true) {
            return;
        }
        if is_slow {
            self.coverage.count(if is_read {
                "snapshot_read_throttled"
            } else {
                "snapshot_store_slow"
            });
        }
        self.push(Duration::from_micros(micros), Event::Freight { id, life });
    }

    /// Opens sources for those whose turn it is, as soon as the other groups of the node leave room.
    pub(super) fn admit_shipments(&mut self, id: ReplicaId) {
        let now = self.now;
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let Some(process) = replica.process.as_mut() else {
            return;
        };
        let admitted = process.freight.admit(now);
        if process.freight.is_crowded() {
            self.coverage.count("snapshot_waits_for_another");
        }
        for to in admitted {
            let at = if !self.healing && self.rng.random_bool(0.1) {
                self.coverage.count("snapshot_waits_for_a_permit");
                Duration::from_millis(self.rng.random_range(500..5_000))
            } else {
                Duration::from_micros(self.rng.random_range(10..20_000))
            };
            self.push(at, Event::Provide { id, life, to });
            self.disturb_snapshot(at, id, to);
        }
    }

    /// A source is opened; now and then of a checkpoint that has rotted.
    pub(super) fn provide(&mut self, id: ReplicaId, to: ReplicaId) {
        let now = self.now;
        let rots = !self.healing && self.rng.random_bool(0.25) && self.may_lose(id);
        let replica = self.replicas.get_mut(&id).expect("held back otherwise");
        if rots && replica.damage_checkpoint(&mut self.rng) {
            self.coverage.count("checkpoint_bits_flipped");
        }
        replica.provide(now, to, &mut self.coverage);
    }
}

impl Replica {
    /// Flips a bit of the newest checkpoint's file.
    fn damage_checkpoint(&mut self, rng: &mut ChaCha8Rng) -> bool {
        let names = self.disk.names(STATE);
        let newest = names.iter().rfind(|name| !name.ends_with(".partial"));
        self.damaged |= newest.is_some_and(|name| self.flip(name, rng));
        self.damaged
    }

    /// Flips a bit of what arrived of a snapshot and was never synced.
    pub(super) fn damage_partial(&self, rng: &mut ChaCha8Rng) -> bool {
        let names = self.disk.names(STATE);
        let partial = names.iter().find(|name| name.ends_with(".partial"));
        partial.is_some_and(|name| self.flip(name, rng))
    }

    fn flip(&self, name: &str, rng: &mut ChaCha8Rng) -> bool {
        let length = self.disk.contents(STATE, name).len();
        if length > 0 {
            let offset = rng.random_range(0..length);
            self.disk
                .flip_bit(STATE, name, offset, rng.random_range(0..8));
        }
        length > 0
    }

    /// Offers the newest checkpoint to a follower that needs one.
    fn provide(&mut self, now: Duration, to: ReplicaId, coverage: &mut Coverage) {
        let Some(process) = &mut self.process else {
            return;
        };
        let shown = process.clock.shows(now);
        match process.checkpoints.0.source(self.key) {
            Ok(Some(source)) => {
                let offer = source.offer().clone();
                if process.freight.opened(to, source, now)
                    && !process.group.provide_snapshot(shown, to, offer)
                {
                    process.freight.end(to);
                }
            }
            Ok(None) => process.freight.end(to),
            Err(_) => {
                coverage.count("snapshot_source_unreadable");
                process.freight.end(to);
            }
        }
    }

    /// The next piece of work of the thread for snapshots.
    pub(super) fn freight_turn(
        &mut self,
        now: Duration,
        rng: &mut ChaCha8Rng,
        witnesses: &mut Witnesses<'_>,
    ) -> Result<Result<Turn, DiskFailed>, Violation> {
        let key = self.key;
        let Some(process) = &mut self.process else {
            return Ok(Ok(Turn::Done));
        };
        let shown = process.clock.shows(now);
        let coverage = &mut *witnesses.coverage;
        match process.freight.next() {
            None => {}
            Some(Work::Read(wanted)) => {
                let source = process.freight.source(&wanted);
                let piece = source.map(|source| source.read(wanted.offset, wanted.bytes));
                let mut piece = piece.and_then(Result::ok);
                if rng.random_bool(0.002) {
                    piece = None;
                }
                if piece.is_none() {
                    coverage.count("snapshot_read_failed");
                }
                process.group.chunk_read(shown, wanted, piece);
            }
            Some(Work::Task(Task::Drop(id))) => process.freight.partials.drop_partial(key, id),
            Some(Work::Task(Task::Store(chunk))) => {
                let partials = &mut process.freight.partials;
                let held = if rng.random_bool(0.004) {
                    // Too much waited: the group only hears what is held.
                    coverage.count("snapshot_piece_not_stored");
                    let held = partials.held(key).filter(|(_, id, _)| *id == chunk.id);
                    held.map_or(0, |(_, _, held)| held)
                } else {
                    match partials.store(key, &chunk) {
                        Ok(held) => held,
                        Err(_) if self.disk.power_is_off() => return Ok(Err(DiskFailed)),
                        Err(_) => {
                            coverage.count("snapshot_piece_not_stored");
                            0
                        }
                    }
                };
                process.group.chunk_stored(shown, chunk.id, held);
            }
            Some(Work::Task(Task::Install(meta, id))) => {
                return self.adopt(shown, meta, id, witnesses);
            }
        }
        Ok(Ok(Turn::Done))
    }

    /// Verifies what arrived and makes it the newest checkpoint.
    fn adopt(
        &mut self,
        shown: Duration,
        meta: SnapshotMeta,
        id: SnapshotId,
        witnesses: &mut Witnesses<'_>,
    ) -> Result<Result<Turn, DiskFailed>, Violation> {
        let key = self.key;
        let Some(process) = &mut self.process else {
            return Ok(Ok(Turn::Done));
        };
        let data = match process.freight.partials.whole(key, id) {
            Ok(data) => data,
            Err(_) if self.disk.power_is_off() => return Ok(Err(DiskFailed)),
            Err(error) => {
                witnesses.coverage.count(match error {
                    PartialError::Damaged if process.freight.left_by_a_crash == Some(id) => {
                        "partial_damaged_by_a_crash"
                    }
                    PartialError::Damaged => "snapshot_arrived_damaged",
                    _ => "snapshot_not_whole",
                });
                process.to_install = None;
                process.group.install_refused(shown, id);
                return Ok(Ok(Turn::Done));
            }
        };
        let Some(machine) = Machine::decode(&data) else {
            return broken(
                "Recovery",
                format!("{}: a snapshot of {} is no state", key.replica, id.position),
            );
        };
        process.freight.partials.release(key);
        self.attempted.push(id.position.index);
        if process.checkpoints.0.adopt(key).is_err() {
            return Ok(Err(DiskFailed));
        }
        self.attempted.clear();
        self.checkpointed = id.position.index;
        witnesses.coverage.count("snapshot_installed");
        process.adopted = Some(Adopted {
            position: meta.position,
            machine,
        });
        Ok(Ok(Turn::Adopted))
    }

    /// The state of a snapshot is durable and decoded: it takes the place of the former one.
    pub(super) fn fetched(
        &mut self,
        now: Duration,
        witnesses: &mut Witnesses<'_>,
    ) -> Result<(), Violation> {
        let id = self.key.replica;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(Adopted { position, machine }) = process.adopted.take() else {
            return Ok(());
        };
        witnesses
            .history
            .applied(id, machine.applied, machine.chain)?;
        process.to_install = None;
        process.to_apply.clear();
        process.machine = machine;
        process.pending.clear(); // H69: nobody learns what became of them
        let shown = process.clock.shows(now);
        process.group.installed(shown, position);
        Ok(())
    }

    /// Writes a checkpoint of the present state; then the log may forget. `anew`: also when there is one of that state already.
    pub(crate) fn checkpoint(
        &mut self,
        now: Duration,
        everything: bool,
        anew: bool,
        coverage: &mut Coverage,
    ) -> Result<(), DiskFailed> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let is_known = process.machine.applied <= self.checkpointed && !anew;
        if process.to_install.is_some() || is_known {
            return Ok(());
        }
        let Some(meta) = process.group.meta_at(process.machine.applied) else {
            return Ok(());
        };
        let through = meta.position.index;
        let checkpoint = Checkpoint {
            key: self.key,
            meta,
            data: process.machine.encode(),
        };
        self.attempted.push(through);
        process
            .checkpoints
            .0
            .put(&[checkpoint])
            .map_err(|_| DiskFailed)?;
        self.attempted.clear();
        self.checkpointed = through;
        let shown = process.clock.shows(now);
        if everything {
            coverage.count("compacted_whole");
            process.group.compact_all(shown, through)
        } else {
            if process.group.options().keep_entries > 0 {
                coverage.count("compacted_but_for_a_tail");
            }
            process.group.compact(shown, through)
        }
        Ok(())
    }
}
