//! What a replica starts from: at founding, as a newcomer, after a restart.

use crate::storage::{HardState, Recovered};
use crate::{Configuration, Entry, SnapshotMeta};

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
    /// (`None`) the state is empty, which fits only a log that begins at zero; `Group::new` refuses anything else.
    pub fn after_restart(recovered: Recovered, state: Option<SnapshotMeta>) -> Self {
        let Recovered {
            hard_state,
            base,
            entries,
        } = recovered;
        Self {
            hard_state,
            state: state.unwrap_or_default(),
            base,
            entries,
            is_new: false,
        }
    }
}
