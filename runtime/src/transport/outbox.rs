//! What waits to be sent to one peer, and the bell that tells the transport's thread.
//!
//! Here: a bounded queue per lane, one for datagrams, and [`Bell`]. Any thread puts in; only the transport's thread takes
//! out. Not here: connections. A queue belongs to the peer and not to a connection, so what was not yet given to one
//! connection leaves by the next.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Lane, Limits, frame::HEADER_BYTES};

/// The bit of the datagram queue in [`Outbox::dirty`]; lanes have the bits of their indexes.
const DATAGRAMS_BIT: u8 = 1 << Lane::ALL.len();

/// The queues of one peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lanes: [Mutex<Queue>; Lane::ALL.len()],
    datagrams: Mutex<VecDeque<Bytes>>,
    /// Which queues got something since the thread last looked.
    dirty: AtomicU8,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// The queue holds its bound already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// Whether the bell must be rung for this outbox, or has been since the thread last looked.
pub(super) type MustRing = bool;

impl Outbox {
    /// Queues all of `frames` or none.
    pub(super) fn push(
        &self,
        lane: Lane,
        frames: Vec<Bytes>,
        limits: &Limits,
    ) -> Result<MustRing, Full> {
        let bytes: usize = frames.iter().map(|frame| frame.len() + HEADER_BYTES).sum();
        let mut queue = lock(&self.lanes[lane.index()]);
        if !queue.frames.is_empty()
            && (queue.frames.len() + frames.len() > limits.queue_frames
                || queue.bytes + bytes > limits.queue_bytes)
        {
            return Err(Full);
        }
        queue.bytes += bytes;
        if queue.frames.is_empty() {
            queue.frames = frames.into(); // no copy: the usual case of one burst at a time
        } else {
            queue.frames.extend(frames);
        }
        drop(queue);
        Ok(self.mark(1 << lane.index()))
    }

    /// Queues a datagram.
    pub(super) fn push_datagram(&self, datagram: Bytes, limits: &Limits) -> Result<MustRing, Full> {
        let mut queue = lock(&self.datagrams);
        if queue.len() >= limits.queue_datagrams {
            return Err(Full);
        }
        queue.push_back(datagram);
        drop(queue);
        Ok(self.mark(DATAGRAMS_BIT))
    }

    fn mark(&self, bit: u8) -> MustRing {
        self.dirty.fetch_or(bit, Ordering::AcqRel) == 0
    }

    /// The lanes that got something since the last call, and whether there are datagrams.
    pub(super) fn take_dirty(&self) -> (impl Iterator<Item = Lane> + use<>, bool) {
        let dirty = self.dirty.swap(0, Ordering::AcqRel);
        let lanes = Lane::ALL
            .into_iter()
            .filter(move |lane| dirty & (1 << lane.index()) != 0);
        (lanes, dirty & DATAGRAMS_BIT != 0)
    }

    /// The oldest frames of a lane, about `bytes` of them and at least one if any waits.
    pub(super) fn take(&self, lane: Lane, bytes: usize) -> Vec<Bytes> {
        let mut queue = lock(&self.lanes[lane.index()]);
        if queue.bytes <= bytes {
            queue.bytes = 0;
            return std::mem::take(&mut queue.frames).into();
        }
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < bytes
            && let Some(frame) = queue.frames.pop_front()
        {
            sum += frame.len() + HEADER_BYTES;
            taken.push(frame);
        }
        queue.bytes -= sum;
        taken
    }

    /// All datagrams that wait.
    pub(super) fn take_datagrams(&self) -> VecDeque<Bytes> {
        std::mem::take(&mut *lock(&self.datagrams))
    }

    /// Whether any frame waits in these lanes.
    pub(super) fn waits(&self, mut lanes: impl Iterator<Item = Lane>) -> bool {
        lanes.any(|lane| !lock(&self.lanes[lane.index()]).frames.is_empty())
    }

    /// Whether any datagram waits.
    pub(super) fn datagrams_wait(&self) -> bool {
        !lock(&self.datagrams).is_empty()
    }

    /// Forgets what waits in these lanes and the datagrams; returns how many it was.
    pub(super) fn clear(&self, lanes: impl Iterator<Item = Lane>) -> usize {
        let frames: usize = lanes
            .map(|lane| {
                std::mem::take(&mut *lock(&self.lanes[lane.index()]))
                    .frames
                    .len()
            })
            .sum();
        frames + self.take_datagrams().len()
    }
}

/// Tells the transport's thread which outboxes have something. However many threads ring while it is busy or waking, it
/// is woken once: a wake-up across threads is a system call.
#[derive(Debug)]
pub(super) struct Bell<T> {
    list: Mutex<Vec<Arc<T>>>,
    rung: AtomicBool,
    notify: Notify,
}

impl<T> Default for Bell<T> {
    fn default() -> Self {
        Self {
            list: Mutex::default(),
            rung: AtomicBool::new(false),
            notify: Notify::new(),
        }
    }
}

impl<T> Bell<T> {
    /// Puts `who` on the list; true when this woke the thread.
    pub(super) fn ring(&self, who: Arc<T>) -> bool {
        lock(&self.list).push(who);
        let first = !self.rung.swap(true, Ordering::AcqRel);
        if first {
            self.notify.notify_one();
        }
        first
    }

    /// Waits until somebody is on the list and takes it.
    pub(super) async fn answer(&self) -> Vec<Arc<T>> {
        self.notify.notified().await;
        // First this, then the list: whoever comes between the two is in the list already or rings again.
        self.rung.store(false, Ordering::Release);
        std::mem::take(&mut *lock(&self.list))
    }
}

/// Locks; what is under these locks is whole between any two statements, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            queue_frames: 4,
            queue_bytes: 100,
            queue_datagrams: 2,
            ..Limits::default()
        }
    }

    fn frames(n: usize, bytes: usize) -> Vec<Bytes> {
        vec![Bytes::from(vec![0; bytes]); n]
    }

    #[test]
    fn a_queue_at_its_bound_refuses_all_of_the_frames_or_takes_all() {
        // STYLE 14: every queue has a named bound.
        let outbox = Outbox::default();
        outbox.push(Lane::Raft, frames(3, 1), &limits()).unwrap();
        assert_eq!(outbox.push(Lane::Raft, frames(2, 1), &limits()), Err(Full));
        outbox.push(Lane::Raft, frames(1, 1), &limits()).unwrap();
        assert_eq!(outbox.take(Lane::Raft, usize::MAX).len(), 4);

        outbox.push(Lane::Raft, frames(1, 60), &limits()).unwrap();
        assert_eq!(
            outbox.push(Lane::Raft, frames(1, 60), &limits()),
            Err(Full),
            "60 + 60 > 100 bytes"
        );
        outbox
            .push(Lane::Request, frames(1, 60), &limits())
            .unwrap(); // bounds are per lane

        outbox.push_datagram(Bytes::new(), &limits()).unwrap();
        outbox.push_datagram(Bytes::new(), &limits()).unwrap();
        assert_eq!(outbox.push_datagram(Bytes::new(), &limits()), Err(Full));
    }

    #[test]
    fn one_frame_fits_into_an_empty_queue_whatever_its_size() {
        // Otherwise a frame between queue_bytes and frame_bytes could never be sent.
        Outbox::default()
            .push(Lane::Bulk, frames(1, 1_000), &limits())
            .unwrap();
    }

    #[test]
    fn a_burst_rings_once() {
        // Section 12: one notify per burst, not per frame.
        let outbox = Outbox::default();
        assert_eq!(outbox.push(Lane::Raft, frames(1, 1), &limits()), Ok(true));
        assert_eq!(outbox.push(Lane::Raft, frames(1, 1), &limits()), Ok(false));
        assert_eq!(outbox.push(Lane::Reply, frames(1, 1), &limits()), Ok(false));
        let (lanes, datagrams) = outbox.take_dirty();
        assert_eq!(
            (lanes.collect::<Vec<_>>(), datagrams),
            (vec![Lane::Raft, Lane::Reply], false)
        );
        assert_eq!(
            outbox.push(Lane::Raft, frames(1, 1), &limits()),
            Ok(true),
            "the thread has looked in between"
        );
    }

    #[test]
    fn frames_leave_in_order_and_in_pieces() {
        let outbox = Outbox::default();
        let limits = Limits::default();
        let numbered: Vec<Bytes> = (0..10_u8).map(|n| Bytes::from(vec![n; 10])).collect();
        outbox
            .push(Lane::Raft, numbered[..4].to_vec(), &limits)
            .unwrap();
        outbox
            .push(Lane::Raft, numbered[4..].to_vec(), &limits)
            .unwrap();
        let mut taken = Vec::new();
        loop {
            let piece = outbox.take(Lane::Raft, 30);
            assert!(piece.len() <= 3);
            if piece.is_empty() {
                break;
            }
            taken.extend(piece);
        }
        assert_eq!(taken, numbered);
    }
}
