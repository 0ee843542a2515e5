//! What a replica says of itself when an operator looks.

use actix::{Context, Handler, MessageResult};
use synod_consensus::{PeerState, ReplicaId, Role};

use super::GroupActor;
use crate::node::{PeerLag, ReplicaStatus};
use crate::system::{PEER_ACTIVE, ReplicaAddress};

/// Asks for it.
#[derive(Debug, actix::Message)]
#[rtype(result = "ReplicaStatus")]
pub(crate) struct Describe;

impl Handler<Describe> for GroupActor {
    type Result = MessageResult<Describe>;
    fn handle(&mut self, _: Describe, _ctx: &mut Context<Self>) -> Self::Result {
        let now = self.now();
        let log_bytes = self.group.log_bytes() as u64;
        let status = self.group.status();
        let store = |id: ReplicaId| ReplicaAddress::of(id).store;
        let stores = |ids: &[ReplicaId]| ids.iter().map(|id| store(*id)).collect();
        let last = status.last.index;
        let peers = status.peers.iter().map(|peer| PeerLag {
            store: store(peer.replica),
            lag: last.get().saturating_sub(peer.matched.get()),
            answers: peer.answers(now, PEER_ACTIVE),
            fetches: peer.state == PeerState::Snapshot,
        });
        let configuration = &status.configuration;
        let incoming = configuration.learners.union(&configuration.learners_next);
        MessageResult(ReplicaStatus {
            group: self.key.group.get(),
            replica: self.key.replica.get(),
            role: match (self.stopped, status.role) {
                (true, _) => "stopped",
                (false, Role::Leader) => "leader",
                (false, Role::Follower) => "follower",
                (false, Role::PreCandidate | Role::Candidate) => "candidate",
            }
            .to_owned(),
            term: status.term.get(),
            leader: status.leader.map(store),
            serves: self.leadership.is_some()
                && (self.handing_over.to().is_none() || status.prepares.is_some()),
            hands_over_to: self.handing_over.to().or(status.transfer).map(store),
            commit: status.commit.get(),
            applied: status.applied.get(),
            last: last.get(),
            log_bytes,
            state_bytes: self.machine.bytes().unwrap_or(self.state_bytes),
            voters: stores(&configuration.voters),
            outgoing: stores(&configuration.outgoing),
            learners: stores(&incoming),
            peers: peers.collect(),
            rests: status.resting,
            goal: Vec::new(),
        })
    }
}
