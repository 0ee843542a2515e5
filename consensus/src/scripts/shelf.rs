//! The snapshots of one replica in a script: its checkpoint, what it ships, what it has received of another's.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    ChunkReceived, ChunkWanted, Entry, ReplicaId, ShipmentEnd, SnapshotId, SnapshotMeta,
    SnapshotOffer,
};

#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) meta: SnapshotMeta,
    pub(super) data: Bytes,
}

impl Snapshot {
    pub(super) fn of(meta: SnapshotMeta, applied: &[Entry]) -> Self {
        let data = rmp_serde::to_vec_named(applied).unwrap().into();
        Self { meta, data }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        rmp_serde::from_slice(&self.data).unwrap()
    }

    pub(super) fn offer(&self) -> SnapshotOffer {
        SnapshotOffer {
            meta: self.meta.clone(),
            bytes: self.data.len() as u64,
            checksum: checksum(&self.data),
        }
    }

    pub(super) fn read(&self, wanted: &ChunkWanted) -> Bytes {
        let start = usize::try_from(wanted.offset).unwrap();
        self.data.slice(start..start + wanted.bytes)
    }
}

/// FNV-1a.
pub(super) fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A snapshot on its way in.
#[derive(Clone)]
pub(super) struct Partial {
    pub(super) meta: SnapshotMeta,
    pub(super) id: SnapshotId,
    pub(super) data: Vec<u8>,
}

impl Partial {
    pub(super) fn held(&self) -> u64 {
        self.data.len() as u64
    }
}

/// How a shelf takes chunks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Room {
    /// It keeps them.
    #[default]
    Enough,
    /// It keeps nothing, and says only how much it holds.
    Silent,
    /// It keeps nothing, drops what it held, and says so.
    Full,
}

#[derive(Clone, Default)]
pub(super) struct Shelf {
    /// The newest durable checkpoint.
    pub(super) checkpoint: Option<Snapshot>,
    /// What is being shipped, to whom.
    pub(super) sources: BTreeMap<ReplicaId, Snapshot>,
    /// Chunks to read; they wait while `reads_held`.
    pub(super) wanted: BTreeMap<ReplicaId, ChunkWanted>,
    pub(super) reads_held: bool,
    /// Snapshots that are needed are counted, and not offered.
    pub(super) offers_held: bool,
    /// What becomes of chunks that are to be stored.
    pub(super) room: Room,
    pub(super) partial: Option<Partial>,
    /// How often a snapshot was asked for.
    pub(super) needed: usize,
    /// How shipments ended.
    pub(super) ended: Vec<(ReplicaId, ShipmentEnd)>,
    /// Bytes stored in this life and earlier ones.
    pub(super) stored_bytes: u64,
    /// Installations whose checksum was wrong.
    pub(super) damaged: usize,
}

impl Shelf {
    /// What a restart finds.
    pub(super) fn after_crash(self) -> Self {
        Self {
            checkpoint: self.checkpoint,
            partial: self.partial,
            stored_bytes: self.stored_bytes,
            ..Self::default()
        }
    }

    pub(super) fn offer(&mut self, to: ReplicaId, snapshot: Snapshot) -> SnapshotOffer {
        let offer = snapshot.offer();
        self.sources.insert(to, snapshot);
        offer
    }

    pub(super) fn store(&mut self, chunk: ChunkReceived) -> u64 {
        let ChunkReceived {
            meta,
            id,
            offset,
            data,
        } = chunk;
        let partial = self
            .partial
            .take_if(|partial| partial.id == id)
            .unwrap_or(Partial {
                meta: *meta,
                id,
                data: Vec::new(),
            });
        let partial = self.partial.insert(partial);
        assert_eq!(
            offset,
            partial.held(),
            "chunks come in order and without holes"
        );
        self.stored_bytes += data.len() as u64;
        partial.data.extend_from_slice(&data);
        partial.held()
    }

    pub(super) fn drop_partial(&mut self, id: SnapshotId) {
        self.partial.take_if(|partial| partial.id == id);
    }

    /// The state, if it is what its name says.
    pub(super) fn install(&mut self, meta: SnapshotMeta, id: SnapshotId) -> Option<Vec<Entry>> {
        let partial = self.partial.take_if(|partial| partial.id == id)?;
        assert_eq!((partial.held(), &partial.meta), (id.bytes, &meta));
        if checksum(&partial.data) != id.checksum {
            self.damaged += 1;
            return None;
        }
        let snapshot = Snapshot {
            meta,
            data: partial.data.into(),
        };
        let entries = snapshot.entries();
        self.checkpoint = Some(snapshot);
        Some(entries)
    }
}
