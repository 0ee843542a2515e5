//! The bytes of one batch in the log: a frame, and the records inside it.
//!
//! Here: [`FrameEncoder`] (one buffer, reused for every batch), [`Frame::decode`], [`Record`] and the cheap test whether a frame starts
//! somewhere ([`FrameHeader::decode`]). Called by `log` (writing), `segment` (scanning) and `index` (reading records).
//! Not here: files, offsets inside them beyond the one a frame is bound to, or the meaning of records (`index`).
//!
//! ```text
//! frame  = header (40 bytes), records, zeros up to a multiple of 8
//! header = header checksum u32 | chain u32 | salt u64 | sequence u64 | oldest u64 | body length u32 | record count u32
//! record = checksum u32 | payload length u32 | kind u8 | entry kind u8 | zero u16 | group u64 | replica u64 | index u64 | term u64 | payload
//! ```
//! Little endian. All checksums are CRC32C. A record's covers everything after itself. The chain runs over the records' checksums, and
//! the header's over the rest of the header and the offset in the file. They come first, for frames start at multiples of 8 and a sector
//! ends at one: where two frames written at the same place are mixed, with the beginning of one and the rest of the other, the checksums
//! are of the one and something that they cover is of the other. So neither a mixture is a valid frame, nor does a frame whose beginning
//! was lost come back when the beginning of the next attempt is written where it was. The salt is the file's own: bytes of the file's
//! former life never look valid. Source: DESIGN 13.

use crc32c::crc32c_append;
use synod_consensus::{EntryKind, GroupId, LogIndex, ReplicaId, ReplicaKey, Term};

/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 40;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER: usize = 44;
/// Frames start at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// A frame whose header says more than this is no frame. Bounds what opening allocates.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 30;
/// A frame's memory up to here is kept, however small the next ones are.
const KEPT_BYTES: usize = 256 << 10;
/// After so many small frames in a row most of a larger one's memory is given back.
const SMALL_FRAMES: u32 = 32;

/// What a record says about its replica. The numbers are on disk: append, never reuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// One log entry; replaces the one at its index and everything after it.
    Entry = 1,
    /// The newest hard state (payload: [`crate::storage::index`]'s 25 bytes).
    HardState = 2,
    /// Everything through (index, term) is gone (payload: the base).
    Compact = 3,
    /// The log is empty after (index, term) (payload: the base).
    Reset = 4,
    /// The replica is gone.
    Drop = 5,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Entry,
            Self::HardState,
            Self::Compact,
            Self::Reset,
            Self::Drop,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

fn entry_kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::Noop => 1,
        EntryKind::Configuration => 2,
    }
}

pub(crate) fn entry_kind_from_byte(byte: u8) -> Option<EntryKind> {
    match byte {
        0 => Some(EntryKind::Normal),
        1 => Some(EntryKind::Noop),
        2 => Some(EntryKind::Configuration),
        _ => None,
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHead {
    pub(crate) kind: RecordKind,
    pub(crate) entry_kind: EntryKind,
    pub(crate) key: ReplicaKey,
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
}

/// One record as it lies in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) head: RecordHead,
    pub(crate) payload: &'a [u8],
    /// Where the record starts, counted from the start of the frame.
    pub(crate) at: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl<'a> Record<'a> {
    /// Reads the record at `at` and checks its checksum. `None` when it is not a whole, sound record.
    pub(crate) fn decode(bytes: &'a [u8], at: usize) -> Option<(Self, u32)> {
        let record = Self::view(bytes, at)?;
        let checksum = u32_at(bytes, at);
        let end = at + RECORD_HEADER + record.payload.len();
        (crc32c::crc32c(&bytes[at + 4..end]) == checksum).then_some((record, checksum))
    }

    /// Reads the record at `at` without computing its checksum: for bytes this process has just encoded or checked.
    fn view(bytes: &'a [u8], at: usize) -> Option<Self> {
        let head = bytes.get(at..at.checked_add(RECORD_HEADER)?)?;
        let length = u32_at(head, 4) as usize;
        let payload = bytes.get(at + RECORD_HEADER..(at + RECORD_HEADER).checked_add(length)?)?;
        let head = RecordHead {
            kind: RecordKind::from_byte(head[8])?,
            entry_kind: entry_kind_from_byte(head[9])?,
            key: ReplicaKey {
                group: GroupId::new(u64_at(head, 12)),
                replica: ReplicaId::new(u64_at(head, 20)),
            },
            index: LogIndex::new(u64_at(head, 28)),
            term: Term::new(u64_at(head, 36)),
        };
        Some(Self { head, payload, at })
    }
}

/// The head of a frame, after its checksum was found right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    /// Number of the batch; contiguous over all files of the log.
    pub(crate) sequence: u64,
    /// Oldest file that was still needed when the frame was written.
    pub(crate) oldest: u64,
    /// Bytes of records.
    pub(crate) body: usize,
    records: u32,
    chain: u32,
}

impl FrameHeader {
    /// `None` unless a frame of the file with this salt starts here and was written at `offset`.
    pub(crate) fn decode(bytes: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        // The salt first: a scan for headers asks this at every place.
        if u64_at(bytes, 8) != salt || u32_at(bytes, 0) != header_checksum(&bytes[4..], offset) {
            return None;
        }
        let body = u32_at(bytes, 32) as usize;
        (body <= FRAME_BYTES_MAX).then(|| Self {
            chain: u32_at(bytes, 4),
            sequence: u64_at(bytes, 16),
            oldest: u64_at(bytes, 24),
            body,
            records: u32_at(bytes, 36),
        })
    }

    /// Bytes of the whole frame on disk.
    pub(crate) fn frame_bytes(&self) -> usize {
        (FRAME_HEADER + self.body).next_multiple_of(ALIGNMENT)
    }
}

fn header_checksum(bytes: &[u8], offset: u64) -> u32 {
    crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), bytes)
}

/// A whole, sound frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None` unless `bytes` starts with a whole, sound frame that was written at `offset` of the file with this salt.
    pub(crate) fn decode(bytes: &'a [u8], salt: u64, offset: u64) -> Option<Self> {
        let header = FrameHeader::decode(bytes, salt, offset)?;
        let end = FRAME_HEADER + header.body;
        let bytes = bytes.get(..end)?;
        let (mut at, mut chain, mut count) = (FRAME_HEADER, 0, 0_u32);
        while at < end {
            let (record, checksum) = Record::decode(bytes, at)?;
            chain = chain_append(chain, checksum);
            at += RECORD_HEADER + record.payload.len();
            count += 1;
        }
        (count == header.records && chain == header.chain).then_some(Self { header, bytes })
    }

    /// The frame that starts `bytes`, which [`Frame::decode`] has accepted before.
    pub(crate) fn assume(bytes: &'a [u8], header: FrameHeader) -> Self {
        Self {
            header,
            bytes: &bytes[..FRAME_HEADER + header.body],
        }
    }

    /// The records in the order in which they were written.
    pub(crate) fn records(&self) -> Records<'a> {
        Records {
            bytes: self.bytes,
            at: FRAME_HEADER,
        }
    }
}

fn chain_append(chain: u32, checksum: u32) -> u32 {
    // Order matters and every bit of each checksum counts (rotate: records of equal content at other positions differ too).
    chain.rotate_left(5).wrapping_mul(0x9E37_79B1) ^ checksum
}

/// Walks the records of bytes that are known to be sound.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let record = Record::view(self.bytes, self.at)?;
        self.at += RECORD_HEADER + record.payload.len();
        Some(record)
    }
}

/// Builds one frame after the other in the same buffer.
#[derive(Debug, Default)]
pub(crate) struct FrameEncoder {
    buffer: Vec<u8>,
    /// Frames in a row that filled no more than an eighth of the buffer.
    small: u32,
    body_end: usize,
    records: u32,
    chain: u32,
}

impl FrameEncoder {
    /// Begins a new frame; the last one is forgotten. Its memory is kept, unless frames have been far smaller for a while.
    pub(crate) fn begin(&mut self) {
        let capacity = self.buffer.capacity();
        let is_small = capacity > KEPT_BYTES && self.buffer.len() <= capacity / 8;
        self.small = if is_small { self.small + 1 } else { 0 };
        self.buffer.clear();
        if self.small == SMALL_FRAMES {
            self.small = 0;
            self.buffer.shrink_to(capacity / 4);
        }
        self.buffer.resize(FRAME_HEADER, 0);
        self.body_end = FRAME_HEADER;
        self.records = 0;
        self.chain = 0;
    }

    /// Adds a record whose payload is there.
    pub(crate) fn push(&mut self, head: &RecordHead, payload: &[u8]) {
        self.push_with(head, |buffer| buffer.extend_from_slice(payload));
    }

    /// Adds a record whose payload is written by `payload` straight into the buffer.
    pub(crate) fn push_with(&mut self, head: &RecordHead, payload: impl FnOnce(&mut Vec<u8>)) {
        let at = self.buffer.len();
        let mut bytes = [0; RECORD_HEADER];
        bytes[8] = head.kind as u8;
        bytes[9] = entry_kind_byte(head.entry_kind);
        bytes[12..20].copy_from_slice(&head.key.group.get().to_le_bytes());
        bytes[20..28].copy_from_slice(&head.key.replica.get().to_le_bytes());
        bytes[28..36].copy_from_slice(&head.index.get().to_le_bytes());
        bytes[36..44].copy_from_slice(&head.term.get().to_le_bytes());
        self.buffer.extend_from_slice(&bytes);
        payload(&mut self.buffer);
        let length = self.buffer.len() - at - RECORD_HEADER;
        let length = u32::try_from(length).expect("a payload was checked against FRAME_BYTES_MAX");
        self.buffer[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&self.buffer[at + 4..]);
        self.buffer[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        self.chain = chain_append(self.chain, checksum);
        self.records += 1;
        self.body_end = self.buffer.len();
    }

    /// Bytes of the frame if it ended now.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.body_end.next_multiple_of(ALIGNMENT)
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Binds the frame to its place and returns its bytes.
    pub(crate) fn finish(&mut self, salt: u64, offset: u64, sequence: u64, oldest: u64) -> &[u8] {
        let body = u32::try_from(self.body_end - FRAME_HEADER)
            .expect("a frame was checked against FRAME_BYTES_MAX");
        let header = &mut self.buffer[..FRAME_HEADER];
        header[4..8].copy_from_slice(&self.chain.to_le_bytes());
        header[8..16].copy_from_slice(&salt.to_le_bytes());
        header[16..24].copy_from_slice(&sequence.to_le_bytes());
        header[24..32].copy_from_slice(&oldest.to_le_bytes());
        header[32..36].copy_from_slice(&body.to_le_bytes());
        header[36..40].copy_from_slice(&self.records.to_le_bytes());
        let checksum = header_checksum(&header[4..], offset);
        header[0..4].copy_from_slice(&checksum.to_le_bytes());
        self.buffer
            .resize(self.body_end.next_multiple_of(ALIGNMENT), 0);
        &self.buffer
    }

    /// The records of the frame that was built.
    pub(crate) fn records(&self) -> Records<'_> {
        Records {
            bytes: &self.buffer[..self.body_end],
            at: FRAME_HEADER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x5A17_0000_0000_0001;

    fn head(index: u64) -> RecordHead {
        RecordHead {
            kind: RecordKind::Entry,
            entry_kind: EntryKind::Normal,
            key: ReplicaKey {
                group: GroupId::new(3),
                replica: ReplicaId::new(9),
            },
            index: LogIndex::new(index),
            term: Term::new(2),
        }
    }

    fn frame(payloads: &[&[u8]]) -> Vec<u8> {
        let mut encoder = FrameEncoder::default();
        encoder.begin();
        for (index, payload) in (1..).zip(payloads) {
            encoder.push(&head(index), payload);
        }
        encoder.finish(SALT, 4096, 7, 1).to_vec()
    }

    #[test]
    fn a_large_frame_leaves_no_large_memory_behind() {
        let mut encoder = FrameEncoder::default();
        let mut write = |payload: &[u8]| {
            encoder.begin();
            encoder.push(&head(1), payload);
            encoder.finish(SALT, 4096, 7, 1);
            encoder.buffer.capacity()
        };
        let large = vec![0; 4 << 20];
        assert!(write(&large) > 4 << 20);
        for _ in 0..10 {
            for _ in 0..SMALL_FRAMES - 1 {
                write(b"small");
            }
            assert!(write(&large) > 4 << 20, "it is large often enough");
        }
        let kept = (0..200).map(|_| write(b"small")).last();
        assert!(kept.is_some_and(|kept| kept <= KEPT_BYTES), "{kept:?}");
    }

    // DESIGN 13: records (length, CRC32C, group, kind, index, term, payload); one batch is one frame.
    #[test]
    fn frame_gives_back_what_was_put_in() {
        let bytes = frame(&[b"one", b"", b"three"]);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let frame = Frame::decode(&bytes, SALT, 4096).unwrap();
        assert_eq!(
            (
                frame.header.sequence,
                frame.header.oldest,
                frame.header.frame_bytes()
            ),
            (7, 1, bytes.len())
        );
        let stated = [SALT, 7, 1, 3 * RECORD_HEADER as u64 + 8 + (3 << 32)];
        assert_eq!(bytes[8..40], stated.map(u64::to_le_bytes).concat());
        let records: Vec<_> = frame
            .records()
            .map(|record| (record.head.index.get(), record.payload.to_vec()))
            .collect();
        assert_eq!(
            records,
            [(1, b"one".to_vec()), (2, vec![]), (3, b"three".to_vec())]
        );
    }

    // H76: a bad checksum must be seen, wherever the bit lies.
    #[test]
    fn every_flipped_bit_makes_the_frame_invalid() {
        let bytes = frame(&[b"abc", b"defgh"]);
        let body_end = FRAME_HEADER + 2 * RECORD_HEADER + 8;
        for at in 0..body_end {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(
                    Frame::decode(&bytes, SALT, 4096).is_none(),
                    "byte {at}, bit {bit}"
                );
            }
        }
    }

    // H76: a torn record must be seen, wherever it ends.
    #[test]
    fn every_cut_makes_the_frame_invalid() {
        let bytes = frame(&[b"abc", b"defgh"]);
        for end in 0..FRAME_HEADER + 2 * RECORD_HEADER + 8 {
            assert!(
                Frame::decode(&bytes[..end], SALT, 4096).is_none(),
                "cut at {end}"
            );
        }
    }

    // Recycled files: a frame is bound to the life of its file and to its place in it.
    #[test]
    fn frame_of_another_life_or_place_is_invalid() {
        let bytes = frame(&[b"abc"]);
        assert!(Frame::decode(&bytes, SALT + 1, 4096).is_none());
        assert!(Frame::decode(&bytes, SALT, 4104).is_none());
    }

    // Two frames at one place, the second torn over the first: each record may be sound, the frame is not. Nor does the first come back
    // when its beginning was lost and that of the second is there (group simulator, seed 3919).
    #[test]
    fn mixture_of_two_frames_is_invalid() {
        let first = frame(&[b"aaaa", b"aaaa"]);
        for second in [
            frame(&[b"bbbb", b"bbbb"]),
            frame(&[b"aaaa", b"bbbb"]),
            frame(&[b"aaaa"]),
        ] {
            let shared = first.len().min(second.len());
            for seam in (ALIGNMENT..shared).step_by(ALIGNMENT) {
                for (front, back) in [(&first, &second), (&second, &first)] {
                    let mixed = [&front[..seam], &back[seam..]].concat();
                    let found = Frame::decode(&mixed, SALT, 4096);
                    assert!(
                        found.is_none() || mixed.starts_with(front),
                        "seam at {seam}"
                    );
                }
            }
        }
    }
}
