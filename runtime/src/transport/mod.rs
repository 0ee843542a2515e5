//! QUIC between nodes and from clients.
//!
//! Here: one endpoint per process on a thread of its own ([`Transport`]); connections under mutual TLS, opened on
//! demand from either side; lanes of length-limited frames; datagrams; calls to addresses whose store is not known yet;
//! the bounded queues in front of all that; `certificates`. The node and the router call [`Transport`]; what arrives goes
//! to their [`Inbound`]. Not here: what the bytes mean (`wire`, `consensus`, `membership`), who is a member, and whether somebody
//! is alive: an open connection proves nothing (M47).

pub mod certificates;

mod accept;
mod closing;
mod core;
mod counters;
mod dial;
mod endpoint;
mod error;
mod frame;
mod handle;
mod hello;
mod inbound;
mod keys;
mod lane;
mod link;
mod options;
mod outbox;
mod party;
mod peer;

pub use certificates::{
    CaError, DevelopmentCa, Identity, IdentityError, Issued, PublicKey, Signer,
};
pub use error::{BindError, CallError, SendRefused};
pub use handle::Transport;
pub use inbound::{CallAnswer, Inbound};
pub use keys::EndpointKeys;
pub use lane::Lane;
pub use options::{Limits, LocalHello, TransportOptions};
pub use peer::{Peer, ReplyPath};
