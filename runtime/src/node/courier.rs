//! Carries requests of this process's router: straight to a local evaluator, over QUIC to the others.

use std::sync::{Arc, OnceLock, PoisonError};

use bytes::Bytes;

use super::inbound::deliver;
use super::protocol::NodeFrame;
use super::steward::TableSlot;
use crate::group::evaluator::{LocalReplies, ReplyTo};
use crate::group::{Counters, Shared};
use crate::router::{Courier, Router, RouterOptions};
use crate::transport::Lane;
use crate::wire::{self, Reply, Request, RoutingTable};

/// The courier of a node, with the node's router.
#[derive(Debug)]
pub(crate) struct NodeCourier {
    road: Arc<Road>,
    router: Router,
}

/// What sending needs; the router holds it.
#[derive(Debug)]
struct Road {
    shared: Arc<Shared>,
    table: TableSlot,
    /// Where replies of local evaluators go.
    home: OnceLock<Arc<Home>>,
}

/// Takes replies of local evaluators to the router.
#[derive(Debug)]
struct Home {
    store: u64,
    router: Router,
}

impl LocalReplies for Home {
    fn reply(&self, reply: Reply) {
        self.router.replies(self.store, vec![reply]);
    }
}

impl Courier for Road {
    fn send(&self, store: u64, requests: Vec<Request>) -> Result<(), Vec<Request>> {
        if store == self.shared.store {
            let Some(home) = self.home.get() else {
                return Err(requests);
            };
            for request in requests {
                deliver(&self.shared, request, ReplyTo::Local(home.clone()));
            }
            return Ok(());
        }
        let frames: Vec<Bytes> = requests.iter().map(NodeFrame::request).collect();
        self.shared
            .transport
            .send(store, Lane::Request, frames)
            .map_err(|_refused| requests)
    }

    fn need_table(&self) {
        // The steward hands over every new table; asking can only make it look sooner.
        self.shared.touch();
    }
}

impl NodeCourier {
    pub(crate) fn start(shared: Arc<Shared>, table: TableSlot, seed: u64) -> Arc<Self> {
        let store = shared.store;
        let road = Arc::new(Road {
            shared,
            table,
            home: OnceLock::new(),
        });
        let options = RouterOptions::default()
            .check()
            .expect("the defaults hang together");
        let router = Router::start(options, Some(store), seed, road.clone());
        let _first = road.home.set(Arc::new(Home {
            store,
            router: router.clone(),
        }));
        Arc::new(Self { road, router })
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Replies of another node, as frames.
    pub(crate) fn replies(&self, from: u64, frames: &[Bytes]) {
        let mut replies = Vec::with_capacity(frames.len());
        for frame in frames {
            match wire::decode(frame) {
                Ok(reply) => replies.push(reply),
                Err(_) => Counters::bump(&self.road.shared.counters.frames_undecodable),
            }
        }
        self.router.replies(from, replies);
    }

    pub(crate) fn connected(&self, store: u64) {
        self.router.connected(store);
    }

    pub(crate) fn disconnected(&self, store: u64) {
        self.router.disconnected(store);
    }

    pub(crate) fn table_changed(&self, table: Arc<RoutingTable>) {
        self.router.table(table);
    }

    pub(crate) fn close(&self) {
        *self
            .road
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.router.close();
    }
}
