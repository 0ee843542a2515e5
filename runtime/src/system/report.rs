//! What the leader of a group tells the system leader.
//!
//! Here: [`GroupReport`], how it is made of a replica's status, and how soon it is made again. Not here: when a group's actor
//! looks and how the report travels (`group`, `node`), what follows from it (`reconcile`).

use core::time::Duration;

use serde::{Deserialize, Serialize};
use synod_consensus::{Configuration, GroupId, LogIndex, ReplicaId, Status, Term};

use super::fence::{Fence, Stamp};
use super::reconcile::caught_up;

/// A peer that answered within this time can take a leadership over: two heartbeats and their way.
pub(crate) const PEER_ACTIVE: Duration = Duration::from_millis(1_200);
/// A leader repeats an unchanged report this often, for a system leader that is new.
const REPORT_AGAIN: Duration = Duration::from_secs(4);
/// While a replica catches up the system leader waits for its progress.
const PROGRESS_AGAIN: Duration = Duration::from_millis(100);
/// With many peers, as the system group has, it looks so often whether a replica has just caught up.
const PROGRESS_LOOK: Duration = Duration::from_millis(5);
/// With so few it looks each time. A step towards a goal takes as long as its news.
const PEERS_FEW: usize = 8;

/// What the leader of a group says about it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GroupReport {
    /// The group.
    pub group: GroupId,
    /// The leader's term; a report of a lower term is ignored.
    pub term: Term,
    /// The leader's replica.
    pub leader: ReplicaId,
    /// The effective configuration.
    pub configuration: Configuration,
    /// Index of the entry that set it; orders name it.
    pub configuration_index: LogIndex,
    /// True when that entry is committed.
    pub configuration_committed: bool,
    /// Last index of the leader's log.
    pub last: LogIndex,
    /// Per other replica, the last index known to match; zero when unknown.
    pub matched: Vec<(ReplicaId, LogIndex)>,
    /// The group rests: this stays true until its leader says otherwise, or its node is not heard any more.
    #[serde(default)]
    pub resting: bool,
    /// Older orders than this are refused.
    #[serde(default)]
    pub fence: Stamp,
}

impl GroupReport {
    /// What a leader with this status and fence says now.
    pub fn of(status: Status, fence: Fence, now: Duration) -> Self {
        Self {
            group: status.group,
            term: status.term,
            leader: status.replica,
            configuration_committed: status.configuration_index <= status.commit,
            configuration: status.configuration,
            configuration_index: status.configuration_index,
            last: status.last.index,
            resting: status.resting,
            fence: fence.stamp(),
            // What a peer once had says nothing of one that no longer answers: it could not take over.
            matched: status
                .peers
                .iter()
                .filter(|peer| peer.answers(now, PEER_ACTIVE))
                .map(|peer| (peer.replica, peer.matched))
                .collect(),
        }
    }

    /// How long after this report its leader makes the next one, if nothing calls for it sooner: while something is under way
    /// soon, else old news will do.
    pub fn again_after(&self) -> Duration {
        if self.is_settled() {
            REPORT_AGAIN
        } else {
            PROGRESS_AGAIN
        }
    }

    /// Whether its leader makes the next one so long after this report, if nothing calls for it sooner. While the group `rests` on, what
    /// was said of that stays true as long as its node is heard.
    pub fn is_due_after(&self, time: Duration, rests: bool) -> bool {
        !(self.resting && rests) && time >= self.again_after()
    }

    /// What is said when the leader that reported this leads no more: that the group rests would stand for ever, if nobody who leads
    /// after it could say otherwise. It may be of long ago who answered then, so nobody does.
    pub fn taken_back(self) -> Option<Self> {
        self.resting.then_some(Self {
            resting: false,
            matched: Vec::new(),
            ..self
        })
    }

    fn is_settled(&self) -> bool {
        self.configuration.learners.is_empty()
            && self.configuration.outgoing.is_empty()
            && self.configuration_committed
    }

    /// Whether this replica is the leader, or answers it.
    pub(super) fn shows(&self, replica: ReplicaId) -> bool {
        replica == self.leader || self.matched.iter().any(|(peer, _)| *peer == replica)
    }

    /// How soon after this report its leader looks whether it got further ([`is_further_than`](Self::is_further_than)); `None`: it
    /// need not, for nothing is awaited. That is so of learners that stay learners, too, once they have caught up: a look at each
    /// command would be dear.
    pub fn look_after(&self) -> Option<Duration> {
        if !self.configuration_committed {
            return Some(Duration::ZERO);
        }
        if self.matched.len() > PEERS_FEW {
            return (!self.is_settled()).then_some(PROGRESS_LOOK);
        }
        let voters = self.configuration.voters.iter();
        let mut members = voters.chain(&self.configuration.learners);
        let awaited = members.any(|id| !caught_up(*id, self));
        (!self.is_settled() && awaited).then_some(Duration::ZERO)
    }

    /// Whether the system leader may have something to do that it could not do by `last`: a configuration was committed, or a copy has
    /// caught up.
    pub fn is_further_than(&self, last: &Self) -> bool {
        if self.configuration_committed && !last.configuration_committed {
            return true;
        }
        let mut peers = self.matched.iter().map(|(peer, _)| *peer);
        peers.any(|peer| caught_up(peer, self) && !caught_up(peer, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: ReplicaId = ReplicaId::new(1);
    const LEARNER: ReplicaId = ReplicaId::new(9);

    fn report(committed: bool, matched: u64) -> GroupReport {
        GroupReport {
            group: GroupId::new(3),
            term: Term::new(1),
            leader: LEADER,
            configuration: Configuration {
                voters: [LEADER].into(),
                learners: [LEARNER].into(),
                ..Configuration::default()
            },
            configuration_index: LogIndex::new(1_000),
            configuration_committed: committed,
            last: LogIndex::new(1_000),
            matched: vec![(LEARNER, LogIndex::new(matched))],
            resting: false,
            fence: Stamp::default(),
        }
    }

    #[test]
    fn what_brings_the_next_step_on_is_said_at_once() {
        let uncommitted = report(false, 0);
        assert_eq!(uncommitted.look_after(), Some(Duration::ZERO));
        assert!(report(true, 0).is_further_than(&uncommitted));
        let committed = report(true, 0);
        assert_eq!(committed.look_after(), Some(Duration::ZERO));
        let mut large = committed.clone();
        large.matched = vec![(LEARNER, LogIndex::ZERO); 100];
        assert_eq!(large.look_after(), Some(PROGRESS_LOOK));
        assert!(
            !report(true, 500).is_further_than(&committed),
            "still far behind"
        );
        assert!(report(true, 900).is_further_than(&committed));
        assert!(
            !report(true, 1_000).is_further_than(&report(true, 900)),
            "known to have caught up"
        );
        let mut settled = report(true, 1_000);
        settled.configuration.learners = Default::default();
        assert_eq!(settled.look_after(), None);
    }
}
