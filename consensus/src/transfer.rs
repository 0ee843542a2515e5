//! How a leader hands its place to a follower of its choice.
//!
//! Here: the handover: proposals are refused, the target is brought up to date, then told to campaign at once; bounded in time.
//! Source: Ongaro's thesis, 3.10; H16-H19.

use core::time::Duration;

use crate::error::TransferError;
use crate::group::Group;
use crate::message::Body;
use crate::options::Sabotage;
use crate::output::{Output, Role, TransferOutcome};
use crate::{ReplicaId, Term};

#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) to: ReplicaId,
    pub(crate) deadline: Duration,
    /// The term that is handed over.
    term: Term,
    told: bool,
}

impl Group {
    /// Hands leadership to the voter `to`: brings it up to date, refusing proposals meanwhile, then lets it campaign at once.
    /// Ends with `Output::TransferEnded` within one election timeout.
    pub fn transfer(&mut self, now: Duration, to: ReplicaId) -> Result<(), TransferError> {
        self.begin(now);
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        }
        if to == self.me {
            return Err(TransferError::AlreadyLeads { to });
        }
        match &self.handover {
            Some(handover) if handover.to == to => return Ok(()),
            Some(handover) => return Err(TransferError::UnderWay { to: handover.to }),
            None => {}
        }
        if !self.configuration().voters.contains(&to) {
            return Err(TransferError::NotVoter { to });
        }
        self.stir();
        let deadline = self.now + self.options.election_timeout;
        self.handover = Some(Box::new(Handover {
            to,
            deadline,
            term: self.term,
            told: false,
        }));
        Ok(())
    }

    /// Tells the target to campaign, once all that this leader has is durable there (H17).
    pub(crate) fn drive_handover(&mut self) {
        let last = self.log.last_index();
        let (Some(handover), Some(leadership)) = (&mut self.handover, &mut self.leadership) else {
            return;
        };
        let to = handover.to;
        if !handover.told && leadership.peer(to).is_some_and(|peer| peer.matched == last) {
            handover.told = true;
            leadership.lease_given_up = true; // H59
            self.send(to, Body::CampaignNow);
        }
    }

    /// With each heartbeat: the word may have been lost.
    pub(crate) fn repeat_handover(&mut self) {
        if let Some(handover) = &mut self.handover {
            handover.told = false;
        }
    }

    /// Only the leader of this very term may say so, and only a voter obeys (H16). Neither pre-vote nor stickiness applies (H18).
    pub(crate) fn handle_campaign_now(&mut self, from: ReplicaId) {
        if self.leader == Some(from) && self.may_campaign() {
            let term = self.term.next();
            self.campaign_for(term, true);
        }
    }

    /// Called at every change of role or leader: the next leader decides how the handover ended.
    pub(crate) fn resolve_handover(&mut self) {
        let Some(handover) = &self.handover else {
            return;
        };
        let outcome = match self.leader {
            Some(leader) if leader == handover.to => TransferOutcome::Moved,
            Some(leader) if leader == self.me && self.term == handover.term => return,
            Some(_) => TransferOutcome::Aborted,
            None => return, // the election is under way; the deadline bounds it
        };
        self.end_handover(outcome);
    }

    pub(crate) fn tick_handover(&mut self) {
        if self
            .handover
            .as_ref()
            .is_some_and(|handover| self.now >= handover.deadline)
        {
            if self.is_sabotaged(Sabotage::TransferForEver) {
                self.handover.as_mut().expect("it is due").deadline = Duration::MAX;
                return;
            }
            self.end_handover(TransferOutcome::TimedOut);
        }
    }

    fn end_handover(&mut self, outcome: TransferOutcome) {
        if let Some(handover) = self.handover.take() {
            self.outputs.push_back(Output::TransferEnded {
                to: handover.to,
                outcome,
            });
        }
    }
}
