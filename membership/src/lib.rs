//! Who is alive, and the consistent-hash ring: two pure machines.
//!
//! Here: [`Swim`] (SWIM with Lifeguard, signed records, piggybacked dissemination and anti-entropy) and [`Ring`]
//! (virtual nodes weighted by capacity, owners spread over zones). Called by the node of crate `synod` and by the
//! simulator in `tests`.
//! Not here: sockets, clocks, keys, threads (`runtime`), and **who may be a member**: that is decided by the system group's
//! log alone. [`Swim::admitted`] and [`Swim::removed`] say what it decided; a verdict of the gossip is a hint.
//! Source: Das et al., SWIM (DSN 2002); Dadgar et al., Lifeguard (2017); Demers et al., epidemic algorithms (1987).
//!
//! # How the caller drives [`Swim`]
//!
//! Time is a [`core::time::Duration`] since any origin, never backwards. After every call drain
//! [`Swim::poll_output`]; call [`Swim::tick`] when [`Swim::wake_at`] has come. Bytes from the network go through
//! [`Packet::decode`] and [`Swim::screen`] (signatures) before [`Swim::receive`].
//!
//! # What a record is worth
//!
//! Records are ordered by (generation, incarnation, state). The generation is the start count that the store persists, the
//! incarnation counts refutations and changes within one start. Only the subject signs a record; everybody relays it, and
//! may accuse it of being silent at exactly that (generation, incarnation). The subject answers an accusation with a higher
//! incarnation; a restart answers it with a higher generation.
//!
//! # Measured
//!
//! Simulated, LAN timing, 0.1 to 1 ms one way, p50 / p99 over seeds that nothing was tuned on (from 5,000 on where not said
//! otherwise); beside it memberlist's algorithm with the defaults of its LAN preset (probes every second, ours every half), modelled
//! from its papers and documentation in the same simulator and without serf's reconnection.
//!
//! | what | nodes | this machine | seeds | memberlist | seeds |
//! |---|---|---|---|---|---|
//! | storm: all join within 1 s through one seed, until all know all | 10 | 1.0 / 1.4 s | 200 | 1.1 / 1.4 s | 200, from 0 |
//! | | 100 | 1.6 / 2.1 s | 200 | 2.9 / 4.4 s | 200, from 0 |
//! | | 1,000 | 4.0 / 4.4 s, worst 4.5 s | 200 | 50 s | 1 |
//! | the same, sent per node | 10 | 3.6 / 4.5 kB | 200 | 3.3 / 4.6 kB | 200, from 0 |
//! | | 100 | 57 / 70 kB | 200 | 61 / 90 kB | 200, from 0 |
//! | | 1,000 | 297 / 303 kB | 200 | 1,295 kB | 1 |
//! | crash until all survivors agree | 10 | 2.4 / 3.9 s | 200 | 6.0 / 8.2 s | 20 |
//! | the same, other seeds | 10 | 2.4 / 3.8 s | 2,000, from 20,000 | 5.8 / 9.0 s | 200, from 0 |
//! | | 100 | 4.0 / 5.6 s | 200 | 9.9 / 12.9 s | 200, from 0 |
//! | | 1,000 | 5.5 / 7.6 s, worst 8.4 s | 200 | 14.3 / 16.7 s | 5 |
//! | 30 % loss for 10 minutes, false deaths | 20 | 0 | 200 | 1 | 50 |
//! | 30 % loss from half to half for 10 minutes, none on the way back, false deaths | 20 | 0 | 200 | 0 | 50 |
//! | one node at 5 % of its processor for 2 minutes, false deaths of others | 10 / 20 / 100 | 0 / 0 / 0 | 200 | 0 / 0 / 0 | 50 / 50 / 20 |
//! | the same, runs in which that node was held for dead | 10 / 20 / 100 | 8 / 0 / 0 | 200 | 0 / 0 / 0 | 50 / 50 / 20 |
//! | halves apart for 60 s, from their meeting until all know all | 10 | 1.4 / 2.1 s | 200 | never | 5, from 0 |
//! | | 100 | 2.0 / 3.1 s, worst 3.2 s | 200 | not measured | |
//! | quiet, payload per node | 10 / 100 / 1,000 | 124 / 124 / 127 B/s | 1 | 166 / 278 / 966 B/s | 1 |
//! | quiet, packets per node | 10 / 100 / 1,000 | 4.0 /s | 1 | 2.1 / 2.0 / 2.0 /s | 1 |
//! | one step, the simulator's work on it included | 10 / 100 / 1,000 | 0.4 / 0.7 / 2.2 us | 1 | 0.1 / 0.1 / 0.3 us | 1 |
//!
//! `SIM_SEEDS=200 cargo run --release -p tests --example membership -- storm own 1000 from=5000` measures one row: the rows are
//! `storm`, `crash`, `loss`, `one_way`, `starved`, `halves` and `steady`, the columns `own` and `memberlist`; without words it prints
//! all of them. A row of fewer than 200 seeds says less about the p99 than it claims. A storm of 1,000 takes 4 to 6 seconds of
//! processor time per seed, a crash of 1,000 one second.
//!
//! A step costs more here than in memberlist, since a member has a record with a signature and a hash goes with every packet. Of a
//! crash, what differs from seed to seed is the time until somebody probes it: two probes per second reach a member at any size, so
//! the p99 of that alone is 2.3 s. memberlist never holds the starved node for dead, since it waits twice as long before it holds
//! anybody for dead. Here the node was dead for somebody after a stall of 2.0 s or more at 10 nodes.
//!
//! What that is on the wire, with QUIC and its handshakes, stands in the documentation of `synod::transport`: 361 B/s per node and
//! direction while connections stay open, which the default bound allows for a thousand nodes.
//!
//! Under churn a sync costs 0.3 kB for its question, about twelve bytes per member of each of the 32 parts that differ, and every
//! record that one side lacks once; a node starts at most one per second.
//!
//! Storms of 3 to 30 nodes with every kind of fault: `SIM_SEEDS=400 cargo test -p tests --test membership`; of more:
//! `SIM_SIZE=1000 cargo test -p tests --test membership a_crowd_agrees`.

mod accusation;
mod bounded;
mod event;
#[cfg(test)]
mod hazards;
mod ids;
mod options;
mod packet;
pub mod placement;
mod record;
mod ring;
mod swim;
mod timing;

pub use accusation::{Accusation, Verdict};
pub use event::{MemberEvent, SwimOutput};
pub use ids::StoreId;
pub use options::{CheckedSwimOptions, SwimOptions, SwimOptionsError};
pub use packet::{Packet, PacketError};
pub use record::{
    LocalMember, MemberState, Metadata, Position, Record, RecordError, SignedRecord, Signer,
    Verifier, Versions,
};
pub use ring::{Ring, RingMember};
pub use swim::{Counters, Member, Swim};
pub use timing::Timing;
