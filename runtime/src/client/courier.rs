//! Carries a client's requests over QUIC, and keeps its routing table fresh.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;

use super::builder::ConnectError;
use super::doubts::Doubts;
use super::{CALL_PATIENCE, decode_answer};
use crate::group::lock;
use crate::node::{Answer, Call, NodeFrame, resolve};
use crate::router::{Courier, Router, RouterOptions};
use crate::transport::{
    CallAnswer, CallError, EndpointKeys, Identity, Inbound, Lane, Limits, LocalHello, Peer,
    Transport, TransportOptions,
};
use crate::wire::{self, Request, RoutingTable};

/// A table is fetched anew at least this often, so that new nodes are known before anybody needs them.
const TABLE_REFRESH: Duration = Duration::from_secs(5);
/// Pause after a fetch, however often it is asked for.
const TABLE_PAUSE: Duration = Duration::from_millis(50);
/// Patience of one fetch at one node; a dead one must not hold up the next.
const TABLE_PATIENCE: Duration = Duration::from_millis(500);

/// The client's connection to its cluster.
#[derive(Debug)]
pub(super) struct ClientCourier {
    road: Arc<Road>,
    router: Router,
    refresher: tokio::task::JoinHandle<()>,
    doubter: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Road {
    transport: Transport,
    seeds: Vec<String>,
    table: RwLock<Arc<RoutingTable>>,
    wanted: Notify,
    doubts: Doubts,
    closed: AtomicBool,
}

/// Receives replies.
#[derive(Debug)]
struct ClientInbound {
    router: OnceLock<Router>,
    road: OnceLock<Weak<Road>>,
    /// Share of replies to lose, with the source of chance.
    losing: Option<(f64, Mutex<ChaCha8Rng>)>,
}

impl Inbound for ClientInbound {
    fn frame(&self, from: &Peer, lane: Lane, frames: Vec<Bytes>) {
        let (Some(router), Some(store), Lane::Reply) = (self.router.get(), from.store, lane) else {
            return;
        };
        if let Some(road) = self.road.get().and_then(Weak::upgrade) {
            road.doubts.heard(store, from.generation);
        }
        let mut replies: Vec<wire::Reply> = frames
            .iter()
            .filter_map(|frame| wire::decode(frame).ok())
            .collect();
        if let Some((ratio, chance)) = &self.losing {
            let mut chance = lock(chance);
            replies.retain(|_| !chance.random_bool(*ratio));
        }
        router.replies(store, replies);
    }

    fn datagram(&self, _from: &Peer, _datagram: Bytes) {}

    fn call(&self, _from: &Peer, _frame: Bytes, _answer: CallAnswer) {}

    fn connected(&self, peer: &Peer) {
        if let (Some(road), Some(store)) = (self.road.get().and_then(Weak::upgrade), peer.store) {
            road.doubts.heard(store, peer.generation);
        }
        if let (Some(router), Some(store)) = (self.router.get(), peer.store) {
            router.connected(store);
        }
    }

    fn disconnected(&self, peer: &Peer) {
        if let (Some(router), Some(store)) = (self.router.get(), peer.store) {
            router.disconnected(store);
        }
    }
}

impl Courier for Road {
    fn send(&self, store: u64, requests: Vec<Request>) -> Result<(), Vec<Request>> {
        if requests.iter().any(|request| request.attempt > 1) {
            self.doubts.late(store);
        }
        let frames: Vec<Bytes> = requests.iter().map(NodeFrame::request).collect();
        self.transport
            .send(store, Lane::Request, frames)
            .map_err(|_refused| requests)
    }

    fn need_table(&self) {
        self.wanted.notify_one();
    }
}

impl Road {
    async fn fetch(
        &self,
        addresses: &[String],
        patience: Duration,
    ) -> Result<RoutingTable, ConnectError> {
        let mut last = None;
        for address in addresses {
            let error = match call(&self.transport, address, &Call::Table, patience).await {
                Ok(Answer::Table(table)) => return Ok(*table),
                Ok(answer) => ConnectError::unexpected(address, &answer),
                Err(error) => error,
            };
            // A refusal is the outcome only where nobody else may still answer.
            if last.is_none() || !matches!(error, ConnectError::Refused(_)) {
                last = Some(error);
            }
        }
        Err(last.unwrap_or(ConnectError::NoAddress))
    }

    fn adopt(&self, table: RoutingTable) -> Option<Arc<RoutingTable>> {
        let mut known = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if known.cluster != table.cluster {
            return None; // the client pins its cluster
        }
        for store in &table.stores {
            self.transport
                .set_address(store.store, store.addresses.clone());
        }
        let table = Arc::new(table);
        *known = table.clone();
        Some(table)
    }
}

async fn call(
    transport: &Transport,
    address: &str,
    question: &Call,
    patience: Duration,
) -> Result<Answer, ConnectError> {
    let unreachable = |reason: String| ConnectError::Unreachable {
        addresses: address.to_owned(),
        reason,
    };
    let Some(resolved) = resolve(address).await.into_iter().next() else {
        return Err(unreachable("the address does not resolve".to_owned()));
    };
    let answer = transport
        .call(resolved, wire::encode(question), patience)
        .await
        .map_err(|error| match error {
            CallError::Refused { .. } => ConnectError::Refused(error),
            error => unreachable(error.to_string()),
        })?;
    decode_answer(address, &answer)
}

impl ClientCourier {
    pub(super) async fn connect(
        identity: Identity,
        seeds: Vec<String>,
        patience: Duration,
        losing: Option<(f64, u64)>,
    ) -> Result<Arc<Self>, ConnectError> {
        let inbound = Arc::new(ClientInbound {
            router: OnceLock::new(),
            road: OnceLock::new(),
            losing: losing
                .map(|(ratio, seed)| (ratio, Mutex::new(ChaCha8Rng::seed_from_u64(seed)))),
        });
        let name = identity.name().to_owned();
        let hello = Arc::new(Mutex::new(LocalHello {
            name,
            ..LocalHello::default()
        }));
        let transport = Transport::bind(
            TransportOptions {
                listen: None,
                identity,
                hello: hello.clone(),
                keys: EndpointKeys::ephemeral(),
                limits: Limits::default(),
            },
            inbound.clone(),
        )?;
        let empty = RoutingTable {
            cluster: 0,
            epoch: 0,
            sharding: wire::Sharding { seed: 0, shards: 1 },
            stores: Vec::new(),
            shards: Vec::new(),
        };
        let road = Arc::new(Road {
            transport,
            seeds,
            table: RwLock::new(Arc::new(empty)),
            wanted: Notify::new(),
            doubts: Doubts::default(),
            closed: AtomicBool::new(false),
        });
        let deadline = std::time::Instant::now() + patience;
        let table = loop {
            match road.fetch(&road.seeds, CALL_PATIENCE).await {
                Ok(table) => break table,
                Err(error)
                    if matches!(error, ConnectError::Refused(_))
                        || std::time::Instant::now() >= deadline =>
                {
                    road.transport.close();
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(TABLE_PAUSE).await,
            }
        };
        lock(&hello).cluster = Some(table.cluster);
        *road.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(RoutingTable {
            cluster: table.cluster,
            ..RoutingTable::clone(&table)
        });
        let options = RouterOptions::default()
            .check()
            .expect("the defaults hang together");
        let router = Router::start(options, None, rand::random(), road.clone());
        let _first = inbound.router.set(router.clone());
        if let Some(table) = road.adopt(table) {
            router.table(table);
        }
        let _first = inbound.road.set(Arc::downgrade(&road));
        let refresher = tokio::spawn(refresh(road.clone(), router.clone()));
        let doubter = tokio::spawn(doubt(road.clone(), router.clone()));
        Ok(Arc::new(Self {
            road,
            router,
            refresher,
            doubter,
        }))
    }

    pub(super) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(super) fn table(&self) -> Arc<RoutingTable> {
        self.road
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) async fn call(
        &self,
        address: &str,
        question: &Call,
        patience: Duration,
    ) -> Result<Answer, ConnectError> {
        call(&self.road.transport, address, question, patience).await
    }

    pub(super) fn close(&self) {
        if !self.road.closed.swap(true, Ordering::Relaxed) {
            self.refresher.abort();
            self.doubter.abort();
            self.router.close();
            self.road.transport.close();
        }
    }
}

impl Drop for ClientCourier {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tells the router of stores that are no more.
async fn doubt(road: Arc<Road>, router: Router) {
    let addresses = || {
        let table = road.table.read().unwrap_or_else(PoisonError::into_inner);
        let places = table.stores.iter();
        places
            .filter_map(|known| Some((known.store, *known.addresses.first()?)))
            .collect()
    };
    road.doubts
        .look(addresses, |store| router.disconnected(store))
        .await;
}

/// Fetches tables when the router asks, and now and then, from whoever answers: members first, seeds last.
async fn refresh(road: Arc<Road>, router: Router) {
    let mut turn = 0usize;
    loop {
        let _elapsed = tokio::time::timeout(TABLE_REFRESH, road.wanted.notified()).await;
        let known = road
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut addresses: Vec<String> = known
            .stores
            .iter()
            .flat_map(|store| &store.addresses)
            .map(ToString::to_string)
            .collect();
        if !addresses.is_empty() {
            turn = (turn + 1) % addresses.len();
            addresses.rotate_left(turn);
        }
        addresses.extend(road.seeds.iter().cloned());
        if let Ok(table) = road.fetch(&addresses, TABLE_PATIENCE).await
            && let Some(table) = road.adopt(table)
        {
            router.table(table);
        }
        tokio::time::sleep(TABLE_PAUSE).await;
    }
}
