//! What storage asks of a disk: one flat directory of files, and no more.
//!
//! Here: [`Disk`] (a directory), [`DiskFile`] (an open file) and [`RealDisk`], the directory of the operating system.
//! Everything above (the log, checkpoints, identity) speaks only to these traits, so the very same code runs on the seeded virtual
//! disk of the simulators, which drops, tears, flips and stalls.
//! Not here: what is written (`frame`, `segment`, `checkpoints`) and when it is synced (`log`).
//!
//! What is promised by a disk, and nothing beyond: bytes are durable once [`DiskFile::sync`] returned `Ok` after they were written; a
//! created, renamed or removed name is durable once [`Disk::sync_directory`] returned `Ok`; a sector that is rewritten with the bytes
//! it already holds keeps them through a crash ("powersafe overwrite").

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reserve::Reserve;

/// How [`Disk::open`] opens a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenMode {
    /// The file exists; it will only be read.
    Read,
    /// The file exists; it will be read and written.
    Write,
    /// The file is made; what had the name before is emptied.
    Create,
}

/// One flat directory. Names contain no separators.
pub trait Disk: Send {
    /// Names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens one file.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Gives `from` the name `to` and replaces what `to` named; atomic, durable after [`Disk::sync_directory`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name; durable after [`Disk::sync_directory`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all created, renamed and removed names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Another handle on the same directory, for another thread.
    fn share(&self) -> Box<dyn Disk>;
    /// The directory as a person would name it, for error messages.
    fn place(&self) -> String;
}

/// An open file.
pub trait DiskFile: Send {
    /// Reads into `buffer` from `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; the file grows when needed. Not durable before [`DiskFile::sync`].
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written durable, together with the length. After an error nothing is known about the bytes written since the
    /// last success, and a later `Ok` says nothing about them either: the caller must not ask twice.
    fn sync(&mut self) -> io::Result<()>;
    /// Reserves room so that the file has at least `length` bytes (zeros where nothing was written).
    fn allocate(&mut self, length: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.read_at(offset, buffer)? < buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    path: PathBuf,
    reserve: Option<Arc<Reserve>>,
}

impl RealDisk {
    /// Makes the directory when it is missing (its parent must exist).
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        match std::fs::create_dir(&path) {
            Ok(()) => {
                if let Some(parent) = path.parent() {
                    sync_path(parent)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            path,
            reserve: None,
        })
    }

    /// The same directory: what finds no room there tries once more with that of the reserve.
    pub fn with_reserve(self, reserve: Arc<Reserve>) -> Self {
        Self {
            reserve: Some(reserve),
            ..self
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether this is all that is wrong: the disk, or its owner's part of it, is full.
pub(super) fn lacks_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Does what needs room; if there is none, once more with that of the reserve. Only for what may be done twice: no sync.
fn with_room(
    reserve: Option<&Arc<Reserve>>,
    mut act: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    match (act(), reserve) {
        (Err(error), Some(reserve)) if lacks_room(&error) => {
            reserve.give_back();
            act()
        }
        (done, _) => done,
    }
}

/// Names of the files in a directory, for [`Disk::list`].
pub(super) fn file_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Fills `buffer` from `offset` as far as the file goes, for [`DiskFile::read_at`].
pub(super) fn read_fully_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Removes a directory with all in it, if there is one.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a file's bytes, or the names inside a directory, durable.
pub(crate) fn sync_path(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        file_names(&self.path)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Box::new(RealFile {
            file: options.open(self.path.join(name))?,
            reserve: self.reserve.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_path(&self.path)
    }

    fn share(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

struct RealFile {
    file: File,
    reserve: Option<Arc<Reserve>>,
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully_at(&self.file, offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        with_room(self.reserve.as_ref(), || {
            self.file.write_all_at(bytes, offset)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data() // fdatasync: also writes the metadata that is needed to read the bytes back, the length among it
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        if self.length()? >= length {
            return Ok(());
        }
        let plain = rustix::fs::FallocateFlags::empty();
        with_room(self.reserve.as_ref(), || {
            match rustix::fs::fallocate(&self.file, plain, 0, length) {
                Ok(()) => Ok(()),
                // A file system without reservation (NFS, some overlays): the length alone, room is found at the write.
                Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(length),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // DESIGN 13: the log speaks to the disk through a small file trait; this is its contract on the real one.
    #[test]
    fn real_disk_keeps_names_bytes_and_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path().join("log")).unwrap();
        let mut file = disk.open("a", OpenMode::Create).unwrap();
        file.allocate(8192).unwrap();
        file.write_at(10, b"hello").unwrap();
        file.sync().unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        let file = disk.open("b", OpenMode::Read).unwrap();
        assert_eq!(file.length().unwrap(), 8192);
        let mut buffer = [1; 7];
        file.read_exact_at(9, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0hello\0");
        assert_eq!(
            file.read_at(8190, &mut buffer).unwrap(),
            2,
            "a read past the end is short"
        );
        disk.remove("b").unwrap();
        assert!(disk.open("b", OpenMode::Read).is_err());
        assert!(disk.list().unwrap().is_empty());
    }
}
