//! One request to a shard's leader, and its reply.
//!
//! Here: [`Request`], [`Reply`] and the outcomes. Made by `router`, answered by `evaluation`. The three families of
//! outcomes tell a caller what to do: [`Outcome::Done`] and [`Outcome::Failed`] are final; [`Outcome::Refused`] means
//! that nothing took effect; [`Outcome::Unknown`] means that it may have happened. [`Outcome::Interrupted`] is between:
//! a retry finds out.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ShardId;

/// A session of one router with one shard: the log index of the entry that opened it (RIFL, SOSP 2015).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// What a caller sends to the node that leads a shard.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Request {
    /// The router's number for this call; replies carry it back. Unique per router for its lifetime.
    pub id: u64,
    /// 1 for the first sending of this call, then counting up.
    pub attempt: u32,
    /// The shard that the router believes the key belongs to.
    pub shard: ShardId,
    /// What is asked for.
    pub intent: Intent,
    /// The entity's kind; empty for [`Intent::OpenSession`].
    #[serde(default)]
    pub kind: String,
    /// The entity's key; empty for [`Intent::OpenSession`].
    #[serde(default)]
    pub key: String,
    /// Wire name of the message; empty for [`Intent::OpenSession`].
    #[serde(default)]
    pub message: String,
    /// The encoded message.
    #[serde(default)]
    pub body: Bytes,
    /// Milliseconds left until the caller gives up, measured at sending.
    pub deadline_ms: u64,
    /// W3C `traceparent`, if the caller has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// What a request wants.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Intent {
    /// Open a session for this router with this shard; answered by [`Outcome::Opened`].
    OpenSession {
        /// Random identity of the router, so that a repeated opening finds the first one.
        router: u128,
    },
    /// May change the entity; takes effect at most once.
    Command {
        /// The session the sequence belongs to.
        session: SessionId,
        /// Number of the command within the session; from 1, never reused.
        sequence: u64,
        /// Every sequence below this one has been answered: its stored reply may go.
        lowest: u64,
    },
    /// Reads the entity as of a moment between request and reply.
    Query,
    /// Reads the nearest replica's applied state if it is at most this old.
    StaleQuery {
        /// Greatest age that the caller accepts, in milliseconds.
        max_age_ms: u64,
    },
}

/// The answer to one attempt of a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Reply {
    /// The request's number.
    pub id: u64,
    /// The attempt that this answers.
    pub attempt: u32,
    /// True when the outcome is recorded in the log (stored with its session). An outcome without an entry of its own
    /// counts only while no later attempt was sent (E31).
    pub logged: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Outcome {
    /// The handler's encoded result. An `Err` of the handler's own is inside and changed nothing.
    Done {
        /// The encoded result.
        body: Bytes,
        /// Stale queries: upper bound of the age of the state that was read, in milliseconds.
        #[serde(default)]
        age_ms: u64,
    },
    /// The session is open.
    Opened {
        /// Its id.
        session: SessionId,
    },
    /// Final: this request cannot succeed as it is, and changed nothing.
    Failed(Failure),
    /// Nothing was evaluated; the router may send the same request again.
    Refused(Refusal),
    /// The leadership ended while the command's effect was on its way into the log: it may or may not take effect. Not
    /// final: sent again under the same session and sequence, the next leader finds out.
    Interrupted {
        /// Store id of the new leader, when known.
        leader: Option<u64>,
    },
    /// It may or may not have taken effect, and no retry can tell.
    Unknown {
        /// Why nobody can know, as a sentence.
        reason: String,
    },
}

/// Why a request cannot succeed as it is. It changed nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No node of this version hosts the kind.
    #[error("kind `{kind}` is not hosted here; register it with `.entity::<..>()` on every node")]
    UnknownKind {
        /// The kind asked for.
        kind: String,
    },
    /// The kind does not list the message.
    #[error(
        "kind `{kind}` has no message `{message}`; add it to the entity's commands(..) or queries(..)"
    )]
    UnknownMessage {
        /// The kind asked for.
        kind: String,
        /// The message asked for.
        message: String,
    },
    /// The sender maps keys to shards otherwise than this cluster (S8).
    #[error("the key does not belong to shard {shard}: fetch this cluster's routing table anew")]
    WrongShard {
        /// The shard that the sender named.
        shard: ShardId,
    },
    /// The body is not this message.
    #[error("the body of `{message}` does not decode: {detail}")]
    BadBody {
        /// The message asked for.
        message: String,
        /// What the decoder said.
        detail: String,
    },
    /// Message, key, reply or state is over its limit.
    #[error("{what} is {size} bytes, the limit is {limit}")]
    TooLarge {
        /// "message", "key", "reply" or "state".
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The handler panicked; the entity is as it was before.
    #[error("the handler panicked: {text}")]
    Panicked {
        /// The panic's text.
        text: String,
    },
    /// The entity's stored state does not decode; it is set aside until a version that can read it runs.
    #[error("the state of `{kind}/{key}` does not decode and is set aside: {detail}")]
    Quarantined {
        /// The entity's kind.
        kind: String,
        /// The entity's key.
        key: String,
        /// What the decoder said.
        detail: String,
    },
}

/// Why nothing was evaluated.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Another node leads; send there.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// Store id of the leader, when known.
        leader: Option<u64>,
    },
    /// Too much is waiting; send again after the pause.
    #[error("the shard is overloaded ({queue} is full); retry in {retry_after_ms} ms")]
    Busy {
        /// Name of the queue that is full.
        queue: String,
        /// Milliseconds to wait before sending again.
        retry_after_ms: u64,
    },
    /// The deadline passed before evaluation began.
    #[error("the deadline passed before evaluation began")]
    DeadlinePassed,
    /// The shard has no such session (expired, or never was). The router may open a new one for a command of which every
    /// attempt was refused; with one in doubt the command ends as unknown (E10).
    #[error("the session is not known to the shard")]
    UnknownSession,
    /// The sequence lies below the lowest outstanding one that this session announced.
    #[error("the sequence was already given up by its session")]
    Superseded,
    /// The state here is older than the caller accepts.
    #[error("the state here is {age_ms} ms old")]
    TooStale {
        /// Its age in milliseconds, `u64::MAX` when unknown.
        age_ms: u64,
    },
}

impl Refusal {
    /// How long the sender should wait before the next attempt; zero = at once, elsewhere.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Busy { retry_after_ms, .. } => Duration::from_millis(*retry_after_ms),
            _ => Duration::ZERO,
        }
    }
}
