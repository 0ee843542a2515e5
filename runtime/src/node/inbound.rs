//! Where everything that arrives is sent to: called on the transport's thread, so it only decodes and hands over.

use std::sync::{Arc, OnceLock, Weak};

use actix::Addr;
use actix::dev::SendError;
use bytes::Bytes;
use synod_consensus::claims::Beat;
use synod_membership::Packet;
use tokio::sync::mpsc;

use super::beats::LastHeard;
use super::calls::Calls;
use super::gossip::{GossipActor, Heard, Keys, TAG_BEAT, TAG_GOSSIP};
use super::protocol::{NodeFrame, given_up};
use super::steward::Steward;
use crate::group::actor::{CarryOut, Raft, decode_raft};
use crate::group::evaluator::{Incoming, ReplyTo};
use crate::group::{Counters, Shared, lock};
use crate::system::ReplicaAddress;
use crate::transport::{CallAnswer, Inbound, Lane, Peer};
use crate::wire::{Failure, Intent, Outcome, Request};

/// What exists only once the node runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gossip: Addr<GossipActor>,
    pub(crate) steward: Addr<Steward>,
    pub(crate) heard: Arc<LastHeard>,
    pub(crate) calls: Calls,
    pub(crate) courier: Weak<super::courier::NodeCourier>,
}

/// The receiver. Until the node runs, everything is dropped, except calls to a seed that seeks: peers send again.
#[derive(Debug, Default)]
pub(crate) struct NodeInbound {
    pub(crate) running: OnceLock<Running>,
    /// Where calls go while this node seeks a cluster with other seeds.
    pub(crate) seeking: OnceLock<mpsc::Sender<(Peer, Bytes, CallAnswer)>>,
    pub(crate) keys: Keys,
}

impl NodeInbound {
    fn raft(running: &Running, frames: Vec<Bytes>) {
        let shared = &running.shared;
        let decoded = |frame: &Bytes| {
            let message = decode_raft(frame);
            if message.is_none() {
                Counters::bump(&shared.counters.frames_undecodable);
            }
            message
        };
        let messages: Vec<_> = frames.iter().filter_map(decoded).collect();
        // Only now: whoever adds or removes a replica waits for this, and everybody else behind that.
        let lookup = shared.registry.lookup();
        for (group, message) in messages {
            match lookup.get(group) {
                Some(hosted) if hosted.replica == message.to => {
                    if hosted.group.try_send(Raft(message)).is_err() {
                        Counters::bump(&shared.counters.raft_mailbox_full);
                    }
                }
                // H77-H79: a former or future incarnation; no answer, so nobody takes it for alive.
                _ => Counters::bump(&shared.counters.raft_not_hosted),
            }
        }
    }

    fn requests(running: &Running, from: &Peer, frames: Vec<Bytes>) {
        for frame in frames {
            match NodeFrame::decode(&frame) {
                Ok(NodeFrame::Request(request)) => {
                    deliver(&running.shared, request, ReplyTo::Remote(from.path))
                }
                Ok(NodeFrame::Reports(reports)) if !from.client => {
                    running.steward.do_send(super::steward::Reported(reports));
                }
                Ok(NodeFrame::Sum(sum)) if !from.client => {
                    if let Some(store) = from.store {
                        let steward = &running.steward;
                        steward.do_send(super::steward::Summed { store, sum });
                    }
                }
                Ok(NodeFrame::SayAgain) if !from.client => {
                    running.steward.do_send(super::steward::SayAgain);
                }
                Ok(NodeFrame::Lost(mut lost)) if !from.client => {
                    // Nobody can say it of another store's replicas.
                    lost.retain(|(_, replica)| {
                        Some(ReplicaAddress::of(*replica).store) == from.store
                    });
                    running.steward.do_send(super::steward::LostElsewhere(lost));
                }
                Ok(NodeFrame::Claims(news)) if !from.client => {
                    if let Some(store) = from.store {
                        running.shared.claims(|claims| claims.receive(store, news));
                    }
                }
                Ok(NodeFrame::Order(order)) if !from.client => {
                    if let Some(hosted) = running.shared.registry.get(order.group) {
                        hosted.group.do_send(CarryOut(order));
                    }
                }
                Ok(_) | Err(_) => Counters::bump(&running.shared.counters.frames_undecodable),
            }
        }
    }
}

/// Hands a request to its shard's evaluator, or says where to go.
pub(crate) fn deliver(shared: &Shared, request: Request, reply: ReplyTo) {
    let keyed = !matches!(request.intent, Intent::OpenSession { .. });
    if keyed && shared.sharding.shard_of(&request.key) != request.shard {
        let outcome = Outcome::Failed(Failure::WrongShard {
            shard: request.shard,
        });
        return reply.answer(shared, &request, outcome);
    }
    let hosted = shared.registry.get(super::group_of(request.shard));
    let incoming = Incoming { request, reply };
    let offered = match &hosted {
        Some(hosted) => hosted.offer(incoming),
        None => Err(SendError::Closed(incoming)),
    };
    if let Err(back) = offered {
        Incoming::refuse(back, shared, hosted.as_deref());
    }
}

impl Inbound for NodeInbound {
    fn frame(&self, from: &Peer, lane: Lane, frames: Vec<Bytes>) {
        let Some(running) = self.running.get() else {
            return;
        };
        if let Some(store) = from.store {
            running.heard.heard(store, running.shared.clock);
        }
        match lane {
            Lane::Raft | Lane::Bulk if !from.client => Self::raft(running, frames),
            Lane::Request => Self::requests(running, from, frames),
            Lane::Reply => {
                if let (Some(courier), Some(store)) = (running.courier.upgrade(), from.store) {
                    courier.replies(store, &frames);
                }
            }
            Lane::Gossip => {
                for frame in frames {
                    gossip(running, from, &frame);
                }
            }
            Lane::Raft | Lane::Bulk => Counters::bump(&running.shared.counters.frames_undecodable),
        }
    }

    fn datagram(&self, from: &Peer, datagram: Bytes) {
        let (Some(running), Some(store)) = (self.running.get(), from.store) else {
            return;
        };
        running.heard.heard(store, running.shared.clock);
        match datagram.split_first() {
            // That anything was heard is noted above; an older build's beat says no more.
            Some((&TAG_BEAT, [])) => {}
            Some((&TAG_BEAT, beat)) => match Beat::decode(beat) {
                Some(beat) => {
                    let now = running.shared.clock.now();
                    running
                        .shared
                        .claims(|claims| claims.heard(now, store, &beat));
                }
                None => Counters::bump(&running.shared.counters.frames_undecodable),
            },
            Some((&TAG_GOSSIP, body)) => gossip(running, from, body),
            _ => Counters::bump(&running.shared.counters.frames_undecodable),
        }
    }

    fn is_gossip(&self, datagram: &[u8]) -> bool {
        datagram.first() == Some(&TAG_GOSSIP)
    }

    fn call(&self, from: &Peer, frame: Bytes, answer: CallAnswer) {
        // Dropping `answer` tells the caller that nobody is here yet.
        if let Some(running) = self.running.get() {
            running.calls.answer(from.clone(), frame, answer);
        } else if let Some(seeking) = self.seeking.get() {
            let _full_or_over = seeking.try_send((from.clone(), frame, answer));
        }
    }

    fn connected(&self, peer: &Peer) {
        let (Some(running), Some(store)) = (self.running.get(), peer.store) else {
            return;
        };
        running.heard.heard(store, running.shared.clock);
        if let Some(courier) = running.courier.upgrade() {
            courier.connected(store);
        }
    }

    fn disconnected(&self, peer: &Peer) {
        let (Some(running), Some(store)) = (self.running.get(), peer.store) else {
            return;
        };
        if let Some(courier) = running.courier.upgrade() {
            courier.disconnected(store);
        }
    }

    fn admit(&self, peer: &Peer) -> Result<(), String> {
        if let (Some(running), Some(store)) = (self.running.get(), peer.store) {
            let state = lock(&running.shared.system);
            if state.is_given_up(store) {
                // M21: the ban is part of the log.
                return Err(given_up(&state, store, &peer.name));
            }
        }
        // A store that the log here does not know yet may just have been admitted: its certificate is the CA's, and
        // gossip about it waits for the log.
        match peer
            .store
            .and_then(|store| Some((store, self.keys.get(store)?)))
        {
            Some((store, key)) if key != peer.key => Err(format!(
                "store {store} was admitted with another certificate key than the one shown"
            )),
            _ => Ok(()),
        }
    }
}

fn gossip(running: &Running, from: &Peer, body: &[u8]) {
    let Some(from) = from.store else { return };
    match Packet::decode(body) {
        // A full mailbox drops the packet; gossip repeats itself.
        Ok(packet) => {
            let _full = running.gossip.try_send(Heard { from, packet });
        }
        Err(_) => Counters::bump(&running.shared.counters.frames_undecodable),
    }
}
