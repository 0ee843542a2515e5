//! Running commands on a leader: pure.
