//! The state machine that the simulated group replicates: it chains a digest over everything it applied, so that two replicas with
//! the same chain applied the same entries in the same order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{Entry, EntryKind, LogIndex};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::model::digest;

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) applied: LogIndex,
    pub(crate) chain: u64,
    pub(crate) commands: u64,
    /// Makes snapshots long enough for many chunks.
    filler: Bytes,
}

/// How long a state grows.
const FILLER_MAX: usize = 12 << 10;

impl Machine {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        self.applied = entry.index;
        self.chain = chained(self.chain, entry.term.get(), digest(entry));
        if entry.kind == EntryKind::Normal {
            self.commands += 1;
            if self.filler.len() < FILLER_MAX {
                self.filler = [&self.filler[..], &[entry.payload.len() as u8; 16]]
                    .concat()
                    .into();
            }
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        rmp_serde::to_vec_named(self).expect("plain data").into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}

/// The chain's next link.
pub(crate) fn chained(chain: u64, term: u64, digest: u64) -> u64 {
    xxh3_64_with_seed(&[term.to_le_bytes(), digest.to_le_bytes()].concat(), chain)
}
