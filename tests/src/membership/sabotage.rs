//! Safeguards that can be taken away, to show that the invariants would notice.
//!
//! Here: [`Sabotage`] and the forger. What each one switches off is at its place in [`super::world`] and [`super::cluster`].

use synod_membership::{Packet, StoreId};

use super::process::Keys;

/// Takes a safeguard away, to show that the invariants see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// A node forgets everything without a restart.
    Amnesia,
    /// Signatures are not checked, and a peer signs for others.
    Forgery,
    /// Accusations of the own store do not reach the machine.
    DeafToAccusations,
    /// Suspicions end after a quarter of the time.
    HastyDeaths,
    /// The machine is told that every store is admitted.
    OpenDoor,
    /// Datagrams are built for a larger limit than the wire has.
    Oversized,
    /// Nothing is sent to members that are held for dead.
    NeverCallTheDead,
    /// The names of the seeds are resolved once.
    ResolveOnce,
}

/// Every record on it is signed again, by the sender, for a position that its subject never reached.
pub(super) fn forged(packet: &Packet, by: StoreId) -> Packet {
    let bytes = packet.encode();
    let Some(record) = packet.records().find(|record| record.record().store != by) else {
        return packet.clone();
    };
    let mut claim = record.record().clone();
    claim.incarnation = (claim.incarnation + 1).min(100);
    let Ok(forged) = claim.sign(&Keys(by)) else {
        return packet.clone();
    };
    let (Ok(old), Ok(new)) = (
        rmp_serde::to_vec_named(record),
        rmp_serde::to_vec_named(&forged),
    ) else {
        return packet.clone();
    };
    let Some(at) = bytes.windows(old.len()).position(|window| window == old) else {
        return packet.clone();
    };
    let bytes = [&bytes[..at], &new, &bytes[at + old.len()..]].concat();
    Packet::decode(&bytes).unwrap_or_else(|_| packet.clone())
}
