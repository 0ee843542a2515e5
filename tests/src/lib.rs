//! The world in a box.

pub mod coverage;
pub mod disk;
pub mod evaluation;
pub mod genesis;
pub mod groups;
pub mod idle;
pub mod linear;
pub mod membership;
pub mod seeds;
mod shelf;
pub mod town;
pub mod violation;
