//! What keeps old files of the log from going, and what is done about it.
//!
//! Here: [`Carry`], the list of small records to be written forward and of replicas whose entries are old, and [`LogWatch`], through
//! which the node sees those. Called by `log` at each write.
//! Not here: counting what is needed (`index`), removing files (`log`).
//!
//! Files go oldest first. An old file is kept by three things. A hard state or a base of a quiet replica is written again, behind the
//! newest batch, a few at a time: the log does that by itself. Entries are not copied: their replicas are listed, the node checkpoints
//! them, and their logs shrink to a base.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use synod_consensus::{EntryKind, LogIndex, ReplicaKey, Term};

use super::frame::{FrameEncoder, RecordHead, RecordKind};
use super::index::{Index, encode_base, encode_hard_state};

#[derive(Debug, Default)]
struct Watched {
    pinned: Vec<ReplicaKey>,
    files: usize,
}

/// Shows the node what the log's writer sees. Cheap to clone, usable from every thread.
#[derive(Clone, Debug, Default)]
pub struct LogWatch(Arc<Mutex<Watched>>);

impl LogWatch {
    /// Replicas whose entries keep files that would otherwise go: checkpoint them and compact their logs to nothing
    /// ([`synod_consensus::Group::compact_all`]; a tail that is kept would go on holding the file).
    pub fn pinned(&self) -> Vec<ReplicaKey> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pinned
            .clone()
    }

    /// How many files the log has, not counting one made ahead and those that wait to be used again.
    pub fn files(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).files
    }

    pub(crate) fn show_files(&self, files: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).files = files;
    }

    fn show_pinned(&self, pinned: &BTreeSet<ReplicaKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pinned =
            pinned.iter().copied().collect();
    }
}

/// What is to be carried forward so that files up to `through` can go.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    through: u32,
    waiting: Vec<ReplicaKey>,
    pinned: BTreeSet<ReplicaKey>,
}

impl Carry {
    /// Files through `through` should go from now on. Looks at every replica: called once per new file.
    pub(crate) fn aim(&mut self, index: &Index, through: u32, watch: &LogWatch) {
        self.through = through;
        self.waiting.clear();
        self.pinned.clear();
        for key in index.replicas.keys() {
            self.place(index, *key);
        }
        self.waiting.reverse(); // taken from the end
        watch.show_pinned(&self.pinned);
    }

    fn place(&mut self, index: &Index, key: ReplicaKey) {
        let Some(replica) = index.replicas.get(&key) else {
            return;
        };
        let old = |file: Option<u32>| file.is_some_and(|file| file <= self.through);
        if old(replica.oldest_entry_file()) {
            self.pinned.insert(key);
        } else if old(replica.hard_state_file) || old(replica.base_file) {
            self.waiting.push(key);
        }
    }

    /// Adds records to a frame that has none yet, up to about `bytes`. They say what the index says before the frame.
    pub(crate) fn write(&mut self, index: &Index, encoder: &mut FrameEncoder, bytes: usize) {
        while encoder.frame_bytes() < bytes {
            let Some(key) = self.waiting.pop() else {
                return;
            };
            let Some(replica) = index.replicas.get(&key) else {
                continue;
            };
            let old = |file: Option<u32>| file.is_some_and(|file| file <= self.through);
            let head = |kind, index, term| RecordHead {
                kind,
                entry_kind: EntryKind::Normal,
                key,
                index,
                term,
            };
            if old(replica.base_file) {
                // `Compact` keeps the entries that follow; `Reset` says that there are none.
                let kind = if replica.entries.is_empty() {
                    RecordKind::Reset
                } else {
                    RecordKind::Compact
                };
                let position = replica.base.position;
                encoder.push_with(&head(kind, position.index, position.term), |buffer| {
                    encode_base(buffer, &replica.base)
                });
            }
            if old(replica.hard_state_file) {
                encoder.push(
                    &head(RecordKind::HardState, LogIndex::ZERO, Term::ZERO),
                    &encode_hard_state(&replica.hard_state),
                );
            }
        }
    }

    /// Looks again at replicas that were just written.
    pub(crate) fn touched(
        &mut self,
        index: &Index,
        keys: impl Iterator<Item = ReplicaKey>,
        watch: &LogWatch,
    ) {
        if self.pinned.is_empty() {
            return;
        }
        let mut changed = false;
        for key in keys {
            if self.pinned.remove(&key) {
                self.place(index, key);
                changed |= !self.pinned.contains(&key);
            }
        }
        if changed {
            watch.show_pinned(&self.pinned);
        }
    }

    /// Replicas whose entries are old.
    pub(crate) fn pinned(&self) -> &BTreeSet<ReplicaKey> {
        &self.pinned
    }
}
