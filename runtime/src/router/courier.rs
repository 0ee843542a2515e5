//! What carries a router's requests away: the one seam between routing and sending.
//!
//! Here: [`Courier`], implemented by a node (its own groups straight, others over QUIC) and by a gateway client (QUIC
//! only). What arrives comes back by [`Router`](super::Router)'s methods `replies`, `table`, `connected`, `disconnected`.

use crate::wire::Request;

/// Carries requests to stores. Called on whichever thread made them necessary, never under a lock of the router, so it
/// may call the router back at once; it must not block.
pub trait Courier: Send + Sync + 'static {
    /// Takes requests for one store. Each may arrive at most once. `Err` gives back those that certainly did not leave
    /// (no connection, queue full); of the others nothing is promised.
    fn send(&self, store: u64, requests: Vec<Request>) -> Result<(), Vec<Request>>;

    /// The router's table is missing or of no use: fetch a newer one and hand it to `Router::table`. Called again, at a
    /// bounded rate, until calls find their way.
    fn need_table(&self);
}
