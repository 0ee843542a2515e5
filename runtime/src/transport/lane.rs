//! The lanes of a connection: independent ordered streams of frames.
//!
//! Here: their names, numbers on the wire and priorities. Not here: the queues in front of them (`outbox`), the bytes
//! of a frame (`frame`).

/// One ordered stream of frames between two processes. A lane that is blocked does not block the others.
///
/// Within a lane of one connection frames arrive in the order of `send`, or not at all: what a broken connection held is
/// lost. When a connection takes over from another, what the former still holds may come later. Nothing is ordered
/// between lanes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Lane {
    /// Messages of consensus groups, except snapshots.
    Raft = 1,
    /// Requests of routers to evaluators.
    Request = 2,
    /// Answers to requests.
    Reply = 3,
    /// The reliable second leg of the gossip: probes by stream, delta sync.
    Gossip = 4,
    /// Snapshots and sync of state, on a connection of its own: a connection shares one congestion window, and beats
    /// must not wait behind a snapshot (E29).
    Bulk = 5,
}

impl Lane {
    /// Every lane, in the order of the wire numbers.
    pub const ALL: [Self; 5] = [
        Self::Raft,
        Self::Request,
        Self::Reply,
        Self::Gossip,
        Self::Bulk,
    ];

    /// The name in counters, errors and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Gossip => "gossip",
            Self::Bulk => "bulk",
        }
    }

    pub(super) fn index(self) -> usize {
        usize::from(self as u8) - 1
    }

    pub(super) fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == number)
    }

    /// What leaves first when a packet has room for one of several lanes: liveness of groups, then what ends work,
    /// then what begins work.
    pub(super) fn priority(self) -> i32 {
        match self {
            Self::Raft => 3,
            Self::Reply => 2,
            Self::Request => 1,
            Self::Gossip | Self::Bulk => 0,
        }
    }
}
