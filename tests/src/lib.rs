//! The world in a box.

pub mod disk;
