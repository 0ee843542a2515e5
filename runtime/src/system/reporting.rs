//! What a node says to the leader of the system group, and when it makes sure that no word of it was lost.
//!
//! Here: [`Reporting`], pure, one per node. Not here: what is reported and how soon (`report`), what a sum is made of (`sums`), how words
//! travel (`node`).

use core::time::Duration;

use synod_consensus::{GroupId, ReplicaId};

use super::level::Level;
use super::report::GroupReport;
use super::sums::{SUMMED, Sum, Told};

/// So often a node sums up what its groups at rest said; twice as rarely each time when that was asked for again, for a sum may differ as
/// long as somebody who leads now cannot reach the system leader (M31).
const SUMS_EVERY: Duration = Duration::from_secs(10);
/// After words that could not be sent nothing is said again for so long.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// At most so many times twice: another word that is lost meanwhile waits as long.
const DOUBLED_MAX: u32 = 2;
/// Groups at rest say everything again so often while some members' build compares no sums.
const REPORTS_AGAIN: Duration = Duration::from_secs(30);

/// How a node makes sure that the leader of the system group knows what was said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assurance {
    /// Everything that is led here is reported again.
    SayAgain,
    /// The sum of what was said is compared ([`Reporting::sum`]); whoever leads the system group here need not.
    Sum,
}

/// What the leader of the system group was told from here.
#[derive(Debug, Default)]
pub struct Reporting {
    /// Whom the groups led here report to.
    to: Option<ReplicaId>,
    told: Told,
    /// When it was last made sure that nothing was lost.
    checked: Duration,
    /// How many sums in a row the system leader did not come to.
    differed: u32,
    /// It has not said so of the last one.
    agrees: bool,
    /// What was said last could not be sent.
    refused: bool,
}

impl Reporting {
    /// Whether it is time to make sure. Groups that rest report nothing by themselves: another leader of the system group has to be told,
    /// and the present one may have missed something. `level`: the cluster's.
    pub fn look(
        &mut self,
        now: Duration,
        leader: Option<ReplicaId>,
        level: Level,
    ) -> Option<Assurance> {
        if self.to != leader {
            if self.refused && now.saturating_sub(self.checked) < REFUSED_PAUSE {
                return None;
            }
            self.refused = false;
            self.to = leader;
            self.differed = 0;
            return leader.map(|_| self.say_again(now));
        }
        leader?;
        let since = now.saturating_sub(self.checked);
        if level < SUMMED {
            return (since >= REPORTS_AGAIN).then(|| self.say_again(now));
        }
        if since < self.pause() {
            return None;
        }
        self.checked = now;
        if std::mem::replace(&mut self.agrees, true) {
            self.differed = 0;
        }
        Some(Assurance::Sum)
    }

    /// How long it is from one sum to the next.
    fn pause(&self) -> Duration {
        SUMS_EVERY * (1 << self.differed)
    }

    fn say_again(&mut self, now: Duration) -> Assurance {
        self.checked = now;
        Assurance::SayAgain
    }

    /// Of what was said of all groups at rest that are led here.
    pub fn sum(&mut self, leads: impl Fn(GroupId) -> bool) -> Sum {
        self.told.sum(leads)
    }

    /// These reports are on their way.
    pub fn told(&mut self, reports: &[GroupReport]) {
        for report in reports {
            self.told.tell(report);
        }
    }

    /// Some could not be sent: what rests does not say it again by itself.
    pub fn not_told(&mut self) {
        self.to = None;
        self.refused = true;
    }

    /// The leader of the system group lacks something that was said here: everything is to be reported again.
    pub fn asked_again(&mut self, now: Duration) {
        if std::mem::take(&mut self.agrees) {
            self.differed = (self.differed + 1).min(DOUBLED_MAX);
        }
        self.checked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::BUILD_LEVEL;
    use super::*;

    const LEADER: ReplicaId = ReplicaId::new(9);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Seconds, of those until `until`, at which something is due.
    fn due(
        reporting: &mut Reporting,
        from: u64,
        until: u64,
        level: Level,
    ) -> Vec<(u64, Assurance)> {
        let looks = (from..=until).filter_map(|second| {
            let due = reporting.look(at(second), Some(LEADER), level)?;
            Some((second, due))
        });
        looks.collect()
    }

    #[test]
    fn another_leader_is_told_everything_and_then_only_sums() {
        use Assurance::{SayAgain, Sum};
        let mut reporting = Reporting::default();
        assert_eq!(reporting.look(at(1), None, BUILD_LEVEL), None);
        let seen = due(&mut reporting, 2, 25, BUILD_LEVEL);
        assert_eq!(seen, [(2, SayAgain), (12, Sum), (22, Sum)]);
        assert_eq!(reporting.look(at(26), None, BUILD_LEVEL), None);
        let seen = due(&mut reporting, 27, 40, BUILD_LEVEL);
        assert_eq!(seen, [(27, SayAgain), (37, Sum)]);
        reporting.not_told();
        assert_eq!(due(&mut reporting, 41, 42, BUILD_LEVEL), [(41, SayAgain)]);
    }

    #[test]
    fn sums_that_differ_for_long_become_rare_until_one_agrees() {
        let mut reporting = Reporting::default();
        let mut sums = Vec::new();
        for second in 0..=170 {
            if due(&mut reporting, second, second, BUILD_LEVEL)
                .iter()
                .any(|(_, due)| *due == Assurance::Sum)
            {
                sums.push(second);
                reporting.asked_again(at(second));
                reporting.asked_again(at(second)); // a second answer to the same sum
            }
        }
        // After 10, then twice as long each time; at most 40.
        assert_eq!(sums, [10, 30, 70, 110, 150]);
        assert_eq!(reporting.pause(), SUMS_EVERY * 4);
        reporting.look(at(190), Some(LEADER), BUILD_LEVEL);
        assert_eq!(
            reporting.pause(),
            SUMS_EVERY * 4,
            "nothing was heard of the last one yet"
        );
        reporting.look(at(230), Some(LEADER), BUILD_LEVEL);
        assert_eq!(reporting.pause(), SUMS_EVERY, "it agreed");
    }

    #[test]
    fn where_sums_are_unknown_everything_is_said_again() {
        let mut reporting = Reporting::default();
        let seen = due(&mut reporting, 0, 70, Level::FIRST);
        let again = |second| (second, Assurance::SayAgain);
        assert_eq!(seen, [again(0), again(30), again(60)]);
    }
}
