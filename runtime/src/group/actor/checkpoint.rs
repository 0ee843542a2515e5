//! A replica's state leaves and enters whole: checkpoints, snapshots, and its end on disk.
//!
//! The log is compacted strictly after a checkpoint is durable (E28). What a follower is sent is the newest checkpoint. Of a state that
//! lies in rows a checkpoint writes what changed, of another one all of it.
//! Not here: rows and files (`storage`), the reading, storing and decoding of snapshots (`group::freight`).

use std::sync::atomic::Ordering;

use actix::{ActorContext, Handler};
use bytes::Bytes;
use synod_consensus::{
    ChunkWanted, GroupId, LogIndex, Position, Refusal, ReplicaId, ShipmentEnd, SnapshotId,
    SnapshotMeta, SnapshotOffer, Write,
};

use super::GroupActor;
use crate::evaluation::BaseError;
use crate::group::freight::FetchError;
use crate::group::machine::Decoded;
use crate::group::outbox::Outbox;
use crate::group::shared::Counters;
use crate::storage::{CheckpointContent, CheckpointLater, WriteRequest};

/// A checkpoint is made once this many log bytes were applied since the last one. With 256 groups what is in the log since then stays
/// below 32 MiB, and what is kept behind the compactions (`KEEP_BYTES`, module `node::start`) below as much again; each checkpoint
/// of a small shard costs a few microseconds and shares one fsync with others.
pub(super) const CHECKPOINT_BYTES: u64 = 128 * 1024;

impl GroupActor {
    /// A checkpoint never costs more than the log did: one of rows holds what the log since the last one changed, and a large whole
    /// state is written less often.
    pub(super) fn checkpoint_if_due(&mut self) {
        let whole = self.space.is_none();
        if self.bytes_since_checkpoint >= CHECKPOINT_BYTES.max(self.state_bytes * u64::from(whole))
        {
            self.make_checkpoint();
        }
        self.count_overlay();
    }

    /// Asks for a durable copy of the state, after which the log before it may go (E28: in this order).
    pub(super) fn make_checkpoint(&mut self) {
        if self.checkpoint.is_some() || self.applied.position.index == LogIndex::ZERO {
            return;
        }
        let (bytes, content) = match &self.space {
            None => {
                let writer = &self.shared.checkpoints;
                if writer.queued_bytes() > writer.queued_bytes_limit() {
                    return;
                }
                let data = self.machine.encode();
                self.state_bytes = data.len() as u64;
                (data.len(), CheckpointContent::State(data))
            }
            Some(space) => {
                let Some(sealed) = self.machine.seal() else {
                    return;
                };
                assert_eq!(
                    sealed.applied(),
                    self.applied.position.index,
                    "Checkpoint Position: a checkpoint holds exactly what its position says"
                );
                let space = space.clone();
                let bytes = sealed.bytes();
                let encode = Box::new(move || (sealed.head(), sealed.changes().collect()));
                (bytes, CheckpointContent::Rows { space, encode })
            }
        };
        self.checkpoint_log_bytes = std::mem::take(&mut self.bytes_since_checkpoint);
        self.checkpoint = Some(self.applied.position.index);
        Outbox::checkpoint(CheckpointLater {
            key: self.key,
            meta: self.applied.clone(),
            bytes,
            content,
        });
    }

    /// A snapshot whose bytes were wrong at its receiver is replaced by a fresh one: the checkpoint may be damaged at rest. What
    /// else its receiver has against it, another one does not cure; it is offered again, less and less often.
    pub(super) fn shipment_ended(&mut self, to: ReplicaId, end: ShipmentEnd) {
        // One that was wrong or not kept is not gone on with.
        let resumable = matches!(end, ShipmentEnd::Abandoned | ShipmentEnd::Stalled);
        self.shared.freight.end(self.key, to, resumable);
        let (group, counters) = (self.key.group, self.shared.freight.counters());
        match end {
            ShipmentEnd::Arrived | ShipmentEnd::Abandoned => {}
            ShipmentEnd::Stalled => {
                Counters::bump(&counters.stalled);
                tracing::warn!(%group, %to, "a replica answers, but takes nothing of the snapshot that it needs; it is offered one again later");
            }
            ShipmentEnd::Refused(refusal) => {
                Counters::bump(&counters.refused);
                tracing::error!(%group, %to, %refusal, "a replica did not take over the snapshot that it needs; it is offered one again later");
                if refusal == Refusal::Damaged {
                    self.make_checkpoint();
                }
            }
        }
    }

    /// The log did not wait any longer for a follower that fetches a snapshot or has just fetched one.
    pub(super) fn left_behind(&self, to: ReplicaId) {
        Counters::bump(&self.shared.freight.counters().left_behind);
        tracing::warn!(group = %self.key.group, %to, "a replica is slower than this log grows; it needs another snapshot");
    }

    /// Retired replicas wait for the system state of their retirement: see `Replicas::sweep`.
    fn state_is_durable(&self, index: LogIndex) {
        if self.key.group == GroupId::ZERO {
            self.shared
                .system_durable
                .fetch_max(index.get(), Ordering::Relaxed);
            self.shared.touch();
        }
    }

    /// All of a snapshot arrived: its leadership, if it still has one, is over.
    pub(super) fn install(&mut self, meta: SnapshotMeta, id: SnapshotId) {
        self.end_leadership();
        let machine = self.machine.clone();
        self.shared.freight.install(self.key, meta, id, machine);
    }
}

/// The snapshot for this follower is being made of the state at this position.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Making {
    pub(crate) to: ReplicaId,
    pub(crate) position: Position,
}

impl Handler<Making> for GroupActor {
    type Result = ();
    fn handle(&mut self, Making { to, position }: Making, ctx: &mut Self::Context) {
        let bytes = self.machine.bytes().unwrap_or(self.state_bytes);
        self.drive(ctx, |group, now| {
            group.making_snapshot(now, to, position, bytes);
        });
    }
}

/// It is this follower's turn to get a snapshot.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Provide {
    pub(crate) to: ReplicaId,
    pub(crate) offer: SnapshotOffer,
}

impl Handler<Provide> for GroupActor {
    type Result = ();
    fn handle(&mut self, Provide { to, offer }: Provide, ctx: &mut Self::Context) {
        let mut wanted = false;
        self.drive(ctx, |group, now| {
            // One that is under way already goes on, by the source that was offered first.
            wanted = group.provide_snapshot(now, to, offer) || group.shipping(to).is_some();
        });
        if !wanted {
            self.shared.freight.end(self.key, to, false);
        }
    }
}

/// The newest checkpoint cannot be opened or read. The state that it was of is here: a fresh one takes its place, and the follower
/// gets that when the group asks again.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CheckpointGone;

impl Handler<CheckpointGone> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: CheckpointGone, _ctx: &mut Self::Context) {
        if !self.stopped {
            self.make_checkpoint();
        }
    }
}

/// A piece to be sent was read.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ChunkRead {
    pub(crate) wanted: ChunkWanted,
    pub(crate) data: Option<Bytes>,
}

impl Handler<ChunkRead> for GroupActor {
    type Result = ();
    fn handle(&mut self, ChunkRead { wanted, data }: ChunkRead, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| group.chunk_read(now, wanted, data));
    }
}

/// A piece that arrived was stored, or not.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ChunkStored {
    pub(crate) id: SnapshotId,
    /// Bytes of it that are held; `None`: they could not be kept, and nothing is held any more.
    pub(crate) held: Option<u64>,
}

impl Handler<ChunkStored> for GroupActor {
    type Result = ();
    fn handle(&mut self, ChunkStored { id, held }: ChunkStored, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| match held {
            Some(held) => group.chunk_stored(now, id, held),
            None => group.chunk_not_kept(now, id),
        });
    }
}

/// A snapshot that arrived is durable and decoded, or is none.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Fetched {
    pub(crate) meta: SnapshotMeta,
    pub(crate) id: SnapshotId,
    pub(crate) result: Result<Decoded, FetchError>,
}

impl Handler<Fetched> for GroupActor {
    type Result = ();
    fn handle(&mut self, Fetched { meta, id, result }: Fetched, ctx: &mut Self::Context) {
        let (group, index) = (self.key.group, id.position.index);
        if self.stopped {
            return;
        }
        match result {
            Ok(decoded) => {
                if let Decoded::Rows(_, space) = &decoded {
                    self.space = Some(space.clone());
                }
                let former = self.machine.replace(decoded);
                // A large state takes milliseconds to drop: not here.
                let _elsewhere = actix_rt::task::spawn_blocking(move || drop(former));
                self.applied = meta;
                self.bytes_since_checkpoint = 0;
                self.checkpoint_log_bytes = 0;
                self.checkpoint = None; // one under way is of the former state, and comes to nothing
                // What was asked of the checkpoints for the log's sake the snapshot has done: nothing lies before it any more.
                (self.again, self.purge) = (false, false);
                self.state_bytes = id.bytes;
                self.room_was_made();
                self.count_overlay();
                self.state_is_durable(index);
                tracing::debug!(%group, %index, bytes = id.bytes, "snapshot taken over");
                self.drive(ctx, |group, now| group.installed(now, id.position));
            }
            Err(FetchError::Undecodable(reason)) => self.stop(&reason, ctx),
            Err(FetchError::Unreadable(error)) => self.unreadable(&error, ctx),
            Err(error) => {
                let refusal = error.refusal();
                tracing::error!(%group, %index, %error, "a snapshot that arrived is unusable; it is fetched again");
                self.drive(ctx, |group, now| group.install_failed(now, id, refusal));
            }
        }
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
        self.checkpoint_log_bytes = 0;
        self.machine.unseal(index);
        self.room_was_made();
        let purge = std::mem::take(&mut self.purge);
        self.drive(ctx, |group, now| {
            if purge {
                group.compact_all(now, index);
            } else {
                group.compact(now, index);
            }
        });
        self.state_is_durable(index);
        if std::mem::take(&mut self.again) {
            self.purge = true;
            self.make_checkpoint();
        }
        // What gathered meanwhile may be due already, and where there was no room no entry will come that would ask.
        self.checkpoint_if_due();
    }
}

/// A row of this replica's state cannot be read.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct RowsUnreadable(pub(crate) BaseError);

impl Handler<RowsUnreadable> for GroupActor {
    type Result = ();
    fn handle(&mut self, RowsUnreadable(error): RowsUnreadable, ctx: &mut Self::Context) {
        if !self.stopped {
            self.unreadable(&error, ctx);
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
        self.shared.freight.forget(self.key);
        ctx.stop();
    }
}
