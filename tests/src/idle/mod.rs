//! Nodes with many groups that rest: real `Group`s and real `Claims` on a virtual clock, from one seed.
//!
//! The rooms: one node with its replicas, its disk and its threads (`node`), wires and time (`world`), what goes wrong (`storm`), what
//! must hold at every moment (`watch`) and after the storm (`calm`); what one node's fate costs a thousand groups (`crowd`); traces that
//! break simpler schemes (`traces`).
//!
//! At every moment, and (from Led on) after the storm, each within its bound:
//!
//! | invariant | says | source |
//! |---|---|---|
//! | Election Safety | one leader per term | Raft paper 5.2 |
//! | State Machine Safety | what is applied at an index never differs | 5.4.3 |
//! | One Lease | while a replica has a lease nobody else has one, or is elected in a later term | thesis 6.4.1; E19, H57-H59 |
//! | Linearizable Reads | a read covers what was acknowledged before it was asked | thesis 6.4 |
//! | Recovery | a disk gives back all that it acknowledged | H72 |
//! | Nothing Unasked | a group puts nothing out that this world has no use for | |
//! | Led | every group that has a majority is led, and by a simple configuration | |
//! | Rests | every group rests, its replicas have caught up, also while a node is away that is not needed for a majority | DESIGN 9 |
//! | Quiet | while all rest, no replica and no list of claims says anything | DESIGN 9 |
//! | One Wakes Alone | a command wakes one group and no other | DESIGN 9 |
//! | Succeeded | when a node dies, every group that it led is led by another | DESIGN 9 |
//! | No Storm | what one node's fate makes others say has a bound per group, and no group says anything that has no replica there | H55, S17, E21 |
//! | No Claim Survives | nobody rests under what a process claimed that is over | H50 |
//! | Leaders Stay | nothing changes the leader of a group but the death of its node | DESIGN 9 |
//! | Acknowledged Commands | in the end every live member holds what was acknowledged | promise 1 |
//! | Liveness | in a trace: what must happen at last happens | |

mod calm;
mod crowd;
mod node;
mod storm;
mod traces;
mod watch;
mod world;

pub use traces::Trace;
pub use world::{Report, Rules, World};
