//! What the machine asks of its caller.
//!
//! Here: [`SwimOutput`] and [`MemberEvent`]. Produced by [`crate::Swim::poll_output`].

use crate::ids::StoreId;
use crate::packet::Packet;

/// One effect, to be carried out in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SwimOutput {
    /// Send unreliably; on a local send error call [`crate::Swim::send_failed`].
    Datagram {
        /// Addressee; its addresses are in its record.
        to: StoreId,
        /// Encoded, it is no longer than the datagram limit given.
        packet: Packet,
    },
    /// Send on the reliable lane, with retransmission; giving up within a few seconds is fine.
    Stream {
        /// Addressee; its addresses are in its record.
        to: StoreId,
        /// Up to [`Packet::BYTES_MAX`] encoded.
        packet: Packet,
    },
    /// Somebody's standing changed; [`crate::Swim::member`] has the new one.
    Event(MemberEvent),
}

/// A change of a member's standing, as this observer sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// First record of an admitted store.
    Joined {
        /// The subject.
        store: StoreId,
    },
    /// Generation, name, addresses or metadata are different now.
    Changed {
        /// The subject.
        store: StoreId,
    },
    /// Somebody could not reach it. It has the suspicion time to refute.
    Suspected {
        /// The subject.
        store: StoreId,
    },
    /// It did not refute. A hint: the system log decides what follows.
    Died {
        /// The subject.
        store: StoreId,
    },
    /// It said goodbye. For the own store: the goodbye is spread, the process may end.
    Left {
        /// The subject.
        store: StoreId,
    },
    /// Suspected, dead or gone before, alive again (a `Changed` may follow).
    Returned {
        /// The subject.
        store: StoreId,
    },
    /// Back from the dead for the third time within short (or suspected since, and alive again): a member, but not to be relied on
    /// before `Returned` comes. Whoever acts on deaths and returns treats it as still dead (hazard M38).
    Unsteady {
        /// The subject.
        store: StoreId,
    },
    /// The own process has called itself degraded for too long: hand over what it serves, or restart it (hazard M25).
    Isolated {
        /// The own store.
        store: StoreId,
    },
    /// The own store was seen in another process: a later start of it, or a copy. The machine is silent from here on; the node
    /// must stop.
    Superseded {
        /// The own store.
        store: StoreId,
    },
}
