//! What a store remembers of a recovery, so that a half-done one is seen, blocks the node, and can be finished.
//!
//! Here: [`Mark`] (how far this store is), the plan in parts beside it, and [`before_start`], which every node asks. The order of the
//! marks over several stores is `carry_out`'s.
//!
//! ```text
//! <store>/recovery            the mark, with the head of the plan; sealed
//! <store>/recovery.0000 ...   the groups of the plan, some thousand in each; sealed, written before the mark
//! ```

use serde::{Deserialize, Serialize};

use super::plan::{GroupPlan, Head};
use crate::storage::{Disk, SealedError, read_sealed, write_sealed};
use crate::wire;

const FILE: &str = "recovery";
/// Groups in one part: at most some 400 bytes each, and a sealed value holds 1 MiB.
const PART_GROUPS: usize = 2_048;

/// How far a store is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) enum Phase {
    /// The plan is there; nothing has changed, here or elsewhere.
    Prepared,
    /// Every store has the plan; replicas change.
    Begun,
    /// Everything that this store has to do is done.
    Finished,
    /// It was taken back before anything changed. What is left of it is which ids it had allotted.
    CalledOff,
}

impl Phase {
    /// Replicas may have changed, here or elsewhere.
    pub(super) fn has_begun(self) -> bool {
        matches!(self, Self::Begun | Self::Finished)
    }
}

/// The state of a recovery in one store.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Mark {
    pub(super) phase: Phase,
    pub(super) head: Head,
    pub(super) parts: usize,
}

/// Some groups of one plan.
#[derive(Debug, Deserialize, Serialize)]
struct Part {
    recovery: u64,
    groups: Vec<GroupPlan>,
}

/// Why the journal of a recovery is of no use, or keeps a node from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Run the command again.
    #[error(
        "a recovery of the store {place} was begun and not finished: stop the nodes that it was given with, and give `synod recover` again with the same arguments"
    )]
    Unfinished {
        /// The store.
        place: String,
    },
    /// The file is damaged, or the disk refused.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The bytes are sound and mean nothing.
    #[error("{place}/{FILE} cannot be understood: {detail}")]
    Undecodable {
        /// The store.
        place: String,
        /// What the decoder said.
        detail: String,
    },
    /// The disk refused.
    #[error("the recovery of the store {place} cannot be recorded")]
    Write {
        /// The store.
        place: String,
        /// What the disk said.
        source: std::io::Error,
    },
}

fn part(number: usize) -> String {
    format!("{FILE}.{number:04}")
}

fn decoded<T: serde::de::DeserializeOwned>(
    disk: &dyn Disk,
    name: &str,
) -> Result<Option<T>, JournalError> {
    let Some(bytes) = read_sealed(disk, name)? else {
        return Ok(None);
    };
    let undecodable = |error: rmp_serde::decode::Error| JournalError::Undecodable {
        place: disk.place(),
        detail: error.to_string(),
    };
    wire::decode(&bytes).map(Some).map_err(undecodable)
}

impl Mark {
    /// The mark of a store, if it has one.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, JournalError> {
        decoded(disk, FILE)
    }

    /// Replaces the mark; durable on return.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        write_sealed(disk, FILE, &wire::encode(self)).map_err(|source| JournalError::Write {
            place: disk.place(),
            source,
        })
    }

    /// Puts the whole plan into a store, and the mark *prepared*.
    pub(super) fn prepare(
        disk: &dyn Disk,
        head: &Head,
        groups: &[GroupPlan],
    ) -> Result<Self, JournalError> {
        let parts = groups.chunks(PART_GROUPS);
        let mark = Self {
            phase: Phase::Prepared,
            head: head.clone(),
            parts: parts.len(),
        };
        for (number, groups) in parts.enumerate() {
            let content = Part {
                recovery: head.id,
                groups: groups.to_vec(),
            };
            write_sealed(disk, &part(number), &wire::encode(&content)).map_err(|source| {
                JournalError::Write {
                    place: disk.place(),
                    source,
                }
            })?;
        }
        mark.write(disk)?;
        Ok(mark)
    }

    /// Takes the recovery back: nothing has changed. Durable on return.
    pub(super) fn call_off(mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        self.phase = Phase::CalledOff;
        self.parts = 0;
        self.write(disk)
    }

    /// The groups of the plan.
    pub(super) fn groups(&self, disk: &dyn Disk) -> Result<Vec<GroupPlan>, JournalError> {
        let mut groups = Vec::new();
        for number in 0..self.parts {
            let found: Option<Part> = decoded(disk, &part(number))?;
            let part = found
                .filter(|found| found.recovery == self.head.id)
                .ok_or_else(|| JournalError::Undecodable {
                    place: disk.place(),
                    detail: format!("{} is missing", part(number)),
                })?;
            groups.extend(part.groups);
        }
        Ok(groups)
    }

    /// Everything is done here. The parts are of no use any more; should they stay, they are overwritten one day.
    pub(super) fn finish(mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        let parts = self.parts;
        self.phase = Phase::Finished;
        self.parts = 0;
        self.write(disk)?;
        for number in 0..parts {
            // Only room is lost.
            let _stays = disk.remove(&part(number));
        }
        Ok(())
    }
}

/// Asked by a node before it touches its log: a store that a recovery has begun to change must not start. One that was only prepared
/// has not changed; by starting, the operator takes the word back.
pub(crate) fn before_start(disk: &dyn Disk) -> Result<(), JournalError> {
    let Some(mark) = Mark::read(disk)? else {
        return Ok(());
    };
    match mark.phase {
        Phase::Finished | Phase::CalledOff => Ok(()),
        Phase::Begun => Err(JournalError::Unfinished {
            place: disk.place(),
        }),
        Phase::Prepared => mark.call_off(disk),
    }
}
