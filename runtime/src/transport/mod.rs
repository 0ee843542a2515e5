//! QUIC between nodes and from clients.
//!
//! Here: one endpoint per process on a thread of its own ([`Transport`]); connections under mutual TLS, opened on
//! demand from either side; lanes of length-limited frames; datagrams; calls to addresses whose store is not known yet;
//! the bounded queues in front of all that; `certificates`. The node and the router call [`Transport`]; what arrives goes
//! to their [`Inbound`]. Not here: what the bytes mean (`wire`, `consensus`, `membership`), who is a member, and whether somebody
//! is alive: an open connection proves nothing (M47).
//!
//! # What gossip costs on the wire
//!
//! A quiet cluster without groups, default LAN timing (two probes per second and node), UDP payload per node and direction, with QUIC's
//! headers, acknowledgements, handshakes and search for the MTU, without headers of IP and UDP; over a path that takes 1,500 bytes.
//! The machine's own payload is 129 B/s in 4.0 datagrams/s in each row.
//!
//! | nodes | [`gossip_connections`](Limits::gossip_connections) | open per node | exchanges that need a handshake | sent = received per node | |
//! |---|---|---|---|---|---|
//! | 10 | 1,024 | 9 | 0 | 361 B/s in 6.1 packets/s | measured |
//! | 100 | 1,024 | 99 | 0 | 361 B/s in 6.1 packets/s | measured |
//! | 40 | 8 | 6 to 14 | 87 % | 26.8 kB/s in 220 packets/s | measured |
//! | 1,000 | 1,024 | 999 | 0 | 361 B/s in 6.1 packets/s | computed |
//! | the same, from its start until everybody was met once: 999 handshakes in 4 to 8 minutes | | | | 7.7 MB in all | computed |
//! | 1,000 | 64 | 64 to 72 | 94 % or more | 29 to 31 kB/s in 240 to 270 packets/s | computed |
//!
//! The parts that the computed rows are made of, each measured: a datagram of gossip over an open connection takes 90 bytes with its
//! share of acknowledgements, 32 of them its own; a new connection 7.7 kB in 66 packets in each direction, certificates, hello, search
//! for the MTU and end included, most of the packets for the search; a connection at rest nothing, and 45 kB of memory at each end
//! (100 nodes). Each node takes part in four exchanges of probe and answer per second; one needs a new connection where not both ends
//! kept theirs, a share of `1 - gossip_connections / (N - 1)` at least. So the default bound is for a thousand nodes: below it a node
//! pays with memory, above it with handshakes, which are eighty times the bytes. Over loopback, whose packets may be larger, a new
//! connection takes 56 kB for the search alone.
//!
//! `cargo run --release -p tests --example wire -- cluster 100 60`, `... cluster 40 90 8` and `... handshake 100` measure it, in a
//! network namespace whose loopback has an MTU of 1,500. Beats between voters of one group come on top where there are groups:
//! ten datagrams per second in each direction, which keep that connection in use (`rest`).

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
mod port;
mod rest;

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
pub(crate) use port::{Door, Place};
