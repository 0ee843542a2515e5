//! memberlist's probes: round-robin, indirect probes, the fallback on TCP, nacks, and what a failure costs the own awareness.
//!
//! Here: [`Prober`] and the handling of pings and their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::seq::SliceRandom;

use super::{
    Body, Claim, GOSSIP_TO_THE_DEAD, INDIRECT_CHECKS, Memberlist, Node, PROBE_INTERVAL,
    PROBE_TIMEOUT, State,
};

#[derive(Debug)]
pub(super) struct Prober {
    ticks_at: Duration,
    /// Place in the list.
    next: usize,
    sequence: u64,
    current: Option<Probe>,
    relays: BTreeMap<u64, Relay>,
}

#[derive(Debug)]
struct Probe {
    target: usize,
    sequence: u64,
    incarnation: u64,
    asks_at: Duration,
    ends_at: Duration,
    asked: bool,
    helpers: usize,
    nacks: BTreeSet<usize>,
}

#[derive(Debug)]
struct Relay {
    origin: usize,
    origin_sequence: u64,
    nack_at: Duration,
}

impl Prober {
    pub(super) fn new(first: Duration) -> Self {
        Self {
            ticks_at: first,
            next: 0,
            sequence: 0,
            current: None,
            relays: BTreeMap::new(),
        }
    }

    pub(super) fn wake_at(&self) -> Duration {
        let probe = match &self.current {
            Some(probe) if probe.asked => probe.ends_at,
            Some(probe) => probe.asks_at.min(probe.ends_at),
            None => self.ticks_at,
        };
        let relay = self.relays.first_key_value();
        relay.map_or(probe, |(_, relay)| relay.nack_at.min(probe))
    }
}

impl Memberlist {
    pub(super) fn drive_probes(&mut self, now: Duration) {
        if let Some(probe) = &mut self.prober.current
            && !probe.asked
            && probe.asks_at <= now
        {
            probe.asked = true;
            let (target, sequence) = (probe.target, probe.sequence);
            self.ask_helpers(target, sequence);
        }
        if self
            .prober
            .current
            .as_ref()
            .is_some_and(|probe| probe.ends_at <= now)
        {
            self.probe_failed(now);
        }
        if self.prober.current.is_none() && self.prober.ticks_at <= now {
            self.prober.ticks_at += PROBE_INTERVAL;
            if self.prober.ticks_at <= now {
                self.prober.ticks_at = now + PROBE_INTERVAL; // a ticker drops what it missed
            }
            self.start_probe(now);
        }
        while let Some(entry) = self
            .prober
            .relays
            .first_entry()
            .filter(|entry| entry.get().nack_at <= now)
        {
            let relay = entry.remove();
            let sequence = relay.origin_sequence;
            self.send(relay.origin, false, Body::Nack { sequence }, Vec::new());
        }
    }

    fn start_probe(&mut self, now: Duration) {
        for _ in 0..=self.list.len() {
            if self.prober.next >= self.list.len() {
                self.reset(now);
            }
            let Some(&target) = self.list.get(self.prober.next) else {
                return;
            };
            self.prober.next += 1;
            let Some(held) = self.nodes[target].filter(|held| held.state != State::Dead) else {
                continue;
            };
            if target == self.me {
                continue;
            }
            self.prober.sequence += 1;
            let sequence = self.prober.sequence;
            let interval = PROBE_INTERVAL * (1 + self.awareness);
            self.prober.current = Some(Probe {
                target,
                sequence,
                incarnation: held.incarnation,
                asks_at: now + PROBE_TIMEOUT,
                ends_at: now + interval,
                asked: false,
                helpers: 0,
                nacks: BTreeSet::new(),
            });
            // The buddy: a suspect is told so on the ping itself.
            let told = (held.state == State::Suspect).then_some(Claim::Suspect {
                node: target,
                incarnation: held.incarnation,
                from: self.me,
            });
            let stream = false;
            self.send(
                target,
                false,
                Body::Ping { sequence, stream },
                told.into_iter().collect(),
            );
            return;
        }
    }

    /// The end of a round: the long dead are forgotten, the rest is shuffled.
    fn reset(&mut self, now: Duration) {
        let Self { list, nodes, .. } = self;
        list.retain(|&node| {
            let forgotten = nodes[node].is_none_or(|held| {
                held.state == State::Dead && now - held.changed > GOSSIP_TO_THE_DEAD
            });
            if forgotten {
                nodes[node] = None;
            }
            !forgotten
        });
        list.shuffle(&mut self.rng);
        self.prober.next = 0;
    }

    fn ask_helpers(&mut self, target: usize, sequence: u64) {
        let fit = |machine: &Self, node: usize, held: Node| {
            node != machine.me && node != target && held.state == State::Alive
        };
        let helpers = self.random_nodes(INDIRECT_CHECKS, fit);
        if let Some(probe) = &mut self.prober.current {
            probe.helpers = helpers.len();
        }
        for helper in helpers {
            let body = Body::IndirectPing { sequence, target };
            self.send(helper, false, body, Vec::new());
        }
        let stream = true;
        self.send(target, true, Body::Ping { sequence, stream }, Vec::new());
    }

    fn probe_failed(&mut self, now: Duration) {
        let Some(probe) = self.prober.current.take() else {
            return;
        };
        let missed = if probe.helpers > 0 {
            probe.helpers - probe.nacks.len().min(probe.helpers)
        } else {
            1
        };
        self.aware(missed as i64);
        self.suspect(now, probe.target, probe.incarnation, self.me);
    }

    pub(super) fn hear(&mut self, now: Duration, from: usize, body: Body) {
        match body {
            Body::Gossip => {}
            Body::Ping { sequence, stream } => {
                self.send(from, stream, Body::Ack { sequence }, Vec::new());
            }
            Body::IndirectPing { sequence, target } => {
                self.prober.sequence += 1;
                let own = self.prober.sequence;
                let relay = Relay {
                    origin: from,
                    origin_sequence: sequence,
                    nack_at: now + PROBE_TIMEOUT,
                };
                self.prober.relays.insert(own, relay);
                let body = Body::Ping {
                    sequence: own,
                    stream: false,
                };
                self.send(target, false, body, Vec::new());
            }
            Body::Ack { sequence } => self.acked(sequence),
            Body::Nack { sequence } => {
                if let Some(probe) = &mut self.prober.current
                    && probe.sequence == sequence
                {
                    probe.nacks.insert(from);
                }
            }
        }
    }

    fn acked(&mut self, sequence: u64) {
        if let Some(relay) = self.prober.relays.remove(&sequence) {
            let sequence = relay.origin_sequence;
            self.send(relay.origin, false, Body::Ack { sequence }, Vec::new());
            return;
        }
        if self
            .prober
            .current
            .as_ref()
            .is_some_and(|probe| probe.sequence == sequence)
        {
            self.prober.current = None;
            self.aware(-1);
        }
    }
}
