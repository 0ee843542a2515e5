//! The identity of a member.
//!
//! Here: [`StoreId`]. Not here: names and addresses, which a store may change ([`crate::Record`]).

use core::fmt;

use serde::{Deserialize, Serialize};

/// One data directory, as numbered by the system group's log when it was first admitted; never used again for another one.
/// A wiped disk is a new store, so its start count of 1 never competes with the count of its ghost.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)] // the same bytes as a bare u64
pub struct StoreId(u64);

impl StoreId {
    /// The id that the log gave.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for StoreId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
