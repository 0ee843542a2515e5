//! What the system group (group 0) decides: who is a member, and which store should hold which replica.
//!
//! Here: the replicated state and its commands ([`state`], [`mod@command`], `departure`, `absence`, `description`), which of them a cluster of several
//! builds may use ([`level`]), where shards should live ([`mod@plan`]), the steps that
//! bring the groups there ([`reconcile`], [`arrivals`]), what nodes tell its leader ([`GroupReport`], [`Reporting`]), and what that means for one store ([`Alignment`], [`Retirements`], [`Ties`]). All of it is pure; `node` proposes the commands and carries the orders.
//! Not here: addresses (gossip tells them, never this log), Raft (`synod-consensus`), actors (`node`).

mod absence;
mod alignment;
pub mod arrivals;
mod by_hand;
pub mod command;
mod departure;
mod description;
mod fence;
pub mod level;
mod moves;
pub mod plan;
pub mod reconcile;
mod report;
mod reporting;
mod retirements;
pub mod state;
mod sums;
mod ties;

pub use alignment::{Alignment, newest};
pub use by_hand::{Goals, PlacementChange, move_replica, rebalance};
pub use command::{BUILD_LEVEL, GivingUp, SystemCommand, SystemOutcome, UnknownCommand};
pub use description::{CAPACITY_MAX, Description, DescriptionError, Said, check_roles};
pub use fence::{Fence, Stamp};
pub use level::{Announced, Level};
pub use moves::{Move, MoveEnd, Moves};
pub use plan::{Placement, plan, shortfalls, voters_for};
pub use reconcile::{Order, OrderKind, Reconciler, Step};
pub use report::GroupReport;
pub(crate) use report::PEER_ACTIVE;
pub use reporting::{Assurance, Reporting};
pub use retirements::Retirements;
pub use state::{
    Birth, Founder, Founding, MemberEntry, ReplicaAddress, StateError, SystemState, UnsafeRecovery,
};
pub use sums::{Sum, Told};
pub use ties::{Circle, Ties};
