//! The transport as its callers see it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    BindError, CallError, Inbound, Lane, ReplyPath, SendRefused, TransportOptions,
    core::Core,
    dial,
    endpoint::{self, Ending, Started},
    outbox::lock,
};

/// One QUIC endpoint. Cheap to clone, usable from every thread; no method blocks.
///
/// It ends with [`close`](Self::close) or with its last clone; an [`Inbound`] that holds a clone must be closed.
#[derive(Clone)]
pub struct Transport(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    started: Started,
    /// Tells the thread how to end.
    end: watch::Sender<Option<Ending>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(Ending::Farewell);
    }
}

impl Handle {
    fn end(&self, how: Ending) {
        self.core.closed.store(true, Ordering::Relaxed);
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(how);
            first
        });
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({})", self.local_addr())
    }
}

impl Transport {
    /// Starts the endpoint on a thread of its own. What arrives goes to `inbound`.
    pub fn bind(options: TransportOptions, inbound: Arc<dyn Inbound>) -> Result<Self, BindError> {
        let (end, ends) = watch::channel(None);
        let (core, started) = endpoint::start(options, inbound, ends)?;
        Ok(Self(Arc::new(Handle { core, started, end })))
    }

    /// Where this process listens; for a client, where it dials from.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.started.local
    }

    /// Where `store` says it can be reached, best first. Replaces what was known; an open connection stays.
    pub fn set_address(&self, store: u64, addresses: Vec<SocketAddr>) {
        self.0.core.set_address(store, addresses);
    }

    /// Closes the connections to `store`, which gets to read `reason`, and forgets its addresses. For a store that was
    /// removed: [`Inbound::admit`] keeps it out from then on.
    pub fn disconnect(&self, store: u64, reason: &str) {
        self.0.core.disconnect(store, reason);
    }

    /// Queues `frames` for `to`, all or none, and dials when there is no connection.
    ///
    /// Taken is not delivered: what a breaking connection holds is lost.
    pub fn send(&self, to: u64, lane: Lane, frames: Vec<Bytes>) -> Result<(), SendRefused> {
        self.0.core.send(to, lane, frames)
    }

    /// Queues one datagram for `to`, and dials when there is no connection.
    pub fn datagram(&self, to: u64, datagram: Bytes) -> Result<(), SendRefused> {
        self.0.core.datagram(to, datagram)
    }

    /// The largest datagram that the path to `to` takes now, in bytes. It may shrink or grow (M48).
    pub fn max_datagram(&self, to: u64) -> usize {
        self.0.core.max_datagram(to)
    }

    /// Whether a connection to `to` is open. That proves nothing about the process (M47).
    pub fn is_connected(&self, to: u64) -> bool {
        self.0
            .core
            .store(to)
            .is_some_and(|party| party.connected.load(Ordering::Relaxed))
    }

    /// Queues `frames` on the reply lane back to whoever sent a request. When it is gone they are dropped and counted:
    /// whoever waits for a reply asks again.
    pub fn reply(&self, path: ReplyPath, frames: Vec<Bytes>) {
        self.0.core.reply(path, frames);
    }

    /// Asks whoever listens at `address`, for up to `deadline`; dials again while nobody answers. May be awaited on any
    /// executor.
    pub async fn call(
        &self,
        address: SocketAddr,
        frame: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let core = &self.0.core;
        let (bytes, limit) = (frame.len(), core.limits.frame_bytes);
        if bytes > limit {
            return Err(CallError::TooLarge { bytes, limit });
        }
        if core.is_closed() {
            return Err(CallError::Closed);
        }
        let Started {
            endpoint, runtime, ..
        } = &self.0.started;
        let Some(endpoint) = lock(endpoint).clone() else {
            return Err(CallError::Closed);
        };
        let call = runtime.spawn(dial::call(core.clone(), endpoint, address, frame, deadline));
        call.await.unwrap_or(Err(CallError::Closed)) // the thread ends and drops its tasks
    }

    /// How many connections are in use: up to two per store and one per client; calls do not count.
    pub fn connections(&self) -> usize {
        self.0.core.connections_in_use()
    }

    /// What happened so far, by name: for metrics. Counts only grow.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.core.counters.all()
    }

    /// Says farewell on every connection and ends the thread, within a second. Further sends are refused at once. The last
    /// clone dropped does the same. See [`closed`](Self::closed).
    pub fn close(&self) {
        self.0.end(Ending::Farewell);
    }

    /// Ends the thread without a word, as if the process had been killed: peers notice nothing. For tests of failure.
    pub fn abort(&self) {
        self.0.end(Ending::Silence);
    }

    /// Waits until the thread has ended after [`close`](Self::close) or [`abort`](Self::abort): the port is free again.
    pub async fn closed(&self) {
        self.0.end.closed().await;
    }
}
