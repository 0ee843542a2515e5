//! The store of a node under every fault that its disk knows: crashes, torn and failed writes, damage, a full disk.
//!
//! - `log`: what the log promises, on the virtual disk and on the real one.
//! - `crashes`: random batches and power lost at random moments, against the in-memory store as the oracle.
//! - `damage`: a torn tail is recovered, everything else is refused.
//! - `files`: files go, quiet groups do not hold them; `ahead`: how the next ones come.
//! - `real`: the same faults on real files; `hung`: the group above one that hangs.
//! - `checkpoints`, `partials`, `writers`: states on disk, states in pieces, and the threads.
//! - `identity`: who the store is.
//!
//! Not here: groups above the store (the group simulator).

mod ahead;
mod checkpoints;
mod crashes;
mod damage;
mod files;
mod hung;
mod identity;
mod log;
mod partials;
mod real;
mod writers;

use bytes::Bytes;
use synod::storage::{LogOptions, OpenError, SegmentedLog};
use synod_consensus::{
    Configuration, Entry, EntryKind, GroupId, HardState, LogIndex, LogStore, Position, Recovered,
    ReplicaId, ReplicaKey, SnapshotMeta, Term, Write,
};
use tests::disk::VirtualDisk;

/// The folder that the logs of these tests lie in.
const LOG: &str = "log";

/// Small files and no threads: every test sees many files, in a repeatable order.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 12 << 10,
        files_kept: 2,
        carry_bytes: 1 << 10,
        background: false,
        salt: 5,
    }
}

fn try_open(disk: &VirtualDisk) -> Result<SegmentedLog, OpenError> {
    SegmentedLog::open(disk.folder(LOG), options())
}

fn open(disk: &VirtualDisk) -> SegmentedLog {
    try_open(disk).unwrap_or_else(|error| panic!("{error}"))
}

fn key(group: u64, replica: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: ReplicaId::new(replica),
    }
}

fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(term), LogIndex::new(index)),
        configuration: Configuration::of_voters([1, 2, 3].map(ReplicaId::new)),
        configuration_index: LogIndex::ZERO,
    }
}

fn born() -> Write {
    Write::Reset { to: meta(0, 0) }
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload: Vec<u8> = (0..bytes)
        .map(|at| (term as usize * 31 + index as usize * 7 + at) as u8)
        .collect();
    Entry {
        term: Term::new(term),
        index: LogIndex::new(index),
        kind: EntryKind::Normal,
        payload: Bytes::from(payload),
    }
}

fn append(term: u64, indexes: std::ops::RangeInclusive<u64>, bytes: usize) -> Write {
    Write::Append(indexes.map(|index| entry(term, index, bytes)).collect())
}

fn compact(term: u64, index: u64) -> Write {
    Write::Compact {
        to: meta(term, index),
    }
}

fn hard_state(term: u64, commit: u64) -> Write {
    Write::HardState(HardState {
        term: Term::new(term),
        vote: Some(ReplicaId::new(term % 3 + 1)),
        commit: LogIndex::new(commit),
    })
}

/// Everything a store says, to be compared as a whole.
#[derive(Clone, Eq, PartialEq)]
struct Everything(Vec<(ReplicaKey, Recovered)>);

fn everything(store: &dyn LogStore) -> Everything {
    let recover = |key| {
        (
            key,
            store
                .recover(key)
                .expect("recover")
                .expect("listed, so it exists"),
        )
    };
    Everything(store.replicas().into_iter().map(recover).collect())
}

/// Without the payloads: a failure must be readable.
impl std::fmt::Debug for Everything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (
            key,
            Recovered {
                hard_state,
                base,
                entries,
            },
        ) in &self.0
        {
            let HardState { term, vote, commit } = hard_state;
            write!(
                f,
                "\n{}/{}: term {term} vote {vote:?} commit {commit}, after {:?}:",
                key.group, key.replica, base.position
            )?;
            for entry in entries {
                write!(f, " {}@{}+{}", entry.index, entry.term, entry.payload.len())?;
            }
        }
        Ok(())
    }
}
