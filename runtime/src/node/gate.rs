//! Whether builds are far enough: that of every member for a command of the system group, and this one for the store that it starts.
//!
//! Here: [`propose`], the one way of a command into the system log, and [`check`], asked once by a start. Not here: the rules and the
//! sentences (`system::level`).

use synod_consensus::{EntryKind, GroupId, Recovered, ReplicaKey};
use tokio::sync::oneshot;

use super::sight::Sight;
use crate::group::actor::ProposeSystem;
use crate::group::{Hosted, Shared, lock};
use crate::storage::Checkpoint;
use crate::system::{Level, StateError, SystemCommand, SystemOutcome, SystemState};

/// Proposes a command to the system group, which must be led here; or says in a sentence why it has to wait, and for whom.
pub(super) fn propose(
    shared: &Shared,
    sight: &Sight,
    system: &Hosted,
    command: SystemCommand,
) -> Result<oneshot::Receiver<SystemOutcome>, String> {
    // What passes here passes later, too: a cluster's level never falls.
    lock(&shared.system).gate(&command, || sight.announced(system.voters()))?;
    let (reply, outcome) = oneshot::channel();
    system.group.do_send(ProposeSystem { command, reply });
    Ok(outcome)
}

/// Why a build of level `build` must not start this replica, in a sentence: its checkpoint or its log says what only a newer build
/// knows. Of the log all of it counts: what is not known to be committed may be in a moment.
pub(super) fn check(
    build: Level,
    key: ReplicaKey,
    log: &Recovered,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), String> {
    if key.group != GroupId::ZERO {
        return Ok(());
    }
    if let Some(checkpoint) = checkpoint
        && let Err(error @ StateError::Newer { .. }) = SystemState::decode(&checkpoint.data, build)
    {
        return Err(error.to_string());
    }
    for entry in &log.entries {
        if entry.kind == EntryKind::Normal
            && let Err(error) = SystemCommand::decode(&entry.payload, build)
        {
            return Err(format!("entry {} of the system log: {error}", entry.index));
        }
    }
    Ok(())
}
