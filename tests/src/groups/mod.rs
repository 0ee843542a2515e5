//! One Raft group of 1 to 7 voters in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`] (clients, an operator, failure detectors, faults), its replicas with the real `Group`, the real segmented log and the
//! real checkpoint files on virtual disks that lose what was not synced, clocks that drift as far as the options allow, a network that
//! loses, delays, doubles and reorders, the invariants that every step is held against, what the clients were told and whether
//! anything explains it (`oracle`), and what many runs must have seen ([`Tally`]). Every message goes through the real encoder and
//! decoder. Not here: evaluation, sessions, sockets, threads.
//!
//! A run has a safety phase (faults, load, changes of configuration) and a healing phase: faults stop, and the group must answer
//! again and agree within [`HEALED_WITHIN`]; then all answers are judged.
//!
//! Invariants, checked at every step of the replica concerned, but for the last four:
//!
//! | name | says | source |
//! |---|---|---|
//! | Election Safety | one leader per term | Raft paper 5.2 |
//! | Log Matching | an index and a term name one entry and one predecessor, in every log that ever was | 5.3 |
//! | Leader Completeness | a new leader's log holds every committed entry | 5.4.3 |
//! | State Machine Safety | what is committed or applied at an index never differs, between replicas and over time | 5.4.3 |
//! | Committed Is Durable | when an entry is first committed, a majority of disks (of both halves) holds it, by every configuration that was in force in this step | 5.4, 6 |
//! | Durable Promise | a vote or acknowledgement that leaves is on the sender's disk | H2, H73 |
//! | Effective Configuration | the last configuration of a replica's log is in force there, committed or not | 6; H42, H46, H47, H65 |
//! | Monotone | term, vote within a term, commit and applied never go back | figure 2 |
//! | State Ordering | purged <= checkpoint <= applied <= committed <= last | openraft |
//! | Recovery | a disk gives back all that it acknowledged, or is refused: never less | H72-H76 |
//! | Transfers End | a transfer that is due to end keeps no proposal waiting | H19 |
//! | One Lease | who reads by a lease is the newest leader | thesis 6.4.1; H57-H59 |
//! | Acknowledged Commands | an acknowledged command stays where it was acknowledged, and exists once | promise 1 |
//! | Linearizable Reads | a read covers the index of everything acknowledged, of any key, before it was asked | thesis 6.4 |
//! | Replaced Commands | what a client was told not to have happened never does | H31 |
//! | Linearizability | for each key some order, within the times of the clients, explains every answer | Herlihy and Wing 1990; promise 2 |
//! | Liveness | after the faults the group answers and all members agree | |
//!
//! What storage faults come to: a torn tail is dropped at the next start; after a failed sync, and while a full disk refuses, nothing more
//! is acknowledged, the process ends and comes back with what was acknowledged; a flipped bit behind which there are sound batches is
//! refused at the start, and the replica is replaced under another id, as one whose disk is gone. (A flipped bit in the very last batch
//! cannot be told from a torn write, so none is flipped there.) Snapshots travel as the runtime ships them: read in pieces from the
//! newest checkpoint's file when a permit and the budget allow, gathered in a partial file that a crash may shorten, damage or take
//! away. A flipped bit in a checkpoint is found by whoever it is shipped to, and another checkpoint is made.
//!
//! A paused process (SIGSTOP) does nothing and answers nobody; what comes for it waits, as far as there is room, until it goes on, and
//! its clock has moved in one leap. Now and then a group is left alone until its leader's lease is steady, and then tried (`trial`).
//! A fault that waits for its occasion is counted when it strikes.
//!
//! That each check can fail is shown by itself in `self_test`, and by bugs put back in `tests/groups.rs`.

mod clients;
mod clock;
mod coverage;
mod event;
mod freight;
mod healing;
mod history;
mod machine;
mod model;
mod network;
mod operator;
mod options;
mod oracle;
mod process;
mod replica;
#[cfg(test)]
mod self_test;
mod settle;
mod shipping;
mod storm;
mod trial;
mod watch;
mod world;

pub use coverage::{FEATURES, Tally};
pub use world::{HEALED_WITHIN, Report, Sabotage, World};
