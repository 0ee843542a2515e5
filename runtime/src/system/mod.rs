//! What the system group (group 0) decides: who is a member, and which store should hold which replica.
//!
//! Here: the replicated state and its commands ([`state`], [`departure`]), where shards should live ([`mod@plan`]), and the steps that
//! bring the groups there ([`reconcile`]). All of it is pure; `node` proposes the commands and carries the orders.
//! Not here: addresses (gossip tells them, never this log), Raft (`synod-consensus`), actors (`node`).

mod absence;
mod by_hand;
mod departure;
mod moves;
pub mod plan;
pub mod reconcile;
pub mod state;

pub use by_hand::{Goals, PlacementChange, move_replica, rebalance};
pub use moves::{Move, MoveEnd, Moves};
pub use plan::{Placement, plan, shortfalls};
pub use reconcile::{GroupReport, Order, OrderKind, Reconciler, Step};
pub use state::{
    Birth, Founder, Founding, GivingUp, MemberEntry, ReplicaAddress, SystemCommand, SystemOutcome,
    SystemState, UnsafeRecovery,
};
