//! Wires that lose, delay, double and reorder, and that can be cut, also in one direction only.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod_consensus::ReplicaId;

/// How bad the wires of one world are.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    loss: f64,
    doubled: f64,
    late: f64,
    latency: Duration,
    /// Cut links and how many faults cut each.
    cut: BTreeMap<(ReplicaId, ReplicaId), u32>,
    /// Links that are slow, by how much, and how many faults slow each.
    slow: BTreeMap<(ReplicaId, ReplicaId), (Duration, u32)>,
    healed: bool,
}

impl Network {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self {
            loss: [0.002, 0.01, 0.04, 0.1][rng.random_range(0..4)],
            doubled: [0.002, 0.02, 0.08][rng.random_range(0..3)],
            late: [0.001, 0.01, 0.05][rng.random_range(0..3)],
            latency: Duration::from_micros(rng.random_range(50..3_000)),
            cut: BTreeMap::new(),
            slow: BTreeMap::new(),
            healed: false,
        }
    }

    /// Faults are over: every message arrives once and soon.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.healed = true;
    }

    pub(crate) fn cut(&mut self, links: &[(ReplicaId, ReplicaId)]) {
        for link in links {
            *self.cut.entry(*link).or_default() += 1;
        }
    }

    pub(crate) fn mend(&mut self, links: &[(ReplicaId, ReplicaId)]) {
        for link in links {
            if let Some(count) = self.cut.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(link);
                }
            }
        }
    }

    /// Makes links slower by so much; of two that slow a link the greater counts.
    pub(crate) fn congest(&mut self, links: &[(ReplicaId, ReplicaId)], by: Duration) {
        for link in links {
            let (most, count) = self.slow.entry(*link).or_default();
            *most = by.max(*most);
            *count += 1;
        }
    }

    pub(crate) fn relieve(&mut self, links: &[(ReplicaId, ReplicaId)]) {
        for link in links {
            if let Some((_, count)) = self.slow.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.slow.remove(link);
                }
            }
        }
    }

    /// When each copy of a message arrives; empty: it is lost.
    pub(crate) fn carry(
        &self,
        rng: &mut ChaCha8Rng,
        from: ReplicaId,
        to: ReplicaId,
    ) -> Vec<Duration> {
        if self.cut.contains_key(&(from, to)) {
            return Vec::new();
        }
        let latency = self.latency.as_micros() as u64;
        let delay = |rng: &mut ChaCha8Rng| {
            Duration::from_micros(rng.random_range(latency / 2..latency * 2))
        };
        if self.healed {
            return vec![delay(rng)];
        }
        if rng.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = if rng.random_bool(self.doubled) { 2 } else { 1 };
        let queued = match self.slow.get(&(from, to)) {
            Some((by, _)) => by.mul_f64(rng.random_range(0.8..1.0)),
            None => Duration::ZERO,
        };
        let arrival = |_| {
            let late = if rng.random_bool(self.late) {
                Duration::from_millis(rng.random_range(5..1_500))
            } else {
                Duration::ZERO
            };
            delay(rng) + late + queued
        };
        (0..copies).map(arrival).collect()
    }
}
