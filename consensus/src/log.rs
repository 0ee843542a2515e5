//! The log of one replica, as far as it is not compacted, in memory.
//!
//! Here: entries, their positions, and the configurations among them. Not here: what is durable (`persistence`), what is committed
//! (`group`). An append at `i` drops everything from `i` on, the configurations too (H39, H47).

use crate::chain::Chain;
use crate::error::RestoreError;
use crate::{Configuration, Entries, Entry, LogIndex, Members, Position, SnapshotMeta, Term};

#[derive(Debug)]
pub(crate) struct Log {
    /// The last compacted entry.
    base: Position,
    /// The last entry; `base` when there is none.
    last: Position,
    /// Contiguous from `base.index + 1`.
    entries: Chain,
    /// Where the term changes between `base` and `last`: the first entry of each new one, ascending. Most questions about a log are
    /// about terms, and there are few.
    terms: Vec<Position>,
    /// Ascending; the first one is effective at `base`, the last one in the log is effective now, committed or not (H42).
    configurations: Vec<(LogIndex, Configuration)>,
    /// Only for tests that put H42 back: no configuration behind this is in force.
    pub(crate) in_force_through: LogIndex,
}

impl Log {
    pub(crate) fn empty(base: &SnapshotMeta) -> Self {
        let configurations = vec![(base.configuration_index, base.configuration.clone())];
        Self {
            base: base.position,
            last: base.position,
            entries: Chain::default(),
            terms: Vec::new(),
            configurations,
            in_force_through: LogIndex::new(u64::MAX),
        }
    }

    /// For tests that put H46 back.
    pub(crate) fn forget_outgoing(&mut self) {
        for (_, configuration) in &mut self.configurations {
            configuration.outgoing = Members::new();
        }
    }

    /// Reads a recovered log, trusting nothing.
    pub(crate) fn restore(base: &SnapshotMeta, entries: Vec<Entry>) -> Result<Self, RestoreError> {
        let mut log = Self::empty(base);
        for entry in entries {
            let (at, last) = (entry.position(), log.last());
            if at.index != last.index.next() || at.term < last.term {
                return Err(RestoreError::Broken { at });
            }
            if entry.kind == crate::EntryKind::Configuration && entry.configuration().is_none() {
                return Err(RestoreError::BadConfiguration { at });
            }
            log.push(entry);
        }
        Ok(log)
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> Position {
        self.last
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.last.index
    }

    /// The configuration that is effective now and the entry that set it.
    pub(crate) fn configuration(&self) -> &(LogIndex, Configuration) {
        let mut latest_first = self.configurations.iter().rev();
        let in_force = latest_first.find(|(at, _)| *at <= self.in_force_through);
        in_force
            .or(self.configurations.first())
            .expect("the base's configuration is always there")
    }

    /// All configurations that the log knows, ascending.
    pub(crate) fn configurations(&self) -> &[(LogIndex, Configuration)] {
        &self.configurations
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives memory back that only busy times need.
    pub(crate) fn release_buffers(&mut self) {
        self.entries.release_buffers();
        self.terms.shrink_to_fit();
        self.configurations.shrink_to_fit();
    }

    #[cfg(test)]
    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Everything that is not compacted.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The term at `index`; `None` when it is compacted or behind the end.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let began = self.terms.iter().rev().find(|first| first.index <= index);
        Some(began.unwrap_or(&self.base).term)
    }

    /// Whether the log holds exactly this entry, so that it agrees with any other such log up to there.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// Takes the next entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.learn(&entry);
        self.entries.push(entry);
    }

    /// Takes the next entries, which follow each other.
    pub(crate) fn extend(&mut self, run: Entries) {
        run.iter().for_each(|entry| self.learn(entry));
        self.entries.extend(run);
    }

    /// What is known of the entry that comes next, besides itself.
    fn learn(&mut self, entry: &Entry) {
        let at = entry.position();
        assert_eq!(at.index, self.last.index.next(), "a log has no holes (H32)");
        debug_assert!(at.term >= self.last.term, "terms in a log never go back");
        if at.term != self.last.term {
            self.terms.push(at);
        }
        self.last = at;
        if let Some(configuration) = entry.configuration() {
            self.configurations.push((entry.index, configuration));
        }
    }

    /// Drops `from` and everything after it. Returns whether another configuration is effective now.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) -> bool {
        assert!(
            from > self.base.index,
            "compacted entries are never truncated"
        );
        if from > self.last.index {
            return false;
        }
        self.entries.truncate_from(from);
        let kept = from.previous();
        let term = self.term_at(kept).expect("between base and last");
        self.last = Position::new(term, kept);
        self.terms.retain(|first| first.index < from);
        let before = self.configurations.len();
        while self.configurations.len() > 1 && self.configuration().0 >= from {
            self.configurations.pop();
        }
        self.configurations.len() != before
    }

    /// Entries from `from` on, as many as fit into `max_bytes` but at least one, none after `through`. Contiguous by construction.
    pub(crate) fn slice(
        &mut self,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> (Entries, usize) {
        self.entries.slice(from, through, max_bytes)
    }

    /// Bytes charged for the entries in `(after, through]`.
    pub(crate) fn charge(&mut self, after: LogIndex, through: LogIndex) -> usize {
        self.entries.charge(after, through)
    }

    /// The last position at or before `limit.index` whose term is at most `limit.term`: the best guess where a log that ends its
    /// `limit.term` there still agrees with this one. One round trip per term, not per entry (Raft paper 5.3, end).
    pub(crate) fn last_within(&self, limit: Position) -> Position {
        let end = limit.index.min(self.last.index);
        if end <= self.base.index || self.base.term > limit.term {
            return self.base;
        }
        let beyond = self.terms.iter().find(|first| first.term > limit.term);
        let end = beyond.map_or(end, |first| end.min(first.index.previous()));
        Position::new(self.term_at(end).expect("between base and last"), end)
    }

    /// What stands for the prefix through `index`; `None` when that is compacted or behind the end.
    pub(crate) fn meta_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        let term = self.term_at(index)?;
        let known = self
            .configurations
            .iter()
            .rev()
            .find(|(at, _)| *at <= index);
        let (configuration_index, configuration) = known.unwrap_or(&self.configurations[0]).clone();
        Some(SnapshotMeta {
            position: Position::new(term, index),
            configuration,
            configuration_index,
        })
    }

    /// Forgets the entries through `meta.position`.
    pub(crate) fn compact(&mut self, meta: &SnapshotMeta) {
        assert!(
            self.holds(meta.position),
            "compaction at {} of a log ({}, {}]",
            meta.position,
            self.base,
            self.last()
        );
        self.entries.drop_through(meta.position.index);
        self.base = meta.position;
        self.terms.retain(|first| first.index > meta.position.index);
        let passed = self
            .configurations
            .iter()
            .take_while(|(at, _)| *at <= self.base.index)
            .count();
        self.configurations.drain(..passed.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EntryKind, ReplicaId};

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::empty(&SnapshotMeta::founding(Configuration::of_voters([
            ReplicaId::new(1),
        ])));
        for (i, term) in terms.iter().enumerate() {
            log.push(Entry {
                term: Term::new(*term),
                index: LogIndex::new(i as u64 + 1),
                kind: EntryKind::Normal,
                payload: Bytes::from_static(b"12345678"),
            });
        }
        log
    }

    fn position(term: u64, index: u64) -> Position {
        Position::new(Term::new(term), LogIndex::new(index))
    }

    #[test]
    fn back_off_skips_a_whole_term_at_once() {
        // Raft paper 5.3, end.
        let log = log(&[1, 1, 1, 4, 4, 5]);
        assert_eq!(log.last_within(position(3, 6)), position(1, 3));
        assert_eq!(log.last_within(position(4, 4)), position(4, 4));
        assert_eq!(log.last_within(position(9, 99)), position(5, 6));
        assert_eq!(log.last_within(position(0, 6)), Position::ZERO);
    }

    #[test]
    fn a_slice_is_contiguous_and_bounded() {
        // H32: limiting by size must not leave holes.
        let mut log = log(&[1; 10]);
        let charge = 8 + Entry::OVERHEAD;
        let (entries, bytes) = log.slice(LogIndex::new(3), LogIndex::new(9), 3 * charge);
        assert_eq!(
            entries.iter().map(|e| e.index.get()).collect::<Vec<_>>(),
            [3, 4, 5]
        );
        assert_eq!(bytes, 3 * charge);
        assert_eq!(log.slice(LogIndex::new(3), LogIndex::new(9), 1).0.len(), 1);
        assert_eq!(
            log.slice(LogIndex::new(9), LogIndex::new(99), usize::MAX)
                .0
                .len(),
            2
        );
        assert_eq!(
            log.slice(LogIndex::new(11), LogIndex::new(99), usize::MAX)
                .0
                .len(),
            0
        );
        assert_eq!(log.charge(LogIndex::new(2), LogIndex::new(5)), 3 * charge);
    }

    #[test]
    fn truncation_drops_the_suffix_and_its_configurations() {
        // H39, H47
        let mut log = log(&[1, 1]);
        let second = Configuration::of_voters([1, 2].map(ReplicaId::new));
        log.push(Entry {
            term: Term::new(1),
            index: LogIndex::new(3),
            kind: EntryKind::Configuration,
            payload: second.encode(),
        });
        assert_eq!(log.configuration(), &(LogIndex::new(3), second));
        assert!(log.truncate_from(LogIndex::new(2)));
        assert_eq!(log.last(), position(1, 1));
        assert_eq!(log.entry(LogIndex::new(2)), None);
        assert_eq!(log.configuration().0, LogIndex::ZERO);
    }

    #[test]
    fn compaction_keeps_the_effective_configuration() {
        let mut log = log(&[1, 1]);
        for (index, voters) in [(3, 2), (4, 3)] {
            let payload = Configuration::of_voters((1..=voters).map(ReplicaId::new)).encode();
            log.push(Entry {
                term: Term::new(2),
                index: LogIndex::new(index),
                kind: EntryKind::Configuration,
                payload,
            });
        }
        let meta = log.meta_at(LogIndex::new(3)).unwrap();
        log.compact(&meta);
        assert_eq!(
            (log.base(), log.first_index()),
            (position(2, 3), LogIndex::new(4))
        );
        assert_eq!(
            log.configurations()
                .iter()
                .map(|(at, _)| at.get())
                .collect::<Vec<_>>(),
            [3, 4]
        );
        assert_eq!(log.meta_at(LogIndex::new(3)), Some(meta));
        assert_eq!(log.meta_at(LogIndex::new(2)), None);
        assert_eq!(log.term_at(LogIndex::new(2)), None);
    }
}
