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
//! Simulated, LAN timing, 0.1 to 1 ms one way, p50 / p99 over seeds; beside it memberlist's algorithm with the defaults of its LAN
//! preset (probes every second, ours every half), modelled from its papers and documentation in the same simulator and without
//! serf's reconnection. `SIM_SEEDS=200 cargo run -p tests --example membership` prints the table; words and numbers after `--`
//! choose rows, columns and sizes.
//!
//! | what | nodes | seeds | this machine | memberlist |
//! |---|---|---|---|---|
//! | storm: all join within 1 s through one seed, until all know all | 10 | 200 | 1.0 / 1.3 s | 1.1 / 1.4 s |
//! | | 100 | 200 | 1.6 / 2.2 s | 2.9 / 4.4 s |
//! | | 1,000 | 4 | 4.0 / 4.3 s | not measured |
//! | the same, sent per node | 10 | 200 | 3.6 / 4.8 kB | 3.3 / 4.6 kB |
//! | | 100 | 200 | 57 / 72 kB | 61 / 90 kB |
//! | | 1,000 | 4 | 298 / 301 kB | not measured |
//! | crash until all survivors agree | 10 | 200 | 2.3 / 3.6 s | 5.8 / 9.0 s |
//! | | 100 | 200 | 3.9 / 5.4 s | 9.9 / 12.9 s |
//! | | 1,000 | 10 | 5.4 / 6.4 s | not measured |
//! | halves apart for 60 s, from their meeting until all know all | 10 | 200, memberlist 5 | 1.5 / 2.1 s | never |
//! | quiet, payload per node | 10 / 100 / 1,000 | 1 | 124 / 124 / 127 B/s | 166 / 294 / 1,053 B/s |
//! | quiet, packets per node | 10 / 100 / 1,000 | 1 | 4.0 /s | 2.1 / 2.0 / 2.0 /s |
//! | one step, the simulator's work on it included | 10 / 100 / 1,000 | 1 | 0.6 / 1.1 / 3.7 us | 0.1 / 0.2 / 0.4 us |
//!
//! A step costs more here, since a member has a record with a signature and a hash goes with every packet. Rows with fewer than 200
//! seeds say less about the p99 than they claim. 30 % loss at 20 nodes and a node at 5 % of its processor killed nobody in the runs
//! of the gate (`cargo test -p tests --test membership`), which are few: 2 minutes, 1 and 5 seeds.
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
    Verifier,
};
pub use ring::{Ring, RingMember};
pub use swim::{Counters, Member, Swim};
pub use timing::Timing;
