//! The clock of one process: it began at some time of its own, and runs a little slower than the others, within what is allowed.

use core::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it showed when the world began.
    began: Duration,
    /// How much it loses, in millionths.
    slow_ppm: u32,
}

const MILLION: u128 = 1_000_000;

impl Clock {
    pub(crate) fn new(began: Duration, slow_ppm: u32) -> Self {
        Self { began, slow_ppm }
    }

    /// What it shows at a time of the world.
    pub(crate) fn shows(self, at: Duration) -> Duration {
        let rate = MILLION - u128::from(self.slow_ppm);
        self.began + nanos(at.as_nanos() * rate / MILLION)
    }

    /// The first time of the world at which it shows `time`.
    pub(crate) fn when(self, time: Duration) -> Duration {
        let rate = MILLION - u128::from(self.slow_ppm);
        let passed = time.saturating_sub(self.began).as_nanos();
        nanos((passed * MILLION).div_ceil(rate))
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
}
