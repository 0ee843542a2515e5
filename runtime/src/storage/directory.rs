//! The directory of a node's store: one process at a time, with subfolders for what lies in it.
//!
//! Here: [`StoreDirectory`]: the lock, the identity, and where the log, the states and the keys are; [`LockedStore`]: the lock
//! alone, for whoever works on the store of a node that does not run.
//! Not here: what those hold. Called by the node at start, before anything else is opened.
//!
//! ```text
//! <store>/LOCK  identity  reserve  log/  state/  rows/  keys/
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{RealDisk, sync_path};
use super::identity::{Admission, Identity, IdentityError};
use super::look_only::LookOnly;
use super::reserve::Reserve;

/// Why a store directory cannot be opened. Nothing in it has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Stop the other process, or use another store.
    #[error("the store {place} is in use by another process: stop that one, or use another store")]
    InUse {
        /// Where the store is.
        place: String,
    },
    /// The path cannot be used.
    #[error("cannot open the store {place}")]
    Io {
        /// Where the store is.
        place: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store is somebody else's, or cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The open directory of a store. Dropping it releases the lock.
#[derive(Debug)]
pub struct StoreDirectory {
    disk: RealDisk,
    identity: Identity,
    reserve: Option<Arc<Reserve>>,
    /// Held, never read: the lock lasts as long as the open file.
    _lock: File,
}

impl StoreDirectory {
    /// Makes the directory when it is missing, locks it, and counts a start. `name` is needed at the first start; later it must be the
    /// recorded one, or `None`.
    pub fn open(path: impl AsRef<Path>, name: Option<&str>) -> Result<Self, DirectoryError> {
        let path = path.as_ref();
        let io = |source| DirectoryError::Io {
            place: path.display().to_string(),
            source,
        };
        if let Some(parent) = path.parent() {
            make_folders(parent).map_err(io)?;
        }
        let disk = RealDisk::new(path).map_err(io)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("LOCK"))
            .map_err(io)?;
        take(&lock, path)?;
        let identity = Identity::start(&disk, name)?;
        for folder in ["log", "state", "keys"] {
            RealDisk::new(path.join(folder)).map_err(io)?;
        }
        sync_path(path).map_err(io)?;
        Ok(Self {
            disk,
            identity,
            reserve: None,
            _lock: lock,
        })
    }

    /// Who the store is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Records the store's admission to a cluster; durable on return.
    pub fn admit(&mut self, admission: Admission) -> Result<(), IdentityError> {
        self.identity.admit(&self.disk, admission)
    }

    /// Refuses a cluster that is not the store's own.
    pub fn expect_cluster(&self, cluster: u128) -> Result<(), IdentityError> {
        self.identity.expect_cluster(&self.disk, cluster)
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// The store's own folder, for small sealed values.
    pub fn disk(&self) -> &RealDisk {
        &self.disk
    }

    /// Keeps so many bytes for the end of the disk, for the log and the states that are opened from now on.
    pub fn keep_reserve(&mut self, bytes: u64) -> io::Result<Arc<Reserve>> {
        let reserve = Arc::new(Reserve::hold(self.path(), bytes)?);
        self.reserve = Some(reserve.clone());
        Ok(reserve)
    }

    fn folder(&self, name: &str) -> io::Result<RealDisk> {
        let disk = RealDisk::new(self.path().join(name))?;
        Ok(match &self.reserve {
            Some(reserve) => disk.with_reserve(reserve.clone()),
            None => disk,
        })
    }

    /// Where the log lies.
    pub fn log(&self) -> io::Result<RealDisk> {
        self.folder("log")
    }

    /// Where the rows of shards lie.
    pub fn rows(&self) -> PathBuf {
        self.path().join("rows")
    }

    /// Where the checkpoints of the system group and snapshots on their way lie.
    pub fn state(&self) -> io::Result<RealDisk> {
        self.folder("state")
    }

    /// Where the transport keeps its keys.
    pub fn keys(&self) -> PathBuf {
        self.path().join("keys")
    }
}

fn take(lock: &File, path: &Path) -> Result<(), DirectoryError> {
    let place = path.display().to_string();
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse { place }),
        Err(TryLockError::Error(source)) => Err(DirectoryError::Io { place, source }),
    }
}

/// A store of a node that does not run, and will not as long as this is held. Nothing in it has changed, no start was counted.
#[derive(Debug)]
pub struct LockedStore {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

impl LockedStore {
    /// Locks a store that exists; `None` when there is none at this path.
    pub fn open(path: impl Into<PathBuf>) -> Result<Option<Self>, DirectoryError> {
        let path = path.into();
        let lock = match File::open(path.join("LOCK")) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let place = path.display().to_string();
                return Err(DirectoryError::Io { place, source });
            }
        };
        take(&lock, &path)?;
        let identity = Identity::read(&LookOnly::new(&path))?;
        Ok(identity.map(|identity| Self {
            path,
            identity,
            _lock: lock,
        }))
    }

    /// Who the store is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and those above it, each with a durable name: a store whose way is forgotten in a crash is a lost store.
fn make_folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent)?;
    }
    RealDisk::new(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_store_keeps_nodes_out_and_counts_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n1");
        assert!(LockedStore::open(&path).unwrap().is_none());
        assert!(!path.exists());
        let running = StoreDirectory::open(&path, Some("n1")).unwrap();
        assert!(matches!(
            LockedStore::open(&path),
            Err(DirectoryError::InUse { .. })
        ));
        drop(running);
        let locked = LockedStore::open(&path).unwrap().unwrap();
        assert_eq!(locked.identity().starts, 1);
        assert!(matches!(
            StoreDirectory::open(&path, None),
            Err(DirectoryError::InUse { .. })
        ));
    }

    // DESIGN 13: one process per directory. flock excludes other opens of the same file within a process, too.
    #[test]
    fn second_opening_is_refused_until_the_first_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/n1");
        let first = StoreDirectory::open(&path, Some("n1")).unwrap();
        let refused = StoreDirectory::open(&path, Some("n1")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "the store {} is in use by another process: stop that one, or use another store",
                path.display()
            )
        );
        drop(first);
        let second = StoreDirectory::open(&path, None).unwrap();
        assert_eq!(
            (second.identity().name.as_str(), second.identity().starts),
            ("n1", 2),
            "a refused opening counts no start"
        );
    }
}
