//! What an answer means for its call.
//!
//! Here: the part of [`RouterCore`] that takes replies. Three rules carry the promise "at most once, and never a wrong
//! `Refused`":
//! - A refusal settles its attempt: that sending took no effect and never will (a sending reaches a store at most once).
//!   A command ends as refused only when all of its sendings are settled.
//! - An outcome without an entry of its own counts only while no later attempt may be evaluated (E31). An earlier one
//!   may still be on its way, too: that is why a shard must enter every outcome of an attempt above the first.
//! - A command whose session is unknown gets a new one only when all of its sendings are settled, else it ends as
//!   unknown: under a new session it would look new and run twice (E10).

use std::time::Duration;

use rand::Rng;

use super::calls::{CallKind, Place};
use super::{Answered, AskError, CallId, Failed, Refused, RouterCore};
use crate::wire::{Outcome, Refusal, Reply, SessionId};

impl RouterCore {
    /// A reply of `from` arrived. One that belongs to no call, or to an attempt never made, changes nothing.
    pub fn reply(&mut self, now: Duration, from: u64, reply: Reply) {
        self.peers.heard(now, from);
        let Some(slot) = self.calls.find(CallId(reply.id)) else {
            self.counters.late_replies += 1;
            return;
        };
        let newest = self.calls.at(slot).attempts.newest();
        if reply.attempt == 0 || reply.attempt > newest {
            return;
        }
        match reply.outcome {
            Outcome::Done { body, age_ms } => {
                let age = Duration::from_millis(age_ms);
                let shard = self.shard_of(slot);
                let answer = Ok(Answered { body, age, shard });
                self.concluded(now, slot, from, reply.attempt, reply.logged, answer);
            }
            Outcome::Failed(failure) => {
                let answer = Err(Failed(failure).into());
                self.concluded(now, slot, from, reply.attempt, reply.logged, answer);
            }
            Outcome::Opened { session } => self.opened(now, slot, from, session),
            Outcome::Refused(refusal) => self.refused(now, slot, from, reply.attempt, refusal),
            Outcome::Interrupted { leader } => {
                self.interrupted(now, slot, from, reply.attempt, leader);
            }
            Outcome::Unknown { reason } => self.doubted(now, slot, reply.attempt, &reason),
        }
    }

    fn concluded(
        &mut self,
        now: Duration,
        slot: u32,
        from: u64,
        attempt: u32,
        logged: bool,
        answer: Result<Answered, AskError>,
    ) {
        let call = self.calls.at(slot);
        let (kind, number) = (call.kind, call.lane);
        let newest = call.attempts.newest() == attempt;
        match kind {
            CallKind::Opening => return self.opening_failed(now, slot, attempt),
            CallKind::Command if !logged && !call.attempts.later_settled(attempt) => {
                call.attempts.settle(attempt); // evaluated, and it changed nothing
                self.counters.outdated_outcomes += 1;
                return;
            }
            CallKind::Command => self.lanes[number as usize].session.openings = 0,
            CallKind::Query | CallKind::Stale { .. } => {}
        }
        let first_sent_at = self.calls.at(slot).first_sent_at;
        self.finish(now, slot, answer);
        if !matches!(kind, CallKind::Stale { .. }) {
            let time = now.saturating_sub(first_sent_at);
            self.pace.sample(time, self.options.attempt_timeout);
            self.hear_leader(now, number, from, newest);
        }
    }

    /// An answer of a leader, but perhaps to an old attempt: then it does not overrule a newer belief.
    fn hear_leader(&mut self, now: Duration, number: u32, from: u64, newest: bool) {
        if newest || self.lanes[number as usize].leader.is_none() {
            self.confirm(now, number, from);
        }
    }

    fn opened(&mut self, now: Duration, slot: u32, from: u64, id: SessionId) {
        let call = self.calls.at(slot);
        if call.kind != CallKind::Opening {
            return;
        }
        let number = call.lane;
        let session = &mut self.lanes[number as usize].session;
        if session.id.is_some_and(|known| id < known) {
            // Sessions are numbered by the log. An older one's sequences were used: it must never serve again.
            return self.opening_failed(now, slot, 0);
        }
        if session.id != Some(id) {
            session.window = Default::default();
            session.id = Some(id);
        }
        session.open = true;
        self.counters.sessions += 1;
        self.finish_quietly(slot, Err(Refused::Closed.into()));
        self.confirm(now, number, from);
        self.admit(now, number);
    }

    fn opening_failed(&mut self, now: Duration, slot: u32, attempt: u32) {
        self.calls.at(slot).attempts.settle(attempt);
        self.pause(now, slot, self.options.backoff_max);
    }

    fn refused(&mut self, now: Duration, slot: u32, from: u64, attempt: u32, refusal: Refusal) {
        let call = self.calls.at(slot);
        let (kind, number, session) = (call.kind, call.lane, call.session);
        let stale = matches!(kind, CallKind::Stale { .. });
        let news = call.attempts.settle(attempt);
        let newest = call.attempts.newest() == attempt;
        let flying = matches!(call.place, Place::Flying { .. });
        if let Refusal::NotLeader { leader } = refusal
            && !stale
        {
            self.hint(now, number, from, leader);
        }
        if !news || !newest || !flying {
            return; // a later attempt is under way, or the call rests for a reason of its own
        }
        let leads = matches!(
            refusal,
            Refusal::Busy { .. } | Refusal::UnknownSession | Refusal::Superseded
        );
        if leads && !stale {
            self.hear_leader(now, number, from, newest);
        }
        match (refusal, kind) {
            (Refusal::NotLeader { .. }, _) => self.dispatch(now, slot),
            (
                Refusal::Busy {
                    queue,
                    retry_after_ms,
                },
                _,
            ) => self.come_back(now, slot, queue, Duration::from_millis(retry_after_ms)),
            (Refusal::TooStale { age_ms }, CallKind::Stale { .. }) => {
                let call = self.calls.at(slot);
                call.age = Some(call.age.map_or(age_ms, |age| age.min(age_ms)));
                self.dispatch(now, slot);
            }
            (Refusal::UnknownSession, CallKind::Command) => {
                let lane = &mut self.lanes[number as usize];
                if session == lane.session.id {
                    lane.session.open = false;
                }
                let reason =
                    "the shard no longer knows the session of an attempt that was not answered";
                self.begin_anew(now, slot, reason);
            }
            (Refusal::Superseded, CallKind::Command) => {
                let reason =
                    "the shard already let go of the reply to an attempt that was not answered";
                self.begin_anew(now, slot, reason);
            }
            // The store's clock ran ahead of ours by less than a message: nothing to gain, the end is near.
            (
                Refusal::DeadlinePassed,
                CallKind::Command | CallKind::Query | CallKind::Stale { .. },
            ) => {
                self.pause(now, slot, Duration::MAX / 2);
            }
            _ => self.pause(now, slot, self.options.backoff_max),
        }
    }

    /// The command cannot go on under its sequence: a new one if it was certainly not evaluated, else the end (E10).
    fn begin_anew(&mut self, now: Duration, slot: u32, reason: &str) {
        if self.calls.at(slot).attempts.all_settled() {
            self.requeue(now, slot);
        } else {
            let error = self.unknown(slot, reason);
            self.finish(now, slot, Err(error));
        }
    }

    /// Overload: rests for as long as it was told, unless the deadline comes first anyway.
    fn come_back(&mut self, now: Duration, slot: u32, queue: String, retry_after: Duration) {
        let least = retry_after.max(self.options.backoff_min);
        let pause = least.mul_f64(self.chance.random_range(1.0..=1.5));
        let call = self.calls.at(slot);
        let in_vain = now + pause >= call.deadline;
        if in_vain && (call.kind != CallKind::Command || call.attempts.all_settled()) {
            let error = Refused::Busy { queue, retry_after };
            return self.finish(now, slot, Err(error.into()));
        }
        call.busy = Some((queue, retry_after));
        self.pause(now, slot, pause);
    }

    /// The leadership of `from` ended with the command on its way into the log: the session knows, at whoever leads next.
    fn interrupted(
        &mut self,
        now: Duration,
        slot: u32,
        from: u64,
        attempt: u32,
        leader: Option<u64>,
    ) {
        let call = self.calls.at(slot);
        let (kind, number) = (call.kind, call.lane);
        let newest = call.attempts.newest() == attempt;
        let flying = matches!(call.place, Place::Flying { .. });
        if !matches!(kind, CallKind::Stale { .. }) {
            self.hint(now, number, from, leader);
        }
        if newest && flying {
            self.dispatch(now, slot);
        }
    }

    /// Nobody will ever know. An answer to a later attempt may still say more.
    fn doubted(&mut self, now: Duration, slot: u32, attempt: u32, reason: &str) {
        let call = self.calls.at(slot);
        if call.attempts.newest() != attempt {
            return;
        }
        match call.kind {
            CallKind::Command => {
                let error = self.unknown(slot, reason);
                self.finish(now, slot, Err(error));
            }
            _ => self.pause(now, slot, self.options.backoff_max),
        }
    }
}
