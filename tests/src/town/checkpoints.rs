//! Durable states of replicas: made, shipped as snapshots, and taken over, as a replica's actor in the runtime does it.
//!
//! Here: this part of [`World`]. Not here: what is on a disk (`node`).

use synod_consensus::{
    Configuration, GroupId, LogIndex, ReplicaId, ReplicaKey, SnapshotId, SnapshotMeta,
};

use super::Sabotage;
use super::node::{Checkpoint, Writing, encode_system, restore_shard, restore_system};
use super::world::World;
use crate::violation::{Violation, broken};

impl World {
    /// Asks for a durable copy of the state, after which the log before it may go (E28: in this order).
    pub(super) fn make_checkpoint(&mut self, store: u64, group: GroupId) -> Result<(), Violation> {
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let Some(replica) = process.hosted.get_mut(&group) else {
            return Ok(());
        };
        let index = replica.applied.position.index;
        if replica.checkpoint.is_some() || index == LogIndex::ZERO {
            return Ok(());
        }
        replica.since = 0;
        replica.checkpoint = Some(index);
        let data = match group {
            GroupId::ZERO => encode_system(&process.system, &replica.machine),
            _ => replica.machine.encode(),
        };
        let (key, mut meta) = (replica.key, replica.applied.clone());
        if self.sabotage == Some(Sabotage::ConfigurationForgotten) {
            meta.configuration = Configuration::default();
        }
        self.ledger.checkpointed(key, &meta)?;
        let checkpoint = Checkpoint { meta, data };
        self.write(store, Writing::Checkpoint { key, checkpoint });
        Ok(())
    }

    /// The log's oldest file is held by this group alone, or retired replicas wait for a durable system state.
    pub(super) fn checkpoint_now(&mut self, store: u64, group: GroupId) -> Result<(), Violation> {
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        if replica.checkpoint.is_some() {
            replica.again = true;
        } else {
            replica.purge = true;
            self.make_checkpoint(store, group)?;
        }
        Ok(())
    }

    pub(super) fn checkpointed(
        &mut self,
        store: u64,
        key: ReplicaKey,
        at: LogIndex,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(replica) = self.replica(store, key.group) else {
            return Ok(());
        };
        if replica.key != key || replica.checkpoint != Some(at) {
            return Ok(());
        }
        replica.checkpoint = None;
        let again = core::mem::take(&mut replica.again);
        match core::mem::take(&mut replica.purge) {
            true => replica.group.compact_all(now, at),
            false => replica.group.compact(now, at),
        }
        self.flush(store, key.group)?;
        self.state_is_durable(store, key, at);
        if again && let Some(replica) = self.replica(store, key.group) {
            replica.purge = true;
            self.make_checkpoint(store, key.group)?;
        }
        Ok(())
    }

    fn state_is_durable(&mut self, store: u64, key: ReplicaKey, index: LogIndex) {
        if key.group != GroupId::ZERO {
            return;
        }
        if let Some(process) = self.process(store) {
            process.system_durable = process.system_durable.max(index);
        }
        self.touch(store);
    }

    /// A follower needs a snapshot: it gets the newest checkpoint.
    pub(super) fn provide(
        &mut self,
        store: u64,
        key: ReplicaKey,
        to: ReplicaId,
    ) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes.get_mut(&store).expect("it runs");
        let checkpoint = node.disk.checkpoints.get(&key).cloned();
        let Some(checkpoint) = checkpoint else {
            return self.make_checkpoint(store, key.group);
        };
        let Some(replica) = self.replica(store, key.group) else {
            return Ok(());
        };
        let under_way = replica.group.shipping(to).is_some();
        if under_way {
            return Ok(());
        }
        let offer = replica.shelf.offer(to, checkpoint.meta, checkpoint.data);
        if replica.group.provide_snapshot(now, to, offer) {
            self.coverage.count("snapshots_shipped");
        } else {
            replica.shelf.end(to);
        }
        Ok(())
    }

    pub(super) fn install(
        &mut self,
        store: u64,
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
    ) -> Result<(), Violation> {
        self.end_leadership(store, key.group);
        let Some(replica) = self.replica(store, key.group) else {
            return Ok(());
        };
        let Some(data) = replica.shelf.take_whole(id) else {
            return broken("Recovery", format!("{key:?}: snapshot {id:?} is damaged"));
        };
        let checkpoint = Checkpoint { meta, data };
        self.write(
            store,
            Writing::Install {
                key,
                id,
                checkpoint,
            },
        );
        Ok(())
    }

    pub(super) fn installed(
        &mut self,
        store: u64,
        key: ReplicaKey,
        id: SnapshotId,
        checkpoint: &Checkpoint,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let hosted = process.hosted.get_mut(&key.group);
        let Some(replica) = hosted.filter(|replica| replica.key == key && !replica.stopped) else {
            return Ok(());
        };
        if key.group == GroupId::ZERO {
            (process.system, replica.machine) = restore_system(checkpoint)?;
        } else {
            replica.machine = restore_shard(key, checkpoint)?;
        }
        replica.applied = checkpoint.meta.clone();
        replica.since = 0;
        replica.checkpoint = None;
        replica.group.installed(now, id.position);
        let machine = replica.machine;
        self.ledger.restored(key, machine.applied, machine.chain)?;
        self.coverage.count("snapshots_installed");
        self.state_is_durable(store, key, machine.applied);
        self.flush(store, key.group)
    }
}
