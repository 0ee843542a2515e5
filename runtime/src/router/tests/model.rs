//! Many calls against a model of one shard, under loss, delay, duplication, reordering and changes of leader.
//!
//! Here: [`World`], a model of what the router may rely on: a log of effects, sessions with replies (RIFL), three stores
//! of which at most one leads, a network that does what it likes with one exception: no sending is evaluated twice (a
//! stream of QUIC never does that), so a second copy of one finds its evaluation in flight or its stored reply, or goes.
//! The model answers attempts above the first with an entry always: a retry's unlogged `Err` would leave its sequence
//! open to the first attempt, should that still be on its way.
//!
//! Checked: each command takes effect at most once; an answer says what happened; `Refused` and `Failed` never took
//! effect; a query sees everything acknowledged before it; every call ends by its deadline; after the faults stop, all
//! calls succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::router::RouterCounters;
use crate::wire::Failure;

/// How bad the weather is, per thousand.
#[derive(Clone, Copy, Debug)]
struct Weather {
    lost: u32,
    doubled: u32,
    late: u32,
    busy: u32,
    expire: u32,
    depose: u32,
    unsent: u32,
    cut: u32,
    erring: u32,
}

const FAIR: Weather = Weather {
    lost: 0,
    doubled: 0,
    late: 0,
    busy: 0,
    expire: 0,
    depose: 0,
    unsent: 0,
    cut: 0,
    erring: 0,
};

#[derive(Clone, Debug)]
enum Event {
    Request {
        to: u64,
        request: Request,
    },
    Reply {
        from: u64,
        reply: Reply,
    },
    /// The effect of a command in flight is committed, or its leader fell.
    Commit {
        evaluation: u64,
    },
    Elect {
        leader: u64,
    },
    Call,
}

/// A command that was evaluated and waits for its entry.
#[derive(Debug)]
struct Evaluation {
    term: u64,
    session: SessionId,
    sequence: u64,
    command: u64,
    errs: bool,
    /// Where replies go: the store, and the request's id and attempt.
    paths: Vec<(u64, u64, u32)>,
}

#[derive(Debug, Default)]
struct Session {
    lowest: u64,
    replies: BTreeMap<u64, Outcome>,
    in_flight: BTreeMap<u64, u64>,
}

struct World {
    rig: Rig,
    chance: ChaCha8Rng,
    weather: Weather,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    leader: Option<u64>,
    term: u64,
    index: u64,
    session: Option<SessionId>,
    sessions: BTreeMap<SessionId, Session>,
    evaluations: BTreeMap<u64, Evaluation>,
    /// Sendings that arrived, by id and attempt.
    arrived: BTreeSet<(u64, u32)>,
    /// The state: which commands took effect, how often.
    effects: BTreeMap<u64, u32>,
    applied: u64,
    /// By call: the command's number, or of a query the count of effects that it must see.
    commands: BTreeMap<CallId, u64>,
    queries: BTreeMap<CallId, u64>,
    deadlines: BTreeMap<CallId, Duration>,
    acknowledged: u64,
    ends: Vec<(u64, Result<Answered, AskError>)>,
    calls_left: u32,
    patience: Range<u64>,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let options = RouterOptions {
            window: chance.random_range(1..8),
            ..Default::default()
        };
        let mut rig = Rig::bare(options, None);
        rig.table(table(
            1,
            1,
            [None, Some(1), Some(2)][chance.random_range(0..3)],
        ));
        Self {
            rig,
            chance,
            weather,
            events: BTreeMap::new(),
            count: 0,
            leader: Some(1),
            term: 1,
            index: 5,
            session: None,
            sessions: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            arrived: BTreeSet::new(),
            effects: BTreeMap::new(),
            applied: 0,
            commands: BTreeMap::new(),
            queries: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            acknowledged: 0,
            ends: Vec::new(),
            calls_left: 0,
            patience: 0..1,
        }
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        self.chance.random_range(0..1_000) < per_thousand
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.count += 1;
        self.events
            .insert((self.rig.now + delay, self.count), event);
    }

    /// Between a tenth of a millisecond and, in bad luck, three seconds.
    fn delay(&mut self) -> Duration {
        if self.happens(self.weather.late) {
            ms(self.chance.random_range(1..3_000))
        } else {
            Duration::from_micros(self.chance.random_range(100..3_000))
        }
    }

    /// Puts an event on the way, unless it is lost; perhaps twice.
    fn travel(&mut self, event: Event) {
        if self.happens(self.weather.doubled) {
            let delay = self.delay();
            self.after(delay, event.clone());
        }
        if !self.happens(self.weather.lost) {
            let delay = self.delay();
            self.after(delay, event);
        }
    }

    /// Takes what the core put out.
    fn collect(&mut self) {
        for (call, result) in std::mem::take(&mut self.rig.done) {
            self.ended(call, result);
        }
        loop {
            let sent = std::mem::take(&mut self.rig.sent);
            if sent.is_empty() {
                return;
            }
            for Sent { to, request } in sent {
                if self.happens(self.weather.unsent) {
                    let id = CallId(request.id);
                    self.rig.core.unsent(self.rig.now, to, id, request.attempt);
                    self.rig.drain();
                } else {
                    self.travel(Event::Request { to, request });
                }
            }
        }
    }

    fn ended(&mut self, call: CallId, result: Result<Answered, AskError>) {
        let deadline = self.deadlines.remove(&call).expect("a call ends once");
        assert!(self.rig.now <= deadline, "{call:?} outlived its deadline");
        if let Some(seen) = self.queries.remove(&call) {
            match result {
                Ok(answer) => {
                    let read = u64::from_le_bytes(answer.body[..].try_into().unwrap());
                    assert!(
                        read >= seen,
                        "read {read} after {seen} acknowledged effects"
                    );
                    assert!(read <= self.applied);
                }
                Err(AskError::Unknown(unknown)) => panic!("a query is never unknown: {unknown}"),
                Err(_) => {}
            }
            return;
        }
        let command = self.commands.remove(&call).expect("a call of ours");
        if matches!(&result, Ok(answer) if answer.body == "done") {
            self.acknowledged += 1;
            assert_eq!(
                self.effects.get(&command),
                Some(&1),
                "acknowledged too early"
            );
        }
        self.ends.push((command, result));
    }

    fn call(&mut self) {
        let patience = ms(self.chance.random_range(self.patience.clone()));
        let query = self.chance.random_range(0..4) == 0;
        self.count += 1;
        let number = self.count;
        let deadline = self.rig.now + patience;
        let call = self.rig.core.ask(
            self.rig.now,
            AskSpec {
                kind: "k".to_owned(),
                key: "a".to_owned(),
                message: "m".to_owned(),
                body: Bytes::copy_from_slice(&number.to_le_bytes()),
                mode: if query { Mode::Query } else { Mode::Command },
                deadline,
                trace: None,
            },
        );
        self.deadlines.insert(call, deadline);
        if query {
            self.queries.insert(call, self.acknowledged);
        } else {
            self.commands.insert(call, number);
        }
        self.rig.drain();
    }

    fn answer(&mut self, from: u64, id: u64, attempt: u32, logged: bool, outcome: Outcome) {
        let reply = Reply {
            id,
            attempt,
            logged,
            outcome,
        };
        self.travel(Event::Reply { from, reply });
    }

    fn refuse(&mut self, from: u64, request: &Request, refusal: Refusal) {
        let outcome = Outcome::Refused(refusal);
        self.answer(from, request.id, request.attempt, false, outcome);
    }

    fn request(&mut self, to: u64, request: Request) {
        if !self.arrived.insert((request.id, request.attempt)) {
            return self.copy(to, &request);
        }
        if self.leader != Some(to) {
            let leader = match self.chance.random_range(0..4) {
                0 => None,
                1 => Some(self.chance.random_range(1..=3)),
                _ => self.leader,
            };
            return self.refuse(to, &request, Refusal::NotLeader { leader });
        }
        if self.happens(self.weather.busy) {
            let retry_after_ms = self.chance.random_range(0..100);
            let queue = "q".to_owned();
            let refusal = Refusal::Busy {
                queue,
                retry_after_ms,
            };
            return self.refuse(to, &request, refusal);
        }
        match request.intent {
            Intent::OpenSession { router } => {
                assert_eq!(router, ROUTER);
                let session = *self.session.get_or_insert_with(|| {
                    self.index += 1;
                    SessionId(self.index)
                });
                self.sessions.entry(session).or_default();
                self.answer(
                    to,
                    request.id,
                    request.attempt,
                    true,
                    Outcome::Opened { session },
                );
            }
            Intent::Query => {
                let body = Bytes::copy_from_slice(&self.applied.to_le_bytes());
                let outcome = Outcome::Done { body, age_ms: 0 };
                self.answer(to, request.id, request.attempt, false, outcome);
            }
            Intent::StaleQuery { .. } => unreachable!("none is made"),
            Intent::Command {
                session,
                sequence,
                lowest,
            } => self.command(to, request, session, sequence, lowest),
        }
    }

    fn command(&mut self, to: u64, request: Request, id: SessionId, sequence: u64, lowest: u64) {
        assert!(lowest <= sequence);
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.refuse(to, &request, Refusal::UnknownSession);
        };
        session.lowest = session.lowest.max(lowest);
        let low = session.lowest;
        session.replies.retain(|sequence, _| *sequence >= low);
        assert!(sequence < low + 8, "beyond the window");
        if sequence < low {
            return self.refuse(to, &request, Refusal::Superseded);
        }
        if let Some(outcome) = session.replies.get(&sequence) {
            let outcome = outcome.clone();
            return self.answer(to, request.id, request.attempt, true, outcome);
        }
        let path = (to, request.id, request.attempt);
        if let Some(evaluation) = session.in_flight.get(&sequence) {
            let evaluation = self.evaluations.get_mut(evaluation).unwrap();
            return evaluation.paths.push(path);
        }
        let errs = self.chance.random_range(0..1_000) < self.weather.erring;
        if errs && request.attempt == 1 {
            let outcome = if self.chance.random() {
                let body = Bytes::from_static(b"err");
                Outcome::Done { body, age_ms: 0 }
            } else {
                let text = String::new();
                Outcome::Failed(Failure::Panicked { text })
            };
            return self.answer(to, request.id, request.attempt, false, outcome);
        }
        self.count += 1;
        let evaluation = self.count;
        session.in_flight.insert(sequence, evaluation);
        self.evaluations.insert(
            evaluation,
            Evaluation {
                term: self.term,
                session: id,
                sequence,
                command: u64::from_le_bytes(request.body[..].try_into().unwrap()),
                errs,
                paths: vec![path],
            },
        );
        let delay = self.delay();
        self.after(delay, Event::Commit { evaluation });
    }

    /// A second copy of a sending.
    fn copy(&mut self, to: u64, request: &Request) {
        let Intent::Command {
            session, sequence, ..
        } = request.intent
        else {
            return;
        };
        let Some(session) = self.sessions.get(&session) else {
            return;
        };
        if let Some(outcome) = session.replies.get(&sequence) {
            let outcome = outcome.clone();
            self.answer(to, request.id, request.attempt, true, outcome);
        } else if let Some(evaluation) = session.in_flight.get(&sequence) {
            let path = (to, request.id, request.attempt);
            let evaluation = self.evaluations.get_mut(evaluation).unwrap();
            evaluation.paths.push(path);
        }
    }

    fn commit(&mut self, number: u64) {
        let Some(evaluation) = self.evaluations.remove(&number) else {
            return;
        };
        let fell = evaluation.term != self.term;
        // The entry of a fallen leader either reached its successor's log before that began, or never will.
        let survives = !fell || self.chance.random();
        let body = if evaluation.errs { "err" } else { "done" };
        let outcome = Outcome::Done {
            body: Bytes::from_static(body.as_bytes()),
            age_ms: 0,
        };
        if survives && let Some(session) = self.sessions.get_mut(&evaluation.session) {
            session.replies.insert(evaluation.sequence, outcome.clone());
            session.in_flight.remove(&evaluation.sequence);
            if !evaluation.errs {
                let effects = self.effects.entry(evaluation.command).or_default();
                *effects += 1;
                assert_eq!(
                    *effects, 1,
                    "command {} took effect twice",
                    evaluation.command
                );
                self.applied += 1;
            }
        } else if let Some(session) = self.sessions.get_mut(&evaluation.session) {
            session.in_flight.remove(&evaluation.sequence);
        }
        for (store, id, attempt) in evaluation.paths {
            let leader = self.leader;
            if fell {
                self.answer(store, id, attempt, false, Outcome::Interrupted { leader });
            } else if survives {
                self.answer(store, id, attempt, true, outcome.clone());
            }
        }
    }

    fn depose(&mut self) {
        if self.leader.take().is_none() {
            return;
        }
        self.term += 1;
        let open: Vec<u64> = self.evaluations.keys().copied().collect();
        for evaluation in open {
            self.commit(evaluation);
        }
        let leader = self.chance.random_range(1..=3);
        let delay = ms(self.chance.random_range(1..2_000));
        self.after(delay, Event::Elect { leader });
        match self.chance.random_range(0..4) {
            0 => {
                let mut newer = table(self.term, 1, Some(leader));
                Arc::make_mut(&mut newer).stores[0].name = self.term.to_string();
                self.rig.table(newer);
            }
            1 => {
                self.rig.core.leader(self.rig.now, shard(), leader);
                self.rig.drain();
            }
            _ => {}
        }
    }

    fn weather_strikes(&mut self) {
        if self.happens(self.weather.depose) {
            self.depose();
        }
        if self.happens(self.weather.expire)
            && self.evaluations.is_empty()
            && let Some(session) = self.session.take()
        {
            self.sessions.remove(&session);
        }
        if self.happens(self.weather.cut) {
            let store = self.chance.random_range(1..=3);
            if self.chance.random() {
                self.rig.core.disconnected(self.rig.now, store);
            } else {
                self.rig.core.connected(self.rig.now, store);
            }
            self.rig.drain();
        }
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self, calls: u32, patience: Range<u64>) {
        self.calls_left = calls;
        self.patience = patience;
        self.after(Duration::ZERO, Event::Call);
        loop {
            self.collect();
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let wake = self.rig.core.wake_at();
            let Some(at) = event.into_iter().chain(wake).min() else {
                break;
            };
            self.rig.now = self.rig.now.max(at);
            if wake.is_some_and(|wake| wake <= self.rig.now) {
                self.rig.core.tick(self.rig.now);
                self.rig.drain();
                continue;
            }
            let (_, event) = self.events.pop_first().unwrap();
            self.weather_strikes();
            match event {
                Event::Request { to, request } => self.request(to, request),
                Event::Reply { from, reply } => {
                    self.rig.core.reply(self.rig.now, from, reply);
                    self.rig.drain();
                }
                Event::Commit { evaluation } => self.commit(evaluation),
                Event::Elect { leader } => self.leader = Some(leader),
                Event::Call => {
                    self.call();
                    self.calls_left -= 1;
                    if self.calls_left > 0 {
                        let pause = ms(self.chance.random_range(0..40));
                        self.after(pause, Event::Call);
                    }
                }
            }
        }
        assert_eq!(self.rig.core.outstanding(), 0, "calls are left over");
        assert!(self.deadlines.is_empty());
        for (command, result) in self.ends.drain(..) {
            let effects = self.effects.get(&command).copied().unwrap_or(0);
            let right = match &result {
                Ok(answer) if answer.body == "done" => effects == 1,
                Ok(_) => effects == 0,
                Err(error) if error.did_not_happen() => effects == 0,
                Err(_) => true,
            };
            assert!(
                right,
                "command {command} took effect {effects} times: {result:?}"
            );
        }
    }

    /// The faults stop: once a call has met what they left behind (an expired session, a silent store), all must succeed.
    fn heal(&mut self) {
        self.weather = FAIR;
        self.leader.get_or_insert(2);
        self.run(1, 3_000..6_000);
        let before = bad(self.rig.core.counters());
        self.run(20, 3_000..6_000);
        let failed = bad(self.rig.core.counters()) - before;
        assert_eq!(failed, 0, "calls failed in fair weather");
    }
}

fn bad(counters: RouterCounters) -> u64 {
    counters.refused + counters.failed + counters.unknown + counters.timed_out
}

fn weather() -> impl Strategy<Value = Weather> {
    let upto = |most: u32| 0..=most;
    (
        (upto(200), upto(200), upto(200)),
        (upto(100), upto(30), upto(30)),
        (upto(50), upto(30), upto(400)),
    )
        .prop_map(
            |((lost, doubled, late), (busy, expire, depose), (unsent, cut, erring))| Weather {
                lost,
                doubled,
                late,
                busy,
                expire,
                depose,
                unsent,
                cut,
                erring,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_take_effect_at_most_once_and_every_end_is_true(seed in any::<u64>(), weather in weather()) {
        // E5, E10, E31, S20: see the head of this file for the model and what is checked.
        let mut world = World::new(seed, weather);
        world.run(60, 1..6_000);
        world.heal();
    }
}

#[test]
fn the_model_sees_every_kind_of_end_and_of_trouble() {
    // STYLE 10: a run that hardly meets its cases proves nothing.
    let storm = Weather {
        lost: 100,
        doubled: 100,
        late: 100,
        busy: 50,
        expire: 10,
        depose: 15,
        unsent: 30,
        cut: 15,
        erring: 300,
    };
    let mut sum = RouterCounters::default();
    let mut acknowledged = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, storm);
        world.run(60, 1..6_000);
        let counters = world.rig.core.counters();
        acknowledged += world.acknowledged;
        sum.retried += counters.retried;
        sum.redirects += counters.redirects;
        sum.probes += counters.probes;
        sum.silences += counters.silences;
        sum.late_replies += counters.late_replies;
        sum.outdated_outcomes += counters.outdated_outcomes;
        sum.sessions += counters.sessions;
        sum.refused += counters.refused;
        sum.failed += counters.failed;
        sum.unknown += counters.unknown;
        sum.timed_out += counters.timed_out;
    }
    assert!(acknowledged > 300, "{acknowledged} acknowledged");
    let least = [
        sum.retried,
        sum.redirects,
        sum.probes,
        sum.silences,
        sum.late_replies,
        sum.outdated_outcomes,
        sum.sessions,
        sum.refused,
        sum.failed,
        sum.unknown,
        sum.timed_out,
    ];
    assert!(least.iter().all(|count| *count >= 5), "{sum:?}");
}
