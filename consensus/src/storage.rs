//! What a group needs from a disk.
//!
//! Here: [`LogStore`], the writes it takes, what it gives back after a restart. Not here: real files (`synod`), the in-memory store
//! (`memory`), the suite that every store passes (`conformance`). A [`Group`](crate::Group) never calls a store: it asks for writes
//! by [`Output::Persist`](crate::Output::Persist), and a caller batches those of many groups.

use serde::{Deserialize, Serialize};

use crate::{Entries, Entry, GroupId, LogIndex, Position, ReplicaId, SnapshotMeta, Term};

/// Names one replica's log. A new incarnation has a new replica id, so it can never read the old one's log (H77).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ReplicaKey {
    /// The group.
    pub group: GroupId,
    /// This node's replica of it.
    pub replica: ReplicaId,
}

/// What a replica must remember besides its log (Raft paper, figure 2). Written as a whole.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
    /// A lower bound of what is committed; the truth may be ahead of it.
    pub commit: LogIndex,
}

/// One change of one replica's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// Replaces the hard state.
    HardState(HardState),
    /// Contiguous entries; the first one, at `i`, replaces `i` and everything after it. `i` is within the log or just behind its end.
    Append(Entries),
    /// Forgets the entries through `to.position`, which lies within the log; what follows stays.
    Compact {
        /// The new beginning.
        to: SnapshotMeta,
    },
    /// Forgets all entries: the log is empty and begins after `to.position`. The hard state stays. Creates the replica if it is new.
    Reset {
        /// The new beginning.
        to: SnapshotMeta,
    },
    /// Forgets the replica. Dropping one that does not exist does nothing.
    Drop,
}

/// What a store knows about a replica after opening.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// The last hard state written; the default if none was.
    pub hard_state: HardState,
    /// Where the log begins.
    pub base: SnapshotMeta,
    /// The entries after `base.position`, contiguous.
    pub entries: Vec<Entry>,
}

/// Why a store did not do it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A bug of the caller: the batch was refused before a byte was written, and the store goes on (H80).
    #[error("{key:?}: append at {index} does not fit a log of ({base}, {last}]")]
    Gap {
        /// Whose log.
        key: ReplicaKey,
        /// First entry that does not fit.
        index: LogIndex,
        /// What is compacted.
        base: LogIndex,
        /// The log's end.
        last: LogIndex,
    },
    /// A bug of the caller: a write to a replica that no [`Write::Reset`] created. Refused like [`StoreError::Gap`].
    #[error("{key:?} does not exist in this store")]
    UnknownReplica {
        /// The key.
        key: ReplicaKey,
    },
    /// The entries wanted are compacted; use a snapshot.
    #[error("{key:?}: entries from {from} are compacted, the log begins after {base}")]
    Compacted {
        /// Whose log.
        key: ReplicaKey,
        /// First entry wanted.
        from: LogIndex,
        /// What is compacted.
        base: LogIndex,
    },
    /// The medium failed. Sticky: every later write fails too, and nothing after the last success is durable (H72). Stop the node.
    #[error("the log failed and takes no more writes: {reason}")]
    Failed {
        /// The first error, in words.
        reason: String,
    },
}

/// The logs of all replicas of one node. [`conformance::check`](crate::conformance::check) says in code what each line here says in words.
pub trait LogStore {
    /// Does all writes in order, of all replicas, or (on error) none that could be seen again; durable on return.
    fn write(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) -> Result<(), StoreError>;

    /// Every replica that exists, in order.
    fn replicas(&self) -> Vec<ReplicaKey>;

    /// Everything about one replica; `None` if it does not exist.
    fn recover(&self, key: ReplicaKey) -> Result<Option<Recovered>, StoreError>;

    /// Entries `from..=through`, as many as fit into `max_bytes` of payload but at least one if there is one; short at the log's end.
    fn fetch(
        &self,
        key: ReplicaKey,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError>;
}

impl<S: LogStore + ?Sized> LogStore for Box<S> {
    fn write(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) -> Result<(), StoreError> {
        (**self).write(batch)
    }

    fn replicas(&self) -> Vec<ReplicaKey> {
        (**self).replicas()
    }

    fn recover(&self, key: ReplicaKey) -> Result<Option<Recovered>, StoreError> {
        (**self).recover(key)
    }

    fn fetch(
        &self,
        key: ReplicaKey,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        (**self).fetch(key, from, through, max_bytes)
    }
}

/// Names one [`Persist`](crate::Persist); hand it back to [`Group::persisted`](crate::Group::persisted) once the write is durable.
/// Besides its serial it says where the log ended, so that a completion from before a truncation is known as such (H27, H28).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PersistToken {
    pub(crate) serial: u64,
    pub(crate) last: Position,
}

impl PersistToken {
    /// Counts the writes of one `Group` value from 1.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Where the log ends once this write is durable.
    pub fn last(&self) -> Position {
        self.last
    }
}
