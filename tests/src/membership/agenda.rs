//! What happens when.
//!
//! Here: [`Agenda`], the virtual clock's queue: equal times happen in the order of their appointment, so a seed repeats exactly.

use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use synod_membership::StoreId;

#[derive(Debug)]
pub(super) enum Happening {
    Arrive {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Wake(usize),
    CatchUp(usize),
    Join(usize),
    /// Restarted with its log, it looks for the others.
    Seek(usize),
    Resume(usize),
    Stall {
        process: usize,
        until: Duration,
    },
    Mend(u64),
    Kill(usize),
    Restart(StoreId),
    Fault,
}

struct Appointment {
    at: Duration,
    number: u64,
    what: Happening,
}

impl PartialEq for Appointment {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Appointment {}
impl PartialOrd for Appointment {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Appointment {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number)) // earliest first
    }
}

/// Everything that is going to happen.
#[derive(Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Appointment>,
    appointments: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Duration, what: Happening) {
        self.appointments += 1;
        self.heap.push(Appointment {
            at,
            number: self.appointments,
            what,
        });
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|next| next.at)
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, Happening)> {
        self.heap.pop().map(|next| (next.at, next.what))
    }

    /// Empties it, earliest first.
    pub(super) fn take_all(&mut self) -> Vec<(Duration, Happening)> {
        core::iter::from_fn(|| self.pop()).collect()
    }
}
