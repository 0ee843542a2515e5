//! Everything known of one other process: its queues, where it may be reached, the connections to it.
//!
//! A store has one party for as long as this process runs; a client or a node without a store has one per connection.
//! Here: the data, and the rule that picks the connection to keep. Not here: dialling (`dial`), streams (`link`).

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Lane, hello::Purpose, link::Link, outbox::Outbox};

/// What the smallest path of IPv6 leaves for a datagram's payload, with room for QUIC's own bytes.
pub(super) const DATAGRAM_BYTES_AT_LEAST: usize = 1_100;
/// Two processes that dial each other at once have both connections open within this time. A second connection that
/// comes later says that its other end has lost the first.
pub(super) const CROSS_WINDOW: Duration = Duration::from_secs(1);
/// How long somebody's wish to send keeps dialling alive.
const DEMAND: Duration = Duration::from_secs(2);

/// One other process. What any thread may ask without a lock is atomic.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) store: Option<u64>,
    pub(super) outbox: Outbox,
    pub(super) addresses: Mutex<Vec<SocketAddr>>,
    pub(super) has_address: AtomicBool,
    /// A main connection is open.
    pub(super) connected: AtomicBool,
    /// A task dials for the main connection.
    pub(super) dialling: AtomicBool,
    /// The start count of the process connected now or last.
    pub(super) generation: AtomicU64,
    pub(super) max_datagram: AtomicUsize,
    /// Wakes the task that dials: the address or the connections changed.
    pub(super) poke: Notify,
    pub(super) state: Mutex<PartyState>,
    epoch: Instant,
    /// Since when dialling has failed, in ms after `epoch`, plus 1; 0 = it has not.
    unreachable: AtomicU64,
    /// When somebody last wanted to send without a connection, likewise.
    wanted: AtomicU64,
}

/// Touched on the transport's thread only.
#[derive(Debug, Default)]
pub(super) struct PartyState {
    /// By purpose: main, bulk.
    pub(super) links: [Option<Arc<Link>>; 2],
    pub(super) dialling_bulk: bool,
    /// The main connection has been silent for suspiciously long.
    pub(super) suspect: bool,
    /// What the last refusal said, to log a change of it only.
    pub(super) last_refusal: String,
}

impl Party {
    pub(super) fn new(store: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            store,
            outbox: Outbox::default(),
            addresses: Mutex::default(),
            has_address: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            dialling: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            max_datagram: AtomicUsize::new(DATAGRAM_BYTES_AT_LEAST),
            poke: Notify::new(),
            state: Mutex::default(),
            epoch: Instant::now(),
            unreachable: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// How long dialling has failed; `None` while it is not known to fail.
    pub(super) fn unreachable_for(&self) -> Option<Duration> {
        match self.unreachable.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(self.now().saturating_sub(since))),
        }
    }

    /// Notes that dialling has failed since `began`.
    pub(super) fn set_unreachable(&self, began: Instant) {
        let ago = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let since = self.now().saturating_sub(ago).max(1);
        // The first to say so stays right until the next connection.
        let _ = self
            .unreachable
            .compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn set_reachable(&self) {
        self.unreachable.store(0, Ordering::Relaxed);
    }

    /// Whether a frame waits for the bulk connection.
    pub(super) fn bulk_waits(&self) -> bool {
        self.outbox.waits(lanes(Purpose::Bulk))
    }

    /// Notes that somebody wants a connection.
    pub(super) fn want(&self) {
        self.wanted.store(self.now(), Ordering::Relaxed);
    }

    /// Whether somebody wanted a connection lately.
    pub(super) fn is_wanted(&self) -> bool {
        let at = self.wanted.load(Ordering::Relaxed);
        at != 0 && u128::from(self.now().saturating_sub(at)) < DEMAND.as_millis()
    }
}

/// Which of two connections of one purpose to one process to keep.
///
/// Of two dialled by the same side the later one: that side dials again only when it has lost the former. Of two
/// dialled by both sides at once the one dialled by the smaller store id, at both ends. Otherwise the later one.
pub(super) fn keeps_new(
    old_dialled: bool,
    old_age: Duration,
    new_dialled: bool,
    ours: u64,
    theirs: u64,
) -> bool {
    let new_by_smaller = new_dialled == (ours < theirs);
    old_dialled == new_dialled || old_age > CROSS_WINDOW || new_by_smaller
}

/// The lanes that a connection carries.
pub(super) fn lanes(purpose: Purpose) -> impl Iterator<Item = Lane> {
    Lane::ALL
        .into_iter()
        .filter(move |lane| purpose_of(*lane) == purpose)
}

/// The connection that a lane is on.
pub(super) fn purpose_of(lane: Lane) -> Purpose {
    if lane == Lane::Bulk {
        Purpose::Bulk
    } else {
        Purpose::Main
    }
}

/// Where a connection stands in [`PartyState::links`].
pub(super) fn slot(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Main | Purpose::Call => 0,
        Purpose::Bulk => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_keep_the_same_of_two_crossed_connections() {
        // DESIGN 12: the connection dialled by the smaller store id survives, in whatever order each end saw the two.
        let young = Duration::ZERO;
        for (ours, theirs) in [(1, 2), (2, 1)] {
            let by_us_is_kept = ours < theirs;
            assert_eq!(
                keeps_new(false, young, true, ours, theirs),
                by_us_is_kept,
                "new one dialled by {ours}"
            );
            assert_eq!(
                keeps_new(true, young, false, ours, theirs),
                !by_us_is_kept,
                "new one dialled by {theirs}"
            );
        }
    }

    #[test]
    fn a_redial_replaces_what_its_side_has_lost() {
        // A dials again only without a connection of its own; what B still holds is a zombie.
        assert!(keeps_new(true, Duration::ZERO, true, 2, 1));
        assert!(keeps_new(false, Duration::ZERO, false, 1, 2));
        assert!(
            keeps_new(true, CROSS_WINDOW * 2, false, 1, 2),
            "dialled by the larger, but long after"
        );
    }
}
