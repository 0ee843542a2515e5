//! What is chosen: a cluster's id, and whatever else is fixed for ever at founding.

use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Largest payload of a record, in bytes. It names a few voters and numbers; every message of the last phase carries it.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// A cluster's name for ever, drawn at random by whoever proposes its founding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The founding record. Its payload is opaque here: first voters, shard counts, hash seed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Raw")]
pub struct Record {
    cluster: ClusterId,
    payload: Bytes,
}

#[derive(Deserialize)]
struct Raw {
    cluster: ClusterId,
    payload: Bytes,
}

impl TryFrom<Raw> for Record {
    type Error = RecordTooLarge;

    fn try_from(Raw { cluster, payload }: Raw) -> Result<Self, RecordTooLarge> {
        Self::new(cluster, payload)
    }
}

/// Make it smaller.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a founding record of {bytes} bytes is above the limit of {RECORD_BYTES_MAX}")]
pub struct RecordTooLarge {
    /// As given.
    pub bytes: usize,
}

impl Record {
    /// At most [`RECORD_BYTES_MAX`] bytes of payload.
    pub fn new(cluster: ClusterId, payload: Bytes) -> Result<Self, RecordTooLarge> {
        if payload.len() > RECORD_BYTES_MAX {
            return Err(RecordTooLarge {
                bytes: payload.len(),
            });
        }
        Ok(Self { cluster, payload })
    }

    /// Which cluster is founded.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What was fixed with it.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}
