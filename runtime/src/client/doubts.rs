//! Which stores answer late because they are no more.
//!
//! A router asks a silent leader again after some usual answers' time, and asks others only after half a second. Here: [`Doubts`], where
//! stores are noted that are asked again, and a task that looks whether anybody still listens there (`transport::port`); if not, it is as
//! good as a lost connection. A store that was heard of after its port refused is believed no more for a while: then something between
//! refuses what is no connection. Not here: silence (`router`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::Notify;

use crate::group::lock;
use crate::transport::Port;

/// How long an answer of another machine's kernel is waited for. Later ones are read at the next doubt.
const ANSWER: Duration = Duration::from_millis(5);
/// Least pause between two looks: a loaded cluster answers late all the time.
const PAUSE: Duration = Duration::from_millis(20);
/// Who is heard within this time is no more dead than it was then.
const HEARD: Duration = Duration::from_millis(50);
/// Who is heard later than this after a refusal lives: what arrived before may be read so late on a busy machine.
const CONTRADICTED_AFTER: Duration = Duration::from_millis(500);
/// A refusal that was contradicted makes all of that store worthless for so long.
const DISTRUST: Duration = Duration::from_secs(60);

/// Stores that answer late.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    late: Mutex<BTreeSet<u64>>,
    news: Notify,
    heard: Mutex<BTreeMap<u64, Instant>>,
}

/// What was found at one store's port.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    port: Option<Port>,
    refused: Option<Instant>,
    distrusted_until: Option<Instant>,
    /// It was heard of after it refused, so this look decides whether it started again or refuses whoever lives.
    contradicted: bool,
}

impl Door {
    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            port: Port::open(address).ok(),
            refused: None,
            distrusted_until: None,
            contradicted: false,
        }
    }

    /// The first half of a look. Returns whether it was refused already.
    fn knock(&mut self, heard: Option<Instant>) -> bool {
        let later = |refused| heard.is_some_and(|heard| heard > refused + CONTRADICTED_AFTER);
        self.contradicted = self.refused.is_some_and(later);
        if self.contradicted {
            // What earlier knocks met says nothing of this one.
            self.port = Port::open(self.address).ok();
            self.refused = None;
        }
        self.port.as_ref().is_some_and(Port::knock)
    }

    /// The second half, a little later. Returns whether nobody is there.
    fn answer(&mut self, refused: bool, heard: Option<Instant>, now: Instant) -> bool {
        if !refused && !self.port.as_ref().is_some_and(Port::is_refused) {
            return false;
        }
        if self.contradicted {
            self.distrusted_until = Some(now + DISTRUST);
            return false;
        }
        self.refused.get_or_insert(now);
        self.distrusted_until.is_none_or(|until| now >= until)
            && heard.is_none_or(|heard| now >= heard + HEARD)
    }
}

impl Doubts {
    /// A reply of the store arrived.
    pub(super) fn heard(&self, store: u64) {
        lock(&self.heard).insert(store, Instant::now());
    }

    /// It is asked again.
    pub(super) fn late(&self, store: u64) {
        lock(&self.late).insert(store);
        self.news.notify_one();
    }

    fn heard_at(&self, store: u64) -> Option<Instant> {
        lock(&self.heard).get(&store).copied()
    }

    /// Looks whenever somebody is late, and says who is gone.
    pub(super) async fn look(
        &self,
        address: impl Fn(u64) -> Option<SocketAddr>,
        gone: impl Fn(u64),
    ) {
        let mut doors: BTreeMap<u64, Door> = BTreeMap::new();
        loop {
            self.news.notified().await;
            let late = core::mem::take(&mut *lock(&self.late));
            let mut knocked = Vec::with_capacity(late.len());
            for store in late {
                let Some(address) = address(store) else {
                    continue;
                };
                let door = doors.entry(store).or_insert_with(|| Door::at(address));
                if door.address != address {
                    *door = Door::at(address);
                }
                knocked.push((store, door.knock(self.heard_at(store))));
            }
            tokio::time::sleep(ANSWER).await;
            for (store, refused) in knocked {
                let door = doors.get_mut(&store).expect("knocked at above");
                if door.answer(refused, self.heard_at(store), Instant::now()) {
                    gone(store);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    fn look(door: &mut Door, heard: Option<Instant>, now: Instant) -> bool {
        let refused = door.knock(heard);
        door.answer(refused, heard, now)
    }

    #[test]
    fn who_is_gone_is_gone_and_who_answers_or_was_heard_just_now_is_not() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let now = Instant::now() + Duration::from_secs(9);
        let mut door = Door::at(address);
        assert!(!look(&mut door, None, now), "it listens");
        drop(socket);
        assert!(!look(&mut door, Some(now), now), "heard just now");
        assert!(look(&mut door, Some(now), now + HEARD));
        assert!(look(&mut door, None, now + HEARD));
        // It starts again at the same address, is heard, and dies.
        let socket = UdpSocket::bind(address).expect("it is free again");
        let heard = now + Duration::from_secs(1);
        assert!(!look(&mut door, Some(heard), heard));
        assert!(door.distrusted_until.is_none());
        drop(socket);
        assert!(look(&mut door, Some(heard), heard + HEARD));
    }

    #[test]
    fn an_address_that_refuses_whoever_lives_is_not_believed_for_a_while() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        drop(socket);
        let now = Instant::now();
        let mut door = Door::at(address);
        assert!(look(&mut door, None, now));
        let heard = now + Duration::from_secs(1);
        assert!(!look(&mut door, Some(heard), heard));
        assert!(!look(&mut door, Some(heard), heard + HEARD));
        assert!(look(&mut door, Some(heard), heard + DISTRUST));
    }
}
