//! From a caller to the leader of a shard.
