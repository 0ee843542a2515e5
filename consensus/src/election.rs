//! Who leads: timeouts, pre-vote, votes.
//!
//! Here: when a replica campaigns, what it asks, what it grants. Not here: how a leader keeps its place (`heartbeat`), how it gives
//! it away (`transfer`). Source: Raft paper 5.2, 5.4.1; Ongaro's thesis, 9.6 (pre-vote) and 4.2.3 (stickiness); H1-H5, E33.

use core::time::Duration;

use crate::group::Group;
use crate::message::Body;
use crate::nanos::Nanos;
use crate::options::Sabotage;
use crate::output::{Output, Role};
use crate::quorum::{self, Verdict};
use crate::{LogIndex, Position, ReplicaId, Term};

/// Chance from a seed: SplitMix64, because a generator per group has to be small (eight bytes) and only spreads timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A time below `bound`.
    pub(crate) fn below(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.next() % nanos)
    }
}

/// How often the wait for the next round doubles at most.
const DOUBLED_MAX: u8 = 8;

/// When this replica campaigns, and how the campaign goes.
#[derive(Debug)]
pub(crate) struct Campaign {
    draw: Draw,
    /// When the next campaign begins, unless a leader is heard before.
    pub(crate) at: Nanos,
    /// The present timeout; redrawn per election.
    patience: Nanos,
    /// The term that the last `Output::Role` named.
    announced: Term,
    /// Place among the voters that could succeed the leader, rotated by group id so that the groups of a dead node spread over
    /// the survivors (E33).
    rank: u32,
    /// Who led last, as far as this replica knows.
    former: Option<ReplicaId>,
    /// When the leader was last heard.
    heard_at: Option<Nanos>,
    /// A failure detector says that the leader is silent.
    suspected: bool,
    /// Rounds in which votes were asked for since a leader was known.
    rounds: u8,
    /// Who should lead if all are equally ready.
    preferred: Option<ReplicaId>,
    /// The present round; `None` while this replica does not campaign.
    ballots: Option<Box<Ballots>>,
    /// A vote was given, and is to be told when it is durable.
    granted: bool,
}

/// A round of this replica's own campaign. Each begins with an empty one (H9).
#[derive(Debug, Default)]
struct Ballots {
    /// The answers.
    votes: Vec<(ReplicaId, bool)>,
    /// Requests for votes wait until the candidate's own vote is durable; here is whether they are for a transfer.
    request: Option<bool>,
}

impl Campaign {
    pub(crate) fn new(draw: Draw, now: Duration) -> Self {
        Self {
            draw,
            at: now.into(),
            patience: Nanos::ZERO,
            announced: Term::ZERO,
            rank: 0,
            former: None,
            heard_at: None,
            suspected: false,
            rounds: 0,
            preferred: None,
            ballots: None,
            granted: false,
        }
    }

    /// A number for one life of a replica.
    pub(crate) fn draw_life(&mut self) -> u64 {
        self.draw.next()
    }

    /// It was won, lost or overtaken.
    pub(crate) fn end(&mut self) {
        self.ballots = None;
    }

    fn votes(&self) -> &[(ReplicaId, bool)] {
        self.ballots.as_ref().map_or(&[], |ballots| &ballots.votes)
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub(crate) fn ballots(&self) -> usize {
        self.votes().len()
    }
}

impl Group {
    /// Only a voter campaigns (H16), and not while its state is being replaced. One that an uncommitted configuration leaves out
    /// still does: its log may be the only one long enough to win, and then to commit that very configuration (Ongaro's thesis
    /// 4.2.2). Votes are counted under the effective configuration all the same (H42).
    pub(crate) fn may_campaign(&self) -> bool {
        if self.role == Role::Leader || self.data_lost || self.installing.is_some() {
            return false;
        }
        for (index, configuration) in self.log.configurations().iter().rev() {
            if configuration.is_voter(self.me) {
                return true;
            }
            if *index <= self.committed {
                return false;
            }
        }
        false
    }

    pub(crate) fn is_sole_voter(&self) -> bool {
        let configuration = self.configuration();
        !configuration.is_joint()
            && configuration.voters.len() == 1
            && configuration.voters.contains(&self.me)
    }

    /// Who led last goes last: it is dead, or stepped down for a reason. But voters that do not know the same of that may have the same
    /// rank, so from the second round on all count.
    pub(crate) fn derive_rank(&mut self) {
        let voters = &self.log.configuration().1.voters;
        let last = match self.campaign.rounds {
            0 | 1 => self.leader.or(self.campaign.former),
            _ => self.leader,
        };
        let heirs = || voters.iter().filter(|voter| Some(**voter) != last);
        if last == Some(self.me) {
            self.campaign.rank = u32::try_from(heirs().count()).expect("there are few voters");
            return;
        }
        let place = heirs().position(|voter| *voter == self.me).unwrap_or(0) as u64;
        let count = (heirs().count() as u64).max(1);
        let turned = |place: u64| (place + self.id.get() % count) % count;
        let rank = match heirs().position(|voter| Some(*voter) == self.campaign.preferred) {
            // The preferred one goes first; those who went before it move back by one, and nobody waits for more than one rank.
            Some(first) if first as u64 == place => 0,
            Some(first) if turned(place) < turned(first as u64) => turned(place) + 1,
            Some(_) | None => turned(place),
        };
        self.campaign.rank = u32::try_from(rank).expect("ranks are below the number of voters");
    }

    /// In the first round ranks stay apart by two thirds of a step, the time in which the one before finds its majority. Those of the same
    /// rank are drawn further apart with each round that they spoil each other.
    fn stagger(&mut self) -> Duration {
        let step = self.options.election_stagger;
        let thirds = u32::from(self.campaign.rounds).clamp(1, 3);
        step * self.campaign.rank + self.campaign.draw.below(step / 3 * thirds)
    }

    /// A new timeout, counted from now.
    fn redraw(&mut self, base: Duration) {
        let patience = base + self.stagger();
        self.campaign.patience = patience.into();
        self.campaign.at = (self.now + patience).into();
    }

    /// After a start a leader may be there: one heartbeat's time to hear it; pre-vote protects it from those who did not. A sole
    /// voter has nobody to wait for.
    pub(crate) fn arm_first_election(&mut self) {
        if self.is_sole_voter() {
            self.campaign.at = self.now.into();
        } else {
            let base = self.options.heartbeat_interval;
            self.redraw(base);
        }
    }

    fn arm_election(&mut self) {
        let base = self.options.election_timeout;
        self.redraw(base);
    }

    /// A round got no answers. Asking again is cheap and, by pre-vote, harmless, so the wait is shorter.
    fn arm_retry(&mut self) {
        let base = self.options.election_timeout / 3;
        self.redraw(base);
    }

    pub(crate) fn heard_from_leader(&mut self) {
        self.campaign.heard_at = Some(self.now.into());
        self.campaign.suspected = false;
        self.campaign.at = (self.now + self.campaign.patience.get()).into();
    }

    /// Whether this replica has reason to think that a leader is at work, and so helps nobody to replace it. A leader is its own
    /// reason: check-quorum makes it step down when it no longer is one.
    fn is_sticky(&self) -> bool {
        match self.role {
            Role::Leader => true,
            Role::Follower if self.resting => true,
            Role::Follower => {
                let heard = self
                    .campaign
                    .heard_at
                    .is_some_and(|at| self.now < at.get() + self.options.election_timeout);
                self.leader.is_some() && heard && !self.campaign.suspected
            }
            Role::PreCandidate | Role::Candidate => false,
        }
    }

    /// Who should lead if it can: at the next election it goes first. Only the order of the timeouts changes; nobody refuses a
    /// vote for it, so a preferred replica that is gone costs at most one `election_stagger` per election.
    pub fn prefer(&mut self, now: Duration, preferred: Option<ReplicaId>) {
        self.begin(now);
        if self.campaign.preferred != preferred {
            self.campaign.preferred = preferred;
            let before = self.campaign.rank;
            self.derive_rank();
            if self.campaign.rank != before
                && self.leader.is_some()
                && let Some(heard_at) = self.campaign.heard_at
                && !self.campaign.suspected
            {
                // The timeout that runs was drawn for the former place.
                let patience = self.options.election_timeout + self.stagger();
                self.campaign.patience = patience.into();
                self.campaign.at = (heard_at.get() + patience).into();
            }
        }
    }

    /// Whether a failure detector speaks against the leader.
    pub(crate) fn is_suspicious(&self) -> bool {
        self.campaign.suspected
    }

    /// Whether stickiness speaks against helping `candidate`. A leader that asks for votes says itself that it leads no more, so
    /// standing by it is no reason to refuse it (H12): before its reign it cannot have asked for the term after it.
    pub(crate) fn stands_by_another(&self, candidate: ReplicaId) -> bool {
        self.leader != Some(candidate) && self.is_sticky()
    }

    /// The failure detector suspects `peer`: if it leads, stickiness ends and this replica campaigns by its rank. Never evidence
    /// for a vote.
    pub fn peer_silent(&mut self, now: Duration, peer: ReplicaId) {
        self.begin(now);
        if self.role == Role::Follower && self.leader == Some(peer) && !self.campaign.suspected {
            self.rouse(now);
            self.campaign.suspected = true;
            // Ranks stay apart behind a promise, too.
            let soon = self.now.max(self.free_at()) + self.stagger();
            self.campaign.at = self.campaign.at.min(soon.into());
        }
    }

    /// Campaigns at once (pre-vote first) or, if a promise forbids it, as soon as that ends; for operators and tests.
    pub fn campaign(&mut self, now: Duration) {
        self.begin(now);
        self.rouse(now);
        if self.is_bound_against(self.me) {
            let soon = self.free_at() + self.stagger();
            self.campaign.at = self.campaign.at.min(soon.into());
        } else if self.may_campaign() {
            self.pre_campaign();
        }
    }

    pub(crate) fn tick_election(&mut self) {
        if self.resting || !self.may_campaign() || self.now < self.campaign.at.get() {
            return;
        }
        let late = self.now - self.campaign.at.get();
        if late > self.options.heartbeat_interval
            && self.role == Role::Follower
            && self.leader.is_some()
        {
            // The process slept through its own timeout: what the leader said meanwhile may still be queued (E22).
            self.campaign.at = (self.now + self.options.heartbeat_interval).into();
            return;
        }
        if self.is_bound_against(self.me) {
            self.campaign.at = (self.free_at() + self.stagger()).into();
            return;
        }
        self.pre_campaign();
    }

    /// Begins a later term. What was known of the leader's log or promised belonged to the earlier one. (What was gathered of a
    /// snapshot does not: it stands for what is committed.)
    fn enter_term(&mut self, term: Term) {
        assert!(
            term > self.term,
            "Monotone Term: {term} after {}",
            self.term
        );
        self.term = term;
        self.vote = None;
        self.verified = LogIndex::ZERO;
        self.acknowledged = LogIndex::ZERO;
        self.acknowledge = false;
        self.campaign.granted = false;
    }

    /// Moves to `term` (or stays in it) as a follower. Within a term the vote stays (H1).
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<ReplicaId>) {
        if term != self.term {
            self.enter_term(term);
        }
        if self.is_sabotaged(Sabotage::VoteForgotten) {
            self.vote = None;
        }
        let deposed = self.role == Role::Leader;
        self.campaign.end();
        self.end_leadership();
        self.set_role(Role::Follower, leader);
        if deposed {
            self.arm_election();
        }
    }

    pub(crate) fn set_role(&mut self, role: Role, leader: Option<ReplicaId>) {
        let now = (role, self.term, leader);
        let changed = now != (self.role, self.campaign.announced, self.leader);
        if changed && core::mem::take(&mut self.resting) {
            self.arm_election();
            self.outputs.push_back(Output::Unclaimed);
        }
        if changed {
            self.caught_up_at = LogIndex::MAX;
            self.heard_committed = LogIndex::ZERO;
        }
        self.role = role;
        self.campaign.announced = self.term;
        if self.leader != leader {
            self.forget_questions();
            let before = core::mem::replace(&mut self.leader, leader);
            self.campaign.former = before.or(self.campaign.former);
            self.campaign.heard_at = None;
            self.campaign.suspected = false;
            if leader.is_some() {
                self.campaign.rounds = 0;
            }
            self.derive_rank();
            if leader.is_some() && role == Role::Follower {
                self.arm_election();
            }
        }
        if changed {
            self.outputs.push_back(Output::Role {
                role,
                term: self.term,
                leader,
            });
        }
        self.resolve_handover();
    }

    fn pre_campaign(&mut self) {
        self.campaign.rounds = self.campaign.rounds.saturating_add(1);
        if self.campaign.rounds == 2 {
            self.derive_rank();
        }
        self.campaign.ballots = Some(Box::new(Ballots {
            votes: vec![(self.me, true)],
            request: None,
        }));
        self.set_role(Role::PreCandidate, None);
        self.arm_retry();
        match self.count_votes() {
            Verdict::Won => self.campaign_for(self.term.next(), false),
            Verdict::Lost | Verdict::Open => {
                let body = Body::PreVote {
                    campaign: self.term.next(),
                    last: self.last(),
                };
                self.ask_voters(&body);
            }
        }
    }

    /// Enters `term` as a candidate. The requests follow when the vote for itself is durable: a candidate that forgot its term
    /// could otherwise ask twice in it, the second time with a shorter log (H2).
    pub(crate) fn campaign_for(&mut self, term: Term, transfer: bool) {
        self.enter_term(term);
        self.vote = Some(self.me);
        self.campaign.ballots = Some(Box::new(Ballots {
            votes: Vec::new(),
            request: Some(transfer),
        }));
        self.set_role(Role::Candidate, None);
        self.arm_retry();
    }

    /// Called when term and vote are durable.
    pub(crate) fn ask_for_votes(&mut self) {
        let Some(ballots) = &mut self.campaign.ballots else {
            return;
        };
        let Some(transfer) = ballots.request.take() else {
            return;
        };
        ballots.votes.push((self.me, true));
        if self.count_votes() == Verdict::Won {
            self.become_leader();
            return;
        }
        let body = Body::Vote {
            last: self.last(),
            transfer,
        };
        self.ask_voters(&body);
    }

    fn ask_voters(&mut self, body: &Body) {
        let configuration = self.configuration();
        for voter in configuration.voters.union(&configuration.outgoing) {
            if voter != self.me {
                self.send(voter, body.clone());
            }
        }
    }

    fn count_votes(&self) -> Verdict {
        quorum::verdict(
            self.configuration(),
            self.campaign.votes(),
            self.options.sabotage,
        )
    }

    fn tally(&mut self, from: ReplicaId, granted: bool) -> Verdict {
        // The log stands still during a campaign, and the voters with it: others need no place among the votes.
        let known = self
            .campaign
            .votes()
            .iter()
            .any(|(voter, _)| *voter == from);
        if !known
            && self.configuration().is_voter(from)
            && let Some(ballots) = &mut self.campaign.ballots
        {
            ballots.votes.push((from, granted));
        }
        self.count_votes()
    }

    /// Whether a candidate's log holds everything that could be committed (Raft paper 5.4.1; H5).
    fn is_up_to_date(&self, last: Position) -> bool {
        last >= self.last() || self.is_sabotaged(Sabotage::AnyLogWins)
    }

    /// Answers without changing anything (H11). A learner answers too: the asker's configuration may be newer (H4).
    pub(crate) fn handle_pre_vote(&mut self, from: ReplicaId, campaign: Term, last: Position) {
        let granted = campaign > self.term
            && !self.stands_by_another(from)
            && !self.is_bound_against(from)
            && self.is_up_to_date(last);
        self.send(from, Body::PreVoteReply { campaign, granted });
    }

    pub(crate) fn handle_pre_vote_reply(&mut self, from: ReplicaId, campaign: Term, granted: bool) {
        if self.role != Role::PreCandidate || campaign != self.term.next() {
            return; // another round (H10, H13)
        }
        match self.tally(from, granted) {
            Verdict::Won => self.campaign_for(campaign, false),
            Verdict::Lost => self.lose(),
            Verdict::Open if !granted => self.ask_again_soon(),
            Verdict::Open => {}
        }
    }

    pub(crate) fn handle_vote(
        &mut self,
        from: ReplicaId,
        term: Term,
        last: Position,
        transfer: bool,
    ) {
        if term < self.term {
            self.send(from, Body::VoteReply { granted: false });
            return;
        }
        let free = match self.vote {
            Some(vote) => vote == from,
            None => transfer || !self.is_bound_against(from),
        };
        if free && self.leader.is_none() && self.is_up_to_date(last) {
            if self.role == Role::PreCandidate {
                self.become_follower(self.term, None);
            }
            self.vote = Some(from);
            self.campaign.granted = true;
            self.arm_election();
        } else {
            self.send(from, Body::VoteReply { granted: false });
        }
    }

    /// Called when term and vote are durable.
    pub(crate) fn promise_vote(&mut self) {
        if core::mem::take(&mut self.campaign.granted)
            && let Some(candidate) = self.vote
        {
            self.send(candidate, Body::VoteReply { granted: true });
        }
    }

    pub(crate) fn handle_vote_reply(&mut self, from: ReplicaId, granted: bool) {
        let waits = |ballots: &Ballots| ballots.request.is_some();
        if self.role != Role::Candidate || self.campaign.ballots.as_deref().is_none_or(waits) {
            return;
        }
        match self.tally(from, granted) {
            Verdict::Won => self.become_leader(),
            Verdict::Lost => self.lose(),
            Verdict::Open if !granted => self.ask_again_soon(),
            Verdict::Open => {}
        }
    }

    /// One refused, and the others, among them perhaps a dead leader, may never answer. What comes to a pre-vote after that counts all the
    /// same.
    fn ask_again_soon(&mut self) {
        let soon = self.now + self.patience_after_refusal() + self.stagger();
        self.campaign.at = self.campaign.at.min(soon.into());
    }

    /// The others answered and refused: some still hoped for the old leader, or votes split.
    fn lose(&mut self) {
        self.become_follower(self.term, None);
        let base = self.patience_after_refusal();
        self.redraw(base);
    }

    /// One of those who refused will soon be ready, and ranks keep the next round apart. Who is refused again and again, because it alone
    /// cannot hear the leader, asks less and less often, but still as often as one that is not answered.
    fn patience_after_refusal(&self) -> Duration {
        let first = self.options.election_stagger / 3;
        let doubled = self.campaign.rounds.saturating_sub(1).min(DOUBLED_MAX);
        let most = self.options.election_timeout / 3;
        most.min(first * (1 << doubled))
    }
}
