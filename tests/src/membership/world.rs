//! The cluster, its clock and its log.
//!
//! Here: [`World`]: one seed makes sizes, timing, faults and chances; faults rage until enough packets were sent, then the world
//! is calm and everybody must agree within a stated bound. Not here: which faults ([`super::faults`]).

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_membership::{
    Accusation, CheckedSwimOptions, LocalMember, MemberEvent, MemberState, Metadata, Packet,
    Position, StoreId, Swim, SwimOptions, SwimOutput,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::coverage::Coverage;
use super::invariants::{Observed, Observer, Violation, violated};
use super::network::Network;
use super::process::{AllKeys, Arrival, Keys, NoKeys, Process};

/// Packets under faults, per seed, before the calm.
const MESSAGES_LEAST: u64 = 20_000;
/// Faults, per seed, before the calm.
const FAULTS_LEAST: u64 = 30;
/// Packets that wait for a paused process; more are lost, as in a socket's buffer.
const BACKLOG_MAX: usize = 500;
/// Effects of one step of one machine: answers to a packet, a round of gossip, a probe with its helpers, a few events per member.
const EFFECTS_PER_STEP_MAX: usize = 400;
/// After the calm begins, in probe intervals: everybody agrees, with equal hashes. Made of the slowest probe round of a node that
/// trusts itself least (9 intervals per probe), a lone accuser's suspicion of `3 * 4 * log10(45)` intervals, and calling up to
/// 45 dead members at 4 intervals each.
const CALM_INTERVALS: u32 = 240;

/// Takes a safeguard away, to show that the invariants see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// A node forgets everything without a restart.
    Amnesia,
    /// Signatures are not checked, and a peer signs for others.
    Forgery,
    /// Accusations of the own store do not reach the machine.
    DeafToAccusations,
    /// Suspicions end after a quarter of the time.
    HastyDeaths,
    /// The machine is told that every store is admitted.
    OpenDoor,
    /// Datagrams are built for a larger limit than the wire has.
    Oversized,
    /// Nothing is sent to members that are held for dead.
    NeverCallTheDead,
}

/// One entry of the system log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Admit(StoreId),
    Remove(StoreId),
}

/// What a store's disk and the log know about it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) starts: u64,
    pub(super) removed: bool,
}

#[derive(Debug)]
pub(super) enum Happening {
    Arrive {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Wake(usize),
    CatchUp(usize),
    Join(usize),
    Resume(usize),
    Mend(u64),
    Kill(usize),
    Restart(StoreId),
    Fault,
}

struct Appointment {
    at: Duration,
    number: u64,
    what: Happening,
}

impl PartialEq for Appointment {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Appointment {}
impl PartialOrd for Appointment {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Appointment {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number)) // earliest first
    }
}

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

/// See the module.
pub struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Duration,
    pub(super) interval: Duration,
    options: CheckedSwimOptions,
    /// What the invariants hold the machines to, sabotaged or not.
    suspicion_least: Duration,
    agenda: BinaryHeap<Appointment>,
    appointments: u64,
    pub(super) processes: Vec<Process>,
    addresses: BTreeMap<SocketAddr, usize>,
    pub(super) disks: BTreeMap<StoreId, Disk>,
    log: Vec<Entry>,
    /// The newest position that each store ever signed.
    said: BTreeMap<StoreId, Position>,
    pub(super) network: Network,
    pub(super) cuts: u64,
    pub(super) coverage: Coverage,
    messages: u64,
    trace: u64,
    calm: bool,
    sabotage: Option<Sabotage>,
    /// `SIM_TRACE` prints every packet.
    prints: bool,
}

impl World {
    /// 3 to 30 nodes that join one after the other.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
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
        let size = if rng.random_bool(0.3) {
            rng.random_range(3..6)
        } else {
            rng.random_range(6..=30)
        };
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            interval,
            suspicion_least: options.suspicion_intervals * interval,
            options,
            agenda: BinaryHeap::new(),
            appointments: 0,
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
            prints: std::env::var_os("SIM_TRACE").is_some(),
        };
        for number in 1..=size {
            let store = world.new_store(format!("n{number}"));
            let at = world
                .interval
                .mul_f64(f64::from(number) * world.rng.random_range(0.0..0.5));
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

    /// Faults, then calm, then agreement.
    pub fn run(mut self) -> Result<Report, Violation> {
        while self.messages < MESSAGES_LEAST || self.coverage.get("faults") < FAULTS_LEAST {
            self.step()?;
        }
        let quiet_since = self.begin_calm()?;
        let mut converged = None;
        let end = quiet_since + self.interval * CALM_INTERVALS;
        while self.now < end {
            let pause = self.now + self.interval;
            while self.agenda.peek().is_some_and(|next| next.at <= pause) {
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
            return violated("Convergence", disagreement);
        }
        if let Some(busy) = self
            .processes
            .iter()
            .find(|process| process.up && process.swim.queued() > 0)
        {
            return violated(
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
        let agenda = core::mem::take(&mut self.agenda).into_sorted_vec();
        let mut back = BTreeSet::new();
        for appointment in agenda {
            match appointment.what {
                Happening::Fault | Happening::Mend(_) => {}
                Happening::Restart(store) => {
                    back.insert(store);
                }
                Happening::Resume(process) => {
                    self.schedule(Duration::ZERO, Happening::Resume(process))
                }
                _ => self.agenda.push(appointment),
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
        let Some(Appointment { at, what, .. }) = self.agenda.pop() else {
            return violated("Progress", "nothing is ever going to happen".to_owned());
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
            Happening::Resume(process) => self.resume(process),
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
        self.appointments += 1;
        self.agenda.push(Appointment {
            at: self.now + after,
            number: self.appointments,
            what,
        });
    }

    /// Up, with a store of their own.
    pub(super) fn running(&self) -> Vec<usize> {
        let runs = |&process: &usize| {
            let process = &self.processes[process];
            process.up && !process.is_copy && !process.leaving && process.paused_until.is_none()
        };
        (0..self.processes.len()).filter(runs).collect()
    }

    // ---- the log ----

    /// The log admits a store before it says a word (M41).
    pub(super) fn new_store(&mut self, name: String) -> StoreId {
        let store = StoreId::new(self.disks.len() as u64 + 1);
        self.disks.insert(
            store,
            Disk {
                name,
                starts: 0,
                removed: false,
            },
        );
        self.append(Entry::Admit(store));
        store
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if let Entry::Remove(store) = entry
            && let Some(disk) = self.disks.get_mut(&store)
        {
            disk.removed = true;
        }
        self.log.push(entry);
        for process in 0..self.processes.len() {
            if self.processes[process].up {
                self.appoint_catch_up(process);
            }
        }
    }

    fn appoint_catch_up(&mut self, process: usize) {
        let lag = self
            .interval
            .mul_f64(self.rng.random_range(0.0f64..1.5).powi(4));
        self.schedule(lag, Happening::CatchUp(process));
    }

    fn catch_up(&mut self, process: usize) -> Result<(), Violation> {
        if !self.processes[process].joined {
            return Ok(()); // it has no log yet
        }
        if self.processes[process].paused_until.is_some() {
            self.schedule(self.interval, Happening::CatchUp(process));
            return Ok(());
        }
        let entries: Vec<Entry> = self.log[self.processes[process].applied..].to_vec();
        for entry in entries {
            if !self.processes[process].up {
                break;
            }
            self.processes[process].applied += 1;
            match entry {
                Entry::Admit(store) => {
                    self.processes[process].admitted.insert(store);
                    self.act(process, None, |swim, now| swim.admitted(now, [store]))?;
                }
                Entry::Remove(store) => {
                    self.processes[process].admitted.remove(&store);
                    self.processes[process].observer.forget(store);
                    self.act(process, None, |swim, _| swim.removed(store))?;
                    if store == self.processes[process].store {
                        self.stop(process);
                    }
                }
            }
        }
        Ok(())
    }

    // ---- processes ----

    fn restart(&mut self, store: StoreId) -> Result<(), Violation> {
        let up = self
            .processes
            .iter()
            .any(|process| process.up && process.store == store && !process.is_copy);
        let Some(disk) = self
            .disks
            .get_mut(&store)
            .filter(|disk| !up && !disk.removed)
        else {
            return Ok(());
        };
        disk.starts += 1;
        let generation = disk.starts;
        if generation > 1 {
            self.coverage.count("restarts");
        }
        self.start(store, generation, false)
    }

    /// Every start has a new address.
    pub(super) fn start(
        &mut self,
        store: StoreId,
        generation: u64,
        is_copy: bool,
    ) -> Result<(), Violation> {
        let number = self.processes.len();
        let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7_000));
        let clock = Duration::from_millis(self.rng.random_range(0..1_000_000));
        let me = LocalMember {
            store,
            name: self.disks[&store].name.clone(),
            generation,
            addresses: vec![address],
            metadata: Metadata {
                capacity: 1,
                ..Metadata::default()
            },
        };
        let made = Swim::new(
            self.options.clone(),
            me,
            Box::new(Keys(store)),
            self.rng.random(),
            self.now + clock,
        );
        let Ok(mut swim) = made else {
            return violated("Bounds", format!("{store} cannot start"));
        };
        if self.sabotage == Some(Sabotage::Oversized) {
            swim.set_datagram_bytes(self.options.datagram_bytes * 2);
        }
        self.processes.push(Process {
            store,
            generation,
            address,
            swim,
            up: true,
            is_copy,
            joined: false,
            leaving: false,
            applied: 0,
            admitted: BTreeSet::from([store]),
            paused_until: None,
            backlog: Vec::new(),
            observer: Observer::new(store, self.suspicion_least),
            clock,
            wakes_at: Duration::MAX,
        });
        self.addresses.insert(address, number);
        self.act(number, None, |_, _| {})?;
        self.join_cluster(number)
    }

    /// Through any member that answers: its share of the log, and its full view.
    fn join_cluster(&mut self, process: usize) -> Result<(), Violation> {
        if !self.processes[process].up || self.processes[process].joined {
            return Ok(());
        }
        if self.processes[process].paused_until.is_some() {
            self.schedule(self.interval, Happening::Join(process));
            return Ok(());
        }
        let store = self.processes[process].store;
        let seeds: Vec<usize> = self
            .running()
            .into_iter()
            .filter(|&seed| self.processes[seed].store != store)
            .collect();
        let first_ever = self
            .processes
            .iter()
            .filter(|process| process.joined)
            .count()
            == 0;
        let answers = |&seed: &usize| {
            let (seed, me) = (&self.processes[seed], &self.processes[process]);
            let blocked = |from, to| {
                self.network
                    .cuts
                    .iter()
                    .any(|cut| cut.from.contains(from) && cut.to.contains(to))
            };
            seed.joined && !blocked(&seed.store, &me.store) && !blocked(&me.store, &seed.store)
        };
        let Some(seed) = seeds.into_iter().filter(answers).choose(&mut self.rng) else {
            if first_ever {
                self.processes[process].joined = true;
                self.appoint_catch_up(process);
            } else {
                self.schedule(self.interval, Happening::Join(process));
            }
            return Ok(());
        };
        self.processes[process].joined = true;
        let mut view = self.processes[seed].swim.view();
        if self.processes[process].is_copy && self.rng.random_bool(0.5) {
            view.retain(|record| record.record().store != store); // not told of itself: it must find out
        }
        let applied = self.processes[seed].applied;
        let admitted = self.processes[seed].admitted.clone();
        let known: Vec<StoreId> = if self.sabotage == Some(Sabotage::OpenDoor) {
            (1..1_000).map(StoreId::new).collect()
        } else {
            admitted.iter().copied().collect()
        };
        let removed: Vec<StoreId> = self.log[..applied]
            .iter()
            .filter_map(|entry| match entry {
                Entry::Remove(store) => Some(*store),
                Entry::Admit(_) => None,
            })
            .collect();
        if removed.contains(&store) {
            self.stop(process);
            return Ok(());
        }
        self.processes[process].applied = applied;
        self.processes[process].admitted = admitted;
        self.processes[process].admitted.insert(store);
        self.appoint_catch_up(process);
        self.act(process, None, |swim, now| {
            for store in removed {
                swim.removed(store);
            }
            swim.admitted(now, known);
            for record in view {
                swim.introduce(now, record);
            }
        })
    }

    pub(super) fn stop(&mut self, process: usize) {
        self.processes[process].up = false;
        self.processes[process].backlog.clear();
    }

    fn resume(&mut self, process: usize) -> Result<(), Violation> {
        if self.processes[process]
            .paused_until
            .is_some_and(|until| until > self.now)
        {
            return Ok(());
        }
        self.processes[process].paused_until = None;
        // E22: whether the timer or the socket is read first is up to the scheduler.
        if self.rng.random_bool(0.5) {
            self.act(process, None, |swim, now| swim.tick(now))?;
        }
        for arrival in core::mem::take(&mut self.processes[process].backlog) {
            self.arrive(process, arrival)?;
        }
        self.act(process, None, |swim, now| swim.tick(now))
    }

    fn wake(&mut self, process: usize) -> Result<(), Violation> {
        if self.sabotage == Some(Sabotage::Amnesia) && self.messages > MESSAGES_LEAST / 2 {
            self.sabotage = None;
            let Process {
                store,
                generation,
                address,
                clock,
                ..
            } = self.processes[process];
            let name = self.disks[&store].name.clone();
            let me = LocalMember {
                store,
                name,
                generation,
                addresses: vec![address],
                metadata: Metadata::default(),
            };
            let admitted: Vec<StoreId> = self.processes[process].admitted.iter().copied().collect();
            let view = self.processes[process].swim.view();
            let options = self.options.clone();
            let Ok(swim) = Swim::new(options, me, Box::new(Keys(store)), 1, self.now + clock)
            else {
                return Ok(());
            };
            self.processes[process].swim = swim;
            self.act(process, None, |swim, now| {
                swim.admitted(now, admitted);
                view.into_iter()
                    .filter(|record| record.record().store != store)
                    .for_each(|record| swim.introduce(now, record));
            })?;
        }
        self.act(process, None, |swim, now| swim.tick(now))
    }

    fn arrive(
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
        let deaf = self.sabotage == Some(Sabotage::DeafToAccusations) && accused;
        let forges = self.sabotage == Some(Sabotage::Forgery);
        self.act(process, Some((sender, from)), |swim, now| {
            swim.screen(&mut packet, if forges { &NoKeys } else { &AllKeys });
            if !deaf {
                swim.receive(now, sender, packet);
            }
        })?;
        let receiver = &self.processes[process];
        if accused && receiver.up && receiver.swim.position() <= before {
            return violated(
                "Refutation",
                format!(
                    "{} was accused at {before} and did not rise",
                    receiver.store
                ),
            );
        }
        Ok(())
    }

    // ---- one step of one machine ----

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
        let now = self.now + self.processes[process].clock;
        input(&mut self.processes[process].swim, now);
        let mut effects = 0;
        while let Some(output) = self.processes[process].swim.poll_output() {
            effects += 1;
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
        if effects > EFFECTS_PER_STEP_MAX {
            return violated("Bounds", format!("{effects} effects of one step"));
        }
        self.observe(process)?;
        let process_now = self.processes[process].clock;
        let wakes = self.processes[process].swim.wake_at();
        if self.processes[process].up && wakes < Duration::MAX {
            let late = Duration::from_micros(self.rng.random_range(0..300));
            let at = wakes.saturating_sub(process_now).max(self.now) + late;
            if self.processes[process].wakes_at != at {
                self.processes[process].wakes_at = at;
                self.schedule(at - self.now, Happening::Wake(process));
            }
        }
        Ok(())
    }

    fn observe(&mut self, process: usize) -> Result<(), Violation> {
        let Process {
            store,
            swim,
            observer,
            admitted,
            clock,
            ..
        } = &mut self.processes[process];
        let said = self.said.entry(*store).or_default();
        *said = (*said).max(swim.position());
        let mut known = 0;
        for member in swim.members() {
            known += 1;
            let seen = Observed {
                position: member.position(),
                state: member.state(),
            };
            let subject = member.store();
            let is_admitted = subject == *store || admitted.contains(&subject); // told of its own removal, it ends
            observer.check(
                self.now + *clock,
                subject,
                seen,
                is_admitted,
                self.said.get(&subject).copied(),
            )?;
        }
        if swim.queued() > known {
            return violated(
                "Bounds",
                format!(
                    "{store} has news about {} of {known} members",
                    swim.queued()
                ),
            );
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
        if self.sabotage == Some(Sabotage::Forgery) && self.messages > MESSAGES_LEAST / 2 {
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
            return violated(
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
            let now = self.now + self.processes[from].clock;
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

    // ---- agreement ----

    /// What is not settled yet: everybody up must be alive at its own position for everybody, whoever is down must not be
    /// present for anybody, and all hashes must be equal.
    fn disagreement(&self) -> Option<String> {
        let up: Vec<&Process> = self
            .processes
            .iter()
            .filter(|process| process.up && !process.is_copy)
            .collect();
        let first = up.first()?;
        for observer in &up {
            if observer.swim.hash() != first.swim.hash() {
                let view = |process: &Process| -> Vec<String> {
                    let tell = |member: &synod_membership::Member| {
                        format!(
                            "{}:{}{:?}",
                            member.store(),
                            member.position(),
                            member.state()
                        )
                    };
                    process.swim.members().map(tell).collect()
                };
                return Some(format!(
                    "{} has {:?}, {} has {:?}",
                    first.store,
                    view(first),
                    observer.store,
                    view(observer)
                ));
            }
            for subject in &up {
                let held = observer.swim.member(subject.store);
                let right = |held: &&synod_membership::Member| {
                    held.position() == subject.swim.position()
                        && (held.state() == MemberState::Alive || subject.leaving)
                };
                if held.filter(right).is_none() {
                    let held = held.map(|held| (held.position(), held.state()));
                    let now = subject.swim.position();
                    return Some(format!(
                        "{} (joined {}) holds {held:?} of {} (joined {}), which is at {now}",
                        observer.store, observer.joined, subject.store, subject.joined
                    ));
                }
            }
            for member in observer.swim.members().filter(|member| member.is_present()) {
                if !up.iter().any(|process| process.store == member.store()) {
                    return Some(format!(
                        "{} holds {}, which is down, for {:?}",
                        observer.store,
                        member.store(),
                        member.state()
                    ));
                }
            }
        }
        None
    }
}

/// Every record on it is signed again, by the sender, for a position that its subject never reached.
fn forged(packet: &Packet, by: StoreId) -> Packet {
    let bytes = packet.encode();
    let Some(record) = packet.records().find(|record| record.record().store != by) else {
        return packet.clone();
    };
    let mut claim = record.record().clone();
    claim.incarnation = (claim.incarnation + 1).min(100);
    let Ok(forged) = claim.sign(&Keys(by)) else {
        return packet.clone();
    };
    let (Ok(old), Ok(new)) = (
        rmp_serde::to_vec_named(record),
        rmp_serde::to_vec_named(&forged),
    ) else {
        return packet.clone();
    };
    let Some(at) = bytes.windows(old.len()).position(|window| window == old) else {
        return packet.clone();
    };
    let bytes = [&bytes[..at], &new, &bytes[at + old.len()..]].concat();
    Packet::decode(&bytes).unwrap_or_else(|_| packet.clone())
}
