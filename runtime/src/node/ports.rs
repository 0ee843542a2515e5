//! Whether anybody listens where a node was.
//!
//! QUIC is told nothing when the other process dies, and its sockets ignore what the network says of it, for anybody may say it. But the
//! kernel of a machine that still runs answers what comes to a closed port at once (port unreachable: RFC 792; RFC 1122, 4.1.3.1), and
//! processes die more often than machines. Here: [`Ports`], which sends one byte at each beat, over a connected socket of its own, and
//! reads there whether the last one was refused. That is a hint, and only about a node that also says nothing (`silence`): an address
//! that was heard of after it refused is believed no more in that life. No answer says nothing: then the time of silence counts alone.
//! Not here: what follows from it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// No QUIC packet begins like this (RFC 9000, 17.2 and 17.3: the fixed bit): whoever gets it drops it.
const KNOCK: [u8; 1] = [0];
/// Who is heard later than this after a refusal lives: what arrived before may be read so late on a busy machine.
const CONTRADICTED_AFTER: Duration = Duration::from_millis(500);

/// One life of a node, and where it said that it listens.
pub(super) type Place = (u64, SocketAddr);

#[derive(Debug)]
struct Door {
    place: Place,
    /// `None`: it could not be opened, or is not believed any more.
    socket: Option<UdpSocket>,
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
            .is_some_and(|door| door.socket.is_some() && door.refused.is_some())
    }
}

impl Door {
    fn new(place: Place) -> Self {
        Self {
            place,
            socket: open(place.1).ok(),
            refused: None,
        }
    }

    fn knock(&mut self, now: Duration, heard: Option<Duration>) {
        let contradicts = |refused| heard.is_some_and(|heard| heard > refused + CONTRADICTED_AFTER);
        if self.refused.is_some_and(contradicts) {
            self.socket = None;
        }
        let Some(socket) = &self.socket else { return };
        // The answer to the last knock is told instead of sending; the one to this may be there at once.
        let before = refuses(socket.send(&KNOCK));
        let again = before && refuses(socket.send(&KNOCK));
        let at_once = matches!(socket.take_error(), Ok(Some(error)) if error.kind() == ErrorKind::ConnectionRefused);
        if before || again || at_once {
            // Kernels answer seldom: one knock without an answer takes nothing back.
            self.refused.get_or_insert(now);
        }
    }
}

fn open(to: SocketAddr) -> Result<UdpSocket> {
    let from = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(from)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

fn refuses(sent: Result<usize>) -> bool {
    matches!(sent, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
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
