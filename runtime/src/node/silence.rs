//! When a node from which beats are expected is silent.
//!
//! Here: [`Silence`], pure: time, what was heard and what a port refused come in as arguments. What follows is a hint that makes groups
//! ask for an election early, never evidence for a vote (DESIGN section 9). Not here: the thread that looks (`beats`), groups that rest
//! (`synod_consensus::claims`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Silence after which a node is suspected. Four lost or late beats: on a loaded two-core machine with three nodes a process can be off
/// the processor for 100 ms and more.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(450);
/// One late beat: it is asked whether anybody listens at its port, and silence where nobody does. Nobody is suspected who was heard
/// just now, whoever says that it is gone.
const LATE_AFTER: Duration = Duration::from_millis(120);
/// Groups that still follow a silent node are told again this often.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// A silent node, whose groups are to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Silent {
    pub(super) store: u64,
    /// It was not silent when somebody looked last.
    pub(super) news: bool,
}

/// What is known of those from whom beats are expected.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Since when: what was heard before was heard by chance.
    expected: BTreeMap<u64, Duration>,
    told: BTreeMap<u64, Duration>,
}

impl Silence {
    /// Looks at `leaders`, and returns those whose groups are to be told now.
    pub(super) fn look(
        &mut self,
        now: Duration,
        leaders: &BTreeSet<u64>,
        heard: impl Fn(u64) -> Option<Duration>,
        refused: impl Fn(u64) -> bool,
    ) -> Vec<Silent> {
        self.expected.retain(|store, _| leaders.contains(store));
        self.told.retain(|store, _| leaders.contains(store));
        let mut silent = Vec::new();
        for store in leaders.iter().copied() {
            self.expected.entry(store).or_insert(now);
            let Some(last) = self.last_sign(store, &heard) else {
                continue;
            };
            if now < last + patience(refused(store)) {
                self.told.remove(&store);
                continue;
            }
            let told = self.told.get(&store).copied();
            if told.is_none_or(|told| now >= told + TELL_AGAIN) {
                self.told.insert(store, now);
                let news = told.is_none();
                silent.push(Silent { store, news });
            }
        }
        silent
    }

    /// Whether its next beat should have been here by now.
    pub(super) fn is_late(
        &self,
        now: Duration,
        store: u64,
        heard: impl Fn(u64) -> Option<Duration>,
    ) -> bool {
        let last = self.last_sign(store, &heard);
        last.is_some_and(|last| now >= last + LATE_AFTER)
    }

    /// What counts as its last sign of life; `None`: it was never heard, or nothing is expected of it.
    fn last_sign(&self, store: u64, heard: &impl Fn(u64) -> Option<Duration>) -> Option<Duration> {
        let since = self.expected.get(&store)?;
        Some(heard(store)?.max(*since))
    }

    /// When the first of those that are not silent would be, or the first of those on time would be late, if nothing more is heard of it:
    /// all who lose the same leader find out at the same time then, and not at their next beats. One that asked too early for votes
    /// would be refused.
    pub(super) fn due(
        &self,
        now: Duration,
        heard: impl Fn(u64) -> Option<Duration>,
        refused: impl Fn(u64) -> bool,
    ) -> Option<Duration> {
        let waiting = self
            .expected
            .keys()
            .filter(|store| !self.told.contains_key(store));
        let due = waiting.filter_map(|store| {
            let last = self.last_sign(*store, &heard)?;
            let late = last + LATE_AFTER;
            Some(if now < late {
                late
            } else {
                last + patience(refused(*store))
            })
        });
        due.min()
    }
}

fn patience(refused: bool) -> Duration {
    if refused { LATE_AFTER } else { SILENT_AFTER }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: u64 = 3;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Whether the leader is told of at `now`, and whether that is news, when it was heard last at `heard`.
    fn look(silence: &mut Silence, now: u64, heard: u64, refused: bool) -> Option<bool> {
        let (leaders, heard) = ([LEADER].into(), Some(at(heard)));
        let silent = silence.look(at(now), &leaders, |_| heard, |_| refused);
        assert!(silent.iter().all(|silent| silent.store == LEADER));
        silent.first().map(|silent| silent.news)
    }

    #[test]
    fn it_is_told_when_it_is_silent_for_long_and_again_as_long_as_it_is() {
        let mut silence = Silence::default();
        assert_eq!(look(&mut silence, 1_000, 1_000, false), None);
        let due = |silence: &Silence, now| silence.due(at(now), |_| Some(at(1_000)), |_| false);
        let is_late =
            |silence: &Silence, now| silence.is_late(at(now), LEADER, |_| Some(at(1_000)));
        assert_eq!(due(&silence, 1_000), Some(at(1_120)), "then it is late");
        assert!(!is_late(&silence, 1_119) && is_late(&silence, 1_120));
        assert_eq!(due(&silence, 1_120), Some(at(1_450)));
        assert_eq!(look(&mut silence, 1_449, 1_000, false), None);
        assert_eq!(look(&mut silence, 1_450, 1_000, false), Some(true));
        assert_eq!(due(&silence, 1_450), None, "nothing to wait for");
        assert_eq!(look(&mut silence, 1_949, 1_000, false), None);
        assert_eq!(look(&mut silence, 1_950, 1_000, false), Some(false));
        assert_eq!(look(&mut silence, 2_000, 1_990, false), None);
        assert_eq!(look(&mut silence, 2_440, 1_990, false), Some(true));
    }

    #[test]
    fn a_closed_port_shortens_it_and_cannot_depose_who_is_heard() {
        let mut silence = Silence::default();
        assert_eq!(look(&mut silence, 1_000, 1_000, true), None);
        let due = silence.due(at(1_000), |_| Some(at(1_000)), |_| true);
        assert_eq!(due, Some(at(1_120)));
        assert_eq!(look(&mut silence, 1_119, 1_000, true), None);
        assert_eq!(look(&mut silence, 1_119, 1_119, true), None);
        assert_eq!(look(&mut silence, 1_239, 1_119, true), Some(true));
    }

    #[test]
    fn what_was_heard_before_it_led_is_no_measure() {
        let mut silence = Silence::default();
        assert_eq!(look(&mut silence, 9_000, 1_000, true), None);
        assert_eq!(look(&mut silence, 9_100, 1_000, false), None);
        assert_eq!(look(&mut silence, 9_450, 1_000, false), Some(true));
        let nobody = silence.look(at(9_500), &BTreeSet::new(), |_| None, |_| false);
        assert_eq!(nobody, []);
        assert_eq!(silence.due(at(9_500), |_| Some(at(9_500)), |_| false), None);
    }
}
