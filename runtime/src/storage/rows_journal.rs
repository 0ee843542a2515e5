//! The end of a journal of rows after a power cut.
//!
//! Here: [`mend`], called before the LSM tree is opened. What was not synced a power cut takes in any order: also the middle of the last
//! commits, whose ends are there. The tree refuses to open such a journal. Nobody relies on what comes behind the first commit that is
//! not whole: all commits were synced in order, so either it was never synced, or the disk has lost what it had acknowledged, and then
//! the replicas concerned find that their state ends before their log begins, and stop (`CheckpointError::Missing`). So the journal ends
//! with its last whole commit.
//! Not here: the format's owner, fjall 3 (`journal/entry.rs`), without compression.
//!
//! ```text
//! commit = 1 | items u32 | number u64, items, 3 | XXH3 of the items u64 | "FJL" 3                              (little endian)
//! item   = 2 | kind u8 | compression u8 (0) | keyspace u64 | key length u16 | value length u32 | the same u32 | key | value
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8; 4] = b"FJL\x03";
const BUFFER: usize = 256 << 10;

/// Cuts the newest journal in the directory behind its last whole commit. Returns how many bytes that were not zero went.
pub(super) fn mend(folder: &Path) -> io::Result<u64> {
    let Some(path) = newest(folder)? else {
        return Ok(0);
    };
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let end = whole_commits(&file)?;
    let lost = written_behind(&file, end)?;
    if lost > 0 {
        file.set_len(end)?;
        file.sync_all()?;
    }
    Ok(lost)
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(known, _)| *known < number)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Bytes up to the last one that is not zero, behind `end`: the tree makes its files with zeros.
fn written_behind(file: &File, end: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let (mut at, mut last) = (end, end);
    let mut piece = vec![0; BUFFER];
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok(last - end);
        }
        if let Some(found) = piece[..read].iter().rposition(|byte| *byte != 0) {
            last = at + found as u64 + 1;
        }
        at += read as u64;
    }
}

/// Where the last of the commits ends that are whole, from the beginning on.
fn whole_commits(file: &File) -> io::Result<u64> {
    let mut reader = Reader {
        from: BufReader::with_capacity(BUFFER, file),
        at: 0,
        left: file.metadata()?.len(),
        buffer: Vec::new(),
    };
    let mut end = 0;
    while reader.commit()?.is_some() {
        end = reader.at;
    }
    Ok(end)
}

struct Reader<'a> {
    from: BufReader<&'a File>,
    at: u64,
    left: u64,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// The next bytes; `None` when there are fewer.
    fn take(&mut self, bytes: usize) -> io::Result<Option<&[u8]>> {
        if self.left < bytes as u64 {
            return Ok(None);
        }
        self.buffer.resize(bytes, 0);
        self.from.read_exact(&mut self.buffer)?;
        self.at += bytes as u64;
        self.left -= bytes as u64;
        Ok(Some(&self.buffer))
    }

    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let bytes = self.take(N)?;
        Ok(bytes.map(|bytes| bytes.try_into().expect("as many as asked for")))
    }

    /// Passes over one whole commit; `None`: there is none.
    fn commit(&mut self) -> io::Result<Option<()>> {
        let Some([START, count @ ..]) = self.array::<13>()? else {
            return Ok(None);
        };
        let count = u32::from_le_bytes(count[..4].try_into().expect("four bytes"));
        let mut checksum = Xxh3::new();
        for _ in 0..count {
            let Some(head @ [ITEM, _, 0, ..]) = self.array::<21>()? else {
                return Ok(None);
            };
            let key = u16::from_le_bytes([head[11], head[12]]);
            let lengths = head[13..].split_at(4);
            if lengths.0 != lengths.1 {
                return Ok(None);
            }
            let value = u32::from_le_bytes(lengths.0.try_into().expect("four bytes"));
            checksum.update(&head);
            match self.take(usize::from(key) + value as usize)? {
                Some(body) => checksum.update(body),
                None => return Ok(None),
            }
        }
        let Some([END, end @ ..]) = self.array::<13>()? else {
            return Ok(None);
        };
        let whole = end[..8] == checksum.digest().to_le_bytes() && end[8..] == *TRAILER;
        Ok(whole.then_some(()))
    }
}
