//! What the transport's thread and its callers share: the parties, and how connections enter and leave them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    Inbound, Lane, Limits, LocalHello, Peer, ReplyPath, SendRefused,
    certificates::Facts,
    closing::Closing,
    counters::{Count, Counters},
    hello::{Hello, Purpose, Refusal},
    link::Link,
    outbox::{Bell, lock},
    party::{DATAGRAM_BYTES_AT_LEAST, Party, keeps_new, lanes, slot},
};

/// How long a connection that lost against another one still delivers what is under way.
const RETIREMENT: Duration = Duration::from_secs(1);

/// Shared by the thread and all handles.
pub(super) struct Core {
    pub(super) limits: Limits,
    pub(super) client: bool,
    /// Random: tells this process from any other.
    pub(super) instance: u64,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) counters: Counters,
    pub(super) bell: Bell<Party>,
    pub(super) closed: AtomicBool,
    hello: Arc<Mutex<LocalHello>>,
    /// QUIC's settings for main connections between nodes.
    pub(super) between_nodes: quinn::ClientConfig,
    stores: RwLock<HashMap<u64, Arc<Party>>>,
    /// By connection: clients, and nodes without a store.
    guests: RwLock<HashMap<u64, Arc<Party>>>,
    next_connection: AtomicU64,
}

/// A connection whose hello is done, not yet in use.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) connection: quinn::Connection,
    pub(super) hello: Hello,
    pub(super) facts: Facts,
    pub(super) protocol: u16,
    pub(super) purpose: Purpose,
    pub(super) dialled: bool,
}

impl Core {
    pub(super) fn new(
        limits: Limits,
        client: bool,
        instance: u64,
        hello: Arc<Mutex<LocalHello>>,
        between_nodes: quinn::ClientConfig,
        inbound: Arc<dyn Inbound>,
    ) -> Self {
        Self {
            limits,
            client,
            instance,
            inbound,
            counters: Counters::default(),
            bell: Bell::default(),
            closed: AtomicBool::new(false),
            hello,
            between_nodes,
            stores: RwLock::default(),
            guests: RwLock::default(),
            next_connection: AtomicU64::new(1),
        }
    }

    /// What this process says at a new connection.
    pub(super) fn hello(&self, purpose: Purpose, expects: Option<u64>) -> Hello {
        Hello::of(
            &lock(&self.hello),
            self.client,
            self.instance,
            purpose,
            expects,
        )
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn store(&self, store: u64) -> Option<Arc<Party>> {
        self.stores
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(&store)
            .cloned()
    }

    /// Every store's party.
    pub(super) fn stores(&self) -> Vec<Arc<Party>> {
        self.stores
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .values()
            .cloned()
            .collect()
    }

    /// Drops every connection, when the thread has ended.
    pub(super) fn forget(&self) {
        let guests = std::mem::take(&mut *self.guests.write().unwrap_or_else(|e| e.into_inner()));
        for party in self.stores().iter().chain(guests.values()) {
            party.connected.store(false, Ordering::Relaxed);
            lock(&party.state).links = [None, None];
        }
    }

    pub(super) fn connections_in_use(&self) -> usize {
        let guests = self.guests.read().unwrap_or_else(|e| e.into_inner()).len();
        let of_stores = self
            .stores()
            .into_iter()
            .map(|party| lock(&party.state).links.iter().flatten().count());
        guests + of_stores.sum::<usize>()
    }

    fn store_or_new(&self, store: u64) -> Arc<Party> {
        if let Some(party) = self.store(store) {
            return party;
        }
        let mut stores = self.stores.write().unwrap_or_else(|e| e.into_inner());
        stores
            .entry(store)
            .or_insert_with(|| Party::new(Some(store)))
            .clone()
    }

    fn guest(&self, connection: u64) -> Option<Arc<Party>> {
        self.guests
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(&connection)
            .cloned()
    }

    pub(super) fn set_address(&self, store: u64, addresses: Vec<SocketAddr>) {
        let party = self.store_or_new(store);
        let mut known = lock(&party.addresses);
        if *known == addresses {
            return;
        }
        party
            .has_address
            .store(!addresses.is_empty(), Ordering::Relaxed);
        *known = addresses;
        drop(known);
        party.set_reachable(); // until found otherwise
        party.poke.notify_one();
    }

    /// Closes the connections to a store and forgets its addresses.
    pub(super) fn disconnect(&self, store: u64, reason: &str) {
        self.set_address(store, Vec::new());
        let party = self.store_or_new(store);
        let links = lock(&party.state).links.clone();
        for link in links.iter().flatten() {
            Closing::RefusedLasting.close(&link.connection, reason);
        }
    }

    /// Tells the thread to look at `party`.
    pub(super) fn ring(&self, party: Arc<Party>) {
        if self.bell.ring(party) {
            self.counters.wakes.one();
        }
    }

    /// The party to send to, or why not.
    fn addressee(&self, to: u64, items: usize) -> Result<Arc<Party>, SendRefused> {
        if self.is_closed() {
            return Err(SendRefused::Closed);
        }
        let refused = |count: &Count, why| {
            count.add(items);
            Err(why)
        };
        let Some(party) = self.store(to) else {
            return refused(
                &self.counters.refused_no_address,
                SendRefused::NoAddress { to },
            );
        };
        if party.connected.load(Ordering::Relaxed) {
            return Ok(party);
        }
        if !party.has_address.load(Ordering::Relaxed) {
            return refused(
                &self.counters.refused_no_address,
                SendRefused::NoAddress { to },
            );
        }
        party.want();
        if let Some(since) = party.unreachable_for() {
            if !party.dialling.load(Ordering::Relaxed) {
                self.ring(party);
            }
            return refused(
                &self.counters.refused_unreachable,
                SendRefused::Unreachable { to, since },
            );
        }
        Ok(party)
    }

    pub(super) fn send(&self, to: u64, lane: Lane, frames: Vec<Bytes>) -> Result<(), SendRefused> {
        self.check_lengths(&frames)?;
        let party = self.addressee(to, frames.len())?;
        let count = frames.len();
        match party.outbox.push(lane, frames, &self.limits) {
            Ok(must_ring) => {
                if must_ring {
                    self.ring(party);
                }
                Ok(())
            }
            Err(_) => {
                self.queue_full(lane).add(count);
                Err(SendRefused::QueueFull { to, lane })
            }
        }
    }

    fn check_lengths(&self, frames: &[Bytes]) -> Result<(), SendRefused> {
        let limit = self.limits.frame_bytes;
        match frames.iter().map(Bytes::len).max() {
            Some(bytes) if bytes > limit => {
                self.counters.refused_frame_too_large.add(frames.len());
                Err(SendRefused::FrameTooLarge { bytes, limit })
            }
            _ => Ok(()),
        }
    }

    fn queue_full(&self, lane: Lane) -> &Count {
        match lane {
            Lane::Raft => &self.counters.refused_raft_queue_full,
            Lane::Request => &self.counters.refused_request_queue_full,
            Lane::Reply => &self.counters.refused_reply_queue_full,
            Lane::Gossip => &self.counters.refused_gossip_queue_full,
            Lane::Bulk => &self.counters.refused_bulk_queue_full,
        }
    }

    pub(super) fn datagram(&self, to: u64, datagram: Bytes) -> Result<(), SendRefused> {
        let party = self.addressee(to, 1)?;
        let (bytes, limit) = (datagram.len(), party.max_datagram.load(Ordering::Relaxed));
        if bytes > limit {
            self.counters.refused_datagram_too_large.one();
            return Err(SendRefused::DatagramTooLarge { bytes, limit });
        }
        match party.outbox.push_datagram(datagram, &self.limits) {
            Ok(must_ring) => {
                if must_ring {
                    self.ring(party);
                }
                Ok(())
            }
            Err(_) => {
                self.counters.refused_datagram_queue_full.one();
                Err(SendRefused::DatagramQueueFull { to })
            }
        }
    }

    pub(super) fn max_datagram(&self, to: u64) -> usize {
        self.store(to).map_or(DATAGRAM_BYTES_AT_LEAST, |party| {
            party.max_datagram.load(Ordering::Relaxed)
        })
    }

    pub(super) fn reply(&self, path: ReplyPath, frames: Vec<Bytes>) {
        let party = match path.store {
            // A reply must not reach the successor of the process that asked.
            Some(store) => self
                .store(store)
                .filter(|party| party.generation.load(Ordering::Relaxed) == path.generation),
            None => self.guest(path.connection),
        };
        let Some(party) = party.filter(|party| party.connected.load(Ordering::Relaxed)) else {
            self.counters.dropped_reply_without_peer.add(frames.len());
            return;
        };
        if let Err(error) = self.check_lengths(&frames) {
            tracing::error!(%error, "a reply was dropped");
            return;
        }
        let count = frames.len();
        match party.outbox.push(Lane::Reply, frames, &self.limits) {
            Ok(true) => self.ring(party),
            Ok(false) => {}
            Err(_) => self.queue_full(Lane::Reply).add(count),
        }
    }

    /// What only this process knows against the peer of a hello: its generation, the number of clients, the node's own
    /// objections.
    pub(super) fn objections(&self, hello: &Hello, peer: &Peer) -> Result<(), Refusal> {
        if hello.purpose == Purpose::Call {
            return Ok(());
        }
        match hello.store {
            Some(store) => {
                let seen = self
                    .store(store)
                    .map_or(0, |party| party.generation.load(Ordering::Relaxed));
                if hello.generation < seen {
                    self.counters.connections_of_older_start.one();
                    return Err(Refusal::lasting(format!(
                        "store {store} was seen at its start {seen} and '{}' comes with start {}: an older process, or \
                         an old copy of the disk",
                        hello.name, hello.generation
                    )));
                }
            }
            None => {
                if self.guests.read().unwrap_or_else(|e| e.into_inner()).len()
                    >= self.limits.clients
                {
                    self.counters.refused_too_many.one();
                    return Err(Refusal::passing(format!(
                        "{} clients are connected already",
                        self.limits.clients
                    )));
                }
            }
        }
        self.inbound.admit(peer).map_err(Refusal::lasting)
    }

    /// Who a hello is from, on a connection of that number.
    pub(super) fn peer(&self, hello: &Hello, facts: &Facts, connection: u64) -> Peer {
        Peer {
            store: hello.store,
            name: hello.name.as_str().into(),
            cluster: hello.cluster(),
            generation: hello.generation,
            key: facts.key,
            path: ReplyPath {
                connection,
                store: hello.store,
                generation: hello.generation,
            },
            client: hello.client,
        }
    }

    /// Whether a connection that was just dialled is still of use: another one may have come in meanwhile.
    pub(super) fn still_wants(&self, party: &Party, met: &Met) -> bool {
        let state = lock(&party.state);
        match &state.links[slot(met.purpose)] {
            None => true,
            Some(old) => {
                let purpose_is_main = met.purpose == Purpose::Main;
                (purpose_is_main && state.suspect)
                    || met.hello.generation > old.peer.generation
                    || (met.hello.generation == old.peer.generation && self.new_wins(old, met))
            }
        }
    }

    fn new_wins(&self, old: &Link, met: &Met) -> bool {
        let ours = lock(&self.hello).store.unwrap_or(u64::MAX);
        keeps_new(
            old.dialled,
            old.since.elapsed(),
            met.dialled,
            ours,
            met.hello.store.unwrap_or(u64::MAX),
        )
    }

    /// Takes a connection into use. On the transport's thread.
    pub(super) fn register(self: &Arc<Self>, met: Met) {
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let peer = self.peer(&met.hello, &met.facts, id);
        let party = match met.hello.store {
            Some(store) => self.store_or_new(store),
            None => {
                let party = Party::new(None);
                self.guests
                    .write()
                    .unwrap_or_else(|e| e.into_inner())
                    .insert(id, party.clone());
                party
            }
        };
        let main = met.purpose == Purpose::Main;
        let mut state = lock(&party.state);
        let seen = party.generation.load(Ordering::Relaxed);
        if peer.generation < seen {
            drop(state);
            self.counters.connections_of_older_start.one();
            Closing::OlderStart.close(&met.connection, "a later start of this store is connected");
            return;
        }
        let mut gone = None;
        if peer.generation > seen {
            for old in state.links.iter_mut().filter_map(Option::take) {
                self.counters.connections_of_older_start.one();
                Closing::OlderStart
                    .close(&old.connection, "a later start of this store is connected");
                old.retire();
                if old.purpose == Purpose::Main {
                    gone = Some(old.peer.clone());
                }
            }
            party.generation.store(peer.generation, Ordering::Relaxed);
        }
        let place = slot(met.purpose);
        let wins = match &state.links[place] {
            None => true,
            Some(old) => (main && state.suspect) || self.new_wins(old, &met),
        };
        let announce = main && wins && state.links[place].is_none();
        let link = Arc::new(Link::new(id, met, peer.clone(), party.clone()));
        let loser = if wins {
            state.links[place].replace(link.clone())
        } else {
            Some(link.clone())
        };
        if main && wins {
            state.suspect = false;
            state.last_refusal.clear();
            party.set_reachable();
            party.connected.store(true, Ordering::Relaxed);
            link.note_max_datagram();
        }
        drop(state);

        self.counters.connections.one();
        if let Some(loser) = loser {
            self.counters.connections_superseded.one();
            loser.retire();
            tokio::spawn(async move {
                tokio::time::sleep(RETIREMENT).await;
                Closing::Superseded.close(
                    &loser.connection,
                    "another connection to this process is in use",
                );
            });
        }
        if let Some(gone) = gone {
            self.inbound.disconnected(&gone);
        }
        if announce {
            tracing::debug!(peer = %peer.name, store = ?peer.store, generation = peer.generation, "connected");
            self.inbound.connected(&peer);
        }
        link.start(self);
        link.wake_all(self);
        party.poke.notify_one();
    }

    /// Forgets a connection that has ended. On the transport's thread.
    pub(super) fn unregister(self: &Arc<Self>, link: &Arc<Link>, error: &quinn::ConnectionError) {
        link.retire();
        link.count_wire(&self.counters);
        let party = &link.party;
        let mut state = lock(&party.state);
        let place = &mut state.links[slot(link.purpose)];
        let in_use = place.as_ref().is_some_and(|current| current.id == link.id);
        if in_use {
            *place = None;
        }
        if in_use && link.purpose == Purpose::Main {
            party.connected.store(false, Ordering::Relaxed);
            state.suspect = false;
            // Whatever ended the main connection ended the process or the path.
            if let Some(bulk) = state.links[slot(Purpose::Bulk)].take() {
                Closing::Done.close(&bulk.connection, "the main connection has ended");
                bulk.retire();
            }
        }
        drop(state);
        if party.store.is_none() {
            self.guests
                .write()
                .unwrap_or_else(|e| e.into_inner())
                .remove(&link.id);
        }
        if !in_use || link.purpose != Purpose::Main {
            return;
        }
        let why = super::closing::explain(error);
        tracing::debug!(peer = %link.peer.name, store = ?link.peer.store, %why, "disconnected");
        // Whoever sends requests there need not look for another way because it was put to rest.
        let idle = link.rests() || super::closing::was_rest(error);
        if !(idle && link.owes_nothing()) {
            self.inbound.disconnected(&link.peer);
        }
        if self.is_closed() {
            return;
        }
        if party.has_address.load(Ordering::Relaxed) {
            if !super::closing::was_farewell(error) && !link.rests() {
                party.want(); // find out soon whether it has been started anew
            }
            self.ring(party.clone());
        } else {
            let lost = party
                .outbox
                .clear(lanes(Purpose::Main).chain(lanes(Purpose::Bulk)));
            self.counters.dropped_unreachable.add(lost);
        }
    }
}
