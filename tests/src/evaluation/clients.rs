//! Clients: routers with the calls that wait behind them, and what they wish next.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use synod::router::{CallId, RouterCore};

use super::account::Wish;

/// The only account that is ever closed: with the account go the ids that it recorded.
pub(super) const CLOSED_KEY: usize = 0;

/// A process that asks.
pub(super) struct Router {
    /// The real core.
    pub(super) core: RouterCore,
    /// Which client waits for which call, and the operation's id.
    pub(super) calls: BTreeMap<CallId, (usize, u64)>,
    /// When it was asked to wake.
    pub(super) wake: Option<Duration>,
    /// Nodes that got a request of a call while they led, for the coverage.
    pub(super) reached: BTreeMap<u64, Vec<usize>>,
    /// Nothing happens here before that time: a stopped process.
    pub(super) stopped_until: Duration,
}

/// Somebody who does one thing after the other.
pub(super) struct Client {
    /// Its router.
    pub(super) router: usize,
    /// The keys that it uses.
    pub(super) keys: Vec<usize>,
    /// Longest pause between two calls, in milliseconds.
    pub(super) pause_ms: u64,
    /// How many times it has asked.
    pub(super) asked: u64,
}

impl Client {
    /// What it wants next, and of whom.
    pub(super) fn wish(&mut self, chance: &mut ChaCha8Rng) -> (usize, Wish) {
        self.asked += 1;
        let key = *self.keys.choose(chance).expect("a client has keys");
        let wish = match chance.random_range(0..100) {
            0..30 => Wish::Add {
                amount: chance.random_range(1..1_000),
                wait_ms: 0,
            },
            30..37 => Wish::Add {
                amount: chance.random_range(1..1_000),
                wait_ms: wait(chance),
            },
            37..55 => Wish::Take {
                amount: chance.random_range(1..1_500),
            },
            55..63 => Wish::Swap {
                value: chance.random_range(0..3_000),
            },
            63..68 => Wish::Touch,
            68..74 => Wish::Spoil { wait_ms: 0 },
            74..76 => Wish::Spoil {
                wait_ms: wait(chance),
            },
            76..78 if key == CLOSED_KEY => Wish::Close,
            76..78 => Wish::Touch,
            78..97 => Wish::Balance { wait_ms: 0 },
            _ => Wish::Balance {
                wait_ms: chance.random_range(1..20),
            },
        };
        (key, wish)
    }
}

/// Most handlers wait a little, some long enough to see another leadership.
fn wait(chance: &mut ChaCha8Rng) -> u64 {
    if chance.random_range(0..10) == 0 {
        chance.random_range(100..900)
    } else {
        chance.random_range(1..30)
    }
}
