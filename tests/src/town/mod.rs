//! A whole cluster in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`], of up to a hundred nodes with the real planner, reconciler, watch and system state of `synod::system`, every group
//! a real `Group` with its log and snapshots, and the glue between them as the runtime has it; membership is modelled by a failure
//! detector that errs while links are cut. In about every second world groups with nothing to do rest, as they do in a cluster: under
//! claims that beats carry, reported once and then summed up. Not here: evaluation, sessions, sockets, files (`evaluation`, `groups`).
//!
//! A run has a storm (joins, losses, drains, removals, moves by hand, crashes, partitions) and a calm: then the cluster must come to
//! rest.
//!
//! | invariant | says | source |
//! |---|---|---|
//! | Committed Entries | what is committed at an index never differs and is never lost; an acknowledged append is in the leader's state | promise 1 |
//! | Replica Sets | a committed configuration names only allotted replicas, and no two voters on one store | DESIGN 10 |
//! | Snapshots Name Their Configuration | a checkpoint names the configuration that was in force at its index | H65 |
//! | Odd Voters | a simple configuration has an odd number of voters | E24 |
//! | Retired Stays Retired | no id is allotted twice; one that was retired is in no later configuration | H77 |
//! | Named Replicas Stay | no replica is retired or deleted that a committed configuration names, unless it stopped for good | H78 |
//! | Lost Replicas Wait | a replica that stopped for good is retired only when a majority of its group is there without it, as far as anybody can know | H73 |
//! | Never Born Again | no replica that lived begins anew, empty | E26 |
//! | Retired Is Silent | a deleted replica says nothing | H77 |
//! | Quorums Are Kept | no change that was ordered leaves a group without a majority that lives and has caught up, if it had one | E25 |
//! | One Change At A Time | a group gets one order at a time | DESIGN 11 |
//! | Bounded Changes | no step gives more orders than the cluster's bound | DESIGN 11 |
//! | Led Again | [`LED_WITHIN`] after the faults every group is led | S16 |
//! | Settles | [`SETTLED_WITHIN`] after the faults all copies are where they belong, no other replica or file of one is left, the log describes the nodes as they do, planning again changes nothing | S2, S10 |
//! | Zones | no zone holds two copies of a shard more than one in which a store is free, as the nodes themselves say | DESIGN 10 |
//! | Balance | copies and leaderships at rest are within their quotas, by what the nodes say that they are worth | E34 |

mod calm;
mod checkpoints;
mod descriptions;
mod drive;
mod faults;
mod isolation;
mod joining;
mod ledger;
mod machine;
mod mourning;
mod movement;
mod network;
mod newborn;
mod node;
mod reports;
mod rest;
mod returns;
mod sabotage;
mod sight;
mod steward;
mod unheard;
mod world;

pub use isolation::{Cut, Round, isolation};
pub use mourning::mourning;
pub use movement::{Course, Kind, Step, movement};
pub use newborn::newborn;
pub use returns::{Return, returns};
pub use sabotage::Sabotage;
pub use unheard::unheard;
pub use world::{LED_WITHIN, Report, SETTLED_WITHIN, Scale, World};
