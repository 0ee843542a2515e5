//! Which replies wait, and for what.
//!
//! Every reply waits until the newest batch that could have influenced it is applied (E6); one without an entry of its
//! own also waits for a read round that was begun after its request arrived (E7: acknowledgements sent before a
//! partition prove nothing about now).
//!
//! Here: [`Gates`]. Not here: what is released (`leadership`), how a round is run (`synod-consensus`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Pause before a failed read round is repeated.
const READ_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Gates<T> {
    by_batch: BTreeMap<u64, Vec<(u64, T)>>,
    by_read: BTreeMap<u64, Vec<T>>,
    ready: VecDeque<T>,
    batch_done: u64,
    read_done: u64,
    /// The round that the next request may wait for; not begun yet.
    next_read: u64,
    wanted: bool,
    reads_in_flight: usize,
    retry_at: Option<Duration>,
}

/// The round of a reply that needs none.
pub(super) const NO_READ: u64 = 0;

impl<T> Gates<T> {
    pub(super) fn new() -> Self {
        Self {
            by_batch: BTreeMap::new(),
            by_read: BTreeMap::new(),
            ready: VecDeque::new(),
            batch_done: 0,
            read_done: 0,
            next_read: 1,
            wanted: false,
            reads_in_flight: 0,
            retry_at: None,
        }
    }

    /// The round that a request arriving now has to wait for.
    pub(super) fn next_read(&self) -> u64 {
        self.next_read
    }

    pub(super) fn batch_done(&self) -> u64 {
        self.batch_done
    }

    /// Holds `release` until `batch` is applied and round `read` is done.
    pub(super) fn add(&mut self, batch: u64, read: u64, release: T) {
        if read == self.next_read {
            self.wanted = true;
        }
        if batch > self.batch_done {
            self.by_batch
                .entry(batch)
                .or_default()
                .push((read, release));
        } else if read > self.read_done {
            self.by_read.entry(read).or_default().push(release);
        } else {
            self.ready.push_back(release);
        }
    }

    pub(super) fn batch_applied(&mut self, batch: u64) {
        self.batch_done = self.batch_done.max(batch);
        while let Some(first) = self.by_batch.first_entry() {
            if *first.key() > self.batch_done {
                break;
            }
            for (read, release) in first.remove() {
                if read > self.read_done {
                    self.by_read.entry(read).or_default().push(release);
                } else {
                    self.ready.push_back(release);
                }
            }
        }
    }

    /// The round to begin now, if anybody waits for one.
    pub(super) fn begin_read(&mut self, now: Duration, most: usize) -> Option<u64> {
        if !self.wanted || self.reads_in_flight >= most || self.retry_at.is_some_and(|at| at > now)
        {
            return None;
        }
        self.retry_at = None;
        self.wanted = false;
        self.reads_in_flight += 1;
        let read = self.next_read;
        self.next_read += 1;
        Some(read)
    }

    /// A round that was begun later proves what an earlier one would have.
    pub(super) fn read_ready(&mut self, read: u64) {
        self.reads_in_flight = self.reads_in_flight.saturating_sub(1);
        self.read_done = self.read_done.max(read);
        while let Some(first) = self.by_read.first_entry() {
            if *first.key() > self.read_done {
                break;
            }
            self.ready.extend(first.remove());
        }
    }

    /// Whoever waited for the failed round waits for the next one.
    pub(super) fn read_failed(&mut self, now: Duration) {
        self.reads_in_flight = self.reads_in_flight.saturating_sub(1);
        self.wanted = true;
        self.retry_at = Some(now + READ_PAUSE);
    }

    /// When a failed round should be repeated.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        if self.wanted { self.retry_at } else { None }
    }

    pub(super) fn next_ready(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Takes back everything that waits for `batch` or a later one: those will never be.
    pub(super) fn withdraw_from(&mut self, batch: u64) -> Vec<T> {
        self.by_batch
            .split_off(&batch)
            .into_values()
            .flatten()
            .map(|(_, release)| release)
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_batch.is_empty() && self.by_read.is_empty() && self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begun_before_the_request_arrived_does_not_release_it() {
        // E7: acknowledgements on their way since before a partition prove nothing about the moment of the query.
        let mut gates = Gates::new();
        gates.add(0, gates.next_read(), "first");
        assert_eq!(gates.begin_read(Duration::ZERO, 4), Some(1));
        gates.add(0, gates.next_read(), "second");
        gates.read_ready(1);
        assert_eq!(gates.next_ready(), Some("first"));
        assert_eq!(gates.next_ready(), None);
        assert_eq!(gates.begin_read(Duration::ZERO, 4), Some(2));
        gates.read_ready(2);
        assert_eq!(gates.next_ready(), Some("second"));
        assert!(gates.is_empty());
    }

    #[test]
    fn a_reply_waits_for_its_batch_and_its_round_in_any_order() {
        // E6 and E7 together.
        let mut gates = Gates::new();
        let read = gates.next_read();
        gates.add(1, read, "a");
        gates.add(1, NO_READ, "b");
        assert_eq!(gates.begin_read(Duration::ZERO, 4), Some(1));
        gates.batch_applied(1);
        assert_eq!(gates.next_ready(), Some("b"));
        assert_eq!(gates.next_ready(), None);
        gates.read_failed(Duration::ZERO);
        assert_eq!(gates.begin_read(Duration::ZERO, 4), None);
        assert_eq!(gates.begin_read(READ_PAUSE, 4), Some(2));
        gates.read_ready(2);
        assert_eq!(gates.next_ready(), Some("a"));
    }
}
