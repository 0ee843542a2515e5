//! What this node hosts, replica by replica, and what the system leader knows of moves.
//!
//! Here: [`HostedShards`], the answer to an operator who looks. The leader of a group knows most of it; the others say whom they follow,
//! so that one who looks at all nodes can tell why a group has no leader. What should be where comes from the system state as applied here.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use synod_consensus::GroupId;

use super::calls::Desk;
use super::steward::ListMoves;
use crate::group::actor::Describe;
use crate::group::lock;
use crate::system::{Move, MoveEnd};

/// Replicas described in one answer, of at most some hundred bytes each: far below the largest frame.
const REPLICAS_MAX: usize = 1_024;
/// A replica that has not described itself within this time is stuck, or waits behind one that is.
const DESCRIBE_PATIENCE: Duration = Duration::from_millis(1_500);

/// What one node hosts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HostedShards {
    /// The node's name.
    pub name: String,
    /// Its store id.
    pub store: u64,
    /// Its replicas, in the order of their groups.
    pub replicas: Vec<ReplicaStatus>,
    /// Groups whose replicas here did not describe themselves in time.
    pub stuck: Vec<u64>,
    /// Groups whose replicas here stopped for good and wait to be replaced.
    pub stopped: Vec<u64>,
    /// The first group of the next answer, if there is more to say.
    pub next: Option<u64>,
    /// Moves under way and moves that ended lately; only the leader of the system group knows, since it became that.
    pub moves: Option<Vec<MoveStatus>>,
}

/// One replica as it describes itself. Stores stand for the nodes that have them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ReplicaStatus {
    /// The group; 0 is the system group, shard n is group n + 1.
    pub group: u64,
    /// The replica's id.
    pub replica: u64,
    /// "leader", "follower", "candidate" or "stopped".
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Store of the leader that it knows.
    pub leader: Option<u64>,
    /// It leads and takes commands.
    pub serves: bool,
    /// Store that it hands its leadership to, just now.
    pub hands_over_to: Option<u64>,
    /// Index that is known to be committed.
    pub commit: u64,
    /// Index that is applied.
    pub applied: u64,
    /// Last index of its log.
    pub last: u64,
    /// Bytes of its log that are not compacted, in memory.
    pub log_bytes: u64,
    /// Bytes of its state at its last checkpoint.
    pub state_bytes: u64,
    /// Stores that vote.
    pub voters: Vec<u64>,
    /// Stores that vote until a change of the configuration is complete.
    pub outgoing: Vec<u64>,
    /// Stores that learn.
    pub learners: Vec<u64>,
    /// Of a leader: the other replicas.
    pub peers: Vec<PeerLag>,
    /// It has nothing to do, and says nothing until it has.
    #[serde(default)]
    pub rests: bool,
    /// Stores that should hold the group, by the system log as applied here.
    pub goal: Vec<u64>,
}

/// A replica as its leader sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PeerLag {
    /// Its store.
    pub store: u64,
    /// Entries that it is not known to hold.
    pub lag: u64,
    /// It answered within the last 1.2 s.
    pub answers: bool,
    /// It needs a snapshot.
    pub fetches: bool,
}

/// A move of copies, as the system leader saw it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MoveStatus {
    /// The group; 0 is the system group, shard n is group n + 1.
    pub group: u64,
    /// Stores that give a copy up.
    pub from: Vec<u64>,
    /// Stores that get one.
    pub to: Vec<u64>,
    /// Milliseconds since it began.
    pub begun_ms_ago: u64,
    /// Milliseconds from its beginning until the new copies had caught up.
    pub caught_up_after_ms: Option<u64>,
    /// Milliseconds from its beginning to its end.
    pub ended_after_ms: Option<u64>,
    /// Of one that was given up: why.
    pub given_up: Option<String>,
}

impl MoveStatus {
    pub(super) fn of(known: &Move, now: Duration) -> Self {
        let since = |at: Duration| at.saturating_sub(known.begun).as_millis() as u64;
        let ended = known.ended.as_ref();
        Self {
            group: known.group.get(),
            from: known.from.iter().copied().collect(),
            to: known.to.iter().copied().collect(),
            begun_ms_ago: now.saturating_sub(known.begun).as_millis() as u64,
            caught_up_after_ms: known.caught_up.map(since),
            ended_after_ms: ended.map(|(at, _)| since(*at)),
            given_up: match ended {
                Some((_, MoveEnd::GivenUp(reason))) => Some(reason.clone()),
                _ => None,
            },
        }
    }
}

/// Says what became of a move.
pub(super) fn tell(known: &Move) {
    let Move {
        group, from, to, ..
    } = known;
    match (&known.ended, known.caught_up) {
        (Some((_, MoveEnd::Done)), _) => tracing::info!(%group, ?from, ?to, "move done"),
        (Some((_, MoveEnd::GivenUp(reason))), _) => {
            tracing::info!(%group, ?from, ?to, reason, "move given up");
        }
        (None, Some(_)) => tracing::info!(%group, ?from, ?to, "move caught up"),
        (None, None) => tracing::info!(%group, ?from, ?to, "move begun"),
    }
}

impl Desk {
    /// What is hosted here, from this group on.
    pub(super) async fn shards(&self, from: GroupId) -> HostedShards {
        let mut hosted = self.shared.registry.all();
        hosted.retain(|(group, _)| *group >= from);
        hosted.sort_by_key(|(group, _)| *group);
        let next = hosted.get(REPLICAS_MAX).map(|(group, _)| group.get());
        hosted.truncate(REPLICAS_MAX);
        let lost: BTreeSet<GroupId> = lock(&self.shared.lost).keys().copied().collect();
        let asked = hosted
            .iter()
            .filter(|(group, _)| !lost.contains(group))
            .map(|(group, hosted)| async {
                let described = hosted.group.send(Describe);
                let described = tokio::time::timeout(DESCRIBE_PATIENCE, described).await;
                (group.get(), described.ok().and_then(Result::ok))
            });
        let described = futures_util::future::join_all(asked).await;
        let (mut replicas, mut stuck) = (Vec::with_capacity(described.len()), Vec::new());
        for (group, described) in described {
            match described {
                Some(replica) => replicas.push(replica),
                None => stuck.push(group),
            }
        }
        {
            let state = lock(&self.shared.system);
            for replica in &mut replicas {
                let entry = state.groups.get(&GroupId::new(replica.group));
                replica.goal = entry.map_or_else(Vec::new, |entry| entry.placement.stores.clone());
            }
        }
        let moves = match from {
            GroupId::ZERO => self.steward.send(ListMoves).await.ok().flatten(),
            _ => None,
        };
        HostedShards {
            name: self.name.clone(),
            store: self.shared.store,
            replicas,
            stuck,
            stopped: lost.into_iter().map(GroupId::get).collect(),
            next,
            moves,
        }
    }
}
