//! The claims of this node: which groups rest between it and others.
//!
//! Here: [`Shared::claims`], the one door to the pure machine ([`Claims`]) for group actors, for the thread of the beats and for what
//! arrives; and the messages that it sends to group actors. Not here: when a group rests (`synod-consensus`), the beats themselves
//! (`node::beats`).

use std::sync::Mutex;

use actix::Handler;
use synod_consensus::claims::{Asked, Claims, ClaimsOutput};
use synod_consensus::{Claim, ReplicaId};

use super::actor::{GroupActor, PeerSilent};
use super::machine::lock;
use super::shared::Shared;
use crate::node::NodeFrame;
use crate::system::ReplicaAddress;
use crate::transport::Lane;

impl Shared {
    /// Tells the claims something, and carries out what they want done. Never call it while the registry is locked.
    pub(crate) fn claims<R>(&self, input: impl FnOnce(&mut Claims) -> R) -> R {
        // What goes to one node goes in the order in which it was put out, so the lock is held until it is handed over.
        let mut claims = lock(&self.claims);
        let result = input(&mut claims);
        while let Some(output) = claims.poll_output() {
            match output {
                ClaimsOutput::Send { to, news } => {
                    // Refused: there is no connection, or it is full. The beats show that it did not arrive.
                    let frame = NodeFrame::claims(&news);
                    let _refused = self.transport.send(to, Lane::Request, vec![frame]);
                }
                ClaimsOutput::Ask(asked) => match self.registry.of_key(asked.replica()) {
                    Some(hosted) => hosted.group.do_send(TakeClaim(asked)),
                    None => claims.answered(asked, false),
                },
                ClaimsOutput::Taken { claim, by } => {
                    if let Some(hosted) = self.registry.of_key(claim.leads()) {
                        hosted.group.do_send(ClaimTaken { claim, by });
                    }
                }
                ClaimsOutput::Rouse(here) => {
                    if let Some(hosted) = self.registry.of_key(here) {
                        hosted.group.do_send(Rouse);
                    }
                }
                ClaimsOutput::Silent { here, leader } => {
                    if let Some(hosted) = self.registry.of_key(here) {
                        let store = ReplicaAddress::of(leader).store;
                        hosted.group.do_send(PeerSilent(store));
                    }
                }
                other => tracing::warn!(?other, "output of newer claims is not handled"),
            }
        }
        result
    }
}

/// The machine, shared by all threads of a node.
pub(crate) type SharedClaims = Mutex<Claims>;

/// Another node claims this replica for a leader there.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct TakeClaim(Asked);

impl Handler<TakeClaim> for GroupActor {
    type Result = ();
    fn handle(&mut self, TakeClaim(asked): TakeClaim, ctx: &mut Self::Context) {
        let mut rests = false;
        self.drive(ctx, |group, now| {
            rests = group.take_claim(now, &asked.claim)
        });
        self.shared().claims(|claims| claims.answered(asked, rests));
    }
}

/// A follower holds the claim of this leader.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ClaimTaken {
    claim: Claim,
    by: ReplicaId,
}

impl Handler<ClaimTaken> for GroupActor {
    type Result = ();
    fn handle(&mut self, ClaimTaken { claim, by }: ClaimTaken, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| group.claim_taken(now, &claim, by));
    }
}

/// This replica should not rest any more.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Rouse;

impl Handler<Rouse> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: Rouse, ctx: &mut Self::Context) {
        self.drive(ctx, |group, now| group.rouse(now));
    }
}
