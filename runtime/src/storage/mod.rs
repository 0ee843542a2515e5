//! What lies on disk: the log, checkpoints, the store directory.
//!
//! - `disk`: what storage asks of a disk, and the real one; `look_only`: a directory that stays as it is.
//! - `log` ([`SegmentedLog`]): one sequence of files for the entries of all replicas; below it `frame`, `segment`, `supply`, `index`,
//!   `outline`, `carry`, `open`.
//! - `rows` ([`StateRows`]): the state of shards, row by row (below it `rows_tree`, `rows_journal`; beside it `rows_read`, `rows_going`, `rows_look`); `checkpoints` ([`Checkpoints`]): whole states, of the system group. What is
//!   durable of them lets logs be compacted.
//! - `partials` ([`Partials`], [`CheckpointSource`]): states that travel in pieces from one store to another.
//! - `log_writer`, `checkpoint_writer`: the threads that write them.
//! - `directory` ([`StoreDirectory`]), `identity`, `sealed`: whose store it is; `reserve` ([`Reserve`]): room for the end of its disk.
//!
//! Not here: what entries and states mean. Source: DESIGN 13.

mod carry;
mod checkpoint_writer;
mod checkpoints;
mod directory;
mod disk;
mod frame;
mod identity;
mod index;
mod log;
mod log_writer;
mod look_only;
mod open;
mod outline;
mod partials;
mod queue;
mod reserve;
mod rows;
mod rows_going;
mod rows_journal;
mod rows_look;
mod rows_read;
#[cfg(test)]
mod rows_room_tests;
#[cfg(test)]
mod rows_tests;
mod rows_tree;
mod sealed;
mod segment;
mod supply;

pub use carry::LogWatch;
pub use checkpoint_writer::{
    Adopted, CheckpointContent, CheckpointCounters, CheckpointLater, CheckpointSink,
    CheckpointWriter, RowChanges, TakeSource,
};
pub use checkpoints::{Checkpoint, CheckpointError, Checkpoints, reaches};
pub use directory::{DirectoryError, LockedStore, StoreDirectory};
pub use disk::{Disk, DiskFile, OpenMode, RealDisk};
pub use identity::{Admission, IDENTITY_FILE, Identity, IdentityError, STORE_FORMAT};
pub use log::{LogOptions, SegmentedLog};
pub use log_writer::{LogCounters, LogWriter, WriteRequest, WriteSink};
pub use look_only::LookOnly;
pub use open::OpenError;
pub use partials::{CheckpointSource, PartialError, Partials, WholePartial};
pub use reserve::{DiskRoom, Reserve};
pub use rows::{RowHead, RowWrite, StateRows};
pub use rows_going::Staging;
pub use rows_look::{forget_look, look_at_rows};
pub use rows_read::{RowSpace, RowView, Rows};
pub use rows_tree::RowsError;
pub use sealed::{SealedError, read_sealed, write_sealed};
