//! What the transport counts, each under a name: nothing is dropped or refused in silence.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counts since the start.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $($(#[doc = $doc])+ pub(super) $name: Count,)+ }

        impl Counters {
            /// Every count with its name.
            pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),+]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Frames given to quinn.
    frames_sent,
    /// Frames handed to the node.
    frames_received,
    /// Writes that carried them: frames_sent / writes is how many leave together.
    writes,
    /// Hand-overs to the node.
    reads,
    /// Datagrams given to quinn.
    datagrams_sent,
    /// Datagrams handed to the node.
    datagrams_received,
    /// Cross-thread wake-ups of the transport's thread.
    wakes,
    /// Frames refused: the queue of the Raft lane was full.
    refused_raft_queue_full,
    /// Frames refused: the queue of the request lane was full.
    refused_request_queue_full,
    /// Frames refused: the queue of the reply lane was full.
    refused_reply_queue_full,
    /// Frames refused: the queue of the gossip lane was full.
    refused_gossip_queue_full,
    /// Frames refused: the queue of the bulk lane was full.
    refused_bulk_queue_full,
    /// Frames refused: above the limit.
    refused_frame_too_large,
    /// Frames and datagrams refused: the store has been unreachable for a while.
    refused_unreachable,
    /// Frames and datagrams refused: no address of the store is known.
    refused_no_address,
    /// Datagrams refused: too many wait already.
    refused_datagram_queue_full,
    /// Datagrams refused or dropped: above the path's MTU.
    refused_datagram_too_large,
    /// Queued frames dropped: the store became unreachable, or the client is gone.
    dropped_unreachable,
    /// Replies dropped: whoever asked is gone.
    dropped_reply_without_peer,
    /// Connection attempts begun.
    dials,
    /// Connection attempts that failed.
    dials_failed,
    /// Connections that were taken into use, from either side.
    connections,
    /// Connections from elsewhere that came to nothing: TLS failed (no certificate, one that is no good, another protocol), they were
    /// closed before TLS was through, TLS took longer than the idle timeout, or with the hello longer than 5 s. A hello that came in
    /// time and was not good is in `hellos_refused`.
    handshakes_failed,
    /// Callers that were asked to show first that they are where they say, since many handshakes were under way.
    handshakes_sent_back,
    /// Connections refused in the hello, by either end.
    hellos_refused,
    /// Connections refused: too many clients or handshakes.
    refused_too_many,
    /// Connections closed: another connection to the same process took over.
    connections_superseded,
    /// Connections closed: their process has been started anew.
    connections_of_older_start,
    /// Connections closed: a frame above the limit, an unknown opening, a lane opened twice.
    connections_broken_protocol,
    /// Connections closed: only gossip used them, and there were too many of them or it did not use them for long.
    connections_put_to_rest,
    /// Packets that only keep a connection in use alive.
    keep_alives,
    /// UDP payload given to the socket: packets. Of connections whose handshake failed nothing, of live ones as of 0.25 s ago.
    wire_packets_sent,
    /// The same in bytes.
    wire_bytes_sent,
    /// UDP payload taken from the socket likewise: packets.
    wire_packets_received,
    /// The same in bytes.
    wire_bytes_received,
    /// Calls handed to the node.
    calls_received,
}
