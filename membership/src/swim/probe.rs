//! Asking one member after the other whether it is there.
//!
//! Here: the round-robin of direct probes, helpers and the second leg on the reliable lane, nacks, and what a failed probe is
//! worth. Not here: how long a suspicion lasts ([`super::suspicion`]).
//! Source: SWIM 3.1 and 4.3 (round-robin); Lifeguard 3 (nacks); hazards M33 (both lanes probe), M34 (an unreachable helper is no
//! evidence), M36 (a send error is a failed probe).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

use super::{Counters, Lane, Swim};
use crate::accusation::{Accusation, Verdict};
use crate::ids::StoreId;
use crate::packet::Body;
use crate::record::MemberState;

/// Probes that may jump the queue; more suspects than this come in their turn.
pub(super) const HURRIED_MAX: usize = 64;
/// Probes made for others at one time; more are not answered, which the asker takes as an unreachable helper.
pub(super) const RELAYS_MAX: usize = 256;
/// About so many members probe a new suspect at once: two make the suspicion short, or its answer ends it.
const CHECKERS: f64 = 6.0;

/// Whom to probe next, and what is under way.
#[derive(Debug)]
pub(crate) struct Prober {
    /// The rest of this round, last first.
    round: Vec<StoreId>,
    /// Before the round: suspects, and targets whose failure was not conclusive.
    hurried: VecDeque<StoreId>,
    current: Option<Probe>,
    next_at: Duration,
    sequence: u64,
    relays: BTreeMap<u64, Relay>,
    /// Its last probe failed while no helper was heard.
    doubted: Option<StoreId>,
    reconnect_at: Duration,
    /// The dead member called last.
    reconnected: StoreId,
}

#[derive(Debug)]
struct Probe {
    target: StoreId,
    sequence: u64,
    asks_at: Duration,
    ends_at: Duration,
    asks_helpers: bool,
    helpers: BTreeSet<StoreId>,
    nacks: BTreeSet<StoreId>,
    send_failed: bool,
}

/// A probe for somebody else.
#[derive(Debug)]
struct Relay {
    origin: StoreId,
    origin_sequence: u64,
    target: StoreId,
    nack_at: Duration,
}

impl Prober {
    pub(super) fn new(first: Duration) -> Self {
        Self {
            round: Vec::new(),
            hurried: VecDeque::new(),
            current: None,
            next_at: first,
            sequence: 0,
            relays: BTreeMap::new(),
            doubted: None,
            reconnect_at: first,
            reconnected: StoreId::default(),
        }
    }

    /// Probe it before the others.
    pub(super) fn hurry(&mut self, store: StoreId) {
        if self.hurried.len() < HURRIED_MAX && !self.hurried.contains(&store) {
            self.hurried.push_back(store);
        }
    }

    /// What is under way counts for nothing; its target is asked again.
    pub(super) fn start_over(&mut self, now: Duration) {
        if let Some(probe) = self.current.take() {
            self.hurried.retain(|&store| store != probe.target);
            self.hurried.push_front(probe.target);
        }
        self.relays.clear();
        self.next_at = now;
    }

    /// SWIM 4.3: a new member enters the running round at a random place. Whoever stood there is probed next: a join costs the
    /// same at any size.
    pub(super) fn enter(&mut self, store: StoreId, rng: &mut impl Rng) {
        self.round.push(store);
        let place = rng.random_range(0..self.round.len());
        let last = self.round.len() - 1;
        self.round.swap(place, last);
    }

    pub(super) fn relayed(&self) -> usize {
        self.relays.len()
    }

    pub(super) fn hurried(&self) -> usize {
        self.hurried.len()
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn wake_at(&self) -> Duration {
        let probe = match &self.current {
            Some(probe) if probe.asks_helpers => probe.ends_at,
            Some(probe) => probe.asks_at.min(probe.ends_at),
            None => self.next_at,
        };
        // Equal timeouts: the oldest is due first.
        let relay = self.relays.first_key_value();
        relay.map_or(probe, |(_, relay)| relay.nack_at.min(probe))
    }
}

impl Swim {
    pub(super) fn drive_probes(&mut self, now: Duration) {
        if let Some(probe) = &mut self.prober.current
            && !probe.asks_helpers
            && probe.asks_at <= now
        {
            probe.asks_helpers = true;
            self.ask_helpers();
        }
        if self
            .prober
            .current
            .as_ref()
            .is_some_and(|probe| probe.ends_at <= now)
        {
            self.probe_failed(now);
        }
        if self.prober.current.is_none() && self.prober.next_at <= now {
            self.start_probe(now);
        }
        self.send_nacks(now);
    }

    fn start_probe(&mut self, now: Duration) {
        let interval = self.health.scale(self.options.probe_interval);
        self.prober.next_at = now + interval;
        let Some(target) = self.next_target() else {
            return;
        };
        Counters::add(&mut self.counters.probes);
        let sequence = self.prober.next_sequence();
        self.prober.current = Some(Probe {
            target,
            sequence,
            asks_at: now + self.health.scale(self.options.probe_timeout),
            ends_at: now + interval,
            asks_helpers: false,
            helpers: BTreeSet::new(),
            nacks: BTreeSet::new(),
            send_failed: false,
        });
        self.send(
            target,
            Lane::Datagram,
            Body::Ping {
                sequence,
                reliable: false,
            },
        );
    }

    fn next_target(&mut self) -> Option<StoreId> {
        while let Some(store) = self.prober.hurried.pop_front() {
            if self.is_peer(store) {
                return Some(store);
            }
        }
        for fresh in [false, true] {
            if fresh {
                self.prober.round = self.peers().collect();
                self.prober.round.shuffle(&mut self.rng);
            }
            while let Some(store) = self.prober.round.pop() {
                if self.is_peer(store) {
                    return Some(store);
                }
            }
        }
        None
    }

    fn ask_helpers(&mut self) {
        let Some(Probe {
            target, sequence, ..
        }) = self.prober.current
        else {
            return;
        };
        let helpers = self.choose_peers(self.options.helpers, |member| {
            member.store() != target && member.state() == MemberState::Alive
        });
        for &helper in &helpers {
            self.send(
                helper,
                Lane::Datagram,
                Body::PingRequest { sequence, target },
            );
        }
        self.send(
            target,
            Lane::Stream,
            Body::Ping {
                sequence,
                reliable: true,
            },
        );
        if let Some(probe) = &mut self.prober.current {
            probe.helpers = helpers.into_iter().collect();
        }
    }

    /// The interval is over and nothing came.
    fn probe_failed(&mut self, now: Duration) {
        let Some(probe) = self.prober.current.take() else {
            return;
        };
        Counters::add(&mut self.counters.probe_failures);
        let silent = probe.helpers.len() - probe.nacks.len();
        self.health
            .raise(if probe.helpers.is_empty() { 1 } else { silent });
        let Some(member) = self
            .members
            .get(probe.target)
            .filter(|member| member.is_present())
        else {
            return;
        };
        let position = member.position();
        let heard_nobody = !probe.helpers.is_empty() && probe.nacks.is_empty();
        if heard_nobody && self.prober.doubted != Some(probe.target) {
            // M34: silence of all is more likely the own fault; ask once more before accusing.
            Counters::add(&mut self.counters.doubts);
            self.prober.doubted = Some(probe.target);
            self.prober.hurried.push_front(probe.target);
            return;
        }
        self.prober.doubted = None;
        if self.wellbeing.abstains() {
            Counters::add(&mut self.counters.abstentions);
            return;
        }
        let accusation = Accusation {
            subject: probe.target,
            generation: position.generation,
            incarnation: position.incarnation,
            verdict: Verdict::Suspect,
            accuser: self.me,
        };
        self.merge_accusation(now, &accusation);
    }

    /// Somebody suspects it: a few look at once.
    pub(super) fn check_soon(&mut self, store: StoreId) {
        let chance = (CHECKERS / self.members.present().max(1) as f64).min(1.0);
        if self.rng.random_bool(chance) {
            self.prober.hurry(store);
        }
    }

    pub(super) fn help(
        &mut self,
        now: Duration,
        origin: StoreId,
        origin_sequence: u64,
        target: StoreId,
    ) {
        if self.prober.relays.len() >= RELAYS_MAX
            || target == self.me
            || self.members.get(target).is_none()
        {
            return; // no nack: this node did not try
        }
        let sequence = self.prober.next_sequence();
        let nack_at = now + self.options.probe_timeout;
        self.prober.relays.insert(
            sequence,
            Relay {
                origin,
                origin_sequence,
                target,
                nack_at,
            },
        );
        self.send(
            target,
            Lane::Datagram,
            Body::Ping {
                sequence,
                reliable: false,
            },
        );
    }

    fn send_nacks(&mut self, now: Duration) {
        while let Some(entry) = self
            .prober
            .relays
            .first_entry()
            .filter(|entry| entry.get().nack_at <= now)
        {
            // Equal timeouts: the oldest is due first.
            let Relay {
                origin,
                origin_sequence: sequence,
                target,
                ..
            } = entry.remove();
            self.send(origin, Lane::Datagram, Body::Nack { sequence, target });
        }
    }

    pub(super) fn acked(&mut self, from: StoreId, sequence: u64, target: StoreId) {
        if let Some(relay) = self.prober.relays.get(&sequence) {
            if from == relay.target && from == target {
                let (origin, origin_sequence) = (relay.origin, relay.origin_sequence);
                self.prober.relays.remove(&sequence);
                self.send(
                    origin,
                    Lane::Datagram,
                    Body::Ack {
                        sequence: origin_sequence,
                        target,
                    },
                );
            }
            return;
        }
        let answered = |probe: &Probe| {
            probe.sequence == sequence
                && probe.target == target
                && (from == target || probe.helpers.contains(&from))
        };
        if self.prober.current.as_ref().is_some_and(answered) {
            self.prober.current = None;
            self.health.lower();
            if self.prober.doubted == Some(target) {
                self.prober.doubted = None;
            }
        }
    }

    pub(super) fn nacked(&mut self, from: StoreId, sequence: u64, target: StoreId) {
        if let Some(probe) = &mut self.prober.current
            && probe.sequence == sequence
            && probe.target == target
            && probe.helpers.contains(&from)
        {
            probe.nacks.insert(from);
        }
    }

    /// The caller could not send to `to` at all. A failed probe, and more likely the fault of this node.
    pub fn send_failed(&mut self, now: Duration, to: StoreId) {
        Counters::add(&mut self.counters.send_failures);
        if let Some(probe) = &mut self.prober.current
            && probe.target == to
            && !probe.send_failed
        {
            probe.send_failed = true;
            probe.asks_at = probe.asks_at.min(now);
            self.health.raise(1);
        }
    }

    /// The dead are called for ever, one per interval, so that a partition of any length heals (hazard M32).
    pub(super) fn reconnect(&mut self, now: Duration) {
        if self.prober.reconnect_at > now {
            return;
        }
        self.prober.reconnect_at = now + self.options.probe_interval * 4;
        if let Some(store) = self.members.dead_after(self.prober.reconnected) {
            self.prober.reconnected = store;
            let sequence = self.prober.next_sequence();
            self.send(
                store,
                Lane::Datagram,
                Body::Ping {
                    sequence,
                    reliable: false,
                },
            );
        }
    }

    pub(super) fn reconnect_at(&self) -> Duration {
        self.prober.reconnect_at
    }
}
