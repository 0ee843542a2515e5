//! At whose port nobody listens any more.
//!
//! Here: [`Ports`], which knocks at each beat (`transport::port` says how, who answers, and who is not believed). What it finds is a hint,
//! and only about a node that also says nothing (`silence`). What another machine answers is read at the next beat. Not here: what follows
//! from it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::transport::{Door, Place};

/// One door per node.
#[derive(Debug, Default)]
pub(super) struct Ports {
    doors: BTreeMap<u64, Door>,
    closed: BTreeSet<u64>,
}

impl Ports {
    /// Knocks at each of these stores. `heard`: when a store was last heard.
    pub(super) fn knock(
        &mut self,
        now: Duration,
        places: &BTreeMap<u64, Place>,
        heard: impl Fn(u64) -> Option<Duration>,
    ) {
        self.closed.clear();
        self.doors
            .retain(|store, door| places.contains_key(store) || door.lies());
        for (store, place) in places {
            let door = self.doors.entry(*store).or_insert_with(|| Door::at(*place));
            door.move_to(*place);
            let heard = heard(*store);
            door.knock(now, heard);
            if door.is_closed(now, heard) {
                self.closed.insert(*store);
            }
        }
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
        ports.knock(at(0), &places, |_| None);
        assert!(ports.is_closed(7) && ports.is_closed(8));
        ports.knock(at(700), &places, |store| (store == 8).then_some(at(690)));
        assert!(ports.is_closed(7) && !ports.is_closed(8));
        ports.knock(at(800), &BTreeMap::new(), |_| None);
        assert!(!ports.is_closed(7));
        ports.knock(at(900), &places, |_| None);
        assert!(ports.is_closed(7), "it is asked anew");
        assert!(!ports.is_closed(8), "this life of it is not believed");
    }
}
