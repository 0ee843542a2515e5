//! What a log holds.
//!
//! Here: [`Entry`] and its kinds. Not here: the log itself (`log`), bytes on disk (`storage`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Configuration, LogIndex, Position, Term};

/// What an entry means to the group.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum EntryKind {
    /// The proposer's bytes; the group never looks inside.
    Normal,
    /// Opens a leader's term; empty. Commits what earlier terms left behind (Raft paper 5.4.2, 8).
    Noop,
    /// An encoded [`Configuration`]; effective from the moment it is appended.
    Configuration,
}

/// One entry of a log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Term of the leader that created it.
    pub term: Term,
    /// Its place.
    pub index: LogIndex,
    /// What it means.
    pub kind: EntryKind,
    /// Cheap to clone: every copy shares the same memory.
    pub payload: Bytes,
}

impl Entry {
    /// The entry's name.
    pub fn position(&self) -> Position {
        Position::new(self.term, self.index)
    }

    /// Bytes it is charged for in windows and budgets: the payload plus what a record costs around it.
    pub fn charge(&self) -> usize {
        self.payload.len() + Self::OVERHEAD
    }

    /// Bytes that every entry is charged for besides its payload.
    pub const OVERHEAD: usize = 32;

    /// The configuration inside, for entries of that kind; `None` for other kinds and for bytes that do not decode.
    pub fn configuration(&self) -> Option<Configuration> {
        match self.kind {
            EntryKind::Configuration => Configuration::decode(&self.payload),
            EntryKind::Normal | EntryKind::Noop => None,
        }
    }
}
