//! Whether anybody listens at an address.
//!
//! QUIC is told nothing when the process at the other end dies, and its sockets ignore what the network says of it, for anybody may say
//! it. But the kernel of a machine that still runs answers what comes to a closed port at once (port unreachable: RFC 792; RFC 1122,
//! 4.1.3.1), and processes die more often than machines. Here: [`Port`], which sends a byte over a connected socket of its own, for only
//! such a socket is told. No answer says nothing. Not here: whether it is believed (`node::ports`, `client::doubts`).

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// No QUIC packet begins like this (RFC 9000, 17.2 and 17.3: the fixed bit): whoever gets it drops it.
const KNOCK: [u8; 1] = [0];

/// The way to one address.
#[derive(Debug)]
pub(crate) struct Port(UdpSocket);

impl Port {
    /// The way there; nothing is sent.
    pub(crate) fn open(to: SocketAddr) -> Result<Self> {
        let from = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(from)?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Self(socket))
    }

    /// Sends a byte. Returns whether one was refused since the last call; the answer to this one is there at once only from the same
    /// machine. Kernels answer a few in a row and then one in a second: no answer takes nothing back.
    pub(crate) fn knock(&self) -> bool {
        // What the last one met is told instead of sending.
        let before = self.send_refused();
        let again = before && self.send_refused();
        before || again || self.is_refused()
    }

    /// Whether what was sent was refused, since this or `knock` was asked last.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.0.take_error(), Ok(Some(error)) if error.kind() == ErrorKind::ConnectionRefused)
    }

    fn send_refused(&self) -> bool {
        let sent = self.0.send(&KNOCK);
        matches!(sent, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    }
}
