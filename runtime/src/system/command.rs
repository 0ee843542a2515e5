//! What may be written into the log of the system group, and what comes of it.
//!
//! Here: [`SystemCommand`] and the [`Level`] that each one needs, [`SystemOutcome`]. Not here: how a command changes the state (`state`,
//! `departure`, `absence`, `description`, `level`), which of them a cluster of several builds may use (`level`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use synod_consensus::{GroupId, ReplicaId};

use super::level::Level;
use super::plan::Placement;
use super::state::{Founding, MemberEntry};

/// The level of this build: the highest that any of its commands needs.
///
/// Raised by one in the first change after a release that adds a command, or gives the state something that an older build would drop
/// or read otherwise. A field that older builds may pass over needs no new level; one that changes what a known command does is a new
/// command. What each level brought stands at [`SystemCommand::level`]; level 3 brought besides that orders are stamped, and late ones
/// refused ([`Fence`](super::Fence)), and that nodes compare what was reported ([`Sum`](super::Sum)).
pub const BUILD_LEVEL: Level = Level::new(3);

/// A change of the system state, as proposed.
///
/// A replica whose build does not know one stops and says so, since it would hold another state than the others otherwise. So that this
/// happens to nobody, a command is proposed only once the cluster is at its level, which no member's build is below (`level`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum SystemCommand {
    /// The first command of a cluster.
    Found(Founding),
    /// Let a store in.
    Admit(MemberEntry),
    /// Allow a new, empty replica of a group on a store.
    Allot {
        /// The group.
        group: GroupId,
        /// The store that shall hold it.
        store: u64,
    },
    /// A replica that its group's committed configuration no longer names may be deleted; so may one that stopped for
    /// good, which the configuration still names until its successor has caught up.
    Retire {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
    },
    /// New goals for shards, computed on the placement of `epoch`; refused when that is no longer current.
    Place {
        /// Epoch that the planner saw.
        epoch: u64,
        /// Group and its goal.
        goals: Vec<(GroupId, Placement)>,
    },
    /// What an operator's unsafe recovery left of these groups: exactly these replicas, under ids that [`SystemCommand::GiveUp`]
    /// allots. It comes before that one, so that at no time a replica that lives counts as retired.
    Reform {
        /// Group and its replicas.
        groups: Vec<(GroupId, BTreeSet<ReplicaId>)>,
    },
    /// Ends an unsafe recovery: these stores are given up for ever.
    GiveUp(GivingUp),
    /// Lets a member give up what it holds, or, with `on` false, take replicas again.
    Drain {
        /// Whose.
        store: u64,
        /// Whether it drains from now on.
        on: bool,
    },
    /// Takes a drained member out of the cluster for ever.
    Remove {
        /// Which store.
        store: u64,
    },
    /// A member is away for so long that others are to hold its copies, or, with `on` false, it is back.
    Absent {
        /// Epoch of the placement that this was decided on; refused when that is no longer current.
        epoch: u64,
        /// Which store.
        store: u64,
        /// Whether it is absent from now on.
        on: bool,
    },
    /// What a member says of itself since a start of its store. Since level 3.
    Describe {
        /// Which store.
        store: u64,
        /// Start count of the store; refused when the log heard of a later one.
        generation: u64,
        /// Failure domain, when the node names one.
        zone: Option<String>,
        /// Relative share of the load; at least 1.
        capacity: u32,
    },
    /// From here on the cluster uses everything up to this level, for ever. Since level 2.
    Raise {
        /// Epoch of the placement that this was decided on; refused when that is no longer current, for then there may be a member
        /// whose build nobody asked about.
        epoch: u64,
        /// The level: every member's build knows it.
        level: Level,
    },
}

impl SystemCommand {
    /// The first level whose builds know this command.
    pub fn level(&self) -> Level {
        match self {
            Self::Found(_)
            | Self::Admit(_)
            | Self::Allot { .. }
            | Self::Retire { .. }
            | Self::Place { .. }
            | Self::Reform { .. }
            | Self::GiveUp(_)
            | Self::Drain { .. }
            | Self::Remove { .. }
            | Self::Absent { .. } => Level::FIRST,
            Self::Describe { .. } => Level::new(3),
            // A raise is known since level 2; what it raises to, its builds know too.
            Self::Raise { level, .. } => (*level).max(Level::new(2)),
        }
    }

    /// Reads a command for a build of level `build`.
    pub fn decode(payload: &[u8], build: Level) -> Result<Self, UnknownCommand> {
        let command: Self = crate::wire::decode(payload)
            .map_err(|error| UnknownCommand::Undecodable(error.to_string()))?;
        match command.level() {
            level if level > build => Err(UnknownCommand::Newer { level, build }),
            _ => Ok(command),
        }
    }
}

/// Why an entry of the system log cannot be taken into the state. Whoever passed it over would hold another state than the others.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnknownCommand {
    /// A newer build proposed it.
    #[error(
        "it is of level {level}, and this build knows up to {build}: start this node with a newer build"
    )]
    Newer {
        /// The first level whose builds know it.
        level: Level,
        /// The level of this build.
        build: Level,
    },
    /// A newer build proposed it, most likely.
    #[error(
        "it is no system command that this build knows: start this node with a newer build ({0})"
    )]
    Undecodable(String),
}

/// The last word of an unsafe recovery, written by the operator's command and never proposed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GivingUp {
    /// When, in seconds since 1970 by the operator's clock; for people.
    pub at: u64,
    /// Stores that are gone for good.
    pub stores: BTreeSet<u64>,
    /// Groups that went on from what was left of them.
    pub reformed: u32,
    /// Groups of which nothing was left; they began anew, empty.
    pub emptied: u32,
    /// Store ids below are used up, also those that only the lost stores may have heard of.
    pub next_store: u64,
    /// The same of replicas' serial numbers.
    pub next_serial: u32,
}

/// What came of a command.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum SystemOutcome {
    /// Nothing to say.
    Done,
    /// The store is a member.
    Admitted {
        /// Its store id.
        store: u64,
        /// Its replica of the system group.
        replica: ReplicaId,
    },
    /// The replica may be created on its store.
    Allotted {
        /// Its id.
        replica: ReplicaId,
    },
    /// Nothing changed, and this is why.
    Refused {
        /// One sentence.
        reason: String,
    },
}

impl SystemOutcome {
    /// Whether nothing changed.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
