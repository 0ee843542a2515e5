//! Which stores a router has heard, and which it passes over for a while.
//!
//! Here: [`Peers`]. A store that fell silent or lost its connection is avoided for a growing while, or until it is heard
//! again: otherwise each replica that still believes in a dead leader would send every caller back to it.
//! Avoiding is a preference, never a verdict: when nobody else is left, an avoided store is asked all the same.

use std::time::Duration;

/// Doublings of the time that a store is avoided. A restarted store may lead again within a second or two.
const AVOID_DOUBLINGS_MAX: u32 = 1;

#[derive(Debug)]
struct Peer {
    store: u64,
    heard_at: Option<Duration>,
    avoid_until: Duration,
    /// Times it was avoided since it was last heard.
    strikes: u32,
}

/// What is known of each store's line. A handful of stores: a scan is faster than a tree.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Peer>);

impl Peers {
    fn of(&mut self, store: u64) -> &mut Peer {
        let at = match self.0.iter().position(|peer| peer.store == store) {
            Some(at) => at,
            None => {
                self.0.push(Peer {
                    store,
                    heard_at: None,
                    avoid_until: Duration::ZERO,
                    strikes: 0,
                });
                self.0.len() - 1
            }
        };
        &mut self.0[at]
    }

    /// A reply of the store arrived.
    pub(super) fn heard(&mut self, now: Duration, store: u64) {
        let peer = self.of(store);
        peer.heard_at = Some(now);
        peer.avoid_until = Duration::ZERO;
        peer.strikes = 0;
    }

    /// There is news that the store is reachable, though it has not answered yet.
    pub(super) fn trust(&mut self, store: u64) {
        let peer = self.of(store);
        peer.avoid_until = Duration::ZERO;
        peer.strikes = 0;
    }

    /// Passes the store over for `base`, doubled with each time in a row.
    pub(super) fn avoid(&mut self, now: Duration, store: u64, base: Duration) {
        let peer = self.of(store);
        if now < peer.avoid_until {
            return; // one loss seen by many calls counts once
        }
        peer.avoid_until = now + base * 2u32.pow(peer.strikes.min(AVOID_DOUBLINGS_MAX));
        peer.strikes += 1;
    }

    /// Whether the store is passed over now.
    pub(super) fn avoided(&self, now: Duration, store: u64) -> bool {
        self.0
            .iter()
            .any(|peer| peer.store == store && now < peer.avoid_until)
    }

    /// Whether nothing was heard of the store since it was last avoided: others' word for it counts nothing, though it
    /// may be asked in its turn.
    pub(super) fn doubted(&self, store: u64) -> bool {
        self.0
            .iter()
            .any(|peer| peer.store == store && peer.strikes > 0)
    }

    /// Whether anything was heard of the store after `since`.
    pub(super) fn heard_since(&self, store: u64, since: Duration) -> bool {
        self.0
            .iter()
            .any(|peer| peer.store == store && peer.heard_at.is_some_and(|at| at > since))
    }

    /// Forgets stores that `keep` does not name, so that the list follows the cluster.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.0.retain(|peer| keep(peer.store));
    }
}
