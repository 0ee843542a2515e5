//! The log of a node: the entries of all its replicas in one sequence of files.
//!
//! Here: [`SegmentedLog`], the [`LogStore`] on a [`Disk`], and [`LogOptions`]. Called by the thread of `log_writer`, and directly by
//! simulators. It ties the rooms below together: `outline` (does the batch fit?), `frame` (its bytes), `segment` and `supply` (files),
//! `index` (what lies where), `carry` (what keeps old files), `open` (after a restart).
//! Not here: threads of its own except the one that makes files ahead, and any policy about when to compact.
//!
//! One batch is one frame, one write and one sync; after a crash all of it is there or nothing. The first error is sticky: nothing is
//! acknowledged after it, and a failed sync is never asked again (H72), because the kernel may have dropped the bytes and then says `Ok`.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;

use bytes::Bytes;
use synod_consensus::{
    Entry, EntryKind, LogIndex, LogStore, Position, Recovered, ReplicaKey, StoreError, Term, Write,
};

use super::carry::{Carry, LogWatch};
use super::disk::Disk;
use super::frame::{FRAME_BYTES_MAX, FrameEncoder, RECORD_HEADER, Record, RecordHead, RecordKind};
use super::index::{EntryAt, Index, ReplicaIndex, encode_base, encode_hard_state};
use super::open::{OpenError, Opened};
use super::outline::Outlines;
use super::segment::{FIRST_FRAME, Segment, segment_name};
use super::supply::Supply;

/// How a log uses its disk.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes per file; 8 KiB to 2 GiB. Small files go sooner, large ones are made more rarely.
    pub segment_bytes: u64,
    /// Files that a quiet replica may hold before its records are carried forward or it is listed as pinned; at least 1.
    pub files_kept: u32,
    /// Bytes of old records carried forward with one batch. Bounds what it adds to a write (256 KiB: about 0.1 ms on an NVMe disk).
    pub carry_bytes: usize,
    /// Whether files are made ahead on an own thread. Off: everything happens in the caller's thread, in a repeatable order.
    pub background: bool,
    /// Seed of the files' salts; no two logs of one disk should share it.
    pub salt: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            files_kept: 4,
            carry_bytes: 256 << 10,
            background: true,
            // The standard library's own random keys: unlike for every log, and enough where nobody attacks.
            salt: RandomState::new().build_hasher().finish(),
        }
    }
}

impl LogOptions {
    fn check(&self) -> Result<(), OpenError> {
        if !((8 << 10)..=(2 << 30)).contains(&self.segment_bytes) {
            return Err(OpenError::Options(
                "log option segment_bytes must be from 8 KiB to 2 GiB",
            ));
        }
        if self.files_kept == 0 {
            return Err(OpenError::Options(
                "log option files_kept must be at least 1",
            ));
        }
        Ok(())
    }
}

/// Reads of one run of entries are gathered up to this size.
const RUN_BYTES_MAX: usize = 1 << 20;
/// Offsets in the index are 32 bits wide; a frame that would end behind this goes to a new file.
const FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// The log of all replicas of a node.
pub struct SegmentedLog {
    options: LogOptions,
    place: String,
    /// Never empty; the last one takes the next frame.
    files: VecDeque<Segment>,
    supply: Supply,
    index: Index,
    encoder: FrameEncoder,
    outlines: Outlines,
    carry: Carry,
    watch: LogWatch,
    next_frame: u64,
    /// The oldest file that the last durable frame says is needed; files before it may go.
    stated_oldest: u64,
    failed: Option<StoreError>,
}

impl std::fmt::Debug for SegmentedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentedLog")
            .field("place", &self.place)
            .field("files", &self.files.len())
            .field("replicas", &self.index.replicas.len())
            .field("next_frame", &self.next_frame)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl SegmentedLog {
    /// Opens the log in a directory of its own; an empty directory becomes an empty log.
    pub fn open(disk: Box<dyn Disk>, options: LogOptions) -> Result<Self, OpenError> {
        options.check()?;
        let place = disk.place();
        let io = |source| OpenError::Io {
            place: place.clone(),
            source,
        };
        let Opened {
            mut files,
            ready,
            retired,
            spares,
            index,
            next_frame,
            oldest,
        } = Opened::read(&*disk)?;
        let mut supply = Supply::start(
            disk,
            options.segment_bytes,
            options.salt,
            options.background,
            ready,
            spares,
        )
        .map_err(io)?;
        for sequence in retired {
            supply.retire(sequence);
        }
        if files.is_empty() {
            files.push_back(supply.take(1, 1).map_err(io)?);
        }
        let mut log = Self {
            options,
            place,
            files,
            supply,
            index,
            encoder: FrameEncoder::default(),
            outlines: Outlines::default(),
            carry: Carry::default(),
            watch: LogWatch::default(),
            next_frame,
            stated_oldest: oldest,
            failed: None,
        };
        log.look_ahead();
        log.watch.show_files(log.files.len());
        Ok(log)
    }

    /// A window for the node, which does not hold the log itself.
    pub fn watch(&self) -> LogWatch {
        self.watch.clone()
    }

    /// Replicas whose entries keep the oldest files: checkpoint and compact them.
    pub fn pinned(&self) -> Vec<ReplicaKey> {
        self.carry.pinned().iter().copied().collect()
    }

    fn current(&self) -> u64 {
        self.files
            .back()
            .expect("a log always has a file")
            .header
            .sequence
    }

    /// Orders the next file and looks for what keeps old ones.
    fn look_ahead(&mut self) {
        let current = self.current();
        self.supply.order(current + 1, self.stated_oldest);
        if let Some(through) = current.checked_sub(u64::from(self.options.files_kept)) {
            self.carry.aim(&self.index, small(through), &self.watch);
        }
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> StoreError {
        let reason = format!("{what} in {}: {error}", self.place);
        self.failed.insert(StoreError::Failed { reason }).clone()
    }

    /// Puts the batch, and old records behind it, into the encoder. What a write would not change is left out.
    fn encode(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) {
        self.encoder.begin();
        if batch.iter().all(|(_, writes)| writes.is_empty()) {
            return; // nothing to acknowledge, so nothing is carried either
        }
        self.carry
            .write(&self.index, &mut self.encoder, self.options.carry_bytes);
        let mut compacts = self.outlines.compacts();
        for (key, writes) in batch {
            let head = |kind, position: Position| RecordHead {
                kind,
                entry_kind: EntryKind::Normal,
                key: *key,
                index: position.index,
                term: position.term,
            };
            for write in writes {
                match write {
                    Write::HardState(state) => {
                        self.encoder.push(
                            &head(RecordKind::HardState, Position::ZERO),
                            &encode_hard_state(state),
                        );
                    }
                    Write::Append(entries) => {
                        for entry in entries {
                            let head = RecordHead {
                                entry_kind: entry.kind,
                                ..head(RecordKind::Entry, entry.position())
                            };
                            self.encoder.push(&head, &entry.payload);
                        }
                    }
                    Write::Compact { to } => {
                        if compacts.next() == Some(true) {
                            let head = head(RecordKind::Compact, to.position);
                            self.encoder
                                .push_with(&head, |buffer| encode_base(buffer, to));
                        }
                    }
                    Write::Reset { to } => {
                        self.encoder
                            .push_with(&head(RecordKind::Reset, to.position), |buffer| {
                                encode_base(buffer, to)
                            });
                    }
                    Write::Drop => self
                        .encoder
                        .push(&head(RecordKind::Drop, Position::ZERO), &[]),
                }
            }
        }
    }

    /// Makes the current file one that has room for the frame in the encoder.
    fn make_room(&mut self) -> io::Result<()> {
        let frame = self.encoder.frame_bytes() as u64;
        let Segment { end, .. } = self.files.back().expect("a log always has a file");
        let full = end + frame > self.options.segment_bytes && *end > FIRST_FRAME;
        if !full && end + frame <= FILE_BYTES_MAX {
            return Ok(());
        }
        let next = self.current() + 1;
        let segment = self.supply.take(next, self.stated_oldest)?;
        self.files.push_back(segment);
        self.look_ahead();
        Ok(())
    }

    /// Hands back files that the last durable frame has declared dead.
    fn reclaim(&mut self) {
        while self.files.len() > 1 && self.files[0].header.sequence < self.stated_oldest {
            if let Some(segment) = self.files.pop_front() {
                self.supply.retire(segment.header.sequence);
            }
        }
        self.index
            .forget_before(small(self.files[0].header.sequence));
        self.watch.show_files(self.files.len());
    }

    fn replica(&self, key: ReplicaKey) -> Result<&ReplicaIndex, StoreError> {
        self.index
            .replicas
            .get(&key)
            .map(Box::as_ref)
            .ok_or(StoreError::UnknownReplica { key })
    }

    /// Reads the entries at `places` of a replica back from the files.
    fn read(
        &self,
        key: ReplicaKey,
        replica: &ReplicaIndex,
        places: std::ops::Range<usize>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::with_capacity(places.len());
        let mut at = places.start;
        while at < places.end {
            // Neighbours in the log mostly are neighbours in the file: one read, and the payloads share its memory.
            let first = replica.entries[at];
            let (mut run, mut bytes) = (1, record_bytes(&first));
            while at + run < places.end {
                let next = replica.entries[at + run];
                if next.file != first.file
                    || next.offset as usize != first.offset as usize + bytes
                    || bytes + record_bytes(&next) > RUN_BYTES_MAX
                {
                    break;
                }
                bytes += record_bytes(&next);
                run += 1;
            }
            let read = self.read_run(&first, bytes);
            let damaged = |detail: &str| StoreError::Failed {
                reason: format!(
                    "cannot read entries of {key:?} in {}/{} at offset {}: {detail}",
                    self.place,
                    segment_name(u64::from(first.file)),
                    first.offset
                ),
            };
            let buffer = Bytes::from(read.map_err(|error| damaged(&error.to_string()))?);
            let mut skip = 0;
            for place in at..at + run {
                let index = replica.base.position.index.plus(place as u64 + 1);
                let (record, _) = Record::decode(&buffer, skip)
                    .ok_or_else(|| damaged("a record is not sound"))?;
                if record.head.kind != RecordKind::Entry
                    || record.head.key != key
                    || record.head.index != index
                {
                    return Err(damaged("it is the record of something else"));
                }
                entries.push(Entry {
                    term: record.head.term,
                    index,
                    kind: record.head.entry_kind,
                    payload: buffer
                        .slice(skip + RECORD_HEADER..skip + RECORD_HEADER + record.payload.len()),
                });
                skip += RECORD_HEADER + record.payload.len();
            }
            at += run;
        }
        Ok(entries)
    }

    fn read_run(&self, first: &EntryAt, bytes: usize) -> io::Result<Vec<u8>> {
        let front = small(self.files[0].header.sequence);
        let file = &self.files[(first.file - front) as usize].file;
        let mut buffer = vec![0; bytes];
        file.read_exact_at(u64::from(first.offset), &mut buffer)?;
        Ok(buffer)
    }

    /// Term of an entry, or of the base; `None` when the log does not know.
    pub fn term_at(&self, key: ReplicaKey, index: LogIndex) -> Option<Term> {
        let replica = self.index.replicas.get(&key)?;
        if index == replica.base.position.index {
            return Some(replica.base.position.term);
        }
        Some(replica.entries[replica.place(index)?].term)
    }
}

fn record_bytes(entry: &EntryAt) -> usize {
    RECORD_HEADER + entry.length as usize
}

/// File numbers fit 32 bits: at one 8 KiB file per millisecond they last for 49 days, at one 64 MiB file per second for 136 years.
fn small(sequence: u64) -> u32 {
    u32::try_from(sequence).expect("file numbers fit 32 bits")
}

impl LogStore for SegmentedLog {
    fn write(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) -> Result<(), StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.outlines.check(&self.index, batch)?;
        self.encode(batch);
        if self.encoder.is_empty() {
            return Ok(());
        }
        if self.encoder.frame_bytes() > FRAME_BYTES_MAX {
            return Err(self.fail(
                "a batch is larger than 1 GiB",
                &io::ErrorKind::InvalidInput.into(),
            ));
        }
        if let Err(error) = self.make_room() {
            return Err(self.fail("cannot get a new file", &error));
        }
        let current = self.current();
        let oldest = u64::from(self.index.oldest_needed(small(current)));
        let segment = self.files.back_mut().expect("a log always has a file");
        let at = segment.end;
        let bytes = self
            .encoder
            .finish(segment.header.salt, at, self.next_frame, oldest);
        if let Err(error) = segment.file.write_at(at, bytes) {
            return Err(self.fail("cannot write", &error));
        }
        if let Err(error) = segment.file.sync() {
            return Err(self.fail("cannot sync", &error));
        }
        segment.end += bytes.len() as u64;
        self.next_frame += 1;
        self.stated_oldest = oldest;
        for record in self.encoder.records() {
            if let Err(detail) = self.index.apply(&record, small(current), at) {
                unreachable!("Log Contiguity: a batch that was found to fit does not: {detail}");
            }
        }
        self.carry
            .touched(&self.index, batch.iter().map(|(key, _)| *key), &self.watch);
        self.reclaim();
        Ok(())
    }

    fn replicas(&self) -> Vec<ReplicaKey> {
        self.index.replicas.keys().copied().collect()
    }

    fn recover(&self, key: ReplicaKey) -> Result<Option<Recovered>, StoreError> {
        let Some(replica) = self.index.replicas.get(&key) else {
            return Ok(None);
        };
        let entries = self.read(key, replica, 0..replica.entries.len())?;
        Ok(Some(Recovered {
            hard_state: replica.hard_state,
            base: replica.base.clone(),
            entries,
        }))
    }

    fn fetch(
        &self,
        key: ReplicaKey,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let replica = self.replica(key)?;
        let base = replica.base.position.index;
        if from <= base {
            return Err(StoreError::Compacted { key, from, base });
        }
        let Some(start) = replica.place(from) else {
            return Ok(Vec::new());
        };
        let (mut end, mut index, mut bytes) = (start, from, 0);
        while index <= through && end < replica.entries.len() {
            bytes += replica.entries[end].length as usize;
            if end > start && bytes > max_bytes {
                break;
            }
            end += 1;
            index = index.next();
        }
        self.read(key, replica, start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    // DESIGN 8: one conformance suite runs against every store.
    #[test]
    fn conforms_on_the_real_disk_with_small_and_large_files() {
        for (segment_bytes, background) in [(8 << 10, false), (64 << 10, true), (64 << 20, true)] {
            let folder = tempfile::tempdir().unwrap();
            synod_consensus::conformance::check(&mut || {
                let disk = RealDisk::new(folder.path()).unwrap();
                let options = LogOptions {
                    segment_bytes,
                    background,
                    files_kept: 2,
                    ..LogOptions::default()
                };
                Box::new(SegmentedLog::open(Box::new(disk), options).unwrap())
            });
        }
    }
}
