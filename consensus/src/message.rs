//! What replicas of a group say to each other.
//!
//! Here: the vocabulary. Not here: when something is said (`election`, `replication`, `snapshots`, `read_index`), how it travels
//! (crate `synod`). Wire format: named MessagePack; variants and fields are only ever added.

use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Entry, GroupId, LogIndex, Position, ReplicaId, SnapshotMeta, Term};

/// One message between two replicas of a group. Opaque to whoever carries it; may be lost, delayed, doubled or overtaken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// The group both belong to.
    pub group: GroupId,
    /// Who says it.
    pub from: ReplicaId,
    /// To whom.
    pub to: ReplicaId,
    /// The sender's term when it was said.
    pub term: Term,
    /// What is said.
    pub(crate) body: Body,
}

impl Message {
    /// Large and patient: keep it off the lane of the others (E29).
    pub fn is_bulk(&self) -> bool {
        matches!(self.body, Body::Chunk { .. })
    }

    /// Small and regular: worth waiting for those of other groups, to share a frame.
    pub fn is_heartbeat(&self) -> bool {
        matches!(
            self.body,
            Body::Heartbeat { .. } | Body::HeartbeatReply { .. } | Body::Committed { .. }
        )
    }

    /// What kind it is, for counters and traces.
    pub fn name(&self) -> &'static str {
        match self.body {
            Body::PreVote { .. } => "pre_vote",
            Body::PreVoteReply { .. } => "pre_vote_reply",
            Body::Vote { .. } => "vote",
            Body::VoteReply { .. } => "vote_reply",
            Body::Append { .. } => "append",
            Body::Appended { .. } => "appended",
            Body::Conflict { .. } => "conflict",
            Body::Committed { .. } => "committed",
            Body::Heartbeat { .. } => "heartbeat",
            Body::HeartbeatReply { .. } => "heartbeat_reply",
            Body::Chunk { .. } => "chunk",
            Body::ChunkReply { .. } => "chunk_reply",
            Body::CampaignNow => "campaign_now",
            Body::Outdated => "outdated",
        }
    }

    /// What the sender vouches for with it, for simulators: it must be durable at the sender by now.
    #[doc(hidden)]
    pub fn promise(&self) -> Option<Promise> {
        match self.body {
            Body::VoteReply { granted: true } => Some(Promise::Vote {
                candidate: self.to,
                term: self.term,
            }),
            Body::Appended { matched } | Body::HeartbeatReply { matched, .. } => {
                Some(Promise::Entries { matched })
            }
            _ => None,
        }
    }

    /// Bytes of payload it carries, for budgets; the frame around it is small.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Append { entries, .. } => entries.iter().map(Entry::charge).sum(),
            Body::Chunk { data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// See [`Message::promise`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// The sender voted for `candidate` in `term`.
    Vote {
        /// Whom.
        candidate: ReplicaId,
        /// When.
        term: Term,
    },
    /// The sender's log is durable through `matched`.
    Entries {
        /// How far.
        matched: LogIndex,
    },
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Body {
    /// "Would you vote for me in `campaign`?" Changes nothing at the receiver (H11); the sender's own term is in the envelope,
    /// and the term it asks for in here, so that neither is taken for the other (H6).
    PreVote { campaign: Term, last: Position },
    /// Names the round it answers, so that it cannot count in another (H10, H13).
    PreVoteReply { campaign: Term, granted: bool },
    /// Asks for the vote in the envelope's term. With `transfer`, the leader itself wished it: stickiness does not hold (H18).
    Vote { last: Position, transfer: bool },
    /// Sent only once the vote is durable (H2).
    VoteReply { granted: bool },
    /// `entries` follow directly on `prev`; empty ones only probe.
    Append {
        prev: Position,
        entries: Vec<Entry>,
        commit: LogIndex,
    },
    /// The sender's log is durable and equal to the leader's through `matched` (H25).
    Appended { matched: LogIndex },
    /// The sender has no `rejected`-th entry of the term asked for; `hint` is the last of its positions that could still agree.
    Conflict { rejected: LogIndex, hint: Position },
    /// Everything through `commit` is committed. No answer.
    Committed { commit: LogIndex },
    /// `round` is never reused within a term; `sent` is the leader's own clock, `upto` the last entry it sent before; both are only
    /// echoed. `commit` never exceeds what this follower acknowledged, so one beyond its log proves that it lost data (H73).
    Heartbeat {
        round: u64,
        sent: Duration,
        upto: LogIndex,
        commit: LogIndex,
    },
    /// Echo, with how far the sender's log is known to equal the leader's: received, and durable.
    HeartbeatReply {
        round: u64,
        sent: Duration,
        upto: LogIndex,
        received: LogIndex,
        matched: LogIndex,
    },
    /// Bytes `offset..` of the snapshot that this leader numbered `serial`.
    Chunk {
        serial: u64,
        meta: SnapshotMeta,
        total: u64,
        offset: u64,
        data: Bytes,
    },
    /// The sender holds the first `next` bytes of it.
    ChunkReply { serial: u64, next: u64 },
    /// "Campaign now, without asking first": the leader hands over (H18).
    CampaignNow,
    /// "Your term is over": answers a leader of an earlier term, so that it steps down (H15).
    Outdated,
}
