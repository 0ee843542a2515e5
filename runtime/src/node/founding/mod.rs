//! Founding by several seeds: the I/O around [`Genesis`](synod_consensus::genesis::Genesis).
//!
//! Here: what an operator lists ([`Seats`]), what the disk keeps ([`Kept`]), what is chosen and what follows from it
//! ([`Charter`]), the start of a seed with an empty store ([`seek()`]), its sentences (`words`), and the answers of a node
//! that has data ([`Holder`]). Called by `start` and `calls`. Not here: the rules (`synod-consensus`), admission of those who
//! join (`calls`), what a founding is to the system log (`system`).
//!
//! # From a list to a cluster
//!
//! 1. An empty store given `--seeds` states its list. Every message waits until the file `founding` in the store, which
//!    keeps the whole state of the machine, is replaced and synced.
//! 2. Messages travel as calls, which need no common cluster, over mutual TLS; a call carries everything that waits for that
//!    seed, and its answer what the seed has to say. Who speaks is checked against the certificate.
//! 3. A seed hears of a cluster: it asks to be let in there, like any joiner.
//! 4. A record is chosen: every disk of the electorate is a founder. Each finds by itself how every group is born
//!    ([`Founding::births`](crate::system::Founding::births)), writes its own replicas into the log in one batch, and only
//!    then calls itself admitted. Then it starts as any node does; whoever leads the system group first proposes the
//!    founding to its log, and all would propose the same.
//!
//! # Why all founders are born as voters
//!
//! The record could name one founder and let the others join it. But until they hold what it holds, one disk would decide;
//! lost, it would found again and clients would read zeros (E25). Born together, three founders need a majority from the
//! first entry on: no disk alone can found or serve, and a founder that comes late is a voter that was away.
//!
//! # Crashes
//!
//! Between any two steps the next start goes on: the machine from its file, a chosen record from there to the births
//! (what a former try left in the log, bare beginnings, goes in the same write), an admitted store
//! as usual. A store that was born once is never born again (E26), even if its identity was lost: [`Kept::born`], and whatever
//! its log and its states hold.

mod charter;
mod holder;
mod kept;
mod seats;
mod seek;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use charter::{Charter, born_on};
pub(crate) use holder::Holder;
pub(crate) use kept::{Kept, gave_word};
pub(crate) use seats::Seats;
pub use seats::SeatsError;
pub(crate) use seek::{Came, Seeker, misdirected, seek};
#[cfg(test)]
pub(crate) use tests::chosen_alone;
