//! What can happen next in the world.

use core::time::Duration;

use synod_consensus::{PersistToken, ReplicaId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a client wants of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// One command, or a burst of them.
    Commands,
    /// A read that only a leader answers.
    Read,
    /// A read that any replica answers.
    ReadHere,
}

#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        to: ReplicaId,
        bytes: Vec<u8>,
    },
    Write {
        id: ReplicaId,
        life: u64,
    },
    Written {
        id: ReplicaId,
        life: u64,
        tokens: Vec<PersistToken>,
    },
    Apply {
        id: ReplicaId,
        life: u64,
    },
    /// The thread for snapshots does its next piece of work.
    Freight {
        id: ReplicaId,
        life: u64,
    },
    /// A checkpoint is opened to be shipped.
    Provide {
        id: ReplicaId,
        life: u64,
        to: ReplicaId,
    },
    /// The state of a snapshot is durable and decoded.
    Fetched {
        id: ReplicaId,
        life: u64,
    },
    /// A checkpoint that nobody could use is replaced.
    CheckpointAnew {
        id: ReplicaId,
        life: u64,
    },
    Tick {
        id: ReplicaId,
        life: u64,
        /// Void when another time was set since.
        at: Duration,
    },
    Start {
        id: ReplicaId,
    },
    Checkpoint {
        id: ReplicaId,
    },
    /// A failure detector takes a peer for dead, rightly or not.
    Suspect {
        id: ReplicaId,
        life: u64,
        peer: ReplicaId,
    },
    /// Links break just when it matters.
    Cut {
        links: Vec<(ReplicaId, ReplicaId)>,
        lasting: Duration,
        /// As what it is counted.
        name: &'static str,
    },
    Mend {
        links: Vec<(ReplicaId, ReplicaId)>,
    },
    /// Links get slow.
    Congest {
        links: Vec<(ReplicaId, ReplicaId)>,
        by: Duration,
        lasting: Duration,
    },
    Relieve {
        links: Vec<(ReplicaId, ReplicaId)>,
    },
    /// A full disk has room again.
    Room {
        id: ReplicaId,
    },
    CrashAMember,
    /// A paused process goes on.
    Resume {
        id: ReplicaId,
        life: u64,
    },
    /// A client's request reaches a process.
    Asked {
        id: ReplicaId,
        life: u64,
        request: Request,
    },
    /// A fault hits a group that was left alone for a while.
    Trial,
    /// A process is killed, and started again after so long.
    Restart {
        id: ReplicaId,
        life: u64,
        back: Duration,
    },
    /// A process dies just when it matters, and its machine with it.
    Crash {
        id: ReplicaId,
        life: u64,
    },
    Command,
    Read,
    Operate,
    Storm,
}

impl Event {
    /// Whose process or disk it concerns; `None`: the world's own.
    pub(crate) fn whose(&self) -> Option<ReplicaId> {
        match self {
            Self::Deliver { to, .. } => Some(*to),
            Self::Write { id, .. }
            | Self::Written { id, .. }
            | Self::Apply { id, .. }
            | Self::Freight { id, .. }
            | Self::Provide { id, .. }
            | Self::Fetched { id, .. }
            | Self::CheckpointAnew { id, .. }
            | Self::Restart { id, .. }
            | Self::Suspect { id, .. }
            | Self::Asked { id, .. }
            | Self::Crash { id, .. }
            | Self::Tick { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The life of the process that it belongs to.
    pub(crate) fn life(&self) -> Option<u64> {
        match self {
            Self::Write { life, .. }
            | Self::Written { life, .. }
            | Self::Apply { life, .. }
            | Self::Freight { life, .. }
            | Self::Provide { life, .. }
            | Self::Fetched { life, .. }
            | Self::CheckpointAnew { life, .. }
            | Self::Restart { life, .. }
            | Self::Suspect { life, .. }
            | Self::Asked { life, .. }
            | Self::Crash { life, .. }
            | Self::Tick { life, .. } => Some(*life),
            _ => None,
        }
    }

    /// Whether it happens to the process, which need not run for it.
    pub(crate) fn kills(&self) -> bool {
        matches!(self, Self::Restart { .. } | Self::Crash { .. })
    }

    /// What the trace remembers of it.
    pub(crate) fn numbers(&self) -> [u64; 3] {
        let (kind, who, what) = match self {
            Self::Deliver { to, bytes } => (1, to.get(), xxh3_64_with_seed(bytes, 0)),
            Self::Write { id, .. } => (2, id.get(), 0),
            Self::Written { id, tokens, .. } => (3, id.get(), tokens.len() as u64),
            Self::Apply { id, .. } => (4, id.get(), 0),
            Self::Freight { id, .. } => (5, id.get(), 0),
            Self::Provide { id, to, .. } => (6, id.get(), to.get()),
            Self::Fetched { id, .. } => (20, id.get(), 0),
            Self::CheckpointAnew { id, .. } => (21, id.get(), 0),
            Self::Restart { id, back, .. } => (22, id.get(), back.as_millis() as u64),
            Self::Congest { links, by, .. } => (23, links.len() as u64, by.as_millis() as u64),
            Self::Relieve { links } => (24, links.len() as u64, 0),
            Self::Resume { id, .. } => (25, id.get(), 0),
            Self::Asked { id, request, .. } => (26, id.get(), *request as u64),
            Self::Trial => (27, 0, 0),
            Self::Tick { id, .. } => (7, id.get(), 0),
            Self::Start { id } => (8, id.get(), 0),
            Self::Checkpoint { id } => (9, id.get(), 0),
            Self::Mend { links } => (10, links.len() as u64, 0),
            Self::CrashAMember => (11, 0, 0),
            Self::Command => (12, 0, 0),
            Self::Read => (13, 0, 0),
            Self::Operate => (14, 0, 0),
            Self::Storm => (15, 0, 0),
            Self::Room { id } => (16, id.get(), 0),
            Self::Crash { id, .. } => (19, id.get(), 0),
            Self::Suspect { id, peer, .. } => (17, id.get(), peer.get()),
            Self::Cut { links, .. } => (18, links.len() as u64, 0),
        };
        [kind, who, what]
    }
}
