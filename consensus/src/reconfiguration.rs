//! How a group changes its members.
//!
//! Here: when a change may begin, leaving joint configurations, what a commit of a configuration means for those it no longer
//! names. Not here: the sets (`configuration`), counting (`quorum`). A configuration is effective from its append on, at every
//! replica, committed or not. Source: Raft paper 6; Ongaro's thesis, 4; H41, H42, H45, H47, H48.

use crate::error::ChangeError;
use crate::group::Group;
use crate::message::Body;
use crate::options::Sabotage;
use crate::output::Output;
use crate::progress::Feed;
use crate::quorum::majority;
use crate::{Change, Configuration, EntryKind, LogIndex, Members, Position};
use core::time::Duration;

impl Group {
    /// Begins a change of configuration; joint ones are left without another call.
    pub fn change(&mut self, now: Duration, target: Change) -> Result<Position, ChangeError> {
        self.begin(now);
        self.stir(); // who rests answers nothing, and does not count as silent for it
        let next = self.check_change(&target)?;
        Ok(self.lead_entry(EntryKind::Configuration, next.encode()))
    }

    /// The configuration to append for `target`.
    fn check_change(&self, target: &Change) -> Result<Configuration, ChangeError> {
        let Some(leadership) = &self.leadership else {
            return Err(ChangeError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        };
        if let Some(handover) = &self.handover {
            return Err(ChangeError::Transferring { to: handover.to });
        }
        let (effective, present) = self.log.configuration();
        if *effective != target.expected {
            return Err(ChangeError::Outdated {
                expected: target.expected,
                effective: *effective,
            });
        }
        if present.is_joint() || *effective > self.committed {
            return Err(ChangeError::UnderWay { index: *effective });
        }
        if !self.is_open() {
            return Err(ChangeError::TermNotOpened);
        }
        if target.voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        let names = target.voters.len() + target.learners.len() + present.voters.len();
        if names > Configuration::MEMBERS_MAX {
            let most = Configuration::MEMBERS_MAX;
            return Err(ChangeError::TooMany { names, most });
        }
        let both: Members = { target.voters.intersection(&target.learners) }
            .copied()
            .collect();
        if !both.is_empty() {
            return Err(ChangeError::Overlap { both });
        }
        if target.voters == present.voters {
            if target.learners == present.learners {
                return Err(ChangeError::Unchanged);
            }
            return Ok(Configuration {
                learners: target.learners.clone(),
                ..present.clone()
            });
        }
        let last = self.log.last_index();
        let horizon = self.silence_horizon();
        for replica in target.voters.difference(&present.voters) {
            // E26, and Ongaro's thesis 4.2.1: nobody decides before it has the log.
            let peer = leadership
                .peers
                .iter()
                .find(|peer| peer.replica == *replica && peer.departed_at.is_none());
            let Some(peer) = peer.filter(|_| present.learners.contains(replica)) else {
                return Err(ChangeError::NotLearner { replica: *replica });
            };
            let lag = peer.matched.entries_until(last).unwrap_or(0);
            if peer.matched == LogIndex::ZERO
                || lag > self.options.learner_lag
                || matches!(peer.feed, Feed::Snapshot(_))
            {
                return Err(ChangeError::LearnerBehind {
                    replica: *replica,
                    matched: peer.matched,
                    last,
                });
            }
            if peer.active_at.get() < horizon {
                // H14: check-quorum would count it as missing from the first moment on.
                return Err(ChangeError::LearnerSilent { replica: *replica });
            }
        }
        // Without a majority that answers they could neither commit this change nor begin another one. A new leader gives everybody a
        // whole timeout; here only those count that have acknowledged something. Who dies just before the change is not known, nor who
        // did so while all rested, until its node falls silent.
        let silent: Members = { leadership.peers.iter() }
            .filter(|peer| peer.matched == LogIndex::ZERO || peer.active_at.get() < horizon)
            .map(|peer| peer.replica)
            .filter(|replica| target.voters.contains(replica))
            .collect();
        let answering = target.voters.len() - silent.len();
        if answering < majority(target.voters.len(), None)
            && !self.is_sabotaged(Sabotage::SilentMajority)
        {
            return Err(ChangeError::VotersSilent { silent });
        }
        Ok(Configuration {
            voters: target.voters.clone(),
            outgoing: present.voters.clone(),
            learners: target
                .learners
                .difference(&present.voters)
                .copied()
                .collect(),
            learners_next: target
                .learners
                .intersection(&present.voters)
                .copied()
                .collect(),
        })
    }

    /// Leaves a committed joint configuration; gives way when a committed configuration has no place for this leader. Both follow
    /// from the log alone, so a new leader goes on where the old one stopped (H45).
    pub(crate) fn drive_configuration(&mut self) {
        let (index, configuration) = self.log.configuration();
        let is_last = self
            .log
            .configurations()
            .last()
            .is_some_and(|(last, _)| last == index);
        if *index > self.committed || !is_last || !self.is_open() {
            return;
        }
        if configuration.is_joint() {
            if self.hands_over_to().is_none() && !self.is_sabotaged(Sabotage::JointForEver) {
                let payload = configuration.left().encode();
                self.lead_entry(EntryKind::Configuration, payload);
            }
        } else if !configuration.is_voter(self.me) {
            self.give_way();
        }
    }

    /// The last act of a leader that is no voter any more: everybody learns of the commit, the best follower need not wait (H48).
    fn give_way(&mut self) {
        let configuration = self.configuration().clone();
        let Some(leadership) = &self.leadership else {
            return;
        };
        let heirs = leadership
            .peers
            .iter()
            .filter(|peer| configuration.voters.contains(&peer.replica));
        let heir = heirs
            .max_by_key(|peer| peer.matched)
            .map(|peer| peer.replica);
        let told: Vec<_> = leadership
            .peers
            .iter()
            .map(|peer| (peer.replica, peer.matched.min(self.committed)))
            .collect();
        for (to, commit) in told {
            self.send(to, Body::Committed { commit });
        }
        if let Some(heir) = heir {
            self.send(heir, Body::CampaignNow);
        }
        self.become_follower(self.term, None);
    }

    /// Notices when a committed configuration no longer names this replica, after an earlier one did.
    pub(crate) fn look_at_committed_configurations(&mut self) {
        let configurations = self.log.configurations();
        let unseen = self.unseen_configuration;
        if { configurations.last() }.is_some_and(|(last, _)| *last < unseen) {
            return;
        }
        let committed = self.committed;
        let news = { configurations.iter() }.filter(|(at, _)| *at <= committed && *at >= unseen);
        let mut member = self.is_member;
        for (at, configuration) in news {
            member = configuration.contains(self.me);
            self.unseen_configuration = at.next();
        }
        if self.is_member && !member {
            self.outputs.push_back(Output::Removed);
        }
        self.is_member = member;
    }
}
