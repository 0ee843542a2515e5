//! What one log entry holds: the effects of a batch of commands. Named MessagePack, versioned.
//!
//! Here: [`Batch`] as the leader writes it and as every replica reads it. Images are opaque bytes; they are written and
//! read without being decoded. Not here: how effects come about (`leadership`), what applying does (`state`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Outcome, SessionId};

/// Version of the payload format. A replica refuses a newer one loudly instead of guessing.
pub(super) const BATCH_VERSION: u16 = 1;

/// The payload of one entry.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Batch {
    pub(super) version: u16,
    /// Log time in milliseconds after this entry; never goes back.
    pub(super) clock_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) effects: Vec<Effect>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replies: Vec<Stored>,
    /// The router whose session this entry opens; at most one, because the entry's index becomes its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) opens: Option<u128>,
    /// Sessions that were idle too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expires: Vec<SessionId>,
}

/// One entity's new state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Effect {
    pub(super) kind: Box<str>,
    pub(super) key: Box<str>,
    /// Log index of the effect that this one was computed from; 0 = the entity did not exist.
    pub(super) base: u64,
    /// The new state; none deletes the entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Bytes>,
}

/// The reply of one command, kept with its session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Stored {
    pub(super) session: SessionId,
    pub(super) sequence: u64,
    /// Replies below this may go.
    pub(super) lowest: u64,
    pub(super) outcome: Outcome,
}
