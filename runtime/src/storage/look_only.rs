//! A directory that is only looked at: what opens a log or checkpoints on it reads what is there and changes nothing.
//!
//! Here: [`LookOnly`], a [`Disk`] over an existing directory. Called by `recovery`, whose plan must leave a store as it is, to the byte.
//! Opening tidies up: half-made files go, the last frame is written once more. Here such a removal or renaming is said to be done and
//! is not, and bytes that are there already count as written. A new file or another byte is refused.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile, OpenMode, file_names, read_fully_at};

/// A directory of the operating system that stays as it is.
#[derive(Clone, Debug)]
pub struct LookOnly {
    path: PathBuf,
}

impl LookOnly {
    /// Over a directory that exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "this directory is only looked at",
    )
}

impl Disk for LookOnly {
    fn list(&self) -> io::Result<Vec<String>> {
        file_names(&self.path)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        match mode {
            OpenMode::Read | OpenMode::Write => {
                Ok(Box::new(LookedAt(File::open(self.path.join(name))?)))
            }
            OpenMode::Create => Err(refused()),
        }
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn share(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

struct LookedAt(File);

impl DiskFile for LookedAt {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_fully_at(&self.0, offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut present = vec![0; bytes.len()];
        let read = self.read_at(offset, &mut present)?;
        if present[..read] == *bytes {
            Ok(())
        } else {
            Err(refused())
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&mut self, _length: u64) -> io::Result<()> {
        Err(refused())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    #[test]
    fn what_is_looked_at_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let real = RealDisk::new(folder.path()).unwrap();
        let mut file = real.open("a.tmp", OpenMode::Create).unwrap();
        file.write_at(0, b"abc").unwrap();
        let looked = LookOnly::new(folder.path());
        looked.remove("a.tmp").unwrap();
        looked.rename("a.tmp", "b").unwrap();
        assert!(looked.open("c", OpenMode::Create).is_err());
        let mut file = looked.open("a.tmp", OpenMode::Write).unwrap();
        assert!(file.write_at(0, b"x").is_err());
        assert!(file.write_at(1, b"bc").is_ok());
        assert!(file.write_at(1, b"bcd").is_err());
        assert!(file.allocate(9).is_err());
        let mut bytes = [0; 4];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 3);
        assert_eq!(&bytes[..3], b"abc");
        assert_eq!(looked.list().unwrap(), ["a.tmp"]);
    }
}
