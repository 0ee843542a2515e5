//! A node: its disk, and per shard a seat with a real `Group`, a real `ShardState` and a real `Evaluator`.
//!
//! Here: what a node is, how it starts from what its disk holds, what a crash leaves. Not here: how its parts talk (`drive`).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::time::Duration;

use super::rows::SeatRows;
use crate::shelf::Shelf;
use bytes::Bytes;
use synod::entity::KindTable;
use synod::evaluation::{CheckedEvaluatorOptions, Counters, Evaluator, ShardState};
use synod::wire::ShardId;
use synod_consensus::{
    CheckedOptions, Configuration, Group, GroupId, LogStore, MemoryStore, PersistToken, ReadId,
    ReplicaId, ReplicaKey, Restored, SnapshotMeta, Write,
};

/// The replica of a node; one per group is enough here.
pub(super) fn replica(node: usize) -> ReplicaId {
    ReplicaId::new(node as u64 + 1)
}

/// The store id of a node.
pub(super) fn store(node: usize) -> u64 {
    node as u64 + 1
}

/// The node of a store or replica.
pub(super) fn node_of(number: u64) -> usize {
    number as usize - 1
}

/// The group of a shard.
pub(super) fn group(shard: usize) -> GroupId {
    GroupId::new(shard as u64 + 1)
}

/// Remembers that somebody wants to be polled.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// Takes the flag down; was it up?
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A durable state.
#[derive(Clone)]
pub(super) struct Checkpoint {
    /// What it covers.
    pub(super) meta: SnapshotMeta,
    /// The encoded `ShardState`.
    pub(super) data: Bytes,
}

/// Something on its way to the disk.
pub(super) enum Writing {
    /// Of the log.
    Log {
        /// Which shard.
        shard: usize,
        /// What the group gets back.
        token: PersistToken,
        /// What is written.
        writes: Vec<Write>,
    },
    /// A checkpoint of the running state.
    Checkpoint {
        /// Which shard.
        shard: usize,
        /// What is written.
        checkpoint: Checkpoint,
    },
    /// A snapshot that becomes the state once it is durable.
    Install {
        /// Which shard.
        shard: usize,
        /// What is written.
        checkpoint: Checkpoint,
    },
}

/// One replica with its evaluator.
pub(super) struct Seat {
    /// The replica.
    pub(super) group: Group,
    /// The replicated state, shared between the two sides.
    pub(super) state: Arc<Mutex<ShardState>>,
    pub(super) rows: SeatRows,
    /// Snapshots on their way, out and in.
    pub(super) shelf: Shelf,
    /// The evaluator.
    pub(super) evaluator: Evaluator,
    /// Its waker.
    pub(super) flag: Arc<Flag>,
    /// The leadership as the group's side knows it; 0 = none.
    pub(super) serial: u64,
    /// The leadership as the evaluator's side knows it; 0 = none.
    pub(super) evaluating: u64,
    /// The last serial given.
    pub(super) last_serial: u64,
    /// Read rounds of the group and whose they are.
    pub(super) reads: BTreeMap<ReadId, (u64, u64)>,
    /// Where leadership shall go once the evaluator is paused.
    pub(super) handover: Option<usize>,
    /// When the last message between the two sides arrives, per direction: they do not overtake each other.
    pub(super) arrivals: [Duration; 2],
    /// Already asked to wake or to flush.
    pub(super) group_wake: Option<Duration>,
    /// The same of the evaluator.
    pub(super) evaluator_wake: Option<Duration>,
    /// A flush is on its way.
    pub(super) flush_due: bool,
    /// Where the last checkpoint was taken.
    pub(super) checkpointed: u64,
    /// Counters already added to the coverage.
    pub(super) counted: Counters,
}

/// What all nodes share.
pub(super) struct Plan {
    /// Number of shards.
    pub(super) shards: usize,
    /// Who decides.
    pub(super) configuration: Configuration,
    /// Options of all groups.
    pub(super) group: CheckedOptions,
    /// Options of all evaluators.
    pub(super) evaluator: CheckedEvaluatorOptions,
    /// The kinds.
    pub(super) kinds: Rc<KindTable>,
}

/// A process with its disk.
pub(super) struct Node {
    /// The log's medium: what is in it survives a crash.
    pub(super) logs: MemoryStore,
    /// The checkpoints' medium.
    pub(super) checkpoints: BTreeMap<usize, Checkpoint>,
    /// On its way to the disk, in order.
    pub(super) writing: VecDeque<Writing>,
    /// When the disk is through with what it has.
    pub(super) disk_free: Duration,
    /// Counts the starts; events of an earlier life are void.
    pub(super) life: u64,
    /// Per shard; empty while the node is down.
    pub(super) seats: Vec<Seat>,
    /// Nothing happens here before that time: a stopped process.
    pub(super) frozen_until: Duration,
}

impl Node {
    /// An empty disk.
    pub(super) fn new() -> Self {
        Self {
            logs: MemoryStore::new(),
            checkpoints: BTreeMap::new(),
            writing: VecDeque::new(),
            disk_free: Duration::ZERO,
            life: 0,
            seats: Vec::new(),
            frozen_until: Duration::ZERO,
        }
    }

    /// True while the process runs.
    pub(super) fn is_up(&self) -> bool {
        !self.seats.is_empty()
    }

    /// Starts from what the disk holds. An error is a broken invariant of storage or consensus.
    pub(super) fn start(
        &mut self,
        plan: &Plan,
        me: usize,
        seed: u64,
        now: Duration,
    ) -> Result<(), String> {
        self.life += 1;
        self.disk_free = now;
        for shard in 0..plan.shards {
            let key = ReplicaKey {
                group: group(shard),
                replica: replica(me),
            };
            let recovered = self
                .logs
                .recover(key)
                .map_err(|error| format!("recovery failed: {error}"))?;
            let checkpoint = self.checkpoints.get(&shard);
            let data = checkpoint.map(|checkpoint| &checkpoint.data[..]);
            let (rows, state) = SeatRows::begin(me, data)
                .map_err(|error| format!("a checkpoint does not decode: {error}"))?;
            let restored = match recovered {
                Some(recovered) => {
                    Restored::after_restart(recovered, checkpoint.map(|c| c.meta.clone()))
                }
                None => Restored::founding(plan.configuration.clone()),
            };
            let seed = seed ^ (shard as u64) << 32;
            let group = Group::new(
                plan.group.clone(),
                group(shard),
                replica(me),
                restored,
                seed,
                now,
            )
            .map_err(|error| format!("a group does not start: {error}"))?;
            let state = Arc::new(Mutex::new(state));
            let checkpointed = checkpoint.map_or(0, |c| c.meta.position.index.get());
            self.seats.push(Seat {
                group,
                shelf: Shelf::default(),
                rows,
                evaluator: Evaluator::new(
                    ShardId::main(shard as u32),
                    Arc::clone(&state),
                    Rc::clone(&plan.kinds),
                    plan.evaluator.clone(),
                    seed,
                ),
                state,
                flag: Arc::default(),
                serial: 0,
                evaluating: 0,
                // Serials are never used again by a node's evaluator; lives keep them apart for the coverage.
                last_serial: self.life << 32,
                reads: BTreeMap::new(),
                handover: None,
                arrivals: [now; 2],
                group_wake: None,
                evaluator_wake: None,
                flush_due: false,
                checkpointed,
                counted: Counters::default(),
            });
        }
        Ok(())
    }

    /// Loses everything but the disk; of what was on its way there, the first `kept` made it.
    pub(super) fn crash(&mut self, me: usize, kept: usize) -> Result<(), String> {
        self.seats.clear();
        for writing in std::mem::take(&mut self.writing).into_iter().take(kept) {
            self.write(me, &writing)?;
        }
        Ok(())
    }

    /// Makes one thing durable.
    pub(super) fn write(&mut self, me: usize, writing: &Writing) -> Result<(), String> {
        match writing {
            Writing::Log { shard, writes, .. } => {
                let key = ReplicaKey {
                    group: group(*shard),
                    replica: replica(me),
                };
                self.logs
                    .write(&[(key, writes.clone())])
                    .map_err(|error| format!("the log refused a write: {error}"))?;
            }
            Writing::Checkpoint { shard, checkpoint } | Writing::Install { shard, checkpoint } => {
                let newer = self
                    .checkpoints
                    .get(shard)
                    .is_none_or(|old| old.meta.position < checkpoint.meta.position);
                if newer {
                    self.checkpoints.insert(*shard, checkpoint.clone());
                }
            }
        }
        Ok(())
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}
