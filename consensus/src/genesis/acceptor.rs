//! What one disk of the electorate promised and accepted.
//!
//! Here: [`Ballot`] and [`Acceptor`], the two rules of Lamport's "Paxos Made Simple", section 2.2: P1a (accept a ballot unless a
//! later one was promised) and the promise that makes P2c hold. Part of [`Durable`](super::Durable): it is on disk before anybody
//! hears of it (section 2.5). Not here: who asks (`proposer`).

use serde::{Deserialize, Serialize};

use super::record::Record;

/// One attempt of one proposer. Unique: a seed has its place in the list to itself, and its round is above all that its own disk
/// promised ("Paxos Made Simple", section 2.5: disjoint sets of numbers).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Ballot {
    /// Compared first.
    pub round: u64,
    /// Place of the proposer in the list, from 0.
    pub place: u8,
}

/// The memory of one acceptor.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Acceptor {
    /// Nothing below it is accepted any more.
    pub promised: Option<Ballot>,
    /// The latest that was accepted.
    pub accepted: Option<(Ballot, Record)>,
}

impl Acceptor {
    /// Section 2.2, phase 1 (b). `Err` names the later promise.
    pub(crate) fn promise(&mut self, ballot: Ballot) -> Result<(), Ballot> {
        match self.promised {
            Some(promised) if promised > ballot => Err(promised),
            _ => {
                self.promised = Some(ballot);
                Ok(())
            }
        }
    }

    /// Section 2.2, phase 2 (b). `Err` names the later promise.
    pub(crate) fn accept(&mut self, ballot: Ballot, record: Record) -> Result<(), Ballot> {
        self.promise(ballot)?;
        self.accepted = Some((ballot, record));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::ClusterId;

    #[test]
    fn an_acceptor_accepts_nothing_below_its_promise() {
        // "Paxos Made Simple" 2.2, P1a.
        let ballot = |round, place| Ballot { round, place };
        let record = Record::new(ClusterId(1), bytes::Bytes::new()).unwrap();
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.promise(ballot(2, 0)), Ok(()));
        assert_eq!(
            acceptor.accept(ballot(1, 1), record.clone()),
            Err(ballot(2, 0))
        );
        assert_eq!(acceptor.promise(ballot(1, 9)), Err(ballot(2, 0)));
        assert_eq!(acceptor.accepted, None);
        assert_eq!(acceptor.accept(ballot(2, 1), record.clone()), Ok(()));
        assert_eq!(acceptor.promised, Some(ballot(2, 1)));
        assert_eq!(acceptor.accepted, Some((ballot(2, 1), record)));
    }
}
