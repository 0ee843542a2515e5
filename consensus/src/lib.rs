//! One Raft group as a pure machine, and the log it needs.
