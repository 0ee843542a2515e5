//! States that arrive in pieces.
//!
//! Here: [`Partials`], one file per replica that is receiving a snapshot, and [`CheckpointSource`], a checkpoint that is read in pieces to
//! be sent to another replica. Both name a state by position, length and CRC32C of its bytes.
//! Not here: when pieces travel (`synod-consensus`), how fast (`group::freight`), checkpoints themselves (`checkpoints`).
//!
//! A partial file is laid out as the checkpoint file that it will be, with another magic, so that [`Checkpoints::adopt`] only has to give
//! it its head and its name. Its length says how much is held; a power loss may leave holes below it, which the checksum of the whole
//! finds at the end.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use synod_consensus::{
    ChunkReceived, GroupId, ReplicaId, ReplicaKey, SnapshotId, SnapshotMeta, SnapshotOffer,
};

use super::checkpoints::{
    CheckpointError, Checkpoints, HEADER, Located, MAGIC_PARTIAL, ROW, Row, header,
};
use super::disk::{Disk, DiskFile, OpenMode};

/// Bytes read at once where a whole state is verified.
const PIECE: usize = 256 << 10;

/// A checkpoint to be read in pieces. Its file stays readable when a newer checkpoint takes its place.
pub struct CheckpointSource {
    offer: SnapshotOffer,
    file: Box<dyn DiskFile>,
    start: u64,
}

impl std::fmt::Debug for CheckpointSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointSource")
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

impl CheckpointSource {
    /// A state that `file` holds from its beginning.
    pub fn new(offer: SnapshotOffer, file: Box<dyn DiskFile>) -> Self {
        let start = 0;
        Self { offer, file, start }
    }

    /// What it is.
    pub fn offer(&self) -> &SnapshotOffer {
        &self.offer
    }

    /// One piece of it.
    pub fn read(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let within = offset
            .checked_add(bytes as u64)
            .is_some_and(|end| end <= self.offer.bytes);
        if !within {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut piece = vec![0; bytes];
        self.file.read_exact_at(self.start + offset, &mut piece)?;
        Ok(piece.into())
    }
}

/// The checksum of `data`, from that of `meta` followed by `data`.
fn checksum_behind(meta: &[u8], both: u32, data_bytes: u64) -> Option<u64> {
    let length = usize::try_from(data_bytes).ok()?;
    Some(u64::from(
        crc32c::crc32c_combine(crc32c::crc32c(meta), 0, length) ^ both,
    ))
}

/// The checksum of `meta` followed by data of that name.
fn checksum_of_both(meta: &[u8], id: &SnapshotId) -> Option<u32> {
    let length = usize::try_from(id.bytes).ok()?;
    let data = u32::try_from(id.checksum).ok()?;
    Some(crc32c::crc32c_combine(crc32c::crc32c(meta), data, length))
}

impl Checkpoints {
    /// The newest checkpoint of a replica, to be read in pieces; `None` if there is none.
    pub fn source(&self, key: ReplicaKey) -> Result<Option<CheckpointSource>, CheckpointError> {
        let Some(Located { row, file, name }) = self.locate(key)? else {
            return Ok(None);
        };
        let damaged = |detail: String| CheckpointError::Damaged {
            key,
            file: name.clone(),
            detail,
        };
        let mut meta = vec![0; row.meta_bytes as usize];
        file.read_exact_at(row.offset, &mut meta)
            .map_err(|error| damaged(error.to_string()))?;
        let checksum = checksum_behind(&meta, row.checksum, row.data_bytes)
            .ok_or_else(|| damaged("it is too long for this machine".into()))?;
        let offer = SnapshotOffer {
            meta: rmp_serde::from_slice(&meta).map_err(|error| damaged(error.to_string()))?,
            bytes: row.data_bytes,
            checksum,
        };
        Ok(Some(CheckpointSource {
            offer,
            file,
            start: row.offset + u64::from(row.meta_bytes),
        }))
    }
}

/// Why what arrived is not a state. Nothing of it is held any more, except where it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartialError {
    /// It is another one, or less than the whole.
    #[error("it is not there as a whole")]
    Missing,
    /// The bytes are not those that its name says.
    #[error("its checksum is wrong: bytes were damaged on the way, at rest or at their source")]
    Damaged,
    /// The disk refused.
    #[error("the disk refused: {0}")]
    Io(#[from] io::Error),
    /// Nobody waits for it any more. All of it is still held.
    #[error("the node stops")]
    Ended,
}

struct Partial {
    meta: SnapshotMeta,
    id: SnapshotId,
    file: Box<dyn DiskFile>,
    start: u64,
    held: u64,
}

/// What is held, if it is all of that snapshot.
fn find_whole<P: Borrow<Partial>>(held: Option<P>, id: SnapshotId) -> Result<P, PartialError> {
    let whole = |partial: &Partial| partial.id == id && partial.held == id.bytes;
    held.filter(|partial| whole(partial.borrow()))
        .ok_or(PartialError::Missing)
}

/// What each replica of a store has received of a snapshot.
pub struct Partials {
    disk: Box<dyn Disk>,
    open: BTreeMap<ReplicaKey, Partial>,
}

impl std::fmt::Debug for Partials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partials")
            .field("place", &self.disk.place())
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn partial_name(key: ReplicaKey) -> String {
    format!(
        "{:016x}-{:016x}.partial",
        key.group.get(),
        key.replica.get()
    )
}

fn partial_key(name: &str) -> Option<ReplicaKey> {
    let (group, replica) = name.strip_suffix(".partial")?.split_once('-')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    let key = ReplicaKey {
        group: GroupId::new(number(group)?),
        replica: ReplicaId::new(number(replica)?),
    };
    (partial_name(key) == name).then_some(key)
}

impl Partials {
    /// Finds what an earlier life held. Removes what belongs to no wanted replica, and what cannot be gone on with.
    pub fn open(disk: Box<dyn Disk>, wanted: impl Fn(ReplicaKey) -> bool) -> io::Result<Self> {
        let mut open = BTreeMap::new();
        for name in disk.list()? {
            if !name.ends_with(".partial") {
                continue;
            }
            let key = partial_key(&name).filter(|key| wanted(*key));
            let found = key.and_then(|key| {
                let file = disk.open(&name, OpenMode::Write).ok()?;
                Some((key, read_head(key, file)?))
            });
            match found {
                Some((key, partial)) => {
                    open.insert(key, partial);
                }
                None => disk.remove(&name)?,
            }
        }
        Ok(Self { disk, open })
    }

    /// The directory that they lie in.
    pub(crate) fn share_disk(&self) -> Box<dyn Disk> {
        self.disk.share()
    }

    /// What of which snapshot is held for a replica, in bytes.
    pub fn held(&self, key: ReplicaKey) -> Option<(SnapshotMeta, SnapshotId, u64)> {
        let partial = self.open.get(&key)?;
        Some((partial.meta.clone(), partial.id, partial.held))
    }

    /// Keeps a piece; returns how many bytes of that snapshot are held now. Nothing is synced. On an error nothing is held. A piece
    /// from the middle of a snapshot of which nothing is held is none to begin with: it comes behind one that failed.
    pub fn store(&mut self, key: ReplicaKey, chunk: &ChunkReceived) -> io::Result<u64> {
        let known = self
            .open
            .get(&key)
            .is_some_and(|partial| partial.id == chunk.id);
        let stored = if known {
            self.append(key, chunk)
        } else if chunk.offset > 0 {
            Ok(0)
        } else {
            self.begin(key, chunk)
                .and_then(|()| self.append(key, chunk))
        };
        if stored.is_err() {
            self.remove(key);
        }
        stored
    }

    fn begin(&mut self, key: ReplicaKey, chunk: &ChunkReceived) -> io::Result<()> {
        self.remove(key);
        let meta = rmp_serde::to_vec_named(&chunk.meta).expect("a base is plain data");
        let row = Row {
            position: chunk.id.position,
            file: 0,
            offset: (HEADER + ROW) as u64,
            meta_bytes: u32::try_from(meta.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            data_bytes: chunk.id.bytes,
            checksum: checksum_of_both(&meta, &chunk.id).ok_or(io::ErrorKind::InvalidInput)?,
        };
        let mut head = header(MAGIC_PARTIAL, 1);
        row.encode(key, &mut head);
        head.extend_from_slice(&meta);
        let mut file = self.disk.open(&partial_name(key), OpenMode::Create)?;
        file.write_at(0, &head)?;
        let partial = Partial {
            meta: (*chunk.meta).clone(),
            id: chunk.id,
            file,
            start: head.len() as u64,
            held: 0,
        };
        self.open.insert(key, partial);
        Ok(())
    }

    fn append(&mut self, key: ReplicaKey, chunk: &ChunkReceived) -> io::Result<u64> {
        let partial = self.open.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        if partial.held == chunk.offset {
            partial
                .file
                .write_at(partial.start + chunk.offset, &chunk.data)?;
            partial.held += chunk.data.len() as u64;
        }
        Ok(partial.held)
    }

    /// What is held for this replica alone, for another thread; here it is not known any more.
    pub fn only(&mut self, key: ReplicaKey) -> Self {
        Self {
            disk: self.disk.share(),
            open: self.open.remove_entry(&key).into_iter().collect(),
        }
    }

    /// The whole state, read back, verified and synced; what is left is [`Checkpoints::adopt`]. On an error nothing is held.
    pub fn whole(&mut self, key: ReplicaKey, id: SnapshotId) -> Result<Bytes, PartialError> {
        let whole = self.verified(key, id);
        if whole.is_err() {
            self.remove(key);
        }
        whole
    }

    fn verified(&mut self, key: ReplicaKey, id: SnapshotId) -> Result<Bytes, PartialError> {
        let partial = find_whole(self.open.get_mut(&key), id)?;
        let length = usize::try_from(id.bytes).map_err(|_| PartialError::Missing)?;
        let mut data = vec![0; length];
        partial.file.read_exact_at(partial.start, &mut data)?;
        if u64::from(crc32c::crc32c(&data)) != id.checksum {
            return Err(PartialError::Damaged);
        }
        partial.file.sync()?;
        Ok(data.into())
    }

    /// The whole state, verified, to be read piece by piece; it is never whole in memory. This takes as long as to read all of it, unless
    /// `goes_on`, which is asked before every piece, says that it is not wanted any more. On any other error nothing is held.
    pub fn whole_in_pieces(
        &mut self,
        key: ReplicaKey,
        id: SnapshotId,
        goes_on: impl Fn() -> bool,
    ) -> Result<WholePartial<'_>, PartialError> {
        match self.checked(key, id, goes_on) {
            Ok(()) => {}
            Err(PartialError::Ended) => return Err(PartialError::Ended),
            Err(error) => {
                self.remove(key);
                return Err(error);
            }
        }
        let partial = self.open.get(&key).ok_or(PartialError::Missing)?;
        Ok(WholePartial {
            file: &*partial.file,
            at: partial.start,
            end: partial.start + id.bytes,
        })
    }

    fn checked(
        &self,
        key: ReplicaKey,
        id: SnapshotId,
        goes_on: impl Fn() -> bool,
    ) -> Result<(), PartialError> {
        let partial = find_whole(self.open.get(&key), id)?;
        let mut piece = vec![0; PIECE];
        let (mut at, mut checksum) = (0, 0);
        while at < id.bytes {
            if !goes_on() {
                return Err(PartialError::Ended);
            }
            let left = usize::try_from(id.bytes - at).unwrap_or(PIECE);
            let piece = &mut piece[..left.min(PIECE)];
            partial.file.read_exact_at(partial.start + at, piece)?;
            checksum = crc32c::crc32c_append(checksum, piece);
            at += piece.len() as u64;
        }
        if u64::from(checksum) != id.checksum {
            return Err(PartialError::Damaged);
        }
        Ok(())
    }

    /// Lets go of the file that [`Checkpoints::adopt`] is about to take.
    pub fn release(&mut self, key: ReplicaKey) {
        self.open.remove(&key);
    }

    /// Forgets what is held of `id`.
    pub fn drop_partial(&mut self, key: ReplicaKey, id: SnapshotId) {
        if self.open.get(&key).is_some_and(|partial| partial.id == id) {
            self.remove(key);
        }
    }

    /// Forgets what is held for a replica.
    pub fn remove(&mut self, key: ReplicaKey) {
        if self.open.remove(&key).is_some()
            && let Err(error) = self.disk.remove(&partial_name(key))
        {
            tracing::warn!(group = %key.group, %error, "a half-received snapshot could not be removed");
        }
    }
}

/// A state that arrived as a whole.
pub struct WholePartial<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    end: u64,
}

impl std::fmt::Debug for WholePartial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WholePartial")
            .field("bytes_left", &(self.end - self.at))
            .finish_non_exhaustive()
    }
}

impl io::Read for WholePartial<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(into.len());
        let read = self.file.read_at(self.at, &mut into[..wanted])?;
        self.at += read as u64;
        Ok(read)
    }
}

fn read_head(key: ReplicaKey, file: Box<dyn DiskFile>) -> Option<Partial> {
    let mut head = [0; HEADER + ROW];
    file.read_exact_at(0, &mut head).ok()?;
    if head[..HEADER] != header(MAGIC_PARTIAL, 1)[..] {
        return None;
    }
    let (owner, row) = Row::decode(&head[HEADER..], 0)?;
    let mut meta = vec![0; row.meta_bytes as usize];
    file.read_exact_at(row.offset, &mut meta).ok()?;
    let id = SnapshotId {
        position: row.position,
        bytes: row.data_bytes,
        checksum: checksum_behind(&meta, row.checksum, row.data_bytes)?,
    };
    let start = row.offset + u64::from(row.meta_bytes);
    let held = file.length().ok()?.checked_sub(start)?;
    let meta: SnapshotMeta = rmp_serde::from_slice(&meta).ok()?;
    let fits = owner == key && meta.position == row.position && held <= id.bytes;
    fits.then_some(Partial {
        meta,
        id,
        file,
        start,
        held,
    })
}
