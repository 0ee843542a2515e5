//! One replica: the pure [`Group`] with its log, its state and its peers.
//!
//! Here: [`GroupActor`], which turns the machine's outputs into effects. Lives on a consensus arbiter; user code never
//! runs here. Spoken to by the transport (Raft messages), the log writer (completions), its evaluator (batches, reads),
//! the node (orders, hints) and its own timer. The rooms beside the driver: [`proposals`], [`checkpoint`], [`placement`],
//! [`description`], [`room`].

mod checkpoint;
mod description;
mod handover;
mod placement;
mod proposals;
mod putting_away;
mod room;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use bytes::Bytes;
pub(crate) use checkpoint::{
    CheckpointGone, CheckpointNow, Checkpointed, ChunkRead, ChunkStored, Delete, Fetched, Making,
    Provide, RowsUnreadable,
};
pub(crate) use description::Describe;
pub(crate) use placement::{CarryOut, Drained, ReportAgain, StepAside};
pub(crate) use proposals::{Propose, ProposeSystem, Read};
pub(crate) use putting_away::{PutAway, Wanted};
pub(crate) use room::CheckpointForRoom;
use synod_consensus::{
    Entries, EntryKind, Group, GroupId, LogIndex, Message, Output, PersistToken, Position, ReadId,
    ReplicaId, ReplicaKey, Role, SnapshotMeta, Term,
};
use tokio::sync::oneshot;

use self::handover::Handover;
use super::alarm::{Alarm, Rung};
use super::evaluator::{Applied, End, EvaluatorActor, Leads, Rest, Resume};
use super::evaluators::Evaluators;
use super::machine::{Diverged, Machine, lock};
use super::outbox::Outbox;
use super::overlays::Unwritten;
use super::receipt::Receipt;
use super::registry::Hosted;
use super::shared::{Counters, Shared};
use crate::evaluation::{BaseError, LogClock};
use crate::storage::{RowSpace, WriteRequest};
use crate::system::{Fence, GroupReport, ReplicaAddress, SystemOutcome};
use crate::wire::{ShardId, scratch};

/// Messages that may wait for one group. A full mailbox drops Raft messages; Raft sends again.
pub(crate) const GROUP_MAILBOX: usize = 4_096;

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
    /// Its shard, and what makes an evaluator of it when it leads; `None`: it is no shard.
    pub(crate) shard: Option<(ShardId, Arc<Evaluators>)>,
    /// Position and configuration of the state in `machine`.
    pub(crate) applied: SnapshotMeta,
    /// Where its rows lie; `None`: its checkpoints are whole states.
    pub(crate) space: Option<RowSpace>,
    /// Size of such a state as a checkpoint.
    pub(crate) state_bytes: u64,
}

/// The actor of one replica.
#[derive(Debug)]
pub(crate) struct GroupActor {
    group: Group,
    key: ReplicaKey,
    machine: Machine,
    shared: Arc<Shared>,
    shard: Option<(ShardId, Arc<Evaluators>)>,
    /// While it leads.
    evaluator: Option<Addr<EvaluatorActor>>,
    /// Left for that evaluator.
    receipt: Arc<Receipt>,
    hosted: Option<Arc<Hosted>>,
    /// What a snapshot taken now would say of itself.
    applied: SnapshotMeta,
    bytes_since_checkpoint: u64,
    space: Option<RowSpace>,
    /// Size of a state without rows at its last checkpoint.
    state_bytes: u64,
    /// What only memory holds, as the node counts it.
    unwritten: Unwritten,
    /// Index of the checkpoint being written.
    checkpoint: Option<LogIndex>,
    /// Bytes of the log between the last durable one and that.
    checkpoint_log_bytes: u64,
    /// The next compaction keeps no tail, because the log's oldest file waits for this group.
    purge: bool,
    /// Another checkpoint is wanted as soon as this one is written.
    again: bool,
    alarm: Alarm,
    /// Leadership serial given to the evaluator; `None` while it may not evaluate.
    leadership: Option<u64>,
    serials: u64,
    /// Of this leadership, whose evaluator was put away before.
    clock: Option<Box<LogClock>>,
    reads: BTreeMap<ReadId, (u64, u64)>,
    /// Replica to hand over to, once it is near and the evaluator is drained.
    handing_over: Handover,
    /// Who was last asked to take over while this node stops; another one comes first next time.
    last_heir: Option<ReplicaId>,
    waiting: BTreeMap<LogIndex, (Term, oneshot::Sender<SystemOutcome>)>,
    /// What was reported last, and when; in a box, for most replicas lead nothing.
    reported: Option<Box<(GroupReport, Duration)>>,
    role: (Role, Term, Option<ReplicaId>),
    fence: Fence,
    stopped: bool,
}

impl GroupActor {
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            group,
            key,
            machine,
            shared,
            shard,
            applied,
            space,
            state_bytes,
        } = start;
        let status = group.status();
        Self {
            role: (status.role, status.term, status.leader),
            group,
            key,
            machine,
            shared,
            shard,
            evaluator: None,
            receipt: Arc::default(),
            hosted: None,
            applied,
            bytes_since_checkpoint: 0,
            space,
            state_bytes,
            unwritten: Unwritten::default(),
            checkpoint: None,
            checkpoint_log_bytes: 0,
            purge: false,
            again: false,
            alarm: Alarm::default(),
            leadership: None,
            serials: 0,
            clock: None,
            reads: BTreeMap::new(),
            handing_over: Handover::default(),
            last_heir: None,
            waiting: BTreeMap::new(),
            reported: None,
            fence: Fence::default(),
            stopped: false,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whoever rests under a claim of this replica needs another leader.
    fn give_claims_up(&self) {
        self.shared.claims(|claims| claims.gone(self.key));
    }

    /// Runs one input of the machine, then everything that it put out.
    pub(super) fn drive(
        &mut self,
        ctx: &mut Context<Self>,
        input: impl FnOnce(&mut Group, Duration),
    ) {
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
                Output::StoreChunk(chunk) => self.shared.freight.store(self.key, chunk),
                Output::DropPartial { id } => self.shared.freight.drop_partial(self.key, id),
                Output::Install { meta, id } => self.install(*meta, id),
                Output::SnapshotNeeded { to } => self.shared.freight.request(self.key, to),
                Output::ReadChunk(wanted) => self.shared.freight.read(self.key, wanted),
                Output::ShipmentEnded { to, end } => self.shipment_ended(to, end),
                Output::LeftBehind { to } => self.left_behind(to),
                Output::ReadReady { id, .. } => self.answer_read(id, true),
                Output::ReadFailed { id } => self.answer_read(id, false),
                Output::Role { role, term, leader } => self.role_changed(role, term, leader),
                Output::MayEvaluate { term } => self.may_evaluate(term, ctx),
                Output::Configuration { configuration, .. } => {
                    if let Some(hosted) = &self.hosted {
                        hosted.set_configuration(configuration);
                    }
                    self.report(true);
                }
                Output::TransferPrepared { to } => self.drain_for(to, ctx),
                Output::TransferEnded { to, outcome } => {
                    tracing::debug!(group = %self.key.group, %to, ?outcome, "leadership transfer ended");
                    if self.handing_over.to() == Some(to) {
                        self.resume_evaluation();
                    }
                }
                Output::Claim { claim, holders } => {
                    let on_store = |id: &ReplicaId| (ReplicaAddress::of(*id).store, *id);
                    let holders: Vec<_> = holders.iter().map(on_store).collect();
                    self.shared.claims(|claims| claims.claim(claim, &holders));
                }
                Output::Rests { without } => {
                    let store = |id: &ReplicaId| ReplicaAddress::of(*id).store;
                    let without: Vec<_> = without.iter().map(store).collect();
                    self.shared
                        .claims(|claims| claims.rests(self.key, &without));
                    if let Some(evaluator) = &self.evaluator {
                        evaluator.do_send(Rest);
                    }
                    self.report(true);
                }
                Output::Unclaimed => self.shared.claims(|claims| claims.unclaimed(self.key)),
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
        self.report_progress();
        if let Some(hosted) = &self.hosted
            && hosted.set_caught_up(self.group.has_caught_up())
        {
            self.shared.touch();
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

    fn apply(&mut self, entries: Entries, ctx: &mut Context<Self>) {
        let Some(last) = entries.last().map(|entry| Position {
            term: entry.term,
            index: entry.index,
        }) else {
            return;
        };
        for entry in &entries {
            self.bytes_since_checkpoint += entry.payload.len() as u64 + 32;
            let outcome = match entry.kind {
                EntryKind::Normal => match self.machine.apply(entry.index, &entry.payload) {
                    Ok(outcome) => outcome,
                    Err(diverged) => return self.diverged(&diverged, ctx),
                },
                EntryKind::Noop => {
                    if let Err(diverged) = self.machine.pass(entry.index) {
                        return self.diverged(&diverged, ctx);
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
                        return self.diverged(&diverged, ctx);
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
            evaluator.do_send(Applied(last.index));
        }
        if self.shard.is_none() {
            self.shared.touch();
        }
        let now = self.now();
        self.group.applied(now, last.index);
        self.checkpoint_if_due();
        if let Some(status_report) = self.fresh_report() {
            self.post(status_report);
        }
    }

    fn role_changed(&mut self, role: Role, term: Term, leader: Option<ReplicaId>) {
        let was = std::mem::replace(&mut self.role, (role, term, leader));
        // Before the leadership ends: whoever is sent on from then on is told where to.
        if let Some(hosted) = &self.hosted {
            hosted.set_caught_up(self.group.has_caught_up()); // of this leader, and not of the last one
            hosted.set_leader(leader);
        }
        if role != Role::Leader || was.1 != term {
            self.end_leadership();
        }
        if role == Role::Leader && was.0 != Role::Leader {
            Counters::bump(&self.shared.counters.elections_won);
        }
        if was.2 != leader {
            tracing::debug!(group = %self.key.group, %term, ?leader, "leader known");
            self.shared.touch();
        }
    }

    fn may_evaluate(&mut self, term: Term, ctx: &Context<Self>) {
        self.serials += 1;
        self.leadership = Some(self.serials);
        self.clock = None;
        if let Some(hosted) = &self.hosted {
            hosted.set_serves(Some(term));
        }
        self.start_evaluator(ctx);
        self.report(true);
        self.shared.touch();
    }

    /// Starts the evaluator of this leadership, once others can find this replica.
    fn start_evaluator(&mut self, ctx: &Context<Self>) {
        let Machine::Shard(state) = &self.machine else {
            return;
        };
        if let (Some((shard, evaluators)), Some(hosted), Some(serial)) =
            (&self.shard, &self.hosted, self.leadership)
        {
            if let Some(former) = self.evaluator.take() {
                former.do_send(End { leader: None });
            }
            // The former one may still be at work: what is left for this one it must not find.
            self.receipt = Arc::default();
            let leads = Leads {
                group: ctx.address(),
                hosted: hosted.clone(),
                receipt: self.receipt.clone(),
                serial,
                term: self.role.1,
                clock: self.clock.as_deref().copied(),
            };
            let (group, shared) = (self.key.group, self.shared.clone());
            let evaluator = evaluators.start(*shard, group, state.clone(), leads, shared);
            hosted.set_evaluator(Some(evaluator.clone()));
            self.evaluator = Some(evaluator);
        }
    }

    fn end_leadership(&mut self) {
        self.handing_over.end();
        self.reads.clear();
        self.waiting.clear();
        let last = self.reported.take().map(|last| *last);
        if let Some(report) = last.and_then(|(last, _)| last.taken_back()) {
            let mut reports = lock(&self.shared.reports);
            let later = reports.get(&report.group);
            if later.is_none_or(|later| later.term <= report.term) {
                reports.insert(report.group, report);
            }
        }
        self.leadership = None;
        self.clock = None;
        if let Some(hosted) = &self.hosted {
            hosted.set_serves(None);
            hosted.set_evaluator(None);
        }
        if let Some(evaluator) = self.evaluator.take() {
            evaluator.do_send(End {
                leader: self.role.2.map(|leader| ReplicaAddress::of(leader).store),
            });
        }
    }

    fn resume_evaluation(&mut self) {
        self.handing_over.end();
        if let Some(evaluator) = &self.evaluator {
            evaluator.do_send(Resume);
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(wake_at) = self.group.wake_at() else {
            return;
        };
        let now = self.now();
        let wake_at = together(now, wake_at);
        // An alarm that rings early finds nothing due and is set again: moving a deadline back costs nothing.
        if self.alarm.set_for().is_none_or(|set| set > wake_at) {
            let wait = wake_at.saturating_sub(now);
            self.alarm.set(wake_at, wait, &ctx.address());
        }
    }

    /// This replica cannot go on: it says so and holds still. Others of its group go on, and get another one for it.
    fn stop(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.shared.lose(self.key, reason);
        self.halt(ctx);
    }

    fn diverged(&mut self, diverged: &Diverged, ctx: &mut Context<Self>) {
        match diverged {
            Diverged::State(_) => self.stop(&diverged.to_string(), ctx),
            Diverged::Unreadable(error) => self.unreadable(error, ctx),
        }
    }

    /// Its state cannot be read. Only one that is damaged is given up: what the disk refuses now it may give to the next start.
    fn unreadable(&mut self, error: &BaseError, ctx: &mut Context<Self>) {
        match error {
            BaseError::Damaged(_) => return self.stop(&error.to_string(), ctx),
            // The rows serve every replica here: the node stops as a whole (H72).
            BaseError::Unread(_) => self.shared.fail(&format!("storage failed: {error}")),
            BaseError::Closed(_) => {}
        }
        self.halt(ctx);
    }

    fn halt(&mut self, ctx: &mut Context<Self>) {
        self.end_leadership();
        self.stopped = true;
        self.give_claims_up();
        if let Some(hosted) = &self.hosted {
            hosted.set_leader(None);
        }
        ctx.stop();
    }
}

/// However it ends: a panic, too, takes what it claimed with it.
impl Drop for GroupActor {
    fn drop(&mut self) {
        if !self.stopped {
            self.give_claims_up();
        }
    }
}

/// When to wake for a deadline: a distant one waits for the next multiple of [`TICK`], so that the election
/// timers of many followers wake their arbiter together (leaders' heartbeats fall on multiples of their interval anyway);
/// a near one is kept.
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
        self.leave_room();
        self.shared.freight.leave(self.key);
    }
}

/// Group, then the message: the receiver routes without decoding.
pub(crate) fn encode_raft(group: GroupId, message: &Message) -> Bytes {
    // Writing into memory cannot fail, and every message is representable.
    scratch::gather(|frame| {
        frame.reserve(128 + message.payload_bytes());
        frame.extend_from_slice(&group.get().to_le_bytes());
        rmp_serde::encode::write_named(frame, message)
    })
    .expect("plain data always encodes")
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
        if message.to == self.key.replica && !unwanted && !self.leaves_out(&message) {
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

impl Handler<Rung> for GroupActor {
    type Result = ();
    fn handle(&mut self, rung: Rung, ctx: &mut Self::Context) {
        if !self.alarm.is(rung) {
            return;
        }
        let now = self.now();
        if self.group.wake_at().is_some_and(|at| at <= now) {
            self.drive(ctx, Group::tick);
            if let Some(report) = self.fresh_report() {
                self.post(report);
            }
        } else {
            self.arm(ctx);
        }
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

/// Who should lead, by the placement, if it can (DESIGN section 8, priority election).
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Prefer(pub(crate) Option<ReplicaId>);

impl Handler<Prefer> for GroupActor {
    type Result = ();
    fn handle(&mut self, Prefer(preferred): Prefer, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| group.prefer(now, preferred));
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
        hosted.set_serves(self.leadership.map(|_| self.role.1));
        self.hosted = Some(hosted);
        self.start_evaluator(ctx);
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
        self.leave_room();
        self.give_claims_up();
    }
}
