//! The wire between the nodes of a [`super::Crowd`].
//!
//! Here: [`Wire`]: delay, loss (of all, or one way), retransmission of the reliable lane, a cut between two sides.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// One way in a data centre.
const DELAY: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(1));
/// First wait for an acknowledgement on the reliable lane; it doubles. A QUIC probe timeout at these round trips with the usual
/// 25 ms of delayed acknowledgements.
const RETRANSMIT: Duration = Duration::from_millis(30);
/// Tries on the reliable lane before its packet is given up.
const TRIES: u32 = 7;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Share of packets lost.
    pub(super) loss: f64,
    /// Only what nodes below it send to the others is lost.
    pub(super) one_way: Option<usize>,
    /// Nodes below it and nodes from it on do not hear each other.
    pub(super) cut: Option<usize>,
}

impl Wire {
    /// When a packet arrives; `None`: never.
    pub(super) fn delay(
        &self,
        rng: &mut ChaCha8Rng,
        from: usize,
        to: usize,
        reliable: bool,
    ) -> Option<Duration> {
        if self.cut.is_some_and(|cut| (from < cut) != (to < cut)) {
            return None;
        }
        let mut delay = rng.random_range(DELAY.0..=DELAY.1);
        let strikes = self.one_way.is_none_or(|first| from < first && to >= first);
        if self.loss == 0.0 || !strikes {
            return Some(delay);
        }
        for attempt in 0..if reliable { TRIES } else { 1 } {
            if !rng.random_bool(self.loss) {
                return Some(delay);
            }
            delay += RETRANSMIT * (1 << attempt);
        }
        None
    }
}
