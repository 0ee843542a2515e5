//! What outlives every leadership: the shard, its replicated state, the kinds, the bounds, the outputs.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CheckedEvaluatorOptions, Counters, EvaluatorOutput, ReplyToken, ShardState};
use crate::entity::KindTable;
use crate::wire::{Outcome, Refusal, Reply, Request, ShardId};

/// Milliseconds after which a refused sender may try again; the jitter spreads those refused together.
const RETRY_MS: u64 = 10;
const RETRY_JITTER_MS: u64 = 16;

pub(super) struct Env {
    pub(super) shard: ShardId,
    pub(super) state: Arc<Mutex<ShardState>>,
    pub(super) kinds: Rc<KindTable>,
    pub(super) options: Arc<CheckedEvaluatorOptions>,
    pub(super) node: Rc<str>,
    pub(super) counters: Counters,
    pub(super) outputs: VecDeque<EvaluatorOutput>,
    pub(super) leader: Option<u64>,
    pub(super) jitter: u64,
}

impl Env {
    /// The replicated state. A panic of whoever held it cannot have left it half changed: `apply` checks before it
    /// changes.
    pub(super) fn state(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn emit(&mut self, reply: Option<(ReplyToken, Reply)>) {
        if let Some((to, reply)) = reply {
            self.outputs.push_back(EvaluatorOutput::Reply { to, reply });
        }
    }

    /// Answers a request that was never admitted.
    pub(super) fn turn_away(&mut self, request: &Request, to: ReplyToken, outcome: Outcome) {
        self.outputs.push_back(EvaluatorOutput::Reply {
            to,
            reply: Reply {
                id: request.id,
                attempt: request.attempt,
                logged: false,
                outcome,
            },
        });
    }

    pub(super) fn not_leader(&self) -> Outcome {
        Outcome::Refused(Refusal::NotLeader {
            leader: self.leader,
        })
    }

    pub(super) fn busy(&mut self, queue: &str) -> Outcome {
        self.counters.busy += 1;
        // One step of splitmix64: only spreads retries, nothing depends on its quality.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Outcome::Refused(Refusal::Busy {
            queue: queue.to_owned(),
            retry_after_ms: RETRY_MS + (mixed >> 32) % RETRY_JITTER_MS,
        })
    }
}
