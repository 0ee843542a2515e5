//! One Raft group as a pure machine, and the log it needs.
//!
//! A [`Group`] is one replica. It knows no socket, clock, thread or disk: the caller passes the time in, tells it what arrived
//! ([`Group::receive`]), what became durable ([`Group::persisted`]) and what was applied ([`Group::applied`]), and drains
//! [`Group::poll_output`] after each input. All times are `Duration`s since an origin that the caller chose; the clock must be
//! monotonic and go on in a suspended machine. Take the time after what it goes with has arrived. Safety depends on none of this but
//! for reads by lease: those assume that clocks drift apart by less than `GroupOptions::clock_drift_ppm`, and can be switched off.
//!
//! How a cluster comes to be is a machine of its own, [`genesis::Genesis`]: every listed seed states once, persisted, "this list, empty
//! disk", gives its word to one electorate of disks, and a majority of those chooses the founding record by single-decree Paxos (Lamport,
//! "Paxos Made Simple", sections 2.2 to 2.5). Two clusters come of lists that share a seed only if every shared seed lost its disk; any
//! seed with data makes the others join. Module [`genesis`] has the traces and the proof.
//!
//! The order of what a group knows: purged <= snapshot <= applied <= committed, persisted <= last.

mod chain;
pub mod claims;
mod configuration;
pub mod conformance;
mod contact;
mod election;
mod entries;
mod entry;
mod error;
mod follower_read;
pub mod genesis;
mod group;
mod heartbeat;
mod ids;
mod invariants;
mod leadership;
mod lease;
mod log;
mod members;
mod memory;
mod message;
mod nanos;
mod options;
mod output;
mod persistence;
mod progress;
mod quorum;
mod read_index;
mod reconfiguration;
pub mod recovery;
mod replication;
mod rest;
mod restored;
#[cfg(test)]
mod scripts;
mod snapshot;
mod snapshots;
mod status;
mod storage;
mod transfer;

pub use configuration::{Change, Configuration};
pub use entries::Entries;
pub use entry::{Entry, EntryKind};
pub use error::{ChangeError, ProposeError, ReadError, RestoreError, TransferError};
pub use group::Group;
pub use ids::{GroupId, LogIndex, Position, ReadId, ReplicaId, Term};
pub use members::Members;
pub use memory::MemoryStore;
pub use message::Message;
#[doc(hidden)]
pub use message::Promise;
#[doc(hidden)]
pub use options::Sabotage;
pub use options::{CheckedOptions, GroupOptions, OptionsError};
pub use output::{Output, Persist, Role, TransferOutcome};
pub use rest::Claim;
pub use restored::Restored;
pub use snapshot::{
    ChunkReceived, ChunkWanted, Refusal, ShipmentEnd, SnapshotId, SnapshotMeta, SnapshotOffer,
};
pub use status::{PeerState, PeerStatus, Status};
pub use storage::{HardState, LogStore, PersistToken, Recovered, ReplicaKey, StoreError, Write};
