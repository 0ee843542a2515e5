//! What became of the batch that an evaluator offered last.
//!
//! Here: [`Receipt`], between the evaluator of a shard and its group, which live on two threads. An evaluator that has nothing more to
//! offer needs the index of its last batch only when it hears that it is applied; to be woken for the index alone would be one of
//! three wake-ups of a command there. So the group leaves it here, and wakes only an evaluator that waits for it.

use std::sync::Mutex;

use synod_consensus::LogIndex;

use super::machine::lock;

/// The index that a batch got, or that it was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Proposed {
    /// The leadership that offered it.
    pub(crate) serial: u64,
    pub(crate) batch: u64,
    pub(crate) result: Result<LogIndex, ()>,
}

#[derive(Debug, Default)]
struct Left {
    proposed: Option<Proposed>,
    awaited: bool,
}

/// Of one leadership. At most one is under way: an evaluator offers the next batch when it has taken what became of the one before.
#[derive(Debug, Default)]
pub(crate) struct Receipt(Mutex<Left>);

impl Receipt {
    /// The group leaves it. True: the evaluator must be told to look.
    pub(crate) fn leave(&self, proposed: Proposed) -> bool {
        let mut left = lock(&self.0);
        left.proposed = Some(proposed);
        // What was refused has callers who wait for nothing else.
        std::mem::take(&mut left.awaited) || proposed.result.is_err()
    }

    /// The evaluator takes it, if it is there.
    pub(crate) fn take(&self) -> Option<Proposed> {
        let mut left = lock(&self.0);
        left.awaited = false;
        left.proposed.take()
    }

    /// The evaluator takes it, or is told once it is there.
    pub(crate) fn take_or_await(&self) -> Option<Proposed> {
        let mut left = lock(&self.0);
        left.awaited = left.proposed.is_none();
        left.proposed.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(batch: u64) -> Proposed {
        Proposed {
            serial: 1,
            batch,
            result: Ok(LogIndex::new(batch)),
        }
    }

    #[test]
    fn who_does_not_wait_is_not_woken_and_finds_it_later() {
        let receipt = Receipt::default();
        assert!(!receipt.leave(batch(1)));
        assert_eq!(receipt.take(), Some(batch(1)));
        assert_eq!(receipt.take(), None);
    }

    #[test]
    fn who_waits_is_woken_once() {
        let receipt = Receipt::default();
        assert_eq!(receipt.take_or_await(), None);
        assert!(receipt.leave(batch(1)));
        assert_eq!(receipt.take(), Some(batch(1)));
        assert!(!receipt.leave(batch(2)));
    }

    #[test]
    fn who_finds_it_at_once_waits_for_nothing() {
        let receipt = Receipt::default();
        receipt.leave(batch(1));
        assert_eq!(receipt.take_or_await(), Some(batch(1)));
        assert!(!receipt.leave(batch(2)));
    }

    #[test]
    fn a_refusal_wakes_whoever_does_not_wait() {
        let refused = Proposed {
            result: Err(()),
            ..batch(1)
        };
        assert!(Receipt::default().leave(refused));
    }
}
