//! What waits for a writer thread.
//!
//! Here: [`WriteQueue`]: pushing never blocks, the writer takes everything that waits (up to a bound per turn), bytes are accounted so
//! that whoever pushes can hold credits. Used by `log_writer` and `checkpoint_writer`.
//! Not here: what is written, or who is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct Waiting<T> {
    items: Vec<(usize, T)>,
    /// Of `items`.
    bytes: usize,
    closed: bool,
    /// The writer lets items gather: only this many bytes wake it early.
    gathering: Option<usize>,
}

/// Items with their size in bytes.
pub(crate) struct WriteQueue<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
    bytes: AtomicUsize,
}

impl<T> WriteQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: Vec::new(),
                bytes: 0,
                closed: false,
                gathering: None,
            }),
            arrived: Condvar::new(),
            bytes: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner) // no code under this lock leaves the queue half-changed
    }

    /// Adds items in order. `false`, and nothing added, when the queue is closed.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = (usize, T)>) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        let before = waiting.items.len();
        waiting.items.extend(items);
        let added: usize = waiting.items[before..].iter().map(|(bytes, _)| bytes).sum();
        waiting.bytes += added;
        self.bytes.fetch_add(added, Ordering::Relaxed);
        let wake = match waiting.gathering {
            Some(enough) => waiting.bytes >= enough,
            None => before == 0 && !waiting.items.is_empty(),
        };
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    /// Lets items gather for `pause`, or until `enough` bytes wait or the queue is closed. What is pushed meanwhile does not wake the
    /// writer.
    pub(crate) fn gather(&self, pause: Duration, enough: usize) {
        let until = Instant::now() + pause;
        let mut waiting = self.lock();
        while !waiting.closed && waiting.bytes < enough {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting.gathering = Some(enough);
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.gathering = None;
    }

    /// Waits for items and moves them into `taken` (in order, at least one, else up to `most` bytes). Returns their bytes, which stay
    /// accounted until [`Self::release`]; `None` when the queue is closed and empty.
    pub(crate) fn take(&self, most: usize, taken: &mut Vec<T>) -> Option<usize> {
        let mut waiting = self.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        debug_assert_eq!(
            waiting.bytes,
            waiting.items.iter().map(|(bytes, _)| bytes).sum::<usize>(),
            "What waits is counted as it comes and goes"
        );
        let (mut count, mut bytes) = (0, 0);
        for (size, _) in &waiting.items {
            if count > 0 && bytes + size > most {
                break;
            }
            count += 1;
            bytes += size;
        }
        waiting.bytes -= bytes;
        taken.extend(waiting.items.drain(..count).map(|(_, item)| item));
        Some(bytes)
    }

    /// Gives the bytes of finished items back.
    pub(crate) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes waiting or being written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends the queue: nothing more is accepted, what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Ends the queue and forgets what waits.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.items.clear();
        self.release(std::mem::take(&mut waiting.bytes));
        drop(waiting);
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // DESIGN 13: everything waiting becomes one write; the queue is bounded in bytes by accounting.
    #[test]
    fn takes_all_that_waits_up_to_the_bound_and_accounts_until_released() {
        let queue = WriteQueue::new();
        assert!(queue.push([(10, 'a'), (10, 'b'), (10, 'c')]));
        let mut taken = Vec::new();
        assert_eq!(queue.take(25, &mut taken), Some(20));
        assert_eq!((taken.as_slice(), queue.bytes()), (&['a', 'b'][..], 30));
        queue.release(20);
        taken.clear();
        assert_eq!(
            queue.take(1, &mut taken),
            Some(10),
            "one item is taken however large"
        );
        queue.release(10);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.push([(1, 'd')]));
        queue.close();
        assert!(!queue.push([(1, 'e')]));
        taken.clear();
        assert_eq!(
            queue.take(25, &mut taken),
            Some(1),
            "what waits is still taken"
        );
        assert_eq!(queue.take(25, &mut taken), None);
    }

    // Section 13: what gathers is bounded in bytes as well as in time, and a node that stops does not wait.
    #[test]
    fn gathering_ends_with_enough_bytes_or_the_end_of_the_queue() {
        let queue = std::sync::Arc::new(WriteQueue::new());
        let ever = Duration::from_secs(3_600);
        let gatherer = |queue: &std::sync::Arc<WriteQueue<char>>| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.gather(ever, 20))
        };
        let gathering = gatherer(&queue);
        assert!(queue.push([(10, 'a')]));
        assert!(queue.push([(10, 'b')]));
        gathering.join().unwrap();
        let mut taken = Vec::new();
        assert_eq!(queue.take(25, &mut taken), Some(20));
        let gathering = gatherer(&queue);
        queue.close();
        gathering.join().unwrap();
    }
}
