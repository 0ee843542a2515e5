//! What a caller gets when there is no answer, sorted by what it may do next.
//!
//! Here: [`AskError`] and its four families. [`Refused`] did not happen; [`Failed`] did not happen and never will as it
//! is; [`Unknown`] may have happened; [`TimedOut`] is a query without an answer, and a query changes nothing.
//! Made by `core` from the outcomes of `wire`, and by the shell when an answer does not decode.

use std::time::Duration;

use crate::wire::{Failure, ShardId};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It did not happen; asking again is safe.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It did not happen, and asking the same again will not help.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// It may have happened; ask the entity before asking again.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// A query was not answered in time; nothing changed.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl AskError {
    /// True when the command certainly took no effect (of a query: always).
    pub fn did_not_happen(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// How long to wait before the same call may be accepted; `None` when waiting alone does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refused::Busy { retry_after, .. }) => Some(*retry_after),
            _ => None,
        }
    }
}

/// It did not happen. The same call may be made again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Too much is waiting. Make the same call again after `retry_after`.
    #[error(
        "refused, nothing happened: {queue} is full; call again in {} ms", retry_after.as_millis()
    )]
    Busy {
        /// Name of the queue that is full.
        queue: String,
        /// Pause before the next call.
        retry_after: Duration,
    },
    /// The deadline passed before anybody evaluated the command. Call again, with more time or when the cluster is well.
    #[error("refused, nothing happened: the deadline passed while {waited_for}")]
    DeadlinePassed {
        /// What the call was waiting for, as a clause.
        waited_for: &'static str,
    },
    /// No replica that answered has state this young. Accept an older state, or query without `stale`.
    #[error(
        "refused: the youngest reachable state of shard {shard} is {} older than accepted", age.map_or_else(|| "of unknown age, perhaps".to_owned(), |age| format!("{} ms old,", age.as_millis()))
    )]
    TooStale {
        /// The shard of the key.
        shard: ShardId,
        /// Least age that a replica reported.
        age: Option<Duration>,
    },
    /// The router was closed before the call was sent. Make a new one.
    #[error("refused, nothing happened: this router is closed")]
    Closed,
}

/// It did not happen and cannot succeed as it is. The sentence names what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("failed, nothing changed: {0}")]
pub struct Failed(pub Failure);

/// The command was sent, and nobody can tell whether it took effect. Query the entity before doing it again.
///
/// The doubt ends with the next acknowledged command of the same router to the same shard: its request says that this
/// one was given up, so from then on it cannot take effect any more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("unknown, it may have happened on shard {shard}: {reason}; look before you do it again")]
pub struct Unknown {
    /// The shard of the key.
    pub shard: ShardId,
    /// Why nobody can know, as a clause.
    pub reason: String,
}

/// The query was not answered before its deadline. Nothing changed; ask again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the query was not answered in time while {waited_for}; a query changes nothing, ask again"
)]
pub struct TimedOut {
    /// What the call was waiting for, as a clause.
    pub waited_for: &'static str,
}
