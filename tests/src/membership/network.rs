//! What the wire does to packets.
//!
//! Here: [`Network`]: loss, duplication, delay, reordering, damage, cuts (both ways, one way, loud or silent). Reliable packets
//! are late instead of lost, except over a cut. Not here: who is up ([`super::world`]).

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod_membership::StoreId;

/// The faults in force.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) loss: f64,
    pub(super) duplication: f64,
    /// Share of packets that take up to a probe interval.
    pub(super) stragglers: f64,
    /// Share of datagrams with a flipped bit.
    pub(super) damage: f64,
    delay: (Duration, Duration),
    straggle: Duration,
    pub(super) cuts: Vec<Cut>,
}

/// Nothing gets from one side to the other.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) number: u64,
    pub(super) from: BTreeSet<StoreId>,
    pub(super) to: BTreeSet<StoreId>,
    /// The sender's system says so ("network unreachable").
    pub(super) loud: bool,
}

/// What becomes of one packet.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Delay of each copy that arrives.
    pub(super) arrivals: Vec<Duration>,
    pub(super) refused: bool,
}

impl Network {
    pub(super) fn from_seed(rng: &mut ChaCha8Rng, interval: Duration) -> Self {
        let least = Duration::from_micros(rng.random_range(50..1_000));
        Self {
            loss: [0.0, 0.01, 0.1, 0.25][rng.random_range(0..4)],
            duplication: rng.random_range(0.0..0.05),
            stragglers: rng.random_range(0.0..0.02),
            damage: [0.0, 0.002][rng.random_range(0..2)],
            delay: (least, least * rng.random_range(2..20)),
            straggle: interval,
            cuts: Vec::new(),
        }
    }

    pub(super) fn calm(&mut self) {
        (self.loss, self.duplication, self.stragglers, self.damage) = (0.0, 0.0, 0.0, 0.0);
        self.cuts.clear();
    }

    pub(super) fn fate(
        &self,
        rng: &mut ChaCha8Rng,
        from: StoreId,
        to: StoreId,
        reliable: bool,
    ) -> Fate {
        if let Some(cut) = self
            .cuts
            .iter()
            .find(|cut| cut.from.contains(&from) && cut.to.contains(&to))
        {
            return Fate {
                refused: cut.loud,
                ..Fate::default()
            };
        }
        let mut fate = Fate::default();
        let lost = rng.random_bool(self.loss);
        if lost && !reliable {
            return fate;
        }
        let mut delay = rng.random_range(self.delay.0..=self.delay.1);
        if lost {
            delay += self.delay.1 * 4; // sent again
        }
        if rng.random_bool(self.stragglers) {
            delay += self.straggle.mul_f64(rng.random());
        }
        fate.arrivals.push(delay);
        if !reliable && rng.random_bool(self.duplication) {
            fate.arrivals
                .push(delay + self.straggle.mul_f64(rng.random()));
        }
        fate
    }
}
