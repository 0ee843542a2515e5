//! What the leader of a group tells the system leader.
//!
//! Here: [`GroupReport`], how it is made of a replica's status, and how soon it is made again. Not here: when a group's actor
//! looks and how the report travels (`group`, `node`), what follows from it (`reconcile`).

use core::time::Duration;

use serde::{Deserialize, Serialize};
use synod_consensus::{Configuration, GroupId, LogIndex, ReplicaId, Status, Term};

/// A peer that answered within this time can take a leadership over: two heartbeats and their way.
pub(crate) const PEER_ACTIVE: Duration = Duration::from_millis(1_200);
/// A leader repeats an unchanged report this often, for a system leader that is new.
const REPORT_AGAIN: Duration = Duration::from_secs(4);
/// While a replica catches up the system leader waits for its progress.
const PROGRESS_AGAIN: Duration = Duration::from_millis(100);

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
}

impl GroupReport {
    /// What a leader with this status says now.
    pub fn of(status: Status, now: Duration) -> Self {
        Self {
            group: status.group,
            term: status.term,
            leader: status.replica,
            configuration_committed: status.configuration_index <= status.commit,
            configuration: status.configuration,
            configuration_index: status.configuration_index,
            last: status.last.index,
            resting: status.resting,
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
        let settled = self.configuration.learners.is_empty()
            && self.configuration.outgoing.is_empty()
            && self.configuration_committed;
        if settled {
            REPORT_AGAIN
        } else {
            PROGRESS_AGAIN
        }
    }
}
