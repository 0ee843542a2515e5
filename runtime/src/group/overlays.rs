//! What only memory holds of all states here together.
//!
//! Here: [`Overlays`], two counts with bounds. Every group counts its own ([`Unwritten`]). When what changed since the last checkpoints
//! passes the bound, the group that has the most makes one, also if its log alone would not ask for one yet. Where the disk does not
//! keep up, that is not enough: what is being written counts, too, and beyond twice the bound nobody takes more (section 4: every
//! queue is bounded). A leader then refuses commands, a follower takes no entries; both go on as soon as something is written.
//! Not here: the overlays themselves (`evaluation`), who does what at which bound (`actor::room`).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all groups' overlays beyond which checkpoints are made for room.
pub(crate) const OVERLAY_BYTES: usize = 48 << 20;

/// What one group has that is not durable in its rows, in bytes, about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Unwritten {
    /// Changed since its last checkpoint was begun.
    pub(crate) fresh: usize,
    /// In memory altogether: with what a checkpoint is writing, and the log that is kept until it is there.
    pub(crate) held: usize,
}

/// A node's counts of bytes that no checkpoint has written yet.
#[derive(Debug)]
pub(crate) struct Overlays {
    fresh: AtomicUsize,
    held: AtomicUsize,
    bound: usize,
}

fn move_to(count: &AtomicUsize, former: usize, now: usize) {
    if former <= now {
        count.fetch_add(now - former, Ordering::Relaxed);
    } else {
        count.fetch_sub(former - now, Ordering::Relaxed);
    }
}

impl Overlays {
    /// `bound` in bytes.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            fresh: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            bound,
        }
    }

    /// A group that counted `known` has `now`.
    pub(crate) fn count(&self, known: &mut Unwritten, now: Unwritten) {
        let former = std::mem::replace(known, now);
        move_to(&self.fresh, former.fresh, now.fresh);
        move_to(&self.held, former.held, now.held);
    }

    /// Whether checkpoints are to be made for room.
    pub(crate) fn are_full(&self) -> bool {
        self.fresh.load(Ordering::Relaxed) > self.bound
    }

    /// Whether a state that holds so much in memory may take more: one alone up to the bound, all together up to twice as much.
    pub(crate) fn have_room(&self, held: usize) -> bool {
        held <= self.bound && self.held() <= self.bound.saturating_mul(2)
    }

    /// Bytes that all groups hold.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwritten(fresh: usize, held: usize) -> Unwritten {
        Unwritten { fresh, held }
    }

    #[test]
    fn what_groups_count_adds_up() {
        let overlays = Overlays::new(10);
        let (mut one, mut other) = (Unwritten::default(), Unwritten::default());
        overlays.count(&mut one, unwritten(6, 6));
        overlays.count(&mut other, unwritten(4, 14));
        assert!(!overlays.are_full(), "at the bound");
        assert!(overlays.have_room(10), "at both bounds");
        assert!(!overlays.have_room(11), "one state has too much");
        overlays.count(&mut other, unwritten(5, 15));
        assert!(overlays.are_full());
        assert!(!overlays.have_room(0), "all together have too much");
        overlays.count(&mut one, unwritten(0, 0));
        assert_eq!(overlays.held(), 15);
        assert!(!overlays.are_full() && overlays.have_room(0));
    }
}
