//! The numbers that a founding is run with, each with its reason. Safety depends on none of them.

use core::time::Duration;

/// How a founding behaves.
#[derive(Clone, Debug)]
pub struct GenesisOptions {
    /// Gap between a seed's questions to all others. Default 500 ms: one small message per pair, only until the founding is over.
    pub ask_interval: Duration,
    /// How long an answer counts as the present state of a seed. A few questions, so that a lost one does no harm; short, because
    /// a disk that is lost after its seed answered costs a vote. Default 2 s.
    pub fresh: Duration,
    /// How long one attempt of a proposer may take: two round trips and four syncs. Default 500 ms.
    pub attempt: Duration,
    /// Head start of each seed over the next one in the list, and the base of the back-off after a failed attempt, doubled up to
    /// 32 times and redrawn ("Paxos Made Simple" 2.4: two proposers may outbid each other for ever). Default 50 ms.
    pub back_off: Duration,
    /// A bug put back on purpose, so that the simulators can show that they see it. Never set it elsewhere.
    #[doc(hidden)]
    pub sabotage: Option<Sabotage>,
}

impl Default for GenesisOptions {
    fn default() -> Self {
        Self {
            ask_interval: Duration::from_millis(500),
            fresh: Duration::from_secs(2),
            attempt: Duration::from_millis(500),
            back_off: Duration::from_millis(50),
            sabotage: None,
        }
    }
}

/// Bugs that tests put back on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sabotage {
    /// What was promised and accepted does not reach the disk.
    AcceptorForgotten,
    /// The word given to an electorate does not reach the disk.
    WordForgotten,
    /// E25: a majority of statements and words is enough.
    MajoritySuffices,
    /// E25: a wiped seed votes in the place of its former self.
    WipedVotes,
    /// Messages do not wait for the disk.
    SaidEarly,
}
