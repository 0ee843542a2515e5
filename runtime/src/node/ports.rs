//! At whose port nobody listens any more.
//!
//! Here: [`Ports`], which knocks at each beat (`transport::port` says how, and who answers). What it finds is a hint, and only about a
//! node that also says nothing (`silence`): an address that was heard of after it refused is believed no more in that life. Not here:
//! what follows from it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::transport::Port;

/// Who is heard later than this after a refusal lives: what arrived before may be read so late on a busy machine.
const CONTRADICTED_AFTER: Duration = Duration::from_millis(500);

/// One life of a node, and where it said that it listens.
pub(super) type Place = (u64, SocketAddr);

#[derive(Debug)]
struct Door {
    place: Place,
    /// `None`: it could not be opened, or is not believed any more.
    port: Option<Port>,
    refused: Option<Duration>,
}

/// One door per node.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<u64, Door>);

impl Ports {
    /// Knocks at each of these stores, and only these are kept in mind. `heard`: when a store was last heard.
    pub(super) fn knock(
        &mut self,
        now: Duration,
        places: &BTreeMap<u64, Place>,
        heard: impl Fn(u64) -> Option<Duration>,
    ) {
        self.0.retain(|store, _| places.contains_key(store));
        for (store, place) in places {
            let door = self.0.entry(*store).or_insert_with(|| Door::new(*place));
            if door.place != *place {
                *door = Door::new(*place);
            }
            door.knock(now, heard(*store));
        }
    }

    /// Whether the store's port refused what was sent there last.
    pub(super) fn is_closed(&self, store: u64) -> bool {
        self.0
            .get(&store)
            .is_some_and(|door| door.port.is_some() && door.refused.is_some())
    }
}

impl Door {
    fn new(place: Place) -> Self {
        Self {
            place,
            port: Port::open(place.1).ok(),
            refused: None,
        }
    }

    fn knock(&mut self, now: Duration, heard: Option<Duration>) {
        let contradicts = |refused| heard.is_some_and(|heard| heard > refused + CONTRADICTED_AFTER);
        if self.refused.is_some_and(contradicts) {
            self.port = None;
        }
        if self.port.as_ref().is_some_and(Port::knock) {
            self.refused.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    const STORE: u64 = 7;

    fn listener() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        (socket, address)
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Knocks every 100 ms from `from` on, `times` times.
    fn knock(ports: &mut Ports, place: Place, from: u64, times: u64, heard: Option<Duration>) {
        for time in 0..times {
            ports.knock(at(from + 100 * time), &[(STORE, place)].into(), |_| heard);
        }
    }

    #[test]
    fn a_port_is_closed_when_nobody_listens_there_any_more() {
        let (socket, address) = listener();
        let mut ports = Ports::default();
        knock(&mut ports, (1, address), 0, 5, None);
        assert!(!ports.is_closed(STORE));
        assert_eq!(socket.recv(&mut [0; 9]).expect("a knock"), 1);
        drop(socket);
        knock(&mut ports, (1, address), 500, 2, Some(at(490)));
        assert!(ports.is_closed(STORE));
        // What came before it closed may be read after that.
        knock(&mut ports, (1, address), 700, 9, Some(at(900)));
        assert!(ports.is_closed(STORE));
    }

    #[test]
    fn who_is_heard_although_its_port_refused_is_believed_to_live_until_it_starts_again() {
        let (socket, address) = listener();
        drop(socket);
        let mut ports = Ports::default();
        knock(&mut ports, (1, address), 0, 2, None);
        assert!(ports.is_closed(STORE));
        knock(&mut ports, (1, address), 200, 9, Some(at(800)));
        assert!(
            !ports.is_closed(STORE),
            "something between refuses what is no connection"
        );
        knock(&mut ports, (2, address), 1_100, 2, Some(at(800)));
        assert!(ports.is_closed(STORE), "another life, another try");
    }

    #[test]
    fn who_is_asked_about_no_more_is_forgotten() {
        let (socket, address) = listener();
        drop(socket);
        let mut ports = Ports::default();
        knock(&mut ports, (1, address), 0, 2, None);
        ports.knock(at(200), &BTreeMap::new(), |_| None);
        assert!(!ports.is_closed(STORE));
    }
}
