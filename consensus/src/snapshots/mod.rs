//! How a follower gets a whole state when the log no longer reaches back to where it stopped.
//!
//! `shipping`: the leader's side, `pinned`: the log that it keeps meanwhile, `gathering`: the follower's side. Neither holds a byte of a state: the leader's caller is asked for one
//! chunk at a time and answers when its budget allows, the follower's caller stores chunk after chunk and says how far it is.
//!
//! ```text
//! leader's caller      leader                            follower              follower's caller
//!                  <-  SnapshotNeeded
//! making_snapshot  ->                                                                        (if it takes a while)
//! provide_snapshot ->                 Chunk (empty)  ->                                       "how much of it do you hold?"
//!                                 <-  ChunkReply (next)
//!                  <-  ReadChunk
//! chunk_read       ->                 Chunk          ->
//!                  <-  ReadChunk ..                      StoreChunk        ->
//!                                                                          <-  chunk_stored
//!                                 <-  ChunkReply (next)
//!                                                        Install           ->                 "it is whole: verify, make it durable"
//!                                                                          <-  installed, install_refused or install_failed
//!                                 <-  Appended
//!                  <-  ShipmentEnded
//! ```
//! A snapshot is named by position, length and checksum. What a follower holds of it survives lost messages, its own restart and the
//! end of a leadership; only a leader that ships another one, or a log that caught up by other means, lets it be dropped. A
//! follower's log begins anew only after the caller confirmed the installation, so a crash in between leaves either the old log
//! with the old state or a state that covers more than the log, and `Group::new` can tell. Source: Raft paper 7; E28, H34, H65-H71.

mod gathering;
mod pinned;
mod shipping;

pub(crate) use gathering::{Gathering, Installing};
pub(crate) use pinned::Shipped;
pub(crate) use shipping::Shipment;
