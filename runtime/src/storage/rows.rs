//! The rows of replicated state, of all replicas of a store, in one LSM tree.
//!
//! Here: [`StateRows`]: which replica has which rows, writes of many replicas at once, reads, views of one moment, rows that are staged
//! and taken over whole, and the removal of those that nobody has any more. What keys and values mean their owners know.
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
//!
//! Commits are synced where somebody relies on them. All go through one journal, which is synced up to a point: what is durable is a
//! beginning of what was committed. The first error is sticky.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use serde::{Deserialize, Serialize};
use synod_consensus::{GroupId, LogIndex, ReplicaId, ReplicaKey, SnapshotMeta};

use super::rows_journal::mend;

const FORMAT: u16 = 1;
/// Blocks that were read and may be read again. With the memtables below it bounds what the rows take of memory, whatever their number.
const CACHE_BYTES: u64 = 32 << 20;
/// What one memtable gathers before it becomes a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// What a start may have to replay of the journal.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Threads that flush and compact.
const WORKERS: usize = 1;
/// Bytes of rows in one commit, about. A replica's changes are never divided.
const COMMIT_BYTES: usize = 4 << 20;
/// Bytes of staged rows in one commit.
const STAGE_BYTES: usize = 1 << 20;

/// Why rows were not written or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The disk refused, or what lies there is damaged. After a write: it counts as not done, and no later one will be.
    #[error("the rows in {place} cannot be used: {reason}")]
    Unusable {
        /// The directory.
        place: String,
        /// What was said.
        reason: String,
    },
    /// The node stops; nothing is wrong with them.
    #[error("the rows in {place} are closed")]
    Closed {
        /// The directory.
        place: String,
    },
    /// Use a newer program.
    #[error(
        "the rows of {key:?} have format {found}, which this program does not know: use a newer one"
    )]
    NewerFormat {
        /// Whose.
        key: ReplicaKey,
        /// Their format.
        found: u16,
    },
}

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
    space: u64,
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

/// Rows that nobody has any more.
#[derive(Debug)]
struct Going {
    group: GroupId,
    space: u64,
    /// Who still reads them.
    readers: Weak<()>,
    /// Where the removal is; what lies before is gone.
    from: Vec<u8>,
}

#[derive(Debug, Default)]
struct Known {
    heads: BTreeMap<ReplicaKey, RowHead>,
    going: Vec<Going>,
    readers: BTreeMap<u64, Weak<()>>,
    failed: Option<String>,
}

/// Keys with their new values; none removes. One atomic write.
#[derive(Default)]
struct Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }
}

struct Open {
    db: Database,
    rows: Keyspace,
}

struct Inner {
    /// `None`: closed.
    open: RwLock<Option<Open>>,
    place: String,
    known: Mutex<Known>,
    spaces: AtomicU64,
    /// Commits that still succeed: a seam for tests, far away otherwise.
    commits_left: AtomicU64,
    /// Taken for each commit: a seam for tests of a disk that stands still.
    moves: Mutex<()>,
}

/// A store's rows; another handle on the same by cloning.
#[derive(Clone)]
pub struct StateRows(Arc<Inner>);

impl std::fmt::Debug for StateRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateRows")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

fn head_key(key: ReplicaKey) -> Vec<u8> {
    listed(b'R', key.group, key.replica.get())
}

fn going_key(group: GroupId, space: u64) -> Vec<u8> {
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

fn row_key(group: GroupId, space: u64, key: &[u8]) -> Vec<u8> {
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

fn encode_head(head: &RowHead) -> Vec<u8> {
    rmp_serde::to_vec_named(&HeadRef {
        format: FORMAT,
        space: head.space,
        meta: &head.meta,
        head: &head.head,
    })
    .expect("a head is plain data")
}

impl StateRows {
    /// Opens the rows in a directory, which is made when it is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RowsError> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let unusable = |error: fjall::Error| RowsError::Unusable {
            place: place.clone(),
            reason: error.to_string(),
        };
        let lost = mend(path).map_err(|error| unusable(error.into()))?;
        if lost > 0 {
            tracing::warn!(%place, bytes = lost, "the journal of the rows ends in commits that are not whole, as a power cut leaves them; they are gone");
        }
        let db = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            .open()
            .map_err(unusable)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = db.keyspace("rows", options).map_err(unusable)?;
        let mut known = Known::default();
        let mut last = 0;
        for row in rows.prefix([0]) {
            let (key, value) = row.into_inner().map_err(unusable)?;
            let damaged = || RowsError::Unusable {
                place: place.clone(),
                reason: "a row of the list of replicas is none".into(),
            };
            let (group, number) = read_listed(&key).ok_or_else(damaged)?;
            if key[1] == b'G' {
                last = last.max(number);
                known.going.push(Going {
                    group,
                    space: number,
                    readers: Weak::new(),
                    from: Vec::new(),
                });
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
            let HeadRow { space, meta, head } =
                rmp_serde::from_slice(&value).map_err(|_| damaged())?;
            last = last.max(space);
            known.heads.insert(key, RowHead { meta, head, space });
        }
        Ok(Self(Arc::new(Inner {
            open: RwLock::new(Some(Open { db, rows })),
            place,
            known: Mutex::new(known),
            spaces: AtomicU64::new(last),
            commits_left: AtomicU64::new(u64::MAX),
            moves: Mutex::default(),
        })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the tree, unless it is closed.
    fn with<T>(&self, act: impl FnOnce(&Open) -> fjall::Result<T>) -> Result<T, RowsError> {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &*open else {
            let place = self.0.place.clone();
            return Err(RowsError::Closed { place });
        };
        act(open).map_err(|error| self.unusable(error.to_string()))
    }

    /// Closes the files, whoever still has a handle: nothing is read or written any more. Waits for what is under way.
    pub fn close(&self) {
        let mut open = self.0.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
    }

    fn unusable(&self, reason: String) -> RowsError {
        RowsError::Unusable {
            place: self.0.place.clone(),
            reason,
        }
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
        let number = number.unwrap_or_else(|| self.0.spaces.fetch_add(1, Ordering::Relaxed) + 1);
        self.enter(&mut known, key.group, number)
    }

    fn enter(&self, known: &mut Known, group: GroupId, number: u64) -> RowSpace {
        let readers = known.readers.get(&number).and_then(Weak::upgrade);
        let reader = readers.unwrap_or_default();
        known.readers.insert(number, Arc::downgrade(&reader));
        RowSpace {
            rows: self.clone(),
            group,
            number,
            _reader: reader,
        }
    }

    /// The first error is sticky: what the disk has forgotten once it may forget again.
    fn commit(&self, batch: Batch, synced: bool) -> Result<(), RowsError> {
        if let Some(reason) = self.known().failed.clone() {
            return Err(self.unusable(reason));
        }
        let _moves = self.hold();
        let done = if self.0.commits_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            Err(self.unusable("it was stopped here by a test".into()))
        } else {
            self.with(|open| {
                let mut commit = open.db.batch();
                for (key, value) in batch.0 {
                    match value {
                        Some(value) => commit.insert(&open.rows, key, value),
                        None => commit.remove(&open.rows, key),
                    }
                }
                let mode = synced.then_some(PersistMode::SyncAll);
                commit.durability(mode).commit()
            })
        };
        if let Err(RowsError::Unusable { reason, .. }) = &done {
            self.known().failed = Some(reason.clone());
        }
        done
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
            let mut bytes = 0;
            while bytes < COMMIT_BYTES
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
                    let row = row_key(space.group, space.number, &row);
                    bytes += row.len() + value.as_ref().map_or(0, Vec::len);
                    match value {
                        Some(value) => batch.insert(row, value),
                        None => batch.remove(row),
                    }
                }
                let head = RowHead {
                    meta,
                    head,
                    space: space.number,
                };
                batch.insert(head_key(key), encode_head(&head));
                heads.push((key, head));
                done.push((key, index));
            }
            if heads.is_empty() {
                continue;
            }
            // One journal: the last sync is of them all.
            self.commit(batch, writes.peek().is_none())?;
            self.known().heads.extend(heads);
        }
        Ok(done)
    }

    /// A place for the rows of a snapshot that is being taken over.
    pub fn stage(&self, group: GroupId) -> Staging {
        let number = self.0.spaces.fetch_add(1, Ordering::Relaxed) + 1;
        let space = self.enter(&mut self.known(), group, number);
        let mut batch = Batch::default();
        batch.insert(going_key(group, number), Vec::new());
        Staging {
            space,
            batch,
            bytes: 0,
            taken: false,
        }
    }

    /// Makes staged rows those of a replica, durably and in one write; its former ones are going.
    pub fn adopt(
        &self,
        key: ReplicaKey,
        mut staging: Staging,
        meta: SnapshotMeta,
        head: Bytes,
    ) -> Result<(), RowsError> {
        staging.flush()?;
        let former = self.known().leaves(key);
        let mut batch = Batch::default();
        let space = staging.space.number;
        let head = RowHead { meta, head, space };
        batch.insert(head_key(key), encode_head(&head));
        batch.remove(going_key(key.group, space));
        if let Some(former) = former {
            batch.insert(going_key(key.group, former), Vec::new());
        }
        self.commit(batch, true)?;
        staging.taken = true;
        let mut known = self.known();
        known.heads.insert(key, head);
        known.goes(key.group, former);
        Ok(())
    }

    /// Lets another replica id have a replica's rows, durably. Both have them until one is removed.
    pub fn also_as(&self, key: ReplicaKey, replica: ReplicaId) -> Result<(), RowsError> {
        let Some(head) = self.head(key) else {
            return Ok(());
        };
        let key = ReplicaKey { replica, ..key };
        let mut batch = Batch::default();
        batch.insert(head_key(key), encode_head(&head));
        self.commit(batch, true)?;
        self.known().heads.insert(key, head);
        Ok(())
    }

    /// Forgets a replica; its rows are going. Not durable by itself: after a crash it may be back, and [`Self::retain`] removes it again.
    pub fn remove(&self, key: ReplicaKey) -> Result<(), RowsError> {
        let former = self.known().leaves(key);
        if self.head(key).is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.remove(head_key(key));
        if let Some(former) = former {
            batch.insert(going_key(key.group, former), Vec::new());
        }
        self.commit(batch, false)?;
        let mut known = self.known();
        known.heads.remove(&key);
        known.goes(key.group, former);
        Ok(())
    }

    /// Forgets all replicas but these. Called at start with the replicas that the log knows.
    pub fn retain(&self, wanted: impl Fn(ReplicaKey) -> bool) -> Result<(), RowsError> {
        let unwanted = self.replicas().into_iter().filter(|key| !wanted(*key));
        unwanted.into_iter().try_for_each(|key| self.remove(key))
    }

    /// Removes up to `limit` rows that nobody has any more. Whether there may be more that can go now.
    pub fn sweep(&self, limit: usize) -> Result<bool, RowsError> {
        let (group, space, from) = {
            let known = self.known();
            let unread = |going: &&Going| going.readers.strong_count() == 0;
            let Some(going) = known.going.iter().find(unread) else {
                return Ok(false);
            };
            (going.group, going.space, going.from.clone())
        };
        let prefix = row_key(group, space, &[]);
        let start = row_key(group, space, &from);
        let mut batch = Batch::default();
        let mut last = None;
        let mut rows = 0;
        for row in self.with(|open| Ok(open.rows.range(start..)))? {
            let row = row
                .key()
                .map_err(|error| self.unusable(error.to_string()))?;
            if !row.starts_with(&prefix) {
                break;
            }
            if rows == limit {
                last = Some(row[prefix.len()..].to_vec());
                break;
            }
            batch.remove(row.to_vec());
            rows += 1;
        }
        if last.is_none() {
            batch.remove(going_key(group, space));
        }
        self.commit(batch, false)?;
        let mut known = self.known();
        match last {
            Some(from) => {
                let mut going = known.going.iter_mut();
                if let Some(going) = going.find(|going| going.space == space) {
                    going.from = from;
                }
            }
            None => {
                known.going.retain(|going| going.space != space);
                known.readers.remove(&space);
            }
        }
        Ok(true)
    }

    /// Spaces whose rows are to go and are not gone.
    pub fn going(&self) -> usize {
        self.known().going.len()
    }

    /// A replica's rows as they are now, whatever is written meanwhile; `None`: it has none.
    pub fn view(&self, key: ReplicaKey) -> Result<Option<RowView>, RowsError> {
        let (snapshot, row) = self.with(|open| {
            let snapshot = open.db.snapshot();
            let row = snapshot.get(&open.rows, head_key(key))?;
            Ok((snapshot, row))
        })?;
        let Some(row) = row else {
            return Ok(None);
        };
        let HeadRow { space, meta, head } = rmp_serde::from_slice(&row)
            .map_err(|error| self.unusable(format!("the head of {key:?}: {error}")))?;
        Ok(Some(RowView {
            rows: self.clone(),
            snapshot,
            group: key.group,
            head: RowHead { meta, head, space },
        }))
    }

    /// Bytes of the rows' files.
    pub fn disk_bytes(&self) -> u64 {
        self.with(|open| Ok(open.rows.disk_space())).unwrap_or(0)
    }

    /// Whether there is no row at all, of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.with(|open| open.rows.is_empty())
            .expect("the rows can be read")
    }

    /// Writes what is in memory and the journal into files.
    #[cfg(test)]
    pub(super) fn to_files(&self) -> Result<(), RowsError> {
        self.with(|open| open.rows.rotate_memtable_and_wait())
    }

    /// No commit ends while this is held: a seam for tests of a disk that stands still.
    #[doc(hidden)]
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this many more commits succeed: a seam for tests of crashes between them.
    #[doc(hidden)]
    pub fn fail_after(&self, commits: u64) {
        self.0.commits_left.store(commits, Ordering::Relaxed);
    }

    fn scan(&self, rows: Result<fjall::Iter, RowsError>, prefix: usize) -> Rows<'static> {
        let this = self.clone();
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        Box::new(rows.map(move |row| {
            let (key, value) = row
                .into_inner()
                .map_err(|error| this.unusable(error.to_string()))?;
            Ok((
                Bytes::copy_from_slice(&key[prefix..]),
                Bytes::copy_from_slice(&value),
            ))
        }))
    }
}

impl Known {
    /// Whether a write of a replica is wanted.
    fn takes(&self, key: ReplicaKey, space: &RowSpace, index: LogIndex) -> bool {
        let goes = |going: &Going| going.space == space.number;
        match self.heads.get(&key) {
            Some(head) => head.space == space.number && head.meta.position.index <= index,
            None => !self.going.iter().any(goes),
        }
    }

    /// The space that nobody has any more once `key` does not.
    fn leaves(&self, key: ReplicaKey) -> Option<u64> {
        let space = self.heads.get(&key)?.space;
        let shared = |(other, head): (&ReplicaKey, &RowHead)| *other != key && head.space == space;
        (!self.heads.iter().any(shared)).then_some(space)
    }

    fn goes(&mut self, group: GroupId, space: Option<u64>) {
        let Some(space) = space else { return };
        let readers = self.readers.get(&space).cloned().unwrap_or_default();
        self.going.push(Going {
            group,
            space,
            readers,
            from: Vec::new(),
        });
    }
}

/// Keys and values in order; after an error nothing more comes.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), RowsError>> + 'a>;

/// Where the rows of one replica lie. They are not removed while anybody has this.
#[derive(Clone, Debug)]
pub struct RowSpace {
    rows: StateRows,
    group: GroupId,
    number: u64,
    _reader: Arc<()>,
}

impl RowSpace {
    /// One row, as the last write left it. The value is memory of its own.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        let key = row_key(self.group, self.number, key);
        let value = self.rows.with(|open| open.rows.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// All rows whose keys begin so, as they are now.
    pub fn scan(&self, prefix: &[u8]) -> Rows<'_> {
        let own = row_key(self.group, self.number, &[]).len();
        let prefix = row_key(self.group, self.number, prefix);
        let rows = self.rows.with(|open| Ok(open.rows.prefix(prefix)));
        self.rows.scan(rows, own)
    }
}

/// A replica's rows at one moment.
pub struct RowView {
    rows: StateRows,
    snapshot: Snapshot,
    group: GroupId,
    head: RowHead,
}

impl std::fmt::Debug for RowView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowView")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl RowView {
    /// What was durable of the replica then.
    pub fn head(&self) -> &RowHead {
        &self.head
    }

    /// One row.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        let key = row_key(self.group, self.head.space, key);
        let value = self.rows.with(|open| self.snapshot.get(&open.rows, key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// All rows whose keys begin so.
    pub fn scan(&self, prefix: &[u8]) -> Rows<'_> {
        let own = row_key(self.group, self.head.space, &[]).len();
        let prefix = row_key(self.group, self.head.space, prefix);
        let rows = |open: &Open| Ok(self.snapshot.prefix(&open.rows, prefix));
        self.rows.scan(self.rows.with(rows), own)
    }
}

/// Rows on their way in. Dropped before they were adopted, they are going.
pub struct Staging {
    space: RowSpace,
    batch: Batch,
    bytes: usize,
    taken: bool,
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging")
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

impl Staging {
    /// Where the rows will lie.
    pub fn space(&self) -> RowSpace {
        self.space.clone()
    }

    /// Keeps one row.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), RowsError> {
        let key = row_key(self.space.group, self.space.number, key);
        self.bytes += key.len() + value.len();
        self.batch.insert(key, value);
        if self.bytes >= STAGE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RowsError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.0.is_empty() {
            return Ok(());
        }
        self.space.rows.commit(batch, false)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.taken {
            let (group, space) = (self.space.group, self.space.number);
            self.space.rows.known().goes(group, Some(space));
        }
    }
}
