//! Consecutive entries, kept as the runs in which they came.
//!
//! Here: [`Chain`], the entries of a log between compaction and end. Not here: what a log means (`log`), what a store promises
//! (`memory`). A run that a follower or a disk asks for is handed out as it is; only what crosses runs is copied together.

use std::collections::VecDeque;

use crate::{Entries, Entry, LogIndex};

#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// None is empty, each begins where the one before ends.
    runs: VecDeque<Entries>,
    /// What follows on them and nobody has asked for yet.
    open: Vec<Entry>,
}

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.open.is_empty()
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.open.last().or_else(|| self.runs.back()?.last())
    }

    pub(crate) fn get(&self, index: LogIndex) -> Option<&Entry> {
        if self.open.first().is_some_and(|first| index >= first.index) {
            return self.open.get(offset(self.open.first()?.index, index)?);
        }
        let run = &self.runs[self.place(index)?];
        run.get(offset(run[0].index, index)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.runs.iter().flatten().chain(&self.open)
    }

    /// The run that `index` lies in, or the last one when it lies behind all; `None` when it lies before.
    fn place(&self, index: LogIndex) -> Option<usize> {
        let mut high = self.runs.len().checked_sub(1)?;
        // What is asked for is nearly always among what came last. No run is empty: it lies as many runs back as entries, at most.
        let back = index.entries_until(self.begin(high)).unwrap_or(0);
        let mut low = high.saturating_sub(usize::try_from(back).unwrap_or(usize::MAX));
        if index < self.begin(low) {
            return None;
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.begin(middle) <= index {
                low = middle
            } else {
                high = middle - 1
            }
        }
        Some(low)
    }

    fn begin(&self, place: usize) -> LogIndex {
        self.runs[place][0].index
    }

    /// Takes the next entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(
            self.last()
                .is_none_or(|last| entry.index == last.index.next())
        );
        self.open.push(entry);
    }

    /// Takes the next entries.
    pub(crate) fn extend(&mut self, run: Entries) {
        self.close();
        if let Some(first) = run.first() {
            debug_assert!(
                self.last()
                    .is_none_or(|last| first.index == last.index.next())
            );
            self.runs.push_back(run);
        }
    }

    /// What was pushed one by one becomes a run.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.runs.push_back(self.open.drain(..).collect());
        }
    }

    /// Drops `from` and everything after it.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        self.close();
        while let Some(run) = self.runs.pop_back() {
            let kept = offset(run[0].index, from).unwrap_or(0);
            if kept > 0 {
                let kept = kept.min(run.len());
                self.runs.push_back(run.part(0..kept));
                return;
            }
        }
    }

    /// Drops everything through `index`.
    pub(crate) fn drop_through(&mut self, index: LogIndex) {
        self.close();
        while let Some(run) = self.runs.pop_front() {
            let gone = offset(run[0].index, index.next()).unwrap_or(0);
            if gone < run.len() {
                self.runs.push_front(run.part(gone..run.len()));
                return;
            }
        }
    }

    /// Entries from `from` on, as many as fit into `max_bytes` but at least one, none after `through`, and their charge.
    pub(crate) fn slice(
        &mut self,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> (Entries, usize) {
        self.close();
        let mut bytes = 0;
        let mut fitting = 0;
        'count: for run in self.from(from) {
            for entry in run {
                let charge = entry.charge();
                if entry.index > through || (fitting > 0 && bytes + charge > max_bytes) {
                    break 'count;
                }
                bytes += charge;
                fitting += 1;
            }
        }
        (self.first_of(from, fitting), bytes)
    }

    /// So many entries from `from` on; there are as many.
    fn first_of(&self, from: LogIndex, count: usize) -> Entries {
        let Some(place) = self.place(from).filter(|_| count > 0) else {
            return Entries::default();
        };
        let run = &self.runs[place];
        let start = offset(run[0].index, from).expect("it lies in this run");
        if start + count <= run.len() {
            return run.part(start..start + count);
        }
        let crossing = self.from(from).flatten().take(count).cloned();
        crossing.collect::<Vec<Entry>>().into()
    }

    /// What lies in runs from `index` on, run by run; nothing when that is before the first one.
    fn from(&self, index: LogIndex) -> impl Iterator<Item = &[Entry]> {
        let place = self.place(index).unwrap_or(self.runs.len());
        let mut skipped = self
            .runs
            .get(place)
            .and_then(|run| offset(run[0].index, index))
            .unwrap_or(0);
        self.runs
            .range(place..)
            .map(move |run| &run[core::mem::take(&mut skipped).min(run.len())..])
    }

    /// Charge of the entries in `(after, through]`.
    pub(crate) fn charge(&mut self, after: LogIndex, through: LogIndex) -> usize {
        self.close();
        let mut sum = 0;
        for entry in self.from(after.next()).flatten() {
            if entry.index > through {
                break;
            }
            sum += entry.charge();
        }
        sum
    }

    /// Gives memory back that only busy times need.
    pub(crate) fn release_buffers(&mut self) {
        self.runs.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}

/// How many entries lie before `index` in a run that begins with `first`; `None` when it lies before the run.
fn offset(first: LogIndex, index: LogIndex) -> Option<usize> {
    usize::try_from(first.entries_until(index)?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque as Plain;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{EntryKind, Term};

    fn entry(index: u64) -> Entry {
        Entry {
            term: Term::new(1),
            index: LogIndex::new(index),
            kind: EntryKind::Normal,
            payload: Bytes::from(vec![0; (index % 7) as usize]),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Extend(u64),
        Truncate(u64),
        Drop(u64),
        Slice(u64, u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => (0..5_u64).prop_map(Step::Extend),
            1 => (0..30_u64).prop_map(Step::Truncate),
            1 => (0..30_u64).prop_map(Step::Drop),
            4 => (0..40_u64, 0..40_u64, 0..400_usize).prop_map(|(a, b, c)| Step::Slice(a, b, c)),
        ]
    }

    fn fitting(plain: &Plain<Entry>, from: u64, through: u64, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let within = plain
            .iter()
            .filter(|entry| (from..=through).contains(&entry.index.get()));
        let fitting = within.enumerate().take_while(|(nth, entry)| {
            bytes += entry.charge();
            *nth == 0 || bytes <= max_bytes
        });
        fitting.map(|(_, entry)| entry.clone()).collect()
    }

    proptest! {
        // However the entries came, a chain is one list of them.
        #[test]
        fn a_chain_is_a_list(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut chain, mut plain) = (Chain::default(), Plain::new());
            let (mut base, mut end) = (10, 10);
            for step in steps {
                match step {
                    Step::Push => {
                        end += 1;
                        chain.push(entry(end));
                        plain.push_back(entry(end));
                    }
                    Step::Extend(count) => {
                        chain.extend((end + 1..=end + count).map(entry).collect());
                        plain.extend((end + 1..=end + count).map(entry));
                        end += count;
                    }
                    Step::Truncate(at) => {
                        let from = (base + 1 + at).min(end + 1);
                        chain.truncate_from(LogIndex::new(from));
                        plain.retain(|entry| entry.index.get() < from);
                        end = from - 1;
                    }
                    Step::Drop(count) => {
                        base = (base + count).min(end);
                        chain.drop_through(LogIndex::new(base));
                        plain.retain(|entry| entry.index.get() > base);
                    }
                    Step::Slice(from, count, max_bytes) => {
                        let (from, through) = (base + 1 + from, base + from + count);
                        let expected = fitting(&plain, from, through, max_bytes);
                        let charge = expected.iter().map(Entry::charge).sum();
                        let found = chain.slice(LogIndex::new(from), LogIndex::new(through), max_bytes);
                        prop_assert_eq!(found, (Entries::from(expected), charge));
                    }
                }
                prop_assert_eq!(chain.last(), plain.back());
                prop_assert_eq!(chain.is_empty(), plain.is_empty());
                prop_assert!(chain.iter().eq(plain.iter()));
                for index in base..=end + 1 {
                    let expected = plain.iter().find(|entry| entry.index.get() == index);
                    prop_assert_eq!(chain.get(LogIndex::new(index)), expected);
                }
                let (after, through) = (LogIndex::new(base + 1), LogIndex::new(end));
                let charge: usize = plain.iter().skip(1).map(Entry::charge).sum();
                prop_assert_eq!(chain.charge(after, through), charge);
            }
        }
    }

    #[test]
    fn what_was_handed_out_is_not_copied() {
        let mut chain = Chain::default();
        (1..=4).for_each(|index| chain.push(entry(index)));
        let all = |chain: &mut Chain| {
            chain
                .slice(LogIndex::new(1), LogIndex::new(4), usize::MAX)
                .0
        };
        let (first, second) = (all(&mut chain), all(&mut chain));
        assert!(core::ptr::eq(&first[0], &second[0]));
    }
}
