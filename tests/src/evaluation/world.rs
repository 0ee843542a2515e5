//! One world from one seed: nodes, routers, clients, and the events between them.
//!
//! Here: [`World`], its making and its loop: a safety phase with faults, then a healing phase in which everything has to
//! answer again. Not here: what happens at a seat (`drive`), what goes wrong (`faults`), what must hold (`observer`).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::entity::{KindFactory, KindTable};
use synod::evaluation::{EvaluatorOptions, Sabotage as EvaluatorSabotage};
use synod::router::{AskError, AskSpec, Mode, RouterCore, RouterOptions, RouterOutput};
use synod::wire::{self, RoutingTable, ShardPlace, Sharding, StoreAddress};
use synod_consensus::{Configuration, GroupOptions};

use super::account::{Account, Wish};
use super::clients::{Client, Router};
use super::clock;
use super::event::{Agenda, Event, SeatEvent, Tokens};
use super::network::{End, Network};
use super::node::{Node, Plan, replica, store};
use super::observer::{Fate, Observer};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// A rule taken away on purpose: the run must then break the named invariant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sabotage {
    /// Nothing is broken.
    #[default]
    None,
    /// Sessions remember nothing: "at most once".
    SessionsOff,
    /// Evaluation begins with the election, not with the applied no-op: "effect chain".
    EvaluateEarly,
    /// Failed commands return to the applied image: "effect chain".
    RollbackToApplied,
    /// Replies without an entry do not wait: "linearizability".
    Ungated,
    /// Retried commands that changed nothing are not recorded: "an error changes nothing".
    UnrecordedRetries,
}

/// What a run was like.
#[derive(Debug)]
pub struct Report {
    /// Counts.
    pub coverage: Coverage,
    /// Messages and completions after the first election.
    pub messages: u64,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Checksum of everything that happened, in order.
    pub trace: u64,
}

/// How long faults go on: at least this long, then until the run is large enough.
const SAFETY_PHASE: Duration = Duration::from_secs(8);
/// By then the run must be large enough.
const SAFETY_PHASE_MAX: Duration = Duration::from_secs(120);
/// Messages and completions after the first election that make a run large enough.
const MESSAGES: u64 = 20_500;
/// Faults that make a run large enough.
const FAULTS: u64 = 25;
/// How long healing may take at most, elections and outstanding deadlines included.
const HEALING_PHASE: Duration = Duration::from_secs(12);
/// How long nobody asks anything before the last look.
const QUIET: Duration = Duration::from_secs(2);
/// Everything that is asked ends within this time.
const DEADLINE_MS: (u64, u64) = (400, 4_000);

/// Everything there is.
pub struct World {
    pub(super) now: Duration,
    pub(super) chance: ChaCha8Rng,
    pub(super) agenda: Agenda,
    pub(super) plan: Plan,
    pub(super) nodes: Vec<Node>,
    pub(super) routers: Vec<Router>,
    clients: Vec<Client>,
    pub(super) network: Network,
    pub(super) observer: Observer,
    pub(super) coverage: Coverage,
    pub(super) sabotage: Sabotage,
    pub(super) tokens: Tokens,
    pub(super) next_token: u64,
    pub(super) slow_disk: Vec<Duration>,
    pub(super) disk_us: u64,
    pub(super) elected: bool,
    pub(super) healing: bool,
    /// The last look: nothing may fail any more.
    looking: bool,
    pub(super) faults: u64,
    sharding: Sharding,
    keys: Vec<(String, usize)>,
    messages: u64,
    epoch: u64,
    sleepers_at: Option<Duration>,
    trace: xxhash_rust::xxh3::Xxh3,
}

impl World {
    /// Everything comes from the seed.
    pub fn from_seed(seed: u64) -> Self {
        Self::sabotaged(seed, Sabotage::None)
    }

    /// The same with a rule taken away.
    pub fn sabotaged(seed: u64, sabotage: Sabotage) -> Self {
        clock::reset();
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let nodes = if chance.random_range(0..5) == 0 { 5 } else { 3 };
        let shards = chance.random_range(1..=2);
        let routers = chance.random_range(2..=4);
        let group = GroupOptions {
            heartbeat_interval: Duration::from_millis(40),
            election_timeout: Duration::from_millis(150),
            election_stagger: Duration::from_millis(25),
            lease: Duration::from_millis(120),
            commit_notice: Duration::from_millis(chance.random_range(2..20)),
            keep_entries: chance.random_range(4..200),
            chunk_bytes: chance.random_range(500..8_000),
            ..GroupOptions::default()
        };
        let evaluator = EvaluatorOptions {
            node: "sim".to_owned(),
            batch_commands: *[4, 32, 256].get(chance.random_range(0..3)).unwrap_or(&256),
            instances_max: chance.random_range(2..16),
            // Small enough that sessions expire while routers are stopped.
            session_idle: Duration::from_millis(chance.random_range(1_500..10_000)),
            sabotage: EvaluatorSabotage {
                sessions_off: sabotage == Sabotage::SessionsOff,
                rollback_to_applied: sabotage == Sabotage::RollbackToApplied,
                ungated: sabotage == Sabotage::Ungated,
                unrecorded_retries: sabotage == Sabotage::UnrecordedRetries,
            },
            ..EvaluatorOptions::default()
        };
        let voters = (0..nodes).map(replica).collect();
        let plan = Plan {
            shards,
            configuration: Configuration {
                voters,
                ..Configuration::default()
            },
            group: group.check().expect("the options hang together"),
            evaluator: evaluator.check().expect("the options hang together"),
            kinds: Rc::new(KindTable::build(&[KindFactory::of::<Account>()]).expect("one kind")),
        };
        let sharding = Sharding {
            seed: 1,
            shards: shards as u32,
        };
        let keys = (0..chance.random_range(5..12))
            .map(|number| {
                let key = format!("k{number}");
                let shard = sharding.shard_of(&key).number as usize;
                (key, shard)
            })
            .collect::<Vec<_>>();
        let options = RouterOptions {
            attempt_timeout: Duration::from_millis(chance.random_range(30..150)),
            probe_timeout: Duration::from_millis(chance.random_range(10..60)),
            avoid: Duration::from_millis(100),
            table_pause: Duration::from_millis(50),
            ..RouterOptions::default()
        }
        .check()
        .expect("the options hang together");
        let cores = (0..routers)
            .map(|router| Router {
                core: RouterCore::new(
                    options.clone(),
                    u128::from(seed) << 8 | router as u128,
                    None,
                    chance.random(),
                ),
                calls: BTreeMap::new(),
                wake: None,
                reached: BTreeMap::new(),
                stopped_until: Duration::ZERO,
            })
            .collect();
        let clients = (0..chance.random_range(12..28))
            .map(|_| Client {
                router: chance.random_range(0..routers),
                keys: (0..chance.random_range(1..5))
                    .map(|_| chance.random_range(0..keys.len()))
                    .collect(),
                pause_ms: chance.random_range(2..30),
                asked: 0,
            })
            .collect();
        Self {
            now: Duration::from_secs(1),
            agenda: Agenda::new(),
            nodes: (0..nodes).map(|_| Node::new()).collect(),
            routers: cores,
            clients,
            network: Network::new(nodes, routers, &mut chance),
            observer: Observer::new(shards),
            coverage: Coverage::default(),
            sabotage,
            tokens: Tokens::new(),
            next_token: 0,
            slow_disk: vec![Duration::ZERO; nodes],
            disk_us: chance.random_range(200..4_000),
            elected: false,
            healing: false,
            looking: false,
            faults: 0,
            sharding,
            keys,
            messages: 0,
            epoch: 0,
            sleepers_at: None,
            trace: xxhash_rust::xxh3::Xxh3::new(),
            plan,
            chance,
        }
    }

    /// Runs both phases and judges.
    pub fn run(mut self) -> Result<Report, Violation> {
        for node in 0..self.nodes.len() {
            self.start(node)?;
        }
        for router in 0..self.routers.len() {
            self.agenda.put(self.now, Event::Table { router });
        }
        for client in 0..self.clients.len() {
            let wait = Duration::from_millis(self.chance.random_range(0..200));
            self.agenda.put(self.now + wait, Event::Ask { client });
        }
        self.agenda
            .put(self.now + Duration::from_millis(400), Event::Fault);
        let begun = self.now;
        self.run_until(begun + SAFETY_PHASE_MAX, |world| {
            world.now >= begun + SAFETY_PHASE
                && world.messages >= MESSAGES
                && world.faults >= FAULTS
        })?;
        self.heal()?;
        let end = self.now + HEALING_PHASE;
        self.run_until(end, World::all_ended)?;
        if !self.all_ended() {
            let waiting: usize = self.routers.iter().map(|router| router.calls.len()).sum();
            return broken("healing", format!("{waiting} calls have not ended"));
        }
        // What the last faults still had in store (handovers, bounces) comes to its end.
        let quiet = self.now + QUIET;
        self.run_until(quiet, |_| false)?;
        self.last_look()?;
        let end = self.now + HEALING_PHASE;
        self.run_until(end, World::all_equal)?;
        self.finish()
    }

    fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while self.now < end && !done(self) {
            let Some((at, event)) = self.agenda.take() else {
                return Ok(());
            };
            self.now = self.now.max(at);
            if let Some(node) = event.node()
                && self.nodes[node].frozen_until > self.now
            {
                let until = self.nodes[node].frozen_until;
                self.agenda.put(until, event);
                continue;
            }
            if let Some(router) = event.router()
                && self.routers[router].stopped_until > self.now
            {
                let until = self.routers[router].stopped_until;
                self.agenda.put(until, event);
                continue;
            }
            self.happen(event)?;
            self.poll_woken();
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        self.record(&event);
        match event {
            Event::Raft { to, shard, bytes } => {
                self.count_message();
                if self.nodes[to].is_up() {
                    self.raft(to, shard, &bytes)?;
                }
            }
            Event::Written { node, life } => {
                self.count_message();
                if self.lives(node, life) {
                    self.written(node)?;
                }
            }
            Event::Seat {
                node,
                life,
                shard,
                event,
            } => {
                if self.lives(node, life) {
                    self.seat_event(node, shard, event)?;
                }
            }
            Event::Request { to, router, bytes } => {
                self.count_message();
                if self.nodes[to].is_up() {
                    self.request(to, router, &bytes)?;
                }
            }
            Event::Reply {
                router,
                from,
                bytes,
            } => {
                self.count_message();
                let reply = wire::decode(&bytes).map_err(|error| {
                    Violation::of("wire", format!("a reply does not decode: {error}"))
                })?;
                let now = self.now;
                self.routers[router].core.reply(now, store(from), reply);
                self.drain_router(router)?;
            }
            Event::RouterWake { router } => {
                let now = self.now;
                let asking = &mut self.routers[router];
                asking.wake = None;
                if asking.core.wake_at().is_some_and(|at| at <= now) {
                    asking.core.tick(now);
                }
                self.drain_router(router)?;
            }
            Event::Connection { router, node, up } => {
                let now = self.now;
                let core = &mut self.routers[router].core;
                if up {
                    core.connected(now, store(node));
                } else {
                    core.disconnected(now, store(node));
                }
                self.drain_router(router)?;
            }
            Event::Table { router } => {
                let table = self.table();
                let now = self.now;
                self.routers[router].core.table(now, Arc::new(table));
                self.drain_router(router)?;
            }
            Event::Ask { client } => self.ask(client)?,
            Event::Sleepers => {
                self.sleepers_at = None;
                for place in clock::advance(self.now) {
                    // A handler of an earlier leadership would have ended now; does its node lead again?
                    let seat = self.nodes[place.node].seats.get(place.shard);
                    if seat
                        .is_some_and(|seat| seat.evaluating != 0 && seat.evaluating != place.serial)
                    {
                        self.coverage.count("async handlers across terms");
                    }
                }
                self.plan_sleepers();
            }
            Event::Thaw { node } => {
                // Connections do not outlive a stop of this length by much; routers may notice.
                let _ = node;
            }
            Event::Start { node } => {
                if !self.nodes[node].is_up() {
                    self.start(node)?;
                }
            }
            Event::Fault => self.fault()?,
            Event::Reconnect { node } => self.reconnect(node),
            Event::Bounce { shard, to, tries } => self.bounce_back(shard, to, tries)?,
        }
        Ok(())
    }

    fn record(&mut self, event: &Event) {
        self.trace.update(&self.now.as_nanos().to_le_bytes());
        match event {
            Event::Raft { bytes, .. }
            | Event::Request { bytes, .. }
            | Event::Reply { bytes, .. } => self.trace.update(bytes),
            other => self.trace.update(format!("{other:?}").as_bytes()),
        }
    }

    fn count_message(&mut self) {
        if self.elected {
            self.messages += 1;
        }
    }

    fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].is_up() && self.nodes[node].life == life
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        let seed = self.chance.random();
        let now = self.now;
        self.nodes[node]
            .start(&self.plan, node, seed, now)
            .map_err(|detail| Violation::of("storage", detail))?;
        for shard in 0..self.plan.shards {
            let wait = Duration::from_millis(self.chance.random_range(100..1_000));
            self.at_seat(now + wait, node, shard, SeatEvent::Checkpoint);
            self.drain_group(node, shard)?;
        }
        for router in 0..self.routers.len() {
            let up = true;
            self.agenda.put(now, Event::Connection { router, node, up });
        }
        Ok(())
    }

    pub(super) fn plan_sleepers(&mut self) {
        if let Some(at) = clock::next()
            && self.sleepers_at.is_none_or(|planned| at < planned)
        {
            self.sleepers_at = Some(at);
            self.agenda.put(at.max(self.now), Event::Sleepers);
        }
    }

    fn table(&mut self) -> RoutingTable {
        self.epoch += 1;
        let replicas: Vec<u64> = (0..self.nodes.len()).map(store).collect();
        RoutingTable {
            cluster: 1,
            epoch: self.epoch,
            sharding: self.sharding,
            stores: replicas
                .iter()
                .map(|store| StoreAddress {
                    store: *store,
                    name: format!("n{store}"),
                    addresses: Vec::new(),
                })
                .collect(),
            shards: (0..self.plan.shards)
                .map(|shard| ShardPlace {
                    replicas: replicas.clone(),
                    leader: self.guess(shard),
                })
                .collect(),
        }
    }

    fn ask(&mut self, client: usize) -> Result<(), Violation> {
        if self.healing {
            return Ok(());
        }
        let stopped = self.routers[self.clients[client].router].stopped_until;
        if stopped > self.now {
            self.agenda.put(stopped, Event::Ask { client });
            return Ok(());
        }
        let (key, wish) = self.clients[client].wish(&mut self.chance);
        let deadline = self.chance.random_range(DEADLINE_MS.0..DEADLINE_MS.1);
        let router = self.clients[client].router;
        self.call(
            router,
            Some(client),
            key,
            wish,
            Duration::from_millis(deadline),
        )
    }

    fn call(
        &mut self,
        router: usize,
        client: Option<usize>,
        key: usize,
        wish: Wish,
        deadline: Duration,
    ) -> Result<(), Violation> {
        let (name, shard) = self.keys[key].clone();
        let id = self.observer.asked(shard, key, wish);
        let (message, body) = wish.encode(id);
        let now = self.now;
        let asking = &mut self.routers[router];
        let call = asking.core.ask(
            now,
            AskSpec {
                kind: "account".to_owned(),
                key: name,
                message: message.to_owned(),
                body,
                mode: if wish.is_query() {
                    Mode::Query
                } else {
                    Mode::Command
                },
                deadline: now + deadline,
                trace: None,
            },
        );
        asking
            .calls
            .insert(call, (client.unwrap_or(usize::MAX), id));
        self.drain_router(router)
    }

    fn drain_router(&mut self, router: usize) -> Result<(), Violation> {
        while let Some(output) = self.routers[router].core.poll_output() {
            match output {
                RouterOutput::Send { store, request } => {
                    let to = super::node::node_of(store);
                    let bytes = wire::encode(&request).to_vec();
                    let delays =
                        self.network
                            .send(End::Router(router), End::Node(to), &mut self.chance);
                    if let Some(delay) = delays.first() {
                        self.agenda
                            .put(self.now + *delay, Event::Request { to, router, bytes });
                    }
                }
                RouterOutput::Done { call, result } => {
                    let Some((client, id)) = self.routers[router].calls.remove(&call) else {
                        return broken("one answer per call", format!("{call:?} ended twice"));
                    };
                    self.routers[router].reached.remove(&call.0);
                    self.answered(id, result)?;
                    if let Some(client) = self.clients.get(client).map(|_| client) {
                        let pause = self.clients[client].pause_ms;
                        let pause =
                            Duration::from_micros(self.chance.random_range(100..=pause * 1_000));
                        self.agenda.put(self.now + pause, Event::Ask { client });
                    }
                }
                RouterOutput::NeedTable => {
                    let wait = Duration::from_millis(self.chance.random_range(1..30));
                    self.agenda.put(self.now + wait, Event::Table { router });
                }
                _ => {}
            }
        }
        let asking = &mut self.routers[router];
        if let Some(at) = asking.core.wake_at()
            && asking.wake.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            asking.wake = Some(at);
            self.agenda.put(at, Event::RouterWake { router });
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: u64,
        result: Result<synod::router::Answered, AskError>,
    ) -> Result<(), Violation> {
        let wish = self.observer.wish(id);
        let fate = match &result {
            Ok(answered) => Fate::Answered(
                wish.read(&answered.body)
                    .map_err(|detail| Violation::of("wire", detail))?,
            ),
            Err(AskError::Unknown(_)) => Fate::Unknown,
            Err(error) if error.did_not_happen() && !wish.is_query() => Fate::DidNotHappen,
            Err(_) => Fate::Unknown,
        };
        if self.healing && self.sabotage == Sabotage::None {
            let panicked =
                matches!(&result, Err(AskError::Failed(_))) && matches!(wish, Wish::Spoil { .. });
            if self.looking && result.is_err() && !panicked {
                return broken(
                    "healing",
                    format!("{wish:?} after everything healed: {result:?}"),
                );
            }
        }
        self.observer.ended(id, fate)
    }

    /// The faults are over.
    fn heal(&mut self) -> Result<(), Violation> {
        self.healing = true;
        self.network.heal();
        self.slow_disk.fill(Duration::ZERO);
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_up() {
                self.start(node)?;
            }
        }
        Ok(())
    }

    fn all_ended(&self) -> bool {
        self.routers.iter().all(|router| router.calls.is_empty())
    }

    /// Every key is changed and read once more by every router. The first round may still meet sessions that expired
    /// while a router believed in a former leader, and end as unknown (E10); then all must succeed.
    fn last_look(&mut self) -> Result<(), Violation> {
        for round in 0..3 {
            self.looking = round > 0;
            for router in 0..self.routers.len() {
                for key in 0..self.keys.len() {
                    let wish = if round < 2 {
                        Wish::Add {
                            amount: 1,
                            wait_ms: 0,
                        }
                    } else {
                        Wish::Balance { wait_ms: 0 }
                    };
                    self.call(router, None, key, wish, HEALING_PHASE)?;
                }
            }
            let end = self.now + HEALING_PHASE;
            self.run_until(end, World::all_ended)?;
        }
        if !self.all_ended() {
            return broken("healing", "the last questions were not answered".to_owned());
        }
        Ok(())
    }

    /// All replicas have applied the same.
    fn all_equal(&self) -> bool {
        (0..self.plan.shards).all(|shard| {
            let mut applied = self
                .nodes
                .iter()
                .map(|node| node.seats[shard].group.status().applied);
            let first = applied.next();
            applied.all(|other| Some(other) == first)
        })
    }

    fn finish(mut self) -> Result<Report, Violation> {
        if !self.all_equal() {
            return broken("healing", "the replicas did not catch up".to_owned());
        }
        for shard in 0..self.plan.shards {
            let states: Vec<_> = self
                .nodes
                .iter()
                .map(|node| {
                    let state = &node.seats[shard].state;
                    state.lock().expect("no panics while held").encode()
                })
                .collect();
            if states.windows(2).any(|pair| pair[0] != pair[1]) {
                return broken("agreement", format!("the states of shard {shard} differ"));
            }
        }
        for node in 0..self.nodes.len() {
            self.count_evaluators(node);
        }
        for router in &self.routers {
            let counters = router.core.counters();
            self.coverage.add("calls retried", counters.retried);
            self.coverage.add("sessions opened", counters.sessions);
            self.coverage
                .add("outdated outcomes dropped", counters.outdated_outcomes);
        }
        self.observer.judge()?;
        let answered =
            |wish: Wish, fate: Fate| !wish.is_query() && matches!(fate, Fate::Answered(_));
        let acknowledged = self.observer.count(answered);
        let unknown = self
            .observer
            .count(|wish, fate| !wish.is_query() && fate == Fate::Unknown);
        self.coverage.add("commands acknowledged", acknowledged);
        self.coverage.add("commands unknown", unknown);
        self.coverage.add("messages and completions", self.messages);
        Ok(Report {
            coverage: self.coverage,
            messages: self.messages,
            acknowledged,
            faults: self.faults,
            trace: self.trace.digest(),
        })
    }

    /// Adds what the evaluators of a node have counted; they are about to go.
    pub(super) fn count_evaluators(&mut self, node: usize) {
        for seat in &mut self.nodes[node].seats {
            let now = seat.evaluator.counters();
            let before = std::mem::replace(&mut seat.counted, now);
            let add = &mut self.coverage;
            add.add("handlers that awaited", now.awaited - before.awaited);
            add.add("handlers interrupted", now.interrupted - before.interrupted);
            add.add("handlers that panicked", now.panicked - before.panicked);
            add.add("commands failed", now.failed - before.failed);
            add.add("commands unchanged", now.unchanged - before.unchanged);
            add.add(
                "batches with a failure",
                now.batches_with_failure - before.batches_with_failure,
            );
            add.add("batches", now.batches - before.batches);
            add.add("attempts attached", now.attached - before.attached);
            add.add("attempts repeated", now.repeated - before.repeated);
            add.add("activations", now.activations - before.activations);
        }
    }
}
