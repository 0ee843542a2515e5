//! Opening a log: one sequential pass over its files, which tells a torn tail from damage.
//!
//! Here: [`Opened::read`] and [`OpenError`]. Called by `log`.
//! Not here: writing (`log`), making files (`supply`).
//!
//! What can honestly be on the disk after a crash: every frame but the last was synced before its successor was written. So the one frame
//! that may be torn is the last thing in the log: no frame starts anywhere behind it. It was never acknowledged and is dropped. Everything
//! else - a frame behind a bad place, a gap in the frames' numbers, a file that is missing - means that acknowledged bytes are gone, and
//! the log refuses to open (H76). Bits that flip inside the very last frame cannot be told from a torn write.

use std::collections::VecDeque;
use std::io;

use super::disk::{Disk, OpenMode};
use super::frame::ALIGNMENT;
use super::index::Index;
use super::segment::{
    FIRST_FRAME, FrameReader, HeaderFault, Segment, SegmentHeader, VERSION, frame_after,
    segment_name, segment_of_name,
};
use super::supply::spare_of_name;

/// Why a log does not open. Nothing was changed by trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk refused.
    #[error("cannot open the log in {place}")]
    Io {
        /// The directory.
        place: String,
        /// What the disk said.
        source: io::Error,
    },
    /// Acknowledged bytes are gone. Give up this store: its replicas are rebuilt from their peers under new replica ids.
    #[error(
        "the log is damaged in {file} at offset {offset}: {detail}; nothing was dropped, the store must be replaced"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// Use the program that wrote it.
    #[error(
        "the log file {file} has format {found} and this program reads format {VERSION}: use the program that wrote it"
    )]
    OtherFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// Correct the options.
    #[error("{0}")]
    Options(&'static str),
}

/// A log as it was found.
pub(crate) struct Opened {
    /// The files that are needed, oldest first; the last one takes the next frame. Empty when the log is new.
    pub(crate) files: VecDeque<Segment>,
    /// Files made ahead and not yet used.
    pub(crate) ready: Vec<Segment>,
    /// Files that are not needed any more.
    pub(crate) retired: Vec<u64>,
    /// Those that wait to be used again, by their numbers.
    pub(crate) spares: Vec<u64>,
    pub(crate) index: Index,
    /// Number of the next frame.
    pub(crate) next_frame: u64,
    /// What the last frame says about the oldest file.
    pub(crate) oldest: u64,
}

/// A file and what the pass over it found.
struct Walked {
    segment: Segment,
    /// The last sound frame.
    last: Option<LastFrame>,
}

#[derive(Clone, Copy)]
struct LastFrame {
    /// Where it starts.
    at: u64,
    /// What it says about the oldest file.
    oldest: u64,
}

fn walk(
    segment: Segment,
    visit: &mut dyn FnMut(u64, &super::frame::Frame<'_>) -> Result<(), OpenError>,
    io: &dyn Fn(io::Error) -> OpenError,
) -> Result<Walked, OpenError> {
    let mut reader = FrameReader::new(&*segment.file, segment.header.salt);
    let mut last = None;
    while let Some((at, frame)) = reader.read().map_err(io)? {
        visit(at, &frame)?;
        last = Some(LastFrame {
            at,
            oldest: frame.header.oldest,
        });
    }
    let end = reader.position();
    Ok(Walked {
        segment: Segment { end, ..segment },
        last,
    })
}

impl Opened {
    /// Reads everything back. Removes nothing but half-made files, and what waits to be used again where there is no log: what is in it
    /// could pass for frames of files that have the numbers and salts of former ones.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io {
            place: disk.place(),
            source,
        };
        let names = disk.list().map_err(io)?;
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| segment_of_name(name))
            .collect();
        numbers.sort_unstable();
        let mut spares = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            match spare_of_name(name) {
                Some(spare) if !numbers.is_empty() => spares.push(spare),
                _ => disk.remove(name).map_err(io)?,
            }
        }
        spares.sort_unstable();
        if numbers.is_empty() {
            let index = Index::new(1);
            return Ok(Self {
                files: VecDeque::new(),
                ready: vec![],
                retired: vec![],
                spares,
                index,
                next_frame: 1,
                oldest: 1,
            });
        }
        let oldest = Self::find_oldest(disk, &numbers)?;
        let (retired, needed): (Vec<u64>, Vec<u64>) =
            numbers.iter().partition(|number| **number < oldest);
        for (number, expected) in needed.iter().zip(oldest..) {
            if *number != expected {
                return Err(damaged(disk, expected, 0, "the file is missing".into()));
            }
        }

        let front = u32::try_from(oldest)
            .map_err(|_| damaged(disk, oldest, 0, "its number is impossible".into()))?;
        let mut index = Index::new(front);
        let mut next_frame: Option<u64> = None;
        let mut walked: Vec<Walked> = Vec::with_capacity(needed.len());
        for number in needed {
            let segment = open_segment(disk, number)?;
            let file = u32::try_from(number)
                .map_err(|_| damaged(disk, number, 0, "its number is impossible".into()))?;
            let before = walked
                .last()
                .map(|file: &Walked| (file.segment.header.sequence, file.segment.end));
            let mut visit = |at: u64, frame: &super::frame::Frame<'_>| {
                let sequence = frame.header.sequence;
                // A file without frames before one with frames: `next_frame` alone would not see it in the oldest file.
                let skipped = before.is_some_and(|(_, end)| end == FIRST_FRAME);
                if skipped || next_frame.is_some_and(|expected| expected != sequence) {
                    let (bad, end) = if at == FIRST_FRAME {
                        before.unwrap_or((number, at))
                    } else {
                        (number, at)
                    };
                    let detail = format!(
                        "no sound batch is there, but batch {sequence} follows in {} at offset {at}",
                        segment_name(number)
                    );
                    return Err(damaged(disk, bad, end, detail));
                }
                next_frame = Some(sequence + 1);
                for record in frame.records() {
                    index
                        .apply(&record, file, at)
                        .map_err(|detail| damaged(disk, number, at, detail))?;
                }
                Ok(())
            };
            walked.push(walk(segment, &mut visit, &io)?);
        }

        let last = walked
            .iter()
            .rposition(|file| file.last.is_some())
            .unwrap_or(0);
        for file in &walked[last..] {
            let Segment { header, file, end } = &file.segment;
            if let Some(at) =
                frame_after(&**file, header.salt, end + ALIGNMENT as u64).map_err(io)?
            {
                let detail = format!(
                    "no sound batch is there, but another one starts behind it at offset {at}"
                );
                return Err(damaged(disk, header.sequence, *end, detail));
            }
        }
        if let Some(frame) = walked[last].last {
            index.complete().map_err(|detail| {
                damaged(disk, walked[last].segment.header.sequence, frame.at, detail)
            })?;
            rewrite(&mut walked[last].segment, frame.at).map_err(io)?;
        }
        let ready = walked
            .split_off(last + 1)
            .into_iter()
            .map(|file| file.segment)
            .collect();
        let files = walked.into_iter().map(|file| file.segment).collect();
        Ok(Self {
            files,
            ready,
            retired,
            spares,
            index,
            next_frame: next_frame.unwrap_or(1),
            oldest,
        })
    }

    /// The oldest file that is needed: the last frame of the log says so.
    fn find_oldest(disk: &dyn Disk, numbers: &[u64]) -> Result<u64, OpenError> {
        let io = |source| OpenError::Io {
            place: disk.place(),
            source,
        };
        let mut lowest = numbers[0];
        for number in numbers.iter().rev() {
            let segment = open_segment(disk, *number)?;
            lowest = segment.header.oldest;
            if let Some(frame) = walk(segment, &mut |_, _| Ok(()), &io)?.last {
                return Ok(frame.oldest);
            }
        }
        Ok(lowest)
    }
}

/// Writes the last frame once more and syncs it. It may have been read from memory that a failed or missing sync never brought to the disk,
/// and from now on it counts as durable.
fn rewrite(segment: &mut Segment, at: u64) -> io::Result<()> {
    let bytes = usize::try_from(segment.end - at).map_err(io::Error::other)?;
    let mut frame = vec![0; bytes];
    segment.file.read_exact_at(at, &mut frame)?;
    segment.file.write_at(at, &frame)?;
    segment.file.sync()
}

fn damaged(disk: &dyn Disk, number: u64, offset: u64, detail: String) -> OpenError {
    OpenError::Damaged {
        file: format!("{}/{}", disk.place(), segment_name(number)),
        offset,
        detail,
    }
}

fn open_segment(disk: &dyn Disk, number: u64) -> Result<Segment, OpenError> {
    let io = |source| OpenError::Io {
        place: disk.place(),
        source,
    };
    let name = segment_name(number);
    let file = disk.open(&name, OpenMode::Write).map_err(io)?;
    match SegmentHeader::read(&*file).map_err(io)? {
        Ok(header) if header.sequence == number => Ok(Segment {
            header,
            file,
            end: FIRST_FRAME,
        }),
        Ok(header) => Err(damaged(
            disk,
            number,
            0,
            format!("its header is that of {}", segment_name(header.sequence)),
        )),
        Err(HeaderFault::Damaged) => {
            Err(damaged(disk, number, 0, "its header is not sound".into()))
        }
        Err(HeaderFault::Version(found)) => Err(OpenError::OtherFormat {
            file: format!("{}/{name}", disk.place()),
            found,
        }),
    }
}
