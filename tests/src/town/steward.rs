//! What a node does by the system log, and where the system group is led, the next steps of all groups: as the runtime's steward does
//! it, around the same pure parts. Not here: what a node tells the system leader (`reports`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use synod::system::{
    Alignment, BUILD_LEVEL, Order, OrderKind, Reconciler, ReplicaAddress, Stamp, Step,
    SystemCommand, SystemOutcome,
};
use synod_consensus::{GroupId, LogIndex, ReplicaId, Restored};

use super::Sabotage;
use super::descriptions::without_zones;
use super::machine::Machine;
use super::node::{Waits, Writing, host};
use super::rest::options_of;
use super::world::{Event, Packet, World};
use crate::violation::{Violation, broken};

/// How often the steward looks without being told; here it also finds out who is silent, which the runtime does more often.
const PERIOD: Duration = Duration::from_millis(250);
/// Changes come in bursts: one look serves all of the next moment.
const TOUCHED: Duration = Duration::from_millis(10);
/// The system leader's steps are computed this often without being told.
const STEPS_EVERY: Duration = Duration::from_millis(500);
/// After a report they are computed anew, but not more often than this.
const STEPS_PAUSE: Duration = Duration::from_millis(20);
/// What was reported too soon after the last steps is looked at after this.
const STEPS_SOON: Duration = Duration::from_millis(100);
/// Orders that may be under way at once, cluster-wide.
const CHANGES_MAX: usize = 24;
/// Proposals without an answer are given up after this long.
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(2);
/// How often a durable system state is asked for while somebody waits for it.
const MIND_EVERY: Duration = Duration::from_secs(1);
/// Silence of a direct link after which groups led there are told.
const SILENT_AFTER: Duration = Duration::from_millis(450);
/// A peer that answered within this time can take a leadership over.
const PEER_ACTIVE: Duration = Duration::from_millis(1_200);
/// Groups that still follow a silent store are told again this often.
const TELL_AGAIN: Duration = Duration::from_millis(500);

/// A moment of the reconciler at which the system leader may be struck.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Moment {
    Place,
    Allot,
    Retire,
    Absent,
    Change,
    Transfer,
}

impl Moment {
    pub(super) const ALL: [Self; 6] = [
        Self::Place,
        Self::Allot,
        Self::Retire,
        Self::Absent,
        Self::Change,
        Self::Transfer,
    ];

    fn of(step: &Step) -> Option<Self> {
        match step {
            Step::Propose(SystemCommand::Place { .. }) => Some(Self::Place),
            Step::Propose(SystemCommand::Allot { .. }) => Some(Self::Allot),
            Step::Propose(SystemCommand::Retire { .. }) => Some(Self::Retire),
            Step::Propose(SystemCommand::Absent { .. }) => Some(Self::Absent),
            Step::Order(order) => match order.kind {
                OrderKind::Change { .. } => Some(Self::Change),
                OrderKind::Transfer { .. } => Some(Self::Transfer),
                OrderKind::Fence => None,
            },
            Step::Propose(_) => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Place => "system_leader_struck_at_place",
            Self::Allot => "system_leader_struck_at_allot",
            Self::Retire => "system_leader_struck_at_retire",
            Self::Absent => "system_leader_struck_at_absent",
            Self::Change => "system_leader_struck_at_change",
            Self::Transfer => "system_leader_struck_at_transfer",
        }
    }
}

impl World {
    /// Something changed: the steward looks soon.
    pub(super) fn touch(&mut self, store: u64) {
        self.look_within(store, TOUCHED);
    }

    fn look_within(&mut self, store: u64, time: Duration) {
        let at = self.now + time;
        let Some(node) = self.nodes.get_mut(&store) else {
            return;
        };
        let life = node.life;
        let Some(process) = &mut node.process else {
            return;
        };
        if process.look_at > at {
            process.look_at = at;
            self.push_at(at, Event::Look { store, life });
        }
    }

    pub(super) fn look(&mut self, store: u64) -> Result<(), Violation> {
        let (now, replace_after) = (self.now, self.replace_after);
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        if process.look_at != now {
            return Ok(()); // it looks at another time
        }
        process.look_at = now + PERIOD;
        let life = self.nodes[&store].life;
        self.push(PERIOD, Event::Look { store, life });
        self.follow_system(store)?;
        self.sweep(store);
        self.pass_reports(store);
        self.tell_silence(store)?;
        self.step_aside(store)?;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        process.proposals.retain(|_, until| *until > now);
        let leads = { process.hosted.get(&GroupId::ZERO) }.is_some_and(|replica| replica.leads());
        let minds = now.saturating_sub(process.minded) >= MIND_EVERY;
        if minds {
            process.minded = now;
        }
        if leads {
            let pause = if process.reported {
                STEPS_PAUSE
            } else {
                STEPS_EVERY
            };
            let system = process.hosted.get(&GroupId::ZERO);
            let serves = system.is_some_and(|replica| replica.leadership.is_some());
            let due = now.saturating_sub(process.stepped) >= pause;
            if due && process.proposals.is_empty() && serves {
                process.stepped = now;
                process.reported = false;
                self.step(store)?;
            } else if process.reported && !due {
                self.look_within(store, STEPS_SOON);
            }
        } else {
            process.reconciler = Reconciler::new(replace_after);
        }
        if minds {
            self.ask_for_durability(store)?;
            self.pass_lost(store);
        }
        Ok(())
    }

    fn ask_for_durability(&mut self, store: u64) -> Result<(), Violation> {
        if self.sabotage == Some(Sabotage::FilesGoAtOnce) {
            return Ok(());
        }
        if self
            .process(store)
            .is_some_and(|process| process.retired.wait())
        {
            self.checkpoint_now(store, GroupId::ZERO)?;
        }
        Ok(())
    }

    fn follow_system(&mut self, store: u64) -> Result<(), Violation> {
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let applied = process.system.applied;
        if process.system.founding.is_none() || process.seen_system == Some(applied) {
            return Ok(());
        }
        process.seen_system = Some(applied);
        process.rest.ties_change();
        if process.system.is_given_up(store) {
            process.failed = Some("it was removed".to_owned());
            return Ok(());
        }
        self.align(store, applied)
    }

    fn align(&mut self, store: u64, applied: LogIndex) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let hosted = process.hosted.iter();
        let hosted = hosted.map(|(group, replica)| (*group, replica.key.replica));
        let hosted = hosted.collect();
        let alignment = Alignment::of(&process.system, store, &hosted, &process.lost);
        for key in &alignment.buried {
            process.lost.remove(&key.group);
        }
        let goes_on = self.sabotage == Some(Sabotage::RetiredGoesOn);
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        for key in alignment.buried.iter().chain(&alignment.retired) {
            if process
                .hosted
                .get(&key.group)
                .is_some_and(|replica| replica.key == *key && !goes_on)
            {
                process.hosted.remove(&key.group);
            }
            process.retired.push(applied, *key);
        }
        for key in alignment.buried.iter().chain(&alignment.retired) {
            self.claims(store, |claims| claims.gone(*key))?;
        }
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let retired = alignment.retired.len() as u64;
        let buried = alignment.buried.len() as u64;
        let lost = process.lost.clone();
        self.coverage.add("replicas_retired", retired);
        self.coverage.add("lost_replicas_buried", buried);
        self.ask_for_durability(store)?;
        self.nodes.get_mut(&store).expect("it runs").disk.lost = lost;
        for key in alignment.created {
            self.ledger.born(key)?;
            self.coverage.count("replicas_created");
            let options = options_of(&self.options, self.rests, key.group);
            let seed = self.seed ^ self.moments();
            let machine = Machine::default();
            let replica = host(options, key, Restored::newcomer(), machine, seed, now)?;
            if let Some(process) = self.process(store) {
                process.hosted.insert(key.group, replica);
            }
            self.ties_change(store);
            self.flush(store, key.group)?;
        }
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let groups: Vec<GroupId> = process.hosted.keys().copied().collect();
        for group in groups {
            let preferred =
                { self.process(store) }.and_then(|process| process.system.preferred_leader(group));
            self.drive(store, group, |replica| replica.group.prefer(now, preferred))?;
        }
        Ok(())
    }

    /// Deletes the retired replicas whose retirement can no longer be forgotten.
    fn sweep(&mut self, store: u64) {
        let sabotage = self.sabotage;
        let Some(process) = self.process(store) else {
            return;
        };
        let mut durable = process.system_durable;
        match sabotage {
            Some(Sabotage::FilesGoAtOnce) => durable = LogIndex::new(u64::MAX),
            Some(Sabotage::FilesStay) => durable = LogIndex::ZERO,
            _ => {}
        }
        for key in process.retired.covered(durable) {
            self.write(store, Writing::Drop { key });
        }
    }

    /// Stores that this node believes to be alive.
    pub(super) fn alive(&self, store: u64) -> BTreeSet<u64> {
        let Some(process) = self
            .nodes
            .get(&store)
            .and_then(|node| node.process.as_ref())
        else {
            return BTreeSet::new();
        };
        let suspicion = self.suspicion;
        let recent = |at: &Duration| self.now.saturating_sub(*at) <= suspicion;
        { process.heard.iter() }
            .filter(|(_, at)| recent(at))
            .map(|(store, _)| *store)
            .chain([store])
            .collect()
    }

    fn step(&mut self, store: u64) -> Result<(), Violation> {
        let now = self.now;
        let alive = self.alive(store);
        let founding = self.founding.clone();
        let is_deaf = self.sabotage == Some(Sabotage::WordsUnheard);
        let forgets_zones = self.sabotage == Some(Sabotage::ZonesForgotten);
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let system = process.hosted.get(&GroupId::ZERO);
        let Some(term) = system.and_then(|replica| replica.leadership) else {
            return Ok(());
        };
        let announced = process.announced(store);
        let raised = process.system.next_level(BUILD_LEVEL, &announced);
        let steps = if process.system.founding.is_none() {
            vec![Step::Propose(SystemCommand::Found(founding))]
        } else if let Some(level) = raised {
            let epoch = process.system.epoch;
            vec![Step::Propose(SystemCommand::Raise { epoch, level })]
        } else {
            let news = process.news().filter(|_| !is_deaf);
            let zoneless = forgets_zones.then(|| without_zones(&process.system));
            let state = zoneless.as_ref().unwrap_or(&process.system);
            news.chain(process.reconciler.steps(now, term, state, &alive))
                .collect()
        };
        let steps = self.tampered_steps(steps);
        let strike = { steps.iter() }
            .filter_map(Moment::of)
            .find(|moment| self.ambushes.contains(moment));
        let before = strike.is_some() && rand::Rng::random_bool(&mut self.rng, 0.4);
        if !before {
            self.check_steps(store, &steps)?;
            for step in steps {
                self.take_step(store, step)?;
            }
        }
        if let Some(moment) = strike {
            self.ambushes.remove(&moment);
            self.coverage.count(moment.name());
            self.crash(store)?;
        }
        Ok(())
    }

    fn take_step(&mut self, store: u64, step: Step) -> Result<(), Violation> {
        self.count_fence(store, &step);
        match step {
            Step::Propose(command) => {
                if let SystemCommand::Retire { group, replica } = command {
                    self.check_burial(group, replica)?;
                }
                if let Some(process) = self.process(store)
                    && let Err(_waits) = process.system.gate(&command, || process.announced(store))
                {
                    return Ok(());
                }
                match &command {
                    SystemCommand::Absent { on: true, .. } => self.coverage.count("absences"),
                    SystemCommand::Absent { .. } => self.coverage.count("absences_ended"),
                    SystemCommand::Place { .. } => self.coverage.count("plans"),
                    SystemCommand::Describe { .. } => self.coverage.count("descriptions_told"),
                    _ => {}
                }
                let number = self.moments();
                let until = self.now + PROPOSAL_PATIENCE;
                if self.propose_system(store, &command, Waits::Steward(number))?
                    && let Some(process) = self.process(store)
                {
                    process.proposals.insert(number, until);
                }
            }
            Step::Order(order) => {
                let to = ReplicaAddress::of(order.leader).store;
                if to == store {
                    self.carry_out(store, order)?;
                } else {
                    self.send(store, to, Packet::Order(order));
                }
            }
        }
        Ok(())
    }

    /// Proposes a command where the system group is led; says whether it was taken.
    pub(super) fn propose_system(
        &mut self,
        store: u64,
        command: &SystemCommand,
        waits: Waits,
    ) -> Result<bool, Violation> {
        let now = self.now;
        let payload = synod::wire::encode(command);
        let mut taken = false;
        self.drive(store, GroupId::ZERO, |replica| {
            if replica.leadership.is_some()
                && let Ok(position) = replica.group.propose(now, payload)
            {
                replica
                    .waiting
                    .insert(position.index, (position.term, waits));
                taken = true;
            }
        })?;
        Ok(taken)
    }

    pub(super) fn proposal_ended(&mut self, store: u64, number: u64, outcome: &SystemOutcome) {
        let Some(process) = self.process(store) else {
            return;
        };
        process.proposals.remove(&number);
        if process.proposals.is_empty() && !outcome.is_refused() {
            process.stepped = Duration::ZERO;
            self.touch(store);
        }
        if outcome.is_refused() {
            self.coverage.count("steps_refused");
        }
    }

    /// One change per group, and no more changes at once than the cluster's bound.
    fn check_steps(&mut self, store: u64, steps: &[Step]) -> Result<(), Violation> {
        let mut ordered: BTreeMap<GroupId, usize> = BTreeMap::new();
        for step in steps {
            if let Step::Order(order) = step {
                *ordered.entry(order.group).or_default() += 1;
            }
        }
        if let Some((group, count)) = ordered.iter().find(|(_, count)| **count > 1) {
            let detail = format!("store {store} gives group {group} {count} orders at once");
            return broken("One Change At A Time", detail);
        }
        if ordered.len() > CHANGES_MAX {
            let detail = format!("store {store} orders {} changes at once", ordered.len());
            return broken("Bounded Changes", detail);
        }
        self.coverage
            .most("most_orders_at_once", ordered.len() as u64);
        Ok(())
    }

    /// Tells groups here whose leader's store is silent on the direct way.
    fn tell_silence(&mut self, store: u64) -> Result<(), Violation> {
        let now = self.now;
        let process = self.nodes[&store].process.as_ref();
        let Some(process) = process else {
            return Ok(());
        };
        let mut silent: BTreeMap<GroupId, ReplicaId> = BTreeMap::new();
        for (group, replica) in &process.hosted {
            let Some(leader) = replica
                .leader
                .filter(|leader| *leader != replica.key.replica)
            else {
                continue;
            };
            let of = ReplicaAddress::of(leader).store;
            let down = self.nodes.get(&of).and_then(|node| node.silent_since);
            let since = [down, self.network.cut_since((of, store))];
            let since = since.into_iter().flatten().min();
            let told = process.told.get(&of);
            if since.is_some_and(|since| now.saturating_sub(since) >= SILENT_AFTER)
                && told.is_none_or(|at| now.saturating_sub(*at) >= TELL_AGAIN)
            {
                silent.insert(*group, leader);
            }
        }
        for (group, leader) in silent {
            let of = ReplicaAddress::of(leader).store;
            if let Some(process) = self.process(store) {
                process.told.insert(of, now);
            }
            self.drive(store, group, |replica| {
                replica.group.peer_silent(now, leader)
            })?;
        }
        Ok(())
    }

    /// A node that stops moves its leaderships away, as long as there is time.
    fn step_aside(&mut self, store: u64) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let Some(until) = process.stopping else {
            return Ok(());
        };
        let led: Vec<GroupId> = { process.hosted.iter() }
            .filter(|(_, replica)| replica.leads())
            .map(|(group, _)| *group)
            .collect();
        if led.is_empty() || now >= until {
            self.coverage.count("graceful_stops");
            return self.crash(store);
        }
        for group in led {
            let Some(replica) = self.replica(store, group) else {
                continue;
            };
            let status = replica.group.status();
            let heir = { status.peers.iter() }
                .filter(|peer| status.configuration.voters.contains(&peer.replica))
                .filter(|peer| peer.answers(now, PEER_ACTIVE))
                .max_by_key(|peer| peer.matched);
            if let Some(heir) = heir {
                let order = Order {
                    group,
                    leader: replica.key.replica,
                    term: status.term,
                    stamp: Stamp::default(),
                    kind: OrderKind::Transfer { to: heir.replica },
                };
                self.carry_out(store, order)?;
            }
        }
        Ok(())
    }
}
