//! One group with a disk, a state machine and ears around it, all of which do what the fuzzer says.
//!
//! Here: [`Bench`], which turns each [`Act`] into an input, plays the part of the caller by the rules that `Group` states for callers, and
//! checks after each input what must hold whatever the others say:
//! - the group does not panic, and its own invariants hold (`invariants::order` runs inside);
//! - what it promises is on its disk (H2, H73);
//! - what it hands out to be applied is contiguous, committed and handed out once (H36);
//! - what it writes fits the log on the disk (H80), and a restart finds a log that it accepts;
//! - one input brings a bounded number of effects of bounded size.
//!
//! Not here: whether what is committed is right. A peer may lie here, and a lie can commit anything.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::inputs::{Act, Anchor, Load, Piece, Place, Reign, Said, Spot, Step};
use crate::message::{Body, ChunkStep};
use crate::storage::LogStore;
use crate::{
    Change, ChunkReceived, ChunkWanted, Claim, Configuration, Entry, EntryKind, Group, GroupId,
    GroupOptions, LogIndex, MemoryStore, Message, Output, Persist, PersistToken, Position, Promise,
    ReadId, Refusal, ReplicaId, ReplicaKey, Restored, Role, SnapshotId, SnapshotMeta,
    SnapshotOffer, Term,
};

const GROUP: GroupId = GroupId::new(7);
const ME: ReplicaId = ReplicaId::new(1);
const KEY: ReplicaKey = ReplicaKey {
    group: GROUP,
    replica: ME,
};
/// Effects that one input may have. Most: a leader of 8 peers with 4 appends in flight to each, a heartbeat, a request and a chunk.
const EFFECTS_MAX: usize = 80;
/// Completions that may still come, and messages that may still be answered.
const REMEMBERED: usize = 8;

pub(super) fn options() -> GroupOptions {
    GroupOptions {
        append_bytes: 256,
        inflight_appends: 4,
        inflight_bytes: 512,
        chunk_bytes: 16,
        chunk_window_bytes: 40,
        snapshot_bytes: 64,
        uncommitted_bytes: 600,
        entry_bytes: 128,
        apply_bytes: 256,
        waiting_reads: 4,
        keep_entries: 2,
        learner_lag: 4,
        rest_after: 1,
        ..GroupOptions::default()
    }
}

/// What happened in a run, so that a test can say that the fuzzer reached it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) led: u64,
    pub(super) applied: u64,
    pub(super) installed: u64,
    pub(super) shipped: u64,
    pub(super) compacted: u64,
    pub(super) joint: u64,
    pub(super) reads: u64,
    pub(super) transferred: u64,
    pub(super) prepared: u64,
    pub(super) removed: u64,
    pub(super) conflicts: u64,
    pub(super) restarts: u64,
    pub(super) claimed: u64,
    pub(super) rested: u64,
}

impl Reached {
    fn counters(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("led", &mut self.led),
            ("applied", &mut self.applied),
            ("installed", &mut self.installed),
            ("shipped", &mut self.shipped),
            ("compacted", &mut self.compacted),
            ("joint", &mut self.joint),
            ("reads", &mut self.reads),
            ("transferred", &mut self.transferred),
            ("prepared", &mut self.prepared),
            ("removed", &mut self.removed),
            ("conflicts", &mut self.conflicts),
            ("restarts", &mut self.restarts),
            ("claimed", &mut self.claimed),
            ("rested", &mut self.rested),
        ]
    }

    pub(super) fn add(&mut self, run: &Self) {
        let mut run = *run;
        for ((_, sum), (_, more)) in self.counters().into_iter().zip(run.counters()) {
            *sum += *more;
        }
    }

    /// A fuzzer that never gets anywhere finds nothing.
    pub(super) fn check(mut self) {
        for (what, count) in self.counters() {
            assert!(
                *count >= 5,
                "the fuzzer reached `{what}` only {count} times"
            );
        }
    }
}

pub(super) struct Bench {
    group: Group,
    /// The last one it made.
    claim: Option<Claim>,
    now: Duration,
    disk: MemoryStore,
    /// Writes that the disk has not done.
    queue: VecDeque<Persist>,
    /// Completions that may (still, or again) be told.
    done: VecDeque<PersistToken>,
    /// The state machine's durable checkpoint.
    checkpoint: SnapshotMeta,
    /// Where the next page must begin.
    handed: LogIndex,
    installing: Option<(SnapshotMeta, SnapshotId)>,
    /// Pieces that are to be read, and to be stored.
    wanted: VecDeque<ChunkWanted>,
    storing: VecDeque<ChunkReceived>,
    /// What is stored of a snapshot.
    partial: Option<(SnapshotMeta, SnapshotId, u64)>,
    /// Who was last said to need a snapshot.
    needy: Option<ReplicaId>,
    reads: BTreeSet<ReadId>,
    sent: VecDeque<Message>,
    restarts: u64,
    pub(super) reached: Reached,
}

impl Bench {
    pub(super) fn new(voters: u64) -> Self {
        let restored = match voters {
            0 => Restored::newcomer(),
            _ => Restored::founding(Configuration::of_voters((1..=voters).map(ReplicaId::new))),
        };
        let checkpoint = restored.state.clone();
        Self {
            group: Self::start(restored, 1, Duration::ZERO),
            claim: None,
            now: Duration::ZERO,
            disk: MemoryStore::new(),
            queue: VecDeque::new(),
            done: VecDeque::new(),
            checkpoint,
            handed: LogIndex::ZERO,
            installing: None,
            wanted: VecDeque::new(),
            storing: VecDeque::new(),
            partial: None,
            needy: None,
            reads: BTreeSet::new(),
            sent: VecDeque::new(),
            restarts: 1,
            reached: Reached::default(),
        }
    }

    fn start(restored: Restored, seed: u64, now: Duration) -> Group {
        let options = options().check().unwrap();
        Group::new(options, GROUP, ME, restored, seed, now)
            .expect("what a group left on its disk is what it can start from")
    }

    pub(super) fn run(&mut self, steps: Vec<Step>) {
        let mut inputs = 0;
        for (act, draw) in steps {
            self.act(act);
            inputs += 1;
            if draw {
                self.drain(inputs);
                inputs = 0;
            }
        }
        self.drain(inputs);
    }

    fn index(&self, Place(anchor, off): Place) -> LogIndex {
        let group = &self.group;
        let base = match anchor {
            Anchor::Zero => 0,
            Anchor::Base => group.log.base().index.get(),
            Anchor::Applied => group.applied.get(),
            Anchor::Committed => group.committed.get(),
            Anchor::Persisted => group.ledger.persisted.get(),
            Anchor::Last => group.log.last_index().get(),
            Anchor::Huge => (1 << 62) + 100,
            Anchor::Max => u64::MAX,
        };
        LogIndex::new(base.saturating_add_signed(off))
    }

    fn reign(&self, reign: Reign, held: Option<Term>) -> Term {
        let now = self.group.term;
        match reign {
            Reign::Held => held.unwrap_or(now),
            Reign::Now(off) => Term::new(now.get().saturating_add_signed(off)),
            Reign::Max => Term::new(u64::MAX),
        }
    }

    fn position(&self, Spot(place, reign): Spot) -> Position {
        let index = self.index(place);
        Position::new(self.reign(reign, self.group.log.term_at(index)), index)
    }

    fn configuration(voters: u8, outgoing: u8, learners: u8) -> Configuration {
        let set = |bits: u8| {
            (0..8)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| ReplicaId::new(bit + 1))
                .collect()
        };
        Configuration {
            voters: set(voters),
            outgoing: set(outgoing),
            learners: set(learners),
            learners_next: crate::Members::new(),
        }
    }

    fn entries(prev: Position, pieces: &[Piece]) -> Vec<Entry> {
        let mut at = prev;
        let entry = |piece: &Piece| {
            at = Position::new(
                Term::new(at.term.get().saturating_add_signed(piece.later)),
                LogIndex::new(at.index.get().saturating_add(piece.skip)),
            );
            let (kind, payload) = match piece.load {
                Load::Normal(bytes) => (EntryKind::Normal, Bytes::from(vec![7; bytes])),
                Load::Noop => (EntryKind::Noop, Bytes::new()),
                Load::Configuration {
                    voters,
                    outgoing,
                    learners,
                    odd,
                } => {
                    let mut bytes = Self::configuration(voters, outgoing, learners)
                        .encode()
                        .to_vec();
                    if odd {
                        bytes.push(0);
                    }
                    (EntryKind::Configuration, Bytes::from(bytes))
                }
            };
            Entry {
                term: at.term,
                index: at.index,
                kind,
                payload,
            }
        };
        pieces.iter().map(entry).collect()
    }

    /// What a peer says, in this state.
    fn body(&self, said: Said) -> Body {
        match said {
            Said::PreVote { campaign, last } => Body::PreVote {
                campaign: self.reign(campaign, None),
                last: self.position(last),
            },
            Said::PreVoteReply { campaign, granted } => Body::PreVoteReply {
                campaign: self.reign(campaign, None),
                granted,
            },
            Said::Vote { last, transfer } => Body::Vote {
                last: self.position(last),
                transfer,
            },
            Said::VoteReply { granted } => Body::VoteReply { granted },
            Said::Append {
                prev,
                pieces,
                commit,
            } => {
                let prev = self.position(prev);
                Body::Append {
                    prev,
                    entries: Self::entries(prev, &pieces).into(),
                    commit: self.index(commit),
                }
            }
            Said::Appended { matched } => Body::Appended {
                matched: self.index(matched),
            },
            Said::Conflict { rejected, hint } => Body::Conflict {
                rejected: self.index(rejected),
                hint: self.position(hint),
            },
            Said::Committed { commit } => Body::Committed {
                commit: self.index(commit),
            },
            Said::Heartbeat {
                round,
                upto,
                commit,
            } => Body::Heartbeat {
                round,
                sent: self.now,
                upto: self.index(upto),
                commit: self.index(commit),
                known: self.index(upto).max(self.index(commit)),
            },
            Said::HeartbeatReply {
                round,
                upto,
                received,
                matched,
            } => Body::HeartbeatReply {
                round,
                sent: self.now,
                upto: self.index(upto),
                received: self.index(received),
                matched: self.index(matched),
                promised: Duration::from_millis(round * 100),
            },
            Said::Chunk {
                serial,
                spot,
                voters,
                since,
                total,
                offset,
                bytes,
            } => {
                let gathered = self
                    .group
                    .gathering
                    .as_ref()
                    .map_or(0, |gathering| gathering.received());
                let offset = offset.unwrap_or(gathered);
                Body::Chunk {
                    serial,
                    meta: Box::new(SnapshotMeta {
                        position: self.position(spot),
                        configuration: Self::configuration(voters, 0, 0),
                        configuration_index: self.index(since),
                    }),
                    checksum: 5,
                    total: total.unwrap_or(offset.saturating_add(bytes as u64)),
                    offset,
                    data: Bytes::from(vec![9; bytes]),
                }
            }
            Said::ChunkReply { serial, next, step } => Body::ChunkReply {
                serial,
                next,
                step: [ChunkStep::Held, ChunkStep::Gap, ChunkStep::Refused][usize::from(step)],
                refusal: Refusal::Damaged,
            },
            Said::ReadRequest { life, upto } => Body::ReadRequest {
                life,
                upto: ReadId::new(upto),
            },
            Said::ReadAnswer { life, upto, index } => Body::ReadAnswer {
                life,
                upto: ReadId::new(upto),
                index: index.map(|place| self.index(place)),
            },
            Said::CampaignNow => Body::CampaignNow,
            Said::Outdated => Body::Outdated,
        }
    }

    /// Messages as peers might say them, sound or not.
    pub(super) fn messages(&self, heard: Vec<(Reign, Said)>) -> Vec<Message> {
        let message = |(term, said)| Message {
            group: GROUP,
            from: ReplicaId::new(2),
            to: ME,
            term: self.reign(term, None),
            body: self.body(said),
        };
        heard.into_iter().map(message).collect()
    }

    /// What a peer that goes along answers; `None` where nothing is answered.
    fn answer(message: &Message) -> Option<Body> {
        Some(match &message.body {
            Body::PreVote { campaign, .. } => Body::PreVoteReply {
                campaign: *campaign,
                granted: true,
            },
            Body::Vote { .. } => Body::VoteReply { granted: true },
            Body::Append { prev, entries, .. } => Body::Appended {
                matched: prev.index.plus(entries.len() as u64),
            },
            Body::Heartbeat {
                round, sent, upto, ..
            } => Body::HeartbeatReply {
                round: *round,
                sent: *sent,
                upto: *upto,
                received: *upto,
                matched: *upto,
                promised: Duration::from_millis(400),
            },
            Body::Chunk {
                serial,
                offset,
                data,
                ..
            } => Body::ChunkReply {
                serial: *serial,
                next: offset + data.len() as u64,
                step: ChunkStep::Held,
                refusal: Refusal::Damaged,
            },
            _ => return None,
        })
    }

    fn receive(&mut self, from: ReplicaId, term: Term, body: Body) {
        let message = Message {
            group: GROUP,
            from,
            to: ME,
            term,
            body,
        };
        self.group.receive(self.now, message);
    }

    fn act(&mut self, act: Act) {
        let now = self.now;
        match act {
            Act::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.group.tick(self.now);
            }
            Act::Receive { from, term, said } => {
                let (term, body) = (self.reign(term, None), self.body(said));
                self.receive(ReplicaId::new(from), term, body);
            }
            Act::Answer(nth) => {
                let Some(message) = self.sent.iter().rev().nth(nth).cloned() else {
                    return;
                };
                if let Some(body) = Self::answer(&message) {
                    self.receive(message.to, message.term, body);
                }
            }
            Act::Refuse(nth) => {
                let Some(message) = self.sent.iter().rev().nth(nth).cloned() else {
                    return;
                };
                let body = match message.body {
                    Body::Append { prev, .. } => Body::Conflict {
                        rejected: prev.index,
                        hint: Position::ZERO,
                    },
                    Body::PreVote { campaign, .. } => Body::PreVoteReply {
                        campaign,
                        granted: false,
                    },
                    Body::Vote { .. } => Body::VoteReply { granted: false },
                    _ => return,
                };
                self.receive(message.to, message.term, body);
            }
            Act::AnswerAll => {
                for message in std::mem::take(&mut self.sent) {
                    if let Some(body) = Self::answer(&message) {
                        self.receive(message.to, message.term, body);
                    }
                }
            }
            Act::Write(count) => {
                self.write(count);
                while self.done.len() > REMEMBERED {
                    self.done.pop_front();
                }
            }
            Act::Settle => {
                self.write(usize::MAX);
                for token in std::mem::take(&mut self.done) {
                    self.group.persisted(now, token);
                }
            }
            Act::Completed(nth) => {
                if let Some(token) = self.done.get(nth).copied() {
                    self.group.persisted(now, token);
                }
            }
            Act::Applied(place) => self.group.applied(now, self.index(place)),
            Act::Compact { through, all } => {
                let through = self.index(through).min(self.group.applied);
                // The caller's part: a checkpoint comes first.
                if through > self.checkpoint.position.index
                    && let Some(meta) = self.group.meta_at(through)
                {
                    self.checkpoint = meta;
                }
                if all {
                    self.group.compact_all(now, through);
                } else {
                    self.group.compact(now, through);
                }
            }
            Act::Propose(bytes) => {
                let _ = self.group.propose(now, Bytes::from(vec![3; bytes]));
            }
            Act::Read => {
                if let Ok(id) = self.group.read(now) {
                    assert!(
                        self.reads.insert(id),
                        "the name of a read is never used again"
                    );
                }
            }
            Act::ReadHere => {
                if let Ok(id) = self.group.read_here(now) {
                    assert!(
                        self.reads.insert(id),
                        "the name of a read is never used again"
                    );
                }
            }
            Act::Prefer(who) => {
                let who = (who > 0).then(|| ReplicaId::new(who));
                self.group.prefer(now, who);
            }
            Act::Campaign => self.group.campaign(now),
            Act::PeerSilent(peer) => self.group.peer_silent(now, ReplicaId::new(peer)),
            Act::TakeClaim { by, term, last } => {
                let last = self.index(last);
                let claim = Claim {
                    group: GROUP,
                    term: self.reign(term, None),
                    leader: self.group.leader.unwrap_or(ReplicaId::new(by)),
                    last,
                };
                if self.group.take_claim(now, &claim) {
                    self.reached.rested += 1;
                    assert_eq!(
                        self.group.wake_at(),
                        None,
                        "a follower that rests has no timer"
                    );
                }
            }
            Act::ClaimTaken(by) => {
                if let Some(claim) = self.claim {
                    self.group.claim_taken(now, &claim, ReplicaId::new(by));
                }
            }
            Act::Rouse => self.group.rouse(now),
            Act::Change {
                voters,
                learners,
                outdated,
            } => {
                let Configuration {
                    voters, learners, ..
                } = Self::configuration(voters, 0, learners);
                let effective = self.group.status().configuration_index;
                let expected = if outdated {
                    effective.next()
                } else {
                    effective
                };
                if self
                    .group
                    .change(
                        now,
                        Change {
                            expected,
                            voters,
                            learners,
                        },
                    )
                    .is_ok()
                    && self.group.configuration().is_joint()
                {
                    self.reached.joint += 1;
                }
            }
            Act::Transfer(to) => {
                if self.group.transfer(now, ReplicaId::new(to)).is_ok() {
                    self.reached.transferred += 1;
                }
            }
            Act::PrepareTransfer(to) => {
                let _refused = self.group.prepare_transfer(now, ReplicaId::new(to));
            }
            Act::Provide { to, at, bytes } => {
                let Some(meta) = self.group.meta_at(self.index(at)) else {
                    return;
                };
                let to = match to {
                    0 => self.needy,
                    to => Some(ReplicaId::new(to)),
                };
                let Some(to) = to else {
                    return;
                };
                let offer = SnapshotOffer {
                    meta,
                    bytes: bytes as u64,
                    checksum: 5,
                };
                self.group.provide_snapshot(now, to, offer);
            }
            Act::ChunkRead(read) => {
                if let Some(wanted) = self.wanted.pop_front() {
                    let data = read.then(|| Bytes::from(vec![1; wanted.bytes]));
                    self.group.chunk_read(now, wanted, data);
                }
            }
            Act::ChunkStored(stored) => {
                if let Some(chunk) = self.storing.pop_front() {
                    let next = chunk.offset + if stored { chunk.data.len() as u64 } else { 0 };
                    self.group.chunk_stored(now, chunk.id, next);
                    self.partial = Some((*chunk.meta, chunk.id, next));
                }
            }
            Act::Installed { other, refused } => self.installed(other, refused),
            Act::Crash => self.crash(),
        }
    }

    fn installed(&mut self, other: bool, refused: bool) {
        let now = self.now;
        if other || self.installing.is_none() {
            let other = Position::new(self.group.term, self.group.log.last_index());
            self.group.installed(now, other);
            return;
        }
        let Some((meta, id)) = self.installing.take() else {
            return;
        };
        self.partial = None;
        if refused {
            self.group.install_refused(now, id);
            return;
        }
        self.handed = meta.position.index;
        self.checkpoint = meta.clone();
        self.group.installed(now, meta.position);
        self.reached.installed += 1;
    }

    fn write(&mut self, count: usize) {
        for Persist { token, writes } in self.queue.drain(..count.min(self.queue.len())) {
            self.disk
                .write(&[(KEY, writes)])
                .expect("what is written fits the log (H80)");
            self.done.push_back(token);
        }
    }

    fn crash(&mut self) {
        self.drain(usize::MAX / EFFECTS_MAX);
        self.restarts += 1;
        self.reached.restarts += 1;
        let restored = match self.disk.recover(KEY).unwrap() {
            Some(recovered) => Restored::after_restart(recovered, Some(self.checkpoint.clone())),
            None => Restored {
                state: self.checkpoint.clone(),
                base: self.checkpoint.clone(),
                is_new: true,
                ..Restored::default()
            },
        };
        self.group = Self::start(restored, self.restarts, self.now);
        self.queue.clear();
        self.done.clear();
        self.reads.clear();
        self.sent.clear();
        self.installing = None;
        self.wanted.clear();
        self.storing.clear();
        if let Some((meta, id, held)) = self.partial.take() {
            self.group.partial_snapshot(self.now, meta, id, held);
        }
        self.handed = self.checkpoint.position.index;
    }

    /// Takes all effects of the last inputs and judges them.
    fn drain(&mut self, inputs: usize) {
        let mut effects = 0;
        while let Some(output) = self.group.poll_output() {
            effects += 1;
            assert!(
                effects <= EFFECTS_MAX * inputs.max(1),
                "{effects} effects of {inputs} inputs"
            );
            self.heed(output);
        }
        assert!(self.group.outputs.is_empty());
        let ballots = self.group.campaign.ballots();
        assert!(ballots <= 8, "more votes than voters are kept");
        // One piece is taken however large it is.
        let storing: usize = self
            .storing
            .iter()
            .skip(1)
            .map(|chunk| chunk.data.len())
            .sum();
        assert!(
            storing <= options().chunk_window_bytes,
            "{storing} bytes wait to be stored"
        );
        let followers = self.group.follower_reads.as_ref();
        assert!(followers.is_none() || self.reads.len() <= 2 * options().waiting_reads);
    }

    fn heed(&mut self, output: Output) {
        match output {
            Output::Persist(persist) => {
                if persist
                    .writes
                    .iter()
                    .any(|write| matches!(write, crate::Write::Compact { .. }))
                {
                    self.reached.compacted += 1;
                }
                self.queue.push_back(persist);
            }
            Output::Send(message) => self.hear(message),
            Output::Apply(entries) => {
                assert!(
                    self.installing.is_none(),
                    "nothing is applied while the state is replaced"
                );
                let charge: usize = entries.iter().map(Entry::charge).sum();
                assert!(
                    entries.len() == 1 || charge <= options().apply_bytes,
                    "a page of {charge} bytes"
                );
                for entry in &entries {
                    assert_eq!(
                        entry.index,
                        self.handed.next(),
                        "H36: pages follow each other"
                    );
                    self.handed = entry.index;
                    self.reached.applied += 1;
                }
                assert!(self.handed <= self.group.committed);
            }
            Output::StoreChunk(chunk) => {
                assert!(!chunk.data.is_empty());
                let end = chunk.offset + chunk.data.len() as u64;
                assert!(end <= chunk.id.bytes && chunk.id.bytes <= options().snapshot_bytes as u64);
                self.storing.push_back(chunk);
            }
            Output::Install { meta, id } => {
                assert!(self.installing.is_none(), "one state at a time");
                assert!(
                    self.storing.iter().all(|chunk| chunk.id != id),
                    "all of it is stored"
                );
                assert!(meta.position.index > self.handed, "never backwards");
                self.installing = Some((*meta, id));
            }
            Output::DropPartial { id } => {
                self.partial.take_if(|(_, held, _)| *held == id);
                self.storing.retain(|chunk| chunk.id != id);
            }
            Output::ReadChunk(wanted) => {
                assert!(wanted.bytes <= options().chunk_bytes);
                self.wanted.retain(|older| older.to != wanted.to);
                self.wanted.push_back(wanted);
            }
            Output::ReadReady { id, index } => {
                assert!(self.reads.remove(&id), "a read is answered once");
                assert!(index <= self.group.applied);
                self.reached.reads += 1;
            }
            Output::ReadFailed { id } => assert!(self.reads.remove(&id), "a read is answered once"),
            Output::Role { role, .. } => self.reached.led += u64::from(role == Role::Leader),
            Output::Removed => self.reached.removed += 1,
            Output::SnapshotNeeded { to } => self.needy = Some(to),
            Output::Claim { claim, holders } => {
                assert!(!holders.is_empty() && claim.last == self.group.committed);
                self.claim = Some(claim);
                self.reached.claimed += 1;
            }
            Output::Rests { .. } => self.reached.rested += 1,
            Output::TransferPrepared { .. } => self.reached.prepared += 1,
            Output::Unclaimed
            | Output::MayEvaluate { .. }
            | Output::Configuration { .. }
            | Output::DataLost { .. }
            | Output::ShipmentEnded { .. }
            | Output::LeftBehind { .. }
            | Output::TransferEnded { .. } => {}
        }
    }

    fn hear(&mut self, message: Message) {
        assert!(
            message.is_sound(),
            "what a group says, others believe: {message:?}"
        );
        assert_eq!((message.group, message.from), (GROUP, ME));
        assert_ne!(message.to, ME);
        match &message.body {
            Body::Append { entries, .. } => assert!(
                entries.len() <= 1 || message.payload_bytes() <= options().append_bytes,
                "an append of {} bytes",
                message.payload_bytes()
            ),
            Body::Chunk { data, .. } => {
                assert!(data.len() <= options().chunk_bytes);
                self.reached.shipped += 1;
            }
            Body::Conflict { .. } => self.reached.conflicts += 1,
            _ => {}
        }
        match message.promise() {
            Some(Promise::Vote { candidate, term }) => {
                let on_disk = self
                    .disk
                    .recover(KEY)
                    .unwrap()
                    .expect("a vote is on the disk")
                    .hard_state;
                assert_eq!((on_disk.term, on_disk.vote), (term, Some(candidate)), "H2");
            }
            Some(Promise::Entries { matched }) if matched > LogIndex::ZERO => {
                let on_disk = self.disk.recover(KEY).unwrap().unwrap_or_default();
                let last = on_disk
                    .base
                    .position
                    .index
                    .plus(on_disk.entries.len() as u64);
                let covered = last.max(self.checkpoint.position.index);
                assert!(
                    matched <= covered,
                    "H73: {matched} is promised, {covered} is on the disk"
                );
            }
            Some(Promise::Entries { .. }) | None => {}
        }
        self.sent.push_back(message);
        while self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
    }
}
