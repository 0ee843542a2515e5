//! The time that a leader stamps on its batches.
//!
//! Here: [`LogClock`]. It goes on from the shard's own and advances by what passes for this leader, never by a wall clock (E15): also while
//! its evaluator is put away. Not here: what is old by it (`leadership`).

use core::time::Duration;

/// Longest gap between two searches for idle sessions; shorter when they may be idle for a short time only.
const EXPIRY_PAUSE: Duration = Duration::from_secs(30);

/// The log time of one leadership.
#[derive(Clone, Copy, Debug)]
pub struct LogClock {
    /// When the leadership began.
    began: Duration,
    /// What the shard's state said then, in milliseconds.
    base_ms: u64,
    /// When idle sessions are looked for next.
    expiry_at: Duration,
}

impl LogClock {
    /// Goes on from `base_ms`.
    pub(super) fn start(now: Duration, base_ms: u64, session_idle: Duration) -> Self {
        Self {
            began: now,
            base_ms,
            expiry_at: now + Self::pause(session_idle),
        }
    }

    fn pause(session_idle: Duration) -> Duration {
        EXPIRY_PAUSE.min(session_idle / 4)
    }

    /// The log time now, in milliseconds.
    pub(super) fn ms(&self, now: Duration) -> u64 {
        self.base_ms + now.saturating_sub(self.began).as_millis() as u64
    }

    /// Whether it is time to look for idle sessions; then it is not for a while.
    pub(super) fn looks_for_idle(&mut self, now: Duration, session_idle: Duration) -> bool {
        let due = now >= self.expiry_at;
        if due {
            self.expiry_at = now + Self::pause(session_idle);
        }
        due
    }
}
