//! The numbers that claims are kept with.

use core::time::Duration;

/// How a node keeps its claims. All nodes should use the same.
#[derive(Clone, Copy, Debug)]
pub struct ClaimsOptions {
    /// Gap between beats. Default 100 ms.
    pub interval: Duration,
    /// Silence of a node after which what rests under its claims looks for another leader. Default 450 ms: four lost or late beats.
    pub silent_after: Duration,
    /// Beats in a row that say otherwise than it is here, after which a list is sent anew. Default 3.
    pub patience: u32,
    /// Each time that did not help this doubles, up to here. Default 64.
    pub patience_most: u32,
    /// Beats in a row that name another version of a list than this node holds, after which what rests under it wakes: its owner lives,
    /// but cannot tell what it claims. Default 10.
    pub behind_most: u32,
    /// Changes, or answers, in one message. Default 1,024: some 60 KB.
    pub page: usize,
    /// A rule left out on purpose, so that the simulators can show that they see it. Never set it elsewhere.
    #[doc(hidden)]
    pub sabotage: Option<ClaimsSabotage>,
}

/// Rules that tests leave out on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClaimsSabotage {
    /// A replica that is no more keeps its claims.
    DeadClaim,
    /// Whoever holds a list does not ask whether it is the present one, and nobody sends it again.
    ListsTrusted,
    /// A node that starts again is taken for the one before.
    LivesConfused,
    /// Who was stopped for a while judges the others by what it did not read.
    LateJudges,
    /// Nobody remembers that a leader rests without somebody.
    AbsentForgotten,
    /// A leader is not told that a replica does not rest, or no longer, under its claim.
    RefusalsUnheard,
}

impl Default for ClaimsOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            silent_after: Duration::from_millis(450),
            patience: 3,
            patience_most: 64,
            behind_most: 10,
            page: 1_024,
            sabotage: None,
        }
    }
}
