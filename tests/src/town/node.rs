//! A node: its disk, which outlives the process, and the replicas that the process hosts.
//!
//! Here: what a node is, how it starts from what its disk holds, what a crash leaves. Not here: what a replica's outputs lead to
//! (`drive`), what the node does by the system log (`steward`).

use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use synod::system::{
    BUILD_LEVEL, Description, Fence, GroupReport, Reconciler, Reporting, Retirements, Said,
    SystemState, newest,
};
use synod_consensus::claims::{Claims, ClaimsOptions};
use synod_consensus::{
    CheckedOptions, Configuration, Entry, Group, GroupId, LogIndex, LogStore, MemoryStore,
    PersistToken, ReplicaId, ReplicaKey, Restored, SnapshotId, SnapshotMeta, Term, Write,
};

use super::machine::Machine;
use super::rest::{Rest, options_of};
use crate::shelf::Shelf;
use crate::violation::{Violation, broken};

/// A durable state.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) meta: SnapshotMeta,
    pub(super) data: Bytes,
}

/// What survives the process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) logs: MemoryStore,
    pub(super) checkpoints: BTreeMap<ReplicaKey, Checkpoint>,
    /// Replicas that stopped for good.
    pub(super) lost: BTreeMap<GroupId, ReplicaId>,
    /// Replicas whose state cannot be read at the next start.
    pub(super) damaged: BTreeSet<ReplicaKey>,
}

/// Something on its way to the disk.
#[derive(Debug)]
pub(super) enum Writing {
    Log {
        key: ReplicaKey,
        token: Option<PersistToken>,
        writes: Vec<Write>,
    },
    Checkpoint {
        key: ReplicaKey,
        checkpoint: Checkpoint,
    },
    /// A snapshot that becomes the state once it is durable.
    Install {
        key: ReplicaKey,
        id: SnapshotId,
        checkpoint: Checkpoint,
    },
    /// The files of a retired replica go.
    Drop { key: ReplicaKey },
}

impl Writing {
    pub(super) fn key(&self) -> ReplicaKey {
        match self {
            Self::Log { key, .. }
            | Self::Checkpoint { key, .. }
            | Self::Install { key, .. }
            | Self::Drop { key } => *key,
        }
    }
}

impl Disk {
    /// Makes one thing durable.
    pub(super) fn write(&mut self, writing: &Writing) -> Result<(), Violation> {
        let key = writing.key();
        let log = |result: Result<(), synod_consensus::StoreError>| match result {
            Ok(()) => Ok(()),
            Err(error) => broken("Log", format!("{key:?}: the log refused a write: {error}")),
        };
        match writing {
            Writing::Log { writes, .. } => log(self.logs.write(&[(key, writes.clone())])),
            Writing::Drop { .. } => {
                self.checkpoints.remove(&key);
                self.damaged.remove(&key);
                log(self.logs.write(&[(key, vec![Write::Drop])]))
            }
            Writing::Checkpoint { checkpoint, .. } | Writing::Install { checkpoint, .. } => {
                let known = self.checkpoints.get(&key);
                if known.is_none_or(|old| old.meta.position < checkpoint.meta.position) {
                    self.checkpoints.insert(key, checkpoint.clone());
                }
                Ok(())
            }
        }
    }
}

/// Who waits for what becomes of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waits {
    Client,
    /// The steward, with the number of its proposal.
    Steward(u64),
    /// An applicant, by its number.
    Applicant(usize),
    Operator,
}

/// One hosted replica, as its actor keeps it.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) key: ReplicaKey,
    pub(super) group: Group,
    /// The state of a shard; of the system group, whose state is the process's, the chain.
    pub(super) machine: Machine,
    /// What a snapshot taken now would say of itself.
    pub(super) applied: SnapshotMeta,
    /// Every configuration in its log, by its index.
    pub(super) configurations: BTreeMap<LogIndex, Configuration>,
    /// It leads and may decide.
    pub(super) leadership: Option<Term>,
    /// Who leads, as far as known here.
    pub(super) leader: Option<ReplicaId>,
    pub(super) handing_over: Option<ReplicaId>,
    pub(super) reported: Option<(GroupReport, Duration)>,
    pub(super) fence: Fence,
    pub(super) waiting: BTreeMap<LogIndex, (Term, Waits)>,
    pub(super) wake: Option<Duration>,
    pub(super) shelf: Shelf,
    /// Entries applied since the last checkpoint began.
    pub(super) since: u64,
    pub(super) checkpoint: Option<LogIndex>,
    pub(super) purge: bool,
    pub(super) again: bool,
    pub(super) stopped: bool,
}

impl Replica {
    pub(super) fn leads(&self) -> bool {
        self.leader == Some(self.key.replica)
    }

    /// What its log is told to hold from now on.
    pub(super) fn logs(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Append(entries) => {
                    if let Some(first) = entries.iter().next() {
                        self.configurations.split_off(&first.index);
                    }
                    self.configurations.extend(configurations(entries.iter()));
                }
                Write::Reset { .. } => self.configurations.clear(),
                _ => {}
            }
        }
    }

    /// The configurations after `known` that it knows to be committed.
    pub(super) fn commits(&self, known: LogIndex) -> Vec<(LogIndex, Configuration)> {
        let newer = (Bound::Excluded(known), Bound::Unbounded);
        let mut newer = self.configurations.range(newer).peekable();
        if newer.peek().is_none() {
            return Vec::new(); // so it is nearly always
        }
        let commit = self.group.status().commit;
        newer
            .take_while(|(index, _)| **index <= commit)
            .map(|(index, configuration)| (*index, configuration.clone()))
            .collect()
    }
}

fn configurations<'a>(
    entries: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = (LogIndex, Configuration)> {
    entries.filter_map(|entry| Some((entry.index, entry.configuration()?)))
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) hosted: BTreeMap<GroupId, Replica>,
    pub(super) system: SystemState,
    pub(super) lost: BTreeMap<GroupId, ReplicaId>,
    pub(super) retired: Retirements<ReplicaKey>,
    pub(super) system_durable: LogIndex,
    pub(super) reports: BTreeMap<GroupId, GroupReport>,
    pub(super) reporting: Reporting,
    pub(super) rest: Rest,
    pub(super) reconciler: Reconciler,
    /// Proposals of the steward without an answer: number and until when it waits.
    pub(super) proposals: BTreeMap<u64, Duration>,
    pub(super) stepped: Duration,
    /// A report came in since the last steps.
    pub(super) reported: bool,
    pub(super) seen_system: Option<LogIndex>,
    /// When the steward looks next.
    pub(super) look_at: Duration,
    pub(super) minded: Duration,
    /// When others were last told that a store is silent.
    pub(super) told: BTreeMap<u64, Duration>,
    /// When each store was last known to live.
    pub(super) heard: BTreeMap<u64, Duration>,
    /// What each store said of itself, as last heard.
    pub(super) said: BTreeMap<u64, Said>,
    pub(super) in_flight: Vec<Writing>,
    pub(super) queue: Vec<Writing>,
    /// The disk is at work, or what it did is being told.
    pub(super) writes: bool,
    /// It said goodbye, and ends at that time.
    pub(super) stopping: Option<Duration>,
    /// It cannot go on.
    pub(super) failed: Option<String>,
}

/// One store and what runs on it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) store: u64,
    /// What it says of itself since its last start.
    pub(super) description: Description,
    pub(super) disk: Disk,
    /// Counts the starts; events of an earlier life are void.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    /// It never comes back.
    pub(super) gone: bool,
    pub(super) paused_until: Duration,
    /// Since when nothing comes from here.
    pub(super) silent_since: Option<Duration>,
    /// How long a write takes.
    pub(super) sync: Duration,
}

impl Node {
    pub(super) fn new(store: u64, description: Description, sync: Duration) -> Self {
        Self {
            store,
            description,
            disk: Disk::default(),
            life: 0,
            process: None,
            gone: false,
            paused_until: Duration::ZERO,
            silent_since: Some(Duration::ZERO),
            sync,
        }
    }

    /// Whether its process runs and is not paused.
    pub(super) fn runs(&self, now: Duration) -> bool {
        self.process.is_some() && self.paused_until <= now
    }

    /// Starts from what the disk holds.
    pub(super) fn start(
        &mut self,
        options: &CheckedOptions,
        rests: bool,
        replace_after: Option<Duration>,
        seed: u64,
        now: Duration,
    ) -> Result<(), Violation> {
        self.life += 1;
        self.silent_since = None;
        self.paused_until = Duration::ZERO;
        let mut process = Process {
            hosted: BTreeMap::new(),
            system: SystemState::default(),
            lost: self.disk.lost.clone(),
            retired: Retirements::default(),
            system_durable: LogIndex::ZERO,
            reports: BTreeMap::new(),
            reporting: Reporting::default(),
            rest: Rest::new(Claims::new(ClaimsOptions::default(), self.life)),
            reconciler: Reconciler::new(replace_after),
            proposals: BTreeMap::new(),
            stepped: Duration::ZERO,
            reported: false,
            seen_system: None,
            look_at: now,
            minded: now,
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
            said: BTreeMap::new(),
            in_flight: Vec::new(),
            queue: Vec::new(),
            writes: false,
            stopping: None,
            failed: None,
        };
        let found = self.disk.logs.replicas();
        let newest = newest(found.iter().copied());
        for key in found {
            if newest.get(&key.group) != Some(&key.replica) {
                process.retired.push(LogIndex::ZERO, key);
                continue;
            }
            let damaged = self.disk.damaged.contains(&key) && key.group != GroupId::ZERO;
            if damaged || self.disk.lost.get(&key.group) == Some(&key.replica) {
                process.lost.insert(key.group, key.replica);
                continue;
            }
            let recovered = match self.disk.logs.recover(key) {
                Ok(Some(recovered)) => recovered,
                other => return broken("Log", format!("{key:?} is listed, but {other:?}")),
            };
            let checkpoint = self.disk.checkpoints.get(&key);
            let mut machine = Machine::default();
            if let Some(checkpoint) = checkpoint {
                if key.group == GroupId::ZERO {
                    (process.system, machine) = restore_system(checkpoint)?;
                } else {
                    machine = restore_shard(key, checkpoint)?;
                }
            }
            let state = checkpoint.map(|checkpoint| checkpoint.meta.clone());
            let restored = Restored::after_restart(recovered, state);
            let options = options_of(options, rests, key.group);
            let replica = host(options, key, restored, machine, seed, now)?;
            process.hosted.insert(key.group, replica);
        }
        self.disk.lost = process.lost.clone();
        self.process = Some(process);
        Ok(())
    }

    /// Loses everything but the disk; of what was on its way there, the first `kept` made it.
    pub(super) fn crash(&mut self, now: Duration, kept: usize) -> Result<(), Violation> {
        self.life += 1;
        self.silent_since.get_or_insert(now);
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        self.disk.lost = process.lost;
        for writing in process.in_flight.iter().take(kept) {
            self.disk.write(writing)?;
        }
        Ok(())
    }
}

/// The system state of a checkpoint: the chain, then the state.
pub(super) fn restore_system(checkpoint: &Checkpoint) -> Result<(SystemState, Machine), Violation> {
    let parts = checkpoint.data.split_first_chunk::<8>();
    let decoded = parts.map(|(chain, data)| (chain, SystemState::decode(data, BUILD_LEVEL)));
    let Some((chain, Ok(mut state))) = decoded else {
        return broken("Recovery", "the system state does not decode");
    };
    let applied = checkpoint.meta.position.index;
    state.applied = applied;
    let chain = u64::from_le_bytes(*chain);
    Ok((state, Machine { applied, chain }))
}

/// The system state as a checkpoint.
pub(super) fn encode_system(state: &SystemState, machine: &Machine) -> Bytes {
    let chain = machine.chain.to_le_bytes();
    chain.iter().copied().chain(state.encode()).collect()
}

/// The state of a shard's checkpoint.
pub(super) fn restore_shard(
    key: ReplicaKey,
    checkpoint: &Checkpoint,
) -> Result<Machine, Violation> {
    match Machine::decode(&checkpoint.data) {
        Some(machine) if machine.applied == checkpoint.meta.position.index => Ok(machine),
        other => broken("Recovery", format!("{key:?}: {other:?} {checkpoint:?}")),
    }
}

/// A replica as it begins.
pub(super) fn host(
    options: CheckedOptions,
    key: ReplicaKey,
    restored: Restored,
    machine: Machine,
    seed: u64,
    now: Duration,
) -> Result<Replica, Violation> {
    let applied = restored.state.clone();
    let configurations = configurations(restored.entries.iter()).collect();
    let seed = seed ^ key.group.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key.replica.get();
    let group = Group::new(options, key.group, key.replica, restored, seed, now);
    let group = match group {
        Ok(group) => group,
        Err(error) => return broken("Recovery", format!("{key:?}: {error}")),
    };
    Ok(Replica {
        key,
        group,
        machine,
        applied,
        configurations,
        leadership: None,
        leader: None,
        handing_over: None,
        reported: None,
        fence: Fence::default(),
        waiting: BTreeMap::new(),
        wake: None,
        shelf: Shelf::default(),
        since: 0,
        checkpoint: None,
        purge: false,
        again: false,
        stopped: false,
    })
}
