//! The gossip of many nodes in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`] (nodes, log of admissions, faults), its `network`, the `invariants` that every step is held against, and
//! what a run must have seen ([`Coverage`]). Every packet goes through the real encoder, decoder and signature check, and the
//! machine is the very type that the node of `runtime` drives. Not here: real sockets and processes.

mod agenda;
mod agreement;
mod cluster;
mod coverage;
mod crowd;
mod faults;
mod invariants;
mod network;
mod process;
mod sabotage;
mod world;

pub use coverage::Coverage;
pub use crowd::*;
pub use invariants::{Observed, Observer};
pub use sabotage::Sabotage;
pub use world::{Report, World};
