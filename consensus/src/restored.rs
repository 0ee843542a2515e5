//! What a replica starts from: at founding, as a newcomer, after a restart.

use crate::storage::{HardState, Recovered};
use crate::{Configuration, Entry, Position, SnapshotMeta};

/// What a replica starts from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Restored {
    /// As the store recovered it.
    pub hard_state: HardState,
    /// Where the log begins.
    pub base: SnapshotMeta,
    /// The entries after it.
    pub entries: Vec<Entry>,
    /// What the state machine's durable checkpoint covers; at or after `base`. It may lie beyond the log when a crash came
    /// between installing a snapshot and resetting the log; the log is then reset.
    pub state: SnapshotMeta,
    /// Nothing of this replica is in the store: the first write creates it.
    pub is_new: bool,
}

impl Restored {
    /// A replica of a new group, the only kind that is born a voter.
    pub fn founding(configuration: Configuration) -> Self {
        let base = SnapshotMeta::founding(configuration);
        Self {
            state: base.clone(),
            base,
            is_new: true,
            ..Self::default()
        }
    }

    /// A replica of a group that exists: it is born empty and learns everything from the leader.
    pub fn newcomer() -> Self {
        Self {
            is_new: true,
            ..Self::default()
        }
    }

    /// After a restart: what the store recovered, and what the state machine's newest durable checkpoint covers. Without one
    /// (`None`) the state is empty, which fits only a log that begins at zero; `Group::new` refuses anything else. A checkpoint that
    /// names no member at all was made of such an empty state by a build that did not say its configuration: it is the log's.
    pub fn after_restart(recovered: Recovered, state: Option<SnapshotMeta>) -> Self {
        let Recovered {
            hard_state,
            base,
            entries,
        } = recovered;
        // An empty state is of the configuration that the log begins with: a checkpoint or snapshot that is made of it later says so.
        let position = state
            .as_ref()
            .map_or(Position::ZERO, |state| state.position);
        let named = state.filter(|state| state.configuration != Configuration::default());
        let state = named.unwrap_or_else(|| SnapshotMeta {
            position,
            ..base.clone()
        });
        Self {
            hard_state,
            state,
            base,
            entries,
            is_new: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, ReplicaId, Term};

    #[test]
    fn without_a_checkpoint_the_state_is_of_the_configuration_that_the_log_begins_with() {
        // Founders start from their log alone. Their first snapshot named no voters, and whoever took it over never campaigned again.
        let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId::new));
        let founded = Restored::founding(configuration);
        let recovered = Recovered {
            hard_state: HardState::default(),
            base: founded.base.clone(),
            entries: Vec::new(),
        };
        let restored = Restored::after_restart(recovered, None);
        assert_eq!(restored.state, founded.state);
    }

    #[test]
    fn a_checkpoint_that_names_no_member_is_of_the_configuration_that_the_log_begins_with() {
        // As founders of former builds wrote it.
        let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId::new));
        let recovered = Recovered {
            hard_state: HardState::default(),
            base: SnapshotMeta::founding(configuration.clone()),
            entries: Vec::new(),
        };
        let position = Position {
            index: LogIndex::new(7),
            term: Term::new(2),
        };
        let nameless = SnapshotMeta {
            position,
            ..SnapshotMeta::default()
        };
        let restored = Restored::after_restart(recovered, Some(nameless));
        assert_eq!(restored.state.position, position);
        assert_eq!(restored.state.configuration, configuration);
    }
}
