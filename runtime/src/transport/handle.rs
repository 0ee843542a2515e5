//! The transport as its callers see it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{BindError, CallError, Inbound, Lane, ReplyPath, SendRefused, TransportOptions};

/// One QUIC endpoint. Cheap to clone, usable from every thread; no method blocks.
#[derive(Clone, Debug)]
pub struct Transport {
    local: SocketAddr,
}

impl Transport {
    /// Starts the endpoint on a thread of its own. What arrives goes to `inbound`.
    pub fn bind(options: TransportOptions, _inbound: Arc<dyn Inbound>) -> Result<Self, BindError> {
        let address = options
            .listen
            .unwrap_or_else(|| SocketAddr::from(([0; 4], 0)));
        Err(BindError::Socket {
            address,
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// Where this process listens; for a client, where it dials from.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where `store` says it can be reached, best first. Replaces what was known; an open connection stays.
    pub fn set_address(&self, _store: u64, _addresses: Vec<SocketAddr>) {}

    /// Queues `frames` for `to`, all or none, and dials when there is no connection.
    ///
    /// Taken is not delivered: what a breaking connection holds is lost.
    pub fn send(&self, _to: u64, _lane: Lane, _frames: Vec<Bytes>) -> Result<(), SendRefused> {
        Err(SendRefused::Closed)
    }

    /// Queues one datagram for `to`, and dials when there is no connection.
    pub fn datagram(&self, _to: u64, _datagram: Bytes) -> Result<(), SendRefused> {
        Err(SendRefused::Closed)
    }

    /// The largest datagram that the path to `to` takes now, in bytes. It may shrink or grow.
    pub fn max_datagram(&self, _to: u64) -> usize {
        0
    }

    /// Queues `frames` on the reply lane back to whoever sent a request. When it is gone they are dropped and counted:
    /// whoever waits for a reply asks again.
    pub fn reply(&self, _path: ReplyPath, _frames: Vec<Bytes>) {}

    /// Asks whoever listens at `address`, for up to `deadline`; dials again while nobody answers. May be awaited on any
    /// executor.
    pub async fn call(
        &self,
        _address: SocketAddr,
        _frame: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, CallError> {
        Err(CallError::Closed)
    }

    /// What happened so far, by name: for metrics. Counts only grow.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Closes every connection, waits up to a second until the peers were told, and ends the thread. Further sends are
    /// refused. The last clone dropped does the same without waiting.
    pub fn close(&self) {}
}
