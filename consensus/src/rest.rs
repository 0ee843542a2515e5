//! How a group with nothing to do falls silent, and wakes.
//!
//! Here, on the leader: when there is nothing to do for a while it asks to claim its followers ([`Output::Claim`]); when all that answer
//! hold its claim it rests: no heartbeat, no timer. On the follower: under a claim it has no timer either, and stands by the claim's
//! leader for as long as it rests. Who carries the claims, and notices when one of them no longer stands, is the node
//! ([`crate::claims`]); everything that a group does wakes it by itself.
//!
//! Nothing that must never happen depends on this. A claim gives no lease: what a leader reads by are promises that came with answers to
//! its heartbeats, and those run out while it rests. A follower under a claim that is no longer true is late to look for a leader, and no
//! more than that; the node bounds how late.
//! Source: DESIGN section 9.

use core::time::Duration;

use crate::group::Group;
use crate::message::Body;
use crate::options::Sabotage;
use crate::output::{Output, Role};
use crate::progress::Feed;
use crate::{GroupId, LogIndex, ReplicaId, ReplicaKey, Term};

use serde::{Deserialize, Serialize};

/// "I lead this group in this term, its log ends there, and all of it is committed."
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// The group.
    #[serde(rename = "g")]
    pub group: GroupId,
    /// The term of the leader.
    #[serde(rename = "t")]
    pub term: Term,
    /// The leader's replica.
    #[serde(rename = "r")]
    pub leader: ReplicaId,
    /// The last entry of its log; committed.
    #[serde(rename = "l")]
    pub last: LogIndex,
}

impl Claim {
    /// The replica that leads.
    pub fn leads(&self) -> ReplicaKey {
        ReplicaKey {
            group: self.group,
            replica: self.leader,
        }
    }
}

/// What the followers are to a leader that would rest.
struct Flock {
    /// They answer, and have everything.
    ready: Vec<ReplicaId>,
    /// They are silent.
    absent: Vec<ReplicaId>,
}

/// The leader's side.
impl Group {
    /// With each heartbeat: whether it is time to rest.
    pub(crate) fn look_for_rest(&mut self) {
        let after = self.options.rest_after;
        if after == 0 {
            return;
        }
        let flock = self.flock();
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(flock) = flock else {
            leadership.quiet = 0;
            return;
        };
        leadership.quiet += 1;
        // What was claimed before, and not taken by all, is claimed anew: an answer may be lost.
        if leadership.quiet >= after {
            leadership.quiet = 0;
            leadership.claimed = true;
            for peer in &mut leadership.peers {
                peer.rests = false;
            }
            if flock.ready.is_empty() {
                self.go_to_rest(flock.absent);
                return;
            }
            let claim = self.claim();
            let holders = flock.ready;
            self.outputs.push_back(Output::Claim { claim, holders });
        }
    }

    fn claim(&self) -> Claim {
        Claim {
            group: self.id,
            term: self.term,
            leader: self.me,
            last: self.log.last_index(),
        }
    }

    /// `None` while there is anything to do.
    fn flock(&self) -> Option<Flock> {
        let leadership = self.leadership.as_deref()?;
        let last = self.log.last_index();
        let (index, configuration) = self.log.configuration();
        let settled = leadership.evaluation_announced
            && self.committed == last
            && self.applied == last
            && self.ledger.oldest().is_none()
            && *index <= self.committed
            && !configuration.is_joint()
            && leadership.notice_at.is_none()
            && leadership.has_no_reads()
            && leadership.ships_nothing()
            && self.handover.is_none();
        if !settled {
            return None;
        }
        let horizon = self.silence_horizon();
        let mut flock = Flock {
            ready: Vec::with_capacity(leadership.peers.len()),
            absent: Vec::new(),
        };
        for peer in &leadership.peers {
            if peer.departed_at.is_some() {
                return None;
            }
            if peer.active_at.get() < horizon {
                flock.absent.push(peer.replica);
                continue;
            }
            let told = peer.matched == last && peer.told_commit == last;
            if !told || !matches!(peer.feed, Feed::Replicate(_)) {
                return None;
            }
            flock.ready.push(peer.replica);
        }
        let agrees = |place: usize| leadership.peers[place].active_at.get() >= horizon;
        let quorum = leadership.halves.agree(self.options.sabotage, true, agrees);
        (quorum && configuration.voters.contains(&self.me)).then_some(flock)
    }

    /// The follower `by` holds `claim` and rests.
    pub fn claim_taken(&mut self, now: Duration, claim: &Claim, by: ReplicaId) {
        self.begin(now);
        if *claim != self.claim() || self.resting {
            return;
        }
        let flock = self.flock();
        let (Some(leadership), Some(flock)) = (&mut self.leadership, flock) else {
            return;
        };
        if !leadership.claimed {
            return;
        }
        if let Some(peer) = leadership.peer(by) {
            peer.rests = true;
        }
        let rests = |replica: &ReplicaId| leadership.peer(*replica).is_some_and(|peer| peer.rests);
        if flock.ready.iter().all(rests) {
            self.go_to_rest(flock.absent);
        }
    }

    fn go_to_rest(&mut self, without: Vec<ReplicaId>) {
        self.resting = true;
        self.outputs.push_back(Output::Rests { without });
    }

    /// There is something to do. A leader that rests says so to everybody at once, and holds nobody's rest against him.
    pub(crate) fn stir(&mut self) {
        let now = self.now;
        let by_beats = self.is_sabotaged(Sabotage::LeaseFromBeats);
        let lease = self.options.lease;
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.quiet = 0;
        if !core::mem::take(&mut leadership.claimed) {
            return;
        }
        let rested = core::mem::take(&mut self.resting);
        for peer in &mut leadership.peers {
            // Those that were silent before still are: a majority was not.
            if core::mem::take(&mut peer.rests) && rested {
                peer.active_at = now.into();
                if by_beats {
                    peer.promised_until = (now + lease).into();
                }
            }
        }
        if rested {
            leadership.heartbeat_at = now.into();
        }
        self.outputs.push_back(Output::Unclaimed);
    }

    /// Whether a message to a leader that rests is somebody's need of it.
    pub(crate) fn stirred_by(&mut self, from: ReplicaId, body: &Body) {
        let asks = matches!(
            body,
            Body::PreVote { .. }
                | Body::Vote { .. }
                | Body::ReadRequest { .. }
                | Body::Conflict { .. }
        );
        let asks = asks && !self.is_sabotaged(Sabotage::RestsDeaf);
        if asks && self.role == Role::Leader && self.configuration().contains(from) {
            self.stir();
        }
    }
}

/// The follower's side.
impl Group {
    /// Takes a claim: from now on this replica has no timer, helps nobody else to lead, and wakes by whatever its leader sends, by
    /// another term, or by [`Group::rouse`] and [`Group::peer_silent`]. Returns whether the claim is true of this replica, which
    /// then rests; otherwise it does not rest under another one either.
    pub fn take_claim(&mut self, now: Duration, claim: &Claim) -> bool {
        self.begin(now);
        let last = self.log.last_index();
        let true_here = self.role == Role::Follower
            && self.leader == Some(claim.leader)
            && self.term == claim.term
            && self.id == claim.group
            && claim.last == last
            && self.verified >= last
            && self.has_all_applied()
            && self.ledger.oldest().is_none()
            && self.may_promise()
            && self.installing.is_none()
            && self.gathering.is_none()
            && self.has_no_follower_reads()
            && !self.is_suspicious();
        if true_here {
            self.compare_with_leader(claim.last);
            self.resting = true;
            self.heard_from_leader();
        } else {
            self.rouse(now);
        }
        true_here
    }

    fn has_all_applied(&self) -> bool {
        let last = self.log.last_index();
        self.committed == last && self.applied == last && self.ledger.persisted >= last
    }

    /// The claim does not stand any more, or the leader's node wants to know something: a follower waits for its leader as if it had
    /// heard it just now; a leader stirs.
    pub fn rouse(&mut self, now: Duration) {
        self.begin(now);
        if self.role == Role::Leader {
            self.stir();
        } else if core::mem::take(&mut self.resting) {
            self.heard_from_leader();
        }
    }

    /// After each message: whether it brought something that a claim knew nothing of.
    pub(crate) fn wake_if_news(&mut self) {
        if self.resting
            && self.role != Role::Leader
            && !(self.has_all_applied() && self.gathering.is_none())
        {
            self.resting = false;
            self.heard_from_leader();
        }
    }

    /// Whether this replica rests: as a leader that needs no heartbeats, or as a follower under a claim.
    pub fn is_resting(&self) -> bool {
        self.resting
    }
}
