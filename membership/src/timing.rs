//! Every duration of the machine, from one formula of the number of members.
//!
//! Here: [`Timing`]. With `I` = probe interval, `T` = probe timeout, `N` = members that are alive or suspect, the own one
//! included, `L` = max(1, log10 N), `h` = local health (0 healthy ..= 8):
//!
//! | duration | formula | LAN, N = 10 / 100 / 1,000 |
//! |---|---|---|
//! | one probe | `I (1 + h)` | 500 ms |
//! | direct probe gives up, helpers and reliable lane are asked | `T (1 + h)` | 200 ms |
//! | a helper answers with a nack | `T` | 200 ms |
//! | gossip round, while there is news | `I / 5`, half of it while there is more than one round takes | 100 ms |
//! | suspicion, enough accusers | `suspicion_intervals I L` | 1.5 s / 3 s / 4.5 s |
//! | suspicion, a lone accuser | `suspicion_lone_factor` times that | 4.5 s / 9 s / 13.5 s |
//! | suspicion, enough accusers, of a member that refuted one within `120 I` | twice that, at most a lone accuser's | 3 s / 6 s / 9 s |
//! | accusers beyond the first that are enough | `min(2, N - 2)` | 2 |
//! | transmissions of one rumour per node | `retransmit_factor ceil(log10(N + 1))` | 8 / 12 / 16 |
//! | a dead member is called again | `4 I` | 2 s |
//! | between two syncs that one node starts | `2 I`, doubled up to five times while they bear no fruit | 1 s |
//! | a peer that still differs is synced with | after `I / 2` | 250 ms |
//! | a member that returned from the dead for the third time is held down | `20 I`, doubled each time, up to five times | 10 s |
//! | returns from the dead belong together | within `240 I` | 2 min |
//! | a degraded node accuses nobody, then isolates itself | for `60 I` | 30 s |
//!
//! A member that was suspected and answered lately is slow rather than gone, so it gets more time: a starved node is held for dead far
//! more seldom, and a crash out of good health is known as soon as ever. Between none and enough accusers the suspicion shrinks with the logarithm of their number (Lifeguard, section 4).

use core::time::Duration;

use crate::options::CheckedSwimOptions;

/// Who refuted a suspicion within so many probe intervals gets more time the next time.
const REFUTED_INTERVALS: u32 = 120;
/// So many times as much.
const PATIENCE: u32 = 2;

/// The durations and counts in force at one size of the membership.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Between two probes of a healthy node.
    pub probe_interval: Duration,
    /// Until a probe of a healthy node asks helpers.
    pub probe_timeout: Duration,
    /// Between two rounds of gossip while there is news.
    pub gossip_interval: Duration,
    /// Suspicion that enough members confirm.
    pub suspicion_least: Duration,
    /// Suspicion by one member alone.
    pub suspicion_most: Duration,
    /// Accusers beyond the first that are enough for the shortest suspicion.
    pub confirmations: usize,
    /// How often a node sends one rumour.
    pub retransmits: u32,
    /// A refutation within this time earns the next suspicion more time.
    pub refuted_memory: Duration,
    /// Between two calls to dead members.
    pub reconnect_interval: Duration,
    /// Between two syncs that one node starts.
    pub sync_interval: Duration,
}

impl Timing {
    /// The formula. `members` counts the living and the suspected, the own store included.
    pub fn of(options: &CheckedSwimOptions, members: usize) -> Self {
        let members = members.max(1);
        let magnitude = (members as f64).log10().max(1.0);
        let suspicion_least = options
            .probe_interval
            .mul_f64(f64::from(options.suspicion_intervals) * magnitude);
        Self {
            probe_interval: options.probe_interval,
            probe_timeout: options.probe_timeout,
            gossip_interval: options.probe_interval / 5,
            suspicion_least,
            suspicion_most: suspicion_least * options.suspicion_lone_factor,
            confirmations: members.saturating_sub(2).min(2),
            retransmits: Self::retransmits_of(options, members),
            reconnect_interval: options.probe_interval * 4,
            refuted_memory: options.probe_interval * REFUTED_INTERVALS,
            sync_interval: options.probe_interval * 2,
        }
    }

    /// [`Timing::retransmits`] alone, for every packet.
    pub(crate) fn retransmits_of(options: &CheckedSwimOptions, members: usize) -> u32 {
        let members = members.max(1);
        options.retransmit_factor * (members.ilog10() + 1) // ceil(log10(N + 1)), exactly
    }

    /// The same for a member that refuted a suspicion of late.
    pub(crate) fn with_patience(self) -> Self {
        let suspicion_least = (self.suspicion_least * PATIENCE).min(self.suspicion_most);
        Self {
            suspicion_least,
            ..self
        }
    }

    /// How long a suspicion lasts with `confirmations` independent accusers beyond the first.
    pub fn suspicion(&self, confirmations: usize) -> Duration {
        if confirmations >= self.confirmations {
            return self.suspicion_least;
        }
        let share = ((confirmations + 1) as f64).ln() / ((self.confirmations + 1) as f64).ln();
        self.suspicion_most - (self.suspicion_most - self.suspicion_least).mul_f64(share)
    }
}
