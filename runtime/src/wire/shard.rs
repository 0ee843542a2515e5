//! Which shard of its class a key belongs to.
//!
//! Here: [`ShardId`] and [`Sharding`]. Both the shard count and the hash seed are fixed at founding (S8: a changed
//! hash or count would put one key into two shards), so `Sharding` is part of the cluster's record.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A fixed slice of a class's key space.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct ShardId {
    /// The class; 0 is `main`.
    #[serde(default)]
    pub class: u16,
    /// Position within the class, below its shard count.
    pub number: u32,
}

impl ShardId {
    /// A shard of the class `main`.
    pub const fn main(number: u32) -> Self {
        Self { class: 0, number }
    }
}

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.class == 0 {
            write!(f, "{}", self.number)
        } else {
            write!(f, "{}:{}", self.class, self.number)
        }
    }
}

/// How keys map to the shards of one class. Fixed at founding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sharding {
    /// Seed of the hash.
    pub seed: u64,
    /// Number of shards of the class `main`; at least 1.
    pub shards: u32,
}

impl Sharding {
    /// The shard of a key: `xxh3_64(tag, seed) mod shards`, where the tag is what stands between the first `{` and
    /// the next `}` when that is not empty, else the whole key (Redis Cluster's hash tags).
    pub fn shard_of(&self, key: &str) -> ShardId {
        let hash = xxh3_64_with_seed(tag(key).as_bytes(), self.seed);
        ShardId::main((hash % u64::from(self.shards)) as u32)
    }
}

fn tag(key: &str) -> &str {
    let Some(open) = key.find('{') else {
        return key;
    };
    match key[open + 1..].find('}') {
        Some(length) if length > 0 => &key[open + 1..open + 1 + length],
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_the_same_tag_share_a_shard() {
        // Redis Cluster specification, "hash tags".
        let sharding = Sharding {
            seed: 7,
            shards: 256,
        };
        assert_eq!(
            sharding.shard_of("cart:{42}"),
            sharding.shard_of("orders:{42}")
        );
        assert_eq!(tag("a{}b"), "a{}b");
        assert_eq!(tag("a{b"), "a{b");
        assert_eq!(tag("{x}{y}"), "x");
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // S8: these numbers are on the disks of founded clusters.
        let sharding = Sharding {
            seed: 0,
            shards: 256,
        };
        assert_eq!(
            sharding.shard_of("alice").number,
            (xxh3_64_with_seed(b"alice", 0) % 256) as u32
        );
        assert_eq!(xxh3_64_with_seed(b"", 0), 0x2d06_8005_38d3_94c2);
    }
}
