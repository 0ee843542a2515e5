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

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Snapshot,
};
use synod_consensus::ReplicaKey;

use super::disk::{remove_folder, sync_path};
use super::rows_journal::mend;

/// Blocks that were read and may be read again.
const CACHE_BYTES: u64 = 32 << 20;
/// Files that stay open: a quarter of what a process may have where nobody raised it (1,024), for sockets and the log need theirs.
const FILES_MAX: usize = 256;
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
/// Memtables that wait to become files, beyond which a commit waits here. At one more the tree itself waits within the commit, without
/// end when its thread has failed meanwhile (a full disk), and the node could not stop.
pub(super) const SEALED_MAX: usize = 3;
/// Runs of the first level beyond which a commit waits here, for the same reason: the tree waits at 30, and the few memtables that become
/// files within one commit do not make as many.
pub(super) const RUNS_MAX: usize = 20;
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
    /// The disk refused, which says nothing about what lies there: stop, and start again once it does not. After a write: it counts as
    /// not done, and no later one will be.
    #[error("the rows in {place} cannot be used: {reason}")]
    Unusable {
        /// The directory.
        place: String,
        /// What was said.
        reason: String,
    },
    /// What lies there is not what was written, and will not be: whoever has it elsewhere takes it from there.
    #[error("the rows in {place} are damaged: {reason}")]
    Damaged {
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

/// Whether it says that the bytes there are not what was written. A disk that refuses (no file handle left, no memory, no answer) says
/// nothing about them.
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::{Error, LsmError};
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => matches!(
            error.kind(),
            // A file that is gone, or shorter than it was.
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
        ),
        // Of another program.
        Error::Storage(LsmError::InvalidVersion(_)) => false,
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => true,
        _ => false,
    }
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
        let mut memtables = locked(&self.memtables);
        memtables.note(&self.rows);
        memtables.bytes()
    }
}

/// Who looks at moments that are past.
#[derive(Default)]
struct Views {
    begun: u64,
    /// By serial: the oldest first.
    now: BTreeSet<u64>,
    /// The oldest when memtables were last let go: as long as it is there, no more of them can be.
    in_the_way: Option<u64>,
}

impl Views {
    fn oldest(&self) -> Option<u64> {
        self.now.first().copied()
    }
}

/// One who does; to be dropped behind what it looks at.
pub(super) struct Viewing {
    views: Arc<Mutex<Views>>,
    serial: u64,
}

impl Drop for Viewing {
    fn drop(&mut self) {
        locked(&self.views).now.remove(&self.serial);
    }
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn levels() -> Leveled {
    Leveled::default().with_table_target_size(FILE_BYTES)
}

/// The tree's own mark of a directory that it has made; it comes last, and without it the tree makes another one and stumbles over the
/// rest.
const MADE: &str = "version";

/// Makes the tree's directory, whole or not at all: a process that ends in the middle leaves one that the tree would never open again.
fn begun(path: &Path) -> fjall::Result<()> {
    if path.join(MADE).exists() {
        return Ok(());
    }
    let making = path.with_extension("making");
    remove_folder(&making)?;
    drop(opened(&making)?);
    sync_all(&making)?;
    std::fs::rename(&making, path)?; // refused where something lies that is not a tree
    if let Some(parent) = path.parent() {
        sync_path(parent)?;
    }
    Ok(())
}

/// All files and directories.
fn sync_all(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            sync_path(&entry.path())?;
        }
    }
    sync_path(path)
}

fn opened(path: &Path) -> fjall::Result<(Database, Keyspace)> {
    let db = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(FILES_MAX))
        .worker_threads(WORKERS)
        // Said, because another part of the program may turn the tree's compression on: `rows_journal` cannot read that.
        .journal_compression(CompressionType::None)
        .open()?;
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLES_BYTES) // its own thread begins none: see `Tree::has_room`
            .compaction_strategy(Arc::new(levels()))
            .data_block_compression_policy(CompressionPolicy::disabled())
    };
    let rows = db.keyspace("rows", options)?;
    Ok((db, rows))
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
    /// Taken for each commit and each sync: they come one after the other. Also a seam for tests of a disk that stands still.
    moves: Mutex<()>,
    /// Taken while a commit's rows go in one by one, and while a view is opened. The tree says that the commit can be seen when all are in,
    /// but a memtable that becomes a file meanwhile says so of all that were begun. Not `moves`: a commit may wait for a view's end.
    whole: Mutex<()>,
}

impl Tree {
    /// Opens the tree in a directory, which is made when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, RowsError> {
        let place = path.display().to_string();
        let unusable = |error: fjall::Error| RowsError::Unusable {
            place: place.clone(),
            reason: error.to_string(),
        };
        begun(path).map_err(unusable)?;
        let lost = mend(path).map_err(|error| {
            let (place, reason) = (place.clone(), error.to_string());
            match error.kind() {
                ErrorKind::InvalidData => RowsError::Damaged { place, reason },
                _ => RowsError::Unusable { place, reason },
            }
        })?;
        if lost > 0 {
            tracing::warn!(%place, bytes = lost, "the journal of the rows ends in commits that are not whole, as a power cut leaves them; they are gone");
        }
        let (db, rows) = begun(path).and_then(|()| opened(path)).map_err(unusable)?;
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
            whole: Mutex::default(),
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

    pub(super) fn damaged(&self, reason: impl ToString) -> RowsError {
        RowsError::Damaged {
            place: self.place.clone(),
            reason: reason.to_string(),
        }
    }

    /// Why something was not done.
    pub(super) fn refused(&self, error: fjall::Error) -> RowsError {
        if is_damage(&error) {
            self.damaged(error)
        } else {
            self.unusable(error)
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
        act(open).map_err(|error| self.refused(error))
    }

    /// Closes the files. Waits for what is under way, but not for a commit that waits itself.
    pub(super) fn close(&self) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
    }

    /// What is there now, between two commits. What is in memory now stays there for as long as somebody has it, and counts.
    pub(super) fn view(&self) -> Result<(Snapshot, Viewing), RowsError> {
        let counted = {
            let mut views = locked(&self.views);
            views.begun += 1;
            let serial = views.begun;
            views.now.insert(serial);
            Viewing {
                views: self.views.clone(),
                serial,
            }
        };
        let _whole = self.whole();
        let snapshot = self.with(|open| Ok(open.db.snapshot()))?;
        Ok((snapshot, counted))
    }

    fn whole(&self) -> MutexGuard<'_, ()> {
        locked(&self.whole)
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
        if let Some(reason) = &*locked(&self.failed) {
            return Err(self.unusable(reason));
        }
        let done = if self.commits_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            Err(self.unusable("it was stopped here by a test"))
        } else {
            act()
        };
        if let Err(RowsError::Unusable { reason, .. } | RowsError::Damaged { reason, .. }) = &done {
            *locked(&self.failed) = Some(reason.clone());
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
            let whole = self.whole();
            commit.durability(mode).commit()?;
            drop(whole);
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
        let sealed = rows.sealed_memtable_count();
        let runs = rows.tree.l0_run_count();
        if sealed >= SEALED_MAX || runs >= RUNS_MAX {
            db.persist(PersistMode::Buffer)?; // says so when the tree's thread has failed, and there is nobody to wait for
            if sealed == 0 {
                // Its thread compacts once for each memtable. Where that was not enough, nobody else would; old versions stay.
                rows.tree.compact(Arc::new(levels()), 0)?;
            }
            return Ok(false);
        }
        if open.held() <= most {
            return Ok(true);
        }
        let (oldest, in_the_way) = {
            let views = locked(&self.views);
            (views.oldest(), views.in_the_way)
        };
        if sealed > 0 || (oldest.is_some() && oldest == in_the_way) {
            db.persist(PersistMode::Buffer)?; // as above
            return Ok(false);
        }
        // All is in files. What is behind the last of them, and older than every view, goes with the next memtable, if there is anything
        // to begin one with; if there is not, this commit gives it.
        let begun = rows.rotate_memtable()?;
        if begun {
            locked(&self.views).in_the_way = oldest;
        }
        Ok(!begun || open.held() <= most)
    }

    /// How many look at moments that are past.
    #[cfg(test)]
    pub(super) fn views(&self) -> u64 {
        locked(&self.views).now.len() as u64
    }

    /// Bytes in memtables.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.with(|open| Ok(open.held())).unwrap_or(0)
    }

    /// No commit ends while this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        locked(&self.moves)
    }

    /// Lets this many more commits and syncs succeed.
    pub(super) fn fail_after(&self, commits: u64) {
        self.commits_left.store(commits, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Error, LsmError};

    use super::*;

    #[test]
    fn a_disk_that_refuses_is_not_taken_for_one_that_lost_something() {
        // Damage costs the replica; too many open files pass.
        const NO_HANDLE_LEFT: i32 = 24; // EMFILE
        const MEDIUM: i32 = 5; // EIO
        for number in [NO_HANDLE_LEFT, MEDIUM] {
            let error = || std::io::Error::from_raw_os_error(number);
            assert!(!is_damage(&Error::Io(error())));
            assert!(!is_damage(&Error::Storage(LsmError::Io(error()))));
        }
        assert!(!is_damage(&Error::Poisoned) && !is_damage(&Error::Locked));
        assert!(is_damage(&Error::Storage(LsmError::InvalidTrailer)));
        let gone = std::io::Error::from(ErrorKind::NotFound);
        assert!(is_damage(&Error::Storage(LsmError::Io(gone))));
    }
}
