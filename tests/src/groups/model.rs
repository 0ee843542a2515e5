//! What a replica's log must hold, by the meaning of the writes alone: no files, no payloads, only digests.
//!
//! Kept twice per replica: as asked of the disk, and as the disk acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::LazyLock;

use synod_consensus::{
    Configuration, Entry, EntryKind, HardState, LogIndex, Position, Recovered, SnapshotMeta, Term,
    Write,
};
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
    /// The one at the base and those of the entries, with the entries that set them.
    configurations: Vec<(LogIndex, Arc<Configuration>)>,
}

fn configuration_at(base: &SnapshotMeta) -> Vec<(LogIndex, Arc<Configuration>)> {
    vec![(base.configuration_index, base.configuration.clone().into())]
}

impl Model {
    pub(crate) fn recovered(recovered: &Recovered) -> Self {
        let mut model = Self {
            exists: true,
            hard_state: recovered.hard_state,
            base: recovered.base.position,
            entries: VecDeque::new(),
            configurations: configuration_at(&recovered.base),
        };
        model.extend(&recovered.entries);
        model
    }

    fn extend(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.entries.push_back((entry.term, digest(entry)));
            if let Some(configuration) = entry.configuration() {
                self.configurations
                    .push((entry.index, configuration.into()));
            }
        }
    }

    /// The last configuration in the log: that is the one in force, committed or not (Raft paper 6).
    pub(crate) fn configuration(&self) -> (LogIndex, &Configuration) {
        static NONE: LazyLock<Configuration> = LazyLock::new(Configuration::default);
        self.configurations
            .last()
            .map_or((LogIndex::ZERO, &NONE), |(index, configuration)| {
                (*index, &**configuration)
            })
    }

    /// The same, to be kept; `None`: the log is empty.
    pub(crate) fn in_force(&self) -> Option<Arc<Configuration>> {
        self.configurations
            .last()
            .map(|(_, configuration)| configuration.clone())
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
                    let base = self.base.index;
                    self.configurations
                        .retain(|(at, _)| *at < first.index || *at <= base);
                    self.extend(entries);
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
                    let kept = self
                        .configurations
                        .drain(..)
                        .filter(|(at, _)| *at > to.position.index);
                    self.configurations = configuration_at(to).into_iter().chain(kept).collect();
                }
            }
            Write::Reset { to } => {
                self.exists = true;
                self.entries.clear();
                self.base = to.position;
                self.configurations = configuration_at(to);
            }
            Write::Drop => *self = Self::default(),
        }
        0
    }
}
