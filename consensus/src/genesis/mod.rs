//! How a cluster comes to be, once: the seeds' statements, their words, and single-decree Paxos among them.
//!
//! Here: [`Genesis`], one seed as a pure machine in the style of [`Group`](crate::Group): messages, completed writes and time come
//! in, effects go out as data ([`Output`]). Not here: addresses, certificates and the directory of a store, admission to a cluster
//! that exists, what a founding record says (crate `synod`).
//!
//! # What it promises
//!
//! 1. **At most one cluster.** Two foundings whose lists share a seed end in the same record, unless *every* seed that both lists
//!    name lost its disk after it gave its word to one of them. With equal lists: as long as one seed of the list keeps its disk.
//! 2. **A seed never unlearns.** What it stated, promised, accepted and learned is on its disk before anybody hears of it.
//! 3. **Exactly one cluster**, when all lists agree, all stores are empty, every seed was up together once, and from then on a
//!    majority of them (with their disks) can talk. A minority may crash and restart at any time.
//!
//! None of this depends on a clock; times only decide how soon.
//!
//! # How
//!
//! - **Statement**: a seed draws its incarnation, persists "this list, empty disk" and says so to all listed seeds, and asks.
//! - **Word**: when every listed seed has answered just now with the same list, the first by name, the chair, draws up the
//!   [`Electorate`]: the list with each seed's incarnation. It gives its word to it (persisted), the others follow. A disk gives
//!   its word to one electorate, once, for ever. A seed whose disk was lost since the electorate was drawn up gives its word too,
//!   as a witness that its former disk is gone; it does not vote.
//! - **Choice**: when every listed seed gave its word, the disks of the electorate choose the record by single-decree Paxos
//!   (Lamport, "Paxos Made Simple", 2001: the choice 2.2, learning 2.3, progress 2.4, stable storage and ballot numbers 2.5). A
//!   majority suffices. Each proposer brings its own candidate.
//! - **Data**: any seed with data of a cluster says so, and whoever hears it joins that cluster instead of founding one.
//! - **Different lists**: nobody draws up an electorate whose lists differ. Once all have answered, [`Obstacle::Differs`] names who
//!   has which. A statement binds to nothing, so a start with another list heals it; a word binds, so after it another list
//!   is noted ([`Obstacle::Bound`]) and not followed.
//!
//! # Why words of all, and votes of a majority
//!
//! Each trace breaks a simpler version; `stories` tells each to the real machine.
//!
//! | trace (E25) | simpler version | here |
//! |---|---|---|
//! | a has the list `[a]`, b and c have `[a, b, c]` | each founds with whom it sees | a founds alone, b and c hear of its data and join; the other way round nobody founds |
//! | a and b choose R, b is wiped, b and c choose again | a majority of names votes | b's new disk is not in the electorate: it witnesses and does not vote |
//! | a and b choose R while c gave no word; b is wiped; c draws up (a, new b, c) with the statement that a made long ago | words of a majority start the choice | no choice begins before c gave its word, and its disk gives no second one |
//! | two of three are wiped after the founding | majority of statements | founding needs the third's statement, and it has data: they join |
//! | a gives its word, b is wiped before it gave its own | words only from the disks of the electorate: stuck | b's new disk gives the word as a witness, a and c choose, b joins |
//! | the first by name gives its word and is wiped | its new disk draws up another electorate: torn | it hears of the word from whoever followed, and takes it up |
//! | b states `[a, b]`, starts again with `[b, c]`, and a counts the old statement | statements bind | b's word is asked for, and b gives it only for its present list |
//! | a and b gave their word, c founds alone, b joins it, c is wiped and witnesses; a and b choose | words bind whoever gave them | who has data answers no proposer: a hears of it and joins |
//! | c's news that it has data comes after c's disk was lost | any news is believed | only an answer to a present question; and who is not let in seeks again |
//! | two acceptors forget over a restart what they accepted | acceptor in memory | persisted before it is answered (2.5) |
//!
//! Proof of the first promise: a choice in electorate V begins when every listed seed gave its word to V, on whichever disk it had
//! then. A disk gives one word. So a seed named by V and W that kept its disk since its first word gave it to one of them only,
//! and the other never began. Within one electorate, Paxos: its voters are disks, and a lost disk is a voter that crashed for good.
//!
//! # What it cannot do
//!
//! A list of one is as safe as one disk: if a founder's volume is lost and it is started again as a seed of itself alone, it founds
//! again (members and clients that pin the cluster's id refuse it). Lists that share no seed are different clusters by their
//! operator's word. If a majority of the electorate's disks is lost between the words and the choice, nobody can know whether
//! something was chosen: [`Obstacle::Lost`] says so, and clearing all listed seeds is the operator's decision
//! (if another seed has data by then, it joins that). [`Obstacle::Torn`]
//! needs the chair's disk to be lost within one round trip of drawing up the electorate: its word still reaches one seed while its
//! new disk draws up another one. Neither can be completed, so nothing was founded and nothing can be: clearing all listed seeds is
//! safe, and the only way on.

mod acceptor;
mod durable;
mod electorate;
mod machine;
mod message;
mod obstacles;
mod options;
mod output;
mod proposer;
mod record;
mod roster;
mod seed;
#[cfg(test)]
mod stories;

pub use acceptor::{Acceptor, Ballot};
pub use durable::Durable;
pub use electorate::Electorate;
pub use machine::{Genesis, Seat};
pub use message::{Body, Message};
pub use options::GenesisOptions;
#[doc(hidden)]
pub use options::Sabotage;
pub use output::{Obstacle, Output, Token};
pub use record::{ClusterId, RECORD_BYTES_MAX, Record, RecordTooLarge};
pub use seed::{
    CARD_BYTES_MAX, Card, Incarnation, NAME_BYTES_MAX, SEEDS_MAX, SeedList, SeedName, SeedsError,
};
