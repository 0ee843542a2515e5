//! One replica on its own machine: the real group, log and checkpoints on a virtual disk, driven step by step.
//!
//! Here: what a process does with a group's outputs, what its disk does, how it dies and comes back, and the invariants of a single
//! replica. Not here: when any of it happens (`world`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use synod::storage::{Checkpoint, Checkpoints, LogOptions, SegmentedLog};
use synod_consensus::{
    CheckedOptions, Configuration, Entry, EntryKind, Group, GroupId, HardState, LogIndex, LogStore,
    Message, Output, Persist, PersistToken, Promise, ReadId, ReplicaId, ReplicaKey, Restored, Role,
    Snapshot, Status, Term, TransferOutcome,
};

use super::coverage::Coverage;
use super::history::{History, Violation, broken};
use super::machine::Machine;
use super::model::Model;
use crate::disk::VirtualDisk;

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    pub(crate) term: Term,
    /// What was seen when it was asked.
    pub(crate) floor: LogIndex,
}

/// A replica's machine; the disk outlives the process.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) key: ReplicaKey,
    pub(crate) disk: VirtualDisk,
    pub(crate) process: Option<Process>,
    /// Events of an earlier life are void.
    pub(crate) life: u64,
    /// What the disk acknowledged of the log.
    pub(crate) durable: Model,
    /// What the newest durable checkpoint covers.
    pub(crate) checkpointed: LogIndex,
    pub(crate) paused_until: Duration,
    pub(crate) stalled_until: Duration,
    /// It will not come back: removed, or its disk is gone.
    pub(crate) retired: bool,
    /// The configuration it was born with; a newcomer's is empty.
    birth: Configuration,
    seen: Seen,
}

/// What may not go back, also over restarts.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: Term,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) group: Group,
    log: Opaque<SegmentedLog>,
    checkpoints: Opaque<Checkpoints>,
    /// What the log was asked to hold.
    pub(crate) asked: Model,
    queue: VecDeque<Persist>,
    to_apply: VecDeque<Vec<Entry>>,
    to_install: Option<Snapshot>,
    pub(crate) machine: Machine,
    pub(crate) pending: BTreeMap<LogIndex, Pending>,
    pub(crate) reads: BTreeMap<ReadId, LogIndex>,
    pub(crate) tick_at: Option<Duration>,
    pub(crate) write_due: bool,
    pub(crate) apply_due: bool,
    role: Role,
    vote: (Term, Option<ReplicaId>),
    applied: LogIndex,
    commit: LogIndex,
}

/// The real things print nothing useful.
struct Opaque<T>(T);

impl<T> core::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("..")
    }
}

/// Small files, so that they are rotated, carried and removed within a run; no threads.
fn log_options(salt: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        background: false,
        salt,
        ..LogOptions::default()
    }
}

/// What a step asks of the world.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) messages: Vec<Message>,
    pub(crate) write: bool,
    pub(crate) apply: bool,
    pub(crate) install: bool,
    pub(crate) snapshot_for: Vec<ReplicaId>,
    pub(crate) removed: bool,
}

/// A disk that failed: the process must end.
#[derive(Debug)]
pub(crate) struct DiskFailed;

impl Replica {
    /// A machine with an empty disk. `founding`: born a voter of a new group; else a newcomer.
    pub(crate) fn new(id: ReplicaId, disk: VirtualDisk, founding: Option<Configuration>) -> Self {
        Self {
            key: ReplicaKey {
                group: GroupId::new(7),
                replica: id,
            },
            disk,
            process: None,
            life: 0,
            durable: Model::default(),
            checkpointed: LogIndex::ZERO,
            paused_until: Duration::ZERO,
            stalled_until: Duration::ZERO,
            retired: false,
            birth: founding.unwrap_or_default(),
            seen: Seen::default(),
        }
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.key.replica
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process from what the disk holds.
    pub(crate) fn start(
        &mut self,
        options: CheckedOptions,
        seed: u64,
        now: Duration,
        history: &History,
    ) -> Result<(), Violation> {
        let id = self.key.replica;
        let refused = |what: &str, error: &dyn core::fmt::Display| {
            broken("Recovery", format!("{id}: {what}: {error}"))
        };
        let log = match SegmentedLog::open(self.disk.folder("log"), log_options(seed)) {
            Ok(log) => log,
            Err(error) => return refused("log", &error),
        };
        let checkpoints = match Checkpoints::open(self.disk.folder("state")) {
            Ok(checkpoints) => checkpoints,
            Err(error) => return refused("checkpoints", &error),
        };
        let (restored, asked, machine) = match log.recover(self.key) {
            Err(error) => return refused("recover", &error),
            Ok(None) => {
                let founding = self.birth.clone();
                let restored = if founding.voters.is_empty() {
                    Restored::newcomer()
                } else {
                    Restored::founding(founding)
                };
                (restored, Model::default(), Machine::default())
            }
            Ok(Some(recovered)) => {
                let checkpoint = match checkpoints.restore(self.key, recovered.base.position.index)
                {
                    Ok(checkpoint) => checkpoint,
                    Err(error) => return refused("state", &error),
                };
                let found = Model::recovered(&recovered);
                let machine = checkpoint
                    .as_ref()
                    .and_then(|checkpoint| Machine::decode(&checkpoint.data))
                    .unwrap_or_default();
                (
                    Restored::after_restart(
                        recovered,
                        checkpoint.map(|checkpoint| checkpoint.meta),
                    ),
                    found,
                    machine,
                )
            }
        };
        if self.durable.exists && (asked != self.durable || machine.applied != self.checkpointed) {
            let (before, found) = (self.durable.last(), asked.last());
            let detail = format!(
                "{id}: log {before} acknowledged, {found} found; state {} and {}",
                self.checkpointed, machine.applied
            );
            history.judge(broken("Recovery", detail))?;
        }
        self.durable = asked.clone();
        self.checkpointed = machine.applied;
        let group = match Group::new(options, self.key.group, id, restored, seed, now) {
            Ok(group) => group,
            Err(error) => return refused("group", &error),
        };
        self.life += 1;
        self.paused_until = Duration::ZERO;
        self.stalled_until = Duration::ZERO;
        let status = group.status();
        self.process = Some(Process {
            log: Opaque(log),
            checkpoints: Opaque(checkpoints),
            asked,
            queue: VecDeque::new(),
            to_apply: VecDeque::new(),
            to_install: None,
            machine,
            pending: BTreeMap::new(),
            reads: BTreeMap::new(),
            tick_at: None,
            write_due: false,
            apply_due: false,
            role: Role::Follower,
            vote: (status.term, status.vote),
            applied: status.applied,
            commit: status.commit,
            group,
        });
        if status.term < self.seen.term {
            history.judge(broken(
                "Monotone",
                format!(
                    "{id} starts in term {} after {}",
                    status.term, self.seen.term
                ),
            ))?;
        }
        Ok(())
    }

    /// The process ends; with `power`, the machine loses what was not synced.
    pub(crate) fn stop(&mut self, power: bool) -> Option<Process> {
        let process = self.process.take();
        self.life += 1;
        if power {
            self.disk.crash()
        } else {
            self.disk.kill()
        }
        process
    }

    /// Does everything that waits in one write and one sync, as the log writer does.
    pub(crate) fn write(&mut self) -> Result<Vec<PersistToken>, DiskFailed> {
        let Some(process) = &mut self.process else {
            return Ok(Vec::new());
        };
        let mut tokens = Vec::with_capacity(process.queue.len());
        let mut batch = Vec::with_capacity(process.queue.len());
        for Persist { token, writes } in process.queue.drain(..) {
            tokens.push(token);
            batch.push((self.key, writes));
        }
        if batch.is_empty() {
            return Ok(tokens);
        }
        let mut after = self.durable.clone();
        batch
            .iter()
            .flat_map(|(_, writes)| writes)
            .for_each(|write| {
                after.apply(write);
            });
        match process.log.0.write(&batch) {
            Ok(()) => {
                self.durable = after;
                Ok(tokens)
            }
            Err(_) => {
                // In doubt: the disk may come back with it or without it, as a whole.
                self.doubt(after);
                Err(DiskFailed)
            }
        }
    }

    /// The last batch failed: the disk may hold all of it or nothing.
    fn doubt(&mut self, after: Model) {
        self.stop(true);
        if let Ok(log) = SegmentedLog::open(self.disk.folder("log"), log_options(self.life))
            && let Ok(recovered) = log.recover(self.key)
            && recovered.as_ref().map(Model::recovered).unwrap_or_default() == after
        {
            self.durable = after;
        }
    }

    /// Writes a checkpoint of the present state; then the log may forget.
    pub(crate) fn checkpoint(&mut self, now: Duration, everything: bool) -> Result<(), DiskFailed> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        if process.to_install.is_some() || process.machine.applied <= self.checkpointed {
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
        process
            .checkpoints
            .0
            .put(&[checkpoint])
            .map_err(|_| DiskFailed)?;
        self.checkpointed = through;
        if everything {
            process.group.compact_all(now, through)
        } else {
            process.group.compact(now, through)
        }
        Ok(())
    }

    /// Installs the snapshot that was handed out.
    pub(crate) fn install(&mut self, now: Duration) -> Result<(), DiskFailed> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(Snapshot { meta, data }) = process.to_install.take() else {
            return Ok(());
        };
        process.to_apply.clear();
        let checkpoint = Checkpoint {
            key: self.key,
            meta: meta.clone(),
            data: data.clone(),
        };
        process
            .checkpoints
            .0
            .put(&[checkpoint])
            .map_err(|_| DiskFailed)?;
        process.machine = Machine::decode(&data).unwrap_or_default();
        self.checkpointed = meta.position.index;
        process.pending.clear();
        process.group.installed(now, meta.position);
        Ok(())
    }

    /// Applies the oldest page that was handed out, and answers the clients whose commands are in it.
    pub(crate) fn apply(
        &mut self,
        now: Duration,
        history: &mut History,
        coverage: &mut Coverage,
    ) -> Result<bool, Violation> {
        let id = self.key.replica;
        let Some(process) = &mut self.process else {
            return Ok(false);
        };
        if process.to_install.is_some() {
            return Ok(false);
        }
        let Some(entries) = process.to_apply.pop_front() else {
            return Ok(false);
        };
        for entry in &entries {
            if entry.index != process.machine.applied.next() {
                return broken(
                    "State Ordering",
                    format!(
                        "{id} applies {} after {}",
                        entry.index, process.machine.applied
                    ),
                );
            }
            process.machine.apply(entry);
            let command = command_of(entry);
            history.applies(id, entry.index, command)?;
            if let Some(pending) = process.pending.remove(&entry.index) {
                if pending.term == entry.term && command == Some(pending.id) {
                    coverage.count("acknowledged");
                    history.acknowledge(pending.id, entry.index, pending.floor)?;
                } else {
                    coverage.count("overwritten");
                }
            }
        }
        history.applied(id, process.machine.applied, process.machine.chain)?;
        process.group.applied(now, process.machine.applied);
        Ok(!process.to_apply.is_empty())
    }

    /// Carries out what can be done at once, collects the rest, and checks what a single replica must keep.
    pub(crate) fn drain(
        &mut self,
        history: &mut History,
        coverage: &mut Coverage,
    ) -> Result<Wishes, Violation> {
        let mut wishes = Wishes::default();
        let id = self.key.replica;
        let Some(process) = &mut self.process else {
            return Ok(wishes);
        };
        while let Some(output) = process.group.poll_output() {
            match output {
                Output::Persist(persist) => {
                    for write in &persist.writes {
                        history.asked(id, &process.asked, write)?;
                        if process.asked.apply(write) > 0 {
                            coverage.count("truncations");
                        }
                    }
                    if persist.token.last() != process.asked.last() {
                        history.judge(broken(
                            "Log Matching",
                            format!("{id} says its log ends at {}", persist.token.last()),
                        ))?;
                    }
                    process.queue.push_back(persist);
                    wishes.write = true;
                }
                Output::Send(message) => {
                    let kept = keeps(&self.durable, self.checkpointed, &process.asked, &message);
                    if !kept {
                        let detail = format!(
                            "{id} sends {} to {}: {:?}",
                            message.name(),
                            message.to,
                            message.promise()
                        );
                        history.judge(broken("Durable Promise", detail))?;
                    }
                    wishes.messages.push(message);
                }
                Output::Apply(entries) => {
                    process.to_apply.push_back(entries);
                    wishes.apply = true;
                }
                Output::Install(snapshot) => {
                    coverage.count("snapshots");
                    process.to_install = Some(snapshot);
                    wishes.install = true;
                }
                Output::SnapshotNeeded { to } => wishes.snapshot_for.push(to),
                Output::ReadReady { id: read, index } => {
                    coverage.count("reads");
                    if process.machine.applied < index {
                        history.judge(broken(
                            "Linearizable Reads",
                            format!("{id} answers before {index} is applied"),
                        ))?;
                    }
                    if let Some(floor) = process.reads.remove(&read) {
                        history.read(process.machine.applied, floor)?;
                    }
                }
                Output::ReadFailed { id: read } => {
                    coverage.count("reads_failed");
                    process.reads.remove(&read);
                }
                Output::Role { role, .. } => {
                    if role != Role::Leader && process.role == Role::Leader {
                        coverage.add("outcomes_unknown", process.pending.len() as u64);
                    }
                    process.role = role;
                }
                Output::MayEvaluate { .. } => coverage.count("terms_opened"),
                Output::Configuration {
                    configuration,
                    index,
                } => {
                    coverage.count(if configuration.is_joint() {
                        "joint_configurations"
                    } else {
                        "configurations"
                    });
                    if index < process.asked.last().index
                        && process.asked.at(index.next()).is_some()
                        && !configuration.is_joint()
                    {
                        coverage.count("configurations_reverted");
                    }
                }
                Output::Removed => {
                    coverage.count("removed");
                    wishes.removed = true;
                }
                Output::DataLost { acknowledged, last } => {
                    history.judge(broken(
                        "Recovery",
                        format!("{id} acknowledged {acknowledged} and ends at {last}"),
                    ))?;
                }
                Output::TransferEnded {
                    outcome: TransferOutcome::Moved,
                    ..
                } => coverage.count("transfers"),
                Output::TransferEnded { .. } => coverage.count("transfers_failed"),
                _ => {}
            }
        }
        Ok(wishes)
    }

    /// Holds the replica against what must be so of it alone after each step. Returns what it knew to be committed before.
    pub(crate) fn check(
        &mut self,
        history: &mut History,
        coverage: &mut Coverage,
    ) -> Result<Option<(Status, LogIndex)>, Violation> {
        let id = self.key.replica;
        let Some(process) = self.process.as_mut() else {
            return Ok(None);
        };
        let status = process.group.status();
        let purged = status.first.previous();
        let ordered = purged <= self.checkpointed
            && self.checkpointed <= process.machine.applied
            && status.applied <= status.commit
            && status.commit <= status.last.index
            && status.persisted <= status.last.index;
        if !ordered && process.to_install.is_none() {
            let detail = format!(
                "{id}: purged {purged}, checkpoint {}, {status:?}",
                self.checkpointed
            );
            history.judge(broken("State Ordering", detail))?;
        }
        let voted_twice = status.term == process.vote.0
            && process.vote.1.is_some()
            && status.vote != process.vote.1;
        let back = status.term < process.vote.0
            || status.commit < process.commit
            || status.applied < process.applied;
        if voted_twice || back {
            history.judge(broken(
                "Monotone",
                format!("{id}: {:?}, then {status:?}", process.vote),
            ))?;
        }
        if status.role == Role::Leader && history.leads(id, status.term, &process.asked)? {
            coverage.count("elections");
        }
        let before = core::mem::replace(&mut process.commit, status.commit);
        process.vote = (status.term, status.vote);
        process.applied = status.applied;
        self.seen.term = self.seen.term.max(self.durable.hard_state.term);
        Ok(Some((status, before)))
    }

    /// A state for a follower that needs one.
    pub(crate) fn snapshot(&mut self) -> Option<Snapshot> {
        let process = self.process.as_mut()?;
        if process.to_install.is_some() {
            return None;
        }
        let meta = process.group.meta_at(process.machine.applied)?;
        Some(Snapshot {
            meta,
            data: process.machine.encode(),
        })
    }
}

/// Whether what a message vouches for is on the sender's disk.
fn keeps(durable: &Model, checkpointed: LogIndex, asked: &Model, message: &Message) -> bool {
    match message.promise() {
        Some(Promise::Vote { candidate, term }) => {
            let HardState {
                term: there, vote, ..
            } = durable.hard_state;
            there > term || (there == term && vote == Some(candidate))
        }
        Some(Promise::Entries { matched }) => {
            let same = durable.term_at(matched).is_some()
                && durable.term_at(matched) == asked.term_at(matched);
            same || matched <= durable.base.index || matched <= checkpointed
        }
        None => true,
    }
}

/// Commands carry their number in front.
pub(crate) fn payload_of(id: u64, length: usize) -> Bytes {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(8 + length, id as u8);
    payload.into()
}

fn command_of(entry: &Entry) -> Option<u64> {
    let id = entry
        .payload
        .first_chunk::<8>()
        .filter(|_| entry.kind == EntryKind::Normal)?;
    Some(u64::from_le_bytes(*id))
}
