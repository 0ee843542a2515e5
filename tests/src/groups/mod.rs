//! One Raft group of 1 to 5 replicas in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`] (clients, an operator, faults), its replicas with the real `Group`, the real segmented log and the real checkpoint
//! files on virtual disks that lose what was not synced, a network that loses, delays, doubles and reorders, the invariants that
//! every step is held against, and what a run must have seen ([`Coverage`]). Every message goes through the real encoder and decoder.
//! Not here: evaluation, sessions, sockets, threads.
//!
//! A run has a safety phase (faults, load, changes of configuration) and a healing phase: faults stop, and the group must answer
//! again and agree within [`HEALED_WITHIN`].
//!
//! Invariants, checked at every step of the replica concerned:
//!
//! | name | says | source |
//! |---|---|---|
//! | Election Safety | one leader per term | Raft paper 5.2 |
//! | Log Matching | an index and a term name one entry and one predecessor, in every log that ever was | 5.3 |
//! | Leader Completeness | a new leader's log holds every committed entry | 5.4.3 |
//! | State Machine Safety | what is committed or applied at an index never differs, between replicas and over time | 5.4.3 |
//! | Committed Is Durable | when an entry is first committed, a majority of disks (of both halves) holds it | 5.4 |
//! | Durable Promise | a vote or acknowledgement that leaves is on the sender's disk | H2, H73 |
//! | Monotone | term, vote within a term, commit and applied never go back | figure 2 |
//! | State Ordering | purged <= checkpoint <= applied <= committed <= last | openraft |
//! | Recovery | a disk gives back what it acknowledged | H72-H76 |
//! | Acknowledged Commands | an acknowledged command stays where it was acknowledged, and exists once | promise 1 |
//! | Linearizable Reads | a read sees everything acknowledged before it was asked | thesis 6.4 |
//! | Liveness | after the faults the group answers and all members agree | |

mod coverage;
mod history;
mod load;
mod machine;
mod model;
mod network;
mod operator;
mod replica;
mod storm;
mod world;

pub use coverage::Coverage;
pub use history::Violation;
pub use world::{HEALED_WITHIN, Report, Sabotage, World};
