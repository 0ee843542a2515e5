//! Who is at the other end of a connection, as the handshake and the hello proved it.

use std::sync::Arc;

use super::certificates::PublicKey;

/// The process at the other end: a node with or without a store, or a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its store; `None` for clients and for nodes that were not admitted yet.
    pub store: Option<u64>,
    /// Its name, which is the name in its certificate.
    pub name: Arc<str>,
    /// The cluster that it is of, which is ours if we are of one; `None` before it joined.
    pub cluster: Option<u128>,
    /// Start count of its store; 0 without a store.
    pub generation: u64,
    /// The public key of its certificate, which also signs its gossip records.
    pub key: PublicKey,
    /// Where [`Transport::reply`](super::Transport::reply) reaches it.
    pub path: ReplyPath,
    /// True for a gateway client, which is no member and never can be.
    pub client: bool,
}

/// The way back to whoever sent a frame. Valid while the connection lasts; of a store, also over its next connection
/// as long as it is the same process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReplyPath {
    pub(super) connection: u64,
    pub(super) store: Option<u64>,
    pub(super) generation: u64,
}
