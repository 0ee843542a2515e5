//! How a command becomes an effect in the log, and a reply.
//!
//! Here: what is replicated of one shard ([`ShardState`]) and the evaluator of its leader ([`Evaluator`]): sessions,
//! handlers, images, batches, reply gating, bounds. Pure: time comes in as an argument, everything to do goes out as
//! [`EvaluatorOutput`]; the group actor of the runtime and the simulators drive it alike.
//! Not here: Raft (`synod-consensus`), actors and timers, the caller's side of sessions (`router`).
//!
//! The rules that everything here serves (sections 5 and 6 of the design):
//! - Nothing is evaluated, and no session looked up, before the leader's own no-op is applied.
//! - All that is speculative lives in one `Leadership` value and dies with it.
//! - A failed command returns its entity to its newest earlier image: pending, else proposed, else applied.
//! - No reply leaves before everything it was computed from is applied.

mod admission;
mod attempts;
#[cfg(test)]
mod away;
mod base;
mod batch;
#[cfg(test)]
mod bench;
mod env;
mod evaluator;
mod export;
mod gates;
mod guard;
#[cfg(test)]
mod hazards;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod layers;
mod leadership;
mod log_clock;
mod options;
mod output;
mod overlay;
mod paths;
mod pipeline;
mod rows;
mod running;
mod sabotage;
mod sealed;
mod shares;
mod slots;
mod snapshot;
mod stale;
mod state;

pub use base::{Base, BaseError, BaseRow, BaseRows};
pub use evaluator::Evaluator;
#[cfg(test)]
pub(crate) use export::snapshot_of;
pub use export::{ExportError, export, import};
pub use log_clock::LogClock;
pub use options::{CheckedEvaluatorOptions, EvaluatorOptions, EvaluatorOptionsError};
pub use output::{Counters, EvaluatorOutput, ReplyToken};
#[doc(hidden)]
pub use sabotage::Sabotage;
pub use sealed::{RowChange, Sealed};
pub use snapshot::SnapshotError;
pub use stale::stale_query;
pub use state::{ApplyError, Image, ShardState};
