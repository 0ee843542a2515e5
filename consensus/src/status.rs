//! What a group looks like from outside, for operators, planners and invariants.

use core::time::Duration;

use crate::{Configuration, GroupId, LogIndex, Position, ReplicaId, Role, Term};

/// One look at a replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The group.
    pub group: GroupId,
    /// This replica.
    pub replica: ReplicaId,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
    /// What it is.
    pub role: Role,
    /// Who leads in that term, as far as known here.
    pub leader: Option<ReplicaId>,
    /// Known to be committed.
    pub commit: LogIndex,
    /// Acknowledged by the state machine.
    pub applied: LogIndex,
    /// Durable here.
    pub persisted: LogIndex,
    /// The first entry still in the log (one past its end when it is empty).
    pub first: LogIndex,
    /// The last entry of the log.
    pub last: Position,
    /// The effective configuration.
    pub configuration: Configuration,
    /// The entry that set it.
    pub configuration_index: LogIndex,
    /// On a leader: every other member.
    pub peers: Vec<PeerStatus>,
    /// On a leader: bytes proposed and not committed.
    pub pending_bytes: usize,
    /// Where leadership is going, during a transfer: no proposals are taken.
    pub transfer: Option<ReplicaId>,
    /// Who is brought near to the log's end, so that leadership may go there.
    pub prepares: Option<ReplicaId>,
    /// It lost data that it had acknowledged.
    pub data_lost: bool,
    /// It serves its group as well as it can: see [`Group::has_caught_up`](crate::Group::has_caught_up).
    pub caught_up: bool,
    /// It rests: as a leader that needs no heartbeats, or as a follower under its claim.
    pub resting: bool,
}

/// How a leader sees a follower.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Who.
    pub replica: ReplicaId,
    /// Equal and durable through here.
    pub matched: LogIndex,
    /// The next entry to send. While it replicates, at or before the log's end: its window is full.
    pub next: LogIndex,
    /// How it is being fed.
    pub state: PeerState,
    /// When something was sent to it that it has answered.
    pub active_at: Duration,
    /// The leader rests, and this one under its claim: it has nothing to answer until that ends.
    pub rests: bool,
}

impl PeerStatus {
    /// Whether it answered within that time, or is not asked because it rests.
    pub fn answers(&self, now: Duration, within: Duration) -> bool {
        self.rests || now.saturating_sub(self.active_at) <= within
    }
}

/// How a follower is being fed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerState {
    /// One append at a time, until the logs are known to meet.
    Probe,
    /// A pipeline of appends.
    Replicate,
    /// A snapshot, because the log no longer reaches back far enough.
    Snapshot,
}
