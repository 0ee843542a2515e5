//! A started node, as its owner holds it.

#[cfg(test)]
mod resting;
#[cfg(test)]
mod stalled;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Addr;
use actix_rt::Arbiter;
use synod_consensus::GroupId;
use tokio::sync::oneshot;

use super::beats::Beats;
use super::builder::NodeBuilder;
use super::calls::Desk;
use super::courier::NodeCourier;
use super::gossip::{GossipActor, Leave};
use super::protocol::NodeStatus;
use crate::entity::Entity;
use crate::group::Outbox;
use crate::group::actor::StepAside;
use crate::router::{Entities, Router};
use crate::storage::StoreDirectory;

/// How long a stopping node waits for its leaderships to be taken over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for its goodbye to be spread.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// One node of a cluster. Dropping it stops it without handing anything over, much like a crash; call
/// [`shutdown`](Node::shutdown) instead.
#[derive(Debug)]
pub struct Node {
    desk: Arc<Desk>,
    courier: Arc<NodeCourier>,
    arbiters: Vec<Arbiter>,
    beats: Option<Beats>,
    gossip: Addr<GossipActor>,
    seeker: actix_rt::task::JoinHandle<()>,
    /// Held to the end: the lock of the store.
    _directory: StoreDirectory,
}

impl Node {
    /// Describes a node to start.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    pub(crate) fn new(
        desk: Arc<Desk>,
        courier: Arc<NodeCourier>,
        arbiters: Vec<Arbiter>,
        beats: Beats,
        directory: StoreDirectory,
        gossip: Addr<GossipActor>,
        seeker: actix_rt::task::JoinHandle<()>,
    ) -> Self {
        Self {
            desk,
            courier,
            arbiters,
            beats: Some(beats),
            gossip,
            seeker,
            _directory: directory,
        }
    }

    /// The entities of a kind, wherever in the cluster they are.
    pub fn entities<E: Entity>(&self) -> Entities<E> {
        self.router().entities()
    }

    /// The router of this process, for callers that know kinds and messages only by name.
    pub fn router(&self) -> Router {
        self.courier.router()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.desk.name
    }

    /// The id of its store.
    pub fn store_id(&self) -> u64 {
        self.desk.shared.store
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.desk.shared.transport.local_addr()
    }

    /// The node as it is now.
    pub async fn status(&self) -> NodeStatus {
        self.desk.status().await
    }

    /// Waits until every replica that belongs here exists and has a leader, and those that vote have caught up with theirs: once that is
    /// so on all nodes, the next one may be stopped, if all are to be in turn.
    pub async fn ready(&self) {
        let mut changes = self.desk.shared.changed.subscribe();
        while !self.status().await.ready {
            // A change wakes at once; the pause covers what is not announced.
            let _elapsed = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
        }
    }

    /// Waits until the node stops by itself, and says why: a failing disk, damaged state, a later start of its store.
    pub async fn stopped(&self) -> String {
        let mut fatal = self.desk.shared.fatal.subscribe();
        let reason = fatal
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "the node was shut down".to_owned())
    }

    /// Hands the leaderships over, says goodbye, and stops. Takes at most a few seconds.
    pub async fn shutdown(mut self) {
        let shared = self.desk.shared.clone();
        // The goodbye comes first: nobody moves a leadership here any more, and none that is offered is taken (S18).
        shared.stopping.store(true, Ordering::Relaxed);
        let (done, left) = oneshot::channel();
        self.gossip.do_send(Leave(done));
        let _elapsed = tokio::time::timeout(LEAVE_PATIENCE, left).await;
        let deadline = shared.clock.now() + HAND_OVER_PATIENCE;
        // Below three members no group has a second voter to hand over to (E24).
        let has_heirs = self.desk.status().await.members.len() >= 3;
        if has_heirs {
            self.step_aside(deadline).await;
        }
        self.stop();
        shared.transport.closed().await; // the port is free again
    }

    /// Moves every leadership away, as long as there is time.
    async fn step_aside(&self, deadline: Duration) {
        let shared = &self.desk.shared;
        let mut changes = shared.changed.subscribe();
        loop {
            let mut led = shared.registry.all();
            led.retain(|(_, hosted)| hosted.leads());
            let patience = deadline.saturating_sub(shared.clock.now());
            if led.is_empty() || patience.is_zero() {
                break;
            }
            for (_, hosted) in &led {
                hosted.group.do_send(StepAside { heirs: None });
            }
            let pause = patience.min(Duration::from_millis(100));
            let _elapsed = tokio::time::timeout(pause, changes.changed()).await;
        }
    }

    fn stop(&mut self) {
        self.seeker.abort();
        self.gossip.do_send(super::gossip::Stop);
        self.desk.steward.do_send(super::steward::Stop);
        self.courier.close();
        self.beats = None;
        for arbiter in &self.arbiters {
            arbiter.spawn_fn(Outbox::remove);
            arbiter.stop();
        }
        for arbiter in self.arbiters.drain(..) {
            let _panicked = arbiter.join();
        }
        let shared = &self.desk.shared;
        shared.log.close();
        shared.freight.close();
        shared.checkpoints.close();
        shared.transport.close();
        tracing::info!(node = %self.desk.name, groups = shared.registry.all().len(), system = %GroupId::ZERO, "node stopped");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.arbiters.is_empty() {
            self.stop();
        }
    }
}
