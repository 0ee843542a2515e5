//! The evaluator of one shard: what goes in.
//!
//! Here: [`Evaluator`], its inputs and the queue of its outputs. It lives on an entity arbiter of a node that holds a
//! replica of the shard, and has something to do while that replica leads. Inputs never block and never run anything twice.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task;
use std::time::Duration;

use synod_consensus::{LogIndex, Term};

use super::env::Env;
use super::leadership::Leadership;
use super::log_clock::LogClock;
use super::{CheckedEvaluatorOptions, Counters, EvaluatorOutput, ReplyToken, ShardState};
use crate::entity::KindTable;
use crate::wire::{Request, ShardId};

/// Evaluates the commands and queries of one shard while its node leads it.
///
/// After each burst of inputs call [`flush`](Self::flush), then drain [`poll_output`](Self::poll_output). Call
/// [`poll`](Self::poll) once after the evaluator was made and then whenever its waker fires.
pub struct Evaluator {
    env: Env,
    /// Dropped whole when it ends.
    leadership: Option<Box<Leadership>>,
    /// Whoever polled last, for the next leadership.
    waker: Option<task::Waker>,
}

impl Evaluator {
    /// An evaluator without leadership. `seed` feeds the jitter of retry hints.
    pub fn new(
        shard: ShardId,
        state: Arc<Mutex<ShardState>>,
        kinds: Rc<KindTable>,
        options: impl Into<Arc<CheckedEvaluatorOptions>>,
        seed: u64,
    ) -> Self {
        let options = options.into();
        let node = Rc::from(options.node.as_str());
        Self {
            env: Env {
                shard,
                state,
                kinds,
                options,
                node,
                counters: Counters::default(),
                outputs: VecDeque::new(),
                leader: None,
                jitter: seed,
            },
            leadership: None,
            waker: None,
        }
    }

    /// The group's own no-op of `term` is committed and applied: evaluation may begin. `serial` names this leadership
    /// and is never used again by this evaluator.
    pub fn begin(&mut self, now: Duration, serial: u64, term: Term) {
        let _ = term; // the serial is unique where a term is not: one term may begin twice after a snapshot
        let base_ms = self.env.state().clock_ms();
        let clock = LogClock::start(now, base_ms, self.env.options.session_idle);
        self.begin_again(now, serial, clock);
    }

    /// The same leadership goes on that another evaluator [gave up](Self::idle) when nothing was open; its serial is another one.
    pub fn begin_again(&mut self, now: Duration, serial: u64, clock: LogClock) {
        self.end(now, None);
        let mut leadership = Leadership::new(&self.env, serial, clock);
        leadership.waker = self.waker.clone();
        self.leadership = Some(Box::new(leadership));
    }

    /// Leadership lost, snapshot installed, replica removed: drops everything speculative and answers everything held.
    /// `leader` is the store that leads now, when known.
    pub fn end(&mut self, now: Duration, leader: Option<u64>) {
        let _ = now;
        self.env.leader = leader;
        if let Some(leadership) = self.leadership.take() {
            leadership.end(&mut self.env);
        }
    }

    /// The store that leads now, for requests that come here in vain.
    pub fn leader(&mut self, leader: Option<u64>) {
        self.env.leader = leader;
    }

    /// A request arrived. `reply` comes back with its one reply.
    pub fn request(&mut self, now: Duration, request: Request, reply: ReplyToken) {
        match &mut self.leadership {
            Some(leadership) => leadership.request(&mut self.env, now, request, reply),
            None => {
                let outcome = self.env.not_leader();
                self.env.turn_away(&request, reply, outcome);
            }
        }
    }

    /// The group took the batch as entry `Ok(index)`, or refused it: then nothing of it is in the log.
    pub fn proposed(
        &mut self,
        now: Duration,
        serial: u64,
        batch: u64,
        result: Result<LogIndex, ()>,
    ) {
        if let Some(leadership) = self.led(serial) {
            match result {
                Ok(index) => leadership.0.taken(leadership.1, now, batch, index),
                Err(()) => leadership.0.refused(leadership.1, now, batch),
            }
        }
    }

    fn led(&mut self, serial: u64) -> Option<(&mut Leadership, &mut Env)> {
        let leadership = self.leadership.as_deref_mut()?;
        (leadership.serial == serial).then_some((leadership, &mut self.env))
    }

    /// Everything up to `index` is in the shard's state. When the leadership was lost, [`end`](Self::end) comes before the
    /// first call that covers an entry of another leader: a batch counts as committed when its index is applied (H31).
    pub fn applied(&mut self, now: Duration, index: LogIndex) {
        if let Some(leadership) = &mut self.leadership {
            leadership.applied(&mut self.env, now, index);
        }
    }

    /// The round has shown that this leadership still holds (and its index is applied).
    pub fn read_ready(&mut self, now: Duration, serial: u64, read: u64) {
        let _ = now;
        if let Some((leadership, env)) = self.led(serial) {
            leadership.read_ready(env, read);
        }
    }

    /// The round came to nothing; it is begun again later unless the leadership ends.
    pub fn read_failed(&mut self, now: Duration, serial: u64, read: u64) {
        let _ = read; // every waiter is as well served by any later round
        if let Some((leadership, _)) = self.led(serial) {
            leadership.gates.read_failed(now);
        }
    }

    /// Evaluates nothing more until [`resume`](Self::resume) and lets end what runs, until `deadline`; then drops it, to
    /// be evaluated again. [`EvaluatorOutput::Paused`] says that nothing is in flight any more.
    pub fn pause(&mut self, now: Duration, deadline: Duration) {
        if let Some(leadership) = &mut self.leadership {
            leadership.pause(&mut self.env, now, deadline);
        }
    }

    /// The group rests: idle entities leave memory, until they are asked for again.
    pub fn rest(&mut self) {
        if let Some(leadership) = &mut self.leadership {
            leadership.rest();
        }
    }

    /// The clock with which another evaluator may go on for this leadership: nobody waits, nothing runs, and all that was computed is
    /// in the shard's state. `None`: something is open, or there is no leadership.
    pub fn idle(&self) -> Option<LogClock> {
        let nothing_to_say = self.env.outputs.is_empty();
        let leadership = self.leadership.as_ref().filter(|_| nothing_to_say);
        leadership?.idle()
    }

    /// Entities in memory, and their bytes.
    #[cfg(test)]
    pub(super) fn instances(&self) -> (usize, usize) {
        let leadership = self.leadership.as_deref();
        leadership.map_or((0, 0), |leadership| leadership.slots.kept())
    }

    /// Ends a pause.
    pub fn resume(&mut self, now: Duration) {
        if let Some(leadership) = &mut self.leadership {
            leadership.resume(&mut self.env, now);
        }
    }

    /// Moves the handlers that await something. Wakes `cx` when there is more to move.
    pub fn poll(&mut self, now: Duration, cx: &mut task::Context<'_>) {
        if self
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
        if let Some(leadership) = &mut self.leadership {
            leadership.poll(&mut self.env, now, cx);
        }
    }

    /// The waiting messages are drained: proposes what the batch holds and begins a read round for whom needs one.
    pub fn flush(&mut self, now: Duration) {
        if let Some(leadership) = &mut self.leadership {
            leadership.flush(&mut self.env, now);
        }
    }

    /// True while something waits to be offered until [`proposed`](Self::proposed) says what became of the batch before.
    pub fn awaits_index(&self) -> bool {
        self.leadership
            .as_deref()
            .is_some_and(Leadership::awaits_index)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        self.leadership.as_ref()?.wake_at()
    }

    /// Time has come: deadlines, the end of a pause, read rounds to repeat.
    pub fn tick(&mut self, now: Duration) {
        if let Some(leadership) = &mut self.leadership {
            leadership.tick(&mut self.env, now);
        }
    }

    /// The next thing to do. Poll until `None` after every input.
    pub fn poll_output(&mut self) -> Option<EvaluatorOutput> {
        self.env.outputs.pop_front()
    }

    /// What it has done since it was made.
    pub fn counters(&self) -> Counters {
        self.env.counters
    }

    /// The shard that it evaluates.
    pub fn shard(&self) -> ShardId {
        self.env.shard
    }

    /// The replicated state that it reads.
    pub fn state(&self) -> &Arc<Mutex<ShardState>> {
        &self.env.state
    }
}
