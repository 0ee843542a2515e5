//! One small value in one file, replaced as a whole.
//!
//! Here: [`write_sealed`] and [`read_sealed`]: after a crash the file holds the old value or the new one, and a damaged one is seen.
//! Called by `identity`, and open to every room that keeps a small fact in the store (reset keys, a founding statement).
//! Not here: values that grow.
//!
//! ```text
//! file = "SYNODVAL" | length u32 | checksum u32 of length and value | value
//! ```

use std::io;

use super::disk::{Disk, OpenMode};

const MAGIC: &[u8; 8] = b"SYNODVAL";
const HEADER: usize = 16;
/// A small fact is smaller than this.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Why a sealed value could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// The disk refused.
    #[error("cannot read {file}")]
    Io {
        /// Which file.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The bytes are not those that were written. Restore the file from a copy, or give up the store (a wiped one joins as a new one).
    #[error("{file} is damaged: {detail}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong with it.
        detail: &'static str,
    },
}

/// Replaces the value `name`; durable on return.
pub fn write_sealed(disk: &dyn Disk, name: &str, value: &[u8]) -> io::Result<()> {
    let length = match u32::try_from(value.len()) {
        Ok(length) if value.len() <= VALUE_BYTES_MAX => length.to_le_bytes(),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a sealed value is at most 1 MiB",
            ));
        }
    };
    let mut bytes = Vec::with_capacity(HEADER + value.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&length, value).to_le_bytes());
    bytes.extend_from_slice(value);
    let temporary = format!("{name}.tmp");
    let mut file = disk.open(&temporary, OpenMode::Create)?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}

/// The value `name`; `None` when there is no such file.
pub fn read_sealed(disk: &dyn Disk, name: &str) -> Result<Option<Vec<u8>>, SealedError> {
    let place = || format!("{}/{name}", disk.place());
    let io = |source| SealedError::Io {
        file: place(),
        source,
    };
    let damaged = |detail| SealedError::Damaged {
        file: place(),
        detail,
    };
    let file = match disk.open(name, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut header = [0; HEADER];
    if file.read_at(0, &mut header).map_err(io)? < HEADER || &header[..8] != MAGIC {
        return Err(damaged("it does not start as a value of a Synod store"));
    }
    let length: [u8; 4] = header[8..12].try_into().expect("four bytes");
    let expected = u32::from_le_bytes(header[12..16].try_into().expect("four bytes"));
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > VALUE_BYTES_MAX {
        return Err(damaged("its length is impossible"));
    }
    let mut value = vec![0; bytes];
    if file.read_at(HEADER as u64, &mut value).map_err(io)? < bytes {
        return Err(damaged("it is cut short"));
    }
    if checksum(&length, &value) != expected {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(Some(value))
}

fn checksum(length: &[u8; 4], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    // DESIGN 13: identity written atomically; H76: damage is seen, not read as something else.
    #[test]
    fn value_is_replaced_as_a_whole_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        assert!(read_sealed(&disk, "fact").unwrap().is_none());
        write_sealed(&disk, "fact", b"one").unwrap();
        write_sealed(&disk, "fact", b"two").unwrap();
        assert_eq!(read_sealed(&disk, "fact").unwrap().unwrap(), b"two");
        assert_eq!(disk.list().unwrap(), ["fact"], "no temporary file stays");
        let bytes = std::fs::read(folder.path().join("fact")).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            std::fs::write(folder.path().join("fact"), &bytes).unwrap();
            assert!(
                matches!(read_sealed(&disk, "fact"), Err(SealedError::Damaged { .. })),
                "byte {at}"
            );
        }
    }
}
