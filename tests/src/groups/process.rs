//! One running process: the real group, and what its driver holds for it.
//!
//! Here: what is done with a group's outputs, how commands are applied and answered, and the invariants of a single replica that are
//! looked at after each step. Not here: the machine and its disk (`replica`), when any of it happens (`world`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use synod::storage::{Checkpoints, SegmentedLog};
use synod_consensus::{
    Entries, Group, HardState, LogIndex, Message, Output, Persist, Position, Promise, ReadId,
    Refusal, Role, ShipmentEnd, SnapshotId, Status, Term, TransferOutcome,
};

use super::clock::Clock;
use super::freight::{Freight, Task};
use super::history::History;
use super::machine::Machine;
use super::model::Model;
use super::oracle::Oracle;
use super::replica::Replica;
use super::watch::{Cause, Watch};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// A command that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    pub(crate) term: Term,
    /// What was seen when it was asked.
    pub(crate) floor: LogIndex,
}

/// A read that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) id: u64,
    pub(crate) key: usize,
    /// What was seen when it was asked.
    pub(crate) floor: LogIndex,
    /// The step of the world in which it was asked.
    pub(crate) step: u64,
    /// A leader was asked, not a follower.
    pub(crate) by_leader: bool,
    /// It was not the only voter.
    pub(crate) beside_others: bool,
    /// A lease would have answered at once: the leader beside others has applied what it committed, in its own term.
    pub(crate) leasable: bool,
    /// In this term the leader has given up its lease.
    pub(crate) given_up: bool,
}

impl Reading {
    /// Which way of reading its answer, in this step, was a case of.
    fn answered(&self, step: u64) -> Option<&'static str> {
        match (self.by_leader, self.leasable, self.step == step) {
            (false, ..) => Some("follower_read_answered"),
            (true, true, true) => Some("read_by_lease"),
            (true, true, false) if self.given_up => Some("lease_given_up_by_transfer"),
            (true, true, false) => Some("lease_expired"),
            (true, false, _) => None,
        }
    }
}

/// A snapshot that is durable, decoded, and not the state yet.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) position: Position,
    pub(super) machine: Machine,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) clock: Clock,
    pub(super) log: Opaque<SegmentedLog>,
    pub(super) checkpoints: Opaque<Checkpoints>,
    /// What the log was asked to hold.
    pub(crate) asked: Model,
    pub(super) queue: VecDeque<Persist>,
    pub(super) to_apply: VecDeque<Entries>,
    pub(super) to_install: Option<SnapshotId>,
    pub(super) adopted: Option<Adopted>,
    pub(super) freight: Freight,
    pub(crate) machine: Machine,
    pub(crate) pending: BTreeMap<LogIndex, Pending>,
    pub(crate) reads: BTreeMap<ReadId, Reading>,
    pub(crate) tick_at: Option<Duration>,
    pub(crate) write_due: bool,
    pub(crate) apply_due: bool,
    /// After the last step.
    pub(crate) status: Status,
    pub(crate) watch: Watch,
}

/// The real things print nothing useful.
pub(super) struct Opaque<T>(pub(super) T);

impl<T> core::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("..")
    }
}

impl Process {
    pub(super) fn new(
        group: Group,
        clock: Clock,
        log: SegmentedLog,
        checkpoints: Checkpoints,
        freight: Freight,
    ) -> Self {
        Self {
            clock,
            log: Opaque(log),
            checkpoints: Opaque(checkpoints),
            asked: Model::default(),
            queue: VecDeque::new(),
            to_apply: VecDeque::new(),
            to_install: None,
            adopted: None,
            freight,
            machine: Machine::default(),
            pending: BTreeMap::new(),
            reads: BTreeMap::new(),
            tick_at: None,
            write_due: false,
            apply_due: false,
            status: group.status(),
            watch: Watch::default(),
            group,
        }
    }

    /// Whether a snapshot is on its way to the disk.
    pub(crate) fn is_installing(&self) -> bool {
        self.to_install.is_some()
    }
}

/// What a step asks of the world.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) messages: Vec<Message>,
    pub(crate) write: bool,
    pub(crate) apply: bool,
    pub(crate) install: bool,
    /// The thread for snapshots has something to do.
    pub(crate) freight: bool,
    /// Somebody asks for a shipment, or ended one.
    pub(crate) shipments: bool,
    /// What was shipped could not be used: another checkpoint has to be made.
    pub(crate) checkpoint: bool,
    pub(crate) removed: bool,
}

/// Those who see everything.
pub(crate) struct Witnesses<'a> {
    pub(crate) history: &'a mut History,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) coverage: &'a mut Coverage,
}

impl Replica {
    /// Applies the oldest page that was handed out, and answers the clients whose commands are in it.
    pub(crate) fn apply(
        &mut self,
        now: Duration,
        witnesses: &mut Witnesses<'_>,
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
        let Witnesses {
            history,
            oracle,
            coverage,
        } = witnesses;
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
            let applied = process.machine.apply(entry);
            history.applies(id, entry.index, applied.map(|(command, _)| command.id))?;
            let Some(pending) = process.pending.remove(&entry.index) else {
                continue;
            };
            match applied {
                Some((command, answer))
                    if (pending.term, pending.id) == (entry.term, command.id) =>
                {
                    coverage.count("acknowledged");
                    history.acknowledge(pending.id, entry.index, pending.floor)?;
                    oracle.answer(pending.id, answer, entry.index);
                }
                _ => {
                    coverage.count("replaced");
                    oracle.replaced(pending.id); // H31
                }
            }
        }
        history.applied(id, process.machine.applied, process.machine.chain)?;
        let now = process.clock.shows(now);
        process.group.applied(now, process.machine.applied);
        Ok(!process.to_apply.is_empty())
    }

    /// Carries out what can be done at once, collects the rest, and checks what a single replica must keep.
    pub(crate) fn drain(
        &mut self,
        now: Duration,
        step: u64,
        witnesses: &mut Witnesses<'_>,
    ) -> Result<Wishes, Violation> {
        let mut wishes = Wishes::default();
        let id = self.key.replica;
        let Some(process) = &mut self.process else {
            return Ok(wishes);
        };
        let Witnesses {
            history,
            oracle,
            coverage,
        } = witnesses;
        let at = now;
        let now = process.clock.shows(now);
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
                    process.watch.write_asked(persist.token.serial(), now);
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
                Output::StoreChunk(chunk) => {
                    process.freight.push(Task::Store(chunk));
                    wishes.freight = true;
                }
                Output::DropPartial { id } => {
                    process.freight.push(Task::Drop(id));
                    wishes.freight = true;
                }
                Output::Install { meta, id } => {
                    process.to_install = Some(id);
                    process.freight.push(Task::Install(*meta, id));
                    wishes.freight = true;
                    wishes.install = true;
                }
                Output::ReadChunk(wanted) => {
                    process.freight.read(wanted, at);
                    wishes.freight = true;
                }
                Output::ShipmentEnded { to, end } => {
                    process.freight.end(to);
                    wishes.shipments = true;
                    wishes.checkpoint |= end == ShipmentEnd::Refused(Refusal::Damaged);
                    coverage.count(match end {
                        ShipmentEnd::Arrived => "shipment_arrived",
                        ShipmentEnd::Abandoned => "shipment_abandoned",
                        ShipmentEnd::Refused(_) => "shipment_refused",
                        ShipmentEnd::Stalled => "shipment_stalled",
                    });
                }
                Output::SnapshotNeeded { to } => {
                    coverage.count("snapshot_begun");
                    if process.freight.request(to, at) {
                        coverage.count("shipment_gave_way");
                    }
                    wishes.shipments = true;
                }
                Output::ReadReady { id: read, index } => {
                    coverage.count("read_confirmed");
                    if process.machine.applied < index {
                        history.judge(broken(
                            "Linearizable Reads",
                            format!("{id} answers before {index} is applied"),
                        ))?;
                    }
                    if let Some(reading) = process.reads.remove(&read) {
                        if reading.by_leader && reading.beside_others && reading.step == step {
                            history.leased(id, process.status.term)?;
                        }
                        let machine = &process.machine;
                        history.read(machine.applied, reading.floor)?;
                        oracle.answer(reading.id, machine.read(reading.key), machine.applied);
                        if let Some(name) = reading.answered(step) {
                            coverage.count(name);
                        }
                    }
                }
                Output::ReadFailed { id: read } => {
                    coverage.count("read_failed");
                    if process
                        .reads
                        .remove(&read)
                        .is_some_and(|read| !read.by_leader)
                    {
                        coverage.count("follower_read_failed");
                    }
                }
                Output::MayEvaluate { .. } => coverage.count("term_opened"),
                Output::Configuration { .. } => coverage.count("configurations"),
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
                Output::TransferPrepared { to } => {
                    coverage.count("transfer_prepared");
                    // Another configuration may have come meanwhile.
                    let _refused = process.group.transfer(now, to);
                }
                Output::TransferEnded { outcome, .. } => coverage.count(match outcome {
                    TransferOutcome::Moved => "transfer_moved",
                    TransferOutcome::TimedOut => "transfer_timed_out",
                    TransferOutcome::Aborted => "transfer_aborted",
                }),
                _ => {}
            }
        }
        Ok(wishes)
    }

    /// Holds the replica against what must be so of it alone after each step. Returns what it knew to be committed before.
    pub(crate) fn check(
        &mut self,
        cause: Cause,
        now: Duration,
        witnesses: &mut Witnesses<'_>,
    ) -> Result<Option<LogIndex>, Violation> {
        let id = self.key.replica;
        let Some(process) = self.process.as_mut() else {
            return Ok(None);
        };
        let Witnesses {
            history, coverage, ..
        } = witnesses;
        let now = process.clock.shows(now);
        let status = process.group.status();
        let before = core::mem::replace(&mut process.status, status);
        let status = &process.status;
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
        let voted_twice =
            status.term == before.term && before.vote.is_some() && status.vote != before.vote;
        let back = status.term < before.term
            || status.commit < before.commit
            || status.applied < before.applied;
        if voted_twice || back {
            history.judge(broken(
                "Monotone",
                format!("{id}: {before:?}, then {status:?}"),
            ))?;
        }
        let (index, configuration) = process.asked.configuration();
        if (index, configuration) != (status.configuration_index, &status.configuration) {
            let detail = format!(
                "{id} follows {:?} of {}, its log's last is {configuration:?} of {index}",
                status.configuration, status.configuration_index
            );
            history.judge(broken("Effective Configuration", detail))?;
        }
        let limit = process.group.options().election_timeout;
        if let Some(lasts) = process.watch.transfer_lasts(cause, status, now, limit) {
            let detail = format!("{id} hands over for {lasts:?}: {status:?}");
            history.judge(broken("Transfers End", detail))?;
        }
        if status.role == Role::Leader {
            history.leads(id, status.term, &process.asked, coverage)?;
        }
        let options = process.group.options();
        process
            .watch
            .stepped(cause, &before, status, now, options, coverage);
        self.last_term = self.last_term.max(self.durable.hard_state.term);
        Ok(Some(before.commit))
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
