//! Brings the hosted replicas in line with what the system log says.
//!
//! Here: [`Replicas`], which starts what a restart finds on disk, creates the empty replicas that were allotted to this
//! store, and deletes those that were retired. A replica is created only when the log lists it and deleted only when
//! the log no longer does (H77, H78, E26). One that cannot be brought back is given up, and its group gets another one.
//! Not here: who decides (`system`), the actors themselves (`group`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use actix::Actor;
use actix_rt::ArbiterHandle;
use synod_consensus::{
    CheckedOptions, Group, GroupId, LogIndex, Recovered, ReplicaId, ReplicaKey, Restored,
    SnapshotMeta, Write,
};

use crate::evaluation::{BaseError, ShardState};
use crate::group::actor::{CheckpointNow, Delete, Registered, Retire};
use crate::group::base::ReplicaBase;
use crate::group::machine::Diverged;
use crate::group::{Evaluators, GroupActor, Hosted, Machine, Shared, Start, lock};
use crate::storage::{
    Checkpoint, CheckpointError, Checkpoints, RealDisk, RowHead, RowSpace, StateRows, WriteRequest,
    reaches, read_sealed, write_sealed,
};
use crate::system::{Alignment, Retirements, SystemState, newest};

/// Which replicas of the store stopped for good, sealed.
pub(crate) const LOST: &str = "lost";

/// Creates and deletes replicas of one node.
#[derive(Debug)]
pub(crate) struct Replicas {
    pub(crate) shared: Arc<Shared>,
    /// Threads for group actors.
    pub(crate) arbiters: Vec<ArbiterHandle>,
    pub(crate) evaluators: Arc<Evaluators>,
    pub(crate) options: CheckedOptions,
    /// Of the system group, which never rests: every node has a replica of it, and most are learners.
    pub(crate) system_options: CheckedOptions,
    pub(crate) seed: u64,
    /// Where it is kept which replicas stopped for good.
    pub(crate) disk: RealDisk,
    /// What is kept there.
    pub(crate) kept: BTreeMap<GroupId, ReplicaId>,
    /// Replicas whose files wait for [`Replicas::sweep`].
    pub(crate) retired: Retirements<Retired>,
}

/// A replica whose files are to go.
#[derive(Debug)]
pub(crate) enum Retired {
    /// Its actor deletes them, if it still runs.
    Hosted(ReplicaKey, Arc<Hosted>),
    /// It has no actor any more, or never had one.
    Stopped(ReplicaKey),
}

impl Retired {
    fn delete(&self, shared: &Shared) {
        let key = match self {
            Self::Hosted(_, hosted) if hosted.group.connected() => {
                return hosted.group.do_send(Delete);
            }
            Self::Hosted(key, _) | Self::Stopped(key) => *key,
        };
        let drop = WriteRequest {
            key,
            token: None,
            writes: vec![Write::Drop],
        };
        shared.log.submit(0, vec![drop]);
        shared.checkpoints.remove(key);
        shared.freight.forget(key);
    }
}

/// Why a replica could not be started.
#[derive(Debug, thiserror::Error)]
#[error("replica {replica} of group {group} cannot start: {reason}")]
pub struct ReplicaError {
    group: GroupId,
    replica: ReplicaId,
    reason: String,
    /// It says nothing about what lies there: another start may find it.
    unread: bool,
}

/// What the disk holds of a replica's state.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The system group's, as a whole.
    State(Checkpoint),
    /// What is beside a shard's rows.
    Rows(RowHead),
}

impl Kept {
    fn meta(&self) -> &SnapshotMeta {
        match self {
            Self::State(checkpoint) => &checkpoint.meta,
            Self::Rows(head) => &head.meta,
        }
    }
}

/// What is durable of a replica whose log begins after `base`: an error if the entries between are gone.
pub(crate) fn kept_of(
    checkpoints: &Checkpoints,
    rows: &StateRows,
    key: ReplicaKey,
    base: LogIndex,
) -> Result<Option<Kept>, CheckpointError> {
    if key.group == GroupId::ZERO {
        return Ok(checkpoints.restore(key, base)?.map(Kept::State));
    }
    let head = rows.head(key);
    reaches(key, base, head.as_ref().map(|head| &head.meta))?;
    Ok(head.map(Kept::Rows))
}

impl Replicas {
    /// Brings everything back that the disk holds. A replica of a shard that cannot be is given up; without that of the
    /// system group there is no node, nor while the disk refuses.
    pub(crate) fn bring_back(
        &mut self,
        recovered: Vec<(ReplicaKey, Recovered, Result<Option<Kept>, CheckpointError>)>,
    ) -> Result<(), ReplicaError> {
        let newest = newest(recovered.iter().map(|(key, _, _)| *key));
        self.recall()?;
        for (key, recovered, checkpoint) in recovered {
            if newest.get(&key.group) != Some(&key.replica) {
                self.retired.push(LogIndex::ZERO, Retired::Stopped(key));
                continue;
            }
            let started = match checkpoint {
                // What it forgot nobody may be able to tell any more (H73 compares within one term).
                _ if self.kept.get(&key.group) == Some(&key.replica) => Err(ReplicaError {
                    group: key.group,
                    replica: key.replica,
                    reason: format!(
                        "it had stopped for good before (so says `{LOST}` in the store)"
                    ),
                    unread: false,
                }),
                Ok(kept) => {
                    let state = kept.as_ref().map(|found| found.meta().clone());
                    self.start(key, Restored::after_restart(recovered, state), kept)
                }
                Err(error) => Err(ReplicaError {
                    group: key.group,
                    replica: key.replica,
                    reason: error.to_string(),
                    unread: false,
                }),
            };
            match started {
                Err(error) if key.group != GroupId::ZERO && !error.unread => {
                    self.shared.lose(key, &error.to_string());
                }
                started => started?,
            }
        }
        Ok(())
    }

    /// Keeps it over restarts which replicas stopped for good.
    pub(crate) fn remember_lost(&mut self) {
        let lost = lock(&self.shared.lost).clone();
        if lost == self.kept {
            return;
        }
        match write_sealed(&self.disk, LOST, &crate::wire::encode(&lost)) {
            Ok(()) => self.kept = lost,
            Err(error) => {
                tracing::warn!(%error, "it could not be kept which replicas stopped for good; trying again")
            }
        }
    }

    fn recall(&mut self) -> Result<(), ReplicaError> {
        let unreadable = |reason: String| ReplicaError {
            group: GroupId::ZERO,
            replica: ReplicaId::new(0),
            reason: format!(
                "`{LOST}` in the store, the list of replicas that stopped for good: {reason}"
            ),
            unread: true,
        };
        let kept = read_sealed(&self.disk, LOST).map_err(|error| unreadable(error.to_string()))?;
        if let Some(kept) = kept {
            self.kept =
                crate::wire::decode(&kept).map_err(|error| unreadable(error.to_string()))?;
        }
        Ok(())
    }

    /// Starts a replica from what the disk holds.
    fn start(
        &self,
        key: ReplicaKey,
        restored: Restored,
        kept: Option<Kept>,
    ) -> Result<(), ReplicaError> {
        let failed = |reason: String| ReplicaError {
            group: key.group,
            replica: key.replica,
            reason,
            unread: false,
        };
        let applied = restored.state.clone();
        let (machine, space) = self
            .machine(key, kept.as_ref())
            .map_err(|error| ReplicaError {
                unread: matches!(error, Diverged::Unreadable(BaseError::Unread(_))),
                ..failed(error.to_string())
            })?;
        let state_bytes = match &kept {
            Some(Kept::State(checkpoint)) => checkpoint.data.len() as u64,
            _ => 0,
        };
        let now = self.shared.clock.now();
        let seed = self.seed ^ key.group.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut group = Group::new(
            match key.group {
                GroupId::ZERO => self.system_options.clone(),
                _ => self.options.clone(),
            },
            key.group,
            key.replica,
            restored,
            seed,
            now,
        )
        .map_err(|error| failed(error.to_string()))?;
        if let Some((meta, id, held)) = self.shared.freight.take_held(key) {
            group.partial_snapshot(now, meta, id, held);
        }
        self.host(key, group, machine, applied, space, state_bytes);
        Ok(())
    }

    fn machine(
        &self,
        key: ReplicaKey,
        kept: Option<&Kept>,
    ) -> Result<(Machine, Option<RowSpace>), Diverged> {
        if key.group == GroupId::ZERO {
            let machine = Machine::System(self.shared.system.clone(), self.shared.build);
            if let Some(Kept::State(checkpoint)) = kept {
                machine.restore(checkpoint.meta.position.index, &checkpoint.data)?;
            }
            return Ok((machine, None));
        }
        let rows = self.shared.checkpoints.rows();
        let space = rows.map(|rows| rows.space(key));
        let state = match &space {
            None => ShardState::default(),
            Some(space) => {
                let receivers = self.shared.registry.clone();
                let overlays = self.shared.overlays.clone();
                let base = ReplicaBase::new(key, space.clone(), receivers, overlays);
                let base = Arc::new(base);
                match kept {
                    Some(Kept::Rows(head)) => ShardState::restore(base, &head.head)?,
                    _ => ShardState::on(base),
                }
            }
        };
        Ok((Machine::Shard(Arc::new(Mutex::new(state))), space))
    }

    fn host(
        &self,
        key: ReplicaKey,
        group: Group,
        machine: Machine,
        applied: SnapshotMeta,
        space: Option<RowSpace>,
        state_bytes: u64,
    ) {
        let leader = group.status().leader;
        let start = Start {
            group,
            key,
            machine,
            shared: self.shared.clone(),
            shard: super::shard_of(key.group).map(|shard| (shard, self.evaluators.clone())),
            applied,
            space,
            state_bytes,
        };
        let arbiter = &self.arbiters[key.group.get() as usize % self.arbiters.len()];
        let actor = GroupActor::start_in_arbiter(arbiter, move |_| GroupActor::new(start));
        let changes = self.shared.registry.changes().clone();
        let hosted = Hosted::new(key.replica, actor.clone(), leader, changes);
        let hosted = self.shared.registry.insert(key.group, hosted);
        actor.do_send(Registered(hosted));
    }

    /// Deletes the retired replicas whose retirement can no longer be forgotten.
    pub(crate) fn sweep(&mut self) {
        let durable = LogIndex::new(self.shared.system_durable.load(Ordering::Relaxed));
        for retired in self.retired.covered(durable) {
            retired.delete(&self.shared);
        }
    }

    /// Asks for a durable system state while retired replicas wait for one.
    pub(crate) fn ask_for_durability(&self) {
        if self.retired.wait()
            && let Some(system) = self.shared.registry.get(GroupId::ZERO)
        {
            system.group.do_send(CheckpointNow);
        }
    }

    /// Creates what is listed and missing, retires what no longer is.
    pub(crate) fn align(&mut self) {
        let hosted = self.shared.registry.all().into_iter();
        let hosted = hosted
            .map(|(group, hosted)| (group, hosted.replica))
            .collect();
        let mut lost = lock(&self.shared.lost);
        let (applied, alignment) = {
            let state: std::sync::MutexGuard<'_, SystemState> = lock(&self.shared.system);
            let alignment = Alignment::of(&state, self.shared.store, &hosted, &lost);
            (state.applied, alignment)
        };
        for key in &alignment.buried {
            lost.remove(&key.group);
        }
        drop(lost);
        for key in alignment.buried {
            self.shared.registry.remove(key.group, key.replica);
            tracing::info!(group = %key.group, replica = %key.replica, "stopped replica retired");
            self.retired.push(applied, Retired::Stopped(key));
        }
        for key in alignment.retired {
            if let Some(hosted) = self.shared.registry.remove(key.group, key.replica) {
                tracing::info!(group = %key.group, replica = %key.replica, "replica retired");
                hosted.group.do_send(Retire);
                self.retired.push(applied, Retired::Hosted(key, hosted));
            }
        }
        self.ask_for_durability();
        for key in alignment.created {
            tracing::debug!(group = %key.group, replica = %key.replica, "replica created");
            if let Err(error) = self.start(key, Restored::newcomer(), None) {
                self.shared.fail(&error.to_string());
            }
        }
        self.pass_preferences_on();
    }

    /// Tells every group whom its placement prefers as its leader.
    fn pass_preferences_on(&self) {
        let hosted = self.shared.registry.all();
        let preferred: Vec<_> = {
            let state = lock(&self.shared.system);
            let of = |group| state.preferred_leader(group);
            hosted.iter().map(|(group, _)| of(*group)).collect()
        };
        for ((_, hosted), preferred) in hosted.iter().zip(preferred) {
            hosted.prefer(preferred);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_between_the_rows_and_the_log_is_named() {
        // E28: a compacted log without the rows that it was compacted for.
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path().join("state")).unwrap();
        let checkpoints = Checkpoints::open(Box::new(disk)).unwrap();
        let rows = StateRows::open(folder.path().join("rows")).unwrap();
        let key = ReplicaKey {
            group: GroupId::new(7),
            replica: ReplicaId::new(3),
        };
        let whole = kept_of(&checkpoints, &rows, key, LogIndex::ZERO);
        assert!(matches!(whole, Ok(None)), "its log is whole");
        let gone = kept_of(&checkpoints, &rows, key, LogIndex::new(12)).unwrap_err();
        let sentence = gone.to_string();
        for named in [
            "GroupId(7)",
            "ReplicaId(3)",
            "begins after 12",
            "covers 0",
            "its state is gone",
        ] {
            assert!(sentence.contains(named), "{sentence}");
        }
    }
}
