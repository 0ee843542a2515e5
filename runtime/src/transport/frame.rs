//! Frames on a stream: a four-byte length (little endian), then that many bytes.
//!
//! Here: the opening of a lane's stream, packing many frames into few writes, and taking them apart again with the
//! length checked before anything is allocated. Pure. Not here: what is in a frame, queues (`outbox`).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::Lane;

/// Bytes of the length in front of a frame.
pub(super) const HEADER_BYTES: usize = 4;
/// Up to this length a frame is copied beside its neighbours, so that many leave as one piece; a longer one is passed on
/// by reference. quinn keeps one segment per piece and walks them.
const COPY_BYTES: usize = 4_096;
/// What is allocated at first for a frame that came in part; more only as more of it arrives.
const FIRST_ALLOCATION_BYTES: usize = 64 << 10;

/// The first bytes of a lane's stream: a mark, the protocol version, the lane.
pub(super) fn opening(version: u16, lane: Lane) -> [u8; OPENING_BYTES] {
    let version = version.to_le_bytes();
    [b'S', b'Y', version[0], version[1], lane as u8]
}

/// Length of [`opening`].
pub(super) const OPENING_BYTES: usize = 5;

/// The lane that an opening names, if it is one of this protocol version.
pub(super) fn read_opening(bytes: [u8; OPENING_BYTES], version: u16) -> Option<Lane> {
    let [b'S', b'Y', low, high, lane] = bytes else {
        return None;
    };
    if u16::from_le_bytes([low, high]) == version {
        Lane::from_wire(lane)
    } else {
        None
    }
}

/// Appends `frames` with their lengths to `pieces`, in as few pieces as possible.
pub(super) fn pack(frames: &[Bytes], pieces: &mut Vec<Bytes>) {
    let copied = |frame: &Bytes| {
        if frame.len() <= COPY_BYTES {
            frame.len()
        } else {
            0
        }
    };
    let mut small = BytesMut::with_capacity(
        frames
            .iter()
            .map(|frame| HEADER_BYTES + copied(frame))
            .sum(),
    );
    for frame in frames {
        small.put_u32_le(u32::try_from(frame.len()).expect("frames are limited far below 4 GiB"));
        if frame.len() <= COPY_BYTES {
            small.put_slice(frame);
        } else {
            pieces.push(small.split().freeze());
            pieces.push(frame.clone());
        }
    }
    if !small.is_empty() {
        pieces.push(small.freeze());
    }
}

/// One frame with its length, in one piece.
pub(super) fn single(frame: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + frame.len());
    bytes.put_u32_le(u32::try_from(frame.len()).expect("frames are limited far below 4 GiB"));
    bytes.put_slice(frame);
    bytes.freeze()
}

/// A length above the limit. The rest of the stream cannot be understood any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a frame of {bytes} bytes is above the limit of {limit} bytes")]
pub(super) struct FrameTooLong {
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// Puts a stream's bytes back together into frames.
#[derive(Debug)]
pub(super) struct Unpacker {
    limit: usize,
    header: BytesMut,
    /// The frame that has come in part, and its whole length.
    partial: Option<(BytesMut, usize)>,
}

impl Unpacker {
    /// Takes no frame above `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            header: BytesMut::with_capacity(HEADER_BYTES),
            partial: None,
        }
    }

    /// Takes the next bytes of the stream and appends every frame that is whole now. A frame that lies in one chunk
    /// shares its memory.
    pub(super) fn push(
        &mut self,
        mut chunk: Bytes,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), FrameTooLong> {
        loop {
            if let Some((mut body, length)) = self.partial.take() {
                let part = chunk.split_to(chunk.len().min(length - body.len()));
                body.extend_from_slice(&part);
                if body.len() < length {
                    self.partial = Some((body, length));
                    return Ok(());
                }
                frames.push(body.freeze());
            }
            if chunk.is_empty() {
                return Ok(());
            }
            let length = if self.header.is_empty() && chunk.len() >= HEADER_BYTES {
                chunk.get_u32_le()
            } else {
                let part = chunk.split_to(chunk.len().min(HEADER_BYTES - self.header.len()));
                self.header.extend_from_slice(&part);
                if self.header.len() < HEADER_BYTES {
                    return Ok(());
                }
                let length = (&self.header[..]).get_u32_le();
                self.header.clear();
                length
            };
            let length = length as usize;
            if length > self.limit {
                return Err(FrameTooLong {
                    bytes: length,
                    limit: self.limit,
                });
            }
            if chunk.len() >= length {
                frames.push(chunk.split_to(length));
            } else {
                self.partial = Some((
                    BytesMut::with_capacity(length.min(FIRST_ALLOCATION_BYTES)),
                    length,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn unpack(limit: usize, chunks: &[&[u8]]) -> Result<Vec<Bytes>, FrameTooLong> {
        let (mut unpacker, mut frames) = (Unpacker::new(limit), Vec::new());
        chunks
            .iter()
            .try_for_each(|chunk| unpacker.push(Bytes::copy_from_slice(chunk), &mut frames))?;
        Ok(frames)
    }

    proptest! {
        // DESIGN 12: length-limited frames, many together; how the bytes are cut on the way does not matter.
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            lengths in prop::collection::vec(prop::sample::select(vec![0, 1, 3, 4, 5, 100, 4_096, 4_097, 9_000]), 0..12),
            cuts in prop::collection::vec(1_usize..5_000, 1..64),
        ) {
            let frames: Vec<Bytes> = lengths.iter().enumerate().map(|(i, n)| Bytes::from(vec![i as u8; *n])).collect();
            let mut pieces = Vec::new();
            pack(&frames, &mut pieces);
            let stream = pieces.concat();
            let (mut rest, mut chunks, mut cut) = (stream.as_slice(), Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(unpack(9_000, &chunks).unwrap(), frames);
        }

        // M44: whatever arrives, no panic, and no frame above the limit.
        #[test]
        fn garbage_never_gives_a_frame_above_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            limit in prop::sample::select(vec![0_usize, 1, 16, 300]),
        ) {
            if let Ok(frames) = unpack(limit, &[&bytes]) {
                prop_assert!(frames.iter().all(|frame| frame.len() <= limit));
            }
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
        // M44: bounds before decode.
        let error = unpack(1_000, &[&1_001_u32.to_le_bytes()]).unwrap_err();
        assert_eq!(
            error,
            FrameTooLong {
                bytes: 1_001,
                limit: 1_000
            }
        );
    }

    #[test]
    fn small_frames_leave_as_one_piece() {
        // The point of packing: 1,000 frames, one segment in quinn's send buffer.
        let (frames, mut pieces) = (vec![Bytes::from_static(b"beat"); 1_000], Vec::new());
        pack(&frames, &mut pieces);
        assert_eq!(pieces.len(), 1);
    }

    #[test]
    fn an_opening_of_another_version_or_an_unknown_lane_is_refused() {
        // DESIGN 12: versioned frames.
        assert_eq!(
            read_opening(opening(1, Lane::Gossip), 1),
            Some(Lane::Gossip)
        );
        assert_eq!(read_opening(opening(2, Lane::Gossip), 1), None);
        assert_eq!(read_opening([b'S', b'Y', 1, 0, 9], 1), None);
        assert_eq!(read_opening(*b"GET /", 1), None);
    }
}
