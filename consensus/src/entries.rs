//! Entries that are handed on, not copied.
//!
//! Here: [`Entries`], a run of entries that any number of holders share. What a leader proposed between two polls is one run: its own
//! disk, every follower and the state machine get that one. Not here: a whole log (`chain`).

use core::fmt;
use core::ops::{Deref, Range};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Entry;

/// Entries in the order of a log. A clone costs one count, however many they are; the memory of all is held as long as a part is.
#[derive(Clone, Default)]
pub struct Entries {
    shared: Arc<[Entry]>,
    /// Which of `shared`. An append holds fewer entries than four thousand million.
    start: u32,
    end: u32,
}

impl Entries {
    fn whole(shared: Arc<[Entry]>) -> Self {
        let end = u32::try_from(shared.len()).expect("a run fits into memory as a whole");
        Self {
            shared,
            start: 0,
            end,
        }
    }

    /// Some of them, by place; panics if there are not as many.
    #[must_use]
    pub fn part(&self, places: Range<usize>) -> Self {
        self.clone().narrowed(places)
    }

    /// The same of one that is not needed any more, without counting it twice.
    pub(crate) fn narrowed(mut self, places: Range<usize>) -> Self {
        assert!(places.start <= places.end && places.end <= self.len());
        self.end = self.start + places.end as u32;
        self.start += places.start as u32;
        self
    }

    /// How many; asked of every run at every message, so it follows no pointer.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.shared[self.start as usize..self.end as usize]
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self::whole(entries.into_iter().collect())
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self::whole(entries.into())
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = core::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The same bytes as a list of entries.
impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EntryKind, LogIndex, Term};

    fn entries(count: u64) -> Vec<Entry> {
        let entry = |index| Entry {
            term: Term::new(1),
            index: LogIndex::new(index),
            kind: EntryKind::Normal,
            payload: Bytes::from_static(b"x"),
        };
        (1..=count).map(entry).collect()
    }

    #[test]
    fn a_part_is_what_it_says_and_parts_of_parts_too() {
        let whole = Entries::from(entries(9));
        let part = whole.part(2..8);
        assert_eq!(*part, entries(9)[2..8]);
        assert_eq!(*part.part(1..3), entries(9)[3..5]);
        assert!(part.part(6..6).is_empty());
    }

    #[test]
    fn the_wire_sees_a_list() {
        // The format is older than this type: what replicas of former versions say and hear stays the same.
        let list = entries(3);
        let bytes = rmp_serde::to_vec_named(&list).unwrap();
        let run = Entries::from(list);
        assert_eq!(rmp_serde::to_vec_named(&run.part(0..3)).unwrap(), bytes);
        assert_eq!(rmp_serde::from_slice::<Entries>(&bytes).unwrap(), run);
    }
}
