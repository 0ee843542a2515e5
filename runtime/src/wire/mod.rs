//! What travels between nodes and from clients: plain data in named MessagePack, with room to add fields.
//!
//! Here: requests and replies ([`request`]), shards and keys ([`shard`]), the routing table ([`table`]), memory to encode in
//! (`scratch`).
//! Not here: Raft's messages (`synod-consensus`), gossip (`synod-membership`), frames and lanes (`transport`).
//!
//! Every type may gain fields with `#[serde(default)]`; none may lose or reinterpret one (STYLE 11).

pub mod request;
pub(crate) mod scratch;
pub mod shard;
pub mod table;

pub use request::{Failure, Intent, Outcome, Refusal, Reply, Request, SessionId};
pub use shard::{ShardId, Sharding};
pub use table::{RoutingTable, ShardPlace, StoreAddress};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes as named MessagePack: two versions may share these bytes, so fields carry their names.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    encode_behind(&[], value)
}

/// [`encode`]s with `head` in front, in one piece of memory.
pub(crate) fn encode_behind<T: Serialize + ?Sized>(head: &[u8], value: &T) -> Bytes {
    // Writing into memory cannot fail, and every type of this module is representable.
    scratch::gather(|bytes| {
        bytes.extend_from_slice(head);
        rmp_serde::encode::write_named(bytes, value)
    })
    .expect("plain data always encodes")
}

/// Decodes what [`encode`] wrote. Bytes from outside: an error is the sender's fault and changes nothing.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}
