//! One file of the log: its name, its header, and walking the frames in it.
//!
//! Here: [`Segment`] (an open file and where its next frame goes), [`SegmentHeader`], [`FrameReader`] (frame after frame until one is not
//! sound) and [`frame_after`] (does a frame start anywhere behind a bad place?). Called by `supply` (making files) and `open` (reading
//! them back).
//! Not here: what frames hold (`frame`), which files exist and which are needed (`open`, `log`).
//!
//! ```text
//! header = "SYNODLOG" | version u32 | zero u32 | sequence u64 | salt u64 | oldest u64 | zeros | checksum u32      (64 bytes)
//! ```
//! The first frame starts at 4,096, so that no write of frames ever touches the sectors of the header.

use std::io;

use super::disk::DiskFile;
use super::frame::{ALIGNMENT, FRAME_HEADER, Frame, FrameHeader};

/// Where the first frame starts.
pub(crate) const FIRST_FRAME: u64 = 4096;
/// Bytes of the header.
pub(crate) const SEGMENT_HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"SYNODLOG";
/// The format that is read and written. 2: the checksums of a frame come first.
pub(crate) const VERSION: u32 = 2;
/// How much is read at once while scanning.
const WINDOW: usize = 1 << 20;

/// The name of the file with this number.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

/// The number of the file with this name, if it is one of ours.
pub(crate) fn segment_of_name(name: &str) -> Option<u64> {
    let sequence = u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    /// Number of the file; never reused.
    pub(crate) sequence: u64,
    /// Part of every frame in it; never zero.
    pub(crate) salt: u64,
    /// Oldest file that was needed when this one was made.
    pub(crate) oldest: u64,
}

/// Why a header was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderFault {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.oldest.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let bytes: &[u8; SEGMENT_HEADER] = bytes.first_chunk().ok_or(HeaderFault::Damaged)?;
        let u64_at =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let checksum = u32::from_le_bytes(bytes[60..64].try_into().expect("four bytes"));
        if &bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != checksum {
            return Err(HeaderFault::Damaged);
        }
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        Ok(Self {
            sequence: u64_at(16),
            salt: u64_at(24),
            oldest: u64_at(32),
        })
    }

    /// Reads the header of a file.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, HeaderFault>> {
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(0, &mut bytes)?;
        Ok(Self::decode(&bytes[..read]))
    }
}

/// An open file of the log.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Box<dyn DiskFile>,
    /// Where the next frame goes.
    pub(crate) end: u64,
}

/// Reads frame after frame.
pub(crate) struct FrameReader<'a> {
    file: &'a dyn DiskFile,
    salt: u64,
    window: Vec<u8>,
    window_at: u64,
    next: u64,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, salt: u64) -> Self {
        Self {
            file,
            salt,
            window: Vec::new(),
            window_at: 0,
            next: FIRST_FRAME,
        }
    }

    /// Where the next frame would start; after [`Self::read`] gave `None`: where there is none.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// The next frame and its offset; `None` at the first place where there is no sound one.
    pub(crate) fn read(&mut self) -> io::Result<Option<(u64, Frame<'_>)>> {
        let at = self.next;
        self.fill(at, FRAME_HEADER)?;
        let Some(header) = FrameHeader::decode(self.seen(at), self.salt, at) else {
            return Ok(None);
        };
        self.fill(at, header.frame_bytes())?;
        // Decoded twice on failure only (the borrow of the first result would otherwise outlive the change of `next`).
        if Frame::decode(self.seen(at), self.salt, at).is_none() {
            return Ok(None);
        }
        self.next = at + header.frame_bytes() as u64;
        Ok(Some((at, Frame::assume(self.seen(at), header))))
    }

    /// What the window holds from `at` on.
    fn seen(&self, at: u64) -> &[u8] {
        let skip = usize::try_from(at - self.window_at).expect("a window fits memory");
        self.window.get(skip..).unwrap_or_default()
    }

    /// Makes the window hold `bytes` from `at` on, or as many as the file has.
    fn fill(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        let held = self.window_at + self.window.len() as u64;
        if at >= self.window_at && at + bytes as u64 <= held {
            return Ok(());
        }
        self.window.resize(bytes.max(WINDOW), 0);
        let read = self.file.read_at(at, &mut self.window)?;
        self.window.truncate(read);
        self.window_at = at;
        Ok(())
    }
}

/// Where the first frame starts at or after `from`, judged by its header alone.
///
/// The next frame is written only when the one before is synced. So a header behind a bad place proves that the bad place once held an
/// acknowledged batch: it is damage, not a torn tail.
pub(crate) fn frame_after(file: &dyn DiskFile, salt: u64, from: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW + FRAME_HEADER];
    let mut at = from.next_multiple_of(ALIGNMENT as u64);
    loop {
        let read = file.read_at(at, &mut window)?;
        if read < FRAME_HEADER {
            return Ok(None);
        }
        let starts = (read - FRAME_HEADER + 1).min(WINDOW);
        for skip in (0..starts).step_by(ALIGNMENT) {
            if FrameHeader::decode(&window[skip..read], salt, at + skip as u64).is_some() {
                return Ok(Some(at + skip as u64));
            }
        }
        if read < window.len() {
            return Ok(None);
        }
        at += WINDOW as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_numbers() {
        assert_eq!(segment_name(0x1f), "000000000000001f.log");
        assert_eq!(segment_of_name("000000000000001f.log"), Some(0x1f));
        for foreign in [
            "1f.log",
            "000000000000001f.tmp",
            "00000000000000zz.log",
            "+00000000000001f.log",
            "LOCK",
        ] {
            assert_eq!(segment_of_name(foreign), None, "{foreign}");
        }
    }

    // STYLE 11: formats are proven by old bytes.
    #[test]
    fn v2_header_still_decodes() {
        let header = SegmentHeader {
            sequence: 2,
            salt: 0x8000_0000_0000_0003,
            oldest: 1,
        };
        let bytes = header.encode();
        assert_eq!(
            &bytes[..40],
            b"SYNODLOG\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x80\x01\0\0\0\0\0\0\0"
        );
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        let mut newer = bytes;
        newer[8] = 9;
        let checksum = crc32c::crc32c(&newer[..60]).to_le_bytes();
        newer[60..].copy_from_slice(&checksum);
        assert_eq!(SegmentHeader::decode(&newer), Err(HeaderFault::Version(9)));
        assert_eq!(
            SegmentHeader::decode(&bytes[..63]),
            Err(HeaderFault::Damaged)
        );
    }
}
