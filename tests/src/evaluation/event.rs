//! What happens in the world, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use synod::evaluation::ReplyToken;
use synod::wire::Reply;
use synod_consensus::{LogIndex, Term};

/// From a group's side to its evaluator's.
#[derive(Debug)]
pub(super) enum ToEvaluator {
    /// Evaluation may begin.
    Begin { serial: u64, term: Term },
    /// It is over.
    End { leader: Option<u64> },
    /// Somebody leads.
    Leader { leader: Option<u64> },
    /// Answer to a proposal.
    Proposed {
        serial: u64,
        batch: u64,
        result: Result<LogIndex, ()>,
    },
    /// The state holds this much.
    Applied { index: LogIndex },
    /// A read round is done, or has failed.
    Read { serial: u64, read: u64, ready: bool },
    /// Before a transfer.
    Pause { deadline: Duration },
    /// The transfer came to nothing.
    Resume,
}

/// From an evaluator's side to its group's.
#[derive(Debug)]
pub(super) enum ToGroup {
    /// Propose a batch.
    Propose {
        serial: u64,
        batch: u64,
        payload: bytes::Bytes,
    },
    /// Begin a read round.
    Read { serial: u64, read: u64 },
    /// Nothing is in flight.
    Paused,
}

/// What can happen at a node's seat.
#[derive(Debug)]
pub(super) enum SeatEvent {
    /// Time for the group.
    GroupWake,
    /// Time for the evaluator.
    EvaluatorWake,
    /// The evaluator's mailbox is drained.
    Flush,
    /// See [`ToEvaluator`].
    ToEvaluator(ToEvaluator),
    /// See [`ToGroup`].
    ToGroup(ToGroup),
    /// A checkpoint is due.
    Checkpoint,
    /// A pause that did not end in a transfer ends.
    GiveUpHandover,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A message of Raft arrives.
    Raft {
        to: usize,
        shard: usize,
        bytes: Vec<u8>,
    },
    /// The disk is through with the first thing in its queue.
    Written { node: usize, life: u64 },
    /// At a seat.
    Seat {
        node: usize,
        life: u64,
        shard: usize,
        event: SeatEvent,
    },
    /// A request arrives.
    Request {
        to: usize,
        router: usize,
        bytes: Vec<u8>,
    },
    /// A reply arrives.
    Reply {
        router: usize,
        from: usize,
        bytes: Vec<u8>,
    },
    /// Time for a router.
    RouterWake { router: usize },
    /// A router learns that it lost its connection to a node, or that it has one again.
    Connection {
        router: usize,
        node: usize,
        up: bool,
    },
    /// A router gets a table.
    Table { router: usize },
    /// A client asks.
    Ask { client: usize },
    /// A handler has slept enough.
    Sleepers,
    /// A stopped process goes on.
    Thaw { node: usize },
    /// A node that is down starts.
    Start { node: usize },
    /// The next fault.
    Fault,
    /// An isolated node is connected again.
    Reconnect { node: usize },
    /// The second half of a bounce: leadership goes back.
    Bounce { shard: usize, to: usize, tries: u32 },
}

impl Event {
    /// The node at which it happens, if it happens inside of a process.
    pub(super) fn node(&self) -> Option<usize> {
        match self {
            Self::Raft { to, .. } | Self::Request { to, .. } => Some(*to),
            Self::Written { node, .. } | Self::Seat { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The router at which it happens, if it happens inside of one.
    pub(super) fn router(&self) -> Option<usize> {
        match self {
            Self::Reply { router, .. }
            | Self::RouterWake { router }
            | Self::Connection { router, .. }
            | Self::Table { router } => Some(*router),
            _ => None,
        }
    }
}

/// Ordered by time, then by the order of scheduling.
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Duration, u64, Slot)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Slot(usize);

impl Agenda {
    /// Empty.
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            scheduled: 0,
        }
    }

    /// Lets `event` happen at `at`.
    pub(super) fn put(&mut self, at: Duration, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.scheduled += 1;
        self.heap.push(Reverse((at, self.scheduled, Slot(slot))));
    }

    /// The next event.
    pub(super) fn take(&mut self) -> Option<(Duration, Event)> {
        let Reverse((at, _, Slot(slot))) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.events[slot].take().expect("scheduled once");
        Some((at, event))
    }
}

impl Default for Agenda {
    fn default() -> Self {
        Self::new()
    }
}

/// The way back of a request: which router sent it.
pub(super) type Tokens = std::collections::BTreeMap<ReplyToken, usize>;

/// A reply on its way.
pub(super) fn encode_reply(reply: &Reply) -> Vec<u8> {
    synod::wire::encode(reply).to_vec()
}
