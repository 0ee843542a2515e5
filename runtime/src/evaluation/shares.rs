//! The instances of all evaluators of a node, bounded together.
//!
//! Here: [`Shares`]: what a node may keep is shared out evenly among those who keep any. Whoever has more than that, because there were
//! fewer of them, lets go when it is next at work; one that rests keeps none. Not here: which instances go (`slots`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A node's, of which every evaluator has a handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(Arc<AtomicUsize>);

/// One evaluator's, as long as it keeps anything.
#[derive(Debug)]
pub(super) struct Share(Arc<AtomicUsize>);

impl Shares {
    /// One more keeps something.
    pub(super) fn enter(&self) -> Share {
        self.0.fetch_add(1, Ordering::Relaxed);
        Share(Arc::clone(&self.0))
    }

    /// What each may keep of so much.
    pub(super) fn of(&self, all: usize) -> usize {
        all / self.0.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
