//! When something is due: an indexed binary heap with one entry per key, exact to the nanosecond.
//!
//! Here: [`Timers`]. Keys are small dense numbers (slots of calls, numbers of shards). Setting and removing cost
//! O(log n), nothing stays behind, so memory follows the number of live keys and not the rate of calls.
//! Called only by `core`.

use std::time::Duration;

const ABSENT: u32 = u32::MAX;

/// Due times by key; equal times come out in the order of their keys, so that a seed replays.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<(Duration, u32)>,
    /// By key: its position in `heap`, or `ABSENT`.
    places: Vec<u32>,
}

impl Timers {
    /// The earliest due time.
    pub(super) fn earliest(&self) -> Option<Duration> {
        self.heap.first().map(|(due, _)| *due)
    }

    /// Takes the earliest key that is due at `now`.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<u32> {
        let (due, key) = *self.heap.first()?;
        if due > now {
            return None;
        }
        self.remove(key);
        Some(key)
    }

    /// Sets or moves the due time of a key.
    pub(super) fn set(&mut self, key: u32, due: Duration) {
        let index = key as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, ABSENT);
        }
        let place = self.places[index];
        let at = if place == ABSENT {
            self.heap.push((due, key));
            self.heap.len() - 1
        } else {
            self.heap[place as usize].0 = due;
            place as usize
        };
        let at = self.rise(at);
        self.sink(at);
    }

    /// Removes a key; nothing happens if it has no due time.
    pub(super) fn remove(&mut self, key: u32) {
        let Some(place) = self.places.get_mut(key as usize) else {
            return;
        };
        let at = std::mem::replace(place, ABSENT);
        if at == ABSENT {
            return;
        }
        let at = at as usize;
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.rise(at);
            self.sink(at);
        }
    }

    fn rise(&mut self, mut at: usize) -> usize {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
        at
    }

    fn sink(&mut self, mut at: usize) {
        let entry = self.heap[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1] < self.heap[child] {
                child += 1;
            }
            if entry <= self.heap[child] {
                break;
            }
            self.put(at, self.heap[child]);
            at = child;
        }
        self.put(at, entry);
    }

    fn put(&mut self, at: usize, entry: (Duration, u32)) {
        self.heap[at] = entry;
        self.places[entry.1 as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_out_by_due_time_and_then_by_number(
            steps in prop::collection::vec((0u32..40, prop::option::weighted(0.8, 0u64..100)), 1..300)
        ) {
            // STYLE 4: the same inputs give the same order; the oracle is a sorted map.
            let mut timers = Timers::default();
            let mut oracle = BTreeMap::new();
            for (key, due) in steps {
                match due {
                    Some(due) => {
                        timers.set(key, Duration::from_millis(due));
                        oracle.insert(key, Duration::from_millis(due));
                    }
                    None => {
                        timers.remove(key);
                        oracle.remove(&key);
                    }
                }
                prop_assert_eq!(timers.earliest(), oracle.values().min().copied());
            }
            let half = Duration::from_millis(50);
            let mut expected: Vec<_> =
                oracle.iter().filter(|(_, due)| **due <= half).map(|(key, due)| (*due, *key)).collect();
            expected.sort();
            let mut taken = Vec::new();
            while let Some(key) = timers.take_due(half) {
                taken.push((oracle[&key], key));
            }
            prop_assert_eq!(taken, expected);
        }
    }
}
