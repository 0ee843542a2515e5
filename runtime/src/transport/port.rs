//! Whether anybody listens where a process was.
//!
//! QUIC is told nothing when the process at the other end dies, and its sockets ignore what the network says of it, for anybody may say
//! it. But the kernel of a machine that still runs answers what comes to a closed port (port unreachable: RFC 792; RFC 1122, 4.1.3.1),
//! and processes die more often than machines. Here: [`Door`], one life of a process at an address; it sends a byte over a connected
//! socket of its own, for only such a socket is told. Whoever is heard of after its port refused is believed no more in that life.
//!
//! No answer says nothing. On one machine there is one at once. Linux answers another machine six times and then once in a second
//! (`icmp_ratelimit`), and what QUIC repeats uses that up: between machines this helps only where a link is quiet, and elsewhere the time
//! of silence counts as ever. Not here: whom it is told (`node::ports`, `client::doubts`).

use core::time::Duration;
use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Too short for a packet of QUIC: whoever gets it drops it.
const KNOCK: [u8; 1] = [0];
/// Who is heard later than this after a refusal lives: what arrived before may be read so late on a busy machine.
const CONTRADICTED_AFTER: Duration = Duration::from_millis(500);
/// What an earlier knock met is news for so long.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// One life of a process, and where it said that it listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Its start count.
    pub(crate) generation: u64,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// What is known of a place. Times are on one clock of the caller's.
#[derive(Debug)]
pub(crate) struct Door {
    place: Place,
    socket: Option<UdpSocket>,
    knocked: Option<Duration>,
    refused: Option<Duration>,
    /// Something refuses what is no connection, although somebody lives there.
    lies: bool,
}

impl Door {
    pub(crate) fn at(place: Place) -> Self {
        Self {
            place,
            socket: None,
            knocked: None,
            refused: None,
            lies: false,
        }
    }

    /// Forgets what was known of another life, or another address.
    pub(crate) fn move_to(&mut self, place: Place) {
        if self.place != place {
            *self = Self::at(place);
        }
    }

    /// When it was last tried in this life, whether or not that could be.
    pub(crate) fn knocked(&self) -> Option<Duration> {
        self.knocked
    }

    /// Whether it is worth nothing in this life.
    pub(crate) fn lies(&self) -> bool {
        self.lies
    }

    /// Whether somebody may still be heard whose port refused lately: then it is not to be believed.
    pub(crate) fn is_doubted(&self, now: Duration) -> bool {
        self.refused
            .is_some_and(|refused| now <= refused + CONTRADICTED_AFTER * 4)
    }

    /// Sends a byte, unless its refusals mean nothing. `heard`: when this life was heard last. Ask [`is_closed`](Self::is_closed) at
    /// once for what the same machine answers, and later for another one.
    pub(crate) fn knock(&mut self, now: Duration, heard: Option<Duration>) {
        self.judge(heard);
        let stale = self
            .knocked
            .replace(now)
            .is_some_and(|knocked| now > knocked + STALE_AFTER);
        if self.lies || self.place.address.ip().is_unspecified() {
            return;
        }
        if self.socket.is_none() {
            // What could not be opened may be the next time.
            self.socket = open(self.place.address).ok();
        }
        let Some(socket) = &self.socket else { return };
        if stale {
            let _old = socket.take_error();
        }
        // What an earlier one met is told instead of sending.
        if refuses(&socket.send(&KNOCK)) {
            self.refused.get_or_insert(now);
            let _of_no_interest = socket.send(&KNOCK);
        }
    }

    /// Whether this place refused a knock, and nobody there was heard since.
    pub(crate) fn is_closed(&mut self, now: Duration, heard: Option<Duration>) -> bool {
        if let Some(socket) = &self.socket
            && let Ok(Some(error)) = socket.take_error()
            && error.kind() == ErrorKind::ConnectionRefused
        {
            self.refused.get_or_insert(now);
        }
        self.judge(heard);
        self.refused.is_some()
    }

    fn judge(&mut self, heard: Option<Duration>) {
        let later = |refused| heard.is_some_and(|heard| heard > refused + CONTRADICTED_AFTER);
        if self.refused.is_some_and(later) {
            *self = Self {
                lies: true,
                ..Self::at(self.place)
            };
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

fn refuses(sent: &Result<usize>) -> bool {
    matches!(sent, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(at: SocketAddr) -> (UdpSocket, Place) {
        let socket = UdpSocket::bind(at).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let generation = 1;
        (
            socket,
            Place {
                generation,
                address,
            },
        )
    }

    fn anywhere() -> (UdpSocket, Place) {
        listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn look(door: &mut Door, now: u64, heard: Option<u64>) -> bool {
        let heard = heard.map(at);
        door.knock(at(now), heard);
        door.is_closed(at(now), heard)
    }

    #[test]
    fn a_port_is_closed_when_nobody_listens_there_any_more() {
        let localhosts = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        for localhost in localhosts {
            let (socket, place) = listener(localhost);
            let mut door = Door::at(place);
            for now in [0, 100, 200, 300] {
                assert!(!look(&mut door, now, None));
            }
            assert_eq!(socket.recv(&mut [0; 9]).expect("a knock"), 1);
            drop(socket);
            assert!(look(&mut door, 400, Some(390)));
            // What came before it closed may be read after that.
            assert!(look(&mut door, 900, Some(900)));
        }
    }

    #[test]
    fn an_answer_that_comes_later_is_read_later() {
        let (socket, place) = anywhere();
        drop(socket);
        let mut door = Door::at(place);
        door.knock(at(0), None);
        door.knock(at(100), None);
        assert!(door.refused == Some(at(100)), "told by the next one");
        let mut door = Door::at(place);
        door.knock(at(0), None);
        assert!(door.is_closed(at(5), None), "or by asking");
    }

    #[test]
    fn what_was_met_long_ago_says_nothing_of_now() {
        let (socket, place) = anywhere();
        drop(socket);
        let mut door = Door::at(place);
        door.knock(at(0), None);
        let (_socket, _) = listener(place.address);
        assert!(!look(&mut door, 60_000, None));
    }

    #[test]
    fn who_is_heard_although_its_port_refuses_is_believed_to_live_until_it_starts_again() {
        let (socket, place) = anywhere();
        drop(socket);
        let mut door = Door::at(place);
        assert!(look(&mut door, 0, None));
        assert!(!look(&mut door, 700, Some(690)));
        assert!(door.lies());
        assert!(!look(&mut door, 9_000, Some(690)), "in this life");
        door.move_to(place);
        assert!(door.lies());
        door.move_to(Place {
            generation: 2,
            ..place
        });
        assert!(
            look(&mut door, 9_100, Some(690)),
            "another life, another try"
        );
    }

    #[test]
    fn who_dies_a_second_time_is_noticed_a_second_time() {
        let (socket, place) = anywhere();
        drop(socket);
        let mut door = Door::at(place);
        assert!(look(&mut door, 0, None));
        // It started again, was heard for a minute, and died; nobody knocked meanwhile.
        door.move_to(Place {
            generation: 2,
            ..place
        });
        assert!(look(&mut door, 60_000, Some(59_900)));
    }

    #[test]
    fn an_address_that_stands_for_all_of_a_machine_is_not_asked() {
        let port = anywhere().1.address.port();
        let mut door = Door::at(Place {
            generation: 1,
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        });
        assert!(!look(&mut door, 0, None), "it would be the own machine's");
    }
}
