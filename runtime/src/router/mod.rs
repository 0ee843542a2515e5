//! The way from a caller to the leader of a shard and back: routing on the caller's own thread (S9).
//!
//! Here: [`RouterCore`], the pure machine (sessions, attempts, leader hints, back-off, deadlines), which nodes, gateway
//! clients and simulators drive alike, and what callers get when there is no answer ([`AskError`]).
//! Not here: evaluation, sockets, encoding of frames (the courier's), the placement of shards.
//!
//! One call = one [`CallId`] = the `id` of all its requests. A command belongs to a session per (router, shard), so
//! that it takes effect at most once however often it is sent (RIFL, Lee et al., SOSP 2015).

mod calls;
mod core;
mod courier;
mod endings;
mod entities;
mod error;
mod handle;
mod lane;
mod options;
mod pace;
mod peers;
mod replies;
mod sending;
mod timers;

#[cfg(test)]
mod tests;

pub use self::core::{Answered, AskSpec, CallId, Mode, RouterCore, RouterCounters, RouterOutput};
pub use courier::Courier;
pub use entities::{Aged, Ask, Entities, EntityRef, Query, RawAsk, StaleQuery};
pub use error::{AskError, Failed, Refused, TimedOut, Unknown};
pub use handle::Router;
pub use options::{CheckedRouterOptions, RouterOptions, RouterOptionsError};
