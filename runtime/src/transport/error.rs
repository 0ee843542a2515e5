//! Why the transport did not do what was asked. Every error says in one sentence what to change.

use std::{io, net::SocketAddr, time::Duration};

use super::Lane;

/// Why [`Transport::bind`](super::Transport::bind) failed. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "the address {address} is in use by another process: stop it or pass another address to listen on"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The operating system refused the socket.
    #[error("cannot listen on {address}: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The development CA's key lies unprotected beside the stores, so it proves nothing to other machines.
    #[error(
        "the development CA is for loopback addresses only and {address} is not one: make real certificates and pass \
         the CA's, the node's and its key"
    )]
    DevelopmentBeyondLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The certificate is of somebody else.
    #[error(
        "the certificate is for node '{certificate}', but this node's name is '{name}': pass the certificate of '{name}'"
    )]
    CertificateOfAnother {
        /// The name in the certificate.
        certificate: String,
        /// The name of this node.
        name: String,
    },
    /// Client certificates cannot act as nodes.
    #[error(
        "the certificate of '{name}' is a client's and cannot act as a node: pass a node certificate"
    )]
    ClientCertificate {
        /// The name in the certificate.
        name: String,
    },
    /// The limits contradict each other.
    #[error("the transport's limits cannot be: {0}")]
    Limits(&'static str),
    /// TLS did not accept certificate, key or CA.
    #[error("the certificate, its key and the CA do not fit together: {0}")]
    Tls(String),
    /// The thread could not be started.
    #[error("cannot start the transport's thread: {0}")]
    Thread(io::Error),
}

/// Why frames were not taken. Refused means refused: nothing was queued.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendRefused {
    /// The queue holds its bound already. Send again later.
    #[error("the {} queue to store {to} is full", lane.name())]
    QueueFull {
        /// The store addressed.
        to: u64,
        /// The lane whose queue is full.
        lane: Lane,
    },
    /// [`Limits::queue_datagrams`](super::Limits::queue_datagrams) wait already.
    #[error("the datagram queue to store {to} is full")]
    DatagramQueueFull {
        /// The store addressed.
        to: u64,
    },
    /// A frame above [`Limits::frame_bytes`](super::Limits::frame_bytes) would break the connection at the other end.
    #[error("a frame of {bytes} bytes is above the limit of {limit} bytes")]
    FrameTooLarge {
        /// Length of the frame.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A datagram above the path's MTU can never arrive. Ask [`Transport::max_datagram`](super::Transport::max_datagram).
    #[error("a datagram of {bytes} bytes is above the path's limit of {limit} bytes")]
    DatagramTooLarge {
        /// Length of the datagram.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No address of that store is known and it has not connected by itself.
    #[error("no address of store {to} is known")]
    NoAddress {
        /// The store addressed.
        to: u64,
    },
    /// Dialling failed for a while and goes on in the background; this call asked it to.
    #[error("store {to} has been unreachable for {} ms", since.as_millis())]
    Unreachable {
        /// The store addressed.
        to: u64,
        /// How long dialling has failed.
        since: Duration,
    },
    /// [`Transport::close`](super::Transport::close) was called.
    #[error("the transport is closed")]
    Closed,
}

/// Why a [`Transport::call`](super::Transport::call) has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nothing was asked: no connection within the deadline.
    #[error("nobody answers at {address}: {reason}")]
    Unreachable {
        /// The address called.
        address: SocketAddr,
        /// What the last attempt met.
        reason: String,
    },
    /// Nothing was asked: the two ends must not talk. Trying again does not help; the sentence says what would.
    #[error("{address} and this process cannot talk: {reason}")]
    Refused {
        /// The address called.
        address: SocketAddr,
        /// Which of the two refused, and why.
        reason: String,
    },
    /// The question was sent; whether it was handled is unknown.
    #[error("no answer from {address} within {} ms", deadline.as_millis())]
    Deadline {
        /// The address called.
        address: SocketAddr,
        /// The time given.
        deadline: Duration,
    },
    /// The question was sent and the other end gave no answer, or the connection broke before one came.
    #[error("{address} gave no answer: {reason}")]
    Unanswered {
        /// The address called.
        address: SocketAddr,
        /// What happened instead.
        reason: String,
    },
    /// The question is above [`Limits::frame_bytes`](super::Limits::frame_bytes); nothing was sent.
    #[error("a call of {bytes} bytes is above the limit of {limit} bytes")]
    TooLarge {
        /// Length of the question.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// [`Transport::close`](super::Transport::close) was called.
    #[error("the transport is closed")]
    Closed,
}
