//! The snapshots of one simulated replica, in memory: what it ships, what it has received of another's.

use std::collections::BTreeMap;

use bytes::Bytes;
use synod_consensus::{
    ChunkReceived, ChunkWanted, ReplicaId, SnapshotId, SnapshotMeta, SnapshotOffer,
};
use xxhash_rust::xxh3::xxh3_64;

/// What a process holds of snapshots.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    sources: BTreeMap<ReplicaId, (SnapshotId, Bytes)>,
    partial: Option<(SnapshotMeta, SnapshotId, Vec<u8>)>,
}

impl Shelf {
    /// Offers a state to a follower.
    pub(crate) fn offer(
        &mut self,
        to: ReplicaId,
        meta: SnapshotMeta,
        data: Bytes,
    ) -> SnapshotOffer {
        let offer = SnapshotOffer {
            meta,
            bytes: data.len() as u64,
            checksum: xxh3_64(&data),
        };
        self.sources.insert(to, (offer.id(), data));
        offer
    }

    /// A piece of what is offered.
    pub(crate) fn read(&self, wanted: &ChunkWanted) -> Option<Bytes> {
        let (id, data) = self.sources.get(&wanted.to)?;
        let start = usize::try_from(wanted.offset).ok()?;
        (*id == wanted.id).then(|| data.slice(start..start + wanted.bytes))
    }

    /// Nothing more is read for this follower.
    pub(crate) fn end(&mut self, to: ReplicaId) {
        self.sources.remove(&to);
    }

    /// Keeps a piece; returns how much is held.
    pub(crate) fn store(&mut self, chunk: &ChunkReceived) -> u64 {
        let kept = self.partial.take_if(|(_, id, _)| *id == chunk.id);
        let new = || ((*chunk.meta).clone(), chunk.id, Vec::new());
        let (_, _, data) = self.partial.insert(kept.unwrap_or_else(new));
        assert_eq!(chunk.offset, data.len() as u64, "chunks follow each other");
        data.extend_from_slice(&chunk.data);
        data.len() as u64
    }

    /// Forgets what is held of `id`.
    pub(crate) fn drop_partial(&mut self, id: SnapshotId) {
        self.partial.take_if(|(_, held, _)| *held == id);
    }

    /// The whole, if it is what its name says.
    pub(crate) fn take_whole(&mut self, id: SnapshotId) -> Option<Bytes> {
        let (_, _, data) = self.partial.take_if(|(_, held, _)| *held == id)?;
        (data.len() as u64 == id.bytes && xxh3_64(&data) == id.checksum).then(|| data.into())
    }
}
