//! What replicas of a group say to each other.
//!
//! Here: the vocabulary. Not here: when something is said (`election`, `replication`, `snapshots`, `read_index`), how it travels
//! (crate `synod`). Wire format: named MessagePack; variants and fields are only ever added.

use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Entries, Entry, EntryKind, GroupId, LogIndex, Position, ReadId, Refusal, ReplicaId,
    SnapshotMeta, Term,
};

/// Terms and indexes above this are of nobody who follows the rules: at a billion a second they take 146 years. Below it, no sum overflows.
const NUMBER_MAX: u64 = 1 << 62;

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

    /// Whether a replica that follows the rules can have said it, as far as the message alone tells. What fails here is a bug of the
    /// sender, and is dropped: believed, it would stop this replica later, when its sums overflow or the terms of its log go back.
    pub(crate) fn is_sound(&self) -> bool {
        let of_term =
            |position: Position| position.term <= self.term && position.index.get() <= NUMBER_MAX;
        let sound = match &self.body {
            // No log holds an entry of a later term than the one its replica is in.
            Body::Append { prev, entries, .. } => {
                of_term(*prev) && entries.iter().all(|entry| of_term(entry.position()))
            }
            Body::Conflict { rejected, hint } => {
                rejected.get() <= NUMBER_MAX && hint.index.get() <= NUMBER_MAX
            }
            Body::Chunk { meta, .. } => {
                of_term(meta.position) && meta.configuration_index <= meta.position.index
            }
            // The rest is only compared with what this replica knows itself.
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Appended { .. }
            | Body::Committed { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::ChunkReply { .. }
            | Body::ReadRequest { .. }
            | Body::ReadAnswer { .. }
            | Body::CampaignNow
            | Body::Outdated => true,
        };
        sound && self.term.get() <= NUMBER_MAX
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
            Body::ReadRequest { .. } => "read_request",
            Body::ReadAnswer { .. } => "read_answer",
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

    /// Whether it carries entries that somebody proposed: neither a leader's no-op nor a change of the configuration.
    pub fn carries_proposals(&self) -> bool {
        let Body::Append { entries, .. } = &self.body else {
            return false;
        };
        entries.iter().any(|entry| entry.kind == EntryKind::Normal)
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

/// What a follower says of a run of chunks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum ChunkStep {
    /// So much is held.
    #[default]
    Held,
    /// A chunk did not follow on what is held: the run is to begin anew there.
    Gap,
    /// The snapshot cannot be used here.
    Refused,
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
        entries: Entries,
        commit: LogIndex,
    },
    /// The sender's log is durable and equal to the leader's through `matched` (H25).
    Appended { matched: LogIndex },
    /// The sender has no `rejected`-th entry of the term asked for; `hint` is the last of its positions that could still agree.
    Conflict { rejected: LogIndex, hint: Position },
    /// Everything through `commit` is committed. No answer.
    Committed { commit: LogIndex },
    /// `round` is never reused within a term; `sent` is the leader's own clock, `upto` the last entry it sent before; both are only
    /// echoed. `commit` never exceeds what this follower acknowledged, so one beyond its log proves that it lost data (H73). `known` is
    /// committed whether or not this follower has it: only so can one that lost sight of its leader for a while know that it missed
    /// nothing. `ZERO`: not said.
    Heartbeat {
        round: u64,
        sent: Duration,
        upto: LogIndex,
        commit: LogIndex,
        #[serde(default)]
        known: LogIndex,
    },
    /// A replica wants to read by itself: which commit index covers everything acknowledged by now? Asked for all its reads
    /// through `upto`; `life` is drawn at its start, so that no answer to a former life counts (H61).
    ReadRequest { life: u64, upto: ReadId },
    /// A state of `index` or later answers those reads; `None`: the sender cannot say.
    ReadAnswer {
        life: u64,
        upto: ReadId,
        index: Option<LogIndex>,
    },
    /// Echo, with how far the sender's log is known to equal the leader's: received, and durable.
    HeartbeatReply {
        round: u64,
        sent: Duration,
        upto: LogIndex,
        received: LogIndex,
        matched: LogIndex,
        /// For how long the sender promises to help nobody else to lead (module `lease`).
        #[serde(default)]
        promised: Duration,
    },
    /// Bytes `offset..` of the snapshot named by its position, `total` and `checksum`, in the run of chunks that this leader numbered
    /// `serial`. Without data it asks how much of it the receiver holds.
    Chunk {
        serial: u64,
        /// Boxed, so that every other message is half as large.
        meta: Box<SnapshotMeta>,
        total: u64,
        #[serde(default)]
        checksum: u64,
        offset: u64,
        data: Bytes,
    },
    /// The sender holds the first `next` bytes of it; `step` says what that means for the run.
    ChunkReply {
        serial: u64,
        next: u64,
        #[serde(default)]
        step: ChunkStep,
        /// With `Refused`: why.
        #[serde(default)]
        refusal: Refusal,
    },
    /// "Campaign now, without asking first": the leader hands over (H18).
    CampaignNow,
    /// "Your term is over": answers a leader of an earlier term, so that it steps down (H15).
    Outdated,
}
