//! From a request to a call: what is answered at once, what joins an evaluation under way, what may wait or run.
//!
//! Here: the admission half of [`Leadership`]. A session is looked up only here, and only under a leadership whose
//! no-op is applied (E1). Not here: running handlers (`running`).

use std::rc::Rc;
use std::time::Duration;

use super::ReplyToken;
use super::attempts::{Mark, Progress};
use super::batch::Stored;
use super::env::Env;
use super::gates::NO_READ;
use super::leadership::{Call, Leadership, Origin, Release};
use super::paths::Stage;
use super::running::within;
use crate::entity::Role;
use crate::wire::{Failure, Intent, Outcome, Refusal, Request, SessionId};

/// Longest deadline that is believed, so that sums of times cannot overflow.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Numbers of one command, as its request states them.
#[derive(Clone, Copy)]
struct Numbers {
    session: SessionId,
    sequence: u64,
    lowest: u64,
}

impl Leadership {
    pub(super) fn request(
        &mut self,
        env: &mut Env,
        now: Duration,
        request: Request,
        reply: ReplyToken,
    ) {
        if self.paths.len() >= env.options.outstanding_max {
            let outcome = env.busy("requests");
            env.turn_away(&request, reply, outcome);
            return;
        }
        if request.shard != env.shard {
            env.turn_away(
                &request,
                reply,
                Outcome::Refused(Refusal::NotLeader { leader: None }),
            );
            return;
        }
        for (what, size, limit) in [
            ("message", request.body.len(), env.options.message_max),
            ("key", request.key.len(), env.options.key_max),
        ] {
            if let Err(failure) = within(what, size, limit) {
                env.turn_away(&request, reply, Outcome::Failed(failure));
                return;
            }
        }
        let deadline = now + Duration::from_millis(request.deadline_ms).min(DEADLINE_MAX);
        match request.intent {
            Intent::OpenSession { router } => self.open(env, &request, reply, deadline, router),
            Intent::Command {
                session,
                sequence,
                lowest,
            } => {
                let numbers = Numbers {
                    session,
                    sequence,
                    lowest,
                };
                self.command(env, now, request, reply, deadline, numbers);
            }
            Intent::Query | Intent::StaleQuery { .. } => {
                self.query(env, now, request, reply, deadline);
            }
        }
    }

    fn open(
        &mut self,
        env: &mut Env,
        request: &Request,
        reply: ReplyToken,
        deadline: Duration,
        router: u128,
    ) {
        let known = env.state().session_of(router);
        if let Some(session) = known
            && !self.attempts.expired.contains(&session)
        {
            let ticket = self
                .paths
                .add(reply, request.id, request.attempt, deadline, false);
            self.answer(env, ticket, true, Outcome::Opened { session });
            return;
        }
        let open = env.state().sessions() + self.openings.len();
        if !self.openings.contains_key(&router) && open >= env.options.sessions_max {
            let outcome = env.busy("sessions");
            env.turn_away(request, reply, outcome);
            return;
        }
        let ticket = self
            .paths
            .add(reply, request.id, request.attempt, deadline, false);
        let tickets = self.openings.entry(router).or_default();
        if tickets.is_empty() {
            self.openings_waiting.push_back(router);
        } else {
            env.counters.attached += 1;
        }
        tickets.push(ticket);
    }

    fn query(
        &mut self,
        env: &mut Env,
        now: Duration,
        request: Request,
        reply: ReplyToken,
        deadline: Duration,
    ) {
        let (kind, row) = match find(env, &request, Role::Query) {
            Ok(found) => found,
            Err(failure) => {
                env.turn_away(&request, reply, Outcome::Failed(failure));
                return;
            }
        };
        if let Err(outcome) = self.room(env, &request) {
            env.turn_away(&request, reply, outcome);
            return;
        }
        let ticket = self
            .paths
            .add(reply, request.id, request.attempt, deadline, false);
        let call = Call {
            kind,
            row,
            key: self.key(kind, &request.key),
            body: request.body,
            origin: Origin::Query { ticket, deadline },
            read: self.gates.next_read(),
        };
        self.admit(env, now, call);
    }

    fn command(
        &mut self,
        env: &mut Env,
        now: Duration,
        request: Request,
        reply: ReplyToken,
        deadline: Duration,
        mut numbers: Numbers,
    ) {
        if env.options.sabotage.sessions_off {
            numbers = self.forget(numbers);
        }
        let Numbers {
            session,
            sequence,
            lowest,
        } = numbers;
        if self.attempts.mark(session, sequence).is_some() {
            self.attach(env, &request, reply, deadline, numbers);
            return;
        }
        if let Some((outcome, logged)) = self.known(env, numbers) {
            // A stored reply is applied, hence committed; a refusal tells nothing of the state, and whoever is refused by
            // a leader of the past loses nothing. Both may go at once.
            let ticket = self
                .paths
                .add(reply, request.id, request.attempt, deadline, true);
            self.answer(env, ticket, logged, outcome);
            return;
        }
        let refused = self.room(env, &request).err().or_else(|| {
            let stored = env
                .state()
                .session(session)
                .map_or((1, 0), |stored| (stored.lowest, stored.bytes));
            let live = self.attempts.live(session);
            live.raise(lowest);
            let end = live.lowest.max(stored.0) + env.options.session_window;
            if sequence >= end && !env.options.sabotage.sessions_off {
                Some(env.busy("session window"))
            } else if stored.1 + live.bytes >= env.options.session_bytes {
                Some(env.busy("session replies"))
            } else {
                let full = env.state().full();
                full.map(|queue| env.busy(queue))
            }
        });
        if let Some(outcome) = refused {
            env.turn_away(&request, reply, outcome);
            return;
        }
        let ticket = self
            .paths
            .add(reply, request.id, request.attempt, deadline, true);
        self.attempts.live(session).marks.insert(
            sequence,
            Mark {
                tickets: vec![ticket],
                attempt: request.attempt,
                deadline,
                progress: Progress::Held,
                after_commit: Vec::new(),
            },
        );
        let read = self.gates.next_read();
        match find(env, &request, Role::Command) {
            Ok((kind, row)) => {
                let call = Call {
                    kind,
                    row,
                    key: self.key(kind, &request.key),
                    body: request.body,
                    origin: Origin::Command { session, sequence },
                    read,
                };
                self.admit(env, now, call);
            }
            Err(failure) => {
                self.conclude_unchanged(
                    env,
                    now,
                    (session, sequence),
                    Outcome::Failed(failure),
                    read,
                    Vec::new(),
                );
            }
        }
    }

    /// The answer to a command that is not under way here, if its session's state already is one. `true`: from the log.
    fn known(&self, env: &mut Env, numbers: Numbers) -> Option<(Outcome, bool)> {
        let state = env.state();
        let stored = state
            .session(numbers.session)
            .filter(|_| !self.attempts.expired.contains(&numbers.session));
        let Some(stored) = stored else {
            // Never evaluated (E10). Whether an earlier attempt was, before the session went, only the router can know: it
            // begins anew when every other attempt was refused, too, and else ends the call as unknown.
            return Some((Outcome::Refused(Refusal::UnknownSession), false));
        };
        if env.options.sabotage.sessions_off {
            return None;
        }
        if let Some(outcome) = stored.replies.get(&numbers.sequence) {
            let outcome = outcome.clone();
            drop(state);
            env.counters.repeated += 1;
            return Some((outcome, true));
        }
        let lowest = self
            .attempts
            .sessions
            .get(&numbers.session)
            .map_or(0, |live| live.lowest)
            .max(stored.lowest)
            .max(numbers.lowest);
        if numbers.sequence < lowest {
            return Some((Outcome::Refused(Refusal::Superseded), false));
        }
        None
    }

    /// Joins another attempt to the evaluation under way (E5).
    fn attach(
        &mut self,
        env: &mut Env,
        request: &Request,
        reply: ReplyToken,
        deadline: Duration,
        numbers: Numbers,
    ) {
        env.counters.attached += 1;
        let ticket = self
            .paths
            .add(reply, request.id, request.attempt, deadline, true);
        let Some(mark) = self.attempts.mark(numbers.session, numbers.sequence) else {
            return;
        };
        if mark.begun() {
            self.paths.set_stage(ticket, Stage::Begun);
        }
        let displaced = mark.attach(ticket, request.attempt, deadline);
        let computed = match &mark.progress {
            Progress::Computed(outcome) => Some((outcome.clone(), mark.attempt)),
            _ => None,
        };
        if let Some(displaced) = displaced {
            let outcome = env.busy("attempts");
            self.answer(env, displaced, false, outcome);
        }
        match computed {
            // Older copies may be on their way to anywhere: from now on the outcome must be found there, too.
            Some((outcome, attempt)) if attempt > 1 && !env.options.sabotage.unrecorded_retries => {
                self.record((numbers.session, numbers.sequence), outcome);
            }
            // The same sending once more: it waits as its first copy did, or for a round of its own.
            Some(_) => {
                let read = self.gates.next_read();
                let release = Release::Command {
                    session: numbers.session,
                    sequence: numbers.sequence,
                    logged: false,
                };
                self.hold(env, read, release);
            }
            None => {}
        }
    }

    /// Puts an outcome without effect into the log, so that every later attempt finds it.
    pub(super) fn record(&mut self, (session, sequence): (SessionId, u64), outcome: Outcome) {
        let lowest = self.attempts.live(session).lowest;
        let (batch, _) = self.pipeline.add(
            None,
            Stored {
                session,
                sequence,
                lowest,
                outcome: outcome.clone(),
            },
        );
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

    /// Lets a call run, or wait for its turn.
    fn admit(&mut self, env: &mut Env, now: Duration, call: Call) {
        if !self.backlog.is_empty() || self.blocked(env) {
            self.now_waiting(&call);
            self.backlog.push_back(call);
        } else {
            self.start(env, now, call);
        }
    }

    fn room(&self, env: &mut Env, request: &Request) -> Result<(), Outcome> {
        if self.waiting >= env.options.waiting_max
            || self.waiting_bytes + request.body.len() > env.options.waiting_bytes
        {
            return Err(env.busy("waiting requests"));
        }
        Ok(())
    }

    fn key(&self, kind: usize, key: &str) -> Rc<str> {
        self.slots.key(kind, key).unwrap_or_else(|| Rc::from(key))
    }

    /// Negative control: every sending becomes a command of its own.
    fn forget(&self, numbers: Numbers) -> Numbers {
        Numbers {
            sequence: (self.paths.upcoming() << 24) + numbers.sequence,
            ..numbers
        }
    }
}

fn find(env: &Env, request: &Request, role: Role) -> Result<(usize, usize), Failure> {
    let Some((kind, found)) = env.kinds.find(&request.kind) else {
        return Err(Failure::UnknownKind {
            kind: request.kind.clone(),
        });
    };
    match found.message(&request.message) {
        Some((row, listed)) if listed.role == role => Ok((kind, row)),
        _ => Err(Failure::UnknownMessage {
            kind: request.kind.clone(),
            message: request.message.clone(),
        }),
    }
}
