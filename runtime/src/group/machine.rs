//! What a group replicates: entities of a shard, or the system state.
//!
//! Here: [`Machine`], the one place that knows which of the two a group has. Called by the group actor in log order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use synod_consensus::LogIndex;

use crate::evaluation::ShardState;
use crate::system::{SystemOutcome, SystemState};

/// The replicated state of a group, shared with those who read it.
#[derive(Clone, Debug)]
pub(crate) enum Machine {
    /// Entities and sessions.
    Shard(Arc<Mutex<ShardState>>),
    /// Members and placement.
    System(Arc<Mutex<SystemState>>),
}

/// Why a replica stops. It is not a quorum's decision: others go on.
#[derive(Debug, thiserror::Error)]
#[error("replica state is not what the log says: {0}")]
pub(crate) struct Diverged(pub(crate) String);

impl Machine {
    /// Applies one entry's payload.
    pub(crate) fn apply(
        &self,
        index: LogIndex,
        payload: &[u8],
    ) -> Result<Option<SystemOutcome>, Diverged> {
        match self {
            Self::Shard(state) => {
                lock(state)
                    .apply(index, payload)
                    .map_err(|broken| Diverged(broken.to_string()))?;
                Ok(None)
            }
            Self::System(state) => Ok(Some(lock(state).apply(index, payload))),
        }
    }

    /// Notes that an entry without effects passed.
    pub(crate) fn pass(&self, index: LogIndex) -> Result<(), Diverged> {
        match self {
            Self::Shard(state) => lock(state)
                .skip(index)
                .map_err(|broken| Diverged(broken.to_string())),
            Self::System(state) => {
                lock(state).applied = index;
                Ok(())
            }
        }
    }

    /// The whole state as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Shard(state) => lock(state).encode(),
            Self::System(state) => lock(state).encode(),
        }
    }

    /// Replaces the whole state.
    pub(crate) fn restore(&self, index: LogIndex, bytes: &[u8]) -> Result<(), Diverged> {
        let undecodable =
            |error: &dyn std::fmt::Display| Diverged(format!("snapshot does not decode: {error}"));
        match self {
            Self::Shard(state) => {
                let restored = ShardState::decode(bytes).map_err(|error| undecodable(&error))?;
                if restored.applied() != index {
                    return Err(Diverged(format!(
                        "snapshot is of index {}, not {index}",
                        restored.applied()
                    )));
                }
                *lock(state) = restored;
            }
            Self::System(state) => {
                let mut restored =
                    SystemState::decode(bytes).map_err(|error| undecodable(&error))?;
                restored.applied = index;
                *lock(state) = restored;
            }
        }
        Ok(())
    }
}

/// Locks also after a panic of another holder: these states change only in steps that cannot be left half-way
/// by the panics of user code, which never runs under the lock.
pub(crate) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
