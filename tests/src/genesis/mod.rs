//! Foundings by 1 to 7 seeds in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`] (seeds with the real `Genesis`, disks that lose what was not written, a network that loses, delays, doubles and
//! reorders, operators who pass different lists), the invariants that every write and message is held against, and what the runs
//! must have seen ([`lacking`]). Every message and every state goes through the real encoder and decoder. Not here: sockets,
//! certificates, admission.
//!
//! A run has a safety phase (crashes, blackouts, wiped disks, cuts, other lists, and an ambush at a moment that matters) and a
//! healing phase: faults stop, and everybody must be in a cluster or say why not within [`HEALED_WITHIN`].
//!
//! | name | says | source |
//! |---|---|---|
//! | One Cluster | two clusters are founded only if every seed that both lists name lost its disk after its first word | E25 |
//! | Agreement | an electorate chooses one record, and what one persisted as chosen is what all have | Paxos Made Simple 2.1 |
//! | Words Of All | nothing is chosen before every listed seed gave its word | DESIGN 8 |
//! | Empty Disk | a store with data gives no word, and one that joined since it did casts no vote | DESIGN 8 |
//! | Never Unlearn | a disk's incarnation, word, promises and record only grow | Paxos Made Simple 2.5 |
//! | Durable Promise | what a message claims of its sender is on the sender's disk | 2.5 |
//! | Ballots Are Unique | a ballot carries one value | 2.5 |
//! | Join What Exists | nobody is sent to a cluster that was not founded | |
//! | Exactly One | with one list throughout and no disk lost, everybody is in the cluster in the end | DESIGN 8 |
//! | Liveness | after the faults everybody is in a cluster, or names an obstacle that is really there | |

mod coverage;
mod faults;
mod history;
mod verdict;
mod world;

pub use coverage::lacking;
pub use world::{HEALED_WITHIN, Report, World};
