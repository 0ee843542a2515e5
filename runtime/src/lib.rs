//! Actors that survive the loss of their node.

#[allow(
    unused_extern_crates,
    reason = "the derive macros emit `::synod` paths, in this crate's own tests too"
)]
extern crate self as synod;

pub mod client;
pub mod entity;
pub mod evaluation;
mod group;
pub mod node;
pub mod recovery;
pub mod router;
pub mod storage;
pub mod system;
pub mod transport;
pub mod wire;

pub use client::Client;
pub use entity::{Answer, CommandOf, Context, Entity, Handler, Message, QueryOf, View};
pub use node::Node;
