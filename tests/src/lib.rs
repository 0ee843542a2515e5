//! The world in a box.

pub mod disk;
pub mod evaluation;
pub mod membership;
