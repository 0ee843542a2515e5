//! How a leader hands its place to a follower of its choice.
//!
//! Here: the handover: proposals are refused, the target is brought up to date, then told to campaign at once; bounded in time. Before
//! it, if the caller wishes, an approach in rounds, during which proposals are taken.
//! Source: Ongaro's thesis, 3.10 and, for the rounds, 4.2.1; H16-H19.

use core::time::Duration;

use crate::error::TransferError;
use crate::group::Group;
use crate::message::Body;
use crate::options::Sabotage;
use crate::output::{Output, Role, TransferOutcome};
use crate::{LogIndex, ReplicaId, Term};

#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) to: ReplicaId,
    pub(crate) deadline: Duration,
    /// The term that is handed over.
    term: Term,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The target is brought near the log's end, which moves on meanwhile.
    Approach(Round),
    /// Nothing is added to the log.
    Rest { told: bool },
}

/// The entries from the log's end at one moment to the log's end when the target held those (thesis, 4.2.1).
#[derive(Debug)]
struct Round {
    goal: LogIndex,
    since: Duration,
    /// What the one before took.
    before: Option<Duration>,
}

impl Round {
    /// The target holds everything through `matched`. Returns whether it is as near as it gets: nothing is missing, or a round
    /// took no less than half of the one before, so that the next one, which is the pause, will take as long. Never when that is longer
    /// than `longest`.
    fn is_last(
        &mut self,
        matched: LogIndex,
        last: LogIndex,
        now: Duration,
        longest: Duration,
    ) -> bool {
        if matched < self.goal {
            return false;
        }
        let took = now.saturating_sub(self.since);
        let goes_on = took > longest || self.before.is_none_or(|before| took * 2 < before);
        *self = Self {
            goal: last,
            since: now,
            before: Some(took),
        };
        matched == last || !goes_on
    }
}

impl Group {
    /// Brings the voter `to` as near to the log's end as it gets while proposals are taken, so that the pause of a `transfer` is short, at
    /// most about a quarter of an election timeout, or half of one if it comes no nearer. Ends within one election timeout: with
    /// `Output::TransferPrepared`, and it is the caller's turn, or with `Output::TransferEnded`. It gives way to a preparation for
    /// another target, and to a `transfer`.
    pub fn prepare_transfer(&mut self, now: Duration, to: ReplicaId) -> Result<(), TransferError> {
        self.begin(now);
        self.make_way(to)?;
        if self.handover.is_none() {
            let round = Round {
                goal: self.log.last_index(),
                since: self.now,
                before: None,
            };
            self.begin_handover(to, Stage::Approach(round));
        }
        Ok(())
    }

    /// Hands leadership to the voter `to`: brings it up to date, refusing proposals meanwhile, then lets it campaign at once.
    /// Ends with `Output::TransferEnded` within one election timeout.
    pub fn transfer(&mut self, now: Duration, to: ReplicaId) -> Result<(), TransferError> {
        self.begin(now);
        self.make_way(to)?;
        if self.hands_over_to().is_none() {
            self.begin_handover(to, Stage::Rest { told: false });
        }
        Ok(())
    }

    /// What is only prepared for another one costs nothing and gives way.
    fn make_way(&mut self, to: ReplicaId) -> Result<(), TransferError> {
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        }
        if to == self.me {
            return Err(TransferError::AlreadyLeads { to });
        }
        if !self.configuration().voters.contains(&to) {
            return Err(TransferError::NotVoter { to });
        }
        if let Some(other) = self.hands_over_to().filter(|other| *other != to) {
            return Err(TransferError::UnderWay { to: other });
        }
        if self.prepares().is_some_and(|other| other != to) {
            self.end_handover(TransferOutcome::Aborted);
        }
        Ok(())
    }

    fn begin_handover(&mut self, to: ReplicaId, stage: Stage) {
        self.stir();
        self.handover = Some(Box::new(Handover {
            to,
            deadline: self.now + self.options.election_timeout,
            term: self.term,
            stage,
        }));
    }

    /// Whom the log rests for: nothing is added to it.
    pub(crate) fn hands_over_to(&self) -> Option<ReplicaId> {
        let handover = self.handover.as_ref()?;
        matches!(handover.stage, Stage::Rest { .. }).then_some(handover.to)
    }

    /// Who is brought near.
    pub(crate) fn prepares(&self) -> Option<ReplicaId> {
        let handover = self.handover.as_ref()?;
        matches!(handover.stage, Stage::Approach(_)).then_some(handover.to)
    }

    /// Tells the target to campaign, once all that this leader has is durable there (H17); or the caller that it is near.
    pub(crate) fn drive_handover(&mut self) {
        let last = self.log.last_index();
        let longest = self.options.election_timeout / 4;
        let (Some(handover), Some(leadership)) = (&mut self.handover, &mut self.leadership) else {
            return;
        };
        let to = handover.to;
        let Some(matched) = leadership.peer(to).map(|peer| peer.matched) else {
            return;
        };
        match &mut handover.stage {
            Stage::Approach(round) => {
                if round.is_last(matched, last, self.now, longest) {
                    self.end_preparation();
                }
            }
            Stage::Rest { told } => {
                if !*told && matched == last {
                    *told = true;
                    leadership.lease_given_up = true; // H59
                    self.send(to, Body::CampaignNow);
                }
            }
        }
    }

    /// With each heartbeat: the word may have been lost.
    pub(crate) fn repeat_handover(&mut self) {
        if let Some(handover) = &mut self.handover
            && let Stage::Rest { told } = &mut handover.stage
        {
            *told = false;
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
            if self.comes_slowly() {
                self.end_preparation();
            } else {
                self.end_handover(TransferOutcome::TimedOut);
            }
        }
    }

    /// Whether the target's rounds take long, but no longer than a transfer bears: if it is to lead, better so than never.
    fn comes_slowly(&self) -> bool {
        let most = self.options.election_timeout / 2;
        let stage = self.handover.as_ref().map(|handover| &handover.stage);
        let Some(Stage::Approach(round)) = stage else {
            return false;
        };
        round.before.is_some_and(|took| took <= most)
            && self.now.saturating_sub(round.since) <= most
    }

    /// The target is near: it is the caller's turn.
    fn end_preparation(&mut self) {
        if let Some(handover) = self.handover.take() {
            let to = handover.to;
            self.outputs.push_back(Output::TransferPrepared { to });
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
