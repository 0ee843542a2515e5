//! What a transport is told at its start: address, identity, hello, keys, bounds.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{EndpointKeys, certificates::Identity};

/// Everything [`Transport::bind`](super::Transport::bind) needs.
#[derive(Debug)]
pub struct TransportOptions {
    /// Where to listen (port 0: any free one). `None` makes a client: it dials, nobody dials it, and it says so.
    pub listen: Option<SocketAddr>,
    /// Certificate, key and CA.
    pub identity: Identity,
    /// What to say of ourselves; read anew for each connection, so a node writes its store id in when it is admitted.
    pub hello: Arc<Mutex<LocalHello>>,
    /// Keys that let a restarted process end its predecessor's connections; nodes keep them in the store directory.
    pub keys: EndpointKeys,
    /// Bounds.
    pub limits: Limits,
}

/// What this process says of itself when it connects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalHello {
    /// The cluster; `None` before joining, and for a client that does not know it yet.
    pub cluster: Option<u128>,
    /// The name, equal to the certificate's.
    pub name: String,
    /// The store id; `None` before admission and for clients.
    pub store: Option<u64>,
    /// The store's start count.
    pub generation: u64,
}

/// Bounds of the transport. The defaults fit a LAN.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest frame in bytes, also of calls: an entry (1 MiB) or a snapshot chunk (256 KiB) with room for its envelope.
    /// A longer one received closes the connection.
    pub frame_bytes: usize,
    /// Frames waiting for one lane of one peer.
    pub queue_frames: usize,
    /// Bytes waiting for one lane of one peer. One frame always fits into an empty queue.
    pub queue_bytes: usize,
    /// Datagrams waiting for one peer; the newest is refused.
    pub queue_datagrams: usize,
    /// Clients connected at a time.
    pub clients: usize,
    /// Calls of one connection that are being answered.
    pub calls: u32,
    /// Silence after which a connection is given up: of one in use any silence, of one at rest that of a question. Never evidence
    /// that a node is dead.
    pub idle_timeout: Duration,
    /// Gap between packets of an otherwise silent connection in use. At most a quarter of `idle_timeout`, so that three may be
    /// lost.
    pub keep_alive: Duration,
    /// Most connections between nodes that only gossip uses, whoever dialled them. Beyond, those are closed that gossip has not
    /// used for longest, but none within 2 s of its last packet, for an answer may be on its way: with `q` probes per second that
    /// go out or come in, at most `gossip_connections + 2 q` are open. Connections in use do not count and are not closed for it.
    ///
    /// Such a connection costs memory (45 kB at each end) and nothing on the wire. Without one a probe costs a handshake, so in a quiet
    /// cluster of `N` nodes a share of `1 - gossip_connections / (N - 1)` of all probes does, at least: the default is for a thousand
    /// nodes. Measured in the documentation of [`transport`](super).
    pub gossip_connections: usize,
    /// A connection that only gossip uses is closed when gossip has not used it for so long. At least 10 s. The default reaches from
    /// one probe of a member to the next among 1,000 at two probes per second: everybody is probed once in `N / 2` seconds, so at
    /// most `N` seconds lie between.
    pub gossip_idle: Duration,
    /// From its last frame that was not gossip on a connection counts as in use for so long: kept alive, and watched for silence.
    /// At least `keep_alive`. Who waits longer than that for a reply asks again if the connection is closed meanwhile.
    pub in_use_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 4 << 20,
            queue_frames: 65_536,
            queue_bytes: 8 << 20,
            queue_datagrams: 256,
            clients: 4_096,
            calls: 16,
            idle_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(400),
            gossip_connections: 1_024,
            gossip_idle: Duration::from_secs(1_200),
            in_use_for: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// What contradicts itself, in words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.frame_bytes == 0 || self.frame_bytes > FRAME_BYTES_MAX {
            return Err("frame_bytes must be from 1 to 1 GiB");
        }
        if self.keep_alive.is_zero() || self.keep_alive * 4 > self.idle_timeout {
            return Err("keep_alive must be above zero and at most a quarter of idle_timeout");
        }
        if self.gossip_idle < GOSSIP_IDLE_LEAST {
            return Err("gossip_idle must be at least 10 s");
        }
        if self.in_use_for < self.keep_alive {
            return Err("in_use_for must be at least keep_alive");
        }
        Ok(())
    }
}

/// A length on the wire has four bytes; far below that, nobody wants to hold a frame in memory.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// Several times what an exchange of gossip takes.
const GOSSIP_IDLE_LEAST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_sound_and_a_late_keep_alive_is_not() {
        // STYLE 7: options are checked once.
        assert_eq!(Limits::default().check(), Ok(()));
        let late = Limits {
            keep_alive: Duration::from_secs(1),
            ..Limits::default()
        };
        assert!(late.check().is_err());
        let hasty = Limits {
            gossip_idle: Duration::from_secs(9),
            ..Limits::default()
        };
        assert!(hasty.check().is_err());
        let forgetful = Limits {
            in_use_for: Duration::from_millis(399),
            ..Limits::default()
        };
        assert!(forgetful.check().is_err());
    }
}
