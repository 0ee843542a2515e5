//! A replica's state leaves and enters whole: checkpoints, snapshots, and its end on disk.
//!
//! The log is compacted strictly after a checkpoint is durable (E28). Not here: the files (`storage`).

use std::sync::atomic::Ordering;

use actix::{ActorContext, Context, Handler};
use synod_consensus::{GroupId, LogIndex, ReplicaId, Snapshot, Write};

use super::GroupActor;
use crate::group::outbox::Outbox;
use crate::storage::{Checkpoint, WriteRequest};

/// A checkpoint is made once this many log bytes were applied since the last one. With 256 groups the retained log
/// stays below 32 MiB; each checkpoint of a small shard costs a few microseconds and shares one fsync with others.
const CHECKPOINT_BYTES: u64 = 128 * 1024;

impl GroupActor {
    /// A large state is written less often, so that checkpoints never cost more than the log itself.
    pub(super) fn checkpoint_if_due(&mut self) {
        if self.bytes_since_checkpoint >= CHECKPOINT_BYTES.max(self.state_bytes) {
            self.make_checkpoint();
        }
    }

    /// Asks for a durable copy of the state, after which the log before it may go (E28: in this order).
    fn make_checkpoint(&mut self) {
        let writer = &self.shared.checkpoints;
        if self.checkpoint.is_some()
            || self.applied.position.index == LogIndex::ZERO
            || writer.queued_bytes() > writer.queued_bytes_limit()
        {
            return;
        }
        let data = self.machine.encode();
        self.state_bytes = data.len() as u64;
        self.bytes_since_checkpoint = 0;
        self.checkpoint = Some(self.applied.position.index);
        Outbox::checkpoint(Checkpoint {
            key: self.key,
            meta: self.applied.clone(),
            data,
        });
    }

    pub(super) fn install(&mut self, snapshot: &Snapshot, ctx: &mut Context<Self>) {
        self.end_leadership();
        let position = snapshot.meta.position;
        if let Err(diverged) = self.machine.restore(position.index, &snapshot.data) {
            return self.stop(&diverged.to_string(), ctx);
        }
        self.applied = snapshot.meta.clone();
        self.bytes_since_checkpoint = 0;
        self.checkpoint = Some(position.index);
        self.installing = Some(position);
        Outbox::checkpoint(Checkpoint {
            key: self.key,
            meta: snapshot.meta.clone(),
            data: snapshot.data.clone(),
        });
        if self.evaluator.is_none() {
            self.shared.touch();
        }
        tracing::debug!(group = %self.key.group, index = %position.index, bytes = snapshot.data.len(), "snapshot taken over");
    }

    pub(super) fn snapshot(&mut self, to: ReplicaId) {
        let snapshot = Snapshot {
            meta: self.applied.clone(),
            data: self.machine.encode(),
        };
        let now = self.now();
        self.group.provide_snapshot(now, to, snapshot);
    }
}

/// A checkpoint up to this index is durable.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Checkpointed(pub(crate) LogIndex);

impl Handler<Checkpointed> for GroupActor {
    type Result = ();
    fn handle(&mut self, Checkpointed(index): Checkpointed, ctx: &mut Self::Context) {
        if self.checkpoint != Some(index) {
            return;
        }
        self.checkpoint = None;
        let installed = self.installing.take();
        let purge = std::mem::take(&mut self.purge);
        self.drive(ctx, |group, now| match installed {
            Some(position) => group.installed(now, position),
            None if purge => group.compact_all(now, index),
            None => group.compact(now, index),
        });
        if self.key.group == GroupId::ZERO {
            // Retired replicas wait for this: see `Replicas::sweep`.
            self.shared
                .system_durable
                .fetch_max(index.get(), Ordering::Relaxed);
            self.shared.touch();
        }
        if std::mem::take(&mut self.again) {
            self.purge = true;
            self.make_checkpoint();
        }
    }
}

/// The log's oldest file is held by this group alone.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CheckpointNow;

impl Handler<CheckpointNow> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: CheckpointNow, _ctx: &mut Self::Context) {
        if self.checkpoint.is_some() {
            self.again = true;
        } else {
            self.purge = true;
            self.make_checkpoint();
        }
    }
}

/// The retirement can no longer be forgotten: the replica's log and checkpoint go.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Delete;

impl Handler<Delete> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: Delete, ctx: &mut Self::Context) {
        Outbox::write(WriteRequest {
            key: self.key,
            token: None,
            writes: vec![Write::Drop],
        });
        Outbox::drop_checkpoint(self.key);
        ctx.stop();
    }
}
