//! How much this node trusts itself.
//!
//! Here: [`Health`], Lifeguard's local health multiplier: a node that misses what it should have heard slows its own probes down
//! instead of accusing others. Source: Lifeguard, section 3 (LHA-Probe).

use core::time::Duration;

/// Lifeguard's S: the slowest probe takes nine times as long.
const WORST: u32 = 8;

/// 0 is healthy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health(u32);

impl Health {
    /// A probe failed for reasons that may lie here, a suspicion of the own store was refuted, or the own timer was late.
    pub(crate) fn raise(&mut self, by: usize) {
        self.0 = self.0.saturating_add(by as u32).min(WORST);
    }

    /// A probe was answered.
    pub(crate) fn lower(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(crate) fn score(self) -> u32 {
        self.0
    }

    /// `healthy (1 + h)`.
    pub(crate) fn scale(self, healthy: Duration) -> Duration {
        healthy * (1 + self.0)
    }
}
