//! The clock of one process: it began at some time of its own, and runs a little slower than the others, within what is allowed; how
//! much slower may change.

use core::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Since when it has run at this rate.
    since: Duration,
    /// What it showed then.
    showed: Duration,
    /// How much it loses, in millionths.
    slow_ppm: u32,
}

const MILLION: u128 = 1_000_000;

impl Clock {
    /// `showed`: when the world began.
    pub(crate) fn new(showed: Duration, slow_ppm: u32) -> Self {
        Self {
            since: Duration::ZERO,
            showed,
            slow_ppm,
        }
    }

    /// From `now` on it loses so much.
    pub(crate) fn turn(&mut self, now: Duration, slow_ppm: u32) {
        *self = Self {
            since: now,
            showed: self.shows(now),
            slow_ppm,
        };
    }

    /// What it shows at a time of the world, not before its last turn.
    pub(crate) fn shows(self, at: Duration) -> Duration {
        let rate = MILLION - u128::from(self.slow_ppm);
        let passed = at.saturating_sub(self.since).as_nanos();
        self.showed + nanos(passed * rate / MILLION)
    }

    /// The first time of the world at which it shows `time`.
    pub(crate) fn when(self, time: Duration) -> Duration {
        let rate = MILLION - u128::from(self.slow_ppm);
        let passed = time.saturating_sub(self.showed).as_nanos();
        self.since + nanos((passed * MILLION).div_ceil(rate))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_is_due_when_it_says() {
        for slow_ppm in [0, 1, 50_000, 400_000] {
            let clock = Clock::new(Duration::from_secs(7), slow_ppm);
            for at in (0..2_000).map(|n| Duration::from_nanos(n * 777_777)) {
                let when = clock.when(clock.shows(at));
                assert!(when <= at && clock.shows(when) >= clock.shows(at));
            }
        }
    }

    #[test]
    fn a_turn_changes_the_rate_and_not_what_it_shows() {
        let (noon, later) = (Duration::from_secs(10), Duration::from_secs(20));
        let mut clock = Clock::new(Duration::from_secs(7), 0);
        clock.turn(noon, 400_000);
        assert_eq!(clock.shows(noon), Duration::from_secs(17));
        assert_eq!(clock.shows(later), Duration::from_secs(23));
        assert_eq!(clock.when(Duration::from_secs(23)), later);
    }
}
