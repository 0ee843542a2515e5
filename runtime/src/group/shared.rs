//! What every part of one node reaches: its identity, clock, disks, network and counters.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use synod_consensus::{GroupId, ReplicaId, ReplicaKey};
use tokio::sync::watch;

use super::freight::Freight;
use super::overlays::Overlays;
use super::registry::Registry;
use super::rest::SharedClaims;
use crate::storage::{CheckpointWriter, LogWatch, LogWriter};
use crate::system::{GroupReport, Level, SystemState};
use crate::transport::Transport;
use crate::wire::Sharding;

/// The node's monotonic clock; times are durations since its start. It goes on while the machine is suspended: a leader that wakes
/// from sleep must find its lease expired (H58).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Moment);

#[cfg(target_os = "linux")]
type Moment = Duration;
/// Elsewhere it may stand still in a suspended machine, so leaders there do not read by leases unless told to.
#[cfg(not(target_os = "linux"))]
type Moment = std::time::Instant;

impl Clock {
    #[cfg(target_os = "linux")]
    pub(crate) fn start() -> Self {
        Self(since_boot())
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn now(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn start() -> Self {
        Self(Moment::now())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither part of a time since boot is ever negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Things that were counted since the start. Each has a name that operators see.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Raft messages dropped because a group actor's mailbox was full.
    pub(crate) raft_mailbox_full: AtomicU64,
    /// Raft messages for replicas that are not hosted here.
    pub(crate) raft_not_hosted: AtomicU64,
    /// Raft messages with entries dropped because too much of what came before is not in the rows yet.
    pub(crate) entries_without_room: AtomicU64,
    /// Frames that did not decode.
    pub(crate) frames_undecodable: AtomicU64,
    /// Requests refused because an evaluator's mailbox was full.
    pub(crate) requests_mailbox_full: AtomicU64,
    /// Requests answered with another leader.
    pub(crate) requests_redirected: AtomicU64,
    /// Gossip records whose signature did not verify.
    pub(crate) records_unverified: AtomicU64,
    /// Replies that could not be delivered.
    pub(crate) replies_undelivered: AtomicU64,
    /// Commands and queries answered by evaluators here.
    pub(crate) answered: AtomicU64,
    /// Configuration changes and leadership moves begun here.
    pub(crate) moves: AtomicU64,
    /// Times this node believed a peer silent.
    pub(crate) peers_silent: AtomicU64,
    /// Replicas that stopped because their state is not what the log says, or lost what they acknowledged.
    pub(crate) replicas_stopped: AtomicU64,
    /// Elections won here.
    pub(crate) elections_won: AtomicU64,
    /// Arbiters of this node that were found stuck.
    pub(crate) arbiters_stuck: AtomicU64,
    /// Members that did not refute a suspicion in time, as seen here.
    pub(crate) members_died: AtomicU64,
}

impl Counters {
    pub(crate) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        let all = [
            ("raft_mailbox_full", &self.raft_mailbox_full),
            ("raft_not_hosted", &self.raft_not_hosted),
            ("entries_without_room", &self.entries_without_room),
            ("frames_undecodable", &self.frames_undecodable),
            ("requests_mailbox_full", &self.requests_mailbox_full),
            ("requests_redirected", &self.requests_redirected),
            ("records_unverified", &self.records_unverified),
            ("replies_undelivered", &self.replies_undelivered),
            ("peers_silent", &self.peers_silent),
            ("replicas_stopped", &self.replicas_stopped),
            ("elections_won", &self.elections_won),
            ("arbiters_stuck", &self.arbiters_stuck),
            ("members_died", &self.members_died),
        ];
        all.into_iter()
            .map(|(name, value)| (name.to_owned(), value.load(Ordering::Relaxed)))
            .collect()
    }
}

/// One node's common ground.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Store id.
    pub(crate) store: u64,
    /// Level of this build (`system::level`).
    pub(crate) build: Level,
    /// How keys map to shards, for ever.
    pub(crate) sharding: Sharding,
    /// Monotonic time.
    pub(crate) clock: Clock,
    /// To other nodes and clients.
    pub(crate) transport: Transport,
    /// To the log.
    pub(crate) log: LogWriter,
    /// Which groups keep old files of the log.
    pub(crate) log_watch: LogWatch,
    /// To the checkpoints.
    pub(crate) checkpoints: CheckpointWriter,
    /// What only memory holds of states that lie in rows.
    pub(crate) overlays: Arc<Overlays>,
    /// Snapshots on their way, out and in.
    pub(crate) freight: Freight,
    /// Who is hosted here.
    pub(crate) registry: Arc<Registry>,
    /// Which groups rest; through [`Shared::claims`](super::rest).
    pub(crate) claims: SharedClaims,
    /// The system state as applied here.
    pub(crate) system: Arc<Mutex<SystemState>>,
    /// Counts changes of the system state, of roles and of membership; whoever derives something from them waits on it.
    pub(crate) changed: watch::Sender<u64>,
    /// Reports of the groups led here, until the reporter takes them.
    pub(crate) reports: Mutex<BTreeMap<GroupId, GroupReport>>,
    /// Replicas here that stopped for good, until the system log has retired them: others are to replace them.
    pub(crate) lost: Mutex<BTreeMap<GroupId, ReplicaId>>,
    /// The system state's newest durable checkpoint covers the log through here.
    pub(crate) system_durable: AtomicU64,
    /// The node is about to stop: it takes no leadership over.
    pub(crate) stopping: AtomicBool,
    /// An arbiter of the node is stuck, or was a moment ago (`node::pulse`): others are told, and what it leads goes to them.
    pub(crate) degraded: AtomicBool,
    /// Counters.
    pub(crate) counters: Counters,
    /// The first reason why this node must stop as a whole.
    pub(crate) fatal: watch::Sender<Option<String>>,
}

impl Shared {
    /// Says that something derived state depends on has changed.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Gives a replica up whose state or log is not what it acknowledged: it votes no more, and the system leader is told,
    /// so that its group gets another one (DESIGN section 7). Without its system replica a node knows nothing of the
    /// others, so it stops.
    pub(crate) fn lose(&self, key: ReplicaKey, reason: &str) {
        if key.group == GroupId::ZERO {
            return self.fail(&format!(
                "the replica of the system group stopped: {reason}"
            ));
        }
        tracing::error!(group = %key.group, replica = %key.replica, reason, "replica stops");
        Counters::bump(&self.counters.replicas_stopped);
        super::lock(&self.lost).insert(key.group, key.replica);
        self.touch();
    }

    /// Stops the node as a whole, saying why once.
    pub(crate) fn fail(&self, reason: &str) {
        self.fatal.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                tracing::error!(reason, "node stops");
                *slot = Some(reason.to_owned());
            }
            first
        });
    }
}
