//! One replica: the pure [`Group`] with its log, its state and its peers.
//!
//! Here: [`GroupActor`], which turns the machine's outputs into effects. Lives on a consensus arbiter; user code never
//! runs here. Spoken to by the transport (Raft messages), the log writer (completions), its evaluator (batches, reads),
//! the node (orders, hints) and its own timer.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use bytes::{BufMut, Bytes, BytesMut};
use synod_consensus::{
    Change, Entry, EntryKind, Group, GroupId, LogIndex, Message, Output, PersistToken, Position,
    ReadId, ReplicaId, ReplicaKey, Role, Snapshot, SnapshotMeta, Term, Write,
};
use tokio::sync::oneshot;

use super::evaluator::{
    Applied, Begin, End, EvaluatorActor, Pause, Proposed, ReadAnswered, Resume,
};
use super::machine::Machine;
use super::outbox::Outbox;
use super::registry::Hosted;
use super::shared::{Counters, Shared};
use crate::storage::{Checkpoint, WriteRequest};
use crate::system::{GroupReport, Order, OrderKind, ReplicaAddress, SystemCommand, SystemOutcome};

/// Messages that may wait for one group. A full mailbox drops Raft messages; Raft sends again.
pub(crate) const GROUP_MAILBOX: usize = 4_096;
/// A checkpoint is made once this many log bytes were applied since the last one. With 256 groups the retained log
/// stays below 32 MiB; each checkpoint of a small shard costs a few microseconds and shares one fsync with others.
const CHECKPOINT_BYTES: u64 = 128 * 1024;
/// How long commands may wait for a leadership to move before they are evaluated here after all.
const TRANSFER_PAUSE: Duration = Duration::from_millis(400);
/// A peer that answered within this time can take a leadership over: two heartbeats and their way.
const PEER_ACTIVE: Duration = Duration::from_millis(1_200);
/// A leader repeats an unchanged report this often, for a system leader that is new.
const REPORT_AGAIN: Duration = Duration::from_secs(4);

/// Deadlines at least this far away (heartbeats and election timeouts, not the staggered campaigns of an election) need
/// no precision.
const DISTANT: Duration = Duration::from_millis(300);
/// Distant deadlines are put off to a multiple of this.
const TICK: Duration = Duration::from_millis(100);

/// What a group actor starts from.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) group: Group,
    pub(crate) key: ReplicaKey,
    pub(crate) machine: Machine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) evaluator: Option<actix::Addr<EvaluatorActor>>,
    /// Position and configuration of the state in `machine`.
    pub(crate) applied: SnapshotMeta,
}

/// The actor of one replica.
#[derive(Debug)]
pub(crate) struct GroupActor {
    group: Group,
    key: ReplicaKey,
    machine: Machine,
    shared: Arc<Shared>,
    evaluator: Option<actix::Addr<EvaluatorActor>>,
    hosted: Option<Arc<Hosted>>,
    /// What a snapshot taken now would say of itself.
    applied: SnapshotMeta,
    bytes_since_checkpoint: u64,
    /// Size of the state at its last checkpoint.
    state_bytes: u64,
    /// Index of the checkpoint being written.
    checkpoint: Option<LogIndex>,
    /// The next compaction keeps no tail, because the log's oldest file waits for this group.
    purge: bool,
    /// Another checkpoint is wanted as soon as this one is written.
    again: bool,
    /// Snapshot taken over whose checkpoint is being written.
    installing: Option<Position>,
    timer: Option<(Duration, SpawnHandle)>,
    /// Leadership serial given to the evaluator; `None` while it may not evaluate.
    leadership: Option<u64>,
    serials: u64,
    reads: BTreeMap<ReadId, (u64, u64)>,
    /// Replica to hand over to once the evaluator is drained.
    handing_over: Option<ReplicaId>,
    /// Who was last asked to take over while this node stops; another one comes first next time.
    last_heir: Option<ReplicaId>,
    waiting: BTreeMap<LogIndex, (Term, oneshot::Sender<SystemOutcome>)>,
    reported: Option<(GroupReport, Duration)>,
    role: (Role, Term, Option<ReplicaId>),
    stopped: bool,
}

impl GroupActor {
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            group,
            key,
            machine,
            shared,
            evaluator,
            applied,
        } = start;
        let status = group.status();
        Self {
            role: (status.role, status.term, status.leader),
            group,
            key,
            machine,
            shared,
            evaluator,
            hosted: None,
            applied,
            bytes_since_checkpoint: 0,
            state_bytes: 0,
            checkpoint: None,
            purge: false,
            again: false,
            installing: None,
            timer: None,
            leadership: None,
            serials: 0,
            reads: BTreeMap::new(),
            handing_over: None,
            last_heir: None,
            waiting: BTreeMap::new(),
            reported: None,
            stopped: false,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// Runs one input of the machine, then everything that it put out.
    fn drive(&mut self, ctx: &mut Context<Self>, input: impl FnOnce(&mut Group, Duration)) {
        if self.stopped {
            return;
        }
        let now = self.now();
        input(&mut self.group, now);
        self.flush(ctx);
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.group.poll_output() {
            match output {
                Output::Persist(persist) => {
                    Outbox::write(WriteRequest {
                        key: self.key,
                        token: Some(persist.token),
                        writes: persist.writes,
                    });
                }
                Output::Send(message) => self.send(&message),
                Output::Apply(entries) => self.apply(entries, ctx),
                Output::Install(snapshot) => self.install(&snapshot, ctx),
                Output::SnapshotNeeded { to } => self.snapshot(to),
                Output::ReadReady { id, .. } => self.answer_read(id, true),
                Output::ReadFailed { id } => self.answer_read(id, false),
                Output::Role { role, term, leader } => self.role_changed(role, term, leader),
                Output::MayEvaluate { term } => self.may_evaluate(term),
                Output::Configuration { .. } => self.report(true),
                Output::TransferEnded { to, outcome } => {
                    tracing::debug!(group = %self.key.group, %to, ?outcome, "leadership transfer ended");
                    self.resume_evaluation();
                }
                // A committed configuration without this replica: the system log retires it, then the node deletes it.
                Output::Removed => self.end_leadership(),
                Output::DataLost { acknowledged, last } => {
                    let reason = format!(
                        "it acknowledged entries through {acknowledged}, but its log ends at {last}"
                    );
                    return self.stop(&reason, ctx);
                }
                other => {
                    tracing::warn!(group = %self.key.group, ?other, "output of a newer machine is not handled")
                }
            }
            if self.stopped {
                return;
            }
        }
        self.arm(ctx);
    }

    fn send(&self, message: &Message) {
        let store = ReplicaAddress::of(message.to).store;
        Outbox::raft(
            store,
            encode_raft(self.key.group, message),
            message.is_bulk(),
        );
    }

    fn apply(&mut self, entries: Vec<Entry>, ctx: &mut Context<Self>) {
        let Some(last) = entries.last().map(|entry| Position {
            term: entry.term,
            index: entry.index,
        }) else {
            return;
        };
        for entry in entries {
            self.bytes_since_checkpoint += entry.payload.len() as u64 + 32;
            let outcome = match entry.kind {
                EntryKind::Normal => match self.machine.apply(entry.index, &entry.payload) {
                    Ok(outcome) => outcome,
                    Err(diverged) => return self.stop(&diverged.to_string(), ctx),
                },
                EntryKind::Noop => {
                    if let Err(diverged) = self.machine.pass(entry.index) {
                        return self.stop(&diverged.to_string(), ctx);
                    }
                    None
                }
                EntryKind::Configuration => {
                    let Some(configuration) = entry.configuration() else {
                        return self.stop(
                            &format!("configuration entry {} does not decode", entry.index),
                            ctx,
                        );
                    };
                    self.applied.configuration = configuration;
                    self.applied.configuration_index = entry.index;
                    if let Err(diverged) = self.machine.pass(entry.index) {
                        return self.stop(&diverged.to_string(), ctx);
                    }
                    None
                }
            };
            if let Some((term, reply)) = self.waiting.remove(&entry.index) {
                // H31: another leader's entry at this index is not the one that was proposed.
                if let (true, Some(outcome)) = (term == entry.term, outcome) {
                    let _gone = reply.send(outcome);
                }
            }
        }
        self.applied.position = last;
        if let Some(evaluator) = &self.evaluator {
            if self.leadership.is_some() {
                evaluator.do_send(Applied(last.index));
            }
        } else {
            self.shared.touch();
        }
        let now = self.now();
        self.group.applied(now, last.index);
        // A large state is written less often, so that checkpoints never cost more than the log itself.
        if self.bytes_since_checkpoint >= CHECKPOINT_BYTES.max(self.state_bytes) {
            self.make_checkpoint();
        }
        if let Some(status_report) = self.fresh_report() {
            self.post(status_report);
        }
    }

    /// Asks for a durable copy of the state, after which the log before it may go (E28: in this order).
    fn make_checkpoint(&mut self) {
        let writer = &self.shared.checkpoints;
        if self.checkpoint.is_some()
            || self.applied.position.index == LogIndex::ZERO
            || writer.queued_bytes() > writer.queued_bytes_limit()
        {
            return;
        }
        let data = self.machine.encode();
        self.state_bytes = data.len() as u64;
        self.bytes_since_checkpoint = 0;
        self.checkpoint = Some(self.applied.position.index);
        Outbox::checkpoint(Checkpoint {
            key: self.key,
            meta: self.applied.clone(),
            data,
        });
    }

    fn install(&mut self, snapshot: &Snapshot, ctx: &mut Context<Self>) {
        self.end_leadership();
        let position = snapshot.meta.position;
        if let Err(diverged) = self.machine.restore(position.index, &snapshot.data) {
            return self.stop(&diverged.to_string(), ctx);
        }
        self.applied = snapshot.meta.clone();
        self.bytes_since_checkpoint = 0;
        self.checkpoint = Some(position.index);
        self.installing = Some(position);
        Outbox::checkpoint(Checkpoint {
            key: self.key,
            meta: snapshot.meta.clone(),
            data: snapshot.data.clone(),
        });
        if self.evaluator.is_none() {
            self.shared.touch();
        }
        tracing::debug!(group = %self.key.group, index = %position.index, bytes = snapshot.data.len(), "snapshot taken over");
    }

    fn snapshot(&mut self, to: ReplicaId) {
        let snapshot = Snapshot {
            meta: self.applied.clone(),
            data: self.machine.encode(),
        };
        let now = self.now();
        self.group.provide_snapshot(now, to, snapshot);
    }

    fn answer_read(&mut self, id: ReadId, ready: bool) {
        if let (Some((serial, read)), Some(evaluator)) = (self.reads.remove(&id), &self.evaluator) {
            evaluator.do_send(ReadAnswered {
                serial,
                read,
                ready,
            });
        }
    }

    fn role_changed(&mut self, role: Role, term: Term, leader: Option<ReplicaId>) {
        let was = std::mem::replace(&mut self.role, (role, term, leader));
        if role != Role::Leader || was.1 != term {
            self.end_leadership();
        }
        if role == Role::Leader && was.0 != Role::Leader {
            Counters::bump(&self.shared.counters.elections_won);
        }
        if let Some(hosted) = &self.hosted {
            hosted.set_leader(leader);
        }
        if was.2 != leader {
            tracing::debug!(group = %self.key.group, %term, ?leader, "leader known");
            self.shared.touch();
        }
    }

    fn may_evaluate(&mut self, term: Term) {
        self.serials += 1;
        self.leadership = Some(self.serials);
        if let Some(evaluator) = &self.evaluator {
            evaluator.do_send(Begin {
                serial: self.serials,
                term,
            });
        }
        self.report(true);
        self.shared.touch();
    }

    fn end_leadership(&mut self) {
        self.handing_over = None;
        self.reads.clear();
        self.waiting.clear();
        self.reported = None;
        if self.leadership.take().is_some()
            && let Some(evaluator) = &self.evaluator
        {
            evaluator.do_send(End {
                leader: self.role.2.map(|leader| ReplicaAddress::of(leader).store),
            });
        }
    }

    fn resume_evaluation(&mut self) {
        self.handing_over = None;
        if let (Some(evaluator), true) = (&self.evaluator, self.leadership.is_some()) {
            evaluator.do_send(Resume);
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(wake_at) = self.group.wake_at() else {
            return;
        };
        let now = self.now();
        let wake_at = together(now, wake_at);
        // A timer that fires early finds nothing due and is armed again: moving a deadline back costs nothing.
        if let Some((armed, handle)) = self.timer {
            if armed <= wake_at {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = wake_at.saturating_sub(now);
        let handle = ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            let now = actor.now();
            if actor.group.wake_at().is_some_and(|at| at <= now) {
                actor.drive(ctx, Group::tick);
                if let Some(report) = actor.fresh_report() {
                    actor.post(report);
                }
            } else {
                actor.arm(ctx);
            }
        });
        self.timer = Some((wake_at, handle));
    }

    /// Posts a report at once.
    fn report(&mut self, force: bool) {
        if force {
            self.reported = None;
        }
        if let Some(report) = self.fresh_report() {
            self.post(report);
        }
    }

    /// A report, if this replica leads and something changed or the last one is old.
    fn fresh_report(&self) -> Option<GroupReport> {
        self.leadership?;
        let now = self.now();
        let due = match &self.reported {
            None => true,
            // While a replica catches up the system leader waits for its progress; else old news will do.
            Some((last, at)) => {
                let settled = last.configuration.learners.is_empty()
                    && last.configuration.outgoing.is_empty()
                    && last.configuration_committed;
                let pause = if settled {
                    REPORT_AGAIN
                } else {
                    Duration::from_millis(100)
                };
                now.saturating_sub(*at) >= pause
            }
        };
        if !due {
            return None;
        }
        let status = self.group.status();
        Some(GroupReport {
            group: self.key.group,
            term: status.term,
            leader: self.key.replica,
            configuration_committed: status.configuration_index <= status.commit,
            configuration: status.configuration,
            configuration_index: status.configuration_index,
            last: status.last.index,
            // What a peer once had says nothing of one that no longer answers: it could not take over.
            matched: status
                .peers
                .iter()
                .filter(|peer| now.saturating_sub(peer.active_at) <= PEER_ACTIVE)
                .map(|peer| (peer.replica, peer.matched))
                .collect(),
        })
    }

    fn post(&mut self, report: GroupReport) {
        let now = self.now();
        let news = self
            .reported
            .as_ref()
            .is_none_or(|(last, _)| last.configuration_index != report.configuration_index);
        self.reported = Some((report.clone(), now));
        super::lock(&self.shared.reports).insert(self.key.group, report);
        if news {
            self.shared.touch();
        }
    }

    fn carry_out(&mut self, order: Order, ctx: &mut Context<Self>) {
        if order.leader != self.key.replica
            || self.leadership.is_none()
            || self.handing_over.is_some()
        {
            return;
        }
        let now = self.now();
        match order.kind {
            OrderKind::Change {
                expected,
                voters,
                learners,
            } => {
                match self.group.change(
                    now,
                    Change {
                        expected,
                        voters,
                        learners,
                    },
                ) {
                    Ok(_) => Counters::bump(&self.shared.counters.moves),
                    Err(error) => {
                        tracing::debug!(group = %self.key.group, %error, "change not begun")
                    }
                }
                self.flush(ctx);
            }
            OrderKind::Transfer { to } => {
                Counters::bump(&self.shared.counters.moves);
                self.handing_over = Some(to);
                match &self.evaluator {
                    Some(evaluator) => evaluator.do_send(Pause {
                        deadline: now + TRANSFER_PAUSE,
                    }),
                    None => self.hand_over(ctx),
                }
            }
        }
    }

    fn hand_over(&mut self, ctx: &mut Context<Self>) {
        let Some(to) = self.handing_over else { return };
        let now = self.now();
        if let Err(error) = self.group.transfer(now, to) {
            tracing::debug!(group = %self.key.group, %to, %error, "leadership not moved");
            self.resume_evaluation();
        }
        self.flush(ctx);
    }

    /// This replica cannot go on: it says so and holds still. Others of its group go on, and get another one for it.
    fn stop(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.shared.lose(self.key, reason);
        self.halt(ctx);
    }

    fn halt(&mut self, ctx: &mut Context<Self>) {
        self.end_leadership();
        self.stopped = true;
        if let Some(hosted) = &self.hosted {
            hosted.set_leader(None);
        }
        ctx.stop();
    }
}

/// When to wake for a deadline: a distant one waits for the next multiple of [`TICK`], so that the heartbeats of many
/// groups fall due together and leave as one frame per peer (DESIGN section 9); a near one is kept.
fn together(now: Duration, deadline: Duration) -> Duration {
    if deadline.saturating_sub(now) < DISTANT {
        return deadline;
    }
    let tick = TICK.as_nanos() as u64;
    Duration::from_nanos((deadline.as_nanos() as u64).next_multiple_of(tick))
}

impl Actor for GroupActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Nothing is put out before `Registered`: completions find this actor through the registry.
        ctx.set_mailbox_capacity(GROUP_MAILBOX);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.end_leadership();
    }
}

/// Group, then the message: the receiver routes without decoding.
pub(crate) fn encode_raft(group: GroupId, message: &Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(128 + message.payload_bytes());
    frame.put_u64_le(group.get());
    let mut writer = frame.writer();
    let mut serializer = rmp_serde::Serializer::new(&mut writer).with_struct_map();
    // Writing into memory cannot fail, and every message is representable.
    serde::Serialize::serialize(message, &mut serializer).expect("plain data always encodes");
    writer.into_inner().freeze()
}

/// The group a Raft frame is for, and its message.
pub(crate) fn decode_raft(frame: &[u8]) -> Option<(GroupId, Message)> {
    let (head, body) = frame.split_first_chunk::<8>()?;
    Some((
        GroupId::new(u64::from_le_bytes(*head)),
        crate::wire::decode(body).ok()?,
    ))
}

/// A Raft message of another replica.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Raft(pub(crate) Message);

impl Handler<Raft> for GroupActor {
    type Result = ();
    fn handle(&mut self, Raft(message): Raft, ctx: &mut Self::Context) {
        // H77: a message to a former incarnation of this replica is not for this one.
        // S18: a node that stops takes no leadership over.
        let unwanted =
            message.name() == "campaign_now" && self.shared.stopping.load(Ordering::Relaxed);
        if message.to == self.key.replica && !unwanted {
            self.drive(ctx, |group, now| group.receive(now, message));
            self.report(false);
        }
    }
}

/// The log writer made this durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Persisted(pub(crate) PersistToken);

impl Handler<Persisted> for GroupActor {
    type Result = ();
    fn handle(&mut self, Persisted(token): Persisted, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| group.persisted(now, token));
    }
}

/// The disk failed; nothing more is durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StorageFailed(pub(crate) String);

impl Handler<StorageFailed> for GroupActor {
    type Result = ();
    fn handle(&mut self, StorageFailed(error): StorageFailed, ctx: &mut Self::Context) {
        // The log serves every replica here: the node stops as a whole (H72).
        self.shared.fail(&format!("storage failed: {error}"));
        self.halt(ctx);
    }
}

/// A checkpoint up to this index is durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Checkpointed(pub(crate) LogIndex);

impl Handler<Checkpointed> for GroupActor {
    type Result = ();
    fn handle(&mut self, Checkpointed(index): Checkpointed, ctx: &mut Self::Context) {
        if self.checkpoint != Some(index) {
            return;
        }
        self.checkpoint = None;
        let installed = self.installing.take();
        let purge = std::mem::take(&mut self.purge);
        self.drive(ctx, |group, now| match installed {
            Some(position) => group.installed(now, position),
            None if purge => group.compact_all(now, index),
            None => group.compact(now, index),
        });
        if self.key.group == GroupId::ZERO {
            // Retired replicas wait for this: see `Replicas::sweep`.
            self.shared
                .system_durable
                .fetch_max(index.get(), Ordering::Relaxed);
            self.shared.touch();
        }
        if std::mem::take(&mut self.again) {
            self.purge = true;
            self.make_checkpoint();
        }
    }
}

/// The log's oldest file is held by this group alone.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CheckpointNow;

impl Handler<CheckpointNow> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: CheckpointNow, _ctx: &mut Self::Context) {
        if self.checkpoint.is_some() {
            self.again = true;
        } else {
            self.purge = true;
            self.make_checkpoint();
        }
    }
}

/// A sealed batch of the evaluator.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Propose {
    pub(crate) serial: u64,
    pub(crate) batch: u64,
    pub(crate) payload: Bytes,
}

impl Handler<Propose> for GroupActor {
    type Result = ();
    fn handle(
        &mut self,
        Propose {
            serial,
            batch,
            payload,
        }: Propose,
        ctx: &mut Self::Context,
    ) {
        if self.leadership != Some(serial) {
            // The evaluator has been told, or will be next: everything speculative of that leadership goes.
            return;
        }
        let now = self.now();
        let result = self
            .group
            .propose(now, payload)
            .map(|position| position.index);
        if let Some(evaluator) = &self.evaluator {
            let result = result.map_err(|error| {
                tracing::warn!(group = %self.key.group, %error, "reserved batch refused");
            });
            evaluator.do_send(Proposed {
                serial,
                batch,
                result,
            });
        }
        self.flush(ctx);
    }
}

/// The evaluator wants a read confirmed.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Read {
    pub(crate) serial: u64,
    pub(crate) read: u64,
}

impl Handler<Read> for GroupActor {
    type Result = ();
    fn handle(&mut self, Read { serial, read }: Read, ctx: &mut Self::Context) {
        if self.leadership != Some(serial) {
            return;
        }
        let now = self.now();
        match self.group.read(now) {
            Ok(id) => {
                self.reads.insert(id, (serial, read));
            }
            Err(error) => {
                tracing::debug!(group = %self.key.group, %error, "read refused");
                if let Some(evaluator) = &self.evaluator {
                    evaluator.do_send(ReadAnswered {
                        serial,
                        read,
                        ready: false,
                    });
                }
            }
        }
        self.flush(ctx);
    }
}

/// The evaluator has nothing open: leadership may move.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Drained {
    pub(crate) serial: u64,
}

impl Handler<Drained> for GroupActor {
    type Result = ();
    fn handle(&mut self, Drained { serial }: Drained, ctx: &mut Self::Context) {
        if self.leadership == Some(serial) {
            self.hand_over(ctx);
        }
    }
}

/// A command for the system group; answered when applied here. Dropped without an answer when leadership is lost:
/// then nobody knows, and the proposer looks at the state.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ProposeSystem {
    pub(crate) command: SystemCommand,
    pub(crate) reply: oneshot::Sender<SystemOutcome>,
}

impl Handler<ProposeSystem> for GroupActor {
    type Result = ();
    fn handle(&mut self, ProposeSystem { command, reply }: ProposeSystem, ctx: &mut Self::Context) {
        if self.leadership.is_none() {
            return;
        }
        let now = self.now();
        match self.group.propose(now, crate::wire::encode(&command)) {
            Ok(position) => {
                self.waiting.insert(position.index, (position.term, reply));
            }
            Err(error) => tracing::debug!(%error, "system command not proposed"),
        }
        self.flush(ctx);
    }
}

/// The node's failure detector has not heard from this store for its timeout.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct PeerSilent(pub(crate) u64);

impl Handler<PeerSilent> for GroupActor {
    type Result = ();
    fn handle(&mut self, PeerSilent(store): PeerSilent, ctx: &mut Self::Context) {
        let leader = self
            .role
            .2
            .filter(|leader| ReplicaAddress::of(*leader).store == store);
        if let Some(leader) = leader {
            self.drive(ctx, |group, now| group.peer_silent(now, leader));
        }
    }
}

/// An order of the system leader.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CarryOut(pub(crate) Order);

impl Handler<CarryOut> for GroupActor {
    type Result = ();
    fn handle(&mut self, CarryOut(order): CarryOut, ctx: &mut Self::Context) {
        if !self.stopped {
            self.carry_out(order, ctx);
        }
    }
}

/// Move the leadership to any caught-up voter: this node is about to stop.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StepAside;

impl Handler<StepAside> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: StepAside, ctx: &mut Self::Context) {
        if self.handing_over.is_some() {
            return;
        }
        let now = self.now();
        let status = self.group.status();
        let heir = status
            .peers
            .iter()
            .filter(|peer| status.configuration.voters.contains(&peer.replica))
            .filter(|peer| now.saturating_sub(peer.active_at) <= PEER_ACTIVE)
            .max_by_key(|peer| (Some(peer.replica) != self.last_heir, peer.matched));
        if let Some(heir) = heir {
            self.last_heir = Some(heir.replica);
            let order = Order {
                group: self.key.group,
                leader: self.key.replica,
                kind: OrderKind::Transfer { to: heir.replica },
            };
            self.carry_out(order, ctx);
        }
    }
}

/// The registry's entry of this replica, for leader hints.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Registered(pub(crate) Arc<Hosted>);

impl Handler<Registered> for GroupActor {
    type Result = ();
    fn handle(&mut self, Registered(hosted): Registered, ctx: &mut Self::Context) {
        hosted.set_leader(self.role.2);
        self.hosted = Some(hosted);
        self.flush(ctx);
    }
}

/// The system log retired this replica: it ends, but stays on disk until that is durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

impl Handler<Retire> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: Retire, _ctx: &mut Self::Context) {
        self.end_leadership();
        self.stopped = true;
        if let Some(evaluator) = self.evaluator.take() {
            evaluator.do_send(super::evaluator::Stop);
        }
    }
}

/// The retirement can no longer be forgotten: the replica's log and checkpoint go.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Delete;

impl Handler<Delete> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: Delete, ctx: &mut Self::Context) {
        Outbox::write(WriteRequest {
            key: self.key,
            token: None,
            writes: vec![Write::Drop],
        });
        Outbox::drop_checkpoint(self.key);
        ctx.stop();
    }
}
