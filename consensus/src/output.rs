//! What a group wants done, as data.
//!
//! Called by: whoever drives a [`Group`](crate::Group), by draining [`Group::poll_output`](crate::Group::poll_output) after each
//! input. Outputs come in order; the driver keeps that order per kind (writes among writes, applies and installs among each other).

use serde::{Deserialize, Serialize};

use crate::snapshot::{ChunkReceived, ChunkWanted, ShipmentEnd, SnapshotId};
use crate::storage::{PersistToken, Write};
use crate::{
    Claim, Configuration, Entries, LogIndex, Message, ReadId, ReplicaId, SnapshotMeta, Term,
};

/// Writes that belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Persist {
    /// Hand it back when all of `writes` are durable.
    pub token: PersistToken,
    /// In order. Writes of one group must reach the disk in the order in which they came out.
    pub writes: Vec<Write>,
}

/// What a replica is at the moment. A learner is a follower that never becomes anything else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Role {
    /// Takes what the leader sends.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Decides the order.
    Leader,
}

/// How a transfer of leadership ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferOutcome {
    /// The target leads.
    Moved,
    /// It did not happen in time; this replica takes proposals again if it still leads.
    TimedOut,
    /// Somebody else leads, or the target went away.
    Aborted,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Write, then call `persisted`. Messages that promise durability (votes, acknowledgements) come out only after it.
    Persist(Persist),
    /// Send; it may be lost.
    Send(Message),
    /// Committed and durable here, contiguous, all kinds; call `applied` with the last index when the state holds them.
    Apply(Entries),
    /// Store a piece of a snapshot, then call `chunk_stored` or `chunk_not_kept`, once for each piece and in order. It need not be
    /// durable before `Install`; what survives a restart is told by `partial_snapshot`.
    StoreChunk(ChunkReceived),
    /// All of the snapshot is stored. Verify it, replace the whole state by it, durably; then call `installed`. No `Apply` comes before
    /// that. If it is not what its name says, drop what is stored, say so loudly, and call `install_refused`
    /// or, if that is not why it came to nothing, `install_failed`.
    Install {
        /// What it covers.
        meta: Box<SnapshotMeta>,
        /// Its name.
        id: SnapshotId,
    },
    /// What is stored of this snapshot is not wanted any more.
    DropPartial {
        /// Its name.
        id: SnapshotId,
    },
    /// A follower needs entries that are compacted: call `provide_snapshot`, when there is room for another one. Asked again while it is
    /// still needed.
    SnapshotNeeded {
        /// Which follower.
        to: ReplicaId,
    },
    /// Read this piece and call `chunk_read`, as soon as the budget allows: nothing is repeated meanwhile. A newer request for the
    /// same follower replaces an older one.
    ReadChunk(ChunkWanted),
    /// Nothing more will be read of the snapshot that was provided for this follower.
    ShipmentEnded {
        /// Which follower.
        to: ReplicaId,
        /// How.
        end: ShipmentEnd,
    },
    /// What the log kept for a follower, while its snapshot was on its way or until it had caught up behind it, grew beyond its bound
    /// (`GroupOptions::pinned_bytes`) and is let go: the follower needs another snapshot. A shipment to it ends by itself.
    LeftBehind {
        /// Which follower.
        to: ReplicaId,
    },
    /// A state of `index` or later answers the read; `index` is applied here already.
    ReadReady {
        /// As `read` returned it.
        id: ReadId,
        /// What the answer must include.
        index: LogIndex,
    },
    /// Leadership was lost before the read was confirmed: ask again at the leader.
    ReadFailed {
        /// As `read` returned it.
        id: ReadId,
    },
    /// Any of the three changed.
    Role {
        /// What this replica is now.
        role: Role,
        /// Its term now.
        term: Term,
        /// Who leads in that term, as far as known here.
        leader: Option<ReplicaId>,
    },
    /// This replica leads, and its own term's first entry is committed and applied: nothing older can still surface (E1).
    MayEvaluate {
        /// The term it leads.
        term: Term,
    },
    /// Another configuration is effective: the last one in the log, also when a truncation brought an earlier one back.
    Configuration {
        /// The effective one.
        configuration: Configuration,
        /// The entry that set it.
        index: LogIndex,
    },
    /// A committed configuration no longer names this replica: it may be deleted.
    Removed,
    /// This replica no longer holds what it once acknowledged. It votes and acknowledges no more: replace it by a new one (H73).
    DataLost {
        /// What it had acknowledged, at least.
        acknowledged: LogIndex,
        /// Where its log ends.
        last: LogIndex,
    },
    /// This leader has had nothing to do for a while: claim these followers for it (module `claims`), and tell `claim_taken` who took the
    /// claim. Comes again while not all did. It takes the place of an earlier claim.
    Claim {
        /// What is claimed.
        claim: Claim,
        /// Of whom.
        holders: Vec<ReplicaId>,
    },
    /// All who answer hold the claim: this leader sends nothing any more until something happens.
    Rests {
        /// Followers that were silent: call `rouse` when one of them is back.
        without: Vec<ReplicaId>,
    },
    /// The claim is withdrawn: there is something to do, or this replica leads no more.
    Unclaimed,
    /// The target of `prepare_transfer` is as near to the log's end as it gets: call `transfer` soon, or leave it.
    TransferPrepared {
        /// The target.
        to: ReplicaId,
    },
    /// A transfer asked for here is over, or its preparation came to nothing.
    TransferEnded {
        /// The target.
        to: ReplicaId,
        /// How.
        outcome: TransferOutcome,
    },
}
