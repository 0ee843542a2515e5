//! What a seed's disk remembers of the founding.
//!
//! Here: [`Durable`], written whole: it is small and changes a handful of times. Named MessagePack; fields are only ever added.

use serde::{Deserialize, Serialize};

use super::acceptor::Acceptor;
use super::electorate::Electorate;
use super::record::Record;
use super::seed::{Card, Incarnation, SeedList};

/// All that must survive a restart. A store without one has never stated.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Durable {
    /// Which disk this is.
    pub incarnation: Incarnation,
    /// The statement: "this list, empty disk". Another start may bring another list, until a word is given.
    pub list: SeedList,
    /// Stated with it; that of the latest start, until a word is given.
    pub card: Card,
    /// The word: this disk takes part in the founding of this electorate and never of another.
    pub electorate: Option<Electorate>,
    /// Every listed seed has given its word to `electorate`.
    pub complete: bool,
    /// Its part in the choice, if `electorate` names this disk.
    pub acceptor: Acceptor,
    /// The founding record. Never changes.
    pub chosen: Option<Record>,
}
