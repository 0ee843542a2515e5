//! The calls of a router: a slab whose slots are used again, with the lists that run through it.
//!
//! Here: [`Call`], [`Calls`] (slots, ids with generations), [`List`] (doubly linked through the slots, so that a call
//! leaves its queue in O(1) and no queue keeps what has ended), [`Attempts`] (which sendings may still be evaluated).
//! Called only by `core` and its parts.

use std::time::Duration;

use bytes::Bytes;

use super::CallId;
use crate::wire::SessionId;

pub(super) const NONE: u32 = u32::MAX;
/// Bits of a [`CallId`] that are the slot; the rest is its generation.
pub(super) const SLOT_BITS: u32 = 24;

/// What a call is to the core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CallKind {
    Command,
    Query,
    Stale {
        max_age_ms: u64,
    },
    /// The core's own: opens the shard's session.
    Opening,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// No replica of its shard is known.
    Homeless,
    /// A command that waits for the session or for room in the window.
    Waiting,
    /// Ready to be sent as soon as a leader is known, or as the next probe.
    Parked,
    /// Sent.
    Flying {
        to: u64,
        /// To a replica that nobody called the leader.
        probing: bool,
    },
    /// Told to come back later.
    Paused,
}

/// Which sendings of a call may still be evaluated: sent, and neither answered nor known not to have left.
///
/// The last 64 attempts are told apart; an older one that is still open stays open for ever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    /// Number of the newest attempt; 0 = never sent.
    newest: u32,
    /// Bit i: attempt `newest - i` is open.
    open: u64,
    older_open: bool,
}

impl Attempts {
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    pub(super) fn next(&mut self) -> u32 {
        self.newest += 1;
        self.older_open |= self.open >> 63 == 1;
        self.open = self.open << 1 | 1;
        self.newest
    }

    fn bit(&self, attempt: u32) -> Option<u64> {
        let age = self.newest.checked_sub(attempt)?;
        (attempt > 0 && age < 64).then(|| 1 << age)
    }

    /// The attempt was certainly not evaluated. False if that was known, or the attempt is too old to tell.
    pub(super) fn settle(&mut self, attempt: u32) -> bool {
        match self.bit(attempt) {
            Some(bit) if self.open & bit != 0 => {
                self.open &= !bit;
                true
            }
            _ => false,
        }
    }

    /// Whether no sending may have been evaluated, now or later.
    pub(super) fn all_settled(&self) -> bool {
        self.open == 0 && !self.older_open
    }

    /// Whether no attempt after this one may be evaluated (E31).
    pub(super) fn later_settled(&self, attempt: u32) -> bool {
        self.bit(attempt)
            .is_some_and(|bit| self.open & (bit - 1) == 0)
    }
}

/// One call from its acceptance to its end.
#[derive(Debug)]
pub(super) struct Call {
    /// Number of its shard; `NONE` until a table is known.
    pub(super) lane: u32,
    pub(super) kind: CallKind,
    pub(super) place: Place,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) entity: String,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) body: Bytes,
    pub(super) trace: Option<String>,
    pub(super) deadline: Duration,
    pub(super) attempts: Attempts,
    /// When it was sent for the first time; zero before.
    pub(super) first_sent_at: Duration,
    pub(super) sent_at: Duration,
    /// When it was first sent to the leader that it flies to: repetitions there do not count anew.
    pub(super) since: Duration,
    /// Repetitions at known leaders.
    pub(super) repeats: u32,
    /// Times that a known leader let it wait for the whole of `attempt_timeout`.
    pub(super) silences: u32,
    /// Commands: the session that its sequence belongs to.
    pub(super) session: Option<SessionId>,
    pub(super) sequence: u64,
    /// Lowest outstanding sequence of that session when last looked at.
    pub(super) lowest: u64,
    /// Stale queries: index of the first replica asked, and how many were asked in this round.
    pub(super) start: u32,
    pub(super) turn: u32,
    /// Stale queries: least age that a replica reported in this round.
    pub(super) age: Option<u64>,
    /// The last refusal for overload: queue, pause.
    pub(super) busy: Option<(String, Duration)>,
}

impl Call {
    /// The call behind it in its queue.
    pub(super) fn following(&self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

/// A queue of calls, linked through their slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn head(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn push_back(&mut self, calls: &mut Calls, slot: u32) {
        let call = calls.at(slot);
        (call.prev, call.next) = (self.tail, NONE);
        match self.tail {
            NONE => self.head = slot,
            tail => calls.at(tail).next = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    pub(super) fn push_front(&mut self, calls: &mut Calls, slot: u32) {
        let call = calls.at(slot);
        (call.prev, call.next) = (NONE, self.head);
        match self.head {
            NONE => self.tail = slot,
            head => calls.at(head).prev = slot,
        }
        self.head = slot;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, calls: &mut Calls, slot: u32) {
        let call = calls.at(slot);
        let (prev, next) = (call.prev, call.next);
        (call.prev, call.next) = (NONE, NONE);
        match prev {
            NONE => self.head = next,
            prev => calls.at(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => calls.at(next).prev = prev,
        }
        self.len -= 1;
    }

    pub(super) fn pop_front(&mut self, calls: &mut Calls) -> Option<u32> {
        let slot = self.head()?;
        self.remove(calls, slot);
        Some(slot)
    }
}

#[derive(Debug)]
struct Slot {
    generation: u64,
    call: Option<Call>,
}

/// All live calls by slot. Slots are used again; a [`CallId`] carries the generation, so it never comes twice.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, call: Call) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize].call = Some(call);
                slot
            }
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    call: Some(call),
                });
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// An id that belongs to no call, for one that ends before it began.
    pub(super) fn burn(&mut self) -> CallId {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    call: None,
                });
                let slot = (self.slots.len() - 1) as u32;
                self.free.push(slot);
                slot
            }
        };
        let id = self.id(slot);
        self.slots[slot as usize].generation += 1;
        id
    }

    pub(super) fn remove(&mut self, slot: u32) -> Call {
        let place = &mut self.slots[slot as usize];
        let call = place.call.take().expect("only live calls are removed");
        place.generation += 1;
        self.free.push(slot);
        call
    }

    pub(super) fn id(&self, slot: u32) -> CallId {
        CallId(self.slots[slot as usize].generation << SLOT_BITS | u64::from(slot))
    }

    /// The slot of a call that is still alive.
    pub(super) fn find(&self, id: CallId) -> Option<u32> {
        let slot = (id.0 & ((1 << SLOT_BITS) - 1)) as u32;
        let place = self.slots.get(slot as usize)?;
        (place.call.is_some() && place.generation == id.0 >> SLOT_BITS).then_some(slot)
    }

    /// A live call.
    pub(super) fn at(&mut self, slot: u32) -> &mut Call {
        self.slots[slot as usize]
            .call
            .as_mut()
            .expect("lists and timers name live calls only")
    }

    /// Slots of all live calls, in order.
    pub(super) fn live(&self) -> Vec<u32> {
        (0..self.slots.len() as u32)
            .filter(|slot| self.slots[*slot as usize].call.is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_open_attempts_outdate_an_unlogged_outcome() {
        // E31: attempt 1's unlogged outcome counts while no later attempt may be evaluated.
        let mut attempts = Attempts::default();
        assert!(attempts.all_settled());
        assert_eq!(attempts.next(), 1);
        assert!(attempts.later_settled(1));
        assert_eq!(attempts.next(), 2);
        assert!(!attempts.later_settled(1));
        assert!(attempts.later_settled(2));
        assert!(attempts.settle(2));
        assert!(!attempts.settle(2), "a duplicate settles nothing");
        assert!(
            attempts.later_settled(1),
            "attempt 2 was certainly not evaluated"
        );
        assert!(!attempts.all_settled());
        assert!(attempts.settle(1));
        assert!(attempts.all_settled());
    }

    #[test]
    fn an_open_attempt_stays_open_when_it_is_too_old_to_be_told_apart() {
        // E10: what may have been evaluated is never forgotten.
        let mut attempts = Attempts::default();
        attempts.next();
        for _ in 0..70 {
            let attempt = attempts.next();
            attempts.settle(attempt);
        }
        assert!(!attempts.settle(1));
        assert!(!attempts.all_settled());
    }
}
