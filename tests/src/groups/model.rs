//! What a replica's log must hold, by the meaning of the writes alone: no files, no payloads, only digests.
//!
//! Kept twice per replica: as asked of the disk, and as the disk acknowledged.

use std::collections::VecDeque;

use synod_consensus::{Entry, EntryKind, HardState, LogIndex, Position, Recovered, Term, Write};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Kind and payload of an entry, in eight bytes.
pub(crate) fn digest(entry: &Entry) -> u64 {
    let kind = match entry.kind {
        EntryKind::Normal => 1,
        EntryKind::Noop => 2,
        EntryKind::Configuration => 3,
    };
    xxh3_64_with_seed(&entry.payload, kind)
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Model {
    pub(crate) exists: bool,
    pub(crate) hard_state: HardState,
    pub(crate) base: Position,
    entries: VecDeque<(Term, u64)>,
}

impl Model {
    pub(crate) fn recovered(recovered: &Recovered) -> Self {
        Self {
            exists: true,
            hard_state: recovered.hard_state,
            base: recovered.base.position,
            entries: recovered
                .entries
                .iter()
                .map(|entry| (entry.term, digest(entry)))
                .collect(),
        }
    }

    pub(crate) fn last(&self) -> Position {
        let index = self.base.index.plus(self.entries.len() as u64);
        Position::new(self.term_at(index).unwrap_or(self.base.term), index)
    }

    pub(crate) fn at(&self, index: LogIndex) -> Option<(Term, u64)> {
        let offset = self.base.index.next().entries_until(index)?;
        self.entries.get(usize::try_from(offset).ok()?).copied()
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.at(index).map(|(term, _)| term)
        }
    }

    /// Whether the log holds this entry, or a snapshot stands for it.
    pub(crate) fn covers(&self, index: LogIndex, term: Term) -> bool {
        index <= self.base.index || self.at(index).is_some_and(|(there, _)| there == term)
    }

    /// Does one write; returns how many entries it took away from the end.
    pub(crate) fn apply(&mut self, write: &Write) -> usize {
        let before = self.entries.len();
        match write {
            Write::HardState(hard_state) => self.hard_state = *hard_state,
            Write::Append(entries) => {
                if let Some(first) = entries.first() {
                    let kept = self
                        .base
                        .index
                        .next()
                        .entries_until(first.index)
                        .expect("appends lie behind the base");
                    self.entries.truncate(kept as usize);
                    let gone = before - self.entries.len();
                    self.entries
                        .extend(entries.iter().map(|entry| (entry.term, digest(entry))));
                    return gone;
                }
            }
            Write::Compact { to } => {
                if let Some(gone) = self
                    .base
                    .index
                    .entries_until(to.position.index)
                    .filter(|gone| *gone > 0)
                {
                    self.entries.drain(..gone as usize);
                    self.base = to.position;
                }
            }
            Write::Reset { to } => {
                self.exists = true;
                self.entries.clear();
                self.base = to.position;
            }
            Write::Drop => *self = Self::default(),
        }
        0
    }
}
