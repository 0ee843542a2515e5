//! Snapshots whose way to a follower ended before they had arrived.
//!
//! A follower that was killed half-way comes back within seconds and holds half of it (H70). Another snapshot would begin anew, and one
//! that is made of rows is another one as soon as a checkpoint was written meanwhile; so the former is offered again, if the log
//! still reaches back to it, which the group judges. Here: [`Kept`], for a while and few of them: each is a file without a name.
//! Not here: which ends leave something to go on with (`group::actor::checkpoint`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Source, Way};

/// Longer than a node takes to start again.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// As many as may be on their way at once.
const KEPT_MAX: usize = super::SHIPMENTS_MAX;

#[derive(Default)]
pub(super) struct Kept(VecDeque<(Way, Source, Instant)>);

impl Kept {
    /// Keeps a source; the oldest gives way.
    pub(super) fn put(&mut self, way: Way, source: Source, now: Instant) {
        self.0.retain(|(other, ..)| *other != way);
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((way, source, now));
    }

    /// What is kept for this way; it is not any more.
    pub(super) fn take(&mut self, way: Way, now: Instant) -> Option<Source> {
        self.let_go(now);
        let place = self.0.iter().position(|(other, ..)| *other == way)?;
        self.0.remove(place).map(|(_, source, _)| source)
    }

    /// Forgets what lies too long.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.0
            .retain(|(_, _, since)| now.saturating_duration_since(*since) < KEPT_FOR);
    }

    /// When the oldest has lain too long.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.front().map(|(_, _, since)| *since + KEPT_FOR)
    }

    /// Forgets what is kept of a replica.
    pub(super) fn forget(&mut self, wanted: impl Fn(Way) -> bool) {
        self.0.retain(|(way, ..)| wanted(*way));
    }
}
