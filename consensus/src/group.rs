//! One replica of one Raft group, as a pure machine: inputs are method calls with the time, effects come out of `poll_output`.
//!
//! Here: the state, the public inputs, the dispatch of messages, and the order in which effects are drawn up. The rules live with
//! their families: `election`, `replication`, `read_index`, `reconfiguration`, `transfer`, `snapshots`, `heartbeat`.
//! Called by: group actors and simulators.
//!
//! Effects are drawn up when they are polled, not when an input arrives: many inputs between two polls share one write, one append
//! per follower, one round of heartbeats.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::election::{Campaign, Draw};
use crate::error::{ProposeError, RestoreError};
use crate::follower_read::FollowerReads;
use crate::leadership::Leadership;
use crate::lease::Promised;
use crate::log::Log;
use crate::message::Body;
use crate::options::{CheckedOptions, Sabotage};
use crate::output::{Output, Persist, Role};
use crate::persistence::Ledger;
use crate::restored::Restored;
use crate::snapshots::{Gathering, Installing};
use crate::status::Status;
use crate::storage::{HardState, PersistToken, Write};
use crate::transfer::Handover;
use crate::{
    Configuration, Entry, EntryKind, GroupId, LogIndex, Message, Position, ReadId, ReplicaId,
    SnapshotMeta, Term, invariants,
};

/// One replica of one group. After each input, drain [`Group::poll_output`].
#[derive(Debug)]
pub struct Group {
    pub(crate) options: CheckedOptions,
    pub(crate) id: GroupId,
    pub(crate) me: ReplicaId,
    /// The time of the last input.
    pub(crate) now: Duration,

    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    pub(crate) committed: LogIndex,
    pub(crate) applied: LogIndex,
    /// The last entry that was handed out to be applied.
    pub(crate) handed: LogIndex,
    pub(crate) log: Log,
    pub(crate) ledger: Ledger,

    pub(crate) role: Role,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) campaign: Campaign,
    pub(crate) promised: Promised,
    /// Exactly while `role` is `Leader`.
    pub(crate) leadership: Option<Box<Leadership>>,
    /// The log equals the leader's through here: checked entry by entry in this term, never assumed (H24, H25).
    pub(crate) verified: LogIndex,
    /// The last acknowledgement of this term.
    pub(crate) acknowledged: LogIndex,
    /// With so much applied it has caught up with its leader; out of reach until it knows how far that is.
    pub(crate) caught_up_at: LogIndex,
    /// What the leader's last heartbeat said to be committed; none follows it: `ZERO`.
    pub(crate) heard_committed: LogIndex,
    /// The leader waits for an acknowledgement even if there is no news.
    pub(crate) acknowledge: bool,
    pub(crate) gathering: Option<Box<Gathering>>,
    pub(crate) installing: Option<Box<Installing>>,
    pub(crate) handover: Option<Box<Handover>>,
    /// A configuration that names this replica was committed, as far as this log tells.
    pub(crate) is_member: bool,
    /// Committed configurations before this index were looked at.
    pub(crate) unseen_configuration: LogIndex,
    pub(crate) data_lost: bool,
    /// No timer: see module `rest`.
    pub(crate) resting: bool,
    pub(crate) last_read: ReadId,
    /// Reads that wait here for somebody else's word.
    pub(crate) follower_reads: Option<Box<FollowerReads>>,

    /// Something happened since effects were last drawn up.
    pub(crate) dirty: bool,
    pub(crate) outputs: VecDeque<Output>,
}

impl Group {
    /// Starts replica `me` of group `id`. `seed` draws its timeouts.
    pub fn new(
        options: CheckedOptions,
        id: GroupId,
        me: ReplicaId,
        restored: Restored,
        seed: u64,
        now: Duration,
    ) -> Result<Self, RestoreError> {
        let Restored {
            hard_state,
            base,
            entries,
            state,
            is_new,
        } = restored;
        if state.position.index < base.position.index {
            return Err(RestoreError::StateBehindLog {
                state: state.position,
                base: base.position,
            });
        }
        let mut log = Log::restore(&base, entries)?;
        let mut ledger = Ledger::new(hard_state, log.last_index());
        if !log.holds(state.position) {
            // A crash came between installing a snapshot and resetting the log: the state covers more than the log, or its log is
            // another one than this. What the state covers is committed, so nothing of this log is needed.
            log = Log::empty(&state);
            ledger.reset(state.clone());
        } else if is_new {
            ledger.reset(base);
        }
        if options.sabotage == Some(Sabotage::OutgoingForgotten) {
            log.forget_outgoing();
        }
        if options.sabotage == Some(Sabotage::ConfigurationAtCommit) {
            log.in_force_through = hard_state.commit.max(state.position.index);
        }
        let last = log.last();
        if hard_state.commit > last.index {
            return Err(RestoreError::LogTooShort {
                last: last.index,
                commit: hard_state.commit,
            });
        }
        let mut group = Self {
            id,
            me,
            now,
            term: hard_state.term.max(last.term),
            vote: if last.term > hard_state.term {
                None
            } else {
                hard_state.vote
            },
            committed: hard_state.commit.max(state.position.index),
            applied: state.position.index,
            handed: state.position.index,
            log,
            ledger,
            role: Role::Follower,
            leader: None,
            campaign: Campaign::new(Draw::new(seed), now),
            promised: Promised::default(),
            leadership: None,
            verified: LogIndex::ZERO,
            acknowledged: LogIndex::ZERO,
            caught_up_at: LogIndex::MAX,
            heard_committed: LogIndex::ZERO,
            acknowledge: false,
            gathering: None,
            installing: None,
            handover: None,
            is_member: false,
            unseen_configuration: LogIndex::ZERO,
            data_lost: false,
            resting: false,
            last_read: ReadId::ZERO,
            follower_reads: None,
            dirty: true,
            outputs: VecDeque::new(),
            options,
        };
        group.configuration_changed();
        group.remember_promises(is_new);
        group.arm_first_election();
        Ok(group)
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.me
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The options it runs with.
    pub fn options(&self) -> &CheckedOptions {
        &self.options
    }

    /// A message arrived for this replica. Anything that is not for it, or makes no sense, changes nothing.
    pub fn receive(&mut self, now: Duration, message: Message) {
        self.begin(now);
        if !message.is_sound() {
            return;
        }
        let Message {
            group,
            from,
            to,
            term,
            body,
        } = message;
        if group != self.id || to != self.me || from == self.me || self.data_lost {
            return;
        }
        if term > self.term && !self.adopt_term(from, term, &body) {
            return;
        }
        let present = term == self.term;
        if self.resting {
            self.stirred_by(from, &body);
        }
        match body {
            Body::PreVote { campaign, last } => self.handle_pre_vote(from, campaign, last),
            Body::PreVoteReply { campaign, granted } => {
                self.handle_pre_vote_reply(from, campaign, granted)
            }
            Body::Vote { last, transfer } => self.handle_vote(from, term, last, transfer),
            Body::VoteReply { granted } if present => self.handle_vote_reply(from, granted),
            Body::Append {
                prev,
                entries,
                commit,
            } => {
                if self.follow(from, term) {
                    self.handle_append(from, prev, entries, commit);
                }
            }
            Body::Heartbeat {
                round,
                sent,
                upto,
                commit,
                known,
            } => {
                if self.follow(from, term) {
                    self.handle_heartbeat(from, round, sent, upto, commit, known);
                }
            }
            Body::Chunk {
                serial,
                meta,
                total,
                checksum,
                offset,
                data,
            } => {
                if self.follow(from, term) {
                    self.handle_chunk(from, serial, *meta, (total, checksum), offset, data);
                }
            }
            Body::Committed { commit } => {
                if self.follow(from, term) {
                    self.learn_commit(commit);
                }
            }
            Body::CampaignNow if present => self.handle_campaign_now(from),
            Body::Appended { matched } if present => self.handle_appended(from, matched),
            Body::Conflict { rejected, hint } if present => {
                self.handle_conflict(from, rejected, hint)
            }
            Body::HeartbeatReply {
                round,
                sent,
                upto,
                received,
                matched,
                promised,
            } if present => {
                if self.handle_heartbeat_reply(from, round, sent, upto, received, matched) {
                    self.extend_lease(from, sent, promised);
                }
            }
            Body::ChunkReply {
                serial,
                next,
                step,
                refusal,
            } if present => self.handle_chunk_reply(from, serial, next, step, refusal),
            Body::ReadRequest { life, upto } if present => {
                self.handle_read_request(from, life, upto)
            }
            Body::ReadAnswer { life, upto, index } if present => {
                self.handle_read_answer(from, life, upto, index)
            }
            // Of an earlier term: the answer tells the later one.
            Body::ReadRequest { life, upto } => {
                let index = None;
                self.send(from, Body::ReadAnswer { life, upto, index });
            }
            // A leader of this term that hears "outdated" would have adopted the later term above; the rest is of the past.
            Body::VoteReply { .. }
            | Body::CampaignNow
            | Body::Appended { .. }
            | Body::Conflict { .. }
            | Body::HeartbeatReply { .. }
            | Body::ChunkReply { .. }
            | Body::ReadAnswer { .. }
            | Body::Outdated => {}
        }
        self.wake_if_news();
    }

    /// A message of a later term arrived. Returns whether to go on with it.
    fn adopt_term(&mut self, from: ReplicaId, term: Term, body: &Body) -> bool {
        match body {
            // Asking costs nobody anything: the term comes later, with a vote (H11).
            Body::PreVote { .. } => true,
            // Whoever hears a leader helps nobody to depose it, and nobody breaks a promise, unless the leader itself wishes it (H18).
            Body::Vote {
                transfer: false, ..
            } if self.stands_by_another(from) || self.is_bound_against(from) => false,
            // Learned from the leader of that term itself.
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Chunk { .. }
            | Body::Committed { .. } => {
                self.become_follower(term, Some(from));
                true
            }
            _ => {
                self.become_follower(term, None);
                true
            }
        }
    }

    /// A message of a leader arrived. Returns whether it leads this replica's term.
    fn follow(&mut self, from: ReplicaId, term: Term) -> bool {
        if term < self.term {
            self.send(from, Body::Outdated);
            return false;
        }
        if self.role == Role::Leader {
            return false; // Election Safety rules this out; a replica that meets it all the same does not join in.
        }
        if self.leader != Some(from) || self.role != Role::Follower {
            self.become_follower(term, Some(from));
        }
        self.heard_from_leader();
        true
    }

    /// Time passed; call it when `now >= wake_at()`.
    pub fn tick(&mut self, now: Duration) {
        self.begin(now);
        if self.role == Role::Leader {
            self.tick_leader();
        } else {
            self.tick_election();
        }
        self.tick_handover();
        self.tick_follower_reads();
    }

    /// When to call `tick` next; `None`: not before another input. Ask again after each input.
    pub fn wake_at(&self) -> Option<Duration> {
        let role = match &self.leadership {
            _ if self.resting => None,
            Some(leadership) => Some(leadership.wake_at()),
            None => self.may_campaign().then_some(self.campaign.at.get()),
        };
        let handover = self.handover.as_ref().map(|handover| handover.deadline);
        let reads = self.follower_reads_wake_at();
        role.into_iter().chain(handover).chain(reads).min()
    }

    /// Appends one entry, if this replica leads. The entry may still be replaced by another leader's: compare the term at
    /// `Output::Apply` (H31).
    pub fn propose(&mut self, now: Duration, payload: Bytes) -> Result<Position, ProposeError> {
        self.begin(now);
        let Some(leadership) = &self.leadership else {
            return Err(ProposeError::NotLeader {
                group: self.id,
                leader: self.leader,
            });
        };
        if let Some(to) = self.hands_over_to() {
            return Err(ProposeError::Transferring { group: self.id, to });
        }
        if payload.len() > self.options.entry_bytes {
            return Err(ProposeError::TooLarge {
                bytes: payload.len(),
                limit: self.options.entry_bytes,
            });
        }
        let pending_bytes = leadership.uncommitted_bytes;
        if pending_bytes > 0 && pending_bytes + payload.len() > self.options.uncommitted_bytes {
            return Err(ProposeError::Busy {
                group: self.id,
                pending_bytes,
            });
        }
        Ok(self.lead_entry(EntryKind::Normal, payload))
    }

    /// Appends an entry of this leader's own term.
    pub(crate) fn lead_entry(&mut self, kind: EntryKind, payload: Bytes) -> Position {
        self.stir();
        let leadership = self
            .leadership
            .as_mut()
            .expect("only leaders create entries");
        let entry = Entry {
            term: self.term,
            index: self.log.last_index().next(),
            kind,
            payload,
        };
        leadership.uncommitted_bytes += entry.charge();
        let position = entry.position();
        self.log.push(entry);
        if kind == EntryKind::Configuration {
            self.configuration_changed();
        }
        position
    }

    /// The writes named by `token` are durable.
    pub fn persisted(&mut self, now: Duration, token: PersistToken) {
        self.begin(now);
        let in_order = !self.is_sabotaged(Sabotage::CompletionOverwrites);
        if self.ledger.completed(token, in_order)
            && let Some(leadership) = &mut self.leadership
        {
            leadership.acknowledged = true;
        }
    }

    /// The state machine holds everything through `index`.
    pub fn applied(&mut self, now: Duration, index: LogIndex) {
        self.begin(now);
        // Late news from before a snapshot was installed is behind already; news of what was never handed out is none.
        self.applied = self.applied.max(index.min(self.handed));
    }

    /// What a snapshot or checkpoint of the state at `index` must say about itself; `None` when the log does not hold `index`.
    pub fn meta_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        self.log.meta_at(index)
    }

    /// A checkpoint through `through` is durable: forgets the entries before it, but keeps a tail of `keep_entries`.
    pub fn compact(&mut self, now: Duration, through: LogIndex) {
        let keep = self.options.keep_entries;
        self.compact_keeping(now, through, keep);
    }

    /// Like `compact`, but keeps no tail: for idle groups, so that they pin no old file.
    pub fn compact_all(&mut self, now: Duration, through: LogIndex) {
        self.compact_keeping(now, through, 0);
    }

    fn compact_keeping(&mut self, now: Duration, through: LogIndex, keep: u64) {
        self.begin(now);
        let through = through.min(self.applied);
        let mut free = through.minus(keep).max(self.log.base().index);
        // A tail of large entries is shortened: it is kept in memory, and there are many groups.
        let mut tail = self.log.charge(free, through.max(free));
        while tail > self.options.keep_bytes && free < through {
            tail -= self.log.charge(free, free.next());
            free = free.next();
        }
        let point = self.pinned(free); // E28
        if point <= self.log.base().index {
            return;
        }
        let meta = self.log.meta_at(point).expect("between base and applied");
        self.log.compact(&meta);
        self.ledger.compact = Some(Box::new(meta));
    }

    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.refill();
        }
        self.outputs.pop_front()
    }

    /// Apart from `poll_output`, so that taking what is there costs little.
    #[inline(never)]
    fn refill(&mut self) {
        while self.outputs.is_empty() && self.dirty {
            self.draw_up();
        }
        if self.outputs.is_empty() && (self.log.is_empty() || self.resting) {
            self.release_buffers();
        }
    }

    /// The log is empty, or a claim stands for heartbeats: this group is at rest, and gives back what busy times left behind, also what
    /// one heartbeat needs: to allocate that anew costs less, twice a second, than to hold it in each of thousands of such groups. A busy
    /// one keeps its buffers.
    fn release_buffers(&mut self) {
        self.outputs.shrink_to_fit();
        self.log.release_buffers();
        self.ledger.release_buffers();
        if let Some(leadership) = &mut self.leadership {
            leadership.release_buffers();
        }
    }

    /// Every input begins here. Time never runs backwards inside.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.dirty = true;
    }

    /// Turns what happened into effects.
    fn draw_up(&mut self) {
        self.dirty = false;
        if self.leadership.is_some() {
            self.advance_commit();
        }
        self.look_at_committed_configurations();
        self.look_at_partial();
        if self.is_sabotaged(Sabotage::ConfigurationAtCommit) {
            let before = self.log.configuration().0;
            self.log.in_force_through = self.committed;
            if self.log.configuration().0 != before {
                self.configuration_changed();
            }
        }
        if self.leadership.is_some() {
            self.look_at_shipments();
            self.drive_configuration();
        }
        self.draw_up_persist();
        self.draw_up_promises();
        if self.leadership.is_some() {
            self.drive_handover();
            self.broadcast_for_reads();
            self.replicate();
        }
        self.ask_leader();
        self.draw_up_apply();
        self.answer_follower_reads();
        if self.leadership.is_some() {
            self.answer_reads();
            self.announce_evaluation();
        }
        invariants::order(self);
    }

    fn draw_up_persist(&mut self) {
        let hard_state = HardState {
            term: self.term,
            vote: self.vote,
            commit: self.committed,
        };
        let last = self.log.last();
        let promise = !self.ledger.knows(hard_state);
        let has_entries = last.index > self.ledger.written;
        if !promise && !has_entries && self.ledger.reset.is_none() && self.ledger.compact.is_none()
        {
            return;
        }
        let mut writes = Vec::with_capacity(2);
        if let Some(to) = self.ledger.reset.take() {
            writes.push(Write::Reset { to: *to });
        }
        // The commit index rides along: it costs no write of its own, and a restart then need not wait for a leader to replay.
        let write_hard_state = promise || hard_state.commit > self.ledger.last_hard_state().commit;
        if write_hard_state {
            writes.push(Write::HardState(hard_state));
        }
        if has_entries {
            writes.push(Write::Append(
                self.log
                    .slice(self.ledger.written.next(), last.index, usize::MAX)
                    .0,
            ));
        }
        if let Some(to) = self.ledger.compact.take() {
            writes.push(Write::Compact { to: *to });
        }
        let token = self
            .ledger
            .issue(last, write_hard_state.then_some(hard_state), self.now);
        self.outputs
            .push_back(Output::Persist(Persist { token, writes }));
    }

    /// Votes, requests for them and acknowledgements leave only when what they promise is durable (H2, H73).
    fn draw_up_promises(&mut self) {
        if !self.may_promise() {
            return;
        }
        self.promise_vote();
        self.ask_for_votes();
        self.acknowledge_entries();
    }

    /// Whether term and vote are durable.
    pub(crate) fn may_promise(&self) -> bool {
        let hard_state = HardState {
            term: self.term,
            vote: self.vote,
            commit: self.committed,
        };
        let durable = self.ledger.may_promise(hard_state);
        !self.data_lost && (durable || self.is_sabotaged(Sabotage::PromisedEarly))
    }

    /// Hands out what is committed and durable here, in pages.
    fn draw_up_apply(&mut self) {
        // H37, H38: a committed entry that is not durable here waits, also for a leader, also for a sole voter.
        let limit = self.committed.min(self.ledger.persisted);
        while self.handed < limit && self.installing.is_none() {
            let (entries, _) = self
                .log
                .slice(self.handed.next(), limit, self.options.apply_bytes);
            let last = entries
                .last()
                .expect("what is not applied is not compacted")
                .index;
            self.handed = last; // H36: pages follow each other without gap or repetition
            self.outputs.push_back(Output::Apply(entries));
        }
    }

    /// The log was cut, grown by a configuration, or begun anew: what follows from the effective configuration is derived afresh.
    pub(crate) fn configuration_changed(&mut self) {
        let (index, configuration) = self.log.configuration().clone();
        self.derive_rank();
        if let Some(leadership) = &mut self.leadership {
            leadership.reconfigure(
                &configuration,
                self.me,
                self.log.last_index().next(),
                self.now,
                Some(self.options.first_contact),
            );
        }
        self.outputs.push_back(Output::Configuration {
            configuration,
            index,
        });
    }

    /// Whether a test put this bug back.
    pub(crate) fn is_sabotaged(&self, bug: Sabotage) -> bool {
        self.options.sabotage == Some(bug)
    }

    /// The effective configuration: the last one in the log, committed or not.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.log.configuration().1
    }

    pub(crate) fn send(&mut self, to: ReplicaId, body: Body) {
        let message = Message {
            group: self.id,
            from: self.me,
            to,
            term: self.term,
            body,
        };
        self.outputs.push_back(Output::Send(message));
    }

    /// Bytes of the log that is not compacted, as its entries are charged: their payloads, and a little for each.
    pub fn log_bytes(&mut self) -> usize {
        let (base, last) = (self.log.base().index, self.log.last_index());
        self.log.charge(base, last)
    }

    /// One look at everything.
    pub fn status(&self) -> Status {
        let (configuration_index, configuration) = self.log.configuration().clone();
        let leadership = self.leadership.as_deref();
        Status {
            group: self.id,
            replica: self.me,
            term: self.term,
            vote: self.vote,
            role: self.role,
            leader: self.leader,
            commit: self.committed,
            applied: self.applied,
            persisted: self.ledger.persisted,
            first: self.log.first_index(),
            last: self.log.last(),
            configuration,
            configuration_index,
            peers: leadership.map_or_else(Vec::new, |l| {
                l.peers
                    .iter()
                    .map(|peer| peer.status(self.resting))
                    .collect()
            }),
            pending_bytes: leadership.map_or(0, |l| l.uncommitted_bytes),
            transfer: self.hands_over_to(),
            prepares: self.prepares(),
            data_lost: self.data_lost,
            caught_up: self.has_caught_up(),
            resting: self.resting,
        }
    }

    /// Term and position of the last entry, as votes compare them.
    pub(crate) fn last(&self) -> Position {
        self.log.last()
    }
}
