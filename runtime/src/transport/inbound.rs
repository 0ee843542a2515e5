//! What the transport hands to the node: frames, datagrams, calls, and who came and went.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Lane, Peer};

/// The receiver of everything that arrives. Called on the transport's own thread, so every method must hand over and
/// return at once: while it runs, nothing else is received or sent.
pub trait Inbound: Send + Sync + 'static {
    /// Frames of one lane, in order: everything that one read delivered, together.
    fn frame(&self, from: &Peer, lane: Lane, frames: Vec<Bytes>);

    /// One datagram: unordered, perhaps repeated, at most the path's MTU, not empty.
    fn datagram(&self, from: &Peer, datagram: Bytes);

    /// Whether a datagram, sent or received, is gossip: a connection that carries nothing but that and the gossip lane may be put
    /// to rest ([`Limits::gossip_connections`](super::Limits::gossip_connections)).
    fn is_gossip(&self, _datagram: &[u8]) -> bool {
        false
    }

    /// A question from somebody who knew only our address. Dropping `answer` tells the caller that there is none.
    fn call(&self, from: &Peer, frame: Bytes, answer: CallAnswer);

    /// A peer is reachable. Of one store this comes again only after [`disconnected`](Self::disconnected): a second
    /// connection of the same process is not announced.
    fn connected(&self, peer: &Peer);

    /// The last connection to that process is gone; frames on the way may be lost. Not a verdict on the process.
    fn disconnected(&self, peer: &Peer);

    /// Asked once per connection, after the hello and before anything else: an `Err` refuses the peer with that
    /// sentence. For what only the node knows: removed stores, the certificate key of a store.
    fn admit(&self, _peer: &Peer) -> Result<(), String> {
        Ok(())
    }
}

/// The answer that a call waits for. May be sent from any thread; dropped, the caller gets
/// [`CallError::Unanswered`](super::CallError::Unanswered).
#[derive(Debug)]
pub struct CallAnswer {
    pub(super) sender: oneshot::Sender<Bytes>,
}

impl CallAnswer {
    /// Answers the call. When the caller is gone, nothing happens.
    pub fn send(self, answer: Bytes) {
        // The receiving end is dropped when the caller's connection is gone: nobody is left to tell.
        drop(self.sender.send(answer));
    }
}
