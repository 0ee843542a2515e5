//! How calls end, each exactly once.
//!
//! Here: the part of [`RouterCore`] that ends calls: with an answer, at the deadline, with the router. What may be said
//! without an answer depends on one thing: whether any sending of a command may still be evaluated.

use std::time::Duration;

use super::calls::{CallKind, NONE, Place};
use super::core::RouterOutput;
use super::{Answered, AskError, CallId, Refused, RouterCore, TimedOut, Unknown};

impl RouterCore {
    /// Ends every call, refused if it was not evaluated, else unknown, and refuses all that come.
    pub fn close(&mut self) {
        self.closed = true;
        for slot in self.calls.live() {
            if self.calls.find(self.calls.id(slot)).is_none() {
                continue; // an opening that ended with its last command
            }
            let call = self.calls.at(slot);
            let (kind, settled) = (call.kind, call.attempts.all_settled());
            let error = match kind {
                CallKind::Command if !settled => {
                    self.unknown(slot, "this router was closed before the answer came")
                }
                _ => Refused::Closed.into(),
            };
            self.finish_quietly(slot, Err(error));
        }
    }

    /// Ends a call with its answer, and lets the next one of its shard go.
    pub(super) fn finish(&mut self, now: Duration, slot: u32, result: Result<Answered, AskError>) {
        let lane = self.calls.at(slot).lane;
        self.finish_quietly(slot, result);
        if lane != NONE {
            self.admit(now, lane);
        }
    }

    /// Ends a call without a look at who waits behind it.
    pub(super) fn finish_quietly(&mut self, slot: u32, result: Result<Answered, AskError>) {
        self.leave(slot);
        self.call_timers.remove(slot);
        let id = self.calls.id(slot);
        let call = self.calls.remove(slot);
        self.bytes -= call.body.len();
        if call.lane != NONE {
            let lane = &mut self.lanes[call.lane as usize];
            match call.kind {
                CallKind::Command => {
                    if call.session.is_some() && call.session == lane.session.id {
                        lane.session.window.finish(call.sequence);
                    }
                }
                CallKind::Query | CallKind::Stale { .. } => lane.queries -= 1,
                CallKind::Opening => {
                    lane.session.opening = None;
                    return;
                }
            }
        }
        self.end(id, result);
    }

    pub(super) fn end(&mut self, call: CallId, result: Result<Answered, AskError>) {
        match &result {
            Ok(_) => {}
            Err(AskError::Refused(_)) => self.counters.refused += 1,
            Err(AskError::Failed(_)) => self.counters.failed += 1,
            Err(AskError::Unknown(_)) => self.counters.unknown += 1,
            Err(AskError::TimedOut(_)) => self.counters.timed_out += 1,
        }
        self.outputs.push_back(RouterOutput::Done { call, result });
    }

    pub(super) fn unknown(&mut self, slot: u32, reason: &str) -> AskError {
        Unknown {
            shard: self.shard_of(slot),
            reason: reason.to_owned(),
        }
        .into()
    }

    /// The deadline passed: what that means depends on what may have been evaluated.
    pub(super) fn give_up(&mut self, now: Duration, slot: u32) {
        let call = self.calls.at(slot);
        let waited_for = match call.place {
            Place::Homeless => "no node could say where the shard lives",
            Place::Waiting => "the shard's session or earlier commands were not answered",
            Place::Parked => "the shard had no known leader",
            Place::Flying { .. } => "the shard's leader did not answer",
            Place::Paused if call.busy.is_some() => "the shard was overloaded",
            Place::Paused => "the shard had no time left for it",
        };
        let error = match call.kind {
            CallKind::Command if !call.attempts.all_settled() => {
                self.unknown(slot, "the deadline passed before an answer came")
            }
            CallKind::Command => match call.busy.take() {
                Some((queue, retry_after)) => Refused::Busy { queue, retry_after }.into(),
                None => Refused::DeadlinePassed { waited_for }.into(),
            },
            CallKind::Query | CallKind::Stale { .. } | CallKind::Opening => {
                TimedOut { waited_for }.into()
            }
        };
        self.finish(now, slot, Err(error));
    }
}
