//! What the leader of one group knows about one follower, and how it feeds it.
//!
//! Here: [`Progress`] (probe, replicate, snapshot) and its window of unacknowledged appends. Called only by the leader's side of
//! `replication` and `snapshots`. Source: Ongaro's thesis, 3.5 and 10.2 (pipelining); H29, H33.

use core::time::Duration;
use std::collections::VecDeque;

use crate::nanos::Nanos;
use crate::snapshots::Shipment;
use crate::status::{PeerState, PeerStatus};
use crate::{LogIndex, ReplicaId};

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) replica: ReplicaId,
    /// Equal to the leader's log and durable there. Never goes back.
    pub(crate) matched: LogIndex,
    /// The next entry to send. Invariant: above `matched` (H29).
    pub(crate) next: LogIndex,
    pub(crate) feed: Feed,
    /// The highest commit index that it was told.
    pub(crate) told_commit: LogIndex,
    /// When the last message of ours that it answered was sent.
    pub(crate) active_at: Nanos,
    /// It helps nobody else to lead before then, by the leader's own clock (module `lease`).
    pub(crate) promised_until: Nanos,
    /// The last heartbeat round it answered.
    pub(crate) round: u64,
    /// The heartbeat round in which it was last probed: answers to that round and to earlier ones know nothing of what came after.
    pub(crate) probed_in: u64,
    /// When it left the configuration. It is fed for a while longer, so that it learns of it, and counts nowhere.
    pub(crate) departed_at: Option<Nanos>,
    /// It holds the present claim.
    pub(crate) rests: bool,
    /// Added while this leader led, and it has said nothing yet.
    pub(crate) unheard: bool,
}

#[derive(Debug)]
pub(crate) enum Feed {
    /// One append at a time; `waiting` until it, or a heartbeat after it, is answered.
    Probe { waiting: bool },
    /// Appends follow each other without waiting.
    Replicate(Window),
    /// The log does not reach back far enough.
    Snapshot(Box<Shipment>),
}

/// Appends on the way, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    /// Where the logs were known to meet when it began.
    pub(crate) met: LogIndex,
    /// `None` until something is sent; from then on its buffers are kept, until they are released.
    flight: Option<Box<Flight>>,
}

#[derive(Debug, Default)]
struct Flight {
    /// The last entry of each, and its bytes.
    appends: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Window {
    fn beginning_after(met: LogIndex) -> Self {
        Self { met, flight: None }
    }

    pub(crate) fn is_full(&self, appends: usize, bytes: usize) -> bool {
        let flight = self.flight.as_ref();
        flight.is_some_and(|flight| flight.appends.len() >= appends || flight.bytes >= bytes)
    }

    /// Gives memory back that only busy times need.
    pub(crate) fn release_buffers(&mut self) {
        match &mut self.flight {
            Some(flight) if !flight.appends.is_empty() => flight.appends.shrink_to_fit(),
            flight => *flight = None,
        }
    }

    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize) {
        let flight = self.flight.get_or_insert_default();
        flight.appends.push_back((last, bytes));
        flight.bytes += bytes;
    }

    pub(crate) fn acknowledged(&mut self, matched: LogIndex) {
        let Some(flight) = &mut self.flight else {
            return;
        };
        while let Some((last, bytes)) = flight.appends.front().copied() {
            if last > matched {
                break;
            }
            flight.bytes -= bytes;
            flight.appends.pop_front();
        }
    }
}

impl Progress {
    pub(crate) fn new(replica: ReplicaId, next: LogIndex, now: Duration) -> Self {
        Self {
            replica,
            matched: LogIndex::ZERO,
            next,
            feed: Feed::Probe { waiting: false },
            told_commit: LogIndex::ZERO,
            active_at: now.into(),
            promised_until: Nanos::ZERO,
            round: 0,
            probed_in: 0,
            departed_at: None,
            rests: false,
            unheard: false,
        }
    }

    /// Falls back to sending one at a time, from `next` on.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.next = next.max(self.matched.next());
        self.feed = Feed::Probe { waiting: false };
    }

    /// The logs are known to meet at `next - 1`: from now on appends follow each other.
    pub(crate) fn replicate(&mut self, next: LogIndex) {
        self.next = next.max(self.matched.next());
        self.feed = Feed::Replicate(Window::beginning_after(self.next.previous()));
    }

    /// The follower's log is durable and equal through `matched`. Returns whether that is news.
    pub(crate) fn acknowledged(&mut self, matched: LogIndex) -> bool {
        if let Feed::Replicate(window) = &mut self.feed {
            window.acknowledged(matched);
        }
        self.next = self.next.max(matched.next());
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        news
    }

    pub(crate) fn state(&self) -> PeerState {
        match self.feed {
            Feed::Probe { .. } => PeerState::Probe,
            Feed::Replicate(_) => PeerState::Replicate,
            Feed::Snapshot(_) => PeerState::Snapshot,
        }
    }

    /// `resting`: whether the leader rests.
    pub(crate) fn status(&self, resting: bool) -> PeerStatus {
        PeerStatus {
            replica: self.replica,
            matched: self.matched,
            next: self.next,
            state: self.state(),
            active_at: self.active_at.get(),
            rests: resting && self.rests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_appends_and_bytes_and_empties() {
        // H33: the byte counter must return to zero.
        let mut window = Window::beginning_after(LogIndex::ZERO);
        window.sent(LogIndex::new(3), 100);
        window.sent(LogIndex::new(5), 50);
        assert!(window.is_full(2, 1_000) && window.is_full(9, 150) && !window.is_full(3, 151));
        window.acknowledged(LogIndex::new(4));
        assert!(!window.is_full(2, 51));
        window.acknowledged(LogIndex::new(5));
        let flight = window.flight.as_ref().unwrap();
        assert_eq!((flight.bytes, flight.appends.len()), (0, 0));
    }

    #[test]
    fn next_stays_above_matched() {
        // H29: a late conflict must not move the pointer below what is acknowledged.
        let mut progress = Progress::new(ReplicaId::new(2), LogIndex::new(10), Duration::ZERO);
        assert!(progress.acknowledged(LogIndex::new(20)));
        assert!(
            !progress.acknowledged(LogIndex::new(12)),
            "a late acknowledgement is no news"
        );
        progress.probe(LogIndex::new(5));
        assert_eq!(
            (progress.matched, progress.next),
            (LogIndex::new(20), LogIndex::new(21))
        );
    }
}
