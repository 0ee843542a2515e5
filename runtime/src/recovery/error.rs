//! Why an unsafe recovery was not planned or not carried out.

use std::path::PathBuf;

use synod_consensus::StoreError;
use synod_consensus::recovery::Contradiction;

use super::journal::JournalError;
use crate::storage::{CheckpointError, DirectoryError, OpenError, RowsError};
use crate::system::UnknownCommand;

/// Why nothing was planned, or why it was not carried out to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Nothing to look at.
    #[error("no store was given: pass the store of every node that survives (--store DIR)")]
    NoStore,
    /// The path is wrong, or the disk is empty.
    #[error(
        "there is no store at {place}: pass the directories that the surviving nodes were started with"
    )]
    NotAStore {
        /// As given.
        place: PathBuf,
    },
    /// It never belonged to anybody.
    #[error("the store {place} belongs to no cluster yet: leave it out")]
    NotAdmitted {
        /// As given.
        place: PathBuf,
    },
    /// With it there may be a majority.
    #[error(
        "the store {place} promised to found the cluster and has not come up in it yet: start its node first, for with it nothing may be lost; or, if it never can, leave it out"
    )]
    FounderAsleep {
        /// As given.
        place: PathBuf,
    },
    /// Two arguments, one store.
    #[error(
        "{place} is given twice, or is a copy of another store that is given: pass each store once"
    )]
    Twice {
        /// The second.
        place: PathBuf,
    },
    /// Stores of different clusters.
    #[error(
        "the store {place} belongs to the cluster {found:032x}, {first} to {expected:032x}: pass the stores of one cluster"
    )]
    OtherCluster {
        /// The odd one.
        place: PathBuf,
        /// Its cluster.
        found: u128,
        /// The first store.
        first: PathBuf,
        /// The first store's cluster.
        expected: u128,
    },
    /// A name that means nothing.
    #[error("there is no member `{name}` in this cluster: its members are {members}")]
    NoMember {
        /// As given.
        name: String,
        /// Everybody.
        members: String,
    },
    /// Contradictory words.
    #[error("{name} cannot be lost: its store {place} is given as a surviving one")]
    LostButGiven {
        /// As given.
        name: String,
        /// Its store.
        place: PathBuf,
    },
    /// Somebody was forgotten.
    #[error(
        "nothing was said of {names}: pass the store of every member that survives (--store DIR), and name every other as lost for good (--lost NAME)"
    )]
    Unaccounted {
        /// Who.
        names: String,
    },
    /// The store is none of the cluster's any more.
    #[error("the store {place} was given up by an earlier recovery of this cluster: leave it out")]
    GivenUp {
        /// As given.
        place: PathBuf,
    },
    /// Nothing is to be recovered.
    #[error(
        "every group can still elect a leader among these stores: start their nodes, nothing has to be given up"
    )]
    NothingLost,
    /// The survivors cannot be of one history.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A store without a sound system replica knows nothing of the cluster.
    #[error(
        "the store {place} is of no use: {reason}; leave it out, and name its node as lost (--lost)"
    )]
    Useless {
        /// As given.
        place: PathBuf,
        /// Why.
        reason: String,
    },
    /// A group would begin anew, empty, while something of it is left.
    #[error(
        "no copy of a shard is left but what cannot be used ({copies}), so it does not begin anew, empty: nothing was decided; leave such a store out, and name its node as lost, only if all that lies on it may be lost"
    )]
    OnlyUnused {
        /// Whose, of which group, and why.
        copies: String,
    },
    /// A store could not be read now; that says nothing about what lies on it.
    #[error("the store {place} could not be read, so nothing was decided: {reason}")]
    Unread {
        /// As given.
        place: PathBuf,
        /// Why.
        reason: String,
    },
    /// Made without what it says, a plan would be of another cluster than the nodes'.
    #[error(
        "entry {index} of the system log in {place}: {source}; the same goes for this command, and nothing was decided"
    )]
    NewerCommand {
        /// As given.
        place: PathBuf,
        /// Its index.
        index: u64,
        /// What it is.
        source: UnknownCommand,
    },
    /// No store knows who the members are.
    #[error("the system group was never founded in these stores: start them instead")]
    Unfounded,
    /// Ids are used up.
    #[error("the cluster has no replica ids left for a recovery")]
    IdsUsedUp,
    /// A recovery was begun with other stores.
    #[error(
        "the recovery that {first} has begun is unknown to {place}: pass the stores that it was begun with, as they were left"
    )]
    Foreign {
        /// The store that has begun.
        first: PathBuf,
        /// The one that does not know.
        place: PathBuf,
    },
    /// A recovery was begun with more stores.
    #[error(
        "the recovery that {first} has begun needs the stores of {names} too: pass all stores that it was begun with"
    )]
    StoresMissing {
        /// The store that has begun.
        first: PathBuf,
        /// Whose stores are missing.
        names: String,
    },
    /// A recovery was begun with other nodes named as lost.
    #[error(
        "the recovery that {first} has begun gives up other nodes: name as lost exactly those that it was begun with (--lost {lost})"
    )]
    OtherLost {
        /// The store that has begun.
        first: PathBuf,
        /// Who is given up.
        lost: String,
    },
    /// Not confirmed.
    #[error(
        "`{given}` does not confirm what would be done now: nothing was changed; give the command without --accept-data-loss and read the plan, it says what confirms it"
    )]
    Unconfirmed {
        /// As typed.
        given: String,
    },
    /// Not confirmed that shards come back empty.
    #[error(
        "of {groups} shards no copy is left: they would begin anew, empty; confirm that too (--accept-empty-shards), nothing was changed"
    )]
    EmptyUnconfirmed {
        /// How many.
        groups: usize,
    },
    /// Somebody runs, or the disk refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be opened.
    #[error("the log of the store {place} cannot be opened: {source}")]
    Log {
        /// The store.
        place: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The log cannot be read or written.
    #[error("the log of the store {place} failed: {source}")]
    Store {
        /// The store.
        place: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The checkpoints cannot be used.
    #[error("the checkpoints of the store {place} failed: {source}")]
    Checkpoints {
        /// The store.
        place: PathBuf,
        /// Why.
        source: CheckpointError,
    },
    /// The rows of the shards' states cannot be used.
    #[error("the states of the store {place} failed: {source}")]
    Rows {
        /// The store.
        place: PathBuf,
        /// Why.
        source: RowsError,
    },
    /// The disk refused.
    #[error("the store {place} cannot be used: {source}")]
    Io {
        /// The store.
        place: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was planned and what is found do not fit.
    #[error("the store {place} is not what the recovery was planned on: {reason}")]
    Changed {
        /// The store.
        place: PathBuf,
        /// How.
        reason: String,
    },
}

impl RecoveryError {
    /// Whether the operator asked for something that cannot be, and nothing was changed.
    pub fn is_wrong_use(&self) -> bool {
        !matches!(
            self,
            Self::Journal(_)
                | Self::Log { .. }
                | Self::Store { .. }
                | Self::Checkpoints { .. }
                | Self::Rows { .. }
                | Self::Io { .. }
                | Self::Changed { .. }
                | Self::Unread { .. }
                | Self::NewerCommand { .. }
                | Self::Directory(DirectoryError::Io { .. } | DirectoryError::Identity(_))
        )
    }
}
