//! QUIC between nodes and from clients.
