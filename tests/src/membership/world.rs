//! The cluster, its clock and its log.
//!
//! Here: [`World`]: one seed makes sizes, timing, faults and chances; faults rage until enough packets were sent, then the world
//! is calm and everybody must agree within a stated bound. Not here: which faults ([`super::faults`]), starts and joins
//! ([`super::cluster`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_membership::{
    Accusation, CheckedSwimOptions, Member, MemberEvent, MemberState, Packet, Position, StoreId,
    Swim, SwimOptions, SwimOutput,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::agenda::{Agenda, Happening};
use super::cluster::{Disk, Entry};
use super::coverage::Coverage;
use super::invariants::Observed;
use super::network::Network;
use super::process::{AllKeys, Arrival, NoKeys, Process};
use super::sabotage::{Sabotage, forged};
use crate::violation::{Violation, broken};

/// Packets under faults, per seed, before the calm.
pub(super) const MESSAGES_LEAST: u64 = 20_000;
/// Faults, per seed, before the calm.
const FAULTS_LEAST: u64 = 30;
/// Packets that wait for a paused process; more are lost, as in a socket's buffer.
const BACKLOG_MAX: usize = 500;
/// Effects of one step of one machine: answers to a packet, a round of gossip, a probe with its helpers, a few events per member.
const EFFECTS_PER_STEP_MAX: usize = 400;
/// After the calm begins, in probe intervals: everybody agrees, with equal hashes. A node that trusts itself least probes every 9
/// intervals, a lone accuser's suspicion at 45 stores takes `5 * 3 * log10(45)` = 25, then a rumour or a sync; the slowest of 400
/// seeds took 13.
const CALM_INTERVALS: u32 = 80;
/// Up to so many stores every member is looked at after every step.
const ALL_LOOKED_AT: usize = 60;
/// Beyond, so many in turn, besides those that the step was about.
const LOOKS_PER_STEP: u64 = 24;

/// What a run without violation leaves.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it has seen.
    pub coverage: Coverage,
    /// Of every packet's time, way and bytes.
    pub trace: u64,
    /// From calm to agreement.
    pub converged_after: Duration,
    /// The same in probe intervals.
    pub converged_intervals: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    messages: u64,
    faults: u64,
    /// Gaps between faults, in probe intervals.
    pub(super) gap: (f64, f64),
    /// Probe intervals until everybody must agree.
    calm: u32,
}

impl Pace {
    const ORDINARY: Self = Self {
        messages: MESSAGES_LEAST,
        faults: FAULTS_LEAST,
        gap: (2.0, 40.0),
        calm: CALM_INTERVALS,
    };
    /// A lone accuser's suspicion lasts `5 * 3 * log10(1000)` = 45 intervals, and the slowest node probes every 9.
    const CROWDED: Self = Self {
        gap: (0.2, 4.0),
        calm: CALM_INTERVALS * 2,
        ..Self::ORDINARY
    };
}

/// See the module.
pub struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Duration,
    pub(super) interval: Duration,
    pub(super) options: CheckedSwimOptions,
    /// What the invariants hold the machines to, sabotaged or not.
    pub(super) suspicion_least: Duration,
    agenda: Agenda,
    pub(super) processes: Vec<Process>,
    pub(super) addresses: BTreeMap<SocketAddr, usize>,
    pub(super) disks: BTreeMap<StoreId, Disk>,
    pub(super) log: Vec<Entry>,
    /// The newest position that each store ever signed.
    said: BTreeMap<StoreId, Position>,
    pub(super) network: Network,
    pub(super) cuts: u64,
    pub(super) coverage: Coverage,
    pub(super) messages: u64,
    trace: u64,
    calm: bool,
    pub(super) sabotage: Option<Sabotage>,
    /// All were restarted at other addresses, with their logs.
    pub(super) moved: bool,
    /// The process that forges, and until when.
    pub(super) forger: Option<(usize, Duration)>,
    /// Nodes it began with.
    pub(super) size: usize,
    /// Packets and faults before the calm, gaps between faults, and the calm after them.
    pub(super) pace: Pace,
    /// `SIM_TRACE` prints every packet.
    prints: bool,
}

impl World {
    /// 3 to 30 nodes that join one after the other.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = if rng.random_bool(0.3) {
            rng.random_range(3..6)
        } else {
            rng.random_range(6..=30)
        };
        Self::new(rng, size)
    }

    /// `size` nodes, with a fault every few intervals and for a shorter time.
    pub fn of_size(seed: u64, size: u32) -> Self {
        let mut world = Self::new(ChaCha8Rng::seed_from_u64(seed), size);
        world.pace = Pace {
            messages: u64::from(size) * 200,
            ..Pace::CROWDED
        };
        world
    }

    fn new(mut rng: ChaCha8Rng, size: u32) -> Self {
        let preset = if rng.random_bool(0.5) {
            SwimOptions::lan()
        } else {
            SwimOptions::local()
        };
        let options = SwimOptions {
            syncs_inbound: rng.random_range(1..=preset.syncs_inbound),
            ..preset
        };
        let interval = options.probe_interval;
        let Ok(options) = options.check() else {
            unreachable!("presets hold together")
        };
        let network = Network::from_seed(&mut rng, interval);
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            interval,
            suspicion_least: options.suspicion_intervals * interval,
            options,
            agenda: Agenda::default(),
            processes: Vec::new(),
            addresses: BTreeMap::new(),
            disks: BTreeMap::new(),
            log: Vec::new(),
            said: BTreeMap::new(),
            network,
            cuts: 0,
            coverage: Coverage::default(),
            messages: 0,
            trace: 0,
            calm: false,
            sabotage: None,
            moved: false,
            forger: None,
            size: size as usize,
            pace: Pace::ORDINARY,
            prints: std::env::var_os("SIM_TRACE").is_some(),
        };
        for number in 1..=size {
            let store = world.new_store(format!("n{number}"));
            let place = f64::from(number).min(30.0 + f64::from(number) / 100.0);
            let at = world
                .interval
                .mul_f64(place * world.rng.random_range(0.0..0.5));
            world.schedule(at, Happening::Restart(store));
        }
        let first = world.interval * 20;
        world.schedule(first, Happening::Fault);
        world
    }

    /// With a safeguard taken away.
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        if sabotage == Sabotage::HastyDeaths {
            let hasty = SwimOptions {
                suspicion_intervals: 1,
                ..(*self.options).clone()
            };
            let Ok(hasty) = hasty.check() else {
                unreachable!("1 is allowed")
            };
            self.options = hasty;
        }
        self
    }

    /// Nothing happens until everybody knows everybody; then all processes end, and come back at other addresses with the logs on
    /// their disks. They must agree within the bound of any calm.
    pub fn run_move(mut self) -> Result<Report, Violation> {
        self.pace.faults = 0;
        let settled = self.interval * 60;
        self.agenda.take_all().into_iter().for_each(|(at, what)| {
            if !matches!(what, Happening::Fault) {
                self.agenda.add(at, what);
            }
        });
        while self.now < settled {
            self.step()?;
        }
        self.moved = true;
        self.move_all();
        while self.now < settled + self.interval * 20 {
            self.step()?;
        }
        self.pace.messages = 0;
        self.run()
    }

    /// Faults, then calm, then agreement.
    pub fn run(mut self) -> Result<Report, Violation> {
        while self.messages < self.pace.messages || self.coverage.get("faults") < self.pace.faults {
            self.step()?;
        }
        let quiet_since = self.begin_calm()?;
        let mut converged = None;
        let end = quiet_since + self.interval * self.pace.calm;
        while self.now < end {
            let pause = self.now + self.interval;
            while self.agenda.next_at().is_some_and(|next| next <= pause) {
                self.step()?;
            }
            self.now = pause;
            match self.disagreement() {
                Some(_) => converged = None,
                None => {
                    let _ = converged.get_or_insert(self.now - quiet_since);
                }
            }
            if self.now > quiet_since + self.interval * 20
                && converged.is_some_and(|at| self.now > quiet_since + at + self.interval * 40)
            {
                break; // it lasts
            }
        }
        if let Some(disagreement) = self.disagreement() {
            return broken("Convergence", disagreement);
        }
        if let Some(busy) = self
            .processes
            .iter()
            .find(|process| process.up && process.swim.queued() > 0)
        {
            return broken(
                "Bounds",
                format!("{} still has news to tell, long after calm", busy.store),
            );
        }
        let converged_after = converged.unwrap_or_default();
        let machines: Vec<_> = self
            .processes
            .iter()
            .map(|process| process.swim.counters().clone())
            .collect();
        for counters in &machines {
            self.coverage.machine(counters);
        }
        self.coverage.add("messages", self.messages);
        Ok(Report {
            coverage: self.coverage,
            trace: self.trace,
            converged_after,
            converged_intervals: converged_after.as_secs_f64() / self.interval.as_secs_f64(),
        })
    }

    /// Every fault ends; whoever was to come back does so now.
    fn begin_calm(&mut self) -> Result<Duration, Violation> {
        self.calm = true;
        self.network.calm();
        let mut back = BTreeSet::new();
        for (at, what) in self.agenda.take_all() {
            match what {
                Happening::Fault | Happening::Mend(_) | Happening::Stall { .. } => {}
                Happening::Restart(store) => {
                    back.insert(store);
                }
                Happening::Resume(_) => self.agenda.add(self.now, what),
                _ => self.agenda.add(at, what),
            }
        }
        for process in 0..self.processes.len() {
            self.processes[process].paused_until = None;
            if self.processes[process].is_copy {
                self.stop(process);
            }
        }
        for store in back {
            self.schedule(self.interval, Happening::Restart(store));
        }
        Ok(self.now)
    }

    fn step(&mut self) -> Result<(), Violation> {
        let Some((at, what)) = self.agenda.pop() else {
            return broken("Progress", "nothing is ever going to happen".to_owned());
        };
        self.now = self.now.max(at);
        match what {
            Happening::Arrive { from, to, bytes } => self.arrive(to, Arrival { from, bytes }),
            Happening::Wake(process) if self.processes[process].wakes_at == at => {
                self.wake(process)
            }
            Happening::Wake(_) => Ok(()), // another appointment took its place
            Happening::CatchUp(process) => self.catch_up(process),
            Happening::Join(process) => self.join_cluster(process),
            Happening::Seek(process) => self.seek(process),
            Happening::Resume(process) => self.resume(process),
            Happening::Stall { process, until } => self.stall(process, until),
            Happening::Mend(number) => {
                self.network.cuts.retain(|cut| cut.number != number);
                Ok(())
            }
            Happening::Kill(process) => {
                self.stop(process);
                Ok(())
            }
            Happening::Restart(store) => self.restart(store),
            Happening::Fault => self.fault(),
        }
    }

    pub(super) fn schedule(&mut self, after: Duration, what: Happening) {
        self.agenda.add(self.now + after, what);
    }

    /// Up, with a store of their own.
    pub(super) fn running(&self) -> Vec<usize> {
        let runs = |&process: &usize| {
            let process = &self.processes[process];
            process.up && !process.is_copy && !process.leaving && process.paused_until.is_none()
        };
        (0..self.processes.len()).filter(runs).collect()
    }

    pub(super) fn arrive(
        &mut self,
        process: usize,
        Arrival { from, bytes }: Arrival,
    ) -> Result<(), Violation> {
        let receiver = &mut self.processes[process];
        if !receiver.up {
            return Ok(());
        }
        if receiver.paused_until.is_some() {
            if receiver.backlog.len() < BACKLOG_MAX {
                receiver.backlog.push(Arrival { from, bytes });
            }
            return Ok(());
        }
        let Ok(mut packet) = Packet::decode(&bytes) else {
            self.coverage.count("undecodable");
            return Ok(());
        };
        let (sender, started) = (self.processes[from].store, self.processes[from].generation);
        let before = self.processes[process].swim.position();
        let receiver = &self.processes[process];
        let newest = receiver
            .swim
            .member(sender)
            .is_none_or(|held| held.position().generation <= started);
        let heard =
            newest && receiver.joined && receiver.admitted.contains(&sender) && !receiver.leaving;
        let accuses = |accusation: &Accusation| {
            accusation.subject == receiver.store
                && accusation.position() == before
                && receiver.admitted.contains(&accusation.accuser)
        };
        let accused = heard && packet.accusations().any(accuses);
        let records = packet.records().map(|record| record.record().store);
        let subjects: BTreeSet<StoreId> = records
            .chain(packet.accusations().map(|accusation| accusation.subject))
            .collect();
        let deaf = self.sabotage == Some(Sabotage::DeafToAccusations) && accused;
        let forges = self.sabotage == Some(Sabotage::Forgery);
        self.act(process, Some((sender, from)), |swim, now| {
            swim.screen(&mut packet, if forges { &NoKeys } else { &AllKeys });
            if !deaf {
                swim.receive(now, sender, packet);
            }
        })?;
        if self.disks.len() > ALL_LOOKED_AT {
            self.observe(process, subjects)?;
        }
        let receiver = &self.processes[process];
        if accused && receiver.up && receiver.swim.position() <= before {
            return broken(
                "Refutation",
                format!(
                    "{} was accused at {before} and did not rise",
                    receiver.store
                ),
            );
        }
        Ok(())
    }

    /// Runs one input, carries out the outputs, and holds everything against the invariants. What goes to `reply_to`'s store
    /// takes the connection on which the input came.
    pub(super) fn act(
        &mut self,
        process: usize,
        reply_to: Option<(StoreId, usize)>,
        input: impl FnOnce(&mut Swim, Duration),
    ) -> Result<(), Violation> {
        if !self.processes[process].up || self.processes[process].paused_until.is_some() {
            return Ok(());
        }
        let now = self.processes[process].clock.shows(self.now);
        input(&mut self.processes[process].swim, now);
        let mut effects = 0;
        let mut touched = BTreeSet::new();
        while let Some(output) = self.processes[process].swim.poll_output() {
            effects += 1;
            if let SwimOutput::Event(event) = &output {
                let subject = self.processes[process].observer.told(now, event)?;
                touched.extend(subject);
            }
            match output {
                SwimOutput::Datagram { to, packet } => {
                    self.send(process, to, packet, false, reply_to)?
                }
                SwimOutput::Stream { to, packet } => {
                    self.send(process, to, packet, true, reply_to)?
                }
                SwimOutput::Event(MemberEvent::Superseded { .. }) => {
                    let stopped = if self.processes[process].is_copy {
                        "copies_stopped"
                    } else {
                        "originals_stopped"
                    };
                    self.coverage.count(stopped);
                    self.stop(process);
                }
                SwimOutput::Event(MemberEvent::Left { store })
                    if store == self.processes[process].store =>
                {
                    self.stop(process);
                }
                _ => {}
            }
        }
        if effects > EFFECTS_PER_STEP_MAX + 2 * self.disks.len() {
            return broken("Bounds", format!("{effects} effects of one step"));
        }
        self.observe(process, touched)?;
        let wakes = self.processes[process].swim.wake_at();
        if self.processes[process].up && wakes < Duration::MAX {
            let late = Duration::from_micros(self.rng.random_range(0..300));
            let at = self.processes[process].clock.world(wakes).max(self.now) + late;
            if self.processes[process].wakes_at != at {
                self.processes[process].wakes_at = at;
                self.schedule(at - self.now, Happening::Wake(process));
            }
        }
        Ok(())
    }

    /// All that the process holds; in a large world what it was told of just now, and a few others in turn.
    fn observe(&mut self, process: usize, touched: BTreeSet<StoreId>) -> Result<(), Violation> {
        let Process {
            store,
            swim,
            observer,
            admitted,
            clock,
            looked,
            ..
        } = &mut self.processes[process];
        let said = self.said.entry(*store).or_default();
        *said = (*said).max(swim.position());
        let now = clock.shows(self.now);
        let mut look = |member: &Member| {
            let seen = Observed {
                position: member.position(),
                state: member.state(),
            };
            let subject = member.store();
            let is_admitted = subject == *store || admitted.contains(&subject); // told of its own removal, it ends
            observer.check(
                now,
                subject,
                seen,
                is_admitted,
                self.said.get(&subject).copied(),
            )
        };
        if self.disks.len() <= ALL_LOOKED_AT {
            swim.members().try_for_each(look)?;
        } else {
            let first = *looked;
            let turn = (0..LOOKS_PER_STEP).map(|step| first + step);
            *looked = (*looked + LOOKS_PER_STEP) % self.disks.len() as u64;
            let turn = turn.map(|place| StoreId::new(1 + place % self.disks.len() as u64));
            let some = touched.into_iter().chain(turn);
            some.filter_map(|store| swim.member(store))
                .try_for_each(&mut look)?;
        }
        for (queue, held, most) in swim.queues() {
            if held > most {
                let detail = format!("{store} holds {held} {queue}, {most} are allowed");
                return broken("Bounds", detail);
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        from: usize,
        to: StoreId,
        mut packet: Packet,
        reliable: bool,
        reply_to: Option<(StoreId, usize)>,
    ) -> Result<(), Violation> {
        let sender = &self.processes[from];
        let held = sender.swim.member(to);
        if self.sabotage == Some(Sabotage::NeverCallTheDead)
            && held.is_some_and(|member| member.state() == MemberState::Dead)
        {
            return Ok(());
        }
        let forges = match self.forger {
            Some((forger, until)) => forger == from && self.now < until && !self.calm,
            None => self.sabotage == Some(Sabotage::Forgery) && self.messages > MESSAGES_LEAST / 2,
        };
        if forges {
            packet = forged(&packet, sender.store);
        }
        let receiver = match (reply_to, held) {
            (Some((store, process)), _) if store == to => Some(process),
            (_, Some(member)) => member
                .record()
                .addresses
                .first()
                .and_then(|at| self.addresses.get(at))
                .copied(),
            _ => None,
        };
        self.messages += 1;
        let mut bytes = packet.encode();
        let limit = if reliable {
            Packet::BYTES_MAX
        } else {
            self.options.datagram_bytes
        };
        if bytes.len() > limit {
            return broken(
                "Bounds",
                format!(
                    "a {} of {} bytes, the limit is {limit}",
                    packet.kind(),
                    bytes.len()
                ),
            );
        }
        let store = sender.store;
        self.trace = xxh3_64_with_seed(
            &bytes,
            self.trace ^ (self.now.as_nanos() as u64) ^ (store.get() << 48) ^ (to.get() << 56),
        );
        if self.prints {
            println!("{:?} {store} -> {to} {packet:?}", self.now);
        }
        let Some(receiver) = receiver else {
            return Ok(());
        };
        let fate = self.network.fate(&mut self.rng, store, to, reliable);
        if !reliable && self.network.damage > 0.0 && self.rng.random_bool(self.network.damage) {
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << self.rng.random_range(0..8);
        }
        if fate.refused {
            let now = self.processes[from].clock.shows(self.now);
            self.processes[from].swim.send_failed(now, to);
        }
        let bytes = Bytes::from(bytes);
        for delay in fate.arrivals {
            self.schedule(
                delay,
                Happening::Arrive {
                    from,
                    to: receiver,
                    bytes: bytes.clone(),
                },
            );
        }
        Ok(())
    }
}
