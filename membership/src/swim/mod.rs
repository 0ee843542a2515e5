//! The SWIM machine of one node.
//!
//! Here: [`Swim`], its inputs and its wake time. The rules live beside it by family: [`merge`] (what a claim changes), [`probe`],
//! [`suspicion`], [`flapping`], [`gossip`], [`sync`], [`health`], [`wellbeing`], and the table in [`members`]. Not here: bytes ([`crate::packet`]) and every
//! effect (`runtime`, which drains [`Swim::poll_output`]).

mod flapping;
mod gossip;
mod health;
mod members;
mod merge;
mod probe;
mod removals;
mod suspicion;
mod sync;
#[cfg(test)]
mod tests;
mod wellbeing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use core::time::Duration;

use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::options::{CheckedSwimOptions, DATAGRAM_BYTES_LEAST};
use crate::packet::{Body, Packet, Rumour};
use crate::record::{
    LocalMember, MemberState, Metadata, Position, Record, RecordError, SignedRecord, Signer,
    Verifier,
};
use crate::timing::Timing;
use flapping::{Flaps, HoldDowns};
use gossip::{Class, News};
use health::Health;
pub use members::Member;
use members::Members;
use merge::Merged;
use probe::Prober;
use removals::Removals;
use suspicion::Suspects;
use sync::Syncs;
use wellbeing::Wellbeing;

/// Records and accusations kept until the log admits their subject or its record comes; one slot each per subject.
const WAITING_MAX: usize = 1_024;
/// Random draws per peer wanted, before all members are looked at.
const DRAWS_PER_PEER: usize = 8;

/// Who is alive, as one node sees it. See the crate's documentation for how to drive it.
pub struct Swim {
    options: CheckedSwimOptions,
    me: StoreId,
    signer: Box<dyn Signer + Send>,
    rng: ChaCha8Rng,
    phase: Phase,
    members: Members,
    /// What the system log says. Gossip restricts it, never extends it (M42).
    admitted: BTreeSet<StoreId>,
    /// Never again: ids are not reused (M21).
    removed: Removals,
    waiting_records: BTreeMap<StoreId, SignedRecord>,
    waiting_accusations: BTreeMap<StoreId, crate::accusation::Accusation>,
    suspects: Suspects,
    hold_downs: HoldDowns,
    wellbeing: Wellbeing,
    prober: Prober,
    health: Health,
    news: News,
    syncs: Syncs,
    /// When each peer last got an answer to stale claims.
    answered: BTreeMap<StoreId, Duration>,
    datagram_bytes: usize,
    counters: Counters,
    outputs: VecDeque<SwimOutput>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Active,
    /// The farewell is being spread.
    Leaving,
    /// It is spread. Still answers, so that the last ones hear it.
    Left,
    /// Superseded or removed: says nothing any more.
    Silent,
}

#[derive(Clone, Copy, Debug)]
enum Lane {
    Datagram,
    Stream,
}

/// What happened so far; for metrics and for the coverage of simulations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets sent.
    pub packets: u64,
    /// Direct probes begun.
    pub probes: u64,
    /// Probes without any answer.
    pub probe_failures: u64,
    /// Failed probes that accused nobody, since no helper was heard either.
    pub doubts: u64,
    /// Members that became suspect here.
    pub suspicions: u64,
    /// Accusations of the own store that were refuted.
    pub refutations: u64,
    /// Members that became dead here.
    pub deaths: u64,
    /// Suspect, dead or gone members that came back.
    pub returns: u64,
    /// Returns from the dead that are held down, since they were not the first.
    pub hold_downs: u64,
    /// Failed probes that accused nobody, since this process is degraded.
    pub abstentions: u64,
    /// Syncs begun.
    pub syncs: u64,
    /// Syncs of others that were sent elsewhere.
    pub syncs_refused: u64,
    /// Answers to stale claims and wanted records, beside those that rode on an ack.
    pub answers: u64,
    /// Timers that came more than a probe interval late.
    pub late_wakes: u64,
    /// Local send errors reported.
    pub send_failures: u64,
    /// Packets of an earlier start of their sender.
    pub refused_old_generation: u64,
    /// Records and accusers that the log did not admit (yet).
    pub refused_unadmitted: u64,
    /// Records and packets of removed stores.
    pub refused_removed: u64,
    /// Records with an incarnation too far above the known one.
    pub refused_jumps: u64,
    /// Records whose signature was not their subject's.
    pub refused_signatures: u64,
    /// Different records of one store at one position: two copies of it run.
    pub conflicts: u64,
    /// Records of the own store by another process.
    pub superseded: u64,
}

impl Counters {
    fn add(counter: &mut u64) {
        *counter = counter.saturating_add(1);
    }
}

impl Swim {
    /// A machine that knows nobody but itself. `seed` makes its chances; equal inputs give equal outputs.
    /// Refused: a name, address list or metadata over its bound.
    pub fn new(
        options: CheckedSwimOptions,
        me: LocalMember,
        signer: Box<dyn Signer + Send>,
        seed: u64,
        now: Duration,
    ) -> Result<Self, RecordError> {
        let LocalMember {
            store,
            name,
            generation,
            addresses,
            metadata,
        } = me;
        let record = Record {
            store,
            name,
            generation,
            incarnation: 0,
            state: MemberState::Alive,
            addresses,
            metadata,
        };
        let signed = Self::sign_within_bounds(record, &*signer)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let first = now + options.probe_interval.mul_f64(rng.random::<f64>()); // nodes started together do not probe together
        let datagram_bytes = options.datagram_bytes;
        let mut swim = Self {
            options,
            me: store,
            signer,
            rng,
            phase: Phase::Active,
            members: Members::default(),
            admitted: BTreeSet::from([store]),
            removed: Removals::default(),
            waiting_records: BTreeMap::new(),
            waiting_accusations: BTreeMap::new(),
            suspects: Suspects::default(),
            hold_downs: HoldDowns::default(),
            wellbeing: Wellbeing::default(),
            prober: Prober::new(first),
            health: Health::default(),
            news: News::default(),
            syncs: Syncs::default(),
            answered: BTreeMap::new(),
            datagram_bytes,
            counters: Counters::default(),
            outputs: VecDeque::new(),
        };
        swim.members.update(store, |slot| {
            *slot = Some(Member {
                signed,
                state: MemberState::Alive,
                since: now,
                suspicion: None,
                flaps: Flaps::default(),
                refuted_at: None,
            });
        });
        swim.spread(now, store, Class::Membership, true);
        Ok(swim)
    }

    /// The system log has these stores as members. Gossip about any other store is refused (M41).
    pub fn admitted(&mut self, now: Duration, stores: impl IntoIterator<Item = StoreId>) {
        for store in stores {
            if self.removed.contains(store) || !self.admitted.insert(store) {
                continue;
            }
            if let Some(record) = self.waiting_records.remove(&store) {
                self.merge_record(now, &record);
            }
        }
    }

    /// The system log removed `store`, for ever.
    pub fn removed(&mut self, store: StoreId) {
        if !self.removed.insert(store) {
            return;
        }
        self.admitted.remove(&store);
        self.waiting_records.remove(&store);
        self.waiting_accusations.remove(&store);
        self.suspects.remove(store);
        self.hold_downs.forget(store);
        self.news.forget(store);
        self.answered.remove(&store);
        if store == self.me {
            self.phase = Phase::Silent;
            return;
        }
        let known = self.members.update(store, |slot| slot.take());
        if known.is_some_and(|member| member.state() != MemberState::Left) {
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Left { store }));
        }
    }

    /// A record that the caller verified, such as one of the join reply's full view. Those of stores not admitted (yet) wait.
    pub fn introduce(&mut self, now: Duration, record: SignedRecord) {
        self.merge_record(now, &record);
    }

    /// A peer's view, as it answers a join or an introduction; its records were verified. They are no news: whoever told them
    /// tells the others too, and a joiner that repeated a thousand old records would be a storm of its own. Those of stores not
    /// admitted (yet) wait.
    pub fn learn(&mut self, now: Duration, view: impl IntoIterator<Item = SignedRecord>) {
        for record in view {
            self.merge_old_record(now, &record);
        }
    }

    /// Everything known, the own record included, for a joiner. Who is dead it finds out by itself.
    pub fn view(&self) -> Vec<SignedRecord> {
        self.members
            .iter()
            .map(|member| member.signed().clone())
            .collect()
    }

    /// All members, by store id; the own one included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// One of them.
    pub fn member(&self, store: StoreId) -> Option<&Member> {
        self.members.get(store)
    }

    /// The own store.
    pub fn me(&self) -> StoreId {
        self.me
    }

    /// What this node says about itself now.
    pub fn position(&self) -> Position {
        self.members
            .get(self.me)
            .map(Member::position)
            .unwrap_or_default()
    }

    /// Equal on all nodes that agree about everybody (M49: export it).
    pub fn hash(&self) -> u64 {
        self.members.hash()
    }

    /// 0 is healthy, 8 the worst: how slowly this node probes since it mistrusts itself.
    pub fn local_health(&self) -> u32 {
        self.health.score()
    }

    /// Subjects with news still to be told.
    pub fn queued(&self) -> usize {
        self.news.len()
    }

    /// Everything that grows with what others send: its name, how much it holds, and the most it may hold.
    pub fn queues(&self) -> [(&'static str, usize, usize); 9] {
        let members = self.members.len();
        [
            ("news", self.news.len(), members),
            ("suspects", self.suspects.len(), members),
            ("hold_downs", self.hold_downs.len(), members),
            ("answered", self.answered.len(), members),
            ("waiting_records", self.waiting_records.len(), WAITING_MAX),
            (
                "waiting_accusations",
                self.waiting_accusations.len(),
                WAITING_MAX,
            ),
            ("relays", self.prober.relayed(), probe::RELAYS_MAX),
            ("hurried", self.prober.hurried(), probe::HURRIED_MAX + 1),
            ("served", self.syncs.served(), sync::SERVED_MAX),
        ]
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The durations in force at the present number of members.
    pub fn timing(&self) -> Timing {
        Timing::of(&self.options, self.members.present())
    }

    /// The largest datagram that the connections of the moment take, in bytes; at least 1,000 is assumed.
    pub fn set_datagram_bytes(&mut self, bytes: usize) {
        self.datagram_bytes = bytes.max(DATAGRAM_BYTES_LEAST);
    }

    /// This node has other addresses or metadata now; [`Metadata::degraded`] stays as it is. Refused and unchanged: anything over its bound.
    pub fn advertise(
        &mut self,
        now: Duration,
        addresses: Vec<SocketAddr>,
        metadata: Metadata,
    ) -> Result<(), RecordError> {
        let Some(own) = self.members.get(self.me).map(Member::record) else {
            return Ok(());
        };
        let metadata = Metadata {
            degraded: own.metadata.degraded, // not for the caller to say here
            ..metadata
        };
        let changed = Record {
            addresses,
            metadata,
            ..own.clone()
        };
        if changed == *own || self.phase != Phase::Active {
            return Ok(());
        }
        let Record {
            addresses,
            metadata,
            ..
        } = Self::sign_within_bounds(changed, &*self.signer)?
            .record()
            .clone();
        self.restate(now, Class::Metadata, |record| {
            record.addresses = addresses;
            record.metadata = metadata;
        });
        Ok(())
    }

    /// Says goodbye. Go on driving the machine until the event [`MemberEvent::Left`] of the own store comes (within seconds), or
    /// as long as there is time.
    pub fn leave(&mut self, now: Duration) {
        if self.phase != Phase::Active {
            return;
        }
        self.phase = Phase::Leaving;
        self.restate(now, Class::Liveness, |record| {
            record.state = MemberState::Left
        });
        self.gossip_round(now);
    }

    /// Drops the records whose subject's key did not sign them, and says how many. What is already held is not checked again.
    pub fn screen(&mut self, packet: &mut Packet, verifier: &dyn Verifier) -> usize {
        let members = &self.members;
        let dropped = packet.retain_records(|record| {
            members
                .get(record.record().store)
                .is_some_and(|held| held.signed == *record)
                || record.is_signed(verifier)
        });
        self.counters.refused_signatures = self
            .counters
            .refused_signatures
            .saturating_add(dropped as u64);
        dropped
    }

    /// A screened packet from a store whose identity the connection proved.
    pub fn receive(&mut self, now: Duration, from: StoreId, packet: Packet) {
        if self.phase == Phase::Silent || from == self.me {
            return;
        }
        if self.removed.contains(from) {
            Counters::add(&mut self.counters.refused_removed);
            return;
        }
        let admitted = self.admitted.contains(&from);
        let known = self.members.get(from).map(Member::position);
        if known.is_some_and(|known| packet.generation < known.generation) {
            // M46: an earlier start of the store, or a copy of it. It learns so, and is not heard.
            Counters::add(&mut self.counters.refused_old_generation);
            self.answer(now, from, &BTreeSet::from([from]), false);
            return;
        }
        let mut owed = BTreeSet::new();
        // M27: what the subjects say goes first, so that an accusation never overtakes its own refutation within a packet.
        let is_record = |rumour: &&Rumour| matches!(rumour, Rumour::Record(_));
        let records = packet.rumours.iter().filter(is_record);
        let accusations = packet.rumours.iter().filter(|rumour| !is_record(rumour));
        for rumour in records.chain(accusations.filter(|_| admitted)) {
            let (subject, position, merged) = match rumour {
                Rumour::Record(signed) => {
                    let record = signed.record();
                    let merged = self.merge_record(now, signed);
                    (record.store, record.position(), merged)
                }
                Rumour::Accusation(accusation) => {
                    let merged = self.merge_accusation(now, accusation);
                    (accusation.subject, accusation.position(), merged)
                }
            };
            if self.phase == Phase::Silent {
                return;
            }
            let contradicts = |signed: &SignedRecord| {
                let held = self.members.get(subject);
                held.is_some_and(|held| held.position() == position && held.signed != *signed)
            };
            if merged == Merged::Stale {
                owed.insert(subject);
            } else if let Rumour::Record(signed) = rumour
                && subject == from
                && contradicts(signed)
            {
                // M20: two processes say different things as the same start of one store. The later one is told.
                Counters::add(&mut self.counters.conflicts);
                owed.insert(subject);
            }
        }
        if packet.want {
            owed.insert(self.me);
        }
        // The record of the sender may have come with this packet.
        let want = admitted
            && self
                .members
                .get(from)
                .is_none_or(|member| member.position() < packet.sender());
        if !admitted {
            owed.clear();
        }
        let compares = admitted && matches!(packet.body, Body::Ping { .. } | Body::Ack { .. });
        match packet.body {
            Body::Ping { sequence, reliable } => {
                let lane = if reliable {
                    Lane::Stream
                } else {
                    Lane::Datagram
                };
                self.send_with(
                    from,
                    lane,
                    Body::Ack {
                        sequence,
                        target: self.me,
                    },
                    &owed,
                    want,
                );
            }
            _ if !admitted => {}
            Body::Ack { sequence, target } => {
                self.acked(from, sequence, target);
                self.answer(now, from, &owed, want);
            }
            Body::Nack { sequence, target } => {
                self.nacked(from, sequence, target);
                self.answer(now, from, &owed, want);
            }
            Body::PingRequest { sequence, target } => {
                self.help(now, from, sequence, target);
                self.answer(now, from, &owed, want);
            }
            Body::Gossip => self.answer(now, from, &owed, want),
            Body::SyncRequest { buckets } => self.serve_sync(now, from, &buckets),
            Body::SyncDigest { parts, claims } => self.exchange(from, &parts, &claims),
            Body::SyncExchange { wanted } => self.finish_sync(from, &wanted),
            Body::SyncPush => {}
            Body::SyncBusy { others } => self.sync_elsewhere(from, &others),
        }
        if compares && self.phase == Phase::Active {
            self.compare(now, from, packet.hash);
        }
        self.said_goodbye();
    }

    /// Does what is due. Call it when `now` has reached [`Swim::wake_at`]; earlier does no harm.
    pub fn tick(&mut self, now: Duration) {
        let due = self.wake_at();
        if now < due {
            return;
        }
        if self.phase == Phase::Active {
            if now > due + self.options.probe_interval {
                self.woke_late(now);
            }
            self.expire_suspicions(now);
            self.end_hold_downs(now);
            self.isolate(now);
            self.drive_probes(now);
            self.reconnect(now);
        }
        self.gossip_round(now);
    }

    /// When [`Swim::tick`] has something to do; moves with every other call.
    pub fn wake_at(&self) -> Duration {
        let gossip = self.news.wake_at().unwrap_or(Duration::MAX);
        match self.phase {
            Phase::Silent => Duration::MAX,
            Phase::Leaving | Phase::Left => gossip,
            Phase::Active => self
                .prober
                .wake_at()
                .min(self.reconnect_at())
                .min(gossip)
                .min(self.suspects.first_deadline().unwrap_or(Duration::MAX))
                .min(self.hold_downs.first().unwrap_or(Duration::MAX))
                .min(self.isolates_at().unwrap_or(Duration::MAX)),
        }
    }

    /// The next effect, in order; drain it after every other call.
    pub fn poll_output(&mut self) -> Option<SwimOutput> {
        self.outputs.pop_front()
    }

    /// Changes what this node says about itself: one incarnation higher, signed, spread.
    fn restate(&mut self, now: Duration, class: Class, change: impl FnOnce(&mut Record)) {
        let Some(own) = self.members.get(self.me) else {
            return;
        };
        let mut record = own.record().clone();
        record.incarnation += 1;
        change(&mut record);
        let state = record.state;
        let Ok(signed) = record.sign(&*self.signer) else {
            unreachable!("checked with the largest incarnation when it was given");
        };
        self.members.update(self.me, |slot| {
            *slot = Some(Member {
                signed,
                state,
                since: now,
                suspicion: None,
                flaps: Flaps::default(),
                refuted_at: None,
            })
        });
        self.spread(now, self.me, class, true);
    }

    /// Signs only what still fits when its incarnation has grown.
    fn sign_within_bounds(
        record: Record,
        signer: &dyn Signer,
    ) -> Result<SignedRecord, RecordError> {
        Record {
            incarnation: u64::from(u32::MAX) << 30,
            ..record.clone()
        }
        .sign(signer)?;
        record.sign(signer)
    }

    /// Somebody else who is there.
    fn is_peer(&self, store: StoreId) -> bool {
        store != self.me && self.members.get(store).is_some_and(Member::is_present)
    }

    fn peers(&self) -> impl Iterator<Item = StoreId> {
        self.members
            .iter()
            .filter(|member| member.is_present() && member.store() != self.me)
            .map(Member::store)
    }

    /// At most `count` present peers that are `fit`, by chance.
    fn choose_peers(&mut self, count: usize, fit: impl Fn(&Member) -> bool) -> Vec<StoreId> {
        let (members, me) = (&self.members, self.me);
        let fits = |member: &Member| member.store() != me && member.is_present() && fit(member);
        // Drawing a few out of many by chance costs the same at any size; where it misses too often, all are looked at.
        let mut drawn = Vec::with_capacity(count);
        if members.present() > count * DRAWS_PER_PEER {
            for _ in 0..count * DRAWS_PER_PEER {
                let place = self.rng.random_range(0..members.present());
                let fitting = members.present_at(place).filter(|member| fits(member));
                if let Some(store) = fitting.map(Member::store)
                    && !drawn.contains(&store)
                {
                    drawn.push(store);
                    if drawn.len() == count {
                        return drawn;
                    }
                }
            }
        }
        let peers = members.iter().filter(|member| fits(member));
        peers
            .map(Member::store)
            .choose_multiple(&mut self.rng, count)
    }
}
