//! The evaluator of one shard: what goes in.
//!
//! Here: [`Evaluator`], its inputs and the queue of its outputs. It lives on an entity arbiter of a node that holds a
//! replica of the shard, and is idle unless that replica leads. Inputs never block and never run anything twice.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task;
use std::time::Duration;

use synod_consensus::{LogIndex, Term};

use super::{CheckedEvaluatorOptions, Counters, EvaluatorOutput, ReplyToken, ShardState};
use crate::entity::KindTable;
use crate::wire::{Outcome, Refusal, Reply, Request, ShardId};

/// Evaluates the commands and queries of one shard while its node leads it.
pub struct Evaluator {
    shard: ShardId,
    state: Arc<Mutex<ShardState>>,
    kinds: Rc<KindTable>,
    options: CheckedEvaluatorOptions,
    counters: Counters,
    outputs: VecDeque<EvaluatorOutput>,
    leader: Option<u64>,
}

impl Evaluator {
    /// An evaluator without leadership. `seed` feeds the jitter of retry hints.
    pub fn new(
        shard: ShardId,
        state: Arc<Mutex<ShardState>>,
        kinds: Rc<KindTable>,
        options: CheckedEvaluatorOptions,
        seed: u64,
    ) -> Self {
        let _ = seed;
        Self {
            shard,
            state,
            kinds,
            options,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            leader: None,
        }
    }

    /// The group's own no-op of `term` is committed and applied: evaluation may begin. `serial` names this leadership
    /// and is never used again by this evaluator.
    pub fn begin(&mut self, now: Duration, serial: u64, term: Term) {
        let _ = (now, serial, term);
    }

    /// Leadership lost, snapshot installed, replica removed: drops everything speculative and answers everything held.
    /// `leader` is the store that leads now, when known.
    pub fn end(&mut self, now: Duration, leader: Option<u64>) {
        let _ = now;
        self.leader = leader;
    }

    /// A request arrived. `reply` comes back with its one reply.
    pub fn request(&mut self, now: Duration, request: Request, reply: ReplyToken) {
        let _ = now;
        self.outputs.push_back(EvaluatorOutput::Reply {
            to: reply,
            reply: Reply {
                id: request.id,
                attempt: request.attempt,
                logged: false,
                outcome: Outcome::Refused(Refusal::NotLeader {
                    leader: self.leader,
                }),
            },
        });
    }

    /// The group took the batch as entry `Ok(index)`, or refused it: then nothing of it is in the log.
    pub fn proposed(
        &mut self,
        now: Duration,
        serial: u64,
        batch: u64,
        result: Result<LogIndex, ()>,
    ) {
        let _ = (now, serial, batch, result);
    }

    /// Everything up to `index` is in the shard's state.
    pub fn applied(&mut self, now: Duration, index: LogIndex) {
        let _ = (now, index);
    }

    /// The round has shown that this leadership still holds (and its index is applied).
    pub fn read_ready(&mut self, now: Duration, serial: u64, read: u64) {
        let _ = (now, serial, read);
    }

    /// The round came to nothing; it is begun again later unless the leadership ends.
    pub fn read_failed(&mut self, now: Duration, serial: u64, read: u64) {
        let _ = (now, serial, read);
    }

    /// Evaluates nothing more until [`resume`](Self::resume) and lets end what runs, until `deadline`.
    /// [`EvaluatorOutput::Paused`] says that nothing is in flight any more.
    pub fn pause(&mut self, now: Duration, deadline: Duration) {
        let _ = (now, deadline);
    }

    /// Ends a pause.
    pub fn resume(&mut self, now: Duration) {
        let _ = now;
    }

    /// Moves the handlers that await something. Wakes `cx` when there is more to move.
    pub fn poll(&mut self, now: Duration, cx: &mut task::Context<'_>) {
        let _ = (now, cx);
    }

    /// The waiting messages are drained: proposes what the batch holds and begins a read round for whom needs one.
    pub fn flush(&mut self, now: Duration) {
        let _ = now;
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// Time has come: deadlines, idle sessions, read rounds to repeat.
    pub fn tick(&mut self, now: Duration) {
        let _ = now;
    }

    /// The next thing to do. Poll until `None` after every input.
    pub fn poll_output(&mut self) -> Option<EvaluatorOutput> {
        self.outputs.pop_front()
    }

    /// What it has done since it was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The shard that it evaluates.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The replicated state that it reads.
    pub fn state(&self) -> &Arc<Mutex<ShardState>> {
        let _ = (&self.kinds, &self.options);
        &self.state
    }
}
