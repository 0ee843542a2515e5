//! The stores that the log removed, for ever, in little room.
//!
//! Here: [`Removals`], a set of ids kept as ranges. The log numbers stores one after the other and never forgets a removal, and
//! neither may this: a ban that one side prunes lets the ghost return (hazard M7). Old clusters have removed most of their first
//! ids, so the ranges are few.

use std::collections::BTreeMap;

use crate::ids::StoreId;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// First to last id of each range; no two touch.
    ranges: BTreeMap<u64, u64>,
}

impl Removals {
    pub(crate) fn contains(&self, store: StoreId) -> bool {
        let before = self.ranges.range(..=store.get()).next_back();
        before.is_some_and(|(_, &last)| store.get() <= last)
    }

    /// Whether it was new.
    pub(crate) fn insert(&mut self, store: StoreId) -> bool {
        if self.contains(store) {
            return false;
        }
        let id = store.get();
        let (mut first, mut last) = (id, id);
        if let Some((&start, &end)) = self.ranges.range(..id).next_back()
            && end.checked_add(1) == Some(id)
        {
            first = start;
        }
        if let Some(end) = id.checked_add(1).and_then(|next| self.ranges.remove(&next)) {
            last = end;
        }
        self.ranges.insert(first, last);
        true
    }

    /// Ranges held.
    #[cfg(test)]
    pub(crate) fn ranges(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_that_they_stand_for(ids in prop::collection::vec(prop_oneof![0u64..40, u64::MAX - 3..=u64::MAX], 0..80)) {
            // M7: nothing that was removed may be forgotten, and nothing else be taken for removed.
            let (mut ranges, mut set) = (Removals::default(), BTreeSet::new());
            for id in ids {
                prop_assert_eq!(ranges.insert(id.into()), set.insert(id));
            }
            for id in (0..41).chain(u64::MAX - 4..=u64::MAX) {
                prop_assert_eq!(ranges.contains(id.into()), set.contains(&id));
            }
            let gaps = set.iter().filter(|&&id| id == 0 || !set.contains(&(id - 1))).count();
            prop_assert_eq!(ranges.ranges(), gaps);
        }
    }
}
