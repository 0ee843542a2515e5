//! What a founding wants done, as data.
//!
//! Called by: whoever drives a [`Genesis`](super::Genesis), by draining [`Genesis::poll_output`](super::Genesis::poll_output)
//! after each input.

use super::durable::Durable;
use super::electorate::Electorate;
use super::message::Message;
use super::record::{ClusterId, Record};
use super::seed::{SeedList, SeedName};

/// Names one [`Output::Persist`]; hand it back once the write is durable.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Token(pub(crate) u64);

/// One thing to do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Replace what is on disk, then call `persisted`. Writes reach the disk in the order in which they came out; a failed one ends
    /// the process (H72).
    Persist(Token, Durable),
    /// Send; it may be lost.
    Send(SeedName, Message),
    /// The record is chosen and durable here. It may come again after a restart. This value goes on answering the others.
    Chosen(Electorate, Record),
    /// Another seed has data of `cluster`: nothing is founded here; ask to be let in there, then call `held`, or `not_let_in`.
    Join {
        /// Which cluster.
        cluster: ClusterId,
        /// Who said so.
        told_by: SeedName,
    },
    /// All listed seeds have answered (or this seed's own disk says enough), and nothing can be founded as things are. It stands
    /// until [`Genesis::obstacle`] says otherwise: a seed that is started again with another list, or on a cleared disk, may heal
    /// it.
    ///
    /// [`Genesis::obstacle`]: super::Genesis::obstacle
    Obstructed(Obstacle),
}

/// Why nothing can be founded, for an operator.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Obstacle {
    /// Start them all with the same list.
    Differs {
        /// The list of this seed.
        mine: SeedList,
        /// Whoever has another one, and which.
        others: Vec<(SeedName, SeedList)>,
    },
    /// This disk gave its word when it was started with another list. Start it with that one again, or clear its disk.
    Bound {
        /// The list whose founding has begun.
        begun: SeedList,
        /// The list of this start.
        given: SeedList,
    },
    /// Disks that gave their word were lost, and too few are left to know whether something was chosen. If none of the lost ones
    /// held a cluster, clear the disks of all listed seeds and start again.
    Lost {
        /// Seeds whose disk is not the one of the electorate any more.
        wiped: Vec<SeedName>,
    },
    /// These seeds gave their word to another electorate, which takes a lost disk of the first listed seed at the worst moment.
    /// Neither electorate can be completed while both words are kept, so there is no data of this founding. Stop all listed seeds,
    /// clear their disks and start again.
    Torn {
        /// Who.
        others: Vec<SeedName>,
    },
}
