//! What nodes say to each other and to clients besides requests, Raft and gossip.
//!
//! Here: [`Call`] and [`Answer`] (one question to an address whose store is not known yet: joining, introducing
//! oneself, fetching the routing table, status), and [`NodeFrame`] (what travels on the request lane between members
//! and from clients). Encoded as named MessagePack behind one tag byte; unknown tags are refused and counted.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::claims::News;
use synod_consensus::genesis::Message;
use synod_consensus::{GroupId, ReplicaId};

use super::shards::HostedShards;
use crate::system::{Founding, GroupReport, MemberEntry, Order, Sum, SystemState};
use crate::wire::{self, Request, RoutingTable};

/// A question to any node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Call {
    /// Let this store in. Relayed to the leader of the system group at most [`HOPS_MAX`] times.
    Join {
        /// What the log shall know of the joiner.
        member: MemberEntry,
        /// How often the request was relayed already.
        hops: u8,
    },
    /// "I am back": an admitted store tells where it is now, and gets everybody's record.
    Introduce {
        /// The caller's signed record.
        record: SignedRecordWire,
    },
    /// Where do shards live?
    Table,
    /// How is this node?
    Status,
    /// What is hosted by this node, from this group on?
    Shards {
        /// The first group wished for.
        from: GroupId,
    },
    /// An operator's wish about members or shards. Relayed like a join.
    Operate {
        /// What to do.
        wish: Wish,
        /// How often it was relayed already.
        hops: u8,
    },
    /// What one seed of a founding says to another.
    Founding {
        /// Whom it is meant for: the caller knows only an address.
        to: String,
        /// All by the caller, in order.
        messages: Vec<Message>,
    },
}

/// What an operator wishes about members or shards.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Wish {
    /// Let it give up what it holds, or, with `on` false, take replicas again.
    Drain {
        /// The member's name.
        node: String,
        /// Whether it drains from now on.
        on: bool,
    },
    /// Take it out of the cluster for ever; it must be drained.
    Remove {
        /// The member's name.
        node: String,
    },
    /// Move a copy of a shard from one member to another.
    Move {
        /// The shard's number.
        shard: u32,
        /// Name of the member that gives it up.
        from: String,
        /// Name of the member that gets it.
        to: String,
    },
    /// Plan now.
    Rebalance {
        /// As if nothing lay anywhere yet.
        afresh: bool,
        /// Only say what would move.
        dry_run: bool,
    },
}

/// One change of the placement, as an operator is told it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlannedMove {
    /// The shard's number.
    pub shard: u32,
    /// Name of the node that gives a copy up.
    pub from: Option<String>,
    /// Name of the node that gets one.
    pub to: Option<String>,
    /// It is the leadership that goes to that node, and no copy.
    pub leadership: bool,
}

/// A call is relayed at most this often: member -> leader -> newer leader.
pub(crate) const HOPS_MAX: u8 = 3;

/// A signed gossip record on the wire.
pub(crate) type SignedRecordWire = synod_membership::SignedRecord;

/// The answer to a [`Call`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Answer {
    /// The store is a member.
    Admitted(Box<Admission>),
    /// Everybody's records.
    View {
        /// Signed by their subjects.
        records: Vec<SignedRecordWire>,
    },
    /// Where shards live.
    Table(Box<RoutingTable>),
    /// How this node is.
    Status(Box<NodeStatus>),
    /// What the seed that was called has to say.
    Founding {
        /// All by the one that was called, in order.
        messages: Vec<Message>,
    },
    /// What is hosted here.
    Shards(Box<HostedShards>),
    /// It is in the log, and this is what it means.
    Placed {
        /// Every change.
        moves: Vec<PlannedMove>,
    },
    /// It is in the log.
    Done,
    /// Not now; ask again, here or elsewhere.
    NotNow {
        /// One sentence.
        reason: String,
    },
    /// Never; and nothing changed.
    Refused {
        /// One sentence.
        reason: String,
    },
    /// By the system log the caller's store is none of the cluster's any more: it must not go on.
    GivenUp {
        /// One sentence.
        reason: String,
    },
}

/// What a store is told that is none of the cluster's any more.
pub(crate) fn given_up(state: &SystemState, store: u64, name: &str) -> String {
    let how = match state.removed.contains_key(&store) {
        true => "was removed from this cluster",
        false => "was given up by an unsafe recovery of this cluster",
    };
    format!("store {store} of '{name}' {how}: remove its directory and join as a new store")
}

/// What a joiner needs to begin.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Admission {
    /// What was fixed at founding.
    pub(crate) founding: Founding,
    /// The joiner's store id.
    pub(crate) store: u64,
    /// The joiner's replica of the system group.
    pub(crate) replica: ReplicaId,
    /// Keys of the members, by store id, so that their records can be verified.
    pub(crate) keys: Vec<(u64, Bytes)>,
    /// Everybody's records.
    pub(crate) records: Vec<SignedRecordWire>,
}

/// What `synod status` shows of one node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// Its store id.
    pub store: u64,
    /// How often the store was started.
    pub generation: u64,
    /// The cluster.
    pub cluster: u128,
    /// Up to where the cluster uses commands of the system group; it rises once every member's build knows more.
    #[serde(default)]
    pub level: u32,
    /// Seconds since this start.
    pub uptime_s: u64,
    /// True when every replica that belongs here exists and has a leader, and those that vote have caught up with theirs: as far as this
    /// node is concerned, the cluster can do without another one. Copies that are still under way here are no hindrance.
    pub ready: bool,
    /// What stands in the way of `ready`, or a warning such as "one copy decides until a third node joins".
    pub notes: Vec<String>,
    /// Replicas hosted here.
    pub replicas: u32,
    /// Groups led here.
    pub led: u32,
    /// Groups without a known leader, as seen from here.
    pub leaderless: u32,
    /// Store that leads the system group, when known.
    pub system_leader: Option<u64>,
    /// Groups that have not reached their goal; only the system leader knows.
    pub unsettled: Option<u32>,
    /// Configuration changes and leadership moves that this node carried out since its start.
    pub moves: u64,
    /// fsyncs of the log since the start.
    pub fsyncs: u64,
    /// Commands acknowledged by leaders here since the start.
    pub commands: u64,
    /// Refused, dropped or redirected messages since the start, by name.
    pub counters: Vec<(String, u64)>,
    /// The members as gossip sees them.
    pub members: Vec<MemberStatus>,
}

/// One member as a node sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Store id.
    pub store: u64,
    /// Name.
    pub name: String,
    /// "alive", "suspect", "dead", "left" or "unknown".
    pub state: String,
    /// It gives up what it holds, by an operator's wish.
    #[serde(default)]
    pub draining: bool,
    /// It was silent for so long that others hold its copies.
    #[serde(default)]
    pub absent: bool,
    /// Shards of which it holds a replica, or may still hold one.
    #[serde(default)]
    pub shards: u32,
    /// It votes in the system group.
    #[serde(default)]
    pub votes: bool,
    /// Start count of its store.
    pub generation: u64,
    /// Up to where its build knows commands of the system group; 0: not heard yet.
    #[serde(default)]
    pub level: u32,
    /// What fails together with it, as the placement goes by it.
    #[serde(default)]
    pub zone: Option<String>,
    /// Its share of the load relative to others, as the placement goes by it.
    #[serde(default)]
    pub capacity: u32,
    /// What it says that it is for.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Shards whose leader it is, as far as this node knows.
    pub led: u32,
}

/// One frame of the request lane.
#[derive(Debug)]
pub(crate) enum NodeFrame {
    /// A request to a shard that the receiver may lead.
    Request(Request),
    /// What the sender's leaders say; for the leader of the system group.
    Reports(Vec<GroupReport>),
    /// What a leader at the receiver should do.
    Order(Order),
    /// Replicas of the sender that stopped for good; for the leader of the system group.
    Lost(Vec<(GroupId, ReplicaId)>),
    /// Which groups rest between the two.
    Claims(News),
    /// Of all that the sender's leaders at rest said; for the leader of the system group.
    Sum(Sum),
    /// The leader of the system group comes to another sum: everything is to be said again.
    SayAgain,
}

const TAG_REQUEST: u8 = 1;
const TAG_REPORTS: u8 = 2;
const TAG_ORDER: u8 = 3;
const TAG_LOST: u8 = 4;
const TAG_CLAIMS: u8 = 5;
const TAG_SUM: u8 = 6;
const TAG_SAY_AGAIN: u8 = 7;

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// A newer version's frame, or garbage.
    #[error("frame has the unknown tag {0}")]
    Tag(u8),
    /// No tag at all.
    #[error("frame is empty")]
    Empty,
    /// The body is not what the tag says.
    #[error("frame does not decode: {0}")]
    Body(#[from] rmp_serde::decode::Error),
}

impl NodeFrame {
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let (tag, body) = frame.split_first().ok_or(FrameError::Empty)?;
        Ok(match *tag {
            TAG_REQUEST => Self::Request(wire::decode(body)?),
            TAG_REPORTS => Self::Reports(wire::decode(body)?),
            TAG_ORDER => Self::Order(wire::decode(body)?),
            TAG_LOST => Self::Lost(wire::decode(body)?),
            TAG_CLAIMS => Self::Claims(wire::decode(body)?),
            TAG_SUM => Self::Sum(wire::decode(body)?),
            TAG_SAY_AGAIN => Self::SayAgain,
            other => return Err(FrameError::Tag(other)),
        })
    }

    pub(crate) fn request(request: &Request) -> Bytes {
        tagged(TAG_REQUEST, request)
    }

    pub(crate) fn reports(reports: &[GroupReport]) -> Bytes {
        tagged(TAG_REPORTS, &reports)
    }

    pub(crate) fn order(order: &Order) -> Bytes {
        tagged(TAG_ORDER, order)
    }

    pub(crate) fn lost(lost: &[(GroupId, ReplicaId)]) -> Bytes {
        tagged(TAG_LOST, lost)
    }

    pub(crate) fn claims(news: &News) -> Bytes {
        tagged(TAG_CLAIMS, news)
    }

    pub(crate) fn sum(sum: &Sum) -> Bytes {
        tagged(TAG_SUM, sum)
    }

    pub(crate) fn say_again() -> Bytes {
        Bytes::from_static(&[TAG_SAY_AGAIN])
    }
}

fn tagged<T: Serialize + ?Sized>(tag: u8, body: &T) -> Bytes {
    wire::encode_behind(&[tag], body)
}
