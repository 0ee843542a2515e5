//! Nodes with many groups that rest: real `Group`s and real `Claims` on a virtual clock, from one seed.
//!
//! The rooms: one node with its replicas, its disk and its threads ([`node`]), wires and time ([`world`]), what goes wrong ([`storm`]), what
//! must hold at every moment ([`watch`]) and after the storm ([`calm`]); traces that break simpler schemes ([`traces`]).
//!
//! At every moment: one leader per term; every replica applies the same; a read holds what was acknowledged before it was asked.
//! After the storm, each within its bound: every group that has a majority is led; every group rests; then no replica and no list of claims
//! says anything; a command wakes one group and no other; when a node dies every group that it led is led by another, and no other
//! group changes its leader; when it is back every group rests again.

mod calm;
mod node;
mod storm;
mod traces;
mod watch;
mod world;

pub use traces::Trace;
pub use watch::Violation;
pub use world::{Report, World};
