//! The ways between nodes and from routers to nodes: which are open, how long they take, what gets lost.
//!
//! Raft's messages may be lost, doubled and overtaken. Requests and replies may be lost, late and overtaken, but are never
//! doubled: streams of QUIC do not.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Somebody with an address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// A node.
    Node(usize),
    /// A router of clients.
    Router(usize),
}

/// The state of all ways.
pub(super) struct Network {
    nodes: usize,
    /// `cut[a][b]`: nothing gets from a to b. Routers come after the nodes.
    cut: Vec<Vec<bool>>,
    /// Loss of Raft's messages, per thousand.
    pub(super) loss: u32,
    /// Loss of requests and replies, per thousand.
    pub(super) client_loss: u32,
    /// Doubling of Raft's messages, per thousand.
    pub(super) doubling: u32,
    /// Requests and replies that take far longer than the others, per thousand.
    stragglers: u32,
    /// Longest ordinary delay in microseconds.
    pub(super) delay_us: u64,
}

impl Network {
    /// All open.
    pub(super) fn new(nodes: usize, routers: usize, chance: &mut ChaCha8Rng) -> Self {
        let ends = nodes + routers;
        Self {
            nodes,
            cut: vec![vec![false; ends]; ends],
            loss: chance.random_range(0..40),
            client_loss: chance.random_range(5..30),
            doubling: chance.random_range(0..30),
            stragglers: chance.random_range(2..50),
            delay_us: chance.random_range(300..3_000),
        }
    }

    fn number(&self, end: End) -> usize {
        match end {
            End::Node(node) => node,
            End::Router(router) => self.nodes + router,
        }
    }

    /// Cuts or opens one way, in one direction.
    pub(super) fn set_cut(&mut self, from: End, to: End, cut: bool) {
        let (from, to) = (self.number(from), self.number(to));
        self.cut[from][to] = cut;
    }

    /// Opens everything.
    pub(super) fn heal(&mut self) {
        for row in &mut self.cut {
            row.fill(false);
        }
        self.loss = 0;
        self.client_loss = 0;
        self.doubling = 0;
        self.stragglers = 0;
    }

    /// Delays of each copy that arrives; none when the message is lost.
    pub(super) fn send(&self, from: End, to: End, chance: &mut ChaCha8Rng) -> Vec<Duration> {
        let client = matches!(from, End::Router(_)) || matches!(to, End::Router(_));
        let loss = if client { self.client_loss } else { self.loss };
        if self.cut[self.number(from)][self.number(to)] || chance.random_range(0..1_000) < loss {
            return Vec::new();
        }
        let mut delays = vec![self.delay(client, chance)];
        if !client && chance.random_range(0..1_000) < self.doubling {
            delays.push(self.delay(client, chance));
        }
        delays
    }

    fn delay(&self, client: bool, chance: &mut ChaCha8Rng) -> Duration {
        let ordinary = chance.random_range(100..=self.delay_us);
        // Stragglers: requests that arrive after the router has long gone on.
        let late = match chance.random_range(0..1_000u32) {
            _ if self.stragglers == 0 => 0,
            few if client && few < self.stragglers => chance.random_range(50_000..900_000),
            0..4 => chance.random_range(10_000..200_000),
            _ => 0,
        };
        Duration::from_micros(ordinary + late)
    }
}
