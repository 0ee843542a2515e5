//! Where the rows of a shard lie that are not in memory.
//!
//! Here: [`Base`], what a [`ShardState`](super::ShardState) asks of it: one row, or all of a range, as of one moment. Keys and values are
//! bytes; what they mean is `rows`. Without a base a state is whole in memory, as the simulators have it.
//! Not here: who writes rows and when (`storage`, from what [`ShardState::seal`](super::ShardState::seal) gave).

use std::fmt::Debug;

use bytes::Bytes;

/// A row's key and its value.
pub type BaseRow = (Bytes, Bytes);
/// Rows in the order of their keys. After an error nothing more comes.
pub type BaseRows<'a> = Box<dyn Iterator<Item = Result<BaseRow, BaseError>> + 'a>;

/// Rows that outlive the process.
pub trait Base: Debug + Send + Sync {
    /// One row, as the last write that ended left it.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BaseError>;
    /// All rows whose keys begin with `prefix`, as of the moment of the call, whatever is written meanwhile.
    fn scan(&self, prefix: &[u8]) -> BaseRows<'_>;
    /// A row that was read is none. Whoever answers for the replica is to be told.
    fn report_damaged(&self, _error: &BaseError) {}
    /// What is full so that a state with so many bytes in memory that are not written here yet may not change more; those who write
    /// are slower than those who change otherwise.
    fn full(&self, _held: usize) -> Option<&'static str> {
        None
    }
}

/// Why a row was not read. Nothing may go on as if it did not exist.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// It is not what was written, or is none. The replica must stop and say so; it is rebuilt from its peers (section 7).
    #[error("a row of the replicated state is damaged: {0}")]
    Damaged(String),
    /// The disk refused, which says nothing about the row. The node must stop; the replica is what it was when it starts again.
    #[error("a row of the replicated state could not be read: {0}")]
    Unread(String),
    /// The node stops already.
    #[error("a row of the replicated state is not read any more: {0}")]
    Closed(String),
}
