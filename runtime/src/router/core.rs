//! The pure machine of one router: what goes in and what comes out.
//!
//! Here: [`RouterCore`] with its inputs and outputs, acceptance of calls, sessions' windows. Its other parts: `sending`
//! (whom to ask, and when again), `replies` (what an answer means) and `endings`. Driven by the shell, by gateway clients
//! and by simulators; time and chance come in as arguments, so that the same seed gives the same sendings.
//! Not here: clocks, locks, sockets, encoding.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::calls::{Attempts, Call, CallKind, Calls, List, NONE, Place};
use super::lane::Lane;
use super::pace::Pace;
use super::peers::Peers;
use super::timers::Timers;
use super::{AskError, CheckedRouterOptions, Failed, Refused, TimedOut};
use crate::wire::{Failure, Request, RoutingTable, ShardId};

/// The pause that a full router asks its callers for. A few round trips: the queue has moved by then.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Shards of a table that are believed; more is a broken table.
const LANES_MAX: u32 = 1 << 20;
/// Deadline of a call that ends with its shard's waiting commands, not by time.
const NO_DEADLINE: Duration = Duration::MAX;

/// One call of a router; also the `id` of its requests. Never used again by the same router.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// What a call wants of the entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// May change it; takes effect at most once.
    Command,
    /// Reads it as of a moment between call and answer.
    Query,
    /// Reads the nearest replica's state if that is at most this old.
    Stale {
        /// Greatest age that the caller accepts.
        max_age: Duration,
    },
}

/// One call as the caller states it.
#[derive(Clone, Debug)]
pub struct AskSpec {
    /// The entity's kind.
    pub kind: String,
    /// The entity's key.
    pub key: String,
    /// Wire name of the message.
    pub message: String,
    /// The encoded message.
    pub body: Bytes,
    /// Command, query or stale query.
    pub mode: Mode,
    /// When the caller gives up, on the same clock as `now`.
    pub deadline: Duration,
    /// W3C `traceparent`, if the caller has one.
    pub trace: Option<String>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The handler's encoded result.
    pub body: Bytes,
    /// Stale queries: upper bound of the age of the state that was read; else zero.
    pub age: Duration,
    /// The shard that answered.
    pub shard: ShardId,
}

/// What the driver has to do, in order.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum RouterOutput {
    /// Send the request to the store; each sending reaches it at most once (streams of QUIC do that). If it certainly
    /// did not leave, say so by [`RouterCore::unsent`].
    Send {
        /// The store.
        store: u64,
        /// The request.
        request: Request,
    },
    /// The call has ended. Exactly one per call.
    Done {
        /// The call.
        call: CallId,
        /// Its answer, or why there is none.
        result: Result<Answered, AskError>,
    },
    /// Ask any node for a newer table and give it to [`RouterCore::table`].
    NeedTable,
}

/// What a router counted since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RouterCounters {
    /// Calls made.
    pub calls: u64,
    /// Requests sent, of all attempts, openings of sessions included.
    pub sendings: u64,
    /// Calls that were sent a second time, counted once each.
    pub retried: u64,
    /// Times a leader's or replica's hint was followed.
    pub redirects: u64,
    /// Requests to a guessed leader.
    pub probes: u64,
    /// Times that a sent request met silence.
    pub silences: u64,
    /// Replies that belonged to no call any more.
    pub late_replies: u64,
    /// Unlogged outcomes dropped because a later attempt was under way (E31).
    pub outdated_outcomes: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Calls that ended as refused.
    pub refused: u64,
    /// Calls that ended as failed.
    pub failed: u64,
    /// Commands that ended as unknown.
    pub unknown: u64,
    /// Queries that ended without an answer.
    pub timed_out: u64,
}

/// The routing of one process: sessions, attempts, leader hints, back-off and deadlines of all its calls.
#[derive(Debug)]
pub struct RouterCore {
    pub(super) options: CheckedRouterOptions,
    pub(super) router: u128,
    pub(super) local: Option<u64>,
    pub(super) chance: ChaCha8Rng,
    table: Option<Arc<RoutingTable>>,
    pub(super) lanes: Vec<Lane>,
    pub(super) calls: Calls,
    /// Bytes of the bodies of all calls.
    pub(super) bytes: usize,
    /// Calls for which no replica is known.
    homeless: List,
    pub(super) peers: Peers,
    pub(super) pace: Pace,
    /// By slot: a call's deadline, or the end of its silence or pause.
    pub(super) call_timers: Timers,
    /// By shard number: the next probe.
    pub(super) lane_timers: Timers,
    table_asks: u32,
    next_table_ask: Duration,
    pub(super) closed: bool,
    pub(super) outputs: VecDeque<RouterOutput>,
    pub(super) counters: RouterCounters,
}

impl RouterCore {
    /// A router without table. `router` is its random identity (never the same for two routers or starts), `local` the
    /// store of the same process if there is one, `seed` the source of its jitter.
    pub fn new(options: CheckedRouterOptions, router: u128, local: Option<u64>, seed: u64) -> Self {
        Self {
            options,
            router,
            local,
            chance: ChaCha8Rng::seed_from_u64(seed),
            table: None,
            lanes: Vec::new(),
            calls: Calls::default(),
            bytes: 0,
            homeless: List::default(),
            peers: Peers::default(),
            pace: Pace::default(),
            call_timers: Timers::default(),
            lane_timers: Timers::default(),
            table_asks: 0,
            next_table_ask: Duration::ZERO,
            closed: false,
            outputs: VecDeque::new(),
            counters: RouterCounters::default(),
        }
    }

    /// Accepts a call; it ends by exactly one [`RouterOutput::Done`], at its deadline at the latest.
    pub fn ask(&mut self, now: Duration, ask: AskSpec) -> CallId {
        self.counters.calls += 1;
        if self.counters.calls == 1 {
            self.place(now);
        }
        if let Err(error) = self.admissible(now, &ask) {
            let call = self.calls.burn();
            self.end(call, Err(error));
            return call;
        }
        let lane = self
            .table
            .as_ref()
            .map_or(NONE, |table| table.sharding.shard_of(&ask.key).number);
        self.bytes += ask.body.len();
        let kind = match ask.mode {
            Mode::Command => CallKind::Command,
            Mode::Query => CallKind::Query,
            Mode::Stale { max_age } => CallKind::Stale {
                max_age_ms: max_age.as_millis().try_into().unwrap_or(u64::MAX),
            },
        };
        let slot = self.calls.insert(Call {
            entity: ask.kind,
            key: ask.key,
            message: ask.message,
            body: ask.body,
            trace: ask.trace,
            ..Call::new(lane, kind, ask.deadline)
        });
        let call = self.calls.id(slot);
        self.call_timers.set(slot, ask.deadline);
        if lane == NONE {
            self.strand(now, slot);
        } else {
            self.house(now, slot, lane);
        }
        call
    }

    fn admissible(&self, now: Duration, ask: &AskSpec) -> Result<(), AskError> {
        if self.closed {
            return Err(Refused::Closed.into());
        }
        if ask.deadline <= now {
            let waited_for = "the call was being made";
            return Err(match ask.mode {
                Mode::Command => Refused::DeadlinePassed { waited_for }.into(),
                Mode::Query | Mode::Stale { .. } => TimedOut { waited_for }.into(),
            });
        }
        if ask.body.len() > self.options.message_max {
            return Err(Failed(Failure::TooLarge {
                what: "message".to_owned(),
                size: ask.body.len() as u64,
                limit: self.options.message_max as u64,
            })
            .into());
        }
        let busy = |queue: String| {
            Err(Refused::Busy {
                queue,
                retry_after: BUSY_PAUSE,
            }
            .into())
        };
        if self.calls.len() >= self.options.calls_max
            || self.bytes + ask.body.len() > self.options.bytes_max
        {
            return busy("this router".to_owned());
        }
        let Some(table) = &self.table else {
            return Ok(());
        };
        let lane = &self.lanes[table.sharding.shard_of(&ask.key).number as usize];
        let full = match ask.mode {
            Mode::Command => lane.waiting.len() >= self.options.waiting_max,
            Mode::Query | Mode::Stale { .. } => lane.queries >= self.options.queries_max,
        };
        if full {
            return busy(format!("this router's queue for shard {}", lane.shard));
        }
        Ok(())
    }

    /// A table arrived. An older one, or another cluster's, changes nothing.
    pub fn table(&mut self, now: Duration, table: Arc<RoutingTable>) {
        let shards = table.sharding.shards;
        if shards == 0 || shards > LANES_MAX {
            return;
        }
        match &self.table {
            Some(known) if known.cluster != table.cluster || known.sharding != table.sharding => {
                return;
            }
            Some(known) if known.epoch > table.epoch => return,
            Some(known) if **known == *table => return,
            _ => {}
        }
        self.table_asks = 0;
        self.peers.retain(|store| table.names(store));
        self.table = Some(table);
        if self.counters.calls > 0 {
            self.place(now);
        }
    }

    /// Sets up what is known of every shard by the table. Not before the first call: most nodes make none, and shards are many.
    fn place(&mut self, now: Duration) {
        let Some(table) = self.table.clone() else {
            return;
        };
        if self.lanes.is_empty() {
            let lane = |number| Lane {
                shard: ShardId::main(number),
                ..Lane::default()
            };
            self.lanes = (0..table.sharding.shards).map(lane).collect();
        }
        for (number, place) in table.shards.iter().enumerate().take(self.lanes.len()) {
            self.place_shard(now, number as u32, &place.replicas, place.leader);
        }
        let mut homeless = std::mem::take(&mut self.homeless);
        while let Some(slot) = homeless.pop_front(&mut self.calls) {
            self.calls.at(slot).place = Place::Paused;
            self.rehouse(now, slot);
        }
    }

    fn rehouse(&mut self, now: Duration, slot: u32) {
        let call = self.calls.at(slot);
        if call.lane != NONE {
            return self.dispatch(now, slot);
        }
        let table = self.table.as_ref().expect("called with a table");
        let lane = table.sharding.shard_of(&call.key).number;
        call.lane = lane;
        self.house(now, slot, lane);
    }

    /// Puts a new call where it belongs, its shard being known.
    fn house(&mut self, now: Duration, slot: u32, lane: u32) {
        match self.calls.at(slot).kind {
            CallKind::Command => {
                self.move_to(slot, Place::Waiting);
                self.admit(now, lane);
            }
            CallKind::Query | CallKind::Stale { .. } => {
                self.lanes[lane as usize].queries += 1;
                self.dispatch(now, slot);
            }
            CallKind::Opening => self.dispatch(now, slot),
        }
    }

    /// No replica is known for the call: only a table helps.
    pub(super) fn strand(&mut self, now: Duration, slot: u32) {
        self.move_to(slot, Place::Homeless);
        let deadline = self.calls.at(slot).deadline;
        self.call_timers.set(slot, deadline);
        self.want_table(now);
    }

    /// Whether the table knows the store.
    pub(super) fn knows(&self, store: u64) -> bool {
        self.table.as_ref().is_some_and(|table| table.names(store))
    }

    /// Asks for a table, unless it did so a moment ago.
    pub(super) fn want_table(&mut self, now: Duration) {
        if now < self.next_table_ask {
            return;
        }
        self.next_table_ask = now + self.options.table_pause * 2u32.pow(self.table_asks.min(3));
        self.table_asks += 1;
        self.outputs.push_back(RouterOutput::NeedTable);
    }

    /// Gives waiting commands their sequences, as far as session and window allow.
    pub(super) fn admit(&mut self, now: Duration, lane_number: u32) {
        loop {
            let lane = &mut self.lanes[lane_number as usize];
            if lane.waiting.is_empty() {
                return;
            }
            if !lane.session.open {
                if lane.session.opening.is_none() {
                    self.open_session(now, lane_number);
                }
                return;
            }
            if lane.session.window.span() >= self.options.window as usize {
                return;
            }
            let slot = lane.waiting.head().expect("it is not empty");
            let sequence = lane.session.window.next();
            let session = lane.session.id;
            self.move_to(slot, Place::Paused);
            let call = self.calls.at(slot);
            call.session = session;
            call.sequence = sequence;
            self.dispatch(now, slot);
        }
    }

    fn open_session(&mut self, now: Duration, lane_number: u32) {
        let slot = self
            .calls
            .insert(Call::new(lane_number, CallKind::Opening, NO_DEADLINE));
        let session = &mut self.lanes[lane_number as usize].session;
        session.opening = Some(slot);
        session.openings += 1;
        let openings = session.openings;
        if openings > 1 {
            // The shard forgot a session before it answered a single command: do not spin.
            let pause = self.jittered(openings);
            self.pause(now, slot, pause);
        } else {
            self.dispatch(now, slot);
        }
    }

    /// Time has come; call when `now >= wake_at()`.
    pub fn tick(&mut self, now: Duration) {
        while let Some(slot) = self.call_timers.take_due(now) {
            let call = self.calls.at(slot);
            if call.deadline <= now {
                self.give_up(now, slot);
                continue;
            }
            match call.place {
                Place::Flying { to, probing } => self.silent(now, slot, to, probing),
                Place::Paused => self.dispatch(now, slot),
                Place::Homeless | Place::Waiting | Place::Parked => {
                    let deadline = call.deadline;
                    self.call_timers.set(slot, deadline);
                }
            }
        }
        while let Some(lane) = self.lane_timers.take_due(now) {
            self.probe(now, lane);
        }
        if !self.homeless.is_empty() {
            self.want_table(now);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        let table = (!self.homeless.is_empty()).then_some(self.next_table_ask);
        [
            self.call_timers.earliest(),
            self.lane_timers.earliest(),
            table,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing to do. Poll until `None` after every input.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        self.outputs.pop_front()
    }

    /// Calls that have not ended.
    pub fn outstanding(&self) -> usize {
        self.calls.len()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> RouterCounters {
        self.counters
    }

    /// The table in use.
    pub fn routing_table(&self) -> Option<&Arc<RoutingTable>> {
        self.table.as_ref()
    }

    /// Moves a call from the queue that it is in to the end of another.
    pub(super) fn move_to(&mut self, slot: u32, place: Place) {
        self.leave(slot);
        let call = self.calls.at(slot);
        call.place = place;
        let lane = call.lane as usize;
        match place {
            Place::Homeless => self.homeless.push_back(&mut self.calls, slot),
            Place::Waiting => self.lanes[lane].waiting.push_back(&mut self.calls, slot),
            Place::Parked => self.lanes[lane].parked.push_back(&mut self.calls, slot),
            Place::Flying { .. } => self.lanes[lane].flying.push_back(&mut self.calls, slot),
            Place::Paused => {}
        }
    }

    pub(super) fn leave(&mut self, slot: u32) {
        let call = self.calls.at(slot);
        let (place, lane) = (call.place, call.lane as usize);
        call.place = Place::Paused;
        match place {
            Place::Homeless => self.homeless.remove(&mut self.calls, slot),
            Place::Waiting => self.lanes[lane].waiting.remove(&mut self.calls, slot),
            Place::Parked => self.lanes[lane].parked.remove(&mut self.calls, slot),
            Place::Flying { .. } => self.lanes[lane].flying.remove(&mut self.calls, slot),
            Place::Paused => {}
        }
    }

    /// Back to the head of the commands that wait for a sequence: it was certainly not evaluated under its old one.
    pub(super) fn requeue(&mut self, now: Duration, slot: u32) {
        self.leave(slot);
        let call = self.calls.at(slot);
        call.place = Place::Waiting;
        let (lane_number, session, sequence) = (call.lane, call.session.take(), call.sequence);
        let deadline = call.deadline;
        let lane = &mut self.lanes[lane_number as usize];
        lane.waiting.push_front(&mut self.calls, slot);
        if session == lane.session.id {
            lane.session.window.finish(sequence);
        }
        self.call_timers.set(slot, deadline);
        self.admit(now, lane_number);
    }

    /// The shard of a call that was sent.
    pub(super) fn shard_of(&mut self, slot: u32) -> ShardId {
        self.lanes[self.calls.at(slot).lane as usize].shard
    }
}

impl Call {
    fn new(lane: u32, kind: CallKind, deadline: Duration) -> Self {
        Self {
            lane,
            kind,
            place: Place::Paused,
            prev: NONE,
            next: NONE,
            entity: String::new(),
            key: String::new(),
            message: String::new(),
            body: Bytes::new(),
            trace: None,
            deadline,
            attempts: Attempts::default(),
            first_sent_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            since: Duration::ZERO,
            repeats: 0,
            silences: 0,
            session: None,
            sequence: 0,
            lowest: 0,
            start: 0,
            turn: 0,
            age: None,
            busy: None,
        }
    }
}
