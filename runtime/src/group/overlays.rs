//! What only memory holds of all states here together.
//!
//! Here: [`Overlays`], a count with a bound. Every group counts its own; when the bound is passed, the one that has the most
//! makes a checkpoint, also if its log alone would not ask for one yet. Not here: the overlays themselves (`evaluation`).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all groups' overlays beyond which checkpoints are made for room.
pub(crate) const OVERLAY_BYTES: usize = 48 << 20;

/// A node's count of bytes that no checkpoint has written yet.
#[derive(Debug)]
pub(crate) struct Overlays {
    bytes: AtomicUsize,
    bound: usize,
}

impl Overlays {
    /// `bound` in bytes.
    pub(crate) fn new(bound: usize) -> Self {
        let bytes = AtomicUsize::new(0);
        Self { bytes, bound }
    }

    /// A group that counted `known` bytes has `now`.
    pub(crate) fn count(&self, known: &mut usize, now: usize) {
        match std::mem::replace(known, now) {
            former if former <= now => self.bytes.fetch_add(now - former, Ordering::Relaxed),
            former => self.bytes.fetch_sub(former - now, Ordering::Relaxed),
        };
    }

    /// Whether there is more than there should be.
    pub(crate) fn are_full(&self) -> bool {
        self.bytes() > self.bound
    }

    /// Bytes of all groups.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_groups_count_adds_up() {
        let overlays = Overlays::new(10);
        let (mut one, mut other) = (0, 0);
        overlays.count(&mut one, 6);
        overlays.count(&mut other, 4);
        assert!(!overlays.are_full(), "at the bound");
        overlays.count(&mut other, 5);
        assert!(overlays.are_full());
        overlays.count(&mut one, 0);
        assert_eq!(overlays.bytes(), 5);
    }
}
