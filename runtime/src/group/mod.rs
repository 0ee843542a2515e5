//! The replicas that this node hosts: one group actor each, and beside one that leads the evaluator of its shard.
//!
//! Here: [`actor`] (Raft, persistence, apply: on consensus arbiters), [`evaluator`] (handlers: on entity arbiters), [`evaluators`] (what
//! starts them),
//! [`alarm`] (their timer), [`receipt`] (what a group tells its evaluator without waking it), [`registry`] (who is hosted
//! here), [`rest`] (which of them rest), [`outbox`] (what one arbiter sends and writes, batched), [`machine`] (what is replicated),
//! [`base`] (where its rows lie), [`overlays`] (what only memory holds of all), [`shared`] (what every
//! part of a node reaches).
//! Not here: the rules of Raft (`synod-consensus`) and of evaluation (`evaluation`), which are pure.

pub(crate) mod actor;
pub(crate) mod alarm;
pub(crate) mod base;
pub(crate) mod evaluator;
pub(crate) mod evaluators;
pub(crate) mod freight;
pub(crate) mod machine;
pub(crate) mod outbox;
pub(crate) mod overlays;
pub(crate) mod receipt;
pub(crate) mod registry;
mod rest;
pub(crate) mod shared;
#[cfg(test)]
mod tests;

pub(crate) use actor::{GroupActor, Start};
pub(crate) use evaluators::Evaluators;
pub(crate) use freight::Freight;
pub(crate) use machine::{Machine, lock};
pub(crate) use outbox::Outbox;
pub(crate) use overlays::{OVERLAY_BYTES, Overlays};
pub(crate) use registry::{Hosted, Registry};
pub(crate) use rest::Rouse;
pub(crate) use shared::{Clock, Counters, Shared};
