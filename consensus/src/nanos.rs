//! Times at rest.
//!
//! Here: [`Nanos`], what a group keeps of a `Duration` between inputs: half of its bytes, and none more for "never". A node holds
//! thousands of groups that sleep, each with a dozen of these. Not here: arithmetic, which is that of `Duration`.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

/// A time or a span in whole nanoseconds, at most 584 years; what is longer counts as that. `Option<Nanos>` takes eight bytes too.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Nanos(NonZeroU64);

impl Nanos {
    pub(crate) const ZERO: Self = Self(NonZeroU64::MIN);

    pub(crate) fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }
}

impl Default for Nanos {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_half_the_room() {
        let latest = Duration::from_nanos(u64::MAX - 1);
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(86_400),
            latest,
        ] {
            assert_eq!(Nanos::from(duration).get(), duration);
        }
        assert_eq!(Nanos::from(Duration::MAX).get(), latest);
        assert_eq!(Nanos::ZERO, Duration::ZERO.into());
        assert!(Nanos::from(latest) > Nanos::ZERO);
        assert_eq!(size_of::<Option<Nanos>>(), 8);
    }
}
