//! The LSM tree under the rows: one per store, with its bounds.
//!
//! Here: [`Tree`]: what it may take of memory and of the disk's time, commits of whole batches, and its end. What a commit adds lies in a
//! memtable until it is in a file, and the tree lets a memtable go only when the next one is begun behind that file, and nobody has a
//! view any more that is older. Left to itself it begins one when its only thread comes to it, which may compact for seconds meanwhile:
//! so it is begun here, and a commit waits when all of them together have too much (section 4: what waits is bounded). Checkpoints wait
//! for it then, and what they were to write counts as not written (`group::overlays`).
//! Not here: whose rows they are, and which (`rows`).
//!
//! All commits go through one journal, which is synced up to a point: what is durable is a beginning of what was committed. The first
//! error is sticky.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
};
use synod_consensus::ReplicaKey;

use super::rows_journal::mend;

/// Blocks that were read and may be read again.
const CACHE_BYTES: u64 = 32 << 20;
/// What one memtable gathers before it becomes a file.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// What all memtables may have together: the one that is written to, those that wait to become files, and those that have and are not let
/// go yet. A commit that would have more waits; one alone may be larger. So much also goes on while a compaction takes the tree's thread:
/// see [`FILE_BYTES`].
pub(super) const MEMTABLES_BYTES: u64 = 32 << 20;
/// One file of a level. A compaction keeps in memory what it writes of one (its index holds on to the blocks whose keys it lists), and
/// takes the tree's thread for as long as the first level, which has four of them, needs to be rewritten with four memtables, or one
/// of its files with the part of the next level below it: some 80 to 180 MiB, one or two seconds. Every memtable brings one compaction
/// along, and four of them fill one file, so that with a level more for each factor of ten compactions still keep up.
const FILE_BYTES: u64 = 16 << 20;
/// What a start may have to replay of the journal.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Threads that flush and compact. A second one would turn in circles while the other compacts.
const WORKERS: usize = 1;
/// How often it is looked whether there is room again: a memtable takes some hundredths of a second to become a file.
const LOOK: Duration = Duration::from_millis(5);

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

/// Keys with their new values; none removes. One atomic write.
#[derive(Default)]
pub(super) struct Batch {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Batch {
    pub(super) fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.rows.push((key, Some(value)));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.rows.push((key, None));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

pub(super) struct Open {
    pub(super) db: Database,
    pub(super) rows: Keyspace,
    memtables: Mutex<Memtables>,
}

/// Memtables that somebody has: their sizes as long as they are there.
#[derive(Default)]
struct Memtables {
    sizes: Vec<Box<dyn Fn() -> Option<u64> + Send + Sync>>,
    newest: Option<u64>,
}

impl Memtables {
    /// The one that is written to.
    fn note(&mut self, rows: &Keyspace) {
        let active = rows.tree.active_memtable();
        if self.newest.replace(active.id()) != Some(active.id()) {
            let memtable = Arc::downgrade(&active);
            let size = move || memtable.upgrade().map(|memtable| memtable.size());
            self.sizes.push(Box::new(size));
        }
    }

    /// Bytes of all together.
    fn bytes(&mut self) -> u64 {
        let mut bytes = 0;
        self.sizes.retain(|size| {
            let size = size();
            bytes += size.unwrap_or(0);
            size.is_some()
        });
        bytes
    }
}

impl Open {
    /// Bytes in memtables, also in those that are in files and not let go.
    fn held(&self) -> u64 {
        let mut memtables = self
            .memtables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        memtables.note(&self.rows);
        memtables.bytes()
    }
}

/// The tree of a store.
pub(super) struct Tree {
    /// `None`: closed.
    open: RwLock<Option<Open>>,
    place: String,
    failed: Mutex<Option<String>>,
    views: Arc<Mutex<Views>>,
    /// Commits and syncs that still succeed: a seam for tests, far away otherwise.
    commits_left: AtomicU64,
    /// Taken for each commit: a seam for tests of a disk that stands still.
    moves: Mutex<()>,
}

impl Tree {
    /// Opens the tree in a directory, which is made when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, RowsError> {
        let place = path.display().to_string();
        let unusable = |error: fjall::Error| RowsError::Unusable {
            place: place.clone(),
            reason: error.to_string(),
        };
        let lost = mend(path).map_err(|error| RowsError::Unusable {
            place: place.clone(),
            reason: error.to_string(),
        })?;
        if lost > 0 {
            tracing::warn!(%place, bytes = lost, "the journal of the rows ends in commits that are not whole, as a power cut leaves them; they are gone");
        }
        let db = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKERS)
            // Said, because another part of the program may turn the tree's compression on: `rows_journal` cannot read that.
            .journal_compression(CompressionType::None)
            .open()
            .map_err(unusable)?;
        let options = || {
            let levels = Leveled::default().with_table_target_size(FILE_BYTES);
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLES_BYTES) // its own thread begins none: see `Tree::has_room`
                .compaction_strategy(Arc::new(levels()))
                .data_block_compression_policy(CompressionPolicy::disabled())
        };
        let rows = db.keyspace("rows", options).map_err(unusable)?;
        Ok(Self {
            open: RwLock::new(Some(Open {
                db,
                rows,
                memtables: Mutex::default(),
            })),
            place,
            failed: Mutex::default(),
            views: Arc::default(),
            commits_left: AtomicU64::new(u64::MAX),
            moves: Mutex::default(),
        })
    }

    /// The directory.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn unusable(&self, reason: impl ToString) -> RowsError {
        RowsError::Unusable {
            place: self.place.clone(),
            reason: reason.to_string(),
        }
    }

    /// Does something with the tree, unless it is closed.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&Open) -> fjall::Result<T>,
    ) -> Result<T, RowsError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &*open else {
            let place = self.place.clone();
            return Err(RowsError::Closed { place });
        };
        act(open).map_err(|error| self.unusable(error))
    }

    /// Closes the files. Waits for what is under way, but not for a commit that waits itself.
    pub(super) fn close(&self) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
    }

    /// Whoever has it may look at a moment that is past: what was in memory then stays there, and counts.
    pub(super) fn view(&self) -> Viewing {
        let mut views = locked(&self.views);
        views.begun += 1;
        let serial = views.begun;
        views.now.insert(serial);
        Viewing {
            views: self.views.clone(),
            serial,
        }
    }

    /// One atomic write; `synced`: it and all before it are durable then.
    pub(super) fn commit(&self, batch: Batch, synced: bool) -> Result<(), RowsError> {
        self.step(|| {
            self.make_room(batch.bytes() as u64)?;
            self.write(batch, synced)
        })
    }

    /// On `Ok` all commits so far are durable.
    pub(super) fn sync(&self) -> Result<(), RowsError> {
        self.step(|| self.with(|open| open.db.persist(PersistMode::SyncAll)))
    }

    /// The first error is sticky: what the disk has forgotten once it may forget again.
    fn step(&self, act: impl FnOnce() -> Result<(), RowsError>) -> Result<(), RowsError> {
        let _moves = self.hold();
        // Behind whoever was before, for that is who may have failed.
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &*failed() {
            return Err(self.unusable(reason));
        }
        let _moves = self.hold();
        let done = if self.commits_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            Err(self.unusable("it was stopped here by a test"))
        } else {
            self.make_room(batch.bytes() as u64)
                .and_then(|()| self.write(batch, synced))
        };
        if let Err(RowsError::Unusable { reason, .. }) = &done {
            *failed() = Some(reason.clone());
        }
        done
    }

    fn write(&self, batch: Batch, synced: bool) -> Result<(), RowsError> {
        self.with(|open| {
            let mut commit = open.db.batch();
            for (key, value) in batch.rows {
                match value {
                    Some(value) => commit.insert(&open.rows, key, value),
                    None => commit.remove(&open.rows, key),
                }
            }
            let mode = synced.then_some(PersistMode::SyncAll);
            commit.durability(mode).commit()?;
            open.held(); // notes a memtable that begins with this commit
            Ok(())
        })
    }

    /// Waits until the memtables may take so many bytes more.
    fn make_room(&self, bytes: u64) -> Result<(), RowsError> {
        let most = MEMTABLES_BYTES.saturating_sub(bytes);
        while !self.with(|open| self.has_room(open, most))? {
            std::thread::sleep(LOOK); // between two looks; nothing tells when a file is there
        }
        Ok(())
    }

    fn has_room(&self, open: &Open, most: u64) -> fjall::Result<bool> {
        let Open { db, rows, .. } = open;
        if rows.tree.active_memtable().size() >= MEMTABLE_BYTES {
            rows.rotate_memtable()?;
        }
        if open.held() <= most {
            return Ok(true);
        }
        if rows.sealed_memtable_count() > 0 || Arc::strong_count(&self.views) > 1 {
            db.persist(PersistMode::Buffer)?; // says so when the tree's thread has failed, and there is nobody to wait for
            return Ok(false);
        }
        // All is in files. What is behind the last of them goes with the next memtable, if there is anything to begin one with.
        let begun = rows.rotate_memtable()?;
        Ok(!begun || open.held() <= most)
    }

    /// Bytes in memtables.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.with(|open| Ok(open.held())).unwrap_or(0)
    }

    /// No commit ends while this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this many more commits and syncs succeed.
    pub(super) fn fail_after(&self, commits: u64) {
        self.commits_left.store(commits, Ordering::Relaxed);
    }
}
