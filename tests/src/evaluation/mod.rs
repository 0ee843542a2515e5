//! The evaluation simulator: the real `Group`, `Evaluator`, `ShardState` and `RouterCore` in one virtual world.
//!
//! One seed makes everything: sizes, delays, faults, wishes. Every message goes through the real encoders. Clients behind
//! a few routers use a handful of accounts while nodes are isolated, stopped, crashed and restarted, disks get slow and
//! leaderships move; then the faults stop and everything must answer again. What must hold is listed in `observer`.
//!
//! Here: the world and its parts. Not here: the seeds that are run (`tests/evaluation.rs`), the group machine's own
//! simulator (`groups`).

mod account;
mod clients;
mod clock;
mod drive;
mod event;
mod faults;
mod network;
mod node;
mod observer;
mod rows;
mod world;

pub use world::{Report, Sabotage, World};
