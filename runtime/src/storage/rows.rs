//! The rows of replicated state, of all replicas of a store, in one LSM tree.
//!
//! Here: [`StateRows`]: which replica has which rows, and writes of many replicas at once. What keys and values mean their owners know.
//! The rooms beside this one: `rows_read`, one replica's rows now and at one moment, `rows_going`, rows that are staged and taken over
//! whole, and the removal of those that nobody has any more, and `rows_tree`, the tree and its bounds.
//! Not here: what changed (`evaluation::sealed`), who writes when (`checkpoint_writer`), who removes and exports (`group::exports`).
//!
//! ```text
//! head   0 'R' | group u64 | replica u64               -> named MessagePack: format, space, SnapshotMeta, the owner's own head
//! going  0 'G' | group u64 | space u64                 -> nothing
//! row    1 | group u64 | space u64 | owner's key       -> owner's value                                    (numbers big endian)
//! ```
//! A replica's rows lie in a **space** of their own, under a number that no other rows have (H77, H78): a replica that is made anew, or
//! takes a snapshot over, begins in another one and never reads the former's. The head says which space is the replica's: it changes in
//! one atomic write together with the rows it speaks of, so a crash leaves the former state or the new one. A space that is staged or
//! that nobody has any more is listed as going *in the same write*; what is listed is removed, also after a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{GroupId, LogIndex, ReplicaId, ReplicaKey, SnapshotMeta};

use super::rows_going::Going;
use super::rows_read::RowSpace;
use super::rows_tree::{Batch, RowsError, Tree};

const FORMAT: u16 = 1;
/// Bytes of rows in one commit, about. A replica's changes are never divided.
const COMMIT_BYTES: usize = 1 << 20;

/// What is written of one replica at once.
#[derive(Debug)]
pub struct RowWrite {
    /// Whose.
    pub key: ReplicaKey,
    /// Where its rows lie.
    pub space: RowSpace,
    /// What the state covers with these changes, and the configuration there.
    pub meta: SnapshotMeta,
    /// What the owner wants to find beside the rows.
    pub head: Bytes,
    /// Keys with their new values; none removes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What is durable of a replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowHead {
    /// What its rows cover, and the configuration there.
    pub meta: SnapshotMeta,
    /// The owner's own.
    pub head: Bytes,
    pub(super) space: u64,
}

#[derive(Serialize)]
struct HeadRef<'a> {
    format: u16,
    space: u64,
    meta: &'a SnapshotMeta,
    head: &'a Bytes,
}

#[derive(Deserialize)]
struct HeadRow {
    space: u64,
    meta: SnapshotMeta,
    head: Bytes,
}

#[derive(Deserialize)]
struct Format {
    format: u16,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) heads: BTreeMap<ReplicaKey, RowHead>,
    pub(super) going: Vec<Going>,
    pub(super) readers: BTreeMap<u64, Weak<()>>,
}

struct Inner {
    tree: Tree,
    known: Mutex<Known>,
    spaces: AtomicU64,
}

/// A store's rows; another handle on the same by cloning.
#[derive(Clone)]
pub struct StateRows(Arc<Inner>);

impl std::fmt::Debug for StateRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateRows")
            .field("place", &self.tree().place())
            .finish_non_exhaustive()
    }
}

pub(super) fn head_key(key: ReplicaKey) -> Vec<u8> {
    listed(b'R', key.group, key.replica.get())
}

pub(super) fn going_key(group: GroupId, space: u64) -> Vec<u8> {
    listed(b'G', group, space)
}

fn listed(class: u8, group: GroupId, number: u64) -> Vec<u8> {
    let mut row = vec![0, class];
    row.extend_from_slice(&group.get().to_be_bytes());
    row.extend_from_slice(&number.to_be_bytes());
    row
}

/// Group and number of a row of the list.
fn read_listed(row: &[u8]) -> Option<(GroupId, u64)> {
    let numbers: &[u8; 16] = row.get(2..)?.try_into().ok()?;
    let (group, number) = numbers.split_at(8);
    let number_of = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    Some((GroupId::new(number_of(group)?), number_of(number)?))
}

pub(super) fn row_key(group: GroupId, space: u64, key: &[u8]) -> Vec<u8> {
    // Its length has 16 bits in the journal; kinds and keys of entities are bounded far below.
    assert!(
        key.len() < usize::from(u16::MAX) - 17,
        "Row Key: {} bytes",
        key.len()
    );
    let mut row = Vec::with_capacity(17 + key.len());
    row.push(1);
    row.extend_from_slice(&group.get().to_be_bytes());
    row.extend_from_slice(&space.to_be_bytes());
    row.extend_from_slice(key);
    row
}

pub(super) fn encode_head(head: &RowHead) -> Vec<u8> {
    rmp_serde::to_vec_named(&HeadRef {
        format: FORMAT,
        space: head.space,
        meta: &head.meta,
        head: &head.head,
    })
    .expect("a head is plain data")
}

pub(super) fn decode_head(row: &[u8]) -> Result<RowHead, rmp_serde::decode::Error> {
    let HeadRow { space, meta, head } = rmp_serde::from_slice(row)?;
    Ok(RowHead { meta, head, space })
}

impl StateRows {
    /// Opens the rows in a directory, which is made when it is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RowsError> {
        let tree = Tree::open(path.as_ref())?;
        let mut known = Known::default();
        let mut last = 0;
        for row in tree.with(|open| Ok(open.rows.prefix([0])))? {
            let (key, value) = row.into_inner().map_err(|error| tree.refused(error))?;
            let damaged = || tree.damaged("a row of the list of replicas is none");
            let (group, number) = read_listed(&key).ok_or_else(damaged)?;
            if key[1] == b'G' {
                last = last.max(number);
                known.going.push(Going::new(group, number, Weak::new()));
                continue;
            }
            let key = ReplicaKey {
                group,
                replica: ReplicaId::new(number),
            };
            let Format { format } = rmp_serde::from_slice(&value).map_err(|_| damaged())?;
            if format > FORMAT {
                return Err(RowsError::NewerFormat { key, found: format });
            }
            let head = decode_head(&value).map_err(|_| damaged())?;
            last = last.max(head.space);
            known.heads.insert(key, head);
        }
        Ok(Self(Arc::new(Inner {
            tree,
            known: Mutex::new(known),
            spaces: AtomicU64::new(last),
        })))
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// Closes the files, whoever still has a handle: nothing is read or written any more. Waits for what is under way.
    pub fn close(&self) {
        self.tree().close();
    }

    /// Every replica that has rows, in order.
    pub fn replicas(&self) -> Vec<ReplicaKey> {
        self.known().heads.keys().copied().collect()
    }

    /// What is durable of a replica; `None`: nothing yet.
    pub fn head(&self, key: ReplicaKey) -> Option<RowHead> {
        self.known().heads.get(&key).cloned()
    }

    /// Where a replica's rows lie; of one without any, a new place.
    pub fn space(&self, key: ReplicaKey) -> RowSpace {
        let mut known = self.known();
        let number = known.heads.get(&key).map(|head| head.space);
        let number = number.unwrap_or_else(|| self.new_space());
        self.enter(&mut known, key.group, number)
    }

    /// A number that no space has or had.
    pub(super) fn new_space(&self) -> u64 {
        self.0.spaces.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn enter(&self, known: &mut Known, group: GroupId, number: u64) -> RowSpace {
        let readers = known.readers.get(&number).and_then(Weak::upgrade);
        let reader = readers.unwrap_or_default();
        known.readers.insert(number, Arc::downgrade(&reader));
        RowSpace::new(self.clone(), group, number, reader)
    }

    /// Writes the changes of many replicas, synced: on `Ok` all are durable, and the logs may be compacted. Each replica's changes and
    /// its head are one atomic write. What was replaced, removed or overtaken meanwhile is left out: the answer says which are done.
    /// They are taken one after the other, so that not all need to be in memory.
    pub fn put(
        &self,
        writes: impl IntoIterator<Item = RowWrite>,
    ) -> Result<Vec<(ReplicaKey, LogIndex)>, RowsError> {
        let mut done = Vec::new();
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let mut batch = Batch::default();
            let mut heads = Vec::new();
            while batch.bytes() < COMMIT_BYTES
                && let Some(write) = writes.next()
            {
                let RowWrite {
                    key,
                    space,
                    meta,
                    head,
                    changes,
                } = write;
                let index = meta.position.index;
                if !self.known().takes(key, &space, index) {
                    continue;
                }
                for (row, value) in changes {
                    let row = space.row(&row);
                    match value {
                        Some(value) => batch.insert(row, value),
                        None => batch.remove(row),
                    }
                }
                let head = RowHead {
                    meta,
                    head,
                    space: space.number(),
                };
                batch.insert(head_key(key), encode_head(&head));
                heads.push((key, head));
                done.push((key, index));
            }
            if heads.is_empty() {
                continue;
            }
            self.tree().commit(batch, false)?;
            self.known().heads.extend(heads);
        }
        // One journal: this is of them all, whatever came last and was left out.
        if !done.is_empty() {
            self.tree().sync()?;
        }
        Ok(done)
    }

    /// Bytes of the rows' files.
    pub fn disk_bytes(&self) -> u64 {
        self.tree()
            .with(|open| Ok(open.rows.disk_space()))
            .unwrap_or(0)
    }

    /// Whether there is no row at all, of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.tree()
            .with(|open| open.rows.is_empty())
            .expect("the rows can be read")
    }

    /// Writes what is in memory and the journal into files.
    #[cfg(test)]
    pub(super) fn to_files(&self) -> Result<(), RowsError> {
        self.tree()
            .with(|open| open.rows.rotate_memtable_and_wait())
    }

    /// No commit ends while this is held: a seam for tests of a disk that stands still.
    #[doc(hidden)]
    pub fn hold(&self) -> HeldRows<'_> {
        HeldRows {
            _moves: self.tree().hold(),
        }
    }

    /// Lets this many more commits and syncs succeed: a seam for tests of crashes between them.
    #[doc(hidden)]
    pub fn fail_after(&self, commits: u64) {
        self.tree().fail_after(commits);
    }
}

/// A disk that stands still, as long as this is there: a test waits meanwhile for what does not need the disk.
#[doc(hidden)]
#[derive(Debug)]
#[must_use]
pub struct HeldRows<'a> {
    _moves: MutexGuard<'a, ()>,
}

impl Known {
    /// Whether a write of a replica is wanted.
    fn takes(&self, key: ReplicaKey, space: &RowSpace, index: LogIndex) -> bool {
        let goes = |going: &Going| going.is(space.number());
        match self.heads.get(&key) {
            Some(head) => head.space == space.number() && head.meta.position.index <= index,
            None => !self.going.iter().any(goes),
        }
    }
}
