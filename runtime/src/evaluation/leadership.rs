//! Everything speculative of one leadership, in one value: created when evaluation may begin, dropped whole when the
//! leadership ends. Nothing in it survives into another term, even on the same node (E4).
//!
//! Here: [`Leadership`]: which requests may run now, and what becomes of the batches, replies and read rounds.
//! Admission of a request is in `admission`, running a handler and judging its end in `running`.
//! Not here: what is replicated (`state`), inputs and outputs (`evaluator`).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use synod_consensus::LogIndex;

use super::attempts::{Attempts, LiveSession, Progress};
use super::batch::{BATCH_VERSION, Batch, Effect};
use super::env::Env;
use super::gates::Gates;
use super::log_clock::LogClock;
use super::paths::{Paths, Stage, Ticket};
use super::pipeline::{Assembled, Bounds, Pipeline};
use super::running::{Handling, Running};
use super::slots::{EntityAt, Slots};
use super::{EvaluatorOutput, guard};
use crate::wire::{Outcome, SessionId};

/// Whom an evaluation is for.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Command { session: SessionId, sequence: u64 },
    Query { ticket: Ticket, deadline: Duration },
}

/// A request that was admitted.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: usize,
    pub(super) row: usize,
    pub(super) key: Rc<str>,
    pub(super) body: Bytes,
    pub(super) origin: Origin,
    /// The read round that a reply without an entry waits for.
    pub(super) read: u64,
}

impl Call {
    pub(super) fn at(&self) -> EntityAt {
        EntityAt {
            kind: self.kind,
            key: Rc::clone(&self.key),
        }
    }
}

/// What a gate holds back.
pub(super) enum Release {
    /// The outcome in the sequence's mark; void when the mark has moved from computed to logged meanwhile.
    Command {
        session: SessionId,
        sequence: u64,
        logged: bool,
    },
    /// A ready outcome.
    Plain { ticket: Ticket, outcome: Outcome },
    /// The session of this router is open.
    Opened { router: u128 },
}

/// Why nothing is evaluated for a while.
struct Pause {
    deadline: Duration,
    announced: bool,
}

/// After a refused proposal: nothing is evaluated until what is in flight is applied and `until` has passed.
struct Stall {
    batch: u64,
    until: Duration,
}

/// Pause after a refused proposal, so that a group that refuses for a while is not asked in a loop.
const STALL_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Leadership {
    pub(super) serial: u64,
    clock: LogClock,
    pub(super) paths: Paths,
    pub(super) attempts: Attempts,
    pub(super) slots: Slots,
    pub(super) pipeline: Pipeline,
    pub(super) gates: Gates<Release>,
    /// Admitted requests that may not run yet, in order.
    pub(super) backlog: VecDeque<Call>,
    /// Bodies of all requests that wait, here and at their entities.
    pub(super) waiting_bytes: usize,
    pub(super) waiting: usize,
    pub(super) runs: BTreeMap<u64, Running>,
    /// Sum of what `runs` has reserved.
    pub(super) reserved_bytes: usize,
    pub(super) running: FuturesUnordered<Handling>,
    pub(super) next_run: u64,
    /// Wakes whoever calls `poll`.
    pub(super) waker: Option<Waker>,
    /// Routers whose session is being opened, with who asked.
    pub(super) openings: BTreeMap<u128, Vec<Ticket>>,
    pub(super) openings_waiting: VecDeque<u128>,
    pause: Option<Pause>,
    stall: Option<Stall>,
}

impl Leadership {
    pub(super) fn new(env: &Env, serial: u64, clock: LogClock) -> Self {
        let options = &env.options;
        Self {
            serial,
            clock,
            paths: Paths::default(),
            attempts: Attempts::default(),
            slots: Slots::new(options.shares.clone()),
            pipeline: Pipeline::new(Bounds {
                batch_commands: options.batch_commands,
                batch_bytes: options.batch_bytes,
                entry_max: options.entry_max,
                in_flight_bytes: options.in_flight_bytes,
            }),
            gates: Gates::new(),
            backlog: VecDeque::new(),
            waiting_bytes: 0,
            waiting: 0,
            runs: BTreeMap::new(),
            reserved_bytes: 0,
            running: FuturesUnordered::new(),
            next_run: 0,
            waker: None,
            openings: BTreeMap::new(),
            openings_waiting: VecDeque::new(),
            pause: None,
            stall: None,
        }
    }

    /// Its clock, if nothing is open: nobody waits, and all that was computed is in the shard's state.
    pub(super) fn idle(&self) -> Option<LogClock> {
        let is_idle = self.paths.len() == 0
            && self.gates.is_empty()
            && self.pipeline.is_empty()
            && self.runs.is_empty()
            && self.backlog.is_empty()
            && self.openings.is_empty()
            && !self.attempts.remembers()
            && self.pause.is_none()
            && self.stall.is_none();
        is_idle.then_some(self.clock)
    }

    /// True while no handler may start.
    pub(super) fn blocked(&self, env: &Env) -> bool {
        self.pause.is_some()
            || self.stall.is_some()
            || !self.pipeline.has_room(self.reserved_bytes)
            || self.runs.len() >= env.options.running_max
    }

    /// Starts what waits, as far as it may.
    pub(super) fn resume_backlog(&mut self, env: &mut Env, now: Duration) {
        while !self.backlog.is_empty() && !self.blocked(env) {
            if let Some(call) = self.backlog.pop_front() {
                self.no_longer_waiting(&call);
                self.start(env, now, call);
            }
        }
    }

    pub(super) fn now_waiting(&mut self, call: &Call) {
        self.waiting += 1;
        self.waiting_bytes += call.body.len();
    }

    pub(super) fn no_longer_waiting(&mut self, call: &Call) {
        self.waiting -= 1;
        self.waiting_bytes -= call.body.len();
    }

    pub(super) fn answer(&mut self, env: &mut Env, ticket: Ticket, logged: bool, outcome: Outcome) {
        env.emit(self.paths.answer(ticket, logged, outcome));
    }

    /// Ends a command that has not changed anything and was not judged: every attempt gets the same refusal.
    pub(super) fn refuse_command(
        &mut self,
        env: &mut Env,
        session: SessionId,
        sequence: u64,
        outcome: &Outcome,
    ) {
        if let Some(mark) = self.attempts.remove(session, sequence) {
            for ticket in mark.tickets {
                self.answer(env, ticket, false, outcome.clone());
            }
        }
    }

    /// Takes openings into the open batch, one per batch, because the entry's index becomes the session's number.
    fn assign_opening(&mut self) {
        if self.pause.is_some()
            || self.stall.is_some()
            || !self.pipeline.has_room(self.reserved_bytes)
        {
            return;
        }
        while self.pipeline.can_open() {
            let Some(router) = self.openings_waiting.pop_front() else {
                return;
            };
            let batch = self.pipeline.add_opening(router);
            self.gates
                .add(batch, super::gates::NO_READ, Release::Opened { router });
        }
    }

    /// Waiting messages are drained.
    pub(super) fn flush(&mut self, env: &mut Env, now: Duration) {
        self.resume_backlog(env, now);
        self.assign_opening();
        self.pipeline.flush();
        self.offer(env, now);
        if let Some(read) = self.gates.begin_read(now, env.options.reads_max) {
            env.counters.reads += 1;
            env.outputs.push_back(EvaluatorOutput::Read {
                serial: self.serial,
                read,
            });
        }
        self.release(env);
        self.slots.trim(
            env.options.instances_max,
            env.options.instances_bytes_now(),
            self.gates.batch_done(),
        );
        self.announce_pause(env);
    }

    /// Nothing has happened for a while: what is not in use goes.
    pub(super) fn rest(&mut self) {
        self.slots.clear_idle(self.gates.batch_done());
    }

    /// Offers the next batch to the group if its turn has come.
    pub(super) fn offer(&mut self, env: &mut Env, now: Duration) {
        let clock_ms = self.clock.ms(now);
        let Some(batch) = self.pipeline.offer() else {
            return;
        };
        let effects = batch
            .touched
            .iter()
            .map(|touched| Effect {
                kind: env.kinds.at(touched.at.kind).name.into(),
                key: (&*touched.at.key).into(),
                base: self
                    .slots
                    .get(touched.at.kind, &touched.at.key)
                    .map_or(LogIndex::ZERO, |slot| slot.version)
                    .get(),
                image: touched.image.clone(),
            })
            .collect::<Vec<_>>();
        let mut expires = Vec::new();
        if self.clock.looks_for_idle(now, env.options.session_idle) {
            let idle_ms = env.options.session_idle.as_millis() as u64;
            let state = env.state();
            let horizon = clock_ms.saturating_sub(idle_ms);
            expires.extend(state.sessions_used_before(horizon).filter(|session| {
                self.attempts
                    .sessions
                    .get(session)
                    .is_none_or(LiveSession::is_idle)
            }));
            self.attempts
                .expired
                .retain(|session| state.session(*session).is_some());
            self.attempts.expired.extend(&expires);
            for session in &expires {
                self.attempts.sessions.remove(session);
            }
        }
        env.counters.batches += 1;
        env.counters.effects += effects.len() as u64;
        if batch.failures && !effects.is_empty() {
            env.counters.batches_with_failure += 1;
        }
        let number = batch.number;
        let payload = crate::wire::encode(&Batch {
            version: BATCH_VERSION,
            clock_ms,
            effects,
            replies: batch.replies.clone(),
            opens: batch.opens,
            expires,
        });
        env.counters.bytes += payload.len() as u64;
        env.outputs.push_back(EvaluatorOutput::Propose {
            serial: self.serial,
            batch: number,
            payload,
        });
    }

    pub(super) fn taken(&mut self, env: &mut Env, now: Duration, number: u64, index: LogIndex) {
        let Some(batch) = self.pipeline.taken(number, index) else {
            return;
        };
        for touched in &batch.touched {
            if let Some(slot) = self.slots.get_mut(touched.at.kind, &touched.at.key) {
                slot.version = if touched.image.is_some() {
                    index
                } else {
                    LogIndex::ZERO
                };
            }
        }
        self.assign_opening();
        self.offer(env, now);
    }

    /// The group refused a batch: it is certain that nothing of it will be logged, and everything computed on top of
    /// it is void (E9). What is already in flight stays; evaluation goes on from there once it is applied.
    pub(super) fn refused(&mut self, env: &mut Env, now: Duration, number: u64) {
        let Some((lost, last)) = self.pipeline.refused(number) else {
            return;
        };
        env.counters.proposals_refused += 1;
        for Assembled { replies, opens, .. } in lost {
            for stored in replies {
                let outcome = env.busy("log");
                self.refuse_command(env, stored.session, stored.sequence, &outcome);
            }
            if let Some(router) = opens {
                let outcome = env.busy("log");
                for ticket in self.openings.remove(&router).unwrap_or_default() {
                    self.answer(env, ticket, false, outcome.clone());
                }
            }
        }
        for release in self.gates.withdraw_from(number) {
            let outcome = env.busy("log");
            match release {
                Release::Command {
                    session, sequence, ..
                } => self.refuse_command(env, session, sequence, &outcome),
                Release::Plain { ticket, .. } => self.answer(env, ticket, false, outcome),
                Release::Opened { .. } => {}
            }
        }
        self.take_back_running(env);
        for call in self.slots.clear() {
            self.backlog.push_back(call);
        }
        self.stall = Some(Stall {
            batch: last.unwrap_or(0),
            until: now + STALL_PAUSE,
        });
    }

    /// Drops every running handler; its request waits again, in front.
    fn take_back_running(&mut self, env: &mut Env) {
        let running = std::mem::take(&mut self.running);
        let _ = guard::call(move || drop(running));
        self.reserved_bytes = 0;
        for (_, Running { call, .. }) in std::mem::take(&mut self.runs).into_iter().rev() {
            env.counters.interrupted += 1;
            self.set_stage(&call, Stage::Waiting);
            self.now_waiting(&call);
            if let Some(slot) = self.slots.get_mut(call.kind, &call.key) {
                slot.running = false;
                for queued in std::mem::take(&mut slot.queue).into_iter().rev() {
                    self.backlog.push_front(queued);
                }
            }
            let at = call.at();
            self.backlog.push_front(call);
            self.slots.touch(&at);
        }
    }

    pub(super) fn set_stage(&mut self, call: &Call, stage: Stage) {
        match &call.origin {
            Origin::Query { ticket, .. } => self.paths.set_stage(*ticket, stage),
            Origin::Command { session, sequence } => {
                if let Some(mark) = self.attempts.mark(*session, *sequence) {
                    for ticket in &mark.tickets {
                        self.paths.set_stage(*ticket, stage);
                    }
                }
            }
        }
    }

    pub(super) fn applied(&mut self, env: &mut Env, now: Duration, index: LogIndex) {
        let Some(batch) = self.pipeline.applied(index) else {
            return;
        };
        self.gates.batch_applied(batch);
        self.end_stall(now);
        self.release(env);
        self.assign_opening();
        self.offer(env, now);
        self.resume_backlog(env, now);
        self.announce_pause(env);
    }

    fn end_stall(&mut self, now: Duration) {
        if let Some(stall) = &self.stall
            && stall.until <= now
            && stall.batch <= self.gates.batch_done()
        {
            self.stall = None;
            // The refused batches will never be applied; whoever waited for one of them was answered. The sessions that
            // they would have ended live on; those that applied ones ended are gone from the state.
            self.gates.batch_applied(self.pipeline.open_number() - 1);
            self.attempts.expired.clear();
        }
    }

    /// Lets go what waits for nothing any more.
    pub(super) fn release(&mut self, env: &mut Env) {
        while let Some(release) = self.gates.next_ready() {
            match release {
                Release::Plain { ticket, outcome } => self.answer(env, ticket, false, outcome),
                Release::Opened { router } => {
                    let opened = env.state().session_of(router);
                    let outcome = match opened {
                        Some(session) => Outcome::Opened { session },
                        None => env.busy("sessions"), // expired in the log meanwhile
                    };
                    for ticket in self.openings.remove(&router).unwrap_or_default() {
                        self.answer(env, ticket, true, outcome.clone());
                    }
                }
                Release::Command {
                    session,
                    sequence,
                    logged,
                } => self.release_command(env, session, sequence, logged),
            }
        }
    }

    fn release_command(&mut self, env: &mut Env, session: SessionId, sequence: u64, logged: bool) {
        let Some(mark) = self.attempts.mark(session, sequence) else {
            return;
        };
        let outcome = match &mark.progress {
            Progress::Logged { outcome, .. } if logged => outcome.clone(),
            Progress::Computed(outcome) if !logged => outcome.clone(),
            _ => return,
        };
        let tickets = std::mem::take(&mut mark.tickets);
        let after_commit = std::mem::take(&mut mark.after_commit);
        if logged {
            self.attempts.remove(session, sequence); // done: the reply is stored with the session
        }
        for ticket in tickets {
            self.answer(env, ticket, logged, outcome.clone());
        }
        for work in after_commit {
            let _ = guard::call(work); // best effort, and nobody waits for it
        }
    }

    pub(super) fn read_ready(&mut self, env: &mut Env, read: u64) {
        self.gates.read_ready(read);
        self.release(env);
        self.announce_pause(env);
    }

    pub(super) fn pause(&mut self, env: &mut Env, now: Duration, deadline: Duration) {
        self.pause = Some(Pause {
            deadline,
            announced: false,
        });
        self.flush(env, now);
    }

    pub(super) fn resume(&mut self, env: &mut Env, now: Duration) {
        self.pause = None;
        self.resume_backlog(env, now);
    }

    fn announce_pause(&mut self, env: &mut Env) {
        let drained = self.runs.is_empty() && self.pipeline.is_empty() && self.gates.is_empty();
        if let Some(pause) = &mut self.pause
            && !pause.announced
            && drained
        {
            pause.announced = true;
            env.outputs.push_back(EvaluatorOutput::Paused);
        }
    }

    pub(super) fn poll(&mut self, env: &mut Env, now: Duration, cx: &mut task::Context<'_>) {
        if self
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
        while !self.running.is_empty() {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some((run, ended))) => {
                    let Some(Running { call, reserved }) = self.runs.remove(&run) else {
                        continue;
                    };
                    self.reserved_bytes -= reserved;
                    self.ended(env, now, call, ended);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        self.resume_backlog(env, now);
        self.release(env);
        self.announce_pause(env);
    }

    pub(super) fn tick(&mut self, env: &mut Env, now: Duration) {
        for reply in self.paths.sweep(now) {
            env.counters.late += 1;
            env.emit(Some(reply));
        }
        if self
            .pause
            .as_ref()
            .is_some_and(|pause| pause.deadline <= now)
        {
            self.take_back_running(env);
        }
        self.end_stall(now);
        self.resume_backlog(env, now);
        self.flush(env, now);
    }

    /// Whether there is more to offer than the batch whose index is not known yet.
    pub(super) fn awaits_index(&self) -> bool {
        self.pipeline
            .awaits_index(!self.openings_waiting.is_empty())
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        let pause = self
            .pause
            .as_ref()
            .filter(|_| !self.runs.is_empty())
            .map(|pause| pause.deadline);
        let stall = self
            .stall
            .as_ref()
            .filter(|stall| stall.batch <= self.gates.batch_done())
            .map(|stall| stall.until);
        [self.paths.sweep_at(), self.gates.retry_at(), pause, stall]
            .into_iter()
            .flatten()
            .min()
    }

    /// The leadership is over: answers everything that waits. What was handed to the group may still get into the log;
    /// nothing else can.
    pub(super) fn end(mut self, env: &mut Env) {
        let running = std::mem::take(&mut self.running);
        env.counters.interrupted += self.runs.len() as u64;
        let _ = guard::call(move || drop(running));
        let interrupted = Outcome::Interrupted { leader: env.leader };
        let mut uncertain = Vec::new();
        for live in self.attempts.sessions.values() {
            for mark in live.marks.values() {
                if let Progress::Logged { batch, .. } = mark.progress
                    && self.pipeline.handed_out(batch)
                {
                    uncertain.extend(&mark.tickets);
                }
            }
        }
        for ticket in uncertain {
            self.answer(env, ticket, false, interrupted.clone());
        }
        let not_leader = env.not_leader();
        for ticket in self.paths.tickets() {
            self.answer(env, ticket, false, not_leader.clone());
        }
        let _ = guard::call(move || drop(self)); // entities and `after_commit` work are the user's values
    }
}
