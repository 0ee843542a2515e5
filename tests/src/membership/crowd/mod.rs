//! Up to a thousand nodes at a time, for figures: how soon, how many bytes, how many false deaths.
//!
//! Here: the seam ([`Machine`]) behind which this project's machine ([`own`]) and memberlist's algorithm ([`memberlist`]) run in
//! the same world ([`world`]) on the same wire ([`wire`]), the [`scenarios`] and their [`figures`]. Not here: storms with every
//! kind of fault and the invariants held at each step ([`super::World`]); clones and forgers among them, since what answers those is
//! one machine's rule at any size. The sizes of packets are those of their encoding; the
//! packets themselves are handed over as they are, and signatures are not checked.

mod figures;
mod memberlist;
mod own;
mod scenarios;
mod wire;
mod world;

use std::time::Duration;

pub use figures::Figure;
pub use memberlist::Memberlist;
pub use own::Own;
pub use scenarios::{
    Deaths, Load, Ways, agreement_on_crash, deaths_by_a_starved_node, deaths_under_loss,
    healing_of_halves, join_storm, steady,
};
pub use world::{Crowd, FalseDeath, Totals};

/// How one node sees another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sight {
    /// Never heard of.
    Unknown,
    /// There, suspected or not.
    Present,
    /// Held for dead or gone.
    Gone,
}

/// What a machine asks of its node.
#[derive(Debug)]
pub enum Effect<P> {
    /// Put it on the wire.
    Send {
        /// Index of the addressee.
        to: usize,
        /// Sent again when lost, as on a QUIC stream or a TCP connection.
        reliable: bool,
        /// What is sent.
        packet: P,
        /// Its encoded length.
        bytes: usize,
    },
    /// It may see this node differently now.
    Seen(usize),
}

/// One node's membership protocol, driven as a pure machine. Nodes are numbered from 0.
pub trait Machine {
    /// What goes over the wire.
    type Packet;

    /// A node that knows itself alone, in a cluster of up to `size`, where everybody may be a member.
    fn new(me: usize, size: usize, seed: u64, now: Duration) -> Self;

    /// It knows all `size` nodes already, as after a long quiet time.
    fn acquainted(me: usize, size: usize, seed: u64, now: Duration) -> Self;

    /// The exchange by which `self` joins through `seed`; both learn. Returns the bytes exchanged.
    fn join(&mut self, seed: &mut Self, now: Duration) -> usize;

    /// When it wants to be woken.
    fn wake_at(&self) -> Duration;

    /// Does what is due.
    fn tick(&mut self, now: Duration);

    /// A packet came.
    fn receive(&mut self, now: Duration, from: usize, packet: Self::Packet);

    /// The next effect.
    fn poll(&mut self) -> Option<Effect<Self::Packet>>;

    /// How it sees `node`.
    fn sight(&self, node: usize) -> Sight;
}
