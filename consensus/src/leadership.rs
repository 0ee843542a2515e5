//! What a leader holds beyond what every replica holds; it ends, whole, with the leadership.
//!
//! Here: [`Leadership`], how it begins and ends, what is committed under it. Not here: feeding followers (`replication`),
//! heartbeats (`heartbeat`), reads (`read_index`). Source: Raft paper 5.4.2, 8; H23, H40, H48.

use core::time::Duration;

use bytes::Bytes;

use crate::contact::Contact;
use crate::group::Group;
use crate::nanos::Nanos;
use crate::options::Sabotage;
use crate::output::{Output, Role};
use crate::progress::{Feed, Progress};
use crate::quorum::Halves;
use crate::read_index::Reads;
use crate::snapshot::ShipmentEnd;
use crate::snapshots::Shipped;
use crate::{Configuration, EntryKind, LogIndex, ReplicaId};

#[derive(Debug)]
pub(crate) struct Leadership {
    /// Everybody else, in order of id.
    pub(crate) peers: Vec<Progress>,
    pub(crate) halves: Halves,
    /// The first entry of this leader's term.
    pub(crate) opening: LogIndex,
    pub(crate) evaluation_announced: bool,
    /// Charged for the entries after the commit index.
    pub(crate) uncommitted_bytes: usize,
    /// Something was acknowledged since the commit index was last looked at.
    pub(crate) acknowledged: bool,

    pub(crate) heartbeat_at: Nanos,
    /// When followers that no append told are told of the commit index.
    pub(crate) notice_at: Option<Nanos>,
    /// When newcomers that never answered are asked again.
    pub(crate) contact: Contact,
    /// The last heartbeat round.
    pub(crate) round: u64,
    /// Somebody was told to campaign over all promises: no lease in this term any more (H59).
    pub(crate) lease_given_up: bool,
    pub(crate) round_wanted: bool,
    /// It asked to claim its followers, and nothing happened since.
    pub(crate) claimed: bool,
    /// Heartbeats in a row before which there was nothing to do.
    pub(crate) quiet: u16,
    /// `None` while nobody reads.
    pub(crate) reads: Option<Box<Reads>>,
    /// Names runs of chunks.
    pub(crate) shipments: u64,
    /// `None` while nobody needs a snapshot.
    pub(crate) freight: Option<Box<Freight>>,
}

/// Snapshots that followers get or got. Hardly ever anything but empty.
#[derive(Debug, Default)]
pub(crate) struct Freight {
    /// Followers whose snapshot the caller provided.
    pub(crate) shipping: Vec<Shipped>,
    /// Those whose snapshot arrived, and who have yet to catch up behind it.
    pub(crate) landed: Vec<Shipped>,
}

impl Freight {
    fn is_empty(&self) -> bool {
        self.shipping.is_empty() && self.landed.is_empty()
    }
}

impl Leadership {
    pub(crate) fn peer(&mut self, replica: ReplicaId) -> Option<&mut Progress> {
        let place = self.place(replica).ok()?;
        Some(&mut self.peers[place])
    }

    pub(crate) fn place(&self, replica: ReplicaId) -> Result<usize, usize> {
        self.peers
            .binary_search_by_key(&replica, |peer| peer.replica)
    }

    /// Another configuration is effective: newcomers are probed, and asked again after `first_contact` (none when the leadership has just
    /// begun); those who left are fed for a while longer so that they learn of it.
    pub(crate) fn reconfigure(
        &mut self,
        configuration: &Configuration,
        me: ReplicaId,
        next: LogIndex,
        now: Duration,
        first_contact: Option<Duration>,
    ) {
        for peer in &mut self.peers {
            peer.departed_at = if configuration.contains(peer.replica) {
                None
            } else {
                peer.departed_at.or(Some(now.into()))
            };
        }
        let members = configuration.members();
        self.peers
            .reserve_exact(members.len().saturating_sub(self.peers.len() + 1));
        for member in members {
            if let Err(place) = self.place(member)
                && member != me
            {
                let mut peer = Progress::new(member, next, now);
                if let Some(gap) = first_contact {
                    peer.unheard = true;
                    self.contact.begin(now, gap);
                }
                self.peers.insert(place, peer);
            }
        }
        self.renumber(configuration, me);
        self.acknowledged = true;
    }

    fn renumber(&mut self, configuration: &Configuration, me: ReplicaId) {
        self.halves = Halves::new(configuration, me, |voter| {
            self.place(voter).expect("every member has its progress")
        });
    }

    /// Forgets those who left long enough ago.
    pub(crate) fn forget_departed(
        &mut self,
        configuration: &Configuration,
        me: ReplicaId,
        before: Duration,
    ) {
        let count = self.peers.len();
        self.peers
            .retain(|peer| peer.departed_at.is_none_or(|at| at.get() >= before));
        if self.peers.len() != count {
            self.renumber(configuration, me);
        }
    }

    /// The last index that is durable at a quorum.
    fn agreed(&self, mine: LogIndex, group: &crate::options::GroupOptions) -> Option<LogIndex> {
        self.halves
            .reached(group.sabotage, mine, |place| self.peers[place].matched)
    }

    /// The last round that a quorum answered.
    pub(crate) fn confirmed_round(&self, group: &crate::options::GroupOptions) -> Option<u64> {
        self.halves
            .reached(group.sabotage, self.round, |place| self.peers[place].round)
    }

    /// Gives memory back that only busy times need.
    pub(crate) fn release_buffers(&mut self) {
        self.reads.take_if(|reads| reads.is_empty());
        self.freight.take_if(|freight| freight.is_empty());
        for peer in &mut self.peers {
            if let Feed::Replicate(window) = &mut peer.feed {
                window.release_buffers();
            }
        }
    }

    /// Whether no snapshot is on its way.
    pub(crate) fn ships_nothing(&self) -> bool {
        let freight = self.freight.as_ref();
        freight.is_none_or(|freight| freight.shipping.is_empty())
    }

    pub(crate) fn has_no_reads(&self) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.is_empty())
    }

    pub(crate) fn wake_at(&self) -> Duration {
        let others = [self.notice_at, self.contact.wake_at()];
        let due = others.into_iter().flatten().min();
        due.map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at))
            .get()
    }
}

impl Group {
    pub(crate) fn become_leader(&mut self) {
        let last = self.log.last_index();
        self.leadership = Some(Box::new(Leadership {
            peers: Vec::new(),
            halves: Halves::default(),
            opening: last.next(),
            evaluation_announced: false,
            uncommitted_bytes: self.log.charge(self.committed, last),
            acknowledged: true,
            heartbeat_at: self.next_beat().into(),
            notice_at: None,
            contact: Contact::default(),
            round: 0,
            lease_given_up: false,
            round_wanted: false,
            claimed: false,
            quiet: 0,
            reads: None,
            shipments: 0,
            freight: None,
        }));
        self.drop_partial();
        self.campaign.end();
        self.set_role(Role::Leader, Some(self.me));
        let configuration = self.configuration().clone();
        let leadership = self.leadership.as_mut().expect("begun just now");
        leadership.reconfigure(&configuration, self.me, last.next(), self.now, None);
        self.lead_entry(EntryKind::Noop, Bytes::new());
        // The first append goes out in the same drawing up of effects or, when votes came with a completion, in the next.
        self.dirty = true;
    }

    /// Drops everything that belonged to the leadership, if there is one.
    pub(crate) fn end_leadership(&mut self) {
        self.stir();
        let Some(leadership) = self.leadership.take() else {
            return;
        };
        // H62: a read that waits here could be answered from the past. Followers that asked see for themselves that the leader is
        // another one.
        for id in leadership
            .reads
            .into_iter()
            .flat_map(|reads| reads.asked_here())
        {
            let failed = Output::ReadFailed { id };
            let index = self.applied;
            let kept = Output::ReadReady { id, index };
            let bug = self.is_sabotaged(Sabotage::ReadsKept);
            self.outputs.push_back(if bug { kept } else { failed });
        }
        for Shipped { to, .. } in leadership
            .freight
            .into_iter()
            .flat_map(|freight| freight.shipping)
        {
            let end = ShipmentEnd::Abandoned;
            self.outputs.push_back(Output::ShipmentEnded { to, end });
        }
    }

    /// Commits what a quorum holds, if it holds an entry of this very term (H23, Raft paper 5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if !core::mem::take(&mut leadership.acknowledged) {
            return;
        }
        let mine = match self.options.sabotage {
            Some(Sabotage::OwnDiskAssumed) => self.log.last_index(),
            _ => self.ledger.persisted,
        };
        let Some(agreed) = leadership.agreed(mine, &self.options) else {
            return;
        };
        let own_term = self.log.term_at(agreed) == Some(self.term)
            || self.options.sabotage == Some(Sabotage::OldTermsCounted);
        if agreed <= self.committed || !own_term {
            return;
        }
        if self.options.sabotage != Some(Sabotage::ChargeLeaks) {
            leadership.uncommitted_bytes -= self.log.charge(self.committed, agreed);
        }
        let opened = self.committed < leadership.opening;
        self.committed = agreed;
        leadership
            .notice_at
            .get_or_insert(next_multiple(self.now, self.options.commit_notice).into());
        if opened {
            self.open_reads();
        }
    }

    /// Whether an entry of this leader's own term is committed.
    pub(crate) fn is_open(&self) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| self.committed >= leadership.opening)
    }

    pub(crate) fn announce_evaluation(&mut self) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        if !leadership.evaluation_announced && self.applied >= leadership.opening {
            leadership.evaluation_announced = true;
            self.outputs
                .push_back(Output::MayEvaluate { term: self.term });
        }
    }

    pub(crate) fn next_beat(&self) -> Duration {
        next_multiple(self.now, self.options.heartbeat_interval)
    }
}

/// The first multiple of `step` after `now`: groups that share a step wake together, so that their messages share a frame.
pub(crate) fn next_multiple(now: Duration, step: Duration) -> Duration {
    let (now, step) = (now.as_nanos(), step.as_nanos());
    let next = (now / step + 1) * step;
    Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_lie_ahead() {
        let step = Duration::from_millis(50);
        assert_eq!(next_multiple(Duration::from_millis(49), step), step);
        assert_eq!(next_multiple(step, step), 2 * step);
        assert_eq!(next_multiple(Duration::ZERO, step), step);
    }
}
