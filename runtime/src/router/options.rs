//! The bounds and times of a router, with their reasons; checked once.

use std::time::Duration;

/// Bounds and times of one router. Plain data: `RouterOptions { .., ..Default::default() }`, then [`check`](Self::check).
#[derive(Clone, Debug, PartialEq)]
pub struct RouterOptions {
    /// What a call gets when its caller names no deadline: long enough to sit out an election.
    pub deadline: Duration,
    /// Commands of one session between its lowest outstanding and its newest sequence: 1..=256. The shard keeps the
    /// replies of all of them, so this bounds what one slow command makes it keep (E11).
    pub window: u32,
    /// Commands per shard that wait for a place in the window or for the session; more are refused as busy.
    pub waiting_max: usize,
    /// Queries per shard that are under way; more are refused as busy.
    pub queries_max: usize,
    /// Calls of all shards together; more are refused as busy.
    pub calls_max: usize,
    /// Bytes of the bodies of all calls together; more are refused as busy.
    pub bytes_max: usize,
    /// Largest body of one message, in bytes; a larger one fails at once.
    pub message_max: usize,
    /// Least silence after which a request is sent again to the same leader; the usual time of an answer may make it
    /// longer, and it doubles with each repetition. Above a scheduling hiccup, far below what a caller notices.
    pub retry_min: Duration,
    /// Silence of a known leader after which other replicas are asked. Doubles with each such silence of the same call,
    /// up to eight times. Above the p99 of an answer, below the time of an election.
    pub attempt_timeout: Duration,
    /// The same while the leader is only guessed, and of stale queries: how long one replica may keep a call.
    pub probe_timeout: Duration,
    /// Least pause between two probes of a shard without known leader; jittered, doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// Greatest pause between two probes. An election takes longer, so a new leader is found this late at most.
    pub backoff_max: Duration,
    /// How long a store that fell silent or lost its connection is passed over, unless it is heard again; twice as long
    /// when that happens again.
    pub avoid: Duration,
    /// Least pause between two requests for a newer table; doubles up to eight times.
    pub table_pause: Duration,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            window: 256,
            waiting_max: 1_024,
            queries_max: 4_096,
            calls_max: 65_536,
            bytes_max: 64 << 20,
            message_max: 1 << 20,
            retry_min: Duration::from_millis(20),
            attempt_timeout: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(100),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(100),
            avoid: Duration::from_millis(500),
            table_pause: Duration::from_millis(250),
        }
    }
}

impl RouterOptions {
    /// Checks the bounds; `RouterCore::new` takes only what passed.
    pub fn check(self) -> Result<CheckedRouterOptions, RouterOptionsError> {
        if !(1..=256).contains(&self.window) {
            return Err(RouterOptionsError::Window { got: self.window });
        }
        if self.calls_max == 0 || self.calls_max > 1 << 23 {
            return Err(RouterOptionsError::Calls {
                got: self.calls_max,
            });
        }
        if self.backoff_min.is_zero() || self.backoff_max < self.backoff_min {
            return Err(RouterOptionsError::Backoff {
                min: self.backoff_min,
                max: self.backoff_max,
            });
        }
        if self.attempt_timeout < self.retry_min {
            return Err(RouterOptionsError::Silence {
                retry_min: self.retry_min,
                attempt_timeout: self.attempt_timeout,
            });
        }
        for (name, got) in [
            ("deadline", self.deadline),
            ("retry_min", self.retry_min),
            ("attempt_timeout", self.attempt_timeout),
            ("probe_timeout", self.probe_timeout),
            ("avoid", self.avoid),
            ("table_pause", self.table_pause),
        ] {
            if got.is_zero() {
                return Err(RouterOptionsError::Zero { name });
            }
        }
        Ok(CheckedRouterOptions(self))
    }
}

/// Options that passed [`RouterOptions::check`].
#[derive(Clone, Debug)]
pub struct CheckedRouterOptions(RouterOptions);

impl std::ops::Deref for CheckedRouterOptions {
    type Target = RouterOptions;

    fn deref(&self) -> &RouterOptions {
        &self.0
    }
}

/// Why router options were rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterOptionsError {
    /// The shard keeps at most 256 replies per session.
    #[error("window is {got}, it must be between 1 and 256")]
    Window {
        /// The value given.
        got: u32,
    },
    /// A router without calls is none, and ids of calls leave 24 bits to calls and openings of sessions.
    #[error("calls_max is {got}, it must be between 1 and 8388608")]
    Calls {
        /// The value given.
        got: usize,
    },
    /// The pauses must be a range above zero.
    #[error(
        "backoff_min is {min:?} and backoff_max {max:?}; the first must be above zero and not above the second"
    )]
    Backoff {
        /// The least pause given.
        min: Duration,
        /// The greatest pause given.
        max: Duration,
    },
    /// A leader is asked again before it is doubted.
    #[error("attempt_timeout is {attempt_timeout:?}, it must be at least retry_min, {retry_min:?}")]
    Silence {
        /// The least silence before a repetition.
        retry_min: Duration,
        /// The silence after which others are asked.
        attempt_timeout: Duration,
    },
    /// A time of zero would make the router spin.
    #[error("{name} is zero; it must be above zero")]
    Zero {
        /// The option's name.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_would_spin_or_overrun_the_shard_are_rejected() {
        // STYLE 7: checked once into a type. 256 is the shard's bound per session (DESIGN, section 6).
        assert!(RouterOptions::default().check().is_ok());
        let wide = RouterOptions {
            window: 257,
            ..Default::default()
        };
        assert_eq!(
            wide.check().unwrap_err(),
            RouterOptionsError::Window { got: 257 }
        );
        let spinning = RouterOptions {
            backoff_min: Duration::ZERO,
            ..Default::default()
        };
        assert!(matches!(
            spinning.check(),
            Err(RouterOptionsError::Backoff { .. })
        ));
        let silent = RouterOptions {
            probe_timeout: Duration::ZERO,
            ..Default::default()
        };
        assert_eq!(
            silent.check().unwrap_err(),
            RouterOptionsError::Zero {
                name: "probe_timeout"
            }
        );
    }
}
