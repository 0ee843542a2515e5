//! A whole cluster in one process, on one virtual clock, from one seed.
//!
//! Here: [`World`], of up to a hundred nodes with the real planner, reconciler, watch and system state of `synod::system`, every group
//! a real `Group` with its log and snapshots, and the glue between them as the runtime has it; membership is modelled by a failure
//! detector that errs while links are cut. Not here: evaluation, sessions, sockets, files (`evaluation`, `groups`).
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
//! | Never Born Again | no replica that lived begins anew, empty | E26 |
//! | Retired Is Silent | a deleted replica says nothing | H77 |
//! | Quorums Are Kept | no change that was ordered leaves a group without a majority that lives and has caught up, if it had one | E25 |
//! | One Change At A Time | a group gets one order at a time | DESIGN 11 |
//! | Bounded Changes | no step gives more orders than the cluster's bound | DESIGN 11 |
//! | Led Again | [`LED_WITHIN`] after the faults every group is led | S16 |
//! | Settles | [`SETTLED_WITHIN`] after the faults all copies are where they belong, no other replica or file of one is left, planning again changes nothing | S2, S10 |
//! | Balance | copies and leaderships at rest are within their quotas | E34 |

mod calm;
mod checkpoints;
mod drive;
mod faults;
mod joining;
mod ledger;
mod machine;
mod movement;
mod network;
mod node;
mod sight;
mod steward;
mod world;

pub use movement::{Step, movement};
pub use world::{LED_WITHIN, Report, SETTLED_WITHIN, Scale, World};

/// A safeguard taken away or a bug put in, so that it can be shown that it is noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sabotage {
    /// One replica is a majority.
    MajorityOfOne,
    /// A group takes a learner in that nobody allotted.
    Stranger,
    /// A change leaves one of three voters out.
    EvenVoters,
    /// A change takes a replica in that was retired.
    Revenant,
    /// A replica is retired while its group still has it.
    RetiredEarly,
    /// Files of a retired replica go before its retirement is durable.
    FilesGoAtOnce,
    /// A retired replica goes on.
    RetiredGoesOn,
    /// A change leaves only a voter that is dead.
    OnlyTheDead,
    /// Every order is given twice.
    OrdersTwice,
    /// Orders go out in heaps.
    OrdersInHeaps,
    /// Checkpoints name no configuration.
    ConfigurationForgotten,
    /// The timers of one group never ring.
    NoTimer,
    /// Files of retired replicas stay.
    FilesStay,
    /// Orders never arrive.
    OrdersLost,
    /// Copies lie on the first of their stores only.
    Lopsided,
}
