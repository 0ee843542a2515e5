//! What only memory holds of all states here together.
//!
//! Here: [`Overlays`], two counts with bounds. Every group counts its own ([`Unwritten`]). When what changed since the last checkpoints
//! passes the bound, the groups that have the most make one, also if their logs alone would not ask for one yet. Where the disk does not
//! keep up, that is not enough: what is being written counts, too, and beyond twice the bound nobody takes more (section 4: every
//! queue is bounded). A leader then refuses commands, a follower takes no entries; both go on as soon as something is written. The same
//! while the disk is short of room (section 13).
//! Not here: the overlays themselves (`evaluation`), who does what at which bound (`actor::room`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of all groups' overlays beyond which checkpoints are made for room.
pub(crate) const OVERLAY_BYTES: usize = 48 << 20;

/// Bytes of entries that all followers here take while the disk is short: what may be on its way when the leaders stop, and a small part of
/// the reserve.
const TAKEN_MAX: usize = 16 << 20;

/// While nothing gets better it is looked again who could make room when a part like this of the bound was added.
const LOOKS: usize = 1_024;
/// Such a part is made room for at once, at least.
const ASKED: usize = 16;

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
    /// What had changed when room was wanted last.
    wanted_at: AtomicUsize,
    bound: usize,
    /// There is hardly room on the disk.
    disk_is_short: AtomicBool,
    /// Bytes of entries that followers took since.
    taken_since: AtomicUsize,
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
            wanted_at: AtomicUsize::new(0),
            bound,
            disk_is_short: AtomicBool::new(false),
            taken_since: AtomicUsize::new(0),
        }
    }

    /// A group that counted `known` has `now`.
    pub(crate) fn count(&self, known: &mut Unwritten, now: Unwritten) {
        let former = std::mem::replace(known, now);
        move_to(&self.fresh, former.fresh, now.fresh);
        move_to(&self.held, former.held, now.held);
    }

    /// Of how many bytes checkpoints are to be made for room now; `None`: of none, or it is too early to look again who should, which
    /// takes as long as there are groups.
    pub(crate) fn want_room(&self) -> Option<usize> {
        let fresh = self.fresh.load(Ordering::Relaxed);
        if fresh <= self.bound {
            self.wanted_at.store(0, Ordering::Relaxed);
            return None;
        }
        let wanted_at = self.wanted_at.load(Ordering::Relaxed);
        if (wanted_at..wanted_at + self.bound / LOOKS).contains(&fresh) {
            return None;
        }
        self.wanted_at.store(fresh, Ordering::Relaxed);
        Some((self.bound / ASKED).max(fresh - self.bound))
    }

    /// Why a state that holds so much in memory may not take more: one alone may up to the bound, all together up to twice as much, and
    /// nobody while the disk is short of room.
    pub(crate) fn full(&self, held: usize) -> Option<&'static str> {
        if self.disk_is_short() {
            return Some("the disk");
        }
        (!self.memory_has_room(held)).then_some("unwritten state")
    }

    /// Notes whether the disk is short of room; returns whether that is news.
    pub(crate) fn set_disk_is_short(&self, short: bool) -> bool {
        if !short {
            self.taken_since.store(0, Ordering::Relaxed);
        }
        self.disk_is_short.swap(short, Ordering::Relaxed) != short
    }

    /// Whether a follower that holds so much in memory may take so many bytes of entries. While the disk is short it may take what was on its
    /// way: leaders elsewhere could not go on otherwise where several disks end at once.
    pub(crate) fn may_follow(&self, held: usize, bytes: usize) -> bool {
        let taken = || self.taken_since.fetch_add(bytes, Ordering::Relaxed);
        if self.disk_is_short() && taken() + bytes > TAKEN_MAX {
            return false;
        }
        self.memory_has_room(held)
    }

    fn memory_has_room(&self, held: usize) -> bool {
        held <= self.bound && self.held() <= self.bound.saturating_mul(2)
    }

    /// There is hardly room on the disk: what is left is for what is here already.
    pub(crate) fn disk_is_short(&self) -> bool {
        self.disk_is_short.load(Ordering::Relaxed)
    }

    /// Somebody who was asked is done, with or without room made: others may be asked.
    pub(crate) fn look_again(&self) {
        self.wanted_at.store(0, Ordering::Relaxed);
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
        assert_eq!(overlays.want_room(), None, "at the bound");
        let full = Some("unwritten state");
        assert_eq!(overlays.full(10), None, "at both bounds");
        assert_eq!(overlays.full(11), full, "one state has too much");
        overlays.count(&mut other, unwritten(5, 15));
        assert_eq!(overlays.want_room(), Some(1));
        assert_eq!(overlays.full(0), full, "all together have too much");
        overlays.count(&mut one, unwritten(0, 0));
        assert_eq!(overlays.held(), 15);
        assert!(overlays.want_room().is_none() && overlays.full(0).is_none());
        assert!(overlays.set_disk_is_short(true));
        assert!(!overlays.set_disk_is_short(true), "known");
        assert_eq!(overlays.full(0), Some("the disk"));
        assert!(overlays.may_follow(0, TAKEN_MAX), "what was on its way");
        assert!(!overlays.may_follow(0, 1));
        overlays.set_disk_is_short(false);
        assert!(overlays.may_follow(0, TAKEN_MAX + 1));
    }

    #[test]
    fn it_is_not_looked_at_every_change_who_could_make_room() {
        let bound = 1 << 20;
        let overlays = Overlays::new(bound);
        let mut one = Unwritten::default();
        overlays.count(&mut one, unwritten(bound + 1, 0));
        assert_eq!(overlays.want_room(), Some(bound / ASKED));
        let mut looks = 0;
        for more in 0..100_000 {
            overlays.count(&mut one, unwritten(bound + 1 + more, 0));
            looks += usize::from(overlays.want_room().is_some());
        }
        assert!((90..100).contains(&looks), "{looks}");
        overlays.look_again();
        assert!(overlays.want_room().is_some(), "one was done");
        assert!(overlays.want_room().is_none());
        // Some is made: whoever goes on asks again, and for all that is too much.
        overlays.count(&mut one, unwritten(bound + bound / 8, 0));
        assert_eq!(overlays.want_room(), Some(bound / 8));
        overlays.count(&mut one, unwritten(bound, 0));
        assert_eq!(overlays.want_room(), None);
        overlays.count(&mut one, unwritten(bound + 1, 0));
        assert!(overlays.want_room().is_some(), "it is full again");
    }
}
