//! How long an answer takes here, and so after which silence a request is worth repeating.
//!
//! Here: [`Pace`], a smoothed mean and deviation of the time from a call's first sending to its answer. A lost reply
//! then costs a few times the usual answer and not a fixed half second. Calls that were repeated count with their whole
//! time: under overload the pace slows down instead of adding repetitions to the load.
//! Source: Jacobson and Karels, "Congestion avoidance and control" (1988), with their gains of 1/8 and 1/4.

use std::time::Duration;

/// Usual time of an answer, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Pace {
    mean: u64,
    deviation: u64,
    sampled: bool,
}

impl Pace {
    /// An answer took `time`; what is above `most` counts as `most`, so that one outage does not set the pace for long.
    pub(super) fn sample(&mut self, time: Duration, most: Duration) {
        let time = nanos(time.min(most));
        if !self.sampled {
            (self.sampled, self.mean, self.deviation) = (true, time, time / 2);
            return;
        }
        let off = self.mean.abs_diff(time);
        self.deviation = self.deviation - self.deviation / 4 + off / 4;
        self.mean = self.mean - self.mean / 8 + time / 8;
    }

    /// The silence after which a repetition is due: mean and four deviations, between `least` and `most`. Before the
    /// first answer, `most`.
    pub(super) fn patience(&self, least: Duration, most: Duration) -> Duration {
        if !self.sampled {
            return most;
        }
        Duration::from_nanos(self.mean + 4 * self.deviation).clamp(least, most)
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(20);
    const MOST: Duration = Duration::from_millis(500);

    #[test]
    fn patience_follows_the_answers_and_forgets_an_outage() {
        // Jacobson and Karels, 1988.
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        assert_eq!(pace.patience(LEAST, MOST), MOST);
        for _ in 0..50 {
            pace.sample(ms(40), MOST);
        }
        let usual = pace.patience(LEAST, MOST);
        assert!(usual >= ms(35) && usual <= ms(60), "{usual:?}");
        pace.sample(ms(60_000), MOST);
        assert_eq!(pace.patience(LEAST, MOST), MOST);
        for _ in 0..30 {
            pace.sample(ms(1), MOST);
        }
        assert!(pace.patience(LEAST, MOST) <= ms(60));
        for _ in 0..50 {
            pace.sample(ms(1), MOST);
        }
        assert_eq!(pace.patience(LEAST, MOST), LEAST);
    }
}
