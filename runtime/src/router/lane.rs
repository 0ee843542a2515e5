//! What a router knows of one shard: who leads it, the session with it, and the calls on their way.
//!
//! Here: [`Lane`], its [`Window`] of outstanding sequences. Decisions are `core`'s; this is their memory.
//! The window is per shard, so one command that hangs makes one shard keep at most a window of replies (E11).

use std::collections::VecDeque;
use std::time::Duration;

use super::calls::List;
use crate::wire::{SessionId, ShardId};

/// One shard as its router sees it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) shard: ShardId,
    /// Stores with a replica, as the table says.
    pub(super) replicas: Vec<u64>,
    /// Whom the table called leader last: only a change of it is news.
    pub(super) table_leader: Option<u64>,
    /// Where requests go.
    pub(super) leader: Option<u64>,
    /// Whether `leader` has answered as one.
    pub(super) verified: bool,
    /// Hints followed in a row without an answer from a leader.
    pub(super) redirects: u32,
    /// Probes in a row without an answer from a leader.
    pub(super) probes: u32,
    /// No probe before this.
    pub(super) next_probe: Duration,
    /// Index of the replica to probe next.
    pub(super) cursor: usize,
    pub(super) session: Session,
    /// Commands for the session or for room in the window.
    pub(super) waiting: List,
    /// Calls for a leader.
    pub(super) parked: List,
    pub(super) flying: List,
    /// Queries of all places.
    pub(super) queries: usize,
}

/// The session of a router with one shard.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The newest session; its window goes on if a repeated opening finds the same one.
    pub(super) id: Option<SessionId>,
    /// False once the shard said that it does not know it.
    pub(super) open: bool,
    /// Openings since a command was last answered: beyond the first, they pause.
    pub(super) openings: u32,
    /// The call that opens it.
    pub(super) opening: Option<u32>,
    pub(super) window: Window,
}

/// Outstanding sequences of one session, from the lowest to the newest.
#[derive(Debug)]
pub(super) struct Window {
    /// Lowest outstanding sequence, or the next one.
    lowest: u64,
    /// From `lowest` on: true = outstanding. The first is, if there is any.
    outstanding: VecDeque<bool>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            lowest: 1,
            outstanding: VecDeque::new(),
        }
    }
}

impl Window {
    /// Sequences from the lowest outstanding one to the newest.
    pub(super) fn span(&self) -> usize {
        self.outstanding.len()
    }

    pub(super) fn lowest(&self) -> u64 {
        self.lowest
    }

    pub(super) fn next(&mut self) -> u64 {
        self.outstanding.push_back(true);
        self.lowest + self.outstanding.len() as u64 - 1
    }

    /// The sequence is answered or given up; it will not be sent again.
    pub(super) fn finish(&mut self, sequence: u64) {
        let place = sequence
            .checked_sub(self.lowest)
            .and_then(|at| self.outstanding.get_mut(at as usize));
        let Some(place) = place else { return };
        *place = false;
        while self.outstanding.front() == Some(&false) {
            self.outstanding.pop_front();
            self.lowest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_outstanding_sequence_waits_for_the_slowest_command() {
        // E11: the low mark is per session; RIFL's "first incomplete" rule.
        let mut window = Window::default();
        assert_eq!([window.next(), window.next(), window.next()], [1, 2, 3]);
        window.finish(2);
        window.finish(3);
        assert_eq!((window.lowest(), window.span()), (1, 3));
        window.finish(1);
        assert_eq!((window.lowest(), window.span()), (4, 0));
        window.finish(1);
        assert_eq!(window.next(), 4);
    }
}
