//! Why a group refused something, and what to do next. Refused means refused: nothing entered the log, nothing was changed.

use crate::{GroupId, LogIndex, Members, Position, ReplicaId};

/// Why a proposal was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Send it to `leader`; on `None`, wait for the next leader event.
    #[error("group {group} is not led here, leader is {leader:?}")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, as far as known here.
        leader: Option<ReplicaId>,
    },
    /// Leadership is being handed over: hold the command until `Output::TransferEnded` or a role change.
    #[error("group {group} hands its leadership to {to}")]
    Transferring {
        /// The group.
        group: GroupId,
        /// The next leader, if all goes well.
        to: ReplicaId,
    },
    /// Propose again once something was applied.
    #[error("group {group} has {pending_bytes} bytes in flight")]
    Busy {
        /// The group.
        group: GroupId,
        /// Proposed and not yet committed.
        pending_bytes: usize,
    },
    /// Never proposable; split it.
    #[error("an entry of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// As given.
        bytes: usize,
        /// `GroupOptions::entry_bytes`.
        limit: usize,
    },
}

/// Why a linearizable read was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Ask `leader`; on `None`, wait for the next leader event.
    #[error("group {group} is not led here, leader is {leader:?}")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, as far as known here.
        leader: Option<ReplicaId>,
    },
    /// Ask again after some reads were answered.
    #[error("group {group} has {waiting} reads waiting")]
    Busy {
        /// The group.
        group: GroupId,
        /// `GroupOptions::waiting_reads`.
        waiting: usize,
    },
}

/// Why a configuration change was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Send it to `leader`; on `None`, wait for the next leader event.
    #[error("group {group} is not led here, leader is {leader:?}")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, as far as known here.
        leader: Option<ReplicaId>,
    },
    /// Look at the effective configuration and form the wish anew.
    #[error("the configuration is that of entry {effective}, not of {expected}")]
    Outdated {
        /// As given.
        expected: LogIndex,
        /// As it is.
        effective: LogIndex,
    },
    /// Wait: the configuration of `index` is not committed, or a joint one is not left yet.
    #[error("the change of entry {index} is still under way")]
    UnderWay {
        /// The entry that set the effective configuration.
        index: LogIndex,
    },
    /// Wait for `Output::MayEvaluate`: no entry of this leader's own term is committed (H41).
    #[error("the leader has committed nothing in its own term yet")]
    TermNotOpened,
    /// Wait for `Output::TransferEnded`, or `Output::TransferPrepared` if it is only prepared.
    #[error("leadership is being handed to {to}")]
    Transferring {
        /// The next leader, if all goes well.
        to: ReplicaId,
    },
    /// A group without voters decides nothing.
    #[error("the wish names no voter")]
    NoVoters,
    /// No group is made for so many: the joint configuration on the way would name more than `most` in its lists.
    #[error("the change names {names} replicas, above {most}")]
    TooMany {
        /// What its lists hold together.
        names: usize,
        /// [`Configuration::MEMBERS_MAX`](crate::Configuration::MEMBERS_MAX).
        most: usize,
    },
    /// Nobody is voter and learner at once.
    #[error("{both:?} are wished both as voters and as learners")]
    Overlap {
        /// Those.
        both: Members,
    },
    /// Add it as a learner first: a replica is born empty and must not vote before it has the log (E26).
    #[error("{replica} is not a learner yet")]
    NotLearner {
        /// The would-be voter.
        replica: ReplicaId,
    },
    /// Wait until it caught up: as a voter it would hold up every commit.
    #[error("{replica} has the log through {matched}, too far behind {last}")]
    LearnerBehind {
        /// The would-be voter.
        replica: ReplicaId,
        /// What it has.
        matched: LogIndex,
        /// The log's end.
        last: LogIndex,
    },
    /// Wait until it answers: as a voter it would be one that is missing.
    #[error("{replica} has answered nothing for a while")]
    LearnerSilent {
        /// The would-be voter.
        replica: ReplicaId,
    },
    /// Wait until enough of them answer this leader, or wish for others: the new voters could decide nothing, not even to send those
    /// away.
    #[error(
        "of the voters wished for, {silent:?} do not answer this leader, and the others are no majority"
    )]
    VotersSilent {
        /// Those that have acknowledged nothing yet, or were silent lately.
        silent: Members,
    },
    /// It is already so.
    #[error("the configuration is already the one wished for")]
    Unchanged,
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Ask `leader`; on `None`, wait for the next leader event.
    #[error("group {group} is not led here, leader is {leader:?}")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads it, as far as known here.
        leader: Option<ReplicaId>,
    },
    /// Only a voter of the effective configuration can lead.
    #[error("{to} is no voter of this group")]
    NotVoter {
        /// As given.
        to: ReplicaId,
    },
    /// Wait for `Output::TransferEnded` of that one.
    #[error("leadership is already being handed to {to}")]
    UnderWay {
        /// The other target.
        to: ReplicaId,
    },
    /// It leads already.
    #[error("{to} leads already")]
    AlreadyLeads {
        /// As given.
        to: ReplicaId,
    },
}

/// Why a replica cannot be started from what was restored. The store and the state do not fit: stop this replica, loudly.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The state is older than what the log has forgotten (E28).
    #[error("the state covers {state}, but the log begins only after {base}")]
    StateBehindLog {
        /// What the checkpoint covers.
        state: Position,
        /// What is compacted.
        base: Position,
    },
    /// The entries are not contiguous, or their terms go backwards.
    #[error("the log has a hole or a turn at {at}")]
    Broken {
        /// The first entry that does not follow.
        at: Position,
    },
    /// A configuration entry does not decode.
    #[error("the configuration at {at} does not decode")]
    BadConfiguration {
        /// The entry.
        at: Position,
    },
    /// The hard state knows of a commit that the log does not hold: acknowledged data was lost (H73).
    #[error("the log ends at {last}, but {commit} was committed")]
    LogTooShort {
        /// The log's end.
        last: LogIndex,
        /// As the hard state says.
        commit: LogIndex,
    },
}
