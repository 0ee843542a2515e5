//! The evaluator of one shard: user code runs here, on an entity arbiter, away from Raft.
//!
//! Here: [`EvaluatorActor`], which drives the pure [`Evaluator`]. Requests come from the transport or from routers of
//! the same process; batches and reads go to the group actor; replies leave when the evaluator lets them.
//! One context item ([`Drive`]) polls handler futures and seals the batch: actix polls it after the mailbox ran dry, so
//! a burst of requests becomes one batch.

use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;
use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler};
use synod_consensus::{LogIndex, Term};

use super::actor::{Drained, GroupActor, Propose, Read};
use super::alarm::{Alarm, Rung};
use super::receipt::Proposed;
use super::registry::Hosted;
use super::shared::{Counters, Shared};
use crate::evaluation::{Evaluator, EvaluatorOutput, ReplyToken};
use crate::transport::ReplyPath;
use crate::wire::{self, Outcome, Refusal, Reply, Request};

/// Requests that may wait for one evaluator before it looks at them. Beyond, they are refused as busy.
pub(crate) const EVALUATOR_MAILBOX: usize = 4_096;

/// Receives replies in the process that asked.
pub(crate) trait LocalReplies: Send + Sync + std::fmt::Debug {
    /// A reply from the evaluator of a local shard.
    fn reply(&self, reply: Reply);
}

/// Where a reply goes.
#[derive(Clone, Debug)]
pub(crate) enum ReplyTo {
    /// Back over the connection that brought the request.
    Remote(ReplyPath),
    /// To a router of this process.
    Local(Arc<dyn LocalReplies>),
}

impl ReplyTo {
    pub(crate) fn send(&self, shared: &Shared, reply: Reply) {
        match self {
            Self::Remote(path) => shared.transport.reply(*path, vec![wire::encode(&reply)]),
            Self::Local(router) => router.reply(reply),
        }
    }
}

/// Requests whose replies are owed, by token; slots are used again.
#[derive(Debug, Default)]
struct Owed {
    slots: Vec<Option<ReplyTo>>,
    free: Vec<u32>,
}

impl Owed {
    fn insert(&mut self, to: ReplyTo) -> ReplyToken {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(to);
                ReplyToken(u64::from(slot))
            }
            None => {
                self.slots.push(Some(to));
                ReplyToken(self.slots.len() as u64 - 1)
            }
        }
    }

    fn take(&mut self, token: ReplyToken) -> Option<ReplyTo> {
        let taken = self.slots.get_mut(token.0 as usize)?.take();
        if taken.is_some() {
            self.free.push(token.0 as u32);
        }
        taken
    }
}

/// The actor of one shard's evaluator.
pub(crate) struct EvaluatorActor {
    evaluator: Evaluator,
    shared: Arc<Shared>,
    group: Option<Addr<GroupActor>>,
    hosted: Option<Arc<Hosted>>,
    owed: Owed,
    serial: Option<u64>,
    /// Of the last pause.
    attempt: u64,
    alarm: Alarm,
}

impl std::fmt::Debug for EvaluatorActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvaluatorActor")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl EvaluatorActor {
    pub(crate) fn new(evaluator: Evaluator, shared: Arc<Shared>) -> Self {
        Self {
            evaluator,
            shared,
            group: None,
            hosted: None,
            owed: Owed::default(),
            serial: None,
            attempt: 0,
            alarm: Alarm::default(),
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// What became of the batch offered last, if the group has said it.
    fn take_receipt(&mut self) {
        let left = self.hosted.as_ref();
        if let Some(proposed) = left.and_then(|hosted| hosted.receipt.take()) {
            self.proposed(proposed);
        }
    }

    /// The same; if the group has not, it is going to wake this actor.
    fn take_or_await_receipt(&mut self) -> bool {
        let left = self.hosted.as_ref();
        let proposed = left.and_then(|hosted| hosted.receipt.take_or_await());
        proposed.map(|proposed| self.proposed(proposed)).is_some()
    }

    fn proposed(&mut self, proposed: Proposed) {
        let Proposed {
            serial,
            batch,
            result,
        } = proposed;
        let now = self.now();
        self.evaluator.proposed(now, serial, batch, result);
    }

    fn drain(&mut self) {
        while let Some(output) = self.evaluator.poll_output() {
            match output {
                EvaluatorOutput::Propose {
                    serial,
                    batch,
                    payload,
                } => {
                    if let Some(group) = &self.group {
                        group.do_send(Propose {
                            serial,
                            batch,
                            payload,
                        });
                    }
                }
                EvaluatorOutput::Read { serial, read } => {
                    if let Some(group) = &self.group {
                        group.do_send(Read { serial, read });
                    }
                }
                EvaluatorOutput::Reply { to, reply } => self.reply(to, reply),
                EvaluatorOutput::Paused => {
                    if let (Some(group), Some(serial)) = (&self.group, self.serial) {
                        let attempt = self.attempt;
                        group.do_send(Drained { serial, attempt });
                    }
                }
            }
        }
    }

    fn reply(&mut self, token: ReplyToken, mut reply: Reply) {
        let Some(to) = self.owed.take(token) else {
            return;
        };
        if let Outcome::Refused(Refusal::NotLeader { leader }) = &mut reply.outcome {
            // The group's actor hears of a new leader before the evaluator does.
            let known = self
                .hosted
                .as_ref()
                .and_then(|hosted| hosted.leader_store());
            *leader = known
                .filter(|store| *store != self.shared.store)
                .or(*leader);
            Counters::bump(&self.shared.counters.requests_redirected);
        } else {
            Counters::bump(&self.shared.counters.answered);
        }
        to.send(&self.shared, reply);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(wake_at) = self.evaluator.wake_at() else {
            return;
        };
        if self.alarm.set_for().is_none_or(|set| set > wake_at) {
            let wait = wake_at.saturating_sub(self.now());
            self.alarm.set(wake_at, wait, &ctx.address());
        }
    }
}

/// Polls futures, seals and proposes, sends what may leave: whenever the mailbox ran dry.
struct Drive;

impl ActorFuture<EvaluatorActor> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut EvaluatorActor,
        ctx: &mut Context<EvaluatorActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.take_receipt();
        let now = actor.now();
        actor.evaluator.poll(now, task);
        actor.evaluator.flush(now);
        while actor.evaluator.awaits_index() && actor.take_or_await_receipt() {
            actor.evaluator.flush(now);
        }
        actor.drain();
        actor.arm(ctx);
        Poll::Pending
    }
}

impl Actor for EvaluatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(EVALUATOR_MAILBOX);
        ctx.spawn(Drive);
    }
}

impl Handler<Rung> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, rung: Rung, _ctx: &mut Self::Context) {
        if self.alarm.is(rung) {
            let now = self.now();
            self.evaluator.tick(now);
        }
    }
}

/// The actors of a replica learn of each other.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Paired {
    pub(crate) group: Addr<GroupActor>,
    pub(crate) hosted: Arc<Hosted>,
}

impl Handler<Paired> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Paired { group, hosted }: Paired, _ctx: &mut Self::Context) {
        self.group = Some(group);
        self.hosted = Some(hosted);
    }
}

/// A request for this shard.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) reply: ReplyTo,
}

impl Handler<Incoming> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Incoming { request, reply }: Incoming, _ctx: &mut Self::Context) {
        let token = self.owed.insert(reply);
        // In a burst the next full batch is offered from here.
        self.take_receipt();
        let now = self.now();
        self.evaluator.request(now, request, token);
        // Batches that are full are proposed while the mailbox still has more.
        self.drain();
    }
}

/// The group's leadership is here and may evaluate.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Begin {
    pub(crate) serial: u64,
    pub(crate) term: Term,
}

impl Handler<Begin> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Begin { serial, term }: Begin, _ctx: &mut Self::Context) {
        self.serial = Some(serial);
        let now = self.now();
        self.evaluator.begin(now, serial, term);
    }
}

/// The leadership is over: everything speculative goes.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct End {
    /// Store of the new leader, when known.
    pub(crate) leader: Option<u64>,
}

impl Handler<End> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, End { leader }: End, _ctx: &mut Self::Context) {
        self.serial = None;
        let now = self.now();
        self.evaluator.end(now, leader);
        self.drain();
    }
}

/// The group has left a receipt, and this evaluator waits for it.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct TakeReceipt;

impl Handler<TakeReceipt> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, _: TakeReceipt, _ctx: &mut Self::Context) {
        self.take_receipt();
    }
}

/// The shard's state holds everything up to this index.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Applied(pub(crate) LogIndex);

impl Handler<Applied> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Applied(index): Applied, _ctx: &mut Self::Context) {
        // The batch that is applied may be the one whose index nobody has looked at.
        self.take_receipt();
        let now = self.now();
        self.evaluator.applied(now, index);
    }
}

/// A read was confirmed, or leadership was lost before it could be.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ReadAnswered {
    pub(crate) serial: u64,
    pub(crate) read: u64,
    pub(crate) ready: bool,
}

impl Handler<ReadAnswered> for EvaluatorActor {
    type Result = ();
    fn handle(
        &mut self,
        ReadAnswered {
            serial,
            read,
            ready,
        }: ReadAnswered,
        _ctx: &mut Self::Context,
    ) {
        let now = self.now();
        if ready {
            self.evaluator.read_ready(now, serial, read);
        } else {
            self.evaluator.read_failed(now, serial, read);
        }
    }
}

/// Leadership is about to move: evaluate nothing new, finish what is open until the deadline.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Pause {
    /// The number of the attempt to hand the leadership over.
    pub(crate) attempt: u64,
    pub(crate) deadline: Duration,
}

impl Handler<Pause> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Pause { attempt, deadline }: Pause, _ctx: &mut Self::Context) {
        let now = self.now();
        self.attempt = attempt;
        self.evaluator.pause(now, deadline);
    }
}

/// The leadership stayed: go on.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Resume;

impl Handler<Resume> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, _: Resume, _ctx: &mut Self::Context) {
        let now = self.now();
        self.evaluator.resume(now);
    }
}

/// The replica was retired: what is held is answered, and the actor ends with its state.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.serial = None;
        let now = self.now();
        self.evaluator.end(now, None);
        self.drain();
        // Whoever still holds this actor's address, it ends here.
        ctx.stop();
    }
}
