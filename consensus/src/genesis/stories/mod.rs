//! Stories of foundings: who starts when with which list, whose disk is lost, and what is founded.
//!
//! Each names the hazard it answers. Faults by chance are the simulator's business (crate `tests`).

mod bounds;
mod lists;
mod losses;
mod town;
