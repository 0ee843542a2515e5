//! A program that uses a cluster without being a member of it: the gateway client.
//!
//! Here: [`Client`], its description ([`ClientBuilder`]), why it may not connect ([`ConnectError`]), and what operators
//! ask of a cluster (`wishes`). It has its own router and goes straight to the leaders. Not here: routing (`router`), connections (`transport`).

mod builder;
mod courier;
mod doubts;
mod wishes;

pub use builder::{ClientBuilder, ConnectError};
pub use wishes::WishError;

use core::time::Duration;
use std::sync::Arc;

use courier::ClientCourier;

use crate::entity::Entity;
use crate::node::{Answer, Call, NodeStatus};
use crate::router::{Entities, Router};
use crate::wire::{self, RoutingTable};

/// Patience of one call.
const CALL_PATIENCE: Duration = Duration::from_secs(3);

/// A connection to a cluster from outside. Cheap to clone; the last clone dropped closes it.
#[derive(Clone, Debug)]
pub struct Client {
    courier: Arc<ClientCourier>,
}

impl Client {
    /// Describes a client to connect.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// The entities of a kind, wherever in the cluster they are.
    pub fn entities<E: Entity>(&self) -> Entities<E> {
        self.router().entities()
    }

    /// The router, for callers that know kinds and messages only by name.
    pub fn router(&self) -> Router {
        self.courier.router()
    }

    /// Where shards live, as this client knows it now.
    pub fn table(&self) -> Arc<RoutingTable> {
        self.courier.table()
    }

    /// How the node at `address` (`host:port`) is.
    pub async fn status(&self, address: &str) -> Result<NodeStatus, ConnectError> {
        match self
            .courier
            .call(address, &Call::Status, CALL_PATIENCE)
            .await?
        {
            Answer::Status(status) => Ok(*status),
            answer => Err(ConnectError::unexpected(address, &answer)),
        }
    }

    /// Ends the connections; calls that wait end as refused or unknown.
    pub fn close(&self) {
        self.courier.close();
    }
}

/// Reads an answer's bytes.
fn decode_answer(address: &str, bytes: &[u8]) -> Result<Answer, ConnectError> {
    wire::decode(bytes).map_err(|error| ConnectError::Unreachable {
        addresses: address.to_owned(),
        reason: format!("its answer does not decode: {error}"),
    })
}
