//! Wires between stores that lose, delay and reorder, and that can be cut, also in one direction only.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A link, from one store to another.
pub(super) type Link = (u64, u64);

/// How bad the wires of one world are.
#[derive(Clone, Debug)]
pub(super) struct Network {
    loss: f64,
    late: f64,
    latency: Duration,
    /// Cut links: how many faults cut each, and since when it is cut.
    cut: BTreeMap<Link, (u32, Duration)>,
    /// Stores whose every message takes so much longer.
    slow: BTreeMap<u64, Duration>,
    /// Share of lost frames between nodes that no replica sends again.
    pub(super) frames_lost: f64,
    /// When what was sent last in order arrives.
    streams: BTreeMap<Link, Duration>,
    healed: bool,
}

impl Network {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self {
            loss: [0.0, 0.002, 0.01, 0.04][rng.random_range(0..4)],
            late: [0.0, 0.002, 0.02][rng.random_range(0..3)],
            latency: Duration::from_micros(rng.random_range(100..3_000)),
            cut: BTreeMap::new(),
            slow: BTreeMap::new(),
            frames_lost: 0.0,
            streams: BTreeMap::new(),
            healed: false,
        }
    }

    /// Faults are over: every message arrives once and soon.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.frames_lost = 0.0;
        self.healed = true;
    }

    pub(super) fn cut(&mut self, links: &[Link], now: Duration) {
        for link in links {
            self.cut.entry(*link).or_insert((0, now)).0 += 1;
        }
    }

    pub(super) fn mend(&mut self, links: &[Link]) {
        for link in links {
            if let Some((count, _)) = self.cut.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(link);
                }
            }
        }
    }

    pub(super) fn slow(&mut self, store: u64, by: Option<Duration>) {
        match by {
            Some(by) => self.slow.insert(store, by),
            None => self.slow.remove(&store),
        };
    }

    /// Since when nothing arrives on a link.
    pub(super) fn cut_since(&self, link: Link) -> Option<Duration> {
        self.cut.get(&link).map(|(_, since)| *since)
    }

    fn joined(&self, a: u64, b: u64) -> bool {
        !self.cut.contains_key(&(a, b)) && !self.cut.contains_key(&(b, a))
    }

    /// Who reaches whom, over others if need be.
    pub(super) fn circles(&self, stores: &[u64]) -> Vec<BTreeSet<u64>> {
        if self.cut.is_empty() {
            return vec![stores.iter().copied().collect()];
        }
        let mut left: BTreeSet<u64> = stores.iter().copied().collect();
        let mut circles = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut circle = BTreeSet::from([first]);
            let mut open = vec![first];
            while let Some(one) = open.pop() {
                let near: Vec<u64> = { left.iter().copied() }
                    .filter(|other| self.joined(one, *other))
                    .collect();
                for other in near {
                    left.remove(&other);
                    circle.insert(other);
                    open.push(other);
                }
            }
            circles.push(circle);
        }
        circles
    }

    /// When something arrives that would come at `at`, and overtakes nothing that was sent in order before.
    pub(super) fn in_order(&mut self, link: Link, at: Duration) -> Duration {
        let last = self.streams.entry(link).or_default();
        *last = at.max(*last);
        *last
    }

    /// Whether a frame is lost with the connection that it was handed over to.
    pub(super) fn loses_frame(&self, rng: &mut ChaCha8Rng) -> bool {
        self.frames_lost > 0.0 && rng.random_bool(self.frames_lost)
    }

    /// How long a message is on its way; `None`: it is lost.
    pub(super) fn carry(&self, rng: &mut ChaCha8Rng, link: Link) -> Option<Duration> {
        if self.cut.contains_key(&link) {
            return None;
        }
        let latency = self.latency.as_micros() as u64;
        let way = Duration::from_micros(rng.random_range(latency / 2..latency * 2));
        if self.healed {
            return Some(way);
        }
        if rng.random_bool(self.loss) {
            return None;
        }
        let late = match rng.random_bool(self.late) {
            true => Duration::from_millis(rng.random_range(5..1_500)),
            false => Duration::ZERO,
        };
        let slow = |store| self.slow.get(&store).copied().unwrap_or_default();
        Some(way + late + slow(link.0) + slow(link.1))
    }
}
