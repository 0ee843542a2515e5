//! The world: one clock, one queue of events, all chance from one seed.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_consensus::{CheckedOptions, Configuration, Message, ReplicaId, Term};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::event::Event;
use super::history::{History, Judged};
use super::network::Network;
use super::options;
use super::oracle::Oracle;
use super::process::{Process, Witnesses};
use super::replica::{Replica, Started};
use super::shipping::Turn;
use super::trial::Trial;
use super::watch::Cause;
use crate::coverage::Coverage;
use crate::disk::VirtualDisk;
use crate::violation::{Violation, broken};

/// How long after the last fault the group may take to answer again and agree: several elections, a snapshot, a configuration left.
pub const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Messages and completions that a run has after the first election.
const EVENTS_MIN: u64 = 20_000;
const ACKNOWLEDGED_MIN: u64 = 500;
const FAULTS_MIN: u64 = 20;
/// A run that has not seen enough by then ends its safety phase all the same.
const STORM_MAX: Duration = Duration::from_secs(400);
/// So does one with so many steps: messages that only beget messages let no time pass.
const STEPS_MAX: u64 = 1_500_000;

/// A safeguard taken away, to show that its absence is seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// Disks say that they synced and did not.
    LyingSyncs,
    /// One replica is a majority.
    MajorityOfOne,
    /// A bug that was fixed elsewhere, put back.
    Bug(synod_consensus::Sabotage),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it saw.
    pub coverage: Coverage,
    /// A digest of everything that happened, in order.
    pub trace: u64,
    /// Virtual time from the last fault to agreement.
    pub healed_in: Duration,
}

/// One group, its machines, clients, operator and weather.
pub struct World {
    seed: u64,
    pub(crate) now: Duration,
    order: u64,
    events: BTreeMap<(Duration, u64), Event>,
    pub(crate) rng: ChaCha8Rng,
    pub(super) options: CheckedOptions,
    pub(crate) network: Network,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    /// Machines that wait to be added.
    pub(crate) newcomers: BTreeSet<ReplicaId>,
    pub(crate) history: History,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    /// When something was last acknowledged, and how much there was by then.
    pub(crate) answered: (Duration, u64),
    pub(crate) last_machine: u64,
    pub(crate) command_gap: u64,
    pub(crate) storm_gap: u64,
    /// What was tried last, until the next fault.
    pub(super) tried: Option<Trial>,
    /// Who will hear nothing once it has told another to campaign.
    pub(super) deaf_in_transfer: Option<ReplicaId>,
    /// Until then the operator does nothing, and clients hardly write.
    pub(super) calm_until: Duration,
    pub(super) disk_latency: Duration,
    /// A clock is either right or as slow as the options allow, nothing between.
    clocks_are_far_apart: bool,
    pub(super) founders: u64,
    /// The latest leader.
    pub(super) leading: Option<(ReplicaId, Term)>,
    /// Who should lead, as the operator sees it.
    pub(super) preferred: Option<ReplicaId>,
    /// Events so far.
    pub(super) steps: u64,
    sabotage: Option<Sabotage>,
    pub(super) elected: bool,
    pub(super) healing: bool,
    trace: u64,
    talkative: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl World {
    /// Everything about a run follows from `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let options = options::draw(&mut rng, None);
        let founders = [1, 2, 3, 3, 3, 4, 5, 5, 6, 7][rng.random_range(0..10)];
        let mut world = Self {
            seed,
            now: Duration::ZERO,
            order: 0,
            events: BTreeMap::new(),
            network: Network::draw(&mut rng),
            options,
            replicas: BTreeMap::new(),
            newcomers: BTreeSet::new(),
            history: History::new(Judged::All),
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            answered: (Duration::ZERO, 0),
            last_machine: founders,
            command_gap: rng.random_range(3_000..20_000),
            storm_gap: rng.random_range(700..3_000),
            tried: None,
            deaf_in_transfer: None,
            calm_until: Duration::ZERO,
            disk_latency: Duration::from_micros(rng.random_range(50..2_000)),
            clocks_are_far_apart: rng.random(),
            founders,
            leading: None,
            preferred: None,
            steps: 0,
            sabotage: None,
            elected: false,
            healing: false,
            trace: 0,
            talkative: std::env::var_os("SIM_TRACE").is_some(),
            rng,
        };
        let founding = Configuration::of_voters((1..=founders).map(ReplicaId::new));
        for id in (1..=founders).map(ReplicaId::new) {
            let disk = VirtualDisk::new(world.rng.random());
            let slow_ppm = world.draw_slowness();
            world
                .replicas
                .insert(id, Replica::new(id, disk, Some(founding.clone()), slow_ppm));
            world.push(Duration::ZERO, Event::Start { id });
        }
        for event in [Event::Command, Event::Read, Event::Operate] {
            world.push(Duration::from_millis(600), event);
        }
        world.push(Duration::from_secs(2), Event::Storm);
        world
    }

    /// Takes a safeguard away. Without fsync or majorities, only the loss of acknowledged commands counts; with a bug, everything.
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        let bug = match sabotage {
            Sabotage::LyingSyncs => None,
            Sabotage::MajorityOfOne => Some(synod_consensus::Sabotage::MajorityOfOne),
            Sabotage::Bug(bug) => Some(bug),
        };
        if !matches!(sabotage, Sabotage::Bug(_)) {
            self.history = History::new(Judged::Only("Acknowledged Commands"));
        }
        self.sabotage = Some(sabotage);
        self.options = options::draw(&mut ChaCha8Rng::seed_from_u64(self.seed), bug);
        if sabotage == Sabotage::LyingSyncs {
            self.replicas
                .values()
                .for_each(|replica| replica.disk.let_syncs_lie(true));
        }
        self
    }

    /// How much the next machine's clock loses: two of them never differ by more than the options allow.
    pub(super) fn draw_slowness(&mut self) -> u32 {
        let most = self.options.clock_drift_ppm;
        if self.clocks_are_far_apart {
            return if self.rng.random_bool(0.3) { most } else { 0 };
        }
        match self.rng.random_range(0..3) {
            0 => 0,
            1 => most,
            _ => self.rng.random_range(0..most),
        }
    }

    pub(crate) fn push(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.events.insert((self.now + after, self.order), event);
    }

    /// Lets everything pass but violations of this invariant, to show that it alone would have noticed.
    #[must_use]
    pub fn looking_for(mut self, invariant: &'static str) -> Self {
        self.history = History::new(Judged::Only(invariant));
        self
    }

    /// Runs both phases.
    pub fn run(mut self) -> Result<Report, Violation> {
        while !self.has_seen_enough() {
            self.step()?;
        }
        self.heal();
        let (calm, steps) = (self.now, self.steps);
        let enough = self.coverage.get("acknowledged") + 20;
        while !(self.coverage.get("acknowledged") >= enough && self.agrees()) {
            if self.now > calm + HEALED_WITHIN || self.steps > steps + STEPS_MAX {
                let detail = format!(
                    "{:?} and {} steps after the last fault: {}",
                    self.now - calm,
                    self.steps - steps,
                    self.describe()
                );
                self.history.judge(broken("Liveness", detail))?;
                break;
            }
            self.step()?;
        }
        self.check_acknowledged()?;
        let judged = self.oracle.judge(|id| self.history.place(id));
        self.history.judge(judged)?;
        Ok(Report {
            coverage: self.coverage,
            trace: self.trace,
            healed_in: self.now - calm,
        })
    }

    fn has_seen_enough(&self) -> bool {
        let seen = self.coverage.get("events") >= EVENTS_MIN
            && self.coverage.get("acknowledged") >= ACKNOWLEDGED_MIN
            && self.coverage.get("faults") >= FAULTS_MIN;
        seen || self.now > STORM_MAX || self.steps > STEPS_MAX
    }

    pub(super) fn step(&mut self) -> Result<(), Violation> {
        let ((at, order), event) = self
            .events
            .pop_first()
            .expect("clients and timers never end");
        self.now = at;
        self.steps += 1;
        if let Some(event) = self.held_back(event) {
            self.note(order, &event);
            let concerned = if self.history.forgives() {
                let whose = event.whose();
                match catch_unwind(AssertUnwindSafe(|| self.happen(event))) {
                    Ok(result) => result?,
                    Err(_) => return self.stopped_itself(whose),
                }
            } else {
                self.happen(event)?
            };
            if let Some((id, cause)) = concerned {
                self.settle(id, cause)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, order: u64, event: &Event) {
        let nanos = self.now.as_nanos() as u64;
        let [kind, who, what] = event.numbers();
        let numbers = [nanos, order, kind, who, what, self.oracle.next_id()];
        self.trace = xxh3_64_with_seed(&numbers.map(u64::to_le_bytes).concat(), self.trace);
        if self.talkative {
            match event {
                Event::Deliver { to, bytes } => {
                    let message: Message = rmp_serde::from_slice(bytes).expect("encoded here");
                    println!("{:>12?} {to} <- {message:?}", self.now);
                }
                other => println!("{:>12?} {other:?}", self.now),
            }
        }
    }

    /// Events of paused processes and stalled disks wait; those of earlier lives are void.
    fn held_back(&mut self, event: Event) -> Option<Event> {
        let Some(id) = event.whose() else {
            return Some(event);
        };
        let life = event.life();
        let replica = self.replicas.get_mut(&id)?;
        if !replica.is_up() || life.is_some_and(|life| life != replica.life) {
            return None;
        }
        if event.kills() {
            return Some(event);
        }
        if !replica.runs() {
            replica.waits(event, &mut self.coverage);
            return None;
        }
        if matches!(event, Event::Write { .. } | Event::Freight { .. }) {
            let until = replica.waits_for_disk(self.now, &mut self.coverage);
            if until > self.now {
                self.push(until - self.now, event);
                return None;
            }
        }
        Some(event)
    }

    /// A pause is due to end: what waited is found in the order in which it came, before whatever comes now.
    pub(super) fn resume(&mut self, id: ReplicaId, at_once: bool) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        for event in replica.resume(self.now, at_once) {
            self.push(Duration::ZERO, event);
        }
    }

    /// Lets one event happen; returns the replica whose outputs have to be drawn, and why.
    fn happen(&mut self, event: Event) -> Result<Option<(ReplicaId, Cause)>, Violation> {
        let now = self.now;
        match event {
            Event::Deliver { to, bytes } => {
                let message: Message = rmp_serde::from_slice(&bytes).expect("encoded by a replica");
                self.count_event();
                let (name, term) = (message.name(), message.term);
                let replica = self.replicas.get_mut(&to).expect("held back otherwise");
                let process = replica.process.as_mut().expect("held back otherwise");
                let role = process.status.role;
                process
                    .watch
                    .receives(name, &bytes, role, &mut self.coverage);
                let shown = process.clock.shows(now);
                process.group.receive(shown, message);
                return Ok(Some((to, Cause::Message { name, term })));
            }
            Event::Write { id, .. } => {
                let replica = self.replicas.get_mut(&id).expect("held back otherwise");
                let life = replica.life;
                if let Some(process) = &mut replica.process {
                    process.write_due = false;
                }
                match replica.write(&mut self.coverage) {
                    Ok(tokens) => {
                        let told = Duration::from_micros(self.rng.random_range(1..400));
                        self.push(told, Event::Written { id, life, tokens });
                    }
                    Err(_) => self.fail(id),
                }
            }
            Event::Written { id, tokens, .. } => {
                for token in tokens {
                    self.count_event();
                    let process = self.running(id);
                    process.watch.write_told(token.serial());
                    let shown = process.clock.shows(now);
                    process.group.persisted(shown, token);
                }
                return Ok(Some((id, Cause::Other)));
            }
            Event::Apply { id, .. } => {
                self.count_event();
                let (replica, mut witnesses) = self.with_witnesses(id);
                if let Some(process) = &mut replica.process {
                    process.apply_due = false;
                }
                match replica.apply(now, &mut witnesses) {
                    Ok(true) => self.schedule_apply(id),
                    Ok(false) => {}
                    Err(violation) => self.history.judge(Err(violation))?,
                }
                return Ok(Some((id, Cause::Other)));
            }
            Event::Freight { id, life } => {
                self.count_event();
                self.running(id).freight.turn_due = false;
                // Chance of its own, so that the replica and those who see everything can be borrowed beside it.
                let mut rng = ChaCha8Rng::seed_from_u64(self.rng.random());
                let (replica, mut witnesses) = self.with_witnesses(id);
                match replica.freight_turn(now, &mut rng, &mut witnesses) {
                    Ok(Ok(Turn::Done)) => {}
                    Ok(Ok(Turn::Adopted)) => {
                        let told = Duration::from_micros(self.rng.random_range(100..10_000));
                        self.push(told, Event::Fetched { id, life });
                    }
                    Ok(Err(_)) => {
                        self.fail(id);
                        return Ok(None);
                    }
                    Err(violation) => self.history.judge(Err(violation))?,
                }
                self.schedule_freight(id);
                return Ok(Some((id, Cause::Other)));
            }
            Event::Provide { id, to, .. } => {
                self.provide(id, to);
                self.admit_shipments(id);
                return Ok(Some((id, Cause::Other)));
            }
            Event::Fetched { id, .. } => {
                self.count_event();
                let (replica, mut witnesses) = self.with_witnesses(id);
                replica.fetched(now, &mut witnesses)?;
                return Ok(Some((id, Cause::Installed)));
            }
            Event::CheckpointAnew { id, .. } => {
                let (replica, witnesses) = self.with_witnesses(id);
                if replica
                    .checkpoint(now, false, true, witnesses.coverage)
                    .is_err()
                {
                    self.fail(id);
                }
                return Ok(Some((id, Cause::Other)));
            }
            Event::Restart { id, back, .. } => {
                if !self.healing {
                    self.restart(id, back);
                }
            }
            Event::Congest { links, by, lasting } => {
                if !self.healing {
                    self.coverage.count("links_congested");
                    self.network.congest(&links, by);
                    self.push(lasting, Event::Relieve { links });
                }
            }
            Event::Relieve { links } => self.network.relieve(&links),
            Event::Tick { id, at, .. } => {
                let process = self.running(id);
                if process.tick_at != Some(at) {
                    return Ok(None);
                }
                process.tick_at = None;
                let shown = process.clock.shows(now);
                let due = process.group.wake_at().filter(|at| *at <= shown);
                let cause = due.map_or(Cause::Other, |at| Cause::Tick(shown - at));
                if due.is_some() {
                    process.group.tick(shown);
                }
                return Ok(Some((id, cause)));
            }
            Event::Start { id } => return self.start(id),
            Event::Checkpoint { id } => {
                self.take_checkpoint(id);
                return Ok(Some((id, Cause::Other)));
            }
            Event::Suspect { id, peer, .. } => {
                self.coverage.count("suspicions");
                let process = self.running(id);
                let shown = process.clock.shows(now);
                process.group.peer_silent(shown, peer);
                return Ok(Some((id, Cause::Other)));
            }
            Event::Cut {
                links,
                lasting,
                name,
            } => {
                if !self.healing {
                    self.coverage.count(name);
                    self.network.cut(&links);
                    self.push(lasting, Event::Mend { links });
                }
            }
            Event::Mend { links } => self.network.mend(&links),
            Event::Room { id } => self.replicas[&id].disk.set_capacity(None),
            Event::CrashAMember => {
                let members: Vec<_> = self
                    .replicas
                    .values()
                    .filter(|replica| replica.is_up())
                    .map(Replica::id)
                    .collect();
                if !self.healing && !members.is_empty() {
                    let victim = members[self.rng.random_range(0..members.len())];
                    let power = self.rng.random();
                    self.coverage.count("faults");
                    self.crash(victim, power);
                }
            }
            Event::Crash { id, .. } => {
                if !self.healing {
                    self.coverage.count("faults");
                    self.crash(id, true);
                }
            }
            Event::Resume { id, life } => {
                if self
                    .replicas
                    .get(&id)
                    .is_some_and(|replica| replica.life == life)
                {
                    self.resume(id, false);
                }
            }
            Event::Asked { id, request, .. } => {
                self.ask(id, request);
                return Ok(Some((id, Cause::Other)));
            }
            Event::Trial => {
                if !self.healing {
                    return Ok(self.trial().map(|id| (id, Cause::Other)));
                }
            }
            Event::Command => return Ok(self.client_commands().map(|id| (id, Cause::Other))),
            Event::Read => return Ok(self.client_reads().map(|id| (id, Cause::Other))),
            Event::Operate => {
                if !self.healing {
                    return Ok(self.operate().map(|id| (id, Cause::Other)));
                }
            }
            Event::Storm => {
                if !self.healing {
                    self.storm();
                }
            }
        }
        Ok(None)
    }

    /// A replica, and those who see everything.
    pub(super) fn with_witnesses(&mut self, id: ReplicaId) -> (&mut Replica, Witnesses<'_>) {
        let replica = self.replicas.get_mut(&id).expect("held back otherwise");
        let witnesses = Witnesses {
            history: &mut self.history,
            oracle: &mut self.oracle,
            coverage: &mut self.coverage,
        };
        (replica, witnesses)
    }

    pub(super) fn running(&mut self, id: ReplicaId) -> &mut Process {
        self.replicas
            .get_mut(&id)
            .and_then(|replica| replica.process.as_mut())
            .expect("held back otherwise")
    }

    fn count_event(&mut self) {
        self.coverage.count(if self.elected {
            "events"
        } else {
            "events_before_the_first_election"
        });
    }

    pub(super) fn start(&mut self, id: ReplicaId) -> Result<Option<(ReplicaId, Cause)>, Violation> {
        let now = self.now;
        let seed = self.rng.random();
        let Some(replica) = self.replicas.get_mut(&id) else {
            return Ok(None);
        };
        if replica.retired || replica.is_up() {
            return Ok(None);
        }
        if self.sabotage == Some(Sabotage::LyingSyncs) {
            replica.disk.let_syncs_lie(true);
        }
        let first = replica.life == 0;
        let options = self.options.clone();
        let (history, coverage) = (&self.history, &mut self.coverage);
        match replica.start(options, seed, self.now, history, coverage) {
            Ok(Started::Running) => {}
            Ok(Started::NoRoom) => {
                self.coverage.count("start_refused_by_a_full_disk");
                self.push(Duration::from_millis(500), Event::Start { id });
                return Ok(None);
            }
            Ok(Started::Refused) => {
                self.coverage.count("damage_refused");
                self.retire(id);
                return Ok(None);
            }
            Err(violation) => {
                self.history.judge(Err(violation))?;
                replica.retired = true;
                return Ok(None);
            }
        }
        let preferred = self.preferred;
        let process = self.running(id);
        process.group.prefer(process.clock.shows(now), preferred);
        if first {
            let pause = Duration::from_millis(self.rng.random_range(200..3_000));
            self.push(pause, Event::Checkpoint { id });
        }
        Ok(Some((id, Cause::Other)))
    }

    pub(crate) fn retire(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.stop(true);
            replica.retired = true;
        }
    }
}
