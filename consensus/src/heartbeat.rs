//! How a leader shows that it is there, and notices when it is not.
//!
//! Here: heartbeats and their echoes, check-quorum, the notice of commits, the leader's timer. Not here: reads that use the echoes
//! (`read_index`). Only answers to the leader's own messages count as life: hearing others proves nothing (E19).
//! Source: Ongaro's thesis, 6.2 (check-quorum), 6.4; H14, H21.

use core::time::Duration;

use crate::group::Group;
use crate::message::Body;
use crate::output::Output;
use crate::progress::Feed;
use crate::{LogIndex, ReplicaId};

impl Group {
    pub(crate) fn tick_leader(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if leadership.notice_at.is_some_and(|at| self.now >= at.get()) {
            self.notice_commit();
        }
        let Some(leadership) = &self.leadership else {
            return;
        };
        if leadership.contact.is_due(self.now) {
            self.ask_newcomers();
        }
        let Some(leadership) = &self.leadership else {
            return;
        };
        let heartbeat_at = leadership.heartbeat_at.get();
        if self.resting || self.now < heartbeat_at {
            return;
        }
        // A leader that slept through its own beat asks first and judges at the next one: answers may be queued (E22).
        let slept = self.now - heartbeat_at > self.options.heartbeat_interval;
        let works = self.is_heard_by_quorum() && self.disk_moves();
        if !slept && !works {
            self.become_follower(self.term, None);
            return;
        }
        let before = self.now.saturating_sub(self.options.election_timeout * 4);
        let next_beat = self.next_beat();
        let leadership = self.leadership.as_mut().expect("looked at above");
        // Only here: a round for a read, just when a beat is due, is none; it judges nobody and repeats nothing.
        leadership.heartbeat_at = next_beat.into();
        leadership.forget_departed(&self.log.configuration().1, self.me, before);
        self.broadcast();
        self.repeat_shipments();
        self.repeat_handover();
        self.look_for_rest();
    }

    /// Check-quorum: a majority answered something that was sent within the last timeout (one beat more, so that a follower's
    /// timeout, not this one, is the first to end a working leadership).
    fn is_heard_by_quorum(&self) -> bool {
        let Some(leadership) = &self.leadership else {
            return false;
        };
        let horizon = self.silence_horizon();
        leadership
            .halves
            .agree(self.options.sabotage, true, |place| {
                leadership.peers[place].active_at.get() >= horizon
            })
    }

    /// Whoever last answered something that was sent before this is silent.
    pub(crate) fn silence_horizon(&self) -> Duration {
        self.now
            .saturating_sub(self.options.election_timeout + self.options.heartbeat_interval)
    }

    /// A leader whose disk hangs holds everybody up while its heartbeats look healthy (H21).
    fn disk_moves(&self) -> bool {
        self.ledger
            .oldest()
            .is_none_or(|since| self.now < since + self.options.disk_stall)
    }

    /// One heartbeat to everybody, in a new round.
    pub(crate) fn broadcast(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.round += 1;
        leadership.round_wanted = false;
        let round = leadership.round;
        for place in 0..leadership.peers.len() {
            let leadership = self.leadership.as_mut().expect("looked at above");
            let peer = &mut leadership.peers[place];
            let upto = match peer.feed {
                Feed::Replicate(_) => peer.next.previous(),
                Feed::Probe { .. } | Feed::Snapshot(_) => LogIndex::ZERO,
            };
            let commit = self.committed.min(peer.matched);
            peer.told_commit = peer.told_commit.max(commit);
            let to = peer.replica;
            self.send(
                to,
                Body::Heartbeat {
                    round,
                    sent: self.now,
                    upto,
                    commit,
                    known: self.committed,
                },
            );
        }
    }

    /// Tells followers of the commit index where no append did.
    fn notice_commit(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        leadership.notice_at = None;
        for place in 0..leadership.peers.len() {
            let leadership = self.leadership.as_mut().expect("looked at above");
            let peer = &mut leadership.peers[place];
            let commit = self.committed.min(peer.matched);
            if commit > peer.told_commit {
                peer.told_commit = commit;
                let to = peer.replica;
                self.send(to, Body::Committed { commit });
            }
        }
    }

    pub(crate) fn handle_heartbeat(
        &mut self,
        from: ReplicaId,
        round: u64,
        sent: Duration,
        upto: LogIndex,
        commit: LogIndex,
        known: LogIndex,
    ) {
        let last = self.log.last_index();
        if commit > last && self.installing.is_none() {
            // The leader names only what this replica acknowledged in this very term (H73).
            self.data_lost = true;
            self.outputs.push_back(Output::DataLost {
                acknowledged: commit,
                last,
            });
            return;
        }
        self.learn_commit(commit);
        if known > LogIndex::ZERO {
            // What was committed when the last heartbeat was sent had time to come since.
            if self.heard_committed > self.committed {
                self.caught_up_at = LogIndex::MAX;
            }
            self.heard_committed = known;
            self.compare_with_leader(known);
        }
        let matched = if self.may_promise() {
            self.durable_match()
        } else {
            LogIndex::ZERO
        };
        let received = self.verified;
        self.acknowledged = self.acknowledged.max(matched);
        let promised = self.promise_lease(from);
        self.send(
            from,
            Body::HeartbeatReply {
                round,
                sent,
                upto,
                received,
                matched,
                promised,
            },
        );
    }

    /// Returns whether it echoes something that was said here.
    pub(crate) fn handle_heartbeat_reply(
        &mut self,
        from: ReplicaId,
        round: u64,
        sent: Duration,
        upto: LogIndex,
        received: LogIndex,
        matched: LogIndex,
    ) -> bool {
        let (base, last) = (self.log.base().index, self.log.last_index());
        let Some(leadership) = &mut self.leadership else {
            return false;
        };
        let newest = leadership.round;
        let Some(peer) = leadership.peer(from) else {
            return false;
        };
        if round > newest || sent > self.now || received > last || matched > received {
            return false; // not an echo of anything said here
        }
        peer.active_at = peer.active_at.max(sent.into());
        peer.round = peer.round.max(round);
        if round <= peer.probed_in {
            // It may have been said before what was sent since could arrive.
            self.take_acknowledgement(from, matched);
            return true;
        }
        match &mut peer.feed {
            // Everything through `upto` was sent before this heartbeat, and did not arrive before it. (Or the follower restarted
            // and has yet to learn that its log is this one: then an empty append tells it.)
            Feed::Replicate(_) if received < upto => {
                let next = received.max(peer.matched).next();
                peer.probe(next);
            }
            Feed::Replicate(_) => {}
            // The logs are known to meet there: no need to search.
            Feed::Probe { .. } if received > LogIndex::ZERO && received >= base => {
                peer.replicate(received.next())
            }
            Feed::Probe { waiting } => *waiting = false,
            Feed::Snapshot(_) if received > LogIndex::ZERO && received >= base => {
                peer.probe(received.next())
            }
            Feed::Snapshot(_) => {}
        }
        self.handle_appended(from, matched);
        true
    }
}
