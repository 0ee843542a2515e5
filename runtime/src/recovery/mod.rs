//! Unsafe recovery: how a cluster goes on when the majority of some group is gone for good. Only at an operator's word.
//!
//! [`Plan::draw_up`] locks the stores of all surviving nodes, none of which may run, and works out what would be done and what may be
//! lost; nothing is changed by that. [`Plan::carry_out`] does it. The rooms: `survey` (what one store holds), `plan` (the decisions,
//! pure from there on), `journal` (what makes a half-done recovery visible, and repeatable), `carry_out`, `report` (in words),
//! `error`. Not here: which replica of a group goes on (`synod_consensus::recovery`), the command line.
//!
//! What is done. In every group that cannot elect a leader among the survivors, the best of them decides alone from now on; the other
//! survivors follow it; all get new replica ids. A group of which nothing is left begins anew, empty. The system group is re-formed in
//! any case (without loss if it has its majority), because its log must list the new ids and must say who was given up; the nodes
//! then refuse those stores, and the reconciler rebuilds the copies. Groups that have their majority are left alone.
//!
//! How a crash in between is survived. First every store gets the whole plan and the mark *prepared*; then every store gets the
//! mark *begun*; then each store changes its replicas, each in one atomic write of the log; then the marks become *finished*. A store
//! that is only prepared has not changed, and neither has any other: a start of its node takes the mark away, and the command plans
//! anew. A store that has begun starts no node; the command, given again, finishes by the plan in the store.

mod carry_out;
mod error;
mod journal;
mod plan;
mod report;
mod survey;
#[cfg(test)]
mod tests;

pub use error::RecoveryError;
pub use journal::JournalError;
pub(crate) use journal::before_start;
pub use plan::Plan;
pub(crate) use report::in_words;
