//! Whole states of replicas on disk, so that their logs can be compacted.
//!
//! Here: [`Checkpoints`]: one synced file per batch of checkpoints, the latest of a replica wins, files without any latest one are removed.
//! Called by the thread of `checkpoint_writer`, and by the node at start.
//! Not here: what a state is made of, when one is taken, and the log's compaction, which comes strictly after [`Checkpoints::put`] returned
//! (E28).
//!
//! ```text
//! file = "SYNODCHK" | version u32 | count u32 | zero u32 | checksum u32, rows, bodies
//! row  = group u64 | replica u64 | term u64 | index u64 | offset u64 | meta length u32 | data length u64 | checksum u32 of the body
//!        | checksum u32 of the row                                                                                (60 bytes)
//! body = meta (named MessagePack), data
//! ```
//! A file gets its name after it was synced, so that under that name there is a whole one or none. Damage is confined: a bad body concerns
//! its replica, a bad row the replica that then has no checkpoint, or one older than its log's beginning ([`Checkpoints::restore`] sees
//! both). A damaged file is never removed.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use synod_consensus::{GroupId, LogIndex, Position, ReplicaId, ReplicaKey, SnapshotMeta, Term};

use super::disk::{Disk, DiskFile, OpenMode};
use super::partials::partial_name;

const MAGIC: &[u8; 8] = b"SYNODCHK";
/// Of a file that is not whole yet (`partials`).
pub(super) const MAGIC_PARTIAL: &[u8; 8] = b"SYNODPRT";
const VERSION: u32 = 1;
pub(super) const HEADER: usize = 24;
pub(super) const ROW: usize = 60;
/// More checkpoints than this are never in one file; bounds what opening allocates.
const COUNT_MAX: u32 = 1 << 20;
/// Bytes that may lie around in superseded checkpoints, besides as much again as the live ones take.
const SLACK: u64 = 16 << 20;
/// Old checkpoints are written again, with a batch, up to this many bytes.
const CARRY_BYTES: u64 = 4 << 20;

/// A replica's state at one position of its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Whose.
    pub key: ReplicaKey,
    /// Which entries it covers, and the configuration there.
    pub meta: SnapshotMeta,
    /// The state, as its owner encoded it.
    pub data: Bytes,
}

/// Why a checkpoint was not written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk refused. After [`Checkpoints::put`]: none of the batch counts as written, and no later batch will.
    #[error("the checkpoints in {place} cannot be used: {reason}")]
    Io {
        /// The directory.
        place: String,
        /// What the disk said.
        reason: String,
    },
    /// This replica's state is gone: rebuild it from its peers under a new replica id.
    #[error("the checkpoint of {key:?} in {file} is damaged: {detail}")]
    Damaged {
        /// Whose.
        key: ReplicaKey,
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The log begins after a position that no checkpoint covers; treat it like [`CheckpointError::Damaged`].
    #[error(
        "the log of {key:?} begins after {base}, but its newest checkpoint covers {found}: its state is gone"
    )]
    Missing {
        /// Whose.
        key: ReplicaKey,
        /// Where the log begins.
        base: LogIndex,
        /// What the newest checkpoint covers; zero if there is none.
        found: LogIndex,
    },
    /// Use a newer program.
    #[error(
        "the checkpoint file {file} has format {found}, which this program does not know: use a newer one"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
}

/// Whether a replica's durable state covers all before the `base` of its log: where the log was compacted a state was durable once (E28).
pub fn reaches(
    key: ReplicaKey,
    base: LogIndex,
    found: Option<&SnapshotMeta>,
) -> Result<(), CheckpointError> {
    let found = found.map_or(LogIndex::ZERO, |meta| meta.position.index);
    if found < base {
        return Err(CheckpointError::Missing { key, base, found });
    }
    Ok(())
}

/// Where one checkpoint lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) position: Position,
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) meta_bytes: u32,
    pub(super) data_bytes: u64,
    pub(super) checksum: u32,
}

/// A checkpoint whose file is open.
pub(super) struct Located {
    pub(super) row: Row,
    pub(super) file: Box<dyn DiskFile>,
    /// As a person would name the file.
    pub(super) name: String,
}

/// The first bytes of a file of checkpoints.
pub(super) fn header(magic: &[u8; 8], count: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + ROW);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

impl Row {
    fn bytes(&self) -> u64 {
        u64::from(self.meta_bytes) + self.data_bytes
    }

    pub(super) fn encode(&self, key: ReplicaKey, out: &mut Vec<u8>) {
        let start = out.len();
        for number in [
            key.group.get(),
            key.replica.get(),
            self.position.term.get(),
            self.position.index.get(),
            self.offset,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.meta_bytes.to_le_bytes());
        out.extend_from_slice(&self.data_bytes.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    pub(super) fn decode(bytes: &[u8], file: u64) -> Option<(ReplicaKey, Self)> {
        let bytes: &[u8; ROW] = bytes.try_into().ok()?;
        let u64_at =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u32_at =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if crc32c::crc32c(&bytes[..ROW - 4]) != u32_at(ROW - 4) {
            return None;
        }
        let key = ReplicaKey {
            group: GroupId::new(u64_at(0)),
            replica: ReplicaId::new(u64_at(8)),
        };
        let position = Position::new(Term::new(u64_at(16)), LogIndex::new(u64_at(24)));
        let row = Self {
            position,
            file,
            offset: u64_at(32),
            meta_bytes: u32_at(40),
            data_bytes: u64_at(44),
            checksum: u32_at(52),
        };
        Some((key, row))
    }
}

/// What one file has.
#[derive(Clone, Copy, Debug, Default)]
struct FileUse {
    live: u64,
    live_bytes: u64,
    bytes: u64,
    damaged: bool,
}

/// The newest checkpoint of every replica.
pub struct Checkpoints {
    disk: Box<dyn Disk>,
    rows: BTreeMap<ReplicaKey, Row>,
    files: BTreeMap<u64, FileUse>,
    next_file: u64,
    failed: Option<String>,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints")
            .field("place", &self.disk.place())
            .field("replicas", &self.rows.len())
            .field("files", &self.files.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016x}.checkpoints")
}

fn file_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(".checkpoints")?, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

impl Checkpoints {
    /// Finds out what is there; reads no state.
    pub fn open(disk: Box<dyn Disk>) -> Result<Self, CheckpointError> {
        let mut this = Self {
            disk,
            rows: BTreeMap::new(),
            files: BTreeMap::new(),
            next_file: 1,
            failed: None,
        };
        let names = this.disk.list().map_err(|error| this.io(&error))?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            this.disk.remove(name).map_err(|error| this.io(&error))?;
        }
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
        numbers.sort_unstable();
        for number in numbers {
            this.next_file = number + 1;
            let file = this
                .disk
                .open(&file_name(number), OpenMode::Read)
                .map_err(|error| this.io(&error))?;
            this.take_in(number, &*file)?;
        }
        this.reclaim();
        Ok(this)
    }

    fn io(&self, error: &io::Error) -> CheckpointError {
        CheckpointError::Io {
            place: self.disk.place(),
            reason: error.to_string(),
        }
    }

    fn place(&self, number: u64) -> String {
        format!("{}/{}", self.disk.place(), file_name(number))
    }

    fn take_in(&mut self, number: u64, file: &dyn DiskFile) -> Result<(), CheckpointError> {
        let bytes = file.length().map_err(|error| self.io(&error))?;
        let mut usage = FileUse {
            bytes,
            ..FileUse::default()
        };
        let mut header = [0; HEADER];
        let read = file
            .read_at(0, &mut header)
            .map_err(|error| self.io(&error))?;
        let u32_at =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let count = u32_at(12);
        if read < HEADER
            || &header[..8] != MAGIC
            || crc32c::crc32c(&header[..20]) != u32_at(20)
            || count > COUNT_MAX
        {
            usage.damaged = true;
            self.files.insert(number, usage);
            tracing::error!(file = %self.place(number), "a file of checkpoints is damaged at its head; the replicas in it have lost their state");
            return Ok(());
        }
        if u32_at(8) != VERSION {
            return Err(CheckpointError::NewerFormat {
                file: self.place(number),
                found: u32_at(8),
            });
        }
        let mut rows = vec![0; count as usize * ROW];
        let read = file
            .read_at(HEADER as u64, &mut rows)
            .map_err(|error| self.io(&error))?;
        self.files.insert(number, usage);
        for nth in 0..count as usize {
            let row = rows[..read]
                .get(nth * ROW..(nth + 1) * ROW)
                .and_then(|row| Row::decode(row, number));
            match row {
                Some((key, row)) => self.enter(key, row),
                None => {
                    self.files.entry(number).or_default().damaged = true;
                    tracing::error!(file = %self.place(number), row = nth, "a row of a file of checkpoints is damaged; its replica has lost its state");
                }
            }
        }
        Ok(())
    }

    /// Lets `row` be the newest of `key`, unless a newer one is known.
    fn enter(&mut self, key: ReplicaKey, row: Row) {
        if self
            .rows
            .get(&key)
            .is_some_and(|known| known.position.index > row.position.index)
        {
            return;
        }
        let usage = self.files.entry(row.file).or_default();
        usage.live += 1;
        usage.live_bytes += row.bytes();
        if let Some(old) = self.rows.insert(key, row) {
            self.release(&old);
        }
    }

    fn release(&mut self, row: &Row) {
        let usage = self
            .files
            .get_mut(&row.file)
            .expect("Live Checkpoints: a row's file is known");
        usage.live -= 1;
        usage.live_bytes -= row.bytes();
    }

    /// The first error of a write is sticky.
    fn check_usable(&self) -> Result<(), CheckpointError> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(CheckpointError::Io {
                place: self.disk.place(),
                reason: reason.clone(),
            }),
        }
    }

    /// The end of a write: its checkpoints are the newest of their replicas, or nothing is ever written again.
    fn enter_written(
        &mut self,
        written: io::Result<Vec<(ReplicaKey, Row)>>,
    ) -> Result<(), CheckpointError> {
        match written {
            Ok(rows) => {
                for (key, row) in rows {
                    self.enter(key, row);
                }
                self.reclaim();
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.to_string());
                Err(self.io(&error))
            }
        }
    }

    /// Removes files without a live checkpoint. A name that comes back after a crash holds older checkpoints only, and goes again.
    fn reclaim(&mut self) {
        let dead: Vec<u64> = self
            .files
            .iter()
            .filter(|(_, usage)| usage.live == 0 && !usage.damaged)
            .map(|(number, _)| *number)
            .collect();
        for number in dead {
            self.files.remove(&number);
            if let Err(error) = self.disk.remove(&file_name(number)) {
                tracing::warn!(file = %self.place(number), %error, "a file of checkpoints could not be removed");
            }
        }
    }

    /// Writes a batch into one file of its own and syncs it: one write, one sync. On `Ok` all are durable and the logs may be compacted.
    /// A checkpoint older than the one that is there is left out. The first error is sticky.
    pub fn put(&mut self, batch: &[Checkpoint]) -> Result<(), CheckpointError> {
        self.check_usable()?;
        let mut newest: BTreeMap<ReplicaKey, &Checkpoint> = BTreeMap::new();
        for checkpoint in batch {
            let index = checkpoint.meta.position.index;
            let known = self.rows.get(&checkpoint.key).map(|row| row.position.index);
            let rival = newest
                .get(&checkpoint.key)
                .map(|rival| rival.meta.position.index);
            if known.max(rival).is_none_or(|other| other <= index) {
                newest.insert(checkpoint.key, checkpoint);
            }
        }
        if newest.is_empty() {
            return Ok(());
        }
        let carried = self.carried(&newest);
        let all: Vec<&Checkpoint> = newest.into_values().chain(&carried).collect();
        let written = self.write_file(&all);
        self.enter_written(written)
    }

    /// Old checkpoints that keep the emptiest file from going, when too much is superseded.
    fn carried(&self, newest: &BTreeMap<ReplicaKey, &Checkpoint>) -> Vec<Checkpoint> {
        let (mut bytes, mut live) = (0, 0);
        for usage in self.files.values() {
            bytes += usage.bytes;
            live += usage.live_bytes;
        }
        if bytes <= 2 * live + SLACK {
            return Vec::new();
        }
        // The file in which the smallest part is alive.
        let share = |usage: &FileUse| {
            u128::from(usage.live_bytes) * 1_000_000 / u128::from(usage.bytes.max(1))
        };
        let fitting = self
            .files
            .iter()
            .filter(|(_, usage)| !usage.damaged && usage.live_bytes <= CARRY_BYTES);
        let Some((emptiest, _)) = fitting.min_by_key(|(_, usage)| share(usage)) else {
            return Vec::new();
        };
        let rows = self
            .rows
            .iter()
            .filter(|(key, row)| row.file == *emptiest && !newest.contains_key(key));
        // One that cannot be read stays where it is, and `load` reports it to its owner.
        rows.filter_map(|(key, row)| self.read(*key, row).ok())
            .collect()
    }

    fn write_file(&mut self, all: &[&Checkpoint]) -> io::Result<Vec<(ReplicaKey, Row)>> {
        let number = self.next_file;
        let count = u32::try_from(all.len())
            .ok()
            .filter(|count| *count <= COUNT_MAX)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let metas: Vec<Vec<u8>> = all
            .iter()
            .map(|checkpoint| {
                rmp_serde::to_vec_named(&checkpoint.meta).expect("a base is plain data")
            })
            .collect();
        let body: usize = all
            .iter()
            .zip(&metas)
            .map(|(checkpoint, meta)| checkpoint.data.len() + meta.len())
            .sum();
        let mut bytes = header(MAGIC, count);
        bytes.reserve_exact(all.len() * ROW + body);
        let mut offset = (HEADER + all.len() * ROW) as u64;
        let mut rows = Vec::with_capacity(all.len());
        for (checkpoint, meta) in all.iter().zip(&metas) {
            let row = Row {
                position: checkpoint.meta.position,
                file: number,
                offset,
                meta_bytes: u32::try_from(meta.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
                data_bytes: checkpoint.data.len() as u64,
                checksum: crc32c::crc32c_append(crc32c::crc32c(meta), &checkpoint.data),
            };
            row.encode(checkpoint.key, &mut bytes);
            offset += row.bytes();
            rows.push((checkpoint.key, row));
        }
        for (checkpoint, meta) in all.iter().zip(&metas) {
            bytes.extend_from_slice(meta);
            bytes.extend_from_slice(&checkpoint.data);
        }
        let name = file_name(number);
        let temporary = format!("{name}.tmp");
        let mut file = self.disk.open(&temporary, OpenMode::Create)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &name)?;
        self.disk.sync_directory()?;
        self.next_file += 1;
        self.files.insert(
            number,
            FileUse {
                bytes: bytes.len() as u64,
                ..FileUse::default()
            },
        );
        Ok(rows)
    }

    /// Makes a partial file, synced as a whole, the newest checkpoint of its replica. The first error is sticky.
    pub fn adopt(&mut self, key: ReplicaKey) -> Result<(), CheckpointError> {
        self.check_usable()?;
        let adopted = self.adopt_file(key);
        self.enter_written(adopted.map(|row| vec![(key, row)]))
    }

    fn adopt_file(&mut self, key: ReplicaKey) -> io::Result<Row> {
        let number = self.next_file;
        let partial = partial_name(key);
        let mut file = self.disk.open(&partial, OpenMode::Write)?;
        let mut row = [0; ROW];
        file.read_exact_at(HEADER as u64, &mut row)?;
        let (owner, row) = Row::decode(&row, number).ok_or(io::ErrorKind::InvalidData)?;
        if owner != key {
            return Err(io::ErrorKind::InvalidData.into());
        }
        file.write_at(0, &header(MAGIC, 1))?;
        file.sync()?;
        let bytes = file.length()?;
        drop(file);
        self.disk.rename(&partial, &file_name(number))?;
        self.disk.sync_directory()?;
        self.next_file += 1;
        let usage = FileUse {
            bytes,
            ..FileUse::default()
        };
        self.files.insert(number, usage);
        Ok(row)
    }

    /// Where a replica's newest checkpoint lies.
    pub(super) fn locate(&self, key: ReplicaKey) -> Result<Option<Located>, CheckpointError> {
        let Some(row) = self.rows.get(&key) else {
            return Ok(None);
        };
        let name = self.place(row.file);
        match self.disk.open(&file_name(row.file), OpenMode::Read) {
            Ok(file) => Ok(Some(Located {
                row: *row,
                file,
                name,
            })),
            Err(error) => Err(CheckpointError::Damaged {
                key,
                file: name,
                detail: error.to_string(),
            }),
        }
    }

    /// The newest checkpoint of a replica; `None` if there is none.
    pub fn load(&self, key: ReplicaKey) -> Result<Option<Checkpoint>, CheckpointError> {
        self.rows
            .get(&key)
            .map(|row| self.read(key, row))
            .transpose()
    }

    /// The newest checkpoint of a replica whose log begins after `base`: an error if the entries between are gone.
    pub fn restore(
        &self,
        key: ReplicaKey,
        base: LogIndex,
    ) -> Result<Option<Checkpoint>, CheckpointError> {
        let checkpoint = self.load(key)?;
        reaches(key, base, checkpoint.as_ref().map(|found| &found.meta))?;
        Ok(checkpoint)
    }

    fn read(&self, key: ReplicaKey, row: &Row) -> Result<Checkpoint, CheckpointError> {
        let damaged = |detail: String| CheckpointError::Damaged {
            key,
            file: self.place(row.file),
            detail,
        };
        let file = self
            .disk
            .open(&file_name(row.file), OpenMode::Read)
            .map_err(|error| damaged(error.to_string()))?;
        let length = file.length().map_err(|error| damaged(error.to_string()))?;
        if row
            .offset
            .checked_add(row.bytes())
            .is_none_or(|end| end > length)
        {
            return Err(damaged("it is cut short".into()));
        }
        let mut body =
            vec![0; usize::try_from(row.bytes()).map_err(|error| damaged(error.to_string()))?];
        file.read_exact_at(row.offset, &mut body)
            .map_err(|error| damaged(error.to_string()))?;
        if crc32c::crc32c(&body) != row.checksum {
            return Err(damaged("its checksum is wrong".into()));
        }
        let mut body = Bytes::from(body);
        let data = body.split_off(row.meta_bytes as usize);
        let meta: SnapshotMeta =
            rmp_serde::from_slice(&body).map_err(|error| damaged(error.to_string()))?;
        Ok(Checkpoint { key, meta, data })
    }

    /// Forgets a replica's checkpoint. Not durable by itself: after a crash it may be back, and [`Checkpoints::retain`] removes it again.
    pub fn remove(&mut self, key: ReplicaKey) {
        if let Some(row) = self.rows.remove(&key) {
            self.release(&row);
            self.reclaim();
        }
    }

    /// Forgets the checkpoints of all replicas but these. Called at start with the replicas that the log knows.
    pub fn retain(&mut self, wanted: impl Fn(ReplicaKey) -> bool) {
        let gone: Vec<ReplicaKey> = self
            .rows
            .keys()
            .copied()
            .filter(|key| !wanted(*key))
            .collect();
        for key in gone {
            self.remove(key);
        }
    }

    /// Every replica that has a checkpoint, in order.
    pub fn replicas(&self) -> Vec<ReplicaKey> {
        self.rows.keys().copied().collect()
    }

    /// Files that are damaged at their head or in a row. They are kept for a person to look at.
    pub fn damaged(&self) -> Vec<String> {
        self.files
            .iter()
            .filter(|(_, usage)| usage.damaged)
            .map(|(number, _)| self.place(*number))
            .collect()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.len()
    }
}
