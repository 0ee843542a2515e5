//! Addresses of this machine to which a node can come back.
//!
//! A port that the system chose is given to somebody else as soon as its node is down for a moment, and a test that
//! starts the node again there fails now and then. These ports lie below those that systems choose from (32,768 and up
//! on Linux, 49,152 and up elsewhere), so that only the tests take them, each process and each call another one.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A free address that nobody gets while it is not in use.
pub(crate) fn lasting() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side have neighbouring ids: their ports lie apart.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..PORTS {
        let next = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into());
        let port = FIRST + (next % u32::from(PORTS)) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!(
        "no port from {FIRST} to {} is free on 127.0.0.1",
        FIRST + PORTS
    );
}
