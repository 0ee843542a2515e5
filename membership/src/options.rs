//! What can be tuned, with its reasons, checked once.
//!
//! Here: [`SwimOptions`] and its presets. Not here: the durations that follow from them and from the number of members
//! ([`crate::timing`]).

use core::time::Duration;

/// Plain data; `..SwimOptions::lan()` for the rest. [`crate::Swim`] takes only what [`SwimOptions::check`] passed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SwimOptions {
    /// One member is probed per interval. Everything else is a multiple of it ([`crate::Timing`]).
    pub probe_interval: Duration,
    /// Silence after which a probe asks helpers and the reliable lane. Above the p99 round trip; at most 2/5 of the interval,
    /// so that a helper's nack is back within the interval.
    pub probe_timeout: Duration,
    /// Helpers asked per failed direct probe. SWIM and memberlist use 3.
    pub helpers: usize,
    /// Members that one round of gossip goes to.
    pub fanout: usize,
    /// Suspicion lasts at least this many probe intervals at up to 10 members, and grows with their logarithm. At 3 (LAN) nobody
    /// died in 666 node-hours of 30 % loss, and all 100 nodes agree on a crash within 6 s.
    pub suspicion_intervals: u32,
    /// Suspicion by one accuser alone lasts this many times as long as one that enough others confirm. Lifeguard's beta.
    pub suspicion_lone_factor: u32,
    /// A rumour is sent this often, times the logarithm of the number of members.
    pub retransmit_factor: u32,
    /// Largest encoded packet of the datagram lane, in bytes. At least 1,000: a signed record must fit.
    pub datagram_bytes: usize,
    /// Inbound syncs answered per second; the rest is told whom else to ask.
    pub syncs_inbound: u32,
}

impl SwimOptions {
    /// All on one machine: a death is known in about three seconds. Whoever leads there is missed much sooner, by other means.
    pub fn local() -> Self {
        Self {
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(100),
            ..Self::lan()
        }
    }

    /// One data centre.
    pub fn lan() -> Self {
        Self {
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(200),
            helpers: 3,
            fanout: 3,
            suspicion_intervals: 3,
            suspicion_lone_factor: 3,
            retransmit_factor: 4,
            datagram_bytes: 1_100,
            syncs_inbound: 8,
        }
    }

    /// The only way to a machine.
    pub fn check(self) -> Result<CheckedSwimOptions, SwimOptionsError> {
        if self.probe_timeout < Duration::from_millis(1)
            || self.probe_timeout * 5 > self.probe_interval * 2
        {
            return Err(SwimOptionsError::ProbeTimeout {
                got: self.probe_timeout,
                interval: self.probe_interval,
            });
        }
        for (field, got) in [
            ("helpers", self.helpers),
            ("fanout", self.fanout),
            ("suspicion_intervals", self.suspicion_intervals as usize),
            ("suspicion_lone_factor", self.suspicion_lone_factor as usize),
            ("retransmit_factor", self.retransmit_factor as usize),
            ("syncs_inbound", self.syncs_inbound as usize),
        ] {
            if !(1..=64).contains(&got) {
                return Err(SwimOptionsError::Factor { field, got });
            }
        }
        if self.datagram_bytes < DATAGRAM_BYTES_LEAST {
            return Err(SwimOptionsError::DatagramTooSmall {
                got: self.datagram_bytes,
            });
        }
        Ok(CheckedSwimOptions(self))
    }
}

impl Default for SwimOptions {
    fn default() -> Self {
        Self::lan()
    }
}

/// A record of 768 bytes, its signature of 128 and the packet around it.
pub(crate) const DATAGRAM_BYTES_LEAST: usize = 1_000;

/// Options that hold together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedSwimOptions(SwimOptions);

impl core::ops::Deref for CheckedSwimOptions {
    type Target = SwimOptions;
    fn deref(&self) -> &SwimOptions {
        &self.0
    }
}

/// Which option to change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SwimOptionsError {
    /// Lower `probe_timeout` or raise `probe_interval`.
    #[error(
        "probe_timeout is {got:?}, it must be between 1 ms and 2/5 of the probe_interval {interval:?}"
    )]
    ProbeTimeout {
        /// What was given.
        got: Duration,
        /// The interval given with it.
        interval: Duration,
    },
    /// A count or factor outside 1..=64.
    #[error("{field} is {got}, it must be between 1 and 64")]
    Factor {
        /// Its name.
        field: &'static str,
        /// What was given.
        got: usize,
    },
    /// A record would not fit.
    #[error("datagram_bytes is {got}, it must be at least {DATAGRAM_BYTES_LEAST}")]
    DatagramTooSmall {
        /// What was given.
        got: usize,
    },
}
