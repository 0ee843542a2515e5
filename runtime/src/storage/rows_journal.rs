//! The end of a journal of rows after a power cut.
//!
//! Here: [`mend`], called before the LSM tree is opened. What was not synced a power cut takes in any order: also the middle of the last
//! commits, whose ends are there. The tree refuses to open such a journal. Nobody relies on what comes behind the first commit that is
//! not whole: all commits were synced in order, so either it was never synced, or the disk has lost what it had acknowledged, and then
//! the replicas concerned find that their state ends before their log begins, and stop (`CheckpointError::Missing`). So the journal ends
//! with its last whole commit. A journal before the newest one was synced as a whole before the next was begun: one that is not whole is
//! damaged.
//!
//! What is whole and of another kind than this program writes is never cut away, nor what lies behind it: the journal is refused as it is.
//! Not here: the format's owner, fjall 3.1 (`journal/entry.rs`).
//!
//! ```text
//! commit = 1 | items u32 | number u64, items, 3 | XXH3 of the items u64 | "FJL" 3                              (little endian)
//! item   = 2 | kind u8 | compression u8 (0) | keyspace u64 | key length u16 | value length u32 | the same u32 | key | value
//! of other programs: an item with another compression, whose second length is that of what follows; an item 4 | keyspace u64;
//! another trailer
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
/// An item that removes all of a keyspace; nothing here asks for that.
const CLEAR: u8 = 4;
const TRAILER: &[u8; 4] = b"FJL\x03";
const BUFFER: usize = 256 << 10;

/// Cuts the newest journal in the directory behind its last whole commit. Returns how many bytes that were not zero went. Errors leave all
/// as it is: of the kind `Unsupported` when a journal is of another program, `InvalidData` when one before the newest is not whole. The
/// tree would go on behind the hole.
pub(super) fn mend(folder: &Path) -> io::Result<u64> {
    let journals = journals(folder)?;
    let newest = journals.keys().last().copied();
    let mut lost = 0;
    for (number, path) in &journals {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (end, reached) = whole_commits(&file)?;
        let place = format!("byte {end} of {}", path.display());
        if let Reached::Foreign(what) = reached {
            let text = format!(
                "the commit at {place} is whole and has {what}, which this program does not write: nothing was changed, start the program that wrote it"
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let behind = written_behind(&file, end)?;
        if behind == 0 {
            continue;
        }
        if Some(*number) != newest {
            let text = format!(
                "the commit at {place} is not whole, and newer ones rest on it: nothing was changed"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        file.set_len(end)?;
        file.sync_all()?;
        lost = behind;
    }
    Ok(lost)
}

/// In their order; all but the newest were whole when the next one was begun.
fn journals(folder: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut journals = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journals),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number {
            journals.insert(number, path);
        }
    }
    Ok(journals)
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

/// What is behind the last whole commit.
enum Reached {
    /// Nothing, or what a power cut left of one.
    NoCommit,
    /// One of another program, with this.
    Foreign(&'static str),
}

/// One step on.
enum Passed {
    Commit,
    No(Reached),
}

/// Whose an item is.
enum Item {
    Ours,
    /// Of another program, with this.
    Foreign(&'static str),
}

/// Where the last of the commits ends that are whole, from the beginning on, and what is behind it.
fn whole_commits(file: &File) -> io::Result<(u64, Reached)> {
    let mut reader = Reader {
        from: BufReader::with_capacity(BUFFER, file),
        at: 0,
        left: file.metadata()?.len(),
        buffer: Vec::new(),
    };
    let mut end = 0;
    loop {
        match reader.commit()? {
            Passed::Commit => end = reader.at,
            Passed::No(reached) => return Ok((end, reached)),
        }
    }
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

    /// Passes over one whole commit.
    fn commit(&mut self) -> io::Result<Passed> {
        const NONE: Passed = Passed::No(Reached::NoCommit);
        let Some([START, count @ ..]) = self.array::<13>()? else {
            return Ok(NONE);
        };
        let count = u32::from_le_bytes(count[..4].try_into().expect("four bytes"));
        let (mut checksum, mut foreign) = (Xxh3::new(), None);
        for _ in 0..count {
            match self.item(&mut checksum)? {
                Some(Item::Ours) => {}
                Some(Item::Foreign(what)) => foreign = Some(what),
                None => return Ok(NONE),
            }
        }
        let Some([END, end @ ..]) = self.array::<13>()? else {
            return Ok(NONE);
        };
        // Items whose checksum is right did not come about by a power cut, whatever they are.
        if end[..8] != checksum.digest().to_le_bytes() {
            return Ok(NONE);
        }
        match &end[8..] {
            trailer if trailer == TRAILER => {}
            [b'F', b'J', b'L', 1..=99] => foreign = Some("the trailer of another version"),
            _ => return Ok(NONE), // a power cut may take a part of it
        }
        Ok(foreign.map_or(Passed::Commit, |what| Passed::No(Reached::Foreign(what))))
    }

    /// Passes over one item; `None`: there is none.
    fn item(&mut self, checksum: &mut Xxh3) -> io::Result<Option<Item>> {
        let Some(tag) = self.array::<1>()? else {
            return Ok(None);
        };
        checksum.update(&tag);
        match tag {
            [ITEM] => {
                let Some(head) = self.array::<20>()? else {
                    return Ok(None);
                };
                checksum.update(&head);
                let key = u16::from_le_bytes([head[10], head[11]]);
                let (length, stored) = head[12..].split_at(4);
                let plain = head[1] == 0;
                if plain && length != stored {
                    return Ok(None);
                }
                let stored = u32::from_le_bytes(stored.try_into().expect("four bytes"));
                let body = self.take(usize::from(key) + stored as usize)?;
                Ok(body.map(|body| {
                    checksum.update(body);
                    if plain {
                        Item::Ours
                    } else {
                        Item::Foreign("a compressed value")
                    }
                }))
            }
            [CLEAR] => {
                let keyspace = self.array::<8>()?;
                Ok(keyspace.map(|keyspace| {
                    checksum.update(&keyspace);
                    Item::Foreign("an item that clears a keyspace")
                }))
            }
            _ => Ok(None),
        }
    }
}
