//! What was asked to be written, and what of it is durable.
//!
//! Here: [`Ledger`], the writes under way in order. Not here: the writing (whoever answers `Output::Persist`), what waits for it
//! (`election` for votes, `replication` for acknowledgements, `group` for applying).
//!
//! Completions may come in any order; they count in the order of the writes, so that a later one never vouches for an earlier one
//! (H28). A truncation lowers what the writes under way may claim, so that a completion from before it never vouches for an entry
//! that a later write is about to replace, even when the very same entry came back meanwhile (H27, the ABA of asynchronous
//! storage).

use core::time::Duration;
use std::collections::VecDeque;

use crate::storage::{HardState, PersistToken};
use crate::{LogIndex, Position, SnapshotMeta};

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Serial of the last write that was asked for.
    issued: u64,
    /// Every write up to this serial is durable.
    durable: u64,
    under_way: VecDeque<UnderWay>,
    /// The log on disk equals the log in memory through here, and no write under way will undo that.
    pub(crate) persisted: LogIndex,
    /// The last entry that was asked to be written.
    pub(crate) written: LogIndex,
    /// The hard state as last asked to be written.
    hard_state: HardState,
    /// The last write that carried a term or a vote.
    promise: u64,
    /// To be written: the log begins anew.
    pub(crate) reset: Option<Box<SnapshotMeta>>,
    /// To be written: a prefix is forgotten.
    pub(crate) compact: Option<Box<SnapshotMeta>>,
}

#[derive(Debug)]
struct UnderWay {
    token: PersistToken,
    /// What is durable of the log in memory once this write is.
    through: LogIndex,
    since: Duration,
    done: bool,
}

impl Ledger {
    pub(crate) fn new(hard_state: HardState, last: LogIndex) -> Self {
        Self {
            issued: 0,
            durable: 0,
            under_way: VecDeque::new(),
            persisted: last,
            written: last,
            hard_state,
            promise: 0,
            reset: None,
            compact: None,
        }
    }

    pub(crate) fn last_hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether term and vote are what was last asked to be written.
    pub(crate) fn knows(&self, hard_state: HardState) -> bool {
        (self.hard_state.term, self.hard_state.vote) == (hard_state.term, hard_state.vote)
    }

    /// Whether the present term and vote are durable, so that they can be promised to others (H2).
    pub(crate) fn may_promise(&self, hard_state: HardState) -> bool {
        self.knows(hard_state) && self.durable >= self.promise
    }

    /// A write is asked for: after it, the disk holds the log through `last`.
    pub(crate) fn issue(
        &mut self,
        last: Position,
        hard_state: Option<HardState>,
        now: Duration,
    ) -> PersistToken {
        self.issued += 1;
        if let Some(hard_state) = hard_state {
            assert!(
                hard_state.commit >= self.hard_state.commit,
                "HardState: commit never decreases (H74)"
            );
            if !self.knows(hard_state) {
                self.promise = self.issued;
            }
            self.hard_state = hard_state;
        }
        self.written = last.index;
        let token = PersistToken {
            serial: self.issued,
            last,
        };
        self.under_way.push_back(UnderWay {
            token,
            through: last.index,
            since: now,
            done: false,
        });
        token
    }

    /// A write is done. Returns whether anything became durable by that.
    /// `in_order` is always true, but for tests that put H28 back.
    pub(crate) fn completed(&mut self, token: PersistToken, in_order: bool) -> bool {
        let Some(write) = self.under_way.iter_mut().find(|write| write.token == token) else {
            return false;
        };
        write.done = true;
        if !in_order {
            self.durable = token.serial;
            self.persisted = write.through;
            self.under_way.retain(|write| !write.done);
            return true;
        }
        let mut news = false;
        while self.under_way.front().is_some_and(|write| write.done) {
            let write = self.under_way.pop_front().expect("looked at just now");
            self.durable = write.token.serial;
            self.persisted = self.persisted.max(write.through);
            news = true;
        }
        news
    }

    /// The log in memory was cut: `from` and everything after it are gone or about to be others. `lower` is always true, but for
    /// tests that put H27 back.
    pub(crate) fn truncated(&mut self, from: LogIndex, lower: bool) {
        let kept = from.previous();
        self.persisted = self.persisted.min(kept);
        self.written = self.written.min(kept);
        for write in self.under_way.iter_mut().filter(|_| lower) {
            write.through = write.through.min(kept);
        }
    }

    /// The log in memory begins anew at `to`, which the durable state covers.
    pub(crate) fn reset(&mut self, to: SnapshotMeta) {
        for write in &mut self.under_way {
            write.through = LogIndex::ZERO;
        }
        self.persisted = to.position.index;
        self.written = to.position.index;
        self.compact = None;
        self.reset = Some(Box::new(to));
    }

    /// Gives memory back that only busy times need.
    pub(crate) fn release_buffers(&mut self) {
        self.under_way.shrink_to_fit();
    }

    /// Since when the oldest write has been under way.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.under_way.front().map(|write| write.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReplicaId, Term};

    fn at(term: u64, index: u64) -> Position {
        Position::new(Term::new(term), LogIndex::new(index))
    }

    #[test]
    fn completions_count_in_the_order_of_the_writes() {
        // H28: IO 2 completes before IO 1.
        let mut ledger = Ledger::new(HardState::default(), LogIndex::ZERO);
        let first = ledger.issue(at(1, 5), None, Duration::ZERO);
        let second = ledger.issue(at(1, 9), None, Duration::ZERO);
        assert!(!ledger.completed(second, true));
        assert_eq!(ledger.persisted, LogIndex::ZERO);
        assert!(ledger.completed(first, true));
        assert_eq!(ledger.persisted, LogIndex::new(9));
        assert!(
            !ledger.completed(first, true),
            "a second completion of the same write says nothing"
        );
    }

    #[test]
    fn a_completion_from_before_a_truncation_claims_nothing_after_it() {
        // H27; etcd-io/raft: async_storage_writes_append_aba_race. Entry 6 of term 1 is replaced by one of term 2, then comes back from the leader of term 3 (the same entry as at first).
        let mut ledger = Ledger::new(HardState::default(), LogIndex::new(4));
        let first = ledger.issue(at(1, 6), None, Duration::ZERO);
        ledger.truncated(LogIndex::new(6), true);
        let second = ledger.issue(at(2, 6), None, Duration::ZERO);
        ledger.truncated(LogIndex::new(6), true);
        let third = ledger.issue(at(1, 6), None, Duration::ZERO);
        ledger.completed(first, true);
        assert_eq!(
            ledger.persisted,
            LogIndex::new(5),
            "the disk will still hold the entry of term 2 for a while"
        );
        ledger.completed(second, true);
        assert_eq!(ledger.persisted, LogIndex::new(5));
        ledger.completed(third, true);
        assert_eq!(ledger.persisted, LogIndex::new(6));
    }

    #[test]
    fn a_vote_is_promised_only_when_its_own_write_is_durable() {
        // H2
        let mut ledger = Ledger::new(HardState::default(), LogIndex::ZERO);
        let voted = HardState {
            term: Term::new(1),
            vote: Some(ReplicaId::new(2)),
            commit: LogIndex::ZERO,
        };
        assert!(!ledger.may_promise(voted));
        let earlier = ledger.issue(at(0, 0), None, Duration::ZERO);
        let vote = ledger.issue(at(0, 0), Some(voted), Duration::ZERO);
        ledger.completed(earlier, true);
        assert!(!ledger.may_promise(voted));
        ledger.completed(vote, true);
        assert!(ledger.may_promise(voted));
    }
}
