//! A state that stands for a prefix of the log.
//!
//! Here: what a snapshot is. Not here: how it travels (`snapshots`), what is inside (`synod`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Configuration, LogIndex, Position};

/// What a log must know about everything before its first entry.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SnapshotMeta {
    /// The last entry that is covered. Zero: nothing is.
    pub position: Position,
    /// The configuration that was effective at `position`.
    pub configuration: Configuration,
    /// The entry that set it; zero for a founding configuration.
    pub configuration_index: LogIndex,
}

impl SnapshotMeta {
    /// Where a group's first replicas begin: nothing is covered, `configuration` decides.
    pub fn founding(configuration: Configuration) -> Self {
        Self {
            position: Position::ZERO,
            configuration,
            configuration_index: LogIndex::ZERO,
        }
    }
}

/// A whole state of the replicated machine, as the caller encoded it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The caller's bytes.
    pub data: Bytes,
}
