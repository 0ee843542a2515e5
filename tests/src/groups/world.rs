//! The world: one clock, one queue of events, all chance from one seed.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_consensus::{
    CheckedOptions, Configuration, GroupOptions, Message, PersistToken, ReplicaId, Role,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::coverage::Coverage;
use super::history::{History, Judged, Violation, broken};
use super::network::Network;
use super::replica::Replica;
use crate::disk::VirtualDisk;

/// How long after the last fault the group may take to answer again and agree: several elections, a snapshot, a configuration left.
pub const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Messages and completions that a run has after the first election.
const EVENTS_MIN: u64 = 20_000;
const ACKNOWLEDGED_MIN: u64 = 500;
const FAULTS_MIN: u64 = 20;
/// A run that has not seen enough by then ends its safety phase all the same.
const STORM_MAX: Duration = Duration::from_secs(400);

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

#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        to: ReplicaId,
        bytes: Vec<u8>,
    },
    Write {
        id: ReplicaId,
        life: u64,
    },
    Written {
        id: ReplicaId,
        life: u64,
        tokens: Vec<PersistToken>,
    },
    Apply {
        id: ReplicaId,
        life: u64,
    },
    Install {
        id: ReplicaId,
        life: u64,
    },
    Snapshot {
        id: ReplicaId,
        life: u64,
        to: ReplicaId,
    },
    Tick {
        id: ReplicaId,
        life: u64,
    },
    Start {
        id: ReplicaId,
    },
    Checkpoint {
        id: ReplicaId,
    },
    Mend {
        links: Vec<(ReplicaId, ReplicaId)>,
    },
    CrashAMember,
    Command,
    Read,
    Operate,
    Storm,
}

impl Event {
    /// Whose process or disk it concerns; `None`: the world's own.
    fn whose(&self) -> Option<ReplicaId> {
        match self {
            Self::Deliver { to, .. } => Some(*to),
            Self::Write { id, .. }
            | Self::Written { id, .. }
            | Self::Apply { id, .. }
            | Self::Install { id, .. }
            | Self::Snapshot { id, .. }
            | Self::Tick { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The life of the process that it belongs to.
    fn life(&self) -> Option<u64> {
        match self {
            Self::Write { life, .. }
            | Self::Written { life, .. }
            | Self::Apply { life, .. }
            | Self::Install { life, .. }
            | Self::Snapshot { life, .. }
            | Self::Tick { life, .. } => Some(*life),
            _ => None,
        }
    }
}

/// One group, its machines, clients, operator and weather.
pub struct World {
    seed: u64,
    pub(crate) now: Duration,
    order: u64,
    events: BTreeMap<(Duration, u64), Event>,
    pub(crate) rng: ChaCha8Rng,
    options: CheckedOptions,
    pub(crate) network: Network,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    /// Machines that wait to be added.
    pub(crate) newcomers: BTreeSet<ReplicaId>,
    pub(crate) history: History,
    pub(crate) coverage: Coverage,
    pub(crate) last_command: u64,
    /// When something was last acknowledged, and how much there was by then.
    pub(crate) answered: (Duration, u64),
    pub(crate) last_machine: u64,
    pub(crate) command_gap: u64,
    pub(crate) storm_gap: u64,
    disk_latency: Duration,
    founders: u64,
    sabotage: Option<Sabotage>,
    elected: bool,
    healing: bool,
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
        let options = draw_options(&mut rng, None);
        let founders = [1, 2, 3, 3, 3, 4, 5, 5][rng.random_range(0..8)];
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
            coverage: Coverage::default(),
            last_command: 0,
            answered: (Duration::ZERO, 0),
            last_machine: founders,
            command_gap: rng.random_range(3_000..20_000),
            storm_gap: rng.random_range(1_000..4_000),
            disk_latency: Duration::from_micros(rng.random_range(50..2_000)),
            founders,
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
            world
                .replicas
                .insert(id, Replica::new(id, disk, Some(founding.clone())));
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
        self.options = draw_options(&mut ChaCha8Rng::seed_from_u64(self.seed), bug);
        if sabotage == Sabotage::LyingSyncs {
            self.replicas
                .values()
                .for_each(|replica| replica.disk.let_syncs_lie(true));
        }
        self
    }

    pub(crate) fn push(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.events.insert((self.now + after, self.order), event);
    }

    /// Runs both phases.
    pub fn run(mut self) -> Result<Report, Violation> {
        while !self.has_seen_enough() {
            self.step()?;
        }
        self.heal();
        let calm = self.now;
        let enough = self.coverage.get("acknowledged") + 20;
        while !(self.coverage.get("acknowledged") >= enough && self.agrees()) {
            if self.now > calm + HEALED_WITHIN {
                let detail = format!(
                    "{:?} after the last fault: {}",
                    HEALED_WITHIN,
                    self.describe()
                );
                self.history.judge(broken("Liveness", detail))?;
                break;
            }
            self.step()?;
        }
        self.check_acknowledged()?;
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
        seen || self.now > STORM_MAX
    }

    fn step(&mut self) -> Result<(), Violation> {
        let ((at, order), event) = self
            .events
            .pop_first()
            .expect("clients and timers never end");
        self.now = at;
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
            if let Some(id) = concerned {
                self.settle(id)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, order: u64, event: &Event) {
        let (kind, who, what) = match event {
            Event::Deliver { to, bytes } => (1, to.get(), xxh3_64_with_seed(bytes, 0)),
            Event::Write { id, .. } => (2, id.get(), 0),
            Event::Written { id, tokens, .. } => (3, id.get(), tokens.len() as u64),
            Event::Apply { id, .. } => (4, id.get(), 0),
            Event::Install { id, .. } => (5, id.get(), 0),
            Event::Snapshot { id, to, .. } => (6, id.get(), to.get()),
            Event::Tick { id, .. } => (7, id.get(), 0),
            Event::Start { id } => (8, id.get(), 0),
            Event::Checkpoint { id } => (9, id.get(), 0),
            Event::Mend { links } => (10, links.len() as u64, 0),
            Event::CrashAMember => (11, 0, 0),
            Event::Command => (12, 0, self.last_command),
            Event::Read => (13, 0, 0),
            Event::Operate => (14, 0, 0),
            Event::Storm => (15, 0, 0),
        };
        let nanos = self.now.as_nanos() as u64;
        let numbers = [nanos, order, kind, who, what];
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
        let replica = self.replicas.get(&id)?;
        if !replica.is_up() || life.is_some_and(|life| life != replica.life) {
            return None;
        }
        let stalled = if matches!(event, Event::Write { .. } | Event::Install { .. }) {
            replica.stalled_until
        } else {
            Duration::ZERO
        };
        let until = replica.paused_until.max(stalled);
        if until > self.now {
            let wait = until - self.now;
            self.push(wait, event);
            return None;
        }
        Some(event)
    }

    /// Lets one event happen; returns the replica whose outputs have to be drawn.
    fn happen(&mut self, event: Event) -> Result<Option<ReplicaId>, Violation> {
        let now = self.now;
        match event {
            Event::Deliver { to, bytes } => {
                let message: Message = rmp_serde::from_slice(&bytes).expect("encoded by a replica");
                self.count_event();
                self.running(to).group.receive(now, message);
                return Ok(Some(to));
            }
            Event::Write { id, .. } => {
                let replica = self.replicas.get_mut(&id).expect("held back otherwise");
                let life = replica.life;
                if let Some(process) = &mut replica.process {
                    process.write_due = false;
                }
                match replica.write() {
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
                    self.running(id).group.persisted(now, token);
                }
                return Ok(Some(id));
            }
            Event::Apply { id, .. } => {
                self.count_event();
                let replica = self.replicas.get_mut(&id).expect("held back otherwise");
                if let Some(process) = &mut replica.process {
                    process.apply_due = false;
                }
                match replica.apply(now, &mut self.history, &mut self.coverage) {
                    Ok(more) => {
                        if more {
                            self.schedule_apply(id);
                        }
                    }
                    Err(violation) => self.history.judge(Err(violation))?,
                }
                return Ok(Some(id));
            }
            Event::Install { id, .. } => {
                self.count_event();
                if self
                    .replicas
                    .get_mut(&id)
                    .expect("held back otherwise")
                    .install(now)
                    .is_err()
                {
                    self.fail(id);
                }
                return Ok(Some(id));
            }
            Event::Snapshot { id, to, .. } => {
                let replica = self.replicas.get_mut(&id).expect("held back otherwise");
                if let Some(snapshot) = replica.snapshot() {
                    self.running(id).group.provide_snapshot(now, to, snapshot);
                }
                return Ok(Some(id));
            }
            Event::Tick { id, .. } => {
                let process = self.running(id);
                process.tick_at = None;
                if process.group.wake_at().is_some_and(|at| at <= now) {
                    process.group.tick(now);
                }
                return Ok(Some(id));
            }
            Event::Start { id } => return self.start(id),
            Event::Checkpoint { id } => {
                self.take_checkpoint(id);
                return Ok(Some(id));
            }
            Event::Mend { links } => self.network.mend(&links),
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
            Event::Command => return Ok(self.client_commands()),
            Event::Read => return Ok(self.client_reads()),
            Event::Operate => {
                if !self.healing {
                    return Ok(self.operate());
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

    fn running(&mut self, id: ReplicaId) -> &mut super::replica::Process {
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

    fn start(&mut self, id: ReplicaId) -> Result<Option<ReplicaId>, Violation> {
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
        if let Err(violation) = replica.start(self.options.clone(), seed, self.now, &self.history) {
            self.history.judge(Err(violation))?;
            replica.retired = true;
            return Ok(None);
        }
        if first {
            let pause = Duration::from_millis(self.rng.random_range(200..3_000));
            self.push(pause, Event::Checkpoint { id });
        }
        Ok(Some(id))
    }

    pub(crate) fn retire(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.stop(true);
            replica.retired = true;
        }
    }

    /// Draws a replica's outputs, sets its timers, holds it against the invariants.
    fn settle(&mut self, id: ReplicaId) -> Result<(), Violation> {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return Ok(());
        };
        let drained = if self.history.forgives() {
            let (history, coverage) = (&mut self.history, &mut self.coverage);
            match catch_unwind(AssertUnwindSafe(|| replica.drain(history, coverage))) {
                Ok(drained) => drained?,
                Err(_) => return self.stopped_itself(Some(id)),
            }
        } else {
            replica.drain(&mut self.history, &mut self.coverage)?
        };
        if !replica.is_up() {
            return Ok(());
        }
        let life = replica.life;
        for message in drained.messages {
            self.send(&message);
        }
        if drained.write {
            self.schedule_write(id);
        }
        if drained.apply {
            self.schedule_apply(id);
        }
        if drained.install {
            let at = Duration::from_micros(self.rng.random_range(100..30_000));
            self.push(at, Event::Install { id, life });
        }
        for to in drained.snapshot_for {
            let at = Duration::from_micros(self.rng.random_range(10..20_000));
            self.push(at, Event::Snapshot { id, life, to });
        }
        self.check(id)?;
        if drained.removed {
            self.retire(id);
            return Ok(());
        }
        let now = self.now;
        let process = self.running(id);
        let due = process.group.wake_at().map(|at| at.max(now));
        if let Some(at) = due.filter(|at| process.tick_at.is_none_or(|set| *at < set)) {
            process.tick_at = Some(at);
            self.push(at - now, Event::Tick { id, life });
        }
        Ok(())
    }

    fn check(&mut self, id: ReplicaId) -> Result<(), Violation> {
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let Some((status, before)) = replica.check(&mut self.history, &mut self.coverage)? else {
            return Ok(());
        };
        self.elected |= status.role == Role::Leader;
        if status.commit > before {
            let process = self.replicas[&id].process.as_ref().expect("just checked");
            let durable = |voter: ReplicaId, index, term| {
                self.replicas.get(&voter).is_some_and(|replica| {
                    replica.durable.covers(index, term) || index <= replica.checkpointed
                })
            };
            self.history.commits(
                id,
                before,
                status.commit,
                &process.asked,
                &status.configuration,
                durable,
            )?;
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) {
        let bytes = rmp_serde::to_vec_named(message).expect("messages encode");
        let arrivals = self.network.carry(&mut self.rng, message.from, message.to);
        match arrivals.len() {
            0 => self.coverage.count("messages_lost"),
            1 => {}
            _ => self.coverage.count("messages_doubled"),
        }
        for arrival in arrivals {
            self.push(
                arrival,
                Event::Deliver {
                    to: message.to,
                    bytes: bytes.clone(),
                },
            );
        }
    }

    fn schedule_write(&mut self, id: ReplicaId) {
        let latency = self.disk_latency.as_micros() as u64;
        let slow = if self.rng.random_bool(0.01) { 30 } else { 1 };
        let at = Duration::from_micros(self.rng.random_range(latency / 2..latency * 2) * slow);
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let process = replica.process.as_mut().expect("just drained");
        if !core::mem::replace(&mut process.write_due, true) {
            self.push(at, Event::Write { id, life });
        }
    }

    fn schedule_apply(&mut self, id: ReplicaId) {
        let slow = if self.rng.random_bool(0.01) { 500 } else { 1 };
        let at = Duration::from_micros(self.rng.random_range(1..100) * slow);
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let Some(process) = replica.process.as_mut() else {
            return;
        };
        if !core::mem::replace(&mut process.apply_due, true) {
            self.push(at, Event::Apply { id, life });
        }
    }

    /// A replica met an assertion, in a world with a safeguard taken away: it stays down, which loses nothing.
    fn stopped_itself(&mut self, whose: Option<ReplicaId>) -> Result<(), Violation> {
        self.coverage.count("stopped_by_assertion");
        if let Some(id) = whose {
            self.retire(id);
        }
        Ok(())
    }

    /// Faults are over: links are whole, processes run, disks move.
    fn heal(&mut self) {
        self.healing = true;
        self.network.heal();
        let now = self.now;
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            let replica = self.replicas.get_mut(&id).expect("listed");
            replica.paused_until = now;
            replica.stalled_until = now;
            if !replica.is_up() && !replica.retired {
                self.push(Duration::ZERO, Event::Start { id });
            }
        }
    }

    /// One leader, one configuration, and every living member has applied what the leader has.
    fn agrees(&self) -> bool {
        let Some(leader) = self.settled_leader() else {
            return false;
        };
        if leader.applied < leader.commit || leader.applied < self.history.committed() {
            return false;
        }
        leader
            .configuration
            .members()
            .iter()
            .filter(|member| self.replicas.get(member).is_some_and(|r| !r.retired))
            .all(|member| {
                let process = self.replicas[member].process.as_ref();
                process.is_some_and(|process| {
                    let status = process.group.status();
                    let near = status.applied.plus(64) >= leader.applied;
                    near && status.leader == Some(leader.replica)
                        && status.configuration_index == leader.configuration_index
                })
            })
    }

    /// What was acknowledged is in the state of the leader that everybody follows.
    fn check_acknowledged(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.settled_leader() else {
            return Ok(());
        };
        let last = self.history.last_acknowledged();
        if leader.applied < last {
            let detail = format!(
                "{last} was acknowledged, the leader's state ends at {}",
                leader.applied
            );
            return self.history.judge(broken("Acknowledged Commands", detail));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let line = |replica: &Replica| match &replica.process {
            Some(process) => {
                let s = process.group.status();
                format!(
                    "{} {:?} term {} leader {:?} commit {} applied {} last {} configuration {} {:?}",
                    s.replica,
                    s.role,
                    s.term,
                    s.leader,
                    s.commit,
                    s.applied,
                    s.last,
                    s.configuration_index,
                    s.configuration
                )
            }
            None => format!("{} down, retired {}", replica.id(), replica.retired),
        };
        let founders = self.founders;
        format!(
            "{founders} founders\n  {}",
            self.replicas
                .values()
                .map(line)
                .collect::<Vec<_>>()
                .join("\n  ")
        )
    }
}

/// Small windows and pages, so that limits are met.
fn draw_options(
    rng: &mut ChaCha8Rng,
    sabotage: Option<synod_consensus::Sabotage>,
) -> CheckedOptions {
    let options = GroupOptions {
        append_bytes: [800, 4_000, 512 << 10][rng.random_range(0..3)],
        inflight_appends: [2, 8, 128][rng.random_range(0..3)],
        inflight_bytes: [5_000, 8 << 20][rng.random_range(0..2)],
        chunk_bytes: [700, 5_000, 256 << 10][rng.random_range(0..3)],
        uncommitted_bytes: [8_000, 64_000, 16 << 20][rng.random_range(0..3)],
        apply_bytes: [500, 1 << 20][rng.random_range(0..2)],
        keep_entries: [0, 10, 200][rng.random_range(0..3)],
        disk_stall: Duration::from_secs(3),
        sabotage,
        ..GroupOptions::default()
    };
    options.check().expect("these hang together")
}
