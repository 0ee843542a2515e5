//! What seeds say to each other before there is a cluster.
//!
//! Here: the vocabulary. Not here: when something is said (`machine`, `proposer`), how it travels (crate `synod`, which checks
//! that `from` is what the certificate says). Wire format: named MessagePack; variants and fields are only ever added. Lengths of
//! names, lists and records are checked at decode.

use serde::{Deserialize, Serialize};

use super::acceptor::Ballot;
use super::electorate::Electorate;
use super::record::{ClusterId, Record};
use super::seed::{Card, Incarnation, SeedList, SeedName};

/// One message between two seeds; may be lost, delayed, doubled or overtaken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// Who says it.
    pub from: SeedName,
    /// What is said.
    pub body: Body,
}

/// What is said. Everything that a sender claims of itself is on its disk by then.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Body {
    /// "This list, empty disk", and the word given since.
    Statement {
        /// Which disk says it.
        incarnation: Incarnation,
        /// Its list.
        list: SeedList,
        /// What the others need of it to found with it.
        card: Card,
        /// The electorate it gave its word to.
        electorate: Option<Electorate>,
        /// Every listed seed gave its word to `electorate`.
        complete: bool,
        /// Asks for an answer that echoes it; 0: no answer is needed.
        ask: u64,
        /// The `ask` that it answers; 0: none.
        echo: u64,
    },
    /// "I have data of a cluster": nobody founds who hears it.
    Holds {
        /// Which cluster: join it.
        cluster: ClusterId,
        /// The electorate that the sender's disk gave its word to, if it ever did.
        electorate: Option<Electorate>,
        /// As in `Statement`.
        echo: u64,
    },
    /// "This is the founding record", said to the electorate that chose it.
    Chosen {
        /// Who chose.
        electorate: Electorate,
        /// What.
        record: Record,
    },
    /// "Paxos Made Simple" 2.2, phase 1 (a). Says also that the electorate is complete.
    Prepare {
        /// Who decides.
        electorate: Electorate,
        /// The attempt.
        ballot: Ballot,
    },
    /// Phase 1 (b).
    Promise {
        /// Who decides.
        electorate: Electorate,
        /// The attempt it answers.
        ballot: Ballot,
        /// What the sender accepted last.
        accepted: Option<(Ballot, Record)>,
    },
    /// Phase 2 (a).
    Accept {
        /// Who decides.
        electorate: Electorate,
        /// The attempt.
        ballot: Ballot,
        /// The value.
        record: Record,
    },
    /// Phase 2 (b).
    Accepted {
        /// Who decides.
        electorate: Electorate,
        /// The attempt it answers.
        ballot: Ballot,
    },
    /// Section 2.3: a later attempt is under way, so this one may as well stop.
    Refused {
        /// Who decides.
        electorate: Electorate,
        /// The attempt it answers.
        ballot: Ballot,
        /// The later one.
        promised: Ballot,
    },
}

impl Body {
    /// What kind it is, for counters and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Statement { .. } => "statement",
            Self::Holds { .. } => "holds",
            Self::Chosen { .. } => "chosen",
            Self::Prepare { .. } => "prepare",
            Self::Promise { .. } => "promise",
            Self::Accept { .. } => "accept",
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
        }
    }
}
