//! The state of a simulated shard: a chain over all that was applied.

use bytes::Bytes;
use synod_consensus::{Entry, EntryKind, LogIndex};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Two states are the same exactly if their indexes and chains are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Machine {
    pub(super) applied: LogIndex,
    pub(super) chain: u64,
}

/// The chain after an entry.
pub(super) fn link(chain: u64, entry: &Entry) -> u64 {
    let kind = match entry.kind {
        EntryKind::Normal => 1,
        EntryKind::Noop => 2,
        EntryKind::Configuration => 3,
    };
    let seed = chain
        .rotate_left(7)
        .wrapping_add(entry.term.get() << 8)
        .wrapping_add(kind);
    xxh3_64_with_seed(&entry.payload, seed)
}

impl Machine {
    pub(super) fn apply(&mut self, entry: &Entry) {
        self.applied = entry.index;
        self.chain = link(self.chain, entry);
    }

    /// The state as bytes, with some more so that it travels in pieces.
    pub(super) fn encode(&self) -> Bytes {
        let mut data = vec![0; 16 + (self.chain % 900) as usize];
        data[..8].copy_from_slice(&self.applied.get().to_le_bytes());
        data[8..16].copy_from_slice(&self.chain.to_le_bytes());
        data.into()
    }

    pub(super) fn decode(data: &[u8]) -> Option<Self> {
        let (applied, rest) = data.split_first_chunk::<8>()?;
        let (chain, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            applied: LogIndex::new(u64::from_le_bytes(*applied)),
            chain: u64::from_le_bytes(*chain),
        })
    }
}
