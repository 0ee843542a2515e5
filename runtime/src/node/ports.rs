//! At whose port nobody listens any more.
//!
//! Here: [`Ports`], which knocks where somebody is late, and once in each life (`transport::port` says how, who answers, and who is not
//! believed): who beats as expected is not disturbed, for each knock wakes a thread there. What it finds is a hint, and only about a node that says nothing
//! (`silence`). What another machine answers is read a moment later. Not here: what follows from it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::transport::{Door, Place};

/// Gap between two knocks at one door; less than one between two rounds, so that each of them knocks.
const KNOCK_AGAIN: Duration = Duration::from_millis(70);
/// What another machine answers is there after this, if it is near; otherwise it is found at the next knock.
const ANSWERED_WITHIN: Duration = Duration::from_millis(10);

/// One door per node that leads something.
#[derive(Debug, Default)]
pub(super) struct Ports {
    doors: BTreeMap<u64, Door>,
    closed: BTreeSet<u64>,
}

impl Ports {
    /// Knocks at those of `places` who are late or new, unless it just did. `heard`: when a store was last heard. Returns when to look for
    /// answers.
    pub(super) fn knock(
        &mut self,
        now: Duration,
        places: &BTreeMap<u64, Place>,
        heard: impl Fn(u64) -> Option<Duration>,
        is_late: impl Fn(u64) -> bool,
    ) -> Option<Duration> {
        self.closed.clear();
        self.doors.retain(|store, door| {
            if places.contains_key(store) {
                return true;
            }
            let is_kept = door.lies() || door.is_doubted(now);
            if is_kept {
                door.is_closed(now, heard(*store)); // whoever leads elsewhere now may still be heard
            }
            is_kept
        });
        let mut answers = None;
        for (store, place) in places {
            let door = self.doors.entry(*store).or_insert_with(|| Door::at(*place));
            door.move_to(*place);
            let heard = heard(*store);
            // Each life once although it is on time: a port that refuses while its node is heard is found out before that matters.
            if door
                .knocked()
                .is_none_or(|last| is_late(*store) && now >= last + KNOCK_AGAIN)
            {
                door.knock(now, heard);
            }
            if door.is_closed(now, heard) {
                self.closed.insert(*store);
            } else if door.knocked() == Some(now) {
                answers = Some(now + ANSWERED_WITHIN);
            }
        }
        answers
    }

    /// Whether the store's port refused since it was heard last, as of the last knock.
    pub(super) fn is_closed(&self, store: u64) -> bool {
        self.closed.contains(&store)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use super::*;

    #[test]
    fn who_is_asked_about_no_more_is_forgotten_unless_it_is_not_believed() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address: SocketAddr = socket.local_addr().expect("it is bound");
        drop(socket);
        let at = Duration::from_millis;
        let generation = 1;
        let place = Place {
            generation,
            address,
        };
        let places = BTreeMap::from([(7, place), (8, place)]);
        let mut ports = Ports::default();
        let late = |_| true;
        ports.knock(at(0), &places, |_| None, late);
        assert!(ports.is_closed(7) && ports.is_closed(8));
        let heard = |store| (store == 8).then_some(at(690));
        ports.knock(at(700), &places, heard, |store| store == 7);
        assert!(ports.is_closed(7) && !ports.is_closed(8));
        ports.knock(at(800), &BTreeMap::new(), |_| None, late);
        assert!(!ports.is_closed(7));
        ports.knock(at(900), &places, |_| None, late);
        assert!(ports.is_closed(7), "it is asked anew");
        assert!(!ports.is_closed(8), "this life of it is not believed");
    }

    #[test]
    fn who_is_on_time_is_not_disturbed_and_who_is_late_not_again_and_again() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("it is a socket");
        let address: SocketAddr = socket.local_addr().expect("it is bound");
        let at = Duration::from_millis;
        let places = BTreeMap::from([(
            7,
            Place {
                generation: 1,
                address,
            },
        )]);
        let mut ports = Ports::default();
        let knocks = || std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count();
        let looks = ports.knock(at(0), &places, |_| None, |_| false);
        assert_eq!((looks, knocks()), (Some(at(10)), 1), "it is new");
        assert_eq!(ports.knock(at(100), &places, |_| None, |_| false), None);
        assert_eq!(knocks(), 0);
        let looks = ports.knock(at(120), &places, |_| None, |_| true);
        assert_eq!((looks, knocks()), (Some(at(130)), 1));
        assert_eq!(ports.knock(at(130), &places, |_| None, |_| true), None);
        assert_eq!((knocks(), ports.is_closed(7)), (0, false));
        drop(socket);
        let looks = ports.knock(at(200), &places, |_| None, |_| true);
        assert_eq!((looks, ports.is_closed(7)), (None, true));
    }
}
