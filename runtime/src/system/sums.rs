//! Whether the system leader still knows what it was told.
//!
//! What the leader of a group at rest reported stands until it says otherwise, and it says so once. Were its word lost on the way, the
//! system leader would go by an older one for ever; were all said again from time to time, thousands of groups at rest would cost a
//! message each. So a node sends one number for all of its groups at rest, and says them again where the system leader comes to another
//! one. Here: [`Sum`], [`Told`] (what a node said). Not here: what the system leader was told (`reconcile`), when it is asked
//! (`reporting`).
//!
//! Source: anti-entropy by checksums, Demers et al. (1987), 1.3.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use synod_consensus::GroupId;
use xxhash_rust::xxh3::Xxh3;

use super::level::Level;
use super::report::GroupReport;

/// Builds from this level on compare sums.
pub(super) const SUMMED: Level = Level::new(3);

/// Of any number of reports, in any order.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sum {
    /// How many they are.
    groups: u64,
    /// Their marks, added up.
    marks: u64,
}

impl FromIterator<u64> for Sum {
    fn from_iter<I: IntoIterator<Item = u64>>(marks: I) -> Self {
        marks.into_iter().fold(Self::default(), |sum, mark| Self {
            groups: sum.groups + 1,
            marks: sum.marks.wrapping_add(mark),
        })
    }
}

impl GroupReport {
    /// What stands for it in a sum; `None`: the group does not rest, and is reported anew anyway. Made of what a build of any age that
    /// compares sums reads from it, so that two of them come to the same.
    pub(super) fn mark(&self) -> Option<u64> {
        if !self.resting {
            return None;
        }
        let mut hash = Xxh3::new();
        let mut add = |number: u64| hash.update(&number.to_le_bytes());
        for number in [
            self.group.get(),
            self.term.get(),
            self.leader.get(),
            self.configuration_index.get(),
            u64::from(self.configuration_committed),
            self.last.get(),
            self.fence.term,
            self.fence.epoch,
        ] {
            add(number);
        }
        for (peer, matched) in &self.matched {
            add(peer.get());
            add(matched.get());
        }
        Some(hash.digest())
    }
}

/// What a node told the system leader of the groups at rest that it leads.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<GroupId, u64>);

impl Told {
    /// This was sent.
    pub fn tell(&mut self, report: &GroupReport) {
        match report.mark() {
            Some(mark) => self.0.insert(report.group, mark),
            None => self.0.remove(&report.group),
        };
    }

    /// Of all that is led here still; others say what becomes of the rest.
    pub fn sum(&mut self, leads: impl Fn(GroupId) -> bool) -> Sum {
        self.0.retain(|group, _| leads(*group));
        self.0.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use synod_consensus::{Configuration, LogIndex, ReplicaId, Term};

    use super::super::fence::Stamp;
    use super::super::reconcile::Reconciler;
    use super::super::state::ReplicaAddress;
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn on(store: u64) -> ReplicaId {
        ReplicaAddress { store, serial: 7 }.id()
    }

    fn report(group: u64, store: u64) -> GroupReport {
        GroupReport {
            group: GroupId::new(group),
            term: Term::new(store), // each takes over from the one before
            leader: on(store),
            configuration: Configuration::of_voters([1, 2, 3].map(on)),
            configuration_index: LogIndex::new(4),
            configuration_committed: true,
            last: LogIndex::new(9),
            matched: vec![(on(3), LogIndex::new(9))],
            resting: true,
            fence: Stamp::default(),
        }
    }

    #[test]
    fn a_report_that_was_lost_is_missed_and_found() {
        let (mut told, mut leader) = (Told::default(), Reconciler::new(None));
        let all: Vec<_> = (1..=5).map(|group| report(group, 1)).collect();
        for report in &all {
            told.tell(report);
        }
        let arrived = all.iter().filter(|report| report.group.get() != 3);
        for report in arrived {
            leader.reported(NOW, report.clone());
        }
        let sum = told.sum(|_| true);
        assert_ne!(leader.sum_of(1), sum);
        leader.reported(NOW, all[2].clone());
        assert_eq!(leader.sum_of(1), sum);
        assert_eq!(leader.sum_of(2), Sum::default());
    }

    #[test]
    fn an_old_word_that_stands_is_another_one() {
        let (mut told, mut leader) = (Told::default(), Reconciler::new(None));
        let old = report(1, 1);
        leader.reported(NOW, old.clone());
        let changes: [fn(&mut GroupReport); 6] = [
            |report| report.term = Term::new(2),
            |report| report.configuration_index = LogIndex::new(5),
            |report| report.configuration_committed = false,
            |report| report.last = LogIndex::new(10),
            |report| report.matched[0].1 = LogIndex::new(8),
            |report| report.fence.epoch = 1,
        ];
        for change in changes {
            let mut new = old.clone();
            change(&mut new);
            told.tell(&new);
            assert_ne!(leader.sum_of(1), told.sum(|_| true), "{new:?}");
        }
    }

    #[test]
    fn what_is_led_elsewhere_now_or_does_not_rest_counts_for_nobody() {
        let (mut told, mut leader) = (Told::default(), Reconciler::new(None));
        for report in [report(1, 1), report(2, 1), report(3, 1)] {
            told.tell(&report);
            leader.reported(NOW, report);
        }
        leader.reported(NOW, report(1, 2)); // a new leader of group 1
        let mut awake = report(2, 1);
        awake.resting = false;
        told.tell(&awake);
        leader.reported(NOW, awake);
        let sum = told.sum(|group| group.get() != 1);
        assert_eq!(leader.sum_of(1), sum);
        assert_eq!(sum, Sum::from_iter(report(3, 1).mark()));
    }
}
