//! The pure machine of one router: what goes in, what comes out.
//!
//! Here: [`RouterCore`] with its inputs and outputs. Driven by the shell, by gateway clients and by simulators; time and
//! chance come in as arguments, so that the same seed gives the same sendings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{AskError, CheckedRouterOptions, Refused};
use crate::wire::{Reply, Request, RoutingTable, ShardId};

/// One call of a router; also the `id` of its requests. Never used again by the same router.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// What a call wants of the entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// May change it; takes effect at most once.
    Command,
    /// Reads it as of a moment between call and answer.
    Query,
    /// Reads the nearest replica's state if that is at most this old.
    Stale {
        /// Greatest age that the caller accepts.
        max_age: Duration,
    },
}

/// One call as the caller states it.
#[derive(Clone, Debug)]
pub struct AskSpec {
    /// The entity's kind.
    pub kind: String,
    /// The entity's key.
    pub key: String,
    /// Wire name of the message.
    pub message: String,
    /// The encoded message.
    pub body: Bytes,
    /// Command, query or stale query.
    pub mode: Mode,
    /// When the caller gives up, on the same clock as `now`.
    pub deadline: Duration,
    /// W3C `traceparent`, if the caller has one.
    pub trace: Option<String>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The handler's encoded result.
    pub body: Bytes,
    /// Stale queries: upper bound of the age of the state that was read; else zero.
    pub age: Duration,
}

/// What the driver has to do, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum RouterOutput {
    /// Send the request to the store; each sending reaches it at most once. If it certainly did not leave, say so by
    /// [`RouterCore::unsent`].
    Send {
        /// The store.
        store: u64,
        /// The request.
        request: Request,
    },
    /// The call has ended. Exactly one per call.
    Done {
        /// The call.
        call: CallId,
        /// Its answer, or why there is none.
        result: Result<Answered, AskError>,
    },
    /// Ask any node for a newer table and give it to [`RouterCore::table`].
    NeedTable,
}

/// The routing of one process: sessions, attempts, leader hints, back-off and deadlines of all its calls.
#[derive(Debug)]
pub struct RouterCore {
    options: CheckedRouterOptions,
    router: u128,
    local: Option<u64>,
    table: Option<Arc<RoutingTable>>,
    outputs: VecDeque<RouterOutput>,
    next: u64,
}

impl RouterCore {
    /// A router without table. `router` is its random identity, `local` the store of the same process if there is one,
    /// `seed` the source of its jitter.
    pub fn new(options: CheckedRouterOptions, router: u128, local: Option<u64>, seed: u64) -> Self {
        let _ = seed;
        Self {
            options,
            router,
            local,
            table: None,
            outputs: VecDeque::new(),
            next: 0,
        }
    }

    /// Accepts a call; it ends by one [`RouterOutput::Done`].
    pub fn ask(&mut self, now: Duration, ask: AskSpec) -> CallId {
        let _ = (now, ask, &self.options, self.router, self.local);
        self.next += 1;
        let call = CallId(self.next);
        self.outputs.push_back(RouterOutput::Done {
            call,
            result: Err(Refused::Closed.into()),
        });
        call
    }

    /// A reply of `from` arrived. One that belongs to no call, or comes late, changes nothing.
    pub fn reply(&mut self, now: Duration, from: u64, reply: Reply) {
        let _ = (now, from, reply);
    }

    /// A sending that certainly did not leave this process (no connection, queue full).
    pub fn unsent(&mut self, now: Duration, store: u64, call: CallId, attempt: u32) {
        let _ = (now, store, call, attempt);
    }

    /// A table arrived. An older one, or another cluster's, changes nothing.
    pub fn table(&mut self, now: Duration, table: Arc<RoutingTable>) {
        let _ = now;
        self.table = Some(table);
    }

    /// Somebody who should know (the local group, gossip) says who leads.
    pub fn leader(&mut self, now: Duration, shard: ShardId, store: u64) {
        let _ = (now, shard, store);
    }

    /// The connection to a store was lost, or a failure detector calls it dead: requests on the way there may be lost.
    pub fn disconnected(&mut self, now: Duration, store: u64) {
        let _ = (now, store);
    }

    /// There is a connection to the store (again).
    pub fn connected(&mut self, now: Duration, store: u64) {
        let _ = (now, store);
    }

    /// Time has come; call when `now >= wake_at()`.
    pub fn tick(&mut self, now: Duration) {
        let _ = now;
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// The next thing to do. Poll until `None` after every input.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        self.outputs.pop_front()
    }
}
