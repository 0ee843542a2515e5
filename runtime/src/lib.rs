//! Actors that survive the loss of their node.

extern crate self as synod; // the derive macros emit `::synod` paths, in this crate's own tests too

pub mod entity;
pub mod evaluation;
pub mod router;
pub mod storage;
pub mod transport;
pub mod wire;

pub use entity::{Answer, CommandOf, Context, Entity, Handler, Message, QueryOf, View};
