//! The rules of one machine, one by one. The storms of many are in the crate `tests`.
//!
//! Here: the bench (a machine with scripted peers). Beside it: [`damping`] (flapping and sick members), [`fuzz`], [`hazards`] (what other systems shipped), [`lifeguard`] (probing
//! and suspicion), [`spreading`] (news, syncs, farewells), [`surroundings`] (what is left to the caller).

mod damping;
mod fuzz;
mod hazards;
mod lifeguard;
mod spreading;
mod surroundings;

use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Swim;
use crate::accusation::{Accusation, Verdict};
use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::options::SwimOptions;
use crate::packet::{Body, Packet, Rumour};
use crate::record::{LocalMember, MemberState, Metadata, Record, SignedRecord, Signer, Verifier};

const ME: StoreId = StoreId::new(1);

fn id(store: u64) -> StoreId {
    StoreId::new(store)
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

struct Key(StoreId);

impl Signer for Key {
    fn sign(&self, bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&xxh3_64_with_seed(bytes, self.0.get()).to_le_bytes())
    }
}

struct Keys;

impl Verifier for Keys {
    fn verify(&self, store: StoreId, bytes: &[u8], signature: &[u8]) -> bool {
        Key(store).sign(bytes) == signature
    }
}

fn record(store: u64, generation: u64, incarnation: u64) -> Record {
    Record {
        store: id(store),
        name: format!("n{store}"),
        generation,
        incarnation,
        state: MemberState::Alive,
        addresses: vec![([10, 0, 0, store as u8], generation as u16).into()],
        metadata: Metadata::default(),
    }
}

fn signed(record: Record) -> SignedRecord {
    let key = Key(record.store);
    record.sign(&key).unwrap()
}

fn alive(store: u64, generation: u64, incarnation: u64) -> Rumour {
    Rumour::Record(signed(record(store, generation, incarnation)))
}

fn accused(
    subject: u64,
    generation: u64,
    incarnation: u64,
    verdict: Verdict,
    accuser: u64,
) -> Rumour {
    Rumour::Accusation(Accusation {
        subject: id(subject),
        generation,
        incarnation,
        verdict,
        accuser: id(accuser),
    })
}

/// A machine, its clock, and whatever it sent.
struct Bench {
    swim: Swim,
    now: Duration,
    sent: Vec<(StoreId, Packet)>,
    streamed: Vec<(StoreId, Packet)>,
    events: Vec<MemberEvent>,
}

impl Bench {
    /// Store 1 of `stores` admitted ones, all alive at generation 1, incarnation 0.
    fn of(stores: u64) -> Self {
        let mut bench = Self::alone(stores);
        for store in 2..=stores {
            bench.swim.introduce(bench.now, signed(record(store, 1, 0)));
        }
        bench.settle();
        bench
    }

    /// Store 1, which knows `stores` to be admitted and none of them.
    fn alone(stores: u64) -> Self {
        Self::starting(record(1, 1, 0), stores)
    }

    fn starting(me: Record, stores: u64) -> Self {
        Self::with_seed(me, stores, 7)
    }

    fn with_seed(me: Record, stores: u64, seed: u64) -> Self {
        let Record {
            store,
            name,
            generation,
            addresses,
            metadata,
            ..
        } = me;
        let me = LocalMember {
            store,
            name,
            generation,
            addresses,
            metadata,
        };
        let options = SwimOptions::lan().check().unwrap();
        let mut swim = Swim::new(options, me, Box::new(Key(store)), seed, Duration::ZERO).unwrap();
        swim.admitted(Duration::ZERO, (1..=stores).map(id));
        Self {
            swim,
            now: Duration::ZERO,
            sent: Vec::new(),
            streamed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Until all news is told, without a probe; then forgets what was sent.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.swim.news.round_at = self.now;
            self.swim.gossip_round(self.now);
        }
        assert_eq!(self.swim.queued(), 0);
        self.drain();
        self.clear();
    }

    fn clear(&mut self) {
        self.sent.clear();
        self.streamed.clear();
        self.events.clear();
    }

    fn drain(&mut self) {
        while let Some(output) = self.swim.poll_output() {
            match output {
                SwimOutput::Datagram { to, packet } => {
                    assert!(
                        packet.encode().len() <= self.swim.datagram_bytes,
                        "M43: one budget for the packet"
                    );
                    self.sent.push((to, packet));
                }
                SwimOutput::Stream { to, packet } => self.streamed.push((to, packet)),
                SwimOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// `from` (generation 1, incarnation 0) sends `body` with `rumours`.
    fn hear_body(&mut self, from: u64, body: Body, rumours: Vec<Rumour>) {
        let hash = self.swim.hash();
        let packet = Packet {
            generation: 1,
            incarnation: 0,
            hash,
            want: false,
            body,
            rumours,
        };
        self.hear_packet(from, packet);
    }

    fn hear(&mut self, from: u64, rumours: Vec<Rumour>) {
        self.hear_body(from, Body::Gossip, rumours);
    }

    fn hear_packet(&mut self, from: u64, packet: Packet) {
        self.swim.receive(self.now, id(from), packet);
        self.drain();
    }

    /// Lets time pass, timer by timer, with nobody answering.
    fn pass(&mut self, time: Duration) {
        self.pass_with(time, |_, _| {});
    }

    /// The same; `answer` sees every packet sent.
    fn pass_with(&mut self, time: Duration, mut answer: impl FnMut(&mut Self, (StoreId, Packet))) {
        let end = self.now + time;
        while self.swim.wake_at() <= end {
            self.now = self.now.max(self.swim.wake_at());
            let (sent, streamed) = (self.sent.len(), self.streamed.len());
            self.swim.tick(self.now);
            self.drain();
            let fresh: Vec<_> = self.sent[sent..]
                .iter()
                .chain(&self.streamed[streamed..])
                .cloned()
                .collect();
            for packet in fresh {
                answer(self, packet);
            }
        }
        self.now = end;
    }

    fn state(&self, store: u64) -> Option<MemberState> {
        self.swim.member(id(store)).map(super::Member::state)
    }

    fn at(&self, store: u64) -> Option<(u64, u64)> {
        let position = self.swim.member(id(store))?.position();
        Some((position.generation, position.incarnation))
    }

    /// What was sent to `to` about `subject`.
    fn told(&self, to: u64, subject: u64) -> Vec<Rumour> {
        let about = |rumour: &Rumour| match rumour {
            Rumour::Record(signed) => signed.record().store == id(subject),
            Rumour::Accusation(accusation) => accusation.subject == id(subject),
        };
        let packets = self
            .sent
            .iter()
            .chain(&self.streamed)
            .filter(|(addressee, _)| *addressee == id(to));
        packets
            .flat_map(|(_, packet)| packet.rumours.clone())
            .filter(about)
            .collect()
    }

    fn sent_bodies(&self) -> Vec<(u64, Body)> {
        self.sent
            .iter()
            .map(|(to, packet)| (to.get(), packet.body.clone()))
            .collect()
    }
}

/// Answers every ping of the machine.
fn all_answer(bench: &mut Bench, (to, packet): (StoreId, Packet)) {
    if let Body::Ping { sequence, .. } = packet.body {
        bench.hear_body(
            to.get(),
            Body::Ack {
                sequence,
                target: to,
            },
            Vec::new(),
        );
    }
}

/// Several machines on a wire without delay.
struct Company {
    machines: Vec<Swim>,
    now: Duration,
    packets: usize,
    /// Share of packets lost, in percent; of both lanes.
    loss: u64,
    /// Pairs that hear each other.
    connected: BTreeSet<(StoreId, StoreId)>,
}

impl Company {
    fn of(size: u64) -> Self {
        Self::with_seed(size, 0)
    }

    fn with_seed(size: u64, seed: u64) -> Self {
        let machines: Vec<Swim> = (1..=size)
            .map(|store| {
                let mut swim = Bench::with_seed(record(store, 1, 0), size, seed << 16 | store).swim;
                (1..=size)
                    .for_each(|other| swim.introduce(Duration::ZERO, signed(record(other, 1, 0))));
                swim
            })
            .collect();
        let connected = (1..=size)
            .flat_map(|a| (1..=size).map(move |b| (id(a), id(b))))
            .collect();
        Self {
            machines,
            now: Duration::ZERO,
            packets: 0,
            loss: 0,
            connected,
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.machines.iter().map(Swim::wake_at).min().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let now = self.now;
            self.machines.iter_mut().for_each(|swim| swim.tick(now));
            self.deliver();
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        loop {
            let mut wire = Vec::new();
            for swim in &mut self.machines {
                let from = swim.me();
                while let Some(output) = swim.poll_output() {
                    if let SwimOutput::Datagram { to, packet } | SwimOutput::Stream { to, packet } =
                        output
                    {
                        wire.push((from, to, packet));
                    }
                }
            }
            if wire.is_empty() {
                return;
            }
            let now = self.now;
            for (from, to, packet) in wire {
                self.packets += 1;
                let chance =
                    xxh3_64_with_seed(&self.packets.to_le_bytes(), now.as_nanos() as u64) % 100;
                if chance < self.loss || !self.connected.contains(&(from, to)) {
                    continue;
                }
                if let Some(swim) = self.machines.iter_mut().find(|swim| swim.me() == to) {
                    swim.receive(now, from, packet);
                }
            }
        }
    }

    fn states(&self, of: u64) -> Vec<Option<MemberState>> {
        self.machines
            .iter()
            .map(|swim| swim.member(id(of)).map(super::Member::state))
            .collect()
    }
}
