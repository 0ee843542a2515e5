//! How followers get the leader's log.
//!
//! Here, on the leader: what is sent to whom, acknowledgements, the search for where two logs meet. On the follower: the check of
//! an append, what is acknowledged, what may be taken as committed. Not here: windows (`progress`), durability (`persistence`),
//! followers too far behind (`snapshots`). Source: Raft paper 5.3; Ongaro's thesis, 10.2; H23-H32.

use crate::group::Group;
use crate::leadership::next_multiple;
use crate::message::Body;
use crate::options::Sabotage;
use crate::progress::{Feed, Progress};
use crate::{Entries, Entry, EntryKind, LogIndex, Position, ReplicaId};

/// The leader's side.
impl Group {
    /// Sends to every follower what its window allows.
    pub(crate) fn replicate(&mut self) {
        let count = self
            .leadership
            .as_ref()
            .map_or(0, |leadership| leadership.peers.len());
        let last = self.log.last_index();
        for place in 0..count {
            while self.has_news_for(place, last) && self.send_append(place) {}
        }
    }

    /// Whether an append could go to the follower at `place`; asked after every input, when nearly always there is none.
    #[inline]
    fn has_news_for(&self, place: usize, last: LogIndex) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| match leadership.peers[place].feed {
                Feed::Replicate(_) => leadership.peers[place].next <= last,
                Feed::Probe { waiting } => !waiting,
                Feed::Snapshot(_) => false,
            })
    }

    /// Sends one append to the follower at `place`, if there is something to send and room for it.
    fn send_append(&mut self, place: usize) -> bool {
        let last = self.log.last_index();
        let Some(leadership) = &mut self.leadership else {
            return false;
        };
        let peer = &mut leadership.peers[place];
        let room = match &mut peer.feed {
            Feed::Probe { waiting } => {
                *waiting = true;
                peer.probed_in = leadership.round;
                true
            }
            Feed::Replicate(window) => {
                !window.is_full(self.options.inflight_appends, self.options.inflight_bytes)
            }
            Feed::Snapshot(_) => false,
        };
        if !room {
            return false;
        }
        let prev = peer.next.previous();
        let Some(term) = self.log.term_at(prev) else {
            self.begin_shipment(place); // H34: compacted, whatever state the follower was in
            return false;
        };
        let (entries, bytes) = self.log.slice(peer.next, last, self.options.append_bytes);
        if let (Feed::Replicate(window), Some(entry)) = (&mut peer.feed, entries.last()) {
            peer.next = entry.index.next();
            window.sent(entry.index, bytes);
        }
        let commit = self.committed;
        let end = prev.plus(entries.len() as u64);
        peer.told_commit = peer.told_commit.max(commit.min(end));
        let to = peer.replica;
        self.send(
            to,
            Body::Append {
                prev: Position::new(term, prev),
                entries,
                commit,
            },
        );
        true
    }

    pub(crate) fn handle_appended(&mut self, from: ReplicaId, matched: LogIndex) {
        let base = self.log.base().index;
        let Some(peer) = self.take_acknowledgement(from, matched) else {
            return;
        };
        if matched == LogIndex::ZERO || matched < peer.matched {
            return;
        }
        match &peer.feed {
            // Of less than was probed for it says nothing: with a slow disk, a follower has received more than it acknowledges.
            Feed::Probe { .. } if matched >= base && matched.next() >= peer.next => {
                peer.replicate(matched.next());
            }
            // H71: any base to go on from ends the snapshot. So does its own arrival, even if the log has left that behind
            // meanwhile: then the next append finds out, and another snapshot is sent.
            Feed::Snapshot(shipment) if matched >= base || shipment.is_passed_by(matched) => {
                peer.probe(matched.next());
            }
            Feed::Probe { .. } | Feed::Snapshot(_) | Feed::Replicate(_) => {}
        }
    }

    /// Counts what a follower says that it holds. Returns what is known of it, unless that is nobody's follower or makes no sense.
    pub(crate) fn take_acknowledgement(
        &mut self,
        from: ReplicaId,
        matched: LogIndex,
    ) -> Option<&mut Progress> {
        if matched > self.log.last_index() {
            return None; // no follower can have more of this log than there is
        }
        let leadership = self.leadership.as_mut()?;
        let place = leadership.place(from).ok()?;
        let peer = &mut leadership.peers[place];
        peer.unheard = false;
        if peer.acknowledged(matched) {
            peer.active_at = self.now.into();
            leadership.acknowledged = true;
            // What it holds now may have been committed without it, and no later commit need come to tell it so.
            if self.committed.min(matched) > peer.told_commit {
                leadership
                    .notice_at
                    .get_or_insert(next_multiple(self.now, self.options.commit_notice).into());
            }
        }
        Some(peer)
    }

    pub(crate) fn handle_conflict(&mut self, from: ReplicaId, rejected: LogIndex, hint: Position) {
        // The follower ends `hint.term` at the hint: search within what this log has up to there (Raft paper 5.3, end).
        let meet = self.log.last_within(hint);
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(peer) = leadership.peer(from) else {
            return;
        };
        peer.unheard = false;
        let stale = match peer.feed {
            Feed::Probe { .. } => rejected != peer.next.previous(),
            // A follower's hint lies before what it holds of this log only until it holds it: who says less was overtaken by its own
            // later word. One append that comes late makes the follower refuse all that came before it; sent again once, they need
            // not be sent again for each refusal.
            Feed::Replicate(ref window) => {
                rejected <= peer.matched || hint.index < window.met.max(peer.matched)
            }
            Feed::Snapshot(_) => true,
        };
        if stale {
            return; // H29: it answers a request that something else has settled
        }
        // Before the log's beginning nothing can be searched: the snapshot decides.
        let next = if hint.index < meet.index || meet.index > rejected {
            hint.index.next()
        } else {
            meet.index.next()
        };
        peer.probe(next.min(rejected));
    }
}

/// The follower's side.
impl Group {
    /// What this replica can vouch for: equal to the leader's log, and durable.
    pub(crate) fn durable_match(&self) -> LogIndex {
        let durable = self.ledger.persisted;
        match self.options.sabotage {
            Some(Sabotage::PromisedEarly) => self.verified,
            Some(Sabotage::AcknowledgedUnchecked) => durable,
            _ => self.verified.min(durable),
        }
    }

    pub(crate) fn handle_append(
        &mut self,
        from: ReplicaId,
        prev: Position,
        mut entries: Entries,
        commit: LogIndex,
    ) {
        if self.installing.is_some() || !is_chain(prev, &entries) {
            return;
        }
        // Every leader's log holds what is committed: agreement up to there needs no check and allows no change.
        let known = self.committed;
        let mut prev = prev;
        if prev.index < known {
            let skip = prev
                .index
                .entries_until(known)
                .expect("compared above")
                .min(entries.len() as u64);
            let skip = usize::try_from(skip).expect("at most the number of entries");
            let all = entries.len();
            entries = entries.narrowed(skip..all);
            prev = Position::new(
                self.log
                    .term_at(known)
                    .expect("committed entries after the base are kept"),
                known,
            );
            if !is_chain(prev, &entries) {
                return; // its terms go back behind what is committed: no leader's log does
            }
        }
        if !self.log.holds(prev) {
            self.caught_up_at = LogIndex::MAX;
            let hint = self
                .log
                .last_within(Position::new(prev.term, prev.index.previous()));
            let hint = if hint.index < known {
                Position::new(self.log.term_at(known).expect("kept"), known)
            } else {
                hint
            };
            self.send(
                from,
                Body::Conflict {
                    rejected: prev.index,
                    hint,
                },
            );
            return;
        }
        let count = entries.len();
        let end = prev.index.plus(count as u64);
        // H26: only a real conflict cuts the log; a late, short append must not.
        let fresh = entries
            .iter()
            .position(|entry| !self.log.holds(entry.position()));
        if let Some(fresh) = fresh {
            let from = entries[fresh].index;
            if from <= self.log.last_index() {
                if from <= self.verified {
                    return; // a leader never changes its own log (Raft paper 5.3, Leader Append-Only): whoever says so does not lead
                }
                assert!(
                    from > self.committed,
                    "Leader Completeness: committed entry {from} of group {} would be replaced",
                    self.id
                );
                self.ledger
                    .truncated(from, !self.is_sabotaged(Sabotage::TruncationForgotten));
                if self.log.truncate_from(from) {
                    self.configuration_changed();
                }
            }
            let fresh = entries.narrowed(fresh..count);
            let reconfigured = fresh
                .iter()
                .any(|entry| entry.kind == EntryKind::Configuration);
            self.log.extend(fresh);
            if reconfigured {
                self.configuration_changed();
            }
        }
        if self.is_sabotaged(Sabotage::CutWithoutConflict) && end < self.log.last_index() {
            self.ledger.truncated(end.next(), true);
            if self.log.truncate_from(end.next()) {
                self.configuration_changed();
            }
        }
        self.verified = self.verified.max(end);
        self.acknowledge |= fresh.is_none();
        self.learn_commit(commit);
        self.compare_with_leader(commit);
    }

    /// The leader knows everything through `known` to be committed.
    pub(crate) fn compare_with_leader(&mut self, known: LogIndex) {
        if self.committed >= known {
            self.caught_up_at = self.caught_up_at.min(self.committed);
        }
    }

    /// Whether this replica serves its group as well as it can: it leads and all that former leaders committed is applied here, or it has
    /// once, since it follows this leader, held and applied everything that the leader knew to be committed. Lost with the leader,
    /// with every append or state that shows that something is missing here, and when what one heartbeat said to be committed is missing
    /// still at the next one.
    pub fn has_caught_up(&self) -> bool {
        match &self.leadership {
            Some(leadership) => leadership.evaluation_announced,
            None => self.applied >= self.caught_up_at,
        }
    }

    /// The leader says that everything through `commit` is committed; this replica believes it as far as it checked its log
    /// against this leader's (H24).
    pub(crate) fn learn_commit(&mut self, commit: LogIndex) {
        if self.installing.is_none() {
            let checked = if self.is_sabotaged(Sabotage::CommittedUnchecked) {
                self.log.last_index()
            } else {
                self.verified
            };
            self.committed = self.committed.max(commit.min(checked));
        }
    }

    /// Called when term and vote are durable. Acknowledges what is durable, once per news (H25, H73).
    pub(crate) fn acknowledge_entries(&mut self) {
        let Some(leader) = self.leader.filter(|leader| *leader != self.me) else {
            return;
        };
        let matched = self.durable_match();
        if matched > self.acknowledged || self.acknowledge {
            self.acknowledge = false;
            self.acknowledged = self.acknowledged.max(matched);
            self.send(leader, Body::Appended { matched });
        }
    }
}

/// Whether `entries` follow each other and `prev` without hole or turn, and every configuration decodes (H32).
fn is_chain(prev: Position, entries: &[Entry]) -> bool {
    let mut last = prev;
    entries.iter().all(|entry| {
        let follows = entry.index == last.index.next() && entry.term >= last.term;
        last = entry.position();
        follows && (entry.kind != EntryKind::Configuration || entry.configuration().is_some())
    })
}
