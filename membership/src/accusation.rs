//! What others may say about a member.
//!
//! Here: [`Accusation`] and [`Verdict`]. Not here: what a member says about itself ([`crate::record`]); when an accusation is
//! believed ([`crate::swim`]).
//! Source: SWIM 4.2; hazard M45 (others may only accuse).

use serde::{Deserialize, Serialize};

use crate::ids::StoreId;
use crate::record::Position;

/// How far an accuser got.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Verdict {
    /// The accuser could not reach the subject.
    #[serde(rename = "s")]
    Suspect,
    /// The accuser waited its suspicion timeout and saw no refutation.
    #[serde(rename = "d")]
    Dead,
}

/// "`accuser` finds `subject` silent, as of this generation and incarnation." Unsigned: it can start a suspicion, which the
/// subject refutes, and can never raise a position.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Accusation {
    /// Who is accused.
    #[serde(rename = "s")]
    pub subject: StoreId,
    /// The start of the subject that was silent.
    #[serde(rename = "g")]
    pub generation: u64,
    /// The incarnation of the subject that was silent.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// How far the accuser got.
    #[serde(rename = "v")]
    pub verdict: Verdict,
    /// Who saw it; several independent ones shorten the suspicion.
    #[serde(rename = "a")]
    pub accuser: StoreId,
}

impl Accusation {
    /// The position that is accused.
    pub fn position(&self) -> Position {
        Position {
            generation: self.generation,
            incarnation: self.incarnation,
        }
    }
}
