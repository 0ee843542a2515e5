//! Whom to ask, and when to ask again.
//!
//! Here: the part of [`RouterCore`] that chooses a store and sends: leader hints, probing of replicas in turn while no
//! leader is known, silence, lost connections, stale queries at any replica.
//!
//! While a shard has no known leader its calls are parked and one at a time probes; every event that may name the leader
//! (an answer, a hint, a table, a connection) lets all of them go at once (S4: no waiting for a tick).
//! Sending again is always safe: a command carries its session and sequence (RIFL), a query changes nothing.

use std::time::Duration;

use rand::Rng;

use super::calls::{CallKind, Place};
use super::core::RouterOutput;
use super::{AskError, CallId, Refused, RouterCore};
use crate::wire::{Intent, Request, ShardId};

/// Hints followed in a row before a pause: enough to walk three replicas, too few to play ping-pong.
const REDIRECTS_MAX: u32 = 3;
/// Doublings of a pause or a silence.
const DOUBLINGS_MAX: u32 = 3;
/// The same of the pause between repetitions to one leader.
const REPEAT_DOUBLINGS_MAX: u32 = 8;
/// What a request to open a session states as its deadline; the opening ends with its shard's waiting commands.
const OPENING_DEADLINE_MS: u64 = 10_000;

impl RouterCore {
    /// Somebody who should know (the local group, gossip) says who leads.
    pub fn leader(&mut self, now: Duration, shard: ShardId, store: u64) {
        let known = self
            .lanes
            .get(shard.number as usize)
            .is_some_and(|lane| lane.shard == shard);
        if !known {
            return;
        }
        self.peers.trust(store);
        self.believe(now, shard.number, store);
    }

    /// The connection to a store was lost, or a failure detector calls it dead: what is on the way there may be lost.
    pub fn disconnected(&mut self, now: Duration, store: u64) {
        self.peers.avoid(now, store, self.options.avoid);
        let mut lost = Vec::new();
        for lane in &mut self.lanes {
            if lane.leader == Some(store) {
                lane.leader = None;
                lane.verified = false;
            }
            let mut next = lane.flying.head();
            while let Some(slot) = next {
                let call = self.calls.at(slot);
                if matches!(call.place, Place::Flying { to, .. } if to == store) {
                    lost.push(slot);
                }
                next = call.following();
            }
        }
        self.send_again(now, lost);
    }

    /// There is a connection to the store (again): it is worth asking (S20).
    pub fn connected(&mut self, now: Duration, store: u64) {
        self.peers.trust(store);
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            if lane.parked.is_empty() {
                continue;
            }
            if let Some(at) = lane.replicas.iter().position(|replica| *replica == store) {
                lane.cursor = at;
                self.probe(now, number as u32);
            }
        }
    }

    /// A sending that certainly did not leave this process (no connection, queue full).
    pub fn unsent(&mut self, now: Duration, store: u64, call: CallId, attempt: u32) {
        let Some(slot) = self.calls.find(call) else {
            return;
        };
        let call = self.calls.at(slot);
        let newest = call.attempts.newest() == attempt;
        let here = matches!(call.place, Place::Flying { to, .. } if to == store);
        let (lane_number, stale) = (call.lane, matches!(call.kind, CallKind::Stale { .. }));
        if !call.attempts.settle(attempt) || !newest || !here {
            return;
        }
        let lately = now.saturating_sub(self.options.attempt_timeout / 2);
        if self.peers.heard_since(store, lately) {
            // It lives, only the way to it is full: as good as being told so by itself.
            let pause = self.jittered(DOUBLINGS_MAX);
            return self.pause(now, slot, pause);
        }
        self.peers.avoid(now, store, self.options.backoff_max);
        if !stale {
            self.lose_leader(now, lane_number, store);
        }
        self.dispatch(now, slot);
    }

    /// What the table says of one shard.
    pub(super) fn place_shard(
        &mut self,
        now: Duration,
        number: u32,
        replicas: &[u64],
        leader: Option<u64>,
    ) {
        let local = self.local;
        let lane = &mut self.lanes[number as usize];
        let moved = lane.replicas != replicas;
        if moved {
            replicas.clone_into(&mut lane.replicas);
            lane.cursor = match replicas.iter().position(|store| Some(*store) == local) {
                Some(at) => at,
                None if replicas.is_empty() => 0,
                None => self.chance.random_range(0..replicas.len()),
            };
            if lane.leader.is_some_and(|store| !replicas.contains(&store)) {
                lane.leader = None;
                lane.verified = false;
            }
        }
        let news = lane.table_leader != leader;
        lane.table_leader = leader;
        let told = leader.filter(|store| news && !lane.verified && !self.peers.doubted(*store));
        match told {
            Some(store) => self.believe(now, number, store),
            None if moved => self.probe(now, number),
            None => {}
        }
    }

    /// Takes `store` for the leader and sends everything to it that waited for one, or flies elsewhere.
    fn believe(&mut self, now: Duration, number: u32, store: u64) {
        let lane = &mut self.lanes[number as usize];
        if lane.leader == Some(store) {
            return;
        }
        lane.leader = Some(store);
        lane.verified = false;
        self.release(now, number);
        self.recall(now, number, store);
    }

    /// An answer that only a leader gives came from `store`.
    pub(super) fn confirm(&mut self, now: Duration, number: u32, store: u64) {
        let lane = &mut self.lanes[number as usize];
        let news = lane.leader != Some(store) || !lane.verified;
        lane.leader = Some(store);
        lane.verified = true;
        lane.redirects = 0;
        lane.probes = 0;
        lane.next_probe = Duration::ZERO;
        if news {
            self.release(now, number);
            self.recall(now, number, store);
        }
    }

    /// `from` does not lead; it may know who does.
    pub(super) fn hint(&mut self, now: Duration, number: u32, from: u64, leader: Option<u64>) {
        let lane = &mut self.lanes[number as usize];
        if lane.leader.is_some_and(|known| known != from) {
            return; // somebody else is believed: they will say themselves if they are not
        }
        // Whoever led until now knows to whom it gave that: a store that was gone has come back.
        let handed_over = lane.leader == Some(from) && lane.verified;
        let Some(store) = leader.filter(|store| *store != from) else {
            return self.lose_leader(now, number, from);
        };
        if !self.knows(store) {
            // It joined after the table was made. Sending there would only find out that the way is unknown, and make it doubted.
            self.want_table(now);
            return self.lose_leader(now, number, from);
        }
        if handed_over {
            self.peers.trust(store);
        }
        let lane = &mut self.lanes[number as usize];
        if lane.redirects >= REDIRECTS_MAX || self.peers.doubted(store) {
            return self.lose_leader(now, number, from);
        }
        lane.leader = Some(store);
        lane.verified = false;
        lane.redirects += 1;
        self.counters.redirects += 1;
        self.release(now, number);
    }

    /// `store` is not, or no longer, worth sending to: the next probe goes past it, after a pause.
    fn lose_leader(&mut self, now: Duration, number: u32, store: u64) {
        let pause = self.jittered(self.lanes[number as usize].probes);
        let lane = &mut self.lanes[number as usize];
        if lane.leader == Some(store) {
            lane.leader = None;
            lane.verified = false;
        }
        if let Some(at) = lane.replicas.iter().position(|replica| *replica == store) {
            lane.cursor = at + 1;
        }
        lane.next_probe = lane.next_probe.max(now + pause);
    }

    /// Sends everything that waited for a leader.
    fn release(&mut self, now: Duration, number: u32) {
        self.lane_timers.remove(number);
        let mut parked = std::mem::take(&mut self.lanes[number as usize].parked);
        while let Some(slot) = parked.pop_front(&mut self.calls) {
            self.calls.at(slot).place = Place::Paused;
            self.dispatch(now, slot);
        }
    }

    /// Sends again what flies to anybody but the new leader.
    fn recall(&mut self, now: Duration, number: u32, leader: u64) {
        let mut elsewhere = Vec::new();
        let mut next = self.lanes[number as usize].flying.head();
        while let Some(slot) = next {
            let call = self.calls.at(slot);
            let stale = matches!(call.kind, CallKind::Stale { .. });
            if !stale && matches!(call.place, Place::Flying { to, .. } if to != leader) {
                elsewhere.push(slot);
            }
            next = call.following();
        }
        self.send_again(now, elsewhere);
    }

    /// `slots` all fly. Sending one may end another (an opening without commands), so each is looked at again.
    fn send_again(&mut self, now: Duration, slots: Vec<u32>) {
        let ids: Vec<CallId> = slots.iter().map(|slot| self.calls.id(*slot)).collect();
        for slot in ids
            .into_iter()
            .filter_map(|id| self.calls.find(id))
            .collect::<Vec<_>>()
        {
            if matches!(self.calls.at(slot).place, Place::Flying { .. }) {
                self.dispatch(now, slot);
            }
        }
    }

    /// Sends a call to whom it belongs, or parks it until somebody is known.
    pub(super) fn dispatch(&mut self, now: Duration, slot: u32) {
        let call = self.calls.at(slot);
        let (kind, number, deadline) = (call.kind, call.lane, call.deadline);
        if let CallKind::Stale { .. } = kind {
            return self.dispatch_stale(now, slot);
        }
        let lane = &mut self.lanes[number as usize];
        if kind == CallKind::Opening && lane.waiting.is_empty() {
            return self.finish(now, slot, Err(Refused::Closed.into()));
        }
        match lane.leader {
            Some(store) if !self.peers.avoided(now, store) => {
                return self.send(now, slot, store, false);
            }
            _ => {
                lane.leader = None;
                lane.verified = false;
            }
        }
        if lane.replicas.is_empty() {
            return self.strand(now, slot);
        }
        let next_probe = lane.next_probe;
        self.move_to(slot, Place::Parked);
        self.call_timers.set(slot, deadline);
        if next_probe <= now {
            self.probe(now, number);
        } else {
            self.lane_timers.set(number, next_probe);
        }
    }

    /// Lets the oldest parked call ask the next replica in turn.
    pub(super) fn probe(&mut self, now: Duration, number: u32) {
        let Some(slot) = self.lanes[number as usize].parked.head() else {
            return;
        };
        if self.calls.at(slot).kind == CallKind::Opening
            && self.lanes[number as usize].waiting.is_empty()
        {
            self.finish(now, slot, Err(Refused::Closed.into()));
            return self.probe(now, number);
        }
        let Some(store) = self.next_replica(now, number, None) else {
            self.lane_timers.remove(number);
            let mut parked = std::mem::take(&mut self.lanes[number as usize].parked);
            while let Some(slot) = parked.pop_front(&mut self.calls) {
                self.calls.at(slot).place = Place::Paused;
                self.strand(now, slot);
            }
            return;
        };
        let pause = self.jittered(self.lanes[number as usize].probes);
        let lane = &mut self.lanes[number as usize];
        lane.redirects = 0;
        lane.probes = lane.probes.saturating_add(1);
        lane.next_probe = now + pause;
        let lost = lane.probes as usize > 2 * lane.replicas.len();
        let alternatives = lane.replicas.len() > 1; // with none, hurry gains nothing
        self.counters.probes += 1;
        self.send(now, slot, store, alternatives);
        let lane = &self.lanes[number as usize];
        if lane.parked.is_empty() {
            self.lane_timers.remove(number);
        } else {
            self.lane_timers.set(number, lane.next_probe);
        }
        if lost {
            self.want_table(now); // they may all have moved
        }
    }

    /// The next replica in turn that is not avoided, else the next in turn.
    fn next_replica(&mut self, now: Duration, number: u32, except: Option<u64>) -> Option<u64> {
        let lane = &mut self.lanes[number as usize];
        let count = lane.replicas.len();
        let turn = |at: usize| (lane.cursor + at) % count;
        let eligible = |at: &usize| Some(lane.replicas[turn(*at)]) != except;
        let at = (0..count)
            .filter(eligible)
            .find(|at| !self.peers.avoided(now, lane.replicas[turn(*at)]))
            .or_else(|| (0..count).find(eligible))?;
        let at = turn(at);
        lane.cursor = at + 1;
        Some(lane.replicas[at])
    }

    /// A sent request met silence.
    pub(super) fn silent(&mut self, now: Duration, slot: u32, to: u64, probing: bool) {
        let call = self.calls.at(slot);
        let number = call.lane;
        if probing || matches!(call.kind, CallKind::Stale { .. }) {
            self.counters.silences += 1;
            if !self.peers.heard_since(to, call.sent_at) {
                self.peers.avoid(now, to, self.options.avoid);
            }
            return self.dispatch(now, slot);
        }
        if now
            < call.since + self.options.attempt_timeout * 2u32.pow(call.silences.min(DOUBLINGS_MAX))
        {
            // A reply was lost, or the answer takes long: the repetition finds the reply, or joins the evaluation (E5).
            call.repeats += 1;
            let since = call.since;
            return self.send_since(now, slot, to, since);
        }
        self.counters.silences += 1;
        call.silences += 1;
        let lately = now.saturating_sub(self.options.attempt_timeout / 2);
        if !self.peers.heard_since(to, lately) {
            // Nothing at all: as good as a lost connection. Calls sent to it later go elsewhere, too.
            return self.disconnected(now, to);
        }
        // It answers others: slow, or its group is stuck. Another replica will know.
        match self.next_replica(now, number, Some(to)) {
            Some(other) => self.send(now, slot, other, true),
            None => self.send(now, slot, to, false),
        }
    }

    /// A stale query asks each replica once, the local one first; then it pauses and begins again.
    fn dispatch_stale(&mut self, now: Duration, slot: u32) {
        let call = self.calls.at(slot);
        let number = call.lane;
        let (mut start, turn, age) = (call.start as usize, call.turn as usize, call.age);
        let lane = &self.lanes[number as usize];
        let count = lane.replicas.len();
        if count == 0 {
            return self.strand(now, slot);
        }
        if turn == 0 {
            let local = lane
                .replicas
                .iter()
                .position(|store| Some(*store) == self.local);
            start = local.unwrap_or_else(|| self.chance.random_range(0..count));
        }
        let store_at = |turn: usize| lane.replicas[(start + turn) % count];
        let next = (turn..count)
            .find(|turn| !self.peers.avoided(now, store_at(*turn)))
            .or((turn == 0).then_some(0));
        let Some(next) = next else {
            return match age {
                Some(age) => {
                    let error: AskError = Refused::TooStale {
                        shard: lane.shard,
                        age: (age != u64::MAX).then(|| Duration::from_millis(age)),
                    }
                    .into();
                    self.finish(now, slot, Err(error));
                }
                None => {
                    self.want_table(now);
                    let pause = self.jittered(DOUBLINGS_MAX);
                    self.calls.at(slot).turn = 0;
                    self.pause(now, slot, pause);
                }
            };
        };
        let store = store_at(next);
        let call = self.calls.at(slot);
        call.start = start as u32;
        call.turn = next as u32 + 1;
        self.send(now, slot, store, false);
    }

    /// Rests a call; it is sent again after `delay`, or given up at its deadline.
    pub(super) fn pause(&mut self, now: Duration, slot: u32, delay: Duration) {
        self.move_to(slot, Place::Paused);
        let deadline = self.calls.at(slot).deadline;
        self.call_timers.set(slot, deadline.min(now + delay));
    }

    /// Sends to a known leader again; its silence began at `since`.
    fn send_since(&mut self, now: Duration, slot: u32, store: u64, since: Duration) {
        let patience = self
            .pace
            .patience(self.options.retry_min, self.options.attempt_timeout);
        let call = self.calls.at(slot);
        let silence = self.options.attempt_timeout * 2u32.pow(call.silences.min(DOUBLINGS_MAX));
        let patience = patience * 2u32.pow(call.repeats.min(REPEAT_DOUBLINGS_MAX));
        call.since = since;
        let until = (now + patience).min(since + silence);
        self.send_until(now, slot, store, false, until);
    }

    fn send(&mut self, now: Duration, slot: u32, store: u64, probing: bool) {
        let stale = matches!(self.calls.at(slot).kind, CallKind::Stale { .. });
        if probing || stale {
            let until = now + self.options.probe_timeout;
            self.send_until(now, slot, store, probing, until);
        } else {
            self.send_since(now, slot, store, now);
        }
    }

    fn send_until(&mut self, now: Duration, slot: u32, store: u64, probing: bool, until: Duration) {
        self.move_to(slot, Place::Flying { to: store, probing });
        let id = self.calls.id(slot);
        let call = self.calls.at(slot);
        let lane = &self.lanes[call.lane as usize];
        let attempt = call.attempts.next();
        if attempt == 1 {
            call.first_sent_at = now;
        }
        call.sent_at = now;
        call.busy = None;
        self.call_timers.set(slot, call.deadline.min(until));
        let intent = match call.kind {
            CallKind::Opening => Intent::OpenSession {
                router: self.router,
            },
            CallKind::Query => Intent::Query,
            CallKind::Stale { max_age_ms } => Intent::StaleQuery { max_age_ms },
            CallKind::Command => {
                let session = call.session.expect("a command is sent with its sequence");
                if lane.session.id == Some(session) {
                    call.lowest = lane.session.window.lowest();
                } else {
                    // Its session was given up; the low mark of its last sending is still true.
                    call.lowest = call.lowest.max(1);
                }
                Intent::Command {
                    session,
                    sequence: call.sequence,
                    lowest: call.lowest,
                }
            }
        };
        let deadline_ms = match call.kind {
            CallKind::Opening => OPENING_DEADLINE_MS,
            _ => whole_millis(call.deadline.saturating_sub(now)),
        };
        self.counters.sendings += 1;
        if attempt == 2 && call.kind != CallKind::Opening {
            self.counters.retried += 1;
        }
        let request = Request {
            id: id.0,
            attempt,
            shard: lane.shard,
            intent,
            kind: call.entity.clone(),
            key: call.key.clone(),
            message: call.message.clone(),
            body: call.body.clone(),
            deadline_ms,
            trace: call.trace.clone(),
        };
        self.outputs
            .push_back(RouterOutput::Send { store, request });
    }

    /// A pause of `backoff_min`, doubled `doublings` times up to `backoff_max`, between half and the whole of it.
    pub(super) fn jittered(&mut self, doublings: u32) -> Duration {
        let whole = self
            .options
            .backoff_min
            .saturating_mul(2u32.pow(doublings.min(16)))
            .min(self.options.backoff_max);
        whole.mul_f64(self.chance.random_range(0.5..=1.0))
    }
}

/// Milliseconds, rounded up: a request on its way has at least one.
fn whole_millis(left: Duration) -> u64 {
    left.as_nanos()
        .div_ceil(1_000_000)
        .try_into()
        .unwrap_or(u64::MAX)
}
