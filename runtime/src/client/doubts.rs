//! Which stores answer late because they are no more.
//!
//! A router asks a silent leader again after some usual answers' time, and asks others only after half a second. Here: [`Doubts`], where
//! stores are noted that are asked again, and a task that looks whether anybody still listens there (`transport::port`); if not, it is as
//! good as a lost connection. Not here: silence (`router`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::group::lock;
use crate::transport::{Door, Place};

/// How long an answer of another machine's kernel is waited for. Later ones are read at the next doubt.
const ANSWER: Duration = Duration::from_millis(5);
/// Least pause between two looks: a loaded cluster answers late all the time.
const PAUSE: Duration = Duration::from_millis(20);
/// Who is heard within this time is no more dead than it was then.
const HEARD: Duration = Duration::from_millis(50);

/// Stores that answer late.
#[derive(Debug)]
pub(super) struct Doubts {
    origin: Instant,
    late: Mutex<BTreeSet<u64>>,
    news: Notify,
    heard: Mutex<BTreeMap<u64, Heard>>,
}

/// The last word of a store.
#[derive(Clone, Copy, Debug)]
struct Heard {
    generation: u64,
    at: Duration,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            late: Mutex::default(),
            news: Notify::default(),
            heard: Mutex::default(),
        }
    }
}

impl Doubts {
    /// Something of the store's life with this start count arrived.
    pub(super) fn heard(&self, store: u64, generation: u64) {
        let at = self.origin.elapsed();
        lock(&self.heard).insert(store, Heard { generation, at });
    }

    /// It is asked again.
    pub(super) fn late(&self, store: u64) {
        lock(&self.late).insert(store);
        self.news.notify_one();
    }

    fn heard_of(&self, store: u64) -> Option<Heard> {
        lock(&self.heard).get(&store).copied()
    }

    /// Looks whenever somebody is late, and says who is gone. `addresses`: of all stores of the cluster; others are forgotten.
    pub(super) async fn look(
        &self,
        addresses: impl Fn() -> BTreeMap<u64, SocketAddr>,
        gone: impl Fn(u64),
    ) {
        let mut doors: BTreeMap<u64, Door> = BTreeMap::new();
        loop {
            self.news.notified().await;
            let late = core::mem::take(&mut *lock(&self.late));
            let addresses = addresses();
            doors.retain(|store, _| addresses.contains_key(store));
            lock(&self.heard).retain(|store, _| addresses.contains_key(store));
            let known = late
                .iter()
                .filter_map(|store| Some((*store, *addresses.get(store)?)));
            let mut knocked = Vec::with_capacity(late.len());
            for (store, address) in known {
                let heard = self.heard_of(store);
                let generation = heard.map_or(0, |heard| heard.generation);
                let place = Place {
                    generation,
                    address,
                };
                let door = doors.entry(store).or_insert_with(|| Door::at(place));
                door.move_to(place);
                door.knock(self.origin.elapsed(), heard.map(|heard| heard.at));
                knocked.push(store);
            }
            tokio::time::sleep(ANSWER).await;
            for store in knocked {
                let door = doors.get_mut(&store).expect("knocked at above");
                let heard = self.heard_of(store).map(|heard| heard.at);
                let now = self.origin.elapsed();
                if door.is_closed(now, heard) && heard.is_none_or(|heard| now >= heard + HEARD) {
                    tracing::debug!(store, "nobody listens there any more");
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
    use std::rc::Rc;

    use super::*;

    #[actix_rt::test]
    async fn who_is_late_and_gone_is_said_to_be_gone_and_who_is_late_and_there_is_not() {
        let doubts = Rc::new(Doubts::default());
        let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addresses = [(1, &here), (2, &gone)]
            .map(|(store, socket)| (store, socket.local_addr().expect("it is bound")));
        drop(gone);
        doubts.heard(1, 1);
        doubts.heard(9, 1); // none of the cluster's any more
        let (said, mut says) = tokio::sync::mpsc::unbounded_channel();
        let task = actix_rt::spawn({
            let doubts = doubts.clone();
            async move {
                let all = || BTreeMap::from(addresses);
                doubts
                    .look(all, |store| said.send(store).expect("it listens"))
                    .await;
            }
        });
        for store in [1, 2, 9] {
            doubts.late(store);
        }
        assert_eq!(says.recv().await, Some(2));
        assert!(doubts.heard_of(9).is_none() && doubts.heard_of(1).is_some());
        task.abort();
    }
}
