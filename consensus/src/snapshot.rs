//! A state that stands for a prefix of the log.
//!
//! Here: what a snapshot is, how it is named, and the pieces in which it travels. Not here: when they travel (`snapshots`), what is
//! inside, and where the bytes lie (the caller: a [`Group`](crate::Group) never holds a state).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Configuration, LogIndex, Position, ReplicaId};

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

/// Names one encoded state. What is named alike is taken for the same bytes, so that a half-received one can go on from any leader
/// that offers it; the checksum of the whole decides at the end.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct SnapshotId {
    /// The last entry that is covered.
    pub position: Position,
    /// Its length.
    pub bytes: u64,
    /// Of all its bytes, by whatever function the callers of all replicas share.
    pub checksum: u64,
}

/// A state that a leader's caller can read piece by piece.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotOffer {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// Its length in bytes.
    pub bytes: u64,
    /// As in [`SnapshotId::checksum`].
    pub checksum: u64,
}

impl SnapshotOffer {
    /// How it is named.
    pub fn id(&self) -> SnapshotId {
        SnapshotId {
            position: self.meta.position,
            bytes: self.bytes,
            checksum: self.checksum,
        }
    }
}

/// A piece of an offered state that is to be sent next. Hand it back to `Group::chunk_read` with the bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChunkWanted {
    /// The follower it is for.
    pub to: ReplicaId,
    /// Of which state.
    pub id: SnapshotId,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: usize,
    /// How many bytes of that state the follower is known to hold: it tells one that takes something from one that does not.
    pub held: u64,
    /// The run of chunks it belongs to; an answer from before a new run is void.
    pub(crate) serial: u64,
}

/// A piece of a state that a follower's caller is to store. Pieces come in order and without holes, beginning at zero or at what
/// the caller said it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChunkReceived {
    /// What the state covers. Boxed, so that every other output is smaller.
    pub meta: Box<SnapshotMeta>,
    /// Of which state.
    pub id: SnapshotId,
    /// Where it begins.
    pub offset: u64,
    /// Never empty.
    pub data: Bytes,
}

/// How a shipment ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShipmentEnd {
    /// The follower's log goes on behind it.
    Arrived,
    /// It is not needed any more: leadership ended, the follower left, its log went on by other means, or the caller could not read.
    Abandoned,
    /// The follower did not take it over. It is offered another one after a while, each time after a longer one.
    Refused(Refusal),
    /// The follower answers, but took nothing of it for long; neither its place nor the log waits for it. As with `Refused`.
    Stalled,
}

/// Why a follower does not take a snapshot over.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Refusal {
    /// Its bytes are others than their checksum says: they may be damaged where they were read, so take a fresh state. A follower
    /// of before reasons were given may mean any of these.
    #[default]
    Damaged,
    /// It is longer than the follower takes: raise `GroupOptions::snapshot_bytes`, or make the state smaller.
    TooLong,
    /// The follower's disk or program failed at it: see there.
    NotKept,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Damaged => "its bytes are not what its checksum says",
            Self::TooLong => "it is longer than that replica takes",
            Self::NotKept => "that replica could not store it",
        })
    }
}
