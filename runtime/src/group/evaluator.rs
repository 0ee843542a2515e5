//! The evaluator of one shard: user code runs here, on an entity arbiter, away from Raft.
//!
//! Here: [`EvaluatorActor`], which drives the pure [`Evaluator`] for as long as one leadership lasts. Requests come from the transport
//! or from routers of the same process; batches and reads go to the group actor; replies leave when the evaluator lets them.
//! One context item ([`Drive`]) polls handler futures and seals the batch: actix polls it after the mailbox ran dry, so
//! a burst of requests becomes one batch.

use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;
use std::sync::Arc;

use actix::dev::SendError;
use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler};
use synod_consensus::{LogIndex, Term};

use super::actor::{Drained, GroupActor, Propose, PutAway, Read};
use super::alarm::{Alarm, Rung};
use super::receipt::{Proposed, Receipt};
use super::registry::Hosted;
use super::shared::{Counters, Shared};
use crate::evaluation::{Evaluator, EvaluatorOutput, LogClock, ReplyToken};
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
    /// Refuses a request that no evaluator has seen.
    pub(crate) fn refuse(&self, shared: &Shared, request: &Request, refusal: Refusal) {
        self.answer(shared, request, Outcome::Refused(refusal));
    }

    /// Answers a request that no evaluator has seen.
    pub(crate) fn answer(&self, shared: &Shared, request: &Request, outcome: Outcome) {
        let reply = Reply {
            id: request.id,
            attempt: request.attempt,
            logged: false,
            outcome,
        };
        self.send(shared, reply);
    }

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

/// The leadership that an evaluator works for.
#[derive(Debug)]
pub(crate) struct Leads {
    pub(crate) group: Addr<GroupActor>,
    pub(crate) hosted: Arc<Hosted>,
    /// What the group leaves for this evaluator and no other.
    pub(crate) receipt: Arc<Receipt>,
    /// Its number, which no other leadership of this replica has.
    pub(crate) serial: u64,
    pub(crate) term: Term,
    /// Of an earlier evaluator of this leadership, which was put away.
    pub(crate) clock: Option<LogClock>,
}

impl Leads {
    /// What one is told who asks where nobody leads.
    fn not_leader(&self, shared: &Shared, known: Option<u64>) -> Refusal {
        not_leader(shared, Some(&self.hosted), known)
    }
}

/// What one is told who asks a replica that does not lead; `known`: a store that might.
pub(crate) fn not_leader(shared: &Shared, hosted: Option<&Hosted>, known: Option<u64>) -> Refusal {
    Counters::bump(&shared.counters.requests_redirected);
    let leader = hosted.and_then(Hosted::leader_store);
    Refusal::NotLeader {
        leader: leader.filter(|store| *store != shared.store).or(known),
    }
}

/// The actor of one shard's evaluator.
pub(crate) struct EvaluatorActor {
    /// `None`: the leadership is over. The actor ends with its last address.
    evaluator: Option<Evaluator>,
    shared: Arc<Shared>,
    leads: Leads,
    owed: Owed,
    /// Of the last pause.
    attempt: u64,
    alarm: Alarm,
}

impl std::fmt::Debug for EvaluatorActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvaluatorActor")
            .field("serial", &self.leads.serial)
            .finish_non_exhaustive()
    }
}

impl EvaluatorActor {
    pub(crate) fn new(evaluator: Evaluator, leads: Leads, shared: Arc<Shared>) -> Self {
        Self {
            evaluator: Some(evaluator),
            shared,
            leads,
            owed: Owed::default(),
            attempt: 0,
            alarm: Alarm::default(),
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// Does something with the evaluator, unless its leadership is over.
    fn with(&mut self, act: impl FnOnce(&mut Evaluator, Duration)) {
        let now = self.now();
        if let Some(evaluator) = &mut self.evaluator {
            act(evaluator, now);
        }
    }

    /// What became of the batch offered last, if the group has said it.
    fn take_receipt(&mut self) {
        if let Some(proposed) = self.leads.receipt.take() {
            self.proposed(proposed);
        }
    }

    /// The same; if the group has not, it is going to wake this actor.
    fn take_or_await_receipt(&mut self) -> bool {
        let proposed = self.leads.receipt.take_or_await();
        proposed.map(|proposed| self.proposed(proposed)).is_some()
    }

    fn proposed(&mut self, proposed: Proposed) {
        let Proposed {
            serial,
            batch,
            result,
        } = proposed;
        self.with(|evaluator, now| evaluator.proposed(now, serial, batch, result));
    }

    fn drain(&mut self) {
        while let Some(output) = self.evaluator.as_mut().and_then(Evaluator::poll_output) {
            let group = &self.leads.group;
            match output {
                EvaluatorOutput::Propose {
                    serial,
                    batch,
                    payload,
                } => group.do_send(Propose {
                    serial,
                    batch,
                    payload,
                }),
                EvaluatorOutput::Read { serial, read } => group.do_send(Read { serial, read }),
                EvaluatorOutput::Reply { to, reply } => self.reply(to, reply),
                EvaluatorOutput::Paused => group.do_send(Drained {
                    serial: self.leads.serial,
                    attempt: self.attempt,
                }),
            }
        }
    }

    fn reply(&mut self, token: ReplyToken, mut reply: Reply) {
        let Some(to) = self.owed.take(token) else {
            return;
        };
        if let Outcome::Refused(Refusal::NotLeader { leader }) = &mut reply.outcome {
            // The group's actor hears of a new leader before the evaluator does.
            reply.outcome = Outcome::Refused(self.leads.not_leader(&self.shared, *leader));
        } else {
            Counters::bump(&self.shared.counters.answered);
        }
        to.send(&self.shared, reply);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(wake_at) = self.evaluator.as_ref().and_then(Evaluator::wake_at) else {
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
        actor.with(|evaluator, now| {
            evaluator.poll(now, task);
            evaluator.flush(now);
        });
        while actor
            .evaluator
            .as_ref()
            .is_some_and(Evaluator::awaits_index)
            && actor.take_or_await_receipt()
        {
            actor.with(|evaluator, now| evaluator.flush(now));
        }
        actor.drain();
        actor.arm(ctx);
        match actor.evaluator {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Actor for EvaluatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Leads {
            serial,
            term,
            clock,
            ..
        } = self.leads;
        self.with(|evaluator, now| match clock {
            Some(clock) => evaluator.begin_again(now, serial, clock),
            None => evaluator.begin(now, serial, term),
        });
        ctx.spawn(Drive);
    }
}

impl Handler<Rung> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, rung: Rung, _ctx: &mut Self::Context) {
        if self.alarm.is(rung) {
            self.with(|evaluator, now| evaluator.tick(now));
        }
    }
}

/// A request for this shard.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) reply: ReplyTo,
}

impl Incoming {
    /// Answers one that could not be handed over.
    pub(crate) fn refuse(back: SendError<Self>, shared: &Shared, hosted: Option<&Hosted>) {
        match back {
            SendError::Full(Self { request, reply }) => {
                Counters::bump(&shared.counters.requests_mailbox_full);
                let refusal = Refusal::Busy {
                    queue: "evaluator mailbox".to_owned(),
                    retry_after_ms: 50,
                };
                reply.refuse(shared, &request, refusal);
            }
            SendError::Closed(Self { request, reply }) => {
                reply.refuse(shared, &request, not_leader(shared, hosted, None));
            }
        }
    }
}

impl Handler<Incoming> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, Incoming { request, reply }: Incoming, _ctx: &mut Self::Context) {
        let Leads { hosted, term, .. } = &self.leads;
        if self.evaluator.is_none() && hosted.serves() == Some(*term) {
            // It was on its way when this one was put away; the leadership goes on with another.
            let hosted = hosted.clone();
            if let Err(back) = hosted.offer(Incoming { request, reply }) {
                Incoming::refuse(back, &self.shared, Some(&hosted));
            }
            return;
        }
        // It was on its way when the leadership ended, or waited while a handler blocked the arbiter.
        if self.evaluator.is_none() || self.leads.hosted.serves() != Some(self.leads.term) {
            let refusal = self.leads.not_leader(&self.shared, None);
            return reply.refuse(&self.shared, &request, refusal);
        }
        let token = self.owed.insert(reply);
        // In a burst the next full batch is offered from here.
        self.take_receipt();
        self.with(|evaluator, now| evaluator.request(now, request, token));
        // Batches that are full are proposed while the mailbox still has more.
        self.drain();
    }
}

/// The leadership is over: what is held is answered, and everything speculative goes.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct End {
    /// Store of the new leader, when known.
    pub(crate) leader: Option<u64>,
}

impl Handler<End> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, End { leader }: End, _ctx: &mut Self::Context) {
        self.with(|evaluator, now| evaluator.end(now, leader));
        self.drain();
        // Whoever still holds this actor's address, its state is free.
        self.evaluator = None;
    }
}

/// The group rests.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Rest;

impl Handler<Rest> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, _: Rest, _ctx: &mut Self::Context) {
        self.with(|evaluator, _| evaluator.rest());
        if let Some(clock) = self.evaluator.as_ref().and_then(Evaluator::idle) {
            let serial = self.leads.serial;
            self.leads.group.do_send(PutAway { serial, clock });
        }
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
        self.with(|evaluator, now| evaluator.applied(now, index));
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
        self.with(|evaluator, now| {
            if ready {
                evaluator.read_ready(now, serial, read);
            } else {
                evaluator.read_failed(now, serial, read);
            }
        });
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
        self.attempt = attempt;
        self.with(|evaluator, now| evaluator.pause(now, deadline));
    }
}

/// The leadership stayed: go on.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Resume;

impl Handler<Resume> for EvaluatorActor {
    type Result = ();
    fn handle(&mut self, _: Resume, _ctx: &mut Self::Context) {
        self.with(|evaluator, now| evaluator.resume(now));
    }
}
