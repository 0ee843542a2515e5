//! The transport between processes, here several endpoints in one: over real sockets on loopback.
//!
//! `connections`: what peers, clients and calls may rely on. `strangers`: the other end misbehaves. `certificates`: who
//! may be whom. `world`, `stranger` and `loopback` are what they are made of.

mod certificates;
mod connections;
#[path = "../loopback/mod.rs"]
mod loopback;
mod resting;
mod stranger;
mod strangers;
mod world;
