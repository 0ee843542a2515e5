//! The bounds of an evaluator, with their reasons; checked once.

use std::time::Duration;

use super::Sabotage;
use super::shares::Shares;

/// Bounds and times of one evaluator. Plain data: `EvaluatorOptions { .., ..Default::default() }`, then
/// [`check`](Self::check).
#[derive(Clone, Debug)]
pub struct EvaluatorOptions {
    /// Name of this node, for handlers.
    pub node: String,
    /// Largest message body, bytes. A larger one fails.
    pub message_max: usize,
    /// Longest key, bytes. A request with a longer one fails.
    pub key_max: usize,
    /// Largest encoded state, bytes. A command that makes a larger one fails.
    pub state_max: usize,
    /// Largest encoded result, bytes. A command with a larger one fails.
    pub reply_max: usize,
    /// Commands in one batch; more start the next.
    pub batch_commands: usize,
    /// Bytes of a batch at which it is closed.
    pub batch_bytes: usize,
    /// Largest batch, bytes, unless one command's effects alone are larger.
    pub entry_max: usize,
    /// Bytes that may be proposed and not yet applied. The group must accept this and one more entry without refusing,
    /// so that a handler that ran under the budget can always be proposed (E9).
    pub in_flight_bytes: usize,
    /// Requests that wait unevaluated, of all entities together; more are refused as busy.
    pub waiting_max: usize,
    /// Bytes of their bodies; more are refused as busy.
    pub waiting_bytes: usize,
    /// Requests that wait for one entity whose handler runs; more are refused as busy.
    pub entity_waiting_max: usize,
    /// Requests without an answer, evaluated or not; more are refused as busy.
    pub outstanding_max: usize,
    /// Handlers that await something at the same time; further commands wait.
    pub running_max: usize,
    /// Entities kept decoded while nothing happens to them; the least recently used go first.
    pub instances_max: usize,
    /// Bytes of their images.
    pub instances_bytes: usize,
    /// Bytes of the images that all evaluators with these options keep together while they are at work: each of those who keep any may
    /// have an even share. One that has more, because they were fewer, lets go when it is next at work or rests.
    pub node_instances_bytes: usize,
    /// Sequences between the lowest and the newest of a session. The shard keeps a reply of each (section 6).
    pub session_window: u64,
    /// Bytes of the replies kept for one session.
    pub session_bytes: usize,
    /// Sessions of one shard; opening more is refused as busy.
    pub sessions_max: usize,
    /// Log time without a command after which a session goes. Far above the longest life of a retry.
    pub session_idle: Duration,
    /// Read rounds in flight at once; later queries share the next one.
    pub reads_max: usize,
    /// Deliberate faults, for negative controls of simulators.
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

impl Default for EvaluatorOptions {
    fn default() -> Self {
        Self {
            node: String::new(),
            message_max: 1 << 20,
            key_max: 1_024,
            state_max: 1 << 20,
            reply_max: 256 << 10,
            batch_commands: 256,
            batch_bytes: 256 << 10,
            entry_max: 1 << 20,
            in_flight_bytes: 4 << 20,
            waiting_max: 4_096,
            waiting_bytes: 8 << 20,
            entity_waiting_max: 1_024,
            outstanding_max: 16_384,
            running_max: 1_024,
            instances_max: 1_024,
            instances_bytes: 8 << 20,
            node_instances_bytes: 16 << 20,
            session_window: 256,
            session_bytes: 1 << 20,
            sessions_max: 16_384,
            session_idle: Duration::from_secs(3_600),
            reads_max: 4,
            sabotage: Sabotage::default(),
        }
    }
}

impl EvaluatorOptions {
    /// Checks the bounds; `Evaluator::new` takes only what passed.
    pub fn check(self) -> Result<CheckedEvaluatorOptions, EvaluatorOptionsError> {
        let positive = [
            ("message_max", self.message_max),
            ("key_max", self.key_max),
            ("state_max", self.state_max),
            ("reply_max", self.reply_max),
            ("batch_commands", self.batch_commands),
            ("batch_bytes", self.batch_bytes),
            ("waiting_max", self.waiting_max),
            ("waiting_bytes", self.waiting_bytes),
            ("entity_waiting_max", self.entity_waiting_max),
            ("outstanding_max", self.outstanding_max),
            ("running_max", self.running_max),
            ("instances_max", self.instances_max),
            ("session_window", self.session_window as usize),
            ("sessions_max", self.sessions_max),
            ("reads_max", self.reads_max),
        ];
        for (name, got) in positive {
            if got == 0 {
                return Err(EvaluatorOptionsError::Zero { name });
            }
        }
        if self.session_bytes < self.reply_max {
            return Err(EvaluatorOptionsError::Below {
                name: "session_bytes",
                got: self.session_bytes,
                other: "reply_max",
                least: self.reply_max,
            });
        }
        if self.entry_max < self.batch_bytes {
            return Err(EvaluatorOptionsError::Below {
                name: "entry_max",
                got: self.entry_max,
                other: "batch_bytes",
                least: self.batch_bytes,
            });
        }
        if self.in_flight_bytes < self.batch_bytes {
            return Err(EvaluatorOptionsError::Below {
                name: "in_flight_bytes",
                got: self.in_flight_bytes,
                other: "batch_bytes",
                least: self.batch_bytes,
            });
        }
        Ok(CheckedEvaluatorOptions {
            options: self,
            shares: Shares::default(),
        })
    }
}

/// Options that passed [`EvaluatorOptions::check`]. Evaluators that are given the same, or clones of it, share one node's bounds.
#[derive(Clone, Debug)]
pub struct CheckedEvaluatorOptions {
    options: EvaluatorOptions,
    pub(super) shares: Shares,
}

impl CheckedEvaluatorOptions {
    /// Bytes of images that one evaluator may keep now.
    pub(super) fn instances_bytes_now(&self) -> usize {
        self.shares
            .of(self.node_instances_bytes)
            .min(self.instances_bytes)
    }
}

impl std::ops::Deref for CheckedEvaluatorOptions {
    type Target = EvaluatorOptions;

    fn deref(&self) -> &EvaluatorOptions {
        &self.options
    }
}

/// Why evaluator options were rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluatorOptionsError {
    /// A bound of zero lets nothing through.
    #[error("{name} is zero; it must be above zero")]
    Zero {
        /// The option's name.
        name: &'static str,
    },
    /// Two bounds contradict each other.
    #[error("{name} is {got}, it must be at least {other} ({least})")]
    Below {
        /// The option's name.
        name: &'static str,
        /// The value given.
        got: usize,
        /// The option that it must not be below.
        other: &'static str,
        /// That option's value.
        least: usize,
    },
}
