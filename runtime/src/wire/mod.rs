//! What travels between nodes and clients.
