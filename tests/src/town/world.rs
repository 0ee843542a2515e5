//! The nodes, the wires between them and one virtual clock.
//!
//! Here: [`World`]: one seed makes the cluster, its load and its faults; the storm, then the calm in which everything must come to
//! rest. Not here: how nodes come (`joining`), which faults (`faults`), who hears of whom (`sight`), what a replica's outputs lead to
//! (`drive`), what nodes do (`steward`), what must be so after calm (`calm`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::system::{Founder, Founding, GroupReport, Order, Sum};
use synod::wire::Sharding;
use synod_consensus::claims::{Beat, News};
use synod_consensus::{CheckedOptions, GroupId, GroupOptions, Message, ReplicaId, ReplicaKey};

use super::Sabotage;
use super::faults::Undo;
use super::joining::{Applicant, name};
use super::ledger::Ledger;
use super::network::Network;
use super::node::{Node, Writing};
use super::returns::Pauses;
use super::steward::Moment;
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// Within this time after the faults every group has a leader that decides.
pub const LED_WITHIN: Duration = Duration::from_secs(10);
/// Within this time after the faults every replica is where it belongs, and nothing else is anywhere.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// What has happened for less than this time the system leader may not know of: a report may be 10 s old, and its reporter may have
/// heard of the replica 1.2 s before.
pub(super) const UNNOTICED: Duration = Duration::from_millis(11_500);
/// Who fell silent less than this ago may count for a group's leader: its own horizon, and a beat.
pub(super) const UNHEARD: Duration = Duration::from_secs(3);
/// A voter so far behind, in entries, still counts as caught up: what the reconciler allows, and what came since.
pub(super) const LAG: u64 = 1_024;
/// How often it is judged whether everything has come to rest.
const JUDGE_EVERY: Duration = Duration::from_millis(250);
/// Events of one run; more are a loop.
const EVENTS_MAX: u64 = 30_000_000;

/// What goes from store to store.
#[derive(Debug)]
pub(super) enum Packet {
    Raft(GroupId, Message),
    Reports(Vec<GroupReport>),
    Lost(Vec<(GroupId, ReplicaId)>),
    Order(Order),
    /// Of what the groups at rest have said that are led at the sender.
    Sum(Sum),
    SayAgain,
    Beat(Beat),
    News(News),
}

#[derive(Debug)]
pub(super) enum Event {
    Deliver {
        from: u64,
        to: u64,
        packet: Packet,
    },
    Written {
        store: u64,
        life: u64,
    },
    Wake {
        store: u64,
        life: u64,
        group: GroupId,
    },
    Look {
        store: u64,
        life: u64,
    },
    /// A node says that it lives, and what it claims.
    Beat {
        store: u64,
        life: u64,
    },
    /// Failure detectors look.
    Sight,
    /// An applicant asks to be let in.
    Apply(usize),
    Client,
    Fault,
    /// A fault ends.
    Undo(Undo),
    Calm,
    Judge,
}

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Fewest and most nodes to begin with.
    pub nodes: (u64, u64),
    /// Fewest and most shards.
    pub shards: (u32, u32),
    /// How long faults go on.
    pub storm: Duration,
    /// Gap between faults, on average.
    pub pause: Duration,
    /// Gap between appends.
    pub append_every: Duration,
}

impl Scale {
    /// 1 to 7 nodes, up to 16 shards.
    pub const SMALL: Self = Self {
        nodes: (1, 7),
        shards: (4, 16),
        storm: Duration::from_secs(90),
        pause: Duration::from_secs(4),
        append_every: Duration::from_millis(60),
    };
    /// A hundred nodes.
    pub const LARGE: Self = Self {
        nodes: (100, 100),
        shards: (128, 128),
        storm: Duration::from_secs(45),
        pause: Duration::from_secs(2),
        append_every: Duration::from_millis(20),
    };
}

/// What a run without violation leaves.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it has seen.
    pub coverage: Coverage,
    /// Of every event's time and kind.
    pub trace: u64,
    /// From calm until every group was led.
    pub led_in: Duration,
    /// From calm until everything was where it belongs.
    pub settled_in: Duration,
    /// Copies of shards that were made after the founding.
    pub copies_made: u64,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(super) seed: u64,
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Duration,
    agenda: BTreeMap<(Duration, u64), Event>,
    moments: u64,
    pub(super) scale: Scale,
    pub(super) shards: u32,
    pub(super) founding: Founding,
    pub(super) options: CheckedOptions,
    /// Groups with nothing to do rest.
    pub(super) rests: bool,
    pub(super) append_every: Duration,
    pub(super) replace_after: Option<Duration>,
    pub(super) suspicion: Duration,
    pub(super) checkpoint_every: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) applicants: Vec<Applicant>,
    pub(super) network: Network,
    pub(super) ledger: Ledger,
    pub(super) coverage: Coverage,
    pub(super) ambushes: BTreeSet<Moment>,
    pub(super) appended: u64,
    pub(super) zones: u64,
    /// All nodes have one capacity.
    pub(super) alike: bool,
    pub(super) calm_at: Option<Duration>,
    /// In the calm an operator drains and removes those who never come back.
    pub(super) tidies: bool,
    pub(super) pauses: Pauses,
    pub(super) led_in: Option<Duration>,
    pub(super) last_unrest: String,
    pub(super) sabotage: Option<Sabotage>,
    trace: u64,
}

impl World {
    /// A small cluster.
    pub fn from_seed(seed: u64) -> Self {
        Self::of_scale(seed, Scale::SMALL)
    }

    /// A cluster of that size.
    pub fn of_scale(seed: u64, scale: Scale) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = rng.random_range(scale.nodes.0..=scale.nodes.1);
        let shards = rng.random_range(scale.shards.0..=scale.shards.1);
        let others = (2..=nodes).map(|store| Founder {
            name: name(store),
            key: Bytes::new(),
        });
        let founding = Founding {
            cluster: u128::from(seed),
            sharding: Sharding {
                seed: rng.random(),
                shards,
            },
            copies: 3,
            name: name(1),
            key: Bytes::new(),
            others: others.collect(),
        };
        let options = GroupOptions {
            chunk_bytes: [300, 4_000][rng.random_range(0..2)],
            keep_entries: [0, 10, 200][rng.random_range(0..3)],
            ..GroupOptions::default()
        };
        let replace_after = [None, Some(5), Some(12), Some(20)][rng.random_range(0..4)];
        let mut world = Self {
            seed,
            now: Duration::from_secs(1),
            agenda: BTreeMap::new(),
            moments: 0,
            scale,
            shards,
            founding,
            options: options.check().expect("these hang together"),
            rests: false,
            append_every: scale.append_every,
            replace_after: replace_after.map(Duration::from_secs),
            suspicion: Duration::from_millis(rng.random_range(1_000..4_000)),
            checkpoint_every: [8, 30, 150][rng.random_range(0..3)],
            nodes: BTreeMap::new(),
            applicants: Vec::new(),
            network: Network::draw(&mut rng),
            ledger: Ledger::default(),
            coverage: Coverage::default(),
            ambushes: BTreeSet::new(),
            appended: 0,
            zones: [0, 0, 2, 3, 4][rng.random_range(0..5)],
            alike: false,
            calm_at: None,
            tidies: rng.random_bool(0.5),
            pauses: Pauses::default(),
            led_in: None,
            last_unrest: String::new(),
            sabotage: None,
            trace: 0,
            rng,
        };
        world.found();
        world.draw_rest()
    }

    /// Takes a safeguard away or puts a bug in.
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        let of_groups = match sabotage {
            Sabotage::MajorityOfOne => Some(synod_consensus::Sabotage::MajorityOfOne),
            Sabotage::OnlyTheDead => Some(synod_consensus::Sabotage::SilentMajority),
            _ => None,
        };
        if of_groups.is_some() {
            let options = GroupOptions {
                sabotage: of_groups,
                ..(*self.options).clone()
            };
            self.options = options.check().expect("only a bug more");
        }
        self
    }

    /// No faults: nothing is lost, and nobody fails.
    #[must_use]
    pub(super) fn quiet(mut self) -> Self {
        self.network.heal();
        (self.replace_after, self.zones) = (None, 0);
        self
    }

    /// A number that no other call returns.
    pub(super) fn moments(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    pub(super) fn push(&mut self, after: Duration, event: Event) {
        self.push_at(self.now + after, event);
    }

    pub(super) fn push_at(&mut self, at: Duration, event: Event) {
        let number = self.moments();
        self.agenda.insert((at, number), event);
    }

    /// The storm, then the calm.
    pub fn run(mut self) -> Result<Report, Violation> {
        let result = self.live();
        result.map_err(|violation| Violation {
            detail: format!(
                "{}\nat {:?}, {} nodes, {} shards, calm at {:?}",
                violation.detail,
                self.now,
                self.nodes.len(),
                self.shards,
                self.calm_at
            ),
            ..violation
        })
    }

    fn live(&mut self) -> Result<Report, Violation> {
        self.start_all()?;
        self.push(Duration::from_secs(2), Event::Client);
        let first = Duration::from_secs(self.rng.random_range(3..8));
        self.push(first, Event::Fault);
        self.push(self.scale.storm, Event::Calm);
        self.go_on()
    }

    pub(super) fn start_all(&mut self) -> Result<(), Violation> {
        let stores: Vec<u64> = self.nodes.keys().copied().collect();
        for store in stores {
            self.start(store)?;
        }
        self.push(Duration::ZERO, Event::Sight);
        Ok(())
    }

    /// Until everything is at rest.
    pub(super) fn go_on(&mut self) -> Result<Report, Violation> {
        let mut events = 0;
        while let Some(event) = self.next() {
            events += 1;
            if events > EVENTS_MAX {
                return broken("Settles", format!("{events} events: {}", self.last_unrest));
            }
            if let Some(settled_in) = self.happen(event)? {
                self.coverage.add("events", events);
                return Ok(Report {
                    coverage: self.coverage.clone(),
                    trace: self.trace,
                    led_in: self.led_in.unwrap_or_default(),
                    settled_in,
                    copies_made: self.ledger.copies_allotted,
                });
            }
        }
        broken("Settles", "nothing happens any more")
    }

    /// The next event, whose time it is now.
    pub(super) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.agenda.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// When the next event comes.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let ((at, _), _) = self.agenda.first_key_value()?;
        Some(*at)
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<Option<Duration>, Violation> {
        self.trace(&event);
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet)?,
            Event::Written { store, life } if self.lives(store, life) => {
                let until = self.nodes[&store].paused_until;
                if until > self.now {
                    self.push_at(until, Event::Written { store, life });
                } else {
                    self.flushed(store)?;
                }
            }
            Event::Wake { group, .. }
                if self.sabotage == Some(Sabotage::NoTimer) && group.get() == 1 => {}
            Event::Wake { store, life, group } if self.lives(store, life) => {
                let until = self.nodes[&store].paused_until;
                if until > self.now {
                    if let Some(replica) = self.replica(store, group)
                        && replica.wake.is_some()
                    {
                        replica.wake = Some(until);
                    }
                    self.push_at(until, Event::Wake { store, life, group });
                } else {
                    self.wake(store, group)?;
                }
            }
            Event::Look { store, life } if self.lives(store, life) => {
                let until = self.nodes[&store].paused_until;
                if until > self.now {
                    if let Some(process) = self.process(store) {
                        process.look_at = until;
                    }
                    self.push_at(until, Event::Look { store, life });
                } else {
                    self.look(store)?;
                    self.bury_failed(store)?;
                }
            }
            Event::Beat { store, life } if self.lives(store, life) => self.beat(store)?,
            Event::Written { .. }
            | Event::Wake { .. }
            | Event::Look { .. }
            | Event::Beat { .. } => {}
            Event::Sight => self.sight()?,
            Event::Apply(number) => self.apply_for_admission(number)?,
            // In the calm of every second world nothing new is reported any more.
            Event::Client if self.calm_at.is_some() && self.seed.is_multiple_of(2) => {}
            Event::Client => {
                self.client()?;
                self.push(self.append_every, Event::Client);
            }
            Event::Fault => self.fault()?,
            Event::Undo(undo) => self.undo(undo)?,
            Event::Calm => self.calm()?,
            Event::Judge => {
                if let Some(settled_in) = self.judge()? {
                    return Ok(Some(settled_in));
                }
                self.push(JUDGE_EVERY, Event::Judge);
            }
        }
        Ok(None)
    }

    fn trace(&mut self, event: &Event) {
        let kind = match event {
            Event::Deliver { to, .. } => *to,
            Event::Written { store, .. } => 1_000 + store,
            Event::Wake { store, .. } => 2_000 + store,
            Event::Look { store, .. } => 3_000 + store,
            Event::Beat { store, .. } => 5_000 + store,
            _ => 4_000,
        };
        let mixed = (self.trace ^ self.now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace = mixed.rotate_left(23) ^ kind;
    }

    pub(super) fn lives(&self, store: u64, life: u64) -> bool {
        let node = self.nodes.get(&store);
        node.is_some_and(|node| node.life == life && node.process.is_some())
    }

    pub(super) fn start(&mut self, store: u64) -> Result<(), Violation> {
        let now = self.now;
        let seed = self.seed ^ self.moments().rotate_left(40);
        let node = self.nodes.get_mut(&store).expect("known");
        if node.process.is_some() || node.gone {
            return Ok(());
        }
        self.describe_anew(store, seed);
        let node = self.nodes.get_mut(&store).expect("known");
        node.start(&self.options, self.rests, self.replace_after, seed, now)?;
        let (life, process) = (node.life, node.process.as_ref().expect("just started"));
        let groups: Vec<GroupId> = process.hosted.keys().copied().collect();
        for (group, replica) in &process.lost {
            let (group, replica) = (*group, *replica);
            self.ledger.loses(ReplicaKey { group, replica }, now);
        }
        self.push(Duration::ZERO, Event::Look { store, life });
        self.begin_beats(store);
        for group in groups {
            self.flush(store, group)?;
        }
        Ok(())
    }

    /// The process ends at once, and is started again after a while.
    pub(super) fn crash(&mut self, store: u64) -> Result<(), Violation> {
        self.stop(store)?;
        if !self.nodes[&store].gone {
            let back = Duration::from_millis(self.rng.random_range(300..8_000));
            self.push(back, Event::Undo(Undo::Start { store }));
        }
        Ok(())
    }

    /// The process ends at once; what was on its way to the disk may have made it.
    pub(super) fn stop(&mut self, store: u64) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes.get_mut(&store).expect("known");
        let in_flight = node
            .process
            .as_ref()
            .map_or(0, |process| process.in_flight.len());
        let kept = self.rng.random_range(0..=in_flight);
        node.crash(now, kept)
    }

    /// A process that cannot go on ends.
    fn bury_failed(&mut self, store: u64) -> Result<(), Violation> {
        let failed = { self.process(store) }.and_then(|process| process.failed.take());
        if failed.is_some() {
            let node = self.nodes.get_mut(&store).expect("known");
            node.gone = true;
            self.crash(store)?;
            self.coverage.count("removed_nodes_stopped");
        }
        Ok(())
    }

    pub(super) fn write(&mut self, store: u64, writing: Writing) {
        if let Some(process) = self.process(store) {
            process.queue.push(writing);
            self.begin_flush(store);
        }
    }

    fn begin_flush(&mut self, store: u64) {
        let node = self.nodes.get_mut(&store).expect("known");
        let (life, sync) = (node.life, node.sync);
        let Some(process) = &mut node.process else {
            return;
        };
        if process.writes || process.queue.is_empty() {
            return;
        }
        process.writes = true;
        process.in_flight = core::mem::take(&mut process.queue);
        let time = sync.mul_f64(self.rng.random_range(0.5..1.5));
        self.push(time, Event::Written { store, life });
    }

    /// The disk did all that it was given.
    fn flushed(&mut self, store: u64) -> Result<(), Violation> {
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        for writing in core::mem::take(&mut process.in_flight) {
            self.written(store, writing)?;
        }
        if let Some(process) = self.process(store) {
            process.writes = false;
        }
        self.begin_flush(store);
        Ok(())
    }

    pub(super) fn send(&mut self, from: u64, to: u64, packet: Packet) {
        self.coverage.count("messages");
        let is_frame = matches!(
            packet,
            Packet::Reports(_) | Packet::Sum(_) | Packet::SayAgain
        );
        if is_frame && self.network.loses_frame(&mut self.rng) {
            self.coverage.count("frames_lost");
            return;
        }
        if let Some(way) = self.network.carry(&mut self.rng, (from, to)) {
            let mut at = self.now + way;
            if let Packet::News(_) = packet {
                at = self.network.in_order((from, to), at);
            }
            self.push_at(at, Event::Deliver { from, to, packet });
        }
    }

    fn deliver(&mut self, from: u64, to: u64, packet: Packet) -> Result<(), Violation> {
        if !{ self.nodes.get(&to) }.is_some_and(|node| node.runs(self.now)) {
            return Ok(());
        }
        self.heard_of(to, from);
        match packet {
            Packet::Raft(group, message) => self.receive(to, group, message),
            Packet::Reports(reports) => {
                self.reported(to, reports);
                Ok(())
            }
            Packet::Lost(lost) => {
                self.heard_lost(to, &lost);
                Ok(())
            }
            Packet::Order(order) => self.carry_out(to, order),
            Packet::Sum(sum) => {
                self.summed(to, from, sum);
                Ok(())
            }
            Packet::SayAgain => {
                self.asked_again(to);
                Ok(())
            }
            Packet::Beat(beat) => self.heard_beat(to, from, &beat),
            Packet::News(news) => self.claims(to, |claims| claims.receive(from, news)),
        }
    }

    /// The store of a node that leads the system group and decides there.
    pub(super) fn system_leader(&self) -> Option<u64> {
        let leads = |node: &&Node| {
            node.runs(self.now) && { node.process.as_ref() }.is_some_and(|process| {
                let system = process.hosted.get(&GroupId::ZERO);
                system.is_some_and(|system| system.leadership.is_some())
            })
        };
        let leaders = self.nodes.values().filter(leads);
        // Of several the newest.
        leaders
            .max_by_key(|node| {
                let process = node.process.as_ref().expect("it leads");
                process.hosted[&GroupId::ZERO].leadership
            })
            .map(|node| node.store)
    }
}
