//! One process of the simulated cluster: a machine with its store, clock, share of the log, and keys.
//!
//! Here: [`Process`] and the simulated signatures. Called by [`super::world`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use synod_membership::{Signer, StoreId, Swim, Verifier};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::invariants::Observer;

/// Bytes of a real signature (Ed25519).
const SIGNATURE_BYTES: usize = 64;

/// Deterministic, and as long as a real one. Whoever knows the store id could forge it; nobody in the simulation does, unless
/// told to.
pub(super) struct Keys(pub(super) StoreId);

impl Signer for Keys {
    fn sign(&self, bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(
            &xxh3_64_with_seed(bytes, self.0.get())
                .to_le_bytes()
                .repeat(SIGNATURE_BYTES / 8),
        )
    }
}

/// Knows the keys of all stores.
pub(super) struct AllKeys;

impl Verifier for AllKeys {
    fn verify(&self, store: StoreId, bytes: &[u8], signature: &[u8]) -> bool {
        Keys(store).sign(bytes) == signature
    }
}

/// Believes everything.
pub(super) struct NoKeys;

impl Verifier for NoKeys {
    fn verify(&self, _: StoreId, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A packet that arrived.
pub(super) struct Arrival {
    pub(super) from: usize,
    pub(super) bytes: Bytes,
}

pub(super) struct Process {
    pub(super) store: StoreId,
    pub(super) generation: u64,
    pub(super) address: SocketAddr,
    pub(super) swim: Swim,
    pub(super) up: bool,
    /// A copied or restored disk: not the process that the store belongs to.
    pub(super) is_copy: bool,
    /// Knows somebody, or was alone from the start.
    pub(super) joined: bool,
    pub(super) leaving: bool,
    /// Entries of the log that it applied.
    pub(super) applied: usize,
    pub(super) admitted: BTreeSet<StoreId>,
    pub(super) paused_until: Option<Duration>,
    pub(super) backlog: Vec<Arrival>,
    pub(super) observer: Observer,
    /// What the names of the seeds stood for when they were resolved first.
    pub(super) seeds_once: Option<Vec<usize>>,
    /// In a large world: whose turn it is to be looked at.
    pub(super) looked: u64,
    pub(super) clock: WrongClock,
    /// The wake-up that counts, in world time.
    pub(super) wakes_at: Duration,
}

/// A process's clock: an origin of its own, a rate that is not quite right, and jumps ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongClock {
    origin: Duration,
    /// Its seconds per second of the world.
    rate: f64,
}

impl WrongClock {
    /// `rate` is about 1.
    pub(super) fn new(origin: Duration, rate: f64) -> Self {
        Self { origin, rate }
    }

    /// What it shows when it is `world` in the world.
    pub(super) fn shows(&self, world: Duration) -> Duration {
        self.origin + world.mul_f64(self.rate)
    }

    /// When it shows `time`.
    pub(super) fn world(&self, time: Duration) -> Duration {
        time.saturating_sub(self.origin).div_f64(self.rate)
    }

    pub(super) fn jump(&mut self, ahead: Duration) {
        self.origin += ahead;
    }
}
