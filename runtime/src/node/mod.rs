//! One node: everything of one process put together, started and stopped.
//!
//! Here: [`NodeBuilder`] and [`Node`] (start, stop), the order of a start (`start`), joining and founding (`enter`), founding by
//! several seeds (`founding`), the lookout for members that are missed (`lookout`, `addresses`), what arrives (`inbound`), gossip and beats driven
//! (`gossip`, `sight`, `beats`), whether builds are far enough (`gate`), the node's own health (`pulse`), replicas created and deleted (`replicas`), the steps of the system
//! leader (`steward`), answers to calls (`calls`), operators' wishes (`wishes`), what
//! is hosted here, one by one (`shards`), the routing table (`table`), routers of this process (`courier`).
//! Not here: rules that can be pure (`system`, `router`, `evaluation`, `synod-consensus`, `synod-membership`).

mod addresses;
mod beats;
mod builder;
mod calls;
mod courier;
mod enter;
mod founding;
mod gate;
mod gossip;
mod inbound;
mod lookout;
mod ports;
mod protocol;
mod pulse;
mod replicas;
mod running;
mod shards;
mod sight;
mod silence;
mod start;
mod steward;
mod table;
mod wishes;

pub(crate) use builder::resolve;
pub use builder::{NodeBuilder, StartError};
pub use founding::SeatsError;
#[cfg(test)]
pub(crate) use founding::chosen_alone;
pub(crate) use founding::gave_word;
pub(crate) use protocol::{Answer, Call, NodeFrame, Wish};
pub use protocol::{MemberStatus, NodeStatus, PlannedMove};
pub(crate) use replicas::LOST;
pub use running::Node;
pub use shards::{HostedShards, MoveStatus, PeerLag, ReplicaStatus};

use synod_consensus::GroupId;

use crate::wire::ShardId;

/// The Raft group that replicates a shard. Group 0 is the system group, so shards begin at 1.
pub(crate) fn group_of(shard: ShardId) -> GroupId {
    GroupId::new((u64::from(shard.class) << 32) + u64::from(shard.number) + 1)
}

/// The shard that a group replicates; `None` for the system group.
pub(crate) fn shard_of(group: GroupId) -> Option<ShardId> {
    let raw = group.get().checked_sub(1)?;
    Some(ShardId {
        class: (raw >> 32) as u16,
        number: raw as u32,
    })
}
