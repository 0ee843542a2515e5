//! What a router needs to find the leader of a shard.
//!
//! Made by a node from the system group's log (placement) and gossip (addresses), handed to routers of the same
//! process by reference and to gateway clients over the wire. It is a hint: the group itself decides who leads.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Sharding;

/// Where shards live, as one node knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoutingTable {
    /// The cluster; a client pins it.
    pub cluster: u128,
    /// Grows with every change of placement.
    pub epoch: u64,
    /// How keys map to shards.
    pub sharding: Sharding,
    /// Every admitted store that is not known to be dead, and how to reach it.
    pub stores: Vec<StoreAddress>,
    /// By shard number.
    pub shards: Vec<ShardPlace>,
}

impl RoutingTable {
    /// Whether the store is a member or holds a replica, as far as this table says.
    pub fn names(&self, store: u64) -> bool {
        self.stores.iter().any(|known| known.store == store)
            || self
                .shards
                .iter()
                .any(|place| place.replicas.contains(&store))
    }
}

/// One store and its addresses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoreAddress {
    /// Store id.
    pub store: u64,
    /// The node's name.
    pub name: String,
    /// Where it listens, best first.
    pub addresses: Vec<SocketAddr>,
}

/// Where one shard lives.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ShardPlace {
    /// Stores that hold a replica.
    pub replicas: Vec<u64>,
    /// Store of the last known leader, else of the preferred one.
    pub leader: Option<u64>,
}
