//! What a group replicates: entities of a shard, or the system state.
//!
//! Here: [`Machine`], the one place that knows which of the two a group has. Called by the group actor in log order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::overlays::Unwritten;
use crate::evaluation::{ApplyError, BaseError, Sealed, ShardState};
use crate::storage::RowSpace;
use crate::system::{Level, SystemOutcome, SystemState};

/// The replicated state of a group, shared with those who read it.
#[derive(Clone, Debug)]
pub(crate) enum Machine {
    /// Entities and sessions.
    Shard(Arc<Mutex<ShardState>>),
    /// Members and placement, and the level of this build, which reads them.
    System(Arc<Mutex<SystemState>>, Level),
}

/// A state beside the machine that it is for.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// Entities and sessions, whole in memory.
    Shard(Box<ShardState>),
    /// Entities and sessions, and where their rows lie.
    Rows(Box<ShardState>, RowSpace),
    /// Members and placement.
    System(Box<SystemState>),
}

/// Why a replica does not go on. It is not a quorum's decision: others do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Diverged {
    /// It stops for good.
    #[error("replica state is not what the log says: {0}")]
    State(String),
    /// Whether it stops for good, the error says.
    #[error(transparent)]
    Unreadable(#[from] BaseError),
}

impl From<ApplyError> for Diverged {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Unreadable(error) => Self::Unreadable(error),
            broken => Self::State(broken.to_string()),
        }
    }
}

impl Machine {
    /// Applies one entry's payload.
    pub(crate) fn apply(
        &self,
        index: LogIndex,
        payload: &[u8],
    ) -> Result<Option<SystemOutcome>, Diverged> {
        match self {
            Self::Shard(state) => {
                lock(state).apply(index, payload)?;
                Ok(None)
            }
            Self::System(state, build) => {
                // To go on without it would be to hold another state than the others, in silence.
                let taken = lock(state).apply(index, payload, *build);
                let unknown = |error| Diverged::State(format!("entry {index}: {error}"));
                Ok(Some(taken.map_err(unknown)?))
            }
        }
    }

    /// Notes that an entry without effects passed.
    pub(crate) fn pass(&self, index: LogIndex) -> Result<(), Diverged> {
        match self {
            Self::Shard(state) => Ok(lock(state).skip(index)?),
            Self::System(state, _) => {
                lock(state).applied = index;
                Ok(())
            }
        }
    }

    /// The present state as bytes.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Shard(state) => lock(state).encode(),
            Self::System(state, _) => lock(state).encode(),
        }
    }

    /// What changed of a state that lies in rows since the last time; it takes no longer than a look. `None`: that of the last time is
    /// not written yet.
    pub(crate) fn seal(&self) -> Option<Sealed> {
        match self {
            Self::Shard(state) => lock(state).seal(),
            Self::System(..) => None,
        }
    }

    /// What was sealed at `index` is in the rows.
    pub(crate) fn unseal(&self, index: LogIndex) {
        if let Self::Shard(state) = self {
            lock(state).unseal(index);
        }
    }

    /// Bytes of a shard's entities, wherever they are.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Shard(state) => Some(lock(state).bytes()),
            Self::System(..) => None,
        }
    }

    /// What only memory holds of a shard.
    pub(crate) fn unwritten(&self) -> Option<Unwritten> {
        match self {
            Self::Shard(state) => {
                let state = lock(state);
                Some(Unwritten {
                    fresh: state.overlay_bytes(),
                    held: state.held_bytes(),
                })
            }
            Self::System(..) => None,
        }
    }

    /// Replaces the whole state.
    pub(crate) fn restore(&self, index: LogIndex, bytes: &[u8]) -> Result<(), Diverged> {
        let decoded = self.decode(index, bytes)?;
        self.replace(decoded);
        Ok(())
    }

    /// Replaces the whole state; returns the former one, which may take long to drop.
    pub(crate) fn replace(&self, decoded: Decoded) -> Decoded {
        match (self, decoded) {
            (Self::Shard(state), Decoded::Shard(new) | Decoded::Rows(new, _)) => {
                Decoded::Shard(Box::new(std::mem::replace(&mut lock(state), *new)))
            }
            (Self::System(state, _), Decoded::System(new)) => {
                Decoded::System(Box::new(std::mem::replace(&mut lock(state), *new)))
            }
            (_, other) => other,
        }
    }

    /// Reads a whole state of this kind of machine, of which nothing is changed.
    pub(crate) fn decode(&self, index: LogIndex, bytes: &[u8]) -> Result<Decoded, Diverged> {
        let undecodable = |error: &dyn std::fmt::Display| {
            Diverged::State(format!("snapshot does not decode: {error}"))
        };
        match self {
            Self::Shard(_) => {
                let restored = ShardState::decode(bytes).map_err(|error| undecodable(&error))?;
                if restored.applied() != index {
                    return Err(Diverged::State(format!(
                        "snapshot is of index {}, not {index}",
                        restored.applied()
                    )));
                }
                Ok(Decoded::Shard(Box::new(restored)))
            }
            Self::System(_, build) => {
                let mut restored =
                    SystemState::decode(bytes, *build).map_err(|error| undecodable(&error))?;
                restored.applied = index;
                Ok(Decoded::System(Box::new(restored)))
            }
        }
    }
}

/// Locks also after a panic of another holder: these states change only in steps that cannot be left half-way
/// by the panics of user code, which never runs under the lock.
pub(crate) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemCommand;

    #[test]
    fn a_system_command_of_a_newer_build_stops_the_replica() {
        // One that passed it over would hold another state than the others, and nobody would know.
        let machine = Machine::System(Arc::default(), Level::new(2));
        let unheard_of = crate::wire::encode(&std::collections::BTreeMap::from([("Rename", 7)]));
        let raise = SystemCommand::Raise {
            epoch: 0,
            level: Level::new(3),
        };
        for newer in [unheard_of, crate::wire::encode(&raise)] {
            let stopped = machine.apply(LogIndex::new(3), &newer).unwrap_err();
            let sentence = stopped.to_string();
            assert!(sentence.contains("with a newer build"), "{sentence}");
        }
        let Machine::System(state, _) = &machine else {
            unreachable!("made above")
        };
        assert_eq!(*lock(state), SystemState::default());
        let raise = SystemCommand::Raise {
            epoch: 0,
            level: Level::new(2),
        };
        let known = machine.apply(LogIndex::new(3), &crate::wire::encode(&raise));
        assert_eq!(known.unwrap(), Some(SystemOutcome::Done));
    }
}
