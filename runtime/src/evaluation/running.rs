//! Running a handler, and what its end means for the entity, the batch and the reply.
//!
//! Here: the evaluation half of [`Leadership`]. A handler that ends in its first poll is judged at once; one that awaits
//! joins the others in one `FuturesUnordered` and its entity's further requests queue. A command that panicked, returned
//! `Err` or broke a limit leaves its entity at its newest earlier image (E2).
//! Not here: whether it may run (`leadership`), catching panics (`guard`).

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::attempts::Progress;
use super::batch::Stored;
use super::env::Env;
use super::gates::NO_READ;
use super::guard::{self, Ended, Guarded};
use super::leadership::{Call, Leadership, Origin, Release};
use super::paths::Stage;
use super::pipeline::{Addition, Touched};
use super::slots::{EntityAt, Slot};
use super::state::size_of_outcome;
use crate::entity::{AfterCommit, Finished, Scope, Started, State};
use crate::wire::{Failure, Outcome, Refusal, SessionId};

/// A call whose handler awaits something.
pub(super) struct Running {
    pub(super) call: Call,
    /// Bytes of the log's budget that are kept free for it.
    pub(super) reserved: usize,
}

/// A handler that awaits something, with its number.
pub(super) struct Handling {
    run: u64,
    guarded: Guarded,
}

impl Future for Handling {
    type Output = (u64, Ended);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<(u64, Ended)> {
        let run = self.run;
        Pin::new(&mut self.guarded)
            .poll(cx)
            .map(|ended| (run, ended))
    }
}

/// Why an entity has no instance.
enum Inactive {
    /// Its image is none.
    Unsound(Failure),
    /// Its image could not be read here: this replica is about to stop, and another one has it.
    Unread,
}

/// What a command did to its entity.
enum Change {
    /// Nothing; the instance is as it was.
    None(State),
    /// Void: the instance is gone, the newest image stands.
    RolledBack,
    /// A new state, encoded.
    Image(State, Bytes),
    Deleted,
}

impl Leadership {
    /// Runs the call, or queues it behind the handler that has its entity.
    pub(super) fn start(&mut self, env: &mut Env, now: Duration, call: Call) {
        if let Some(slot) = self.slots.get_mut(call.kind, &call.key)
            && slot.running
        {
            if slot.queue.len() >= env.options.entity_waiting_max {
                let outcome = env.busy("entity");
                self.refuse(env, &call, &outcome);
                return;
            }
            self.waiting += 1;
            self.waiting_bytes += call.body.len();
            slot.queue.push_back(call);
            return;
        }
        self.evaluate(env, now, call);
    }

    /// What an awaiting command is expected to add to the log: its state as it is now, and a reply.
    fn reservation(&self, call: &Call) -> usize {
        const REPLY_BYTES: usize = 4 << 10;
        match call.origin {
            Origin::Query { .. } => 0,
            Origin::Command { .. } => {
                let state = self.slots.get(call.kind, &call.key);
                REPLY_BYTES + state.map_or(0, |slot| slot.base.len())
            }
        }
    }

    fn refuse(&mut self, env: &mut Env, call: &Call, outcome: &Outcome) {
        match call.origin {
            Origin::Query { ticket, .. } => self.answer(env, ticket, false, outcome.clone()),
            Origin::Command { session, sequence } => {
                self.refuse_command(env, session, sequence, outcome);
            }
        }
    }

    fn evaluate(&mut self, env: &mut Env, now: Duration, call: Call) {
        let deadline = match &call.origin {
            Origin::Query { deadline, .. } => Some(*deadline),
            Origin::Command { session, sequence } => self
                .attempts
                .mark(*session, *sequence)
                .map(|mark| mark.deadline),
        };
        let Some(deadline) = deadline.filter(|deadline| *deadline > now) else {
            env.counters.late += 1;
            self.refuse(env, &call, &Outcome::Refused(Refusal::DeadlinePassed));
            return;
        };
        self.set_stage(&call, Stage::Begun);
        let at = call.at();
        let state = match self.activate(env, &at) {
            Ok(state) => state,
            Err(Inactive::Unsound(failure)) => {
                self.conclude(env, now, &call, Err(failure));
                return;
            }
            Err(Inactive::Unread) => {
                let outcome = Outcome::Refused(Refusal::NotLeader { leader: None });
                self.refuse(env, &call, &outcome);
                return;
            }
        };
        let scope = Scope {
            key: call.key.clone(),
            node: env.node.clone(),
            deadline: deadline - now,
        };
        let kinds = env.kinds.clone();
        let row = kinds.at(call.kind).row(call.row);
        let mut guarded = match guard::call(|| (row.start)(state, &call.body, scope)) {
            Ok(Started::Running(run)) => Guarded::new(run),
            Ok(Started::BadBody { state, detail }) => {
                self.put_back(&at, state);
                let failure = Failure::BadBody {
                    message: row.name.to_owned(),
                    detail,
                };
                self.conclude(env, now, &call, Err(failure));
                return;
            }
            Err(text) => {
                self.ended(env, now, call, Ended::Panicked(text));
                return;
            }
        };
        // Whoever is still pending after this poll is polled again with the real waker.
        let mut first = task::Context::from_waker(Waker::noop());
        match Pin::new(&mut guarded).poll(&mut first) {
            Poll::Ready(ended) => self.judge(env, now, &call, ended),
            Poll::Pending => {
                env.counters.awaited += 1;
                self.slots.busy(&at);
                if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
                    slot.running = true;
                }
                self.next_run += 1;
                let run = self.next_run;
                let reserved = self.reservation(&call);
                self.reserved_bytes += reserved;
                self.runs.insert(run, Running { call, reserved });
                self.running.push(Handling { run, guarded });
                if let Some(waker) = &self.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// The entity's instance, decoded from its newest image unless it is at hand.
    fn activate(&mut self, env: &mut Env, at: &EntityAt) -> Result<State, Inactive> {
        let kinds = env.kinds.clone();
        let kind = kinds.at(at.kind);
        if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
            if let Some(state) = slot.state.take() {
                return Ok(state);
            }
            env.counters.activations += 1;
            let decoded = if slot.exists {
                guard::call(|| kind.decode(&slot.base))
            } else {
                guard::call(|| Ok(kind.initial(&at.key)))
            };
            return self.sound(env, at, decoded);
        }
        env.counters.activations += 1;
        let image = env.state().image(kind.name, &at.key);
        let image = image.map_err(|_| Inactive::Unread)?;
        let (state, base, exists, version) = match image {
            Some(image) => {
                let decoded = guard::call(|| kind.decode(&image.bytes));
                let state = self.sound(env, at, decoded)?;
                (state, image.bytes, true, image.version)
            }
            None => {
                let made = guard::call(|| {
                    let state = kind.initial(&at.key);
                    let base = kind.encode(&state, 0)?;
                    Ok((state, base))
                });
                let (state, base) = self.sound(env, at, made)?;
                (state, base, false, LogIndex::ZERO)
            }
        };
        self.slots.insert(at, Slot::new(base, exists, version));
        Ok(state)
    }

    /// An entity whose state cannot be read is set aside: its requests fail, others go on, its image stays.
    fn sound<T>(
        &self,
        env: &mut Env,
        at: &EntityAt,
        read: Result<Result<T, String>, String>,
    ) -> Result<T, Inactive> {
        read.and_then(|decoded| decoded).map_err(|detail| {
            env.counters.quarantined += 1;
            Inactive::Unsound(Failure::Quarantined {
                kind: env.kinds.at(at.kind).name.to_owned(),
                key: at.key.to_string(),
                detail,
            })
        })
    }

    fn put_back(&mut self, at: &EntityAt, state: State) {
        if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
            slot.state = Some(state);
        }
        self.slots.touch(at);
    }

    /// An awaiting handler has ended: judges it and lets the entity's queue go on.
    pub(super) fn ended(&mut self, env: &mut Env, now: Duration, call: Call, ended: Ended) {
        let at = call.at();
        if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
            slot.running = false;
        }
        self.judge(env, now, &call, ended);
        loop {
            let blocked = self.blocked(env);
            let Some(slot) = self.slots.get_mut(at.kind, &at.key) else {
                return;
            };
            if slot.running {
                return;
            }
            if blocked {
                let waiting = std::mem::take(&mut slot.queue);
                self.backlog.extend(waiting);
                return;
            }
            let Some(next) = slot.queue.pop_front() else {
                return;
            };
            self.no_longer_waiting(&next);
            self.evaluate(env, now, next);
        }
    }

    fn judge(&mut self, env: &mut Env, now: Duration, call: &Call, ended: Ended) {
        let command = matches!(call.origin, Origin::Command { .. });
        if command {
            env.counters.commands += 1;
        } else {
            env.counters.queries += 1;
        }
        let finished = match ended {
            Ended::Finished(finished) => finished,
            Ended::Panicked(text) => {
                env.counters.panicked += 1;
                self.pipeline.note_failure();
                self.roll_back(env, call);
                self.conclude(env, now, call, Err(Failure::Panicked { text }));
                return;
            }
        };
        let Finished {
            state,
            body,
            failed,
            deleted,
            after_commit,
        } = finished;
        let body = body
            .map_err(|detail| Failure::Panicked {
                text: format!("the result does not encode: {detail}"),
            })
            .and_then(|body| {
                within("reply", body.len(), env.options.reply_max)?;
                Ok(body)
            });
        if !command {
            self.put_back(&call.at(), state);
            self.conclude(env, now, call, body);
            return;
        }
        if failed {
            env.counters.failed += 1;
            self.pipeline.note_failure();
        }
        let change = match &body {
            Err(_) => Ok(Change::RolledBack),
            Ok(_) if failed => Ok(Change::RolledBack),
            Ok(_) if deleted => Ok(Change::Deleted),
            Ok(_) => self.compare(env, call, state),
        };
        match (body, change) {
            (Ok(body), Ok(change)) => {
                let outcome = Outcome::Done { body, age_ms: 0 };
                self.settle(env, now, call, outcome, change, after_commit);
            }
            (Err(failure), _) | (_, Err(failure)) => {
                self.roll_back(env, call);
                self.conclude(env, now, call, Err(failure));
            }
        }
    }

    /// Encodes the state after a command and compares it with the newest image.
    fn compare(&mut self, env: &Env, call: &Call, state: State) -> Result<Change, Failure> {
        let kind = env.kinds.at(call.kind);
        let base = self.slots.get(call.kind, &call.key);
        let expected = base.map_or(0, |slot| slot.base.len());
        let image = guard::call(|| kind.encode(&state, expected))
            .and_then(|encoded| encoded)
            .map_err(|detail| Failure::Panicked {
                text: format!("the state does not encode: {detail}"),
            })?;
        within("state", image.len(), env.options.state_max)?;
        let same = self
            .slots
            .get(call.kind, &call.key)
            .is_some_and(|slot| slot.base == image);
        if same {
            Ok(Change::None(state))
        } else {
            Ok(Change::Image(state, image))
        }
    }

    /// The instance is void; the next request decodes the newest earlier image: pending, else proposed, else applied.
    fn roll_back(&mut self, env: &Env, call: &Call) {
        let at = call.at();
        if env.options.sabotage.rollback_to_applied {
            // Negative control: whatever is in flight is forgotten.
            if let Some(slot) = self.slots.remove(&at) {
                self.backlog.extend(slot.queue);
            }
            return;
        }
        if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
            slot.state = None;
        }
        self.slots.touch(&at);
    }

    /// Takes over what a command that ended well did, and holds its reply.
    fn settle(
        &mut self,
        env: &mut Env,
        now: Duration,
        call: &Call,
        outcome: Outcome,
        change: Change,
        after_commit: Vec<AfterCommit>,
    ) {
        let Origin::Command { session, sequence } = call.origin else {
            return;
        };
        let at = call.at();
        let (image, state) = match change {
            Change::RolledBack => {
                self.roll_back(env, call);
                self.conclude_unchanged(
                    env,
                    now,
                    (session, sequence),
                    outcome,
                    call.read,
                    Vec::new(),
                );
                return;
            }
            Change::None(state) => {
                self.put_back(&at, state);
                env.counters.unchanged += 1;
                self.conclude_unchanged(
                    env,
                    now,
                    (session, sequence),
                    outcome,
                    call.read,
                    after_commit,
                );
                return;
            }
            Change::Image(state, image) => (Some(image), Some(state)),
            Change::Deleted => {
                let exists = self
                    .slots
                    .get(at.kind, &at.key)
                    .is_some_and(|slot| slot.exists);
                if !exists {
                    self.roll_back(env, call);
                    env.counters.unchanged += 1;
                    self.conclude_unchanged(
                        env,
                        now,
                        (session, sequence),
                        outcome,
                        call.read,
                        after_commit,
                    );
                    return;
                }
                (None, None)
            }
        };
        if let Err(busy) = self.reply_room(env, session, &outcome) {
            self.roll_back(env, call);
            self.refuse_command(env, session, sequence, &busy);
            return;
        }
        self.effect(
            env,
            &at,
            image,
            state,
            (session, sequence),
            outcome,
            after_commit,
        );
        self.offer(env, now);
    }

    /// Adds an effect and its reply to the open batch.
    #[expect(
        clippy::too_many_arguments,
        reason = "one effect: where, what, and whose reply"
    )]
    fn effect(
        &mut self,
        env: &mut Env,
        at: &EntityAt,
        image: Option<Bytes>,
        state: Option<State>,
        (session, sequence): (SessionId, u64),
        outcome: Outcome,
        after_commit: Vec<AfterCommit>,
    ) {
        let kind = env.kinds.at(at.kind);
        let base = match &image {
            Some(image) => image.clone(),
            // The initial state is what a deleted entity is compared with; if it cannot be made, everything differs.
            None => guard::call(|| kind.encode(&kind.initial(&at.key), 0))
                .and_then(|encoded| encoded)
                .unwrap_or_default(),
        };
        let live = self.attempts.live(session);
        let stored = Stored {
            session,
            sequence,
            lowest: live.lowest,
            outcome: outcome.clone(),
        };
        let pending = self
            .slots
            .get(at.kind, &at.key)
            .and_then(|slot| slot.pending);
        let exists = image.is_some();
        let touched = Touched {
            at: at.clone(),
            image,
        };
        let addition = Addition {
            touched,
            kind: kind.name,
            pending,
        };
        let (batch, place) = self.pipeline.add(Some(addition), stored);
        self.slots.set_base(at, base, exists);
        if let Some(slot) = self.slots.get_mut(at.kind, &at.key) {
            slot.pending = Some((batch, place));
            slot.newest_batch = batch;
            slot.state = state;
        }
        self.slots.touch(at);
        if let Some(mark) = self.attempts.mark(session, sequence) {
            mark.after_commit = after_commit;
        }
        self.attempts
            .live(session)
            .conclude(sequence, Progress::Logged { batch, outcome });
        self.gates.add(
            batch,
            NO_READ,
            Release::Command {
                session,
                sequence,
                logged: true,
            },
        );
    }

    /// Is there room for one more reply in the session?
    fn reply_room(
        &mut self,
        env: &mut Env,
        session: SessionId,
        outcome: &Outcome,
    ) -> Result<(), Outcome> {
        let stored = env
            .state()
            .session(session)
            .map_or(0, |stored| stored.bytes);
        let held = stored + self.attempts.live(session).bytes;
        if held > 0 && held + size_of_outcome(outcome) > env.options.session_bytes {
            return Err(env.busy("session replies"));
        }
        Ok(())
    }

    /// An evaluation has ended without an effect.
    fn conclude(
        &mut self,
        env: &mut Env,
        now: Duration,
        call: &Call,
        result: Result<Bytes, Failure>,
    ) {
        let outcome = match result {
            Ok(body) => Outcome::Done { body, age_ms: 0 },
            Err(failure) => Outcome::Failed(failure),
        };
        match call.origin {
            Origin::Query { ticket, .. } => {
                self.hold(env, call.read, Release::Plain { ticket, outcome });
            }
            Origin::Command { session, sequence } => self.conclude_unchanged(
                env,
                now,
                (session, sequence),
                outcome,
                call.read,
                Vec::new(),
            ),
        }
    }

    /// A command has ended without an effect. Its outcome writes no entry, unless an earlier attempt may still be on its
    /// way: that one must find this outcome wherever it arrives, or it would take effect after the caller was told that
    /// nothing happened (E31 from the other side).
    pub(super) fn conclude_unchanged(
        &mut self,
        env: &mut Env,
        now: Duration,
        (session, sequence): (SessionId, u64),
        outcome: Outcome,
        read: u64,
        after_commit: Vec<AfterCommit>,
    ) {
        if let Err(busy) = self.reply_room(env, session, &outcome) {
            self.refuse_command(env, session, sequence, &busy);
            return;
        }
        let Some(mark) = self.attempts.mark(session, sequence) else {
            return;
        };
        mark.after_commit = after_commit;
        if mark.attempt > 1 && !env.options.sabotage.unrecorded_retries {
            self.record((session, sequence), outcome);
            self.offer(env, now);
            return;
        }
        self.attempts
            .live(session)
            .conclude(sequence, Progress::Computed(outcome));
        let release = Release::Command {
            session,
            sequence,
            logged: false,
        };
        self.hold(env, read, release);
    }

    /// Holds a reply without an entry until all that it was computed from is applied, and the round is done.
    pub(super) fn hold(&mut self, env: &Env, read: u64, release: Release) {
        if env.options.sabotage.ungated {
            self.gates.add(0, NO_READ, release);
            return;
        }
        self.gates.add(self.pipeline.newest(), read, release);
    }
}

pub(super) fn within(what: &str, size: usize, limit: usize) -> Result<(), Failure> {
    if size > limit {
        return Err(Failure::TooLarge {
            what: what.to_owned(),
            size: size as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_still_within_itself() {
        // Section 5: a state of exactly 1 MiB is allowed.
        assert!(within("state", 1 << 20, 1 << 20).is_ok());
        assert!(matches!(
            within("state", (1 << 20) + 1, 1 << 20),
            Err(Failure::TooLarge {
                limit: 1_048_576,
                ..
            })
        ));
    }
}
