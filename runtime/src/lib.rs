//! Actors that survive the loss of their node.

pub mod entity;
pub mod evaluation;
pub mod router;
pub mod storage;
pub mod transport;
pub mod wire;
