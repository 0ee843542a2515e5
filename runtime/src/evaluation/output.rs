//! What an evaluator asks its driver to do, and what it has counted.

use bytes::Bytes;

use crate::wire::Reply;

/// The driver's name for the way back to whoever sent a request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReplyToken(pub u64);

/// What the driver has to do, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum EvaluatorOutput {
    /// Propose the payload to the group if it is still in the leadership `serial`; answer with
    /// [`Evaluator::proposed`](super::Evaluator::proposed) in the same order. The next one comes after that.
    Propose {
        /// The leadership that computed it.
        serial: u64,
        /// Number of the batch within the leadership.
        batch: u64,
        /// The entry's payload.
        payload: Bytes,
    },
    /// Begin a ReadIndex round; answer with [`Evaluator::read_ready`](super::Evaluator::read_ready) or
    /// [`Evaluator::read_failed`](super::Evaluator::read_failed).
    Read {
        /// The leadership that asks.
        serial: u64,
        /// Number of the round within the leadership.
        read: u64,
    },
    /// Send the reply.
    Reply {
        /// To whom.
        to: ReplyToken,
        /// What.
        reply: Reply,
    },
    /// The pause is complete: nothing runs, nothing is in flight.
    Paused,
}

/// What an evaluator has done since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Handlers of commands that ended.
    pub commands: u64,
    /// Handlers of queries that ended.
    pub queries: u64,
    /// Handlers that awaited something.
    pub awaited: u64,
    /// Awaiting handlers that a lost leadership or a pause ended.
    pub interrupted: u64,
    /// Commands that changed nothing and wrote no entry.
    pub unchanged: u64,
    /// Commands that returned `Err`.
    pub failed: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Batches that hold an effect and had a panic or an `Err` among their commands.
    pub batches_with_failure: u64,
    /// Batches proposed.
    pub batches: u64,
    /// Effects proposed.
    pub effects: u64,
    /// Bytes proposed.
    pub bytes: u64,
    /// Attempts that joined an evaluation under way.
    pub attached: u64,
    /// Attempts answered from a stored reply.
    pub repeated: u64,
    /// Attempts refused as busy.
    pub busy: u64,
    /// Attempts whose deadline passed.
    pub late: u64,
    /// States decoded.
    pub activations: u64,
    /// States that did not decode.
    pub quarantined: u64,
    /// Read rounds begun.
    pub reads: u64,
    /// Proposals that the group refused.
    pub proposals_refused: u64,
}
