//! memberlist's algorithm with the defaults of its LAN preset, behind the seam, for comparison.
//!
//! Here: [`Memberlist`]: its timers and its way into the seam. Beside it: what a message changes ([`merge`]), the probing
//! ([`probe`]), the queue of broadcasts ([`queue`]). Written from SWIM (2002), Lifeguard (2017) and the documented defaults and
//! rules of hashicorp/memberlist; compression, encryption, its DNS-free plain join and serf's additions (reconnection to the
//! dead) are left out. Lengths of packets follow from the named fields of its MessagePack messages, with names of eight bytes,
//! IPv4 addresses and no metadata.

mod merge;
mod probe;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Effect, Machine, Sight};
use merge::Suspicion;
use probe::Prober;
use queue::Queue;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const INDIRECT_CHECKS: usize = 3;
const SUSPICION_MULT: u32 = 4;
const SUSPICION_MAX_TIMEOUT_MULT: u32 = 6;
const RETRANSMIT_MULT: u32 = 4;
const GOSSIP_INTERVAL: Duration = Duration::from_millis(200);
const GOSSIP_NODES: usize = 3;
const GOSSIP_TO_THE_DEAD: Duration = Duration::from_secs(30);
const PUSH_PULL_INTERVAL: Duration = Duration::from_secs(30);
/// Above so many members the interval of full exchanges grows.
const PUSH_PULL_SCALE_FROM: f64 = 32.0;
const AWARENESS_MAX: u32 = 8;
const UDP_BYTES: usize = 1_400;

/// Version byte, checksum and the header of a compound packet.
const PACKET_BYTES: usize = 5 + 2;
/// Length of one part in a compound packet.
const PART_BYTES: usize = 2;
const PING_BYTES: usize = 78;
const INDIRECT_PING_BYTES: usize = 105;
const ACK_BYTES: usize = 22;
const NACK_BYTES: usize = 13;
const STATE_BYTES: usize = 77;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Alive,
    Suspect,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    state: State,
    incarnation: u64,
    changed: Duration,
}

/// One broadcast or one part of a packet about a node.
#[derive(Clone, Copy, Debug)]
enum Claim {
    Alive {
        node: usize,
        incarnation: u64,
    },
    Suspect {
        node: usize,
        incarnation: u64,
        from: usize,
    },
    Dead {
        node: usize,
        incarnation: u64,
        from: usize,
    },
}

impl Claim {
    fn bytes(self) -> usize {
        match self {
            Self::Alive { .. } => 71,
            Self::Suspect { .. } | Self::Dead { .. } => 47,
        }
    }

    fn node(self) -> usize {
        match self {
            Self::Alive { node, .. } | Self::Suspect { node, .. } | Self::Dead { node, .. } => node,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Gossip,
    Ping { sequence: u64, stream: bool },
    IndirectPing { sequence: u64, target: usize },
    Ack { sequence: u64 },
    Nack { sequence: u64 },
}

/// What goes over the wire.
#[derive(Debug)]
pub struct Message(Content);

#[derive(Debug)]
enum Content {
    Packet {
        body: Body,
        claims: Vec<Claim>,
    },
    /// A full exchange; `reply` = the second half of it.
    PushPull {
        states: Vec<(usize, Node)>,
        reply: bool,
    },
}

/// A node that runs it.
pub struct Memberlist {
    me: usize,
    rng: ChaCha8Rng,
    nodes: Vec<Option<Node>>,
    /// Order of the probes; the own node is in it.
    list: Vec<usize>,
    suspicions: BTreeMap<usize, Suspicion>,
    awareness: u32,
    queue: Queue,
    prober: Prober,
    gossip_at: Duration,
    push_pull_at: Duration,
    effects: VecDeque<Effect<Message>>,
}

impl Memberlist {
    fn known(&self) -> usize {
        self.list.len()
    }

    fn transmit_limit(&self) -> u32 {
        RETRANSMIT_MULT * ((self.known() + 1) as f64).log10().ceil() as u32
    }

    /// Sends `body` with as many broadcasts as fit.
    fn send(&mut self, to: usize, stream: bool, body: Body, mut claims: Vec<Claim>) {
        let own = match body {
            Body::Gossip => 0,
            Body::Ping { .. } => PING_BYTES,
            Body::IndirectPing { .. } => INDIRECT_PING_BYTES,
            Body::Ack { .. } => ACK_BYTES,
            Body::Nack { .. } => NACK_BYTES,
        };
        let said: usize = claims.iter().map(|claim| claim.bytes() + PART_BYTES).sum();
        let mut bytes = PACKET_BYTES + own + said;
        if !stream {
            let limit = self.transmit_limit();
            let room = UDP_BYTES.saturating_sub(bytes);
            for claim in self.queue.take(room, limit) {
                bytes += claim.bytes() + PART_BYTES;
                claims.push(claim);
            }
        }
        if matches!(body, Body::Gossip) && claims.is_empty() {
            return;
        }
        self.effects.push_back(Effect::Send {
            to,
            reliable: stream,
            packet: Message(Content::Packet { body, claims }),
            bytes,
        });
    }

    /// At most `count` random nodes that are `fit`; memberlist gives up after three times as many tries as there are nodes.
    fn random_nodes(
        &mut self,
        count: usize,
        fit: impl Fn(&Self, usize, Node) -> bool,
    ) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(count);
        for _ in 0..3 * self.list.len() {
            let node = self.list[self.rng.random_range(0..self.list.len())];
            let fits = self.nodes[node].is_some_and(|held| fit(self, node, held));
            if fits && !chosen.contains(&node) {
                chosen.push(node);
                if chosen.len() == count {
                    break;
                }
            }
        }
        chosen
    }

    fn gossip(&mut self, now: Duration) {
        self.gossip_at += GOSSIP_INTERVAL;
        if self.gossip_at <= now {
            self.gossip_at = now + GOSSIP_INTERVAL; // a ticker drops what it missed
        }
        if self.queue.is_empty() {
            return;
        }
        let heard = |machine: &Self, node: usize, held: Node| {
            node != machine.me
                && (held.state != State::Dead || now - held.changed <= GOSSIP_TO_THE_DEAD)
        };
        for node in self.random_nodes(GOSSIP_NODES, heard) {
            self.send(node, false, Body::Gossip, Vec::new());
        }
    }

    fn states(&self) -> Vec<(usize, Node)> {
        self.list
            .iter()
            .filter_map(|&node| Some((node, self.nodes[node]?)))
            .collect()
    }

    fn send_states(&mut self, to: usize, reply: bool) {
        let states = self.states();
        self.effects.push_back(Effect::Send {
            to,
            reliable: true,
            bytes: PACKET_BYTES + states.len() * STATE_BYTES,
            packet: Message(Content::PushPull { states, reply }),
        });
    }

    fn push_pull(&mut self, now: Duration) {
        self.push_pull_at = now + push_pull_interval(self.known());
        let alive = |machine: &Self, node: usize, held: Node| {
            node != machine.me && held.state == State::Alive
        };
        for node in self.random_nodes(1, alive) {
            self.send_states(node, false);
        }
    }
}

fn push_pull_interval(known: usize) -> Duration {
    let doublings = ((known as f64).log2() - PUSH_PULL_SCALE_FROM.log2()).ceil();
    PUSH_PULL_INTERVAL * (1 + doublings.max(0.0) as u32)
}

impl Machine for Memberlist {
    type Packet = Message;

    fn new(me: usize, size: usize, seed: u64, now: Duration) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut stagger = |interval: Duration| now + interval.mul_f64(rng.random());
        let (probe_at, gossip_at) = (stagger(PROBE_INTERVAL), stagger(GOSSIP_INTERVAL));
        let push_pull_at = stagger(PUSH_PULL_INTERVAL) + PUSH_PULL_INTERVAL;
        let mut machine = Self {
            me,
            rng,
            nodes: vec![None; size],
            list: Vec::new(),
            suspicions: BTreeMap::new(),
            awareness: 0,
            queue: Queue::default(),
            prober: Prober::new(probe_at),
            gossip_at,
            push_pull_at,
            effects: VecDeque::new(),
        };
        machine.alive(now, me, 1);
        machine
    }

    fn acquainted(me: usize, size: usize, seed: u64, now: Duration) -> Self {
        let mut machine = Self::new(me, size, seed, now);
        for node in 0..size {
            machine.nodes[node] = Some(Node {
                state: State::Alive,
                incarnation: 1,
                changed: now,
            });
        }
        machine.list = (0..size).collect();
        let Self { list, rng, .. } = &mut machine;
        list.shuffle(rng);
        machine.push_pull_at = now + push_pull_interval(size).mul_f64(rng.random());
        machine.queue = Queue::default();
        machine
    }

    fn join(&mut self, seed: &mut Self, now: Duration) -> usize {
        let (mine, theirs) = (self.states(), seed.states());
        let bytes = 2 * PACKET_BYTES + (mine.len() + theirs.len()) * STATE_BYTES;
        seed.merge_states(now, &mine);
        self.merge_states(now, &theirs);
        bytes
    }

    fn wake_at(&self) -> Duration {
        let suspicion = self
            .suspicions
            .values()
            .map(|suspicion| suspicion.deadline)
            .min();
        self.prober
            .wake_at()
            .min(self.gossip_at)
            .min(self.push_pull_at)
            .min(suspicion.unwrap_or(Duration::MAX))
    }

    fn tick(&mut self, now: Duration) {
        self.expire(now);
        self.drive_probes(now);
        if self.gossip_at <= now {
            self.gossip(now);
        }
        if self.push_pull_at <= now {
            self.push_pull(now);
        }
    }

    fn receive(&mut self, now: Duration, from: usize, Message(content): Message) {
        match content {
            Content::PushPull { states, reply } => {
                if !reply {
                    self.send_states(from, true);
                }
                self.merge_states(now, &states);
            }
            Content::Packet { body, claims } => {
                self.hear(now, from, body);
                for claim in claims {
                    self.merge(now, claim);
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Effect<Message>> {
        self.effects.pop_front()
    }

    fn sight(&self, node: usize) -> Sight {
        match self.nodes[node] {
            None => Sight::Unknown,
            Some(held) if held.state == State::Dead => Sight::Gone,
            Some(_) => Sight::Present,
        }
    }
}
