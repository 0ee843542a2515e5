//! Consecutive entries, kept as the runs in which they came.
//!
//! Here: [`Chain`], the entries of a log between compaction and end. Not here: what a log means (`log`), what a store promises
//! (`memory`). A run that a follower or a disk asks for is handed out as it is; only what crosses runs is copied together.

use core::ops::Range;
use std::collections::VecDeque;

use crate::{Entries, Entry, LogIndex};

#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// Each begins where the one before ends.
    runs: VecDeque<Run>,
    /// What follows on them and nobody has asked for yet.
    open: Vec<Entry>,
}

/// Never empty. What is asked of every run at every message stands beside it, so that nobody follows its pointer for that.
#[derive(Clone, Debug)]
struct Run {
    first: LogIndex,
    /// Of all its entries.
    charge: usize,
    entries: Entries,
}

impl Run {
    fn of(entries: Entries) -> Option<Self> {
        Some(Self {
            first: entries.first()?.index,
            charge: entries.iter().map(Entry::charge).sum(),
            entries,
        })
    }

    /// How many entries lie before `index`, all of them at most; none when it lies before the run.
    fn before(&self, index: LogIndex) -> usize {
        offset(self.first, index)
            .unwrap_or(0)
            .min(self.entries.len())
    }

    fn last(&self) -> LogIndex {
        self.first.plus(self.entries.len() as u64 - 1)
    }

    fn charge_of(&self, part: &Range<usize>) -> usize {
        if part.len() == self.entries.len() {
            self.charge
        } else {
            let entries = &self.entries[part.clone()];
            entries.iter().map(Entry::charge).sum()
        }
    }
}

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.open.is_empty()
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.open
            .last()
            .or_else(|| self.runs.back()?.entries.last())
    }

    #[cfg(test)]
    pub(crate) fn get(&self, index: LogIndex) -> Option<&Entry> {
        let before = offset(self.iter().next()?.index, index)?;
        self.iter().nth(before)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.runs
            .iter()
            .flat_map(|run| &run.entries)
            .chain(&self.open)
    }

    /// The run that `index` lies in, or the last one when it lies behind all; `None` when it lies before.
    fn place(&self, index: LogIndex) -> Option<usize> {
        let mut high = self.runs.len().checked_sub(1)?;
        // What is asked for is nearly always among what came last. No run is empty: it lies as many runs back as entries, at most.
        let back = index.entries_until(self.runs[high].first).unwrap_or(0);
        let mut low = high.saturating_sub(usize::try_from(back).unwrap_or(usize::MAX));
        if index < self.runs[low].first {
            return None;
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.runs[middle].first <= index {
                low = middle
            } else {
                high = middle - 1
            }
        }
        Some(low)
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
    pub(crate) fn extend(&mut self, entries: Entries) {
        self.close();
        if let Some(run) = Run::of(entries) {
            debug_assert!(
                self.last()
                    .is_none_or(|last| run.first == last.index.next())
            );
            self.runs.push_back(run);
        }
    }

    /// What was pushed one by one becomes a run.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.runs.extend(Run::of(self.open.drain(..).collect()));
        }
    }

    /// Drops `from` and everything after it.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        self.close();
        while let Some(run) = self.runs.back() {
            let kept = run.before(from);
            if kept == run.entries.len() {
                return;
            }
            let cut = self.runs.pop_back().expect("looked at just now");
            self.runs.extend(Run::of(cut.entries.narrowed(0..kept)));
        }
    }

    /// Drops everything through `index`.
    pub(crate) fn drop_through(&mut self, index: LogIndex) {
        self.close();
        while let Some(run) = self.runs.front() {
            let (gone, all) = (run.before(index.next()), run.entries.len());
            if gone == 0 {
                return;
            }
            let cut = self.runs.pop_front().expect("looked at just now");
            if gone < all {
                let rest = Run::of(cut.entries.narrowed(gone..all));
                self.runs.push_front(rest.expect("not all are gone"));
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
        // Nearly always it is one run, or a part of one.
        let Some(place) = self.place(from) else {
            return (Entries::default(), 0);
        };
        let run = &self.runs[place];
        let part = run.before(from)..run.before(through.next());
        let alone =
            part.end < run.entries.len() || place + 1 == self.runs.len() || through == run.last();
        if part.is_empty() {
            return (Entries::default(), 0);
        }
        if alone && run.charge <= max_bytes {
            let bytes = run.charge_of(&part);
            return (run.entries.part(part), bytes);
        }
        let (mut count, mut bytes) = (0, 0);
        for (run, part) in self.parts(from, through) {
            if part.len() == run.entries.len() && bytes + run.charge <= max_bytes {
                count += part.len();
                bytes += run.charge;
                continue;
            }
            let fitting = run.entries[part.clone()]
                .iter()
                .map(Entry::charge)
                .enumerate()
                .take_while(|(nth, charge)| {
                    let fits = count + nth == 0 || bytes + charge <= max_bytes;
                    bytes += if fits { *charge } else { 0 };
                    fits
                })
                .count();
            count += fitting;
            if fitting < part.len() {
                break;
            }
        }
        (self.first_of(from, count), bytes)
    }

    /// So many entries from `from` on; there are as many.
    fn first_of(&self, from: LogIndex, count: usize) -> Entries {
        let Some(place) = self.place(from).filter(|_| count > 0) else {
            return Entries::default();
        };
        let run = &self.runs[place];
        let start = run.before(from);
        if start + count <= run.entries.len() {
            return run.entries.part(start..start + count);
        }
        let through = from.plus(count as u64 - 1);
        let crossing = self
            .parts(from, through)
            .flat_map(|(run, part)| &run.entries[part]);
        crossing.cloned().collect::<Vec<Entry>>().into()
    }

    /// What lies in runs in `[from, through]`, run by run, as places within each; nothing when `from` lies before the first one.
    fn parts(
        &self,
        from: LogIndex,
        through: LogIndex,
    ) -> impl Iterator<Item = (&Run, Range<usize>)> {
        let place = self.place(from).unwrap_or(self.runs.len());
        self.runs
            .range(place..)
            .map(move |run| (run, run.before(from)..run.before(through.next())))
            .take_while(|(_, part)| !part.is_empty())
    }

    /// Charge of the entries in `(after, through]`.
    pub(crate) fn charge(&mut self, after: LogIndex, through: LogIndex) -> usize {
        self.close();
        self.parts(after.next(), through)
            .map(|(run, part)| run.charge_of(&part))
            .sum()
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
