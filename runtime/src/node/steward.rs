//! Keeps everything that is derived from the system log up to date, and, where the system group is led, takes the next
//! step of every group towards its goal.
//!
//! Here: [`Steward`], one per node on its main arbiter. It wakes on changes and, so that a lost notification costs at
//! most one period, by time (S10). Not here: the decisions (`system`), what nodes tell the system leader (`reports`).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, WrapFuture,
};
use synod_consensus::{GroupId, LogIndex, Term};

use super::courier::NodeCourier;
use super::gate;
use super::gossip::{Admitted, GivenUp, GossipActor, Keys};
use super::protocol::{NodeFrame, given_up};
use super::replicas::Replicas;
use super::shards::MoveStatus;
use super::sight::Sight;
use super::table;
use crate::group::actor::{CarryOut, CheckpointNow};
use crate::group::{Shared, lock};
use crate::storage::Reserve;
use crate::system::{Founding, Level, Reconciler, ReplicaAddress, Reporting, Step, SystemCommand};
use crate::transport::Lane;
use crate::wire::RoutingTable;

mod disk;
mod reports;

use disk::DiskLook;
pub(crate) use reports::{LostElsewhere, Reported, SayAgain, Summed};

/// How often the steward looks without being told: what nobody tells is found so late, and an idle node wakes for it.
const PERIOD: Duration = Duration::from_millis(250);
/// The system leader's steps are computed this often without being told: lost orders and reports come to light here.
const STEPS_EVERY: Duration = Duration::from_millis(500);
/// After a report they are computed anew, but not more often than this: reports come in bursts.
const STEPS_PAUSE: Duration = Duration::from_millis(20);
/// What was reported too soon after the last steps is looked at after this, unless something else is told before: sooner, and a node
/// that comes gets its groups at once, for which all callers wait a little longer.
const STEPS_SOON: Duration = Duration::from_millis(100);
/// Proposals without an answer are given up after this long; the state tells what became of them.
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(2);
/// How often the log is asked which groups pin its oldest files.
const PINNED_EVERY: Duration = Duration::from_secs(1);

/// The newest routing table, for routers of this process and for clients.
pub(crate) type TableSlot = Arc<RwLock<Option<Arc<RoutingTable>>>>;

/// The actor.
#[derive(Debug)]
pub(crate) struct Steward {
    pub(crate) shared: Arc<Shared>,
    pub(crate) replicas: Replicas,
    pub(crate) gossip: Addr<GossipActor>,
    pub(crate) keys: Keys,
    pub(crate) sight: Sight,
    pub(crate) table: TableSlot,
    pub(crate) courier: Arc<NodeCourier>,
    /// What to propose if this node leads a system group that nobody founded yet.
    pub(crate) founding: Founding,
    reconciler: Reconciler,
    /// Silence after which a member counts as absent where this node leads the system group; `None`: never.
    replace_after: Option<Duration>,
    seen_change: u64,
    seen_system: Option<LogIndex>,
    /// Unsafe recoveries that were said in the log.
    seen_recoveries: usize,
    /// The cluster's level when it was last looked at.
    seen_level: Level,
    outstanding: usize,
    /// Why a command of the last steps had to wait for newer builds.
    waiting: Option<String>,
    reporting: Reporting,
    disk: DiskLook,
    /// A report came in since the last steps.
    reported: bool,
    /// It is going to look when that pause is over.
    looks_soon: bool,
    stepped: Duration,
    pinned: Duration,
}

impl Steward {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, from the start of a node, with every part of it"
    )]
    pub(crate) fn new(
        shared: Arc<Shared>,
        reserve: Arc<Reserve>,
        replicas: Replicas,
        gossip: Addr<GossipActor>,
        keys: Keys,
        sight: Sight,
        table: TableSlot,
        courier: Arc<NodeCourier>,
        founding: Founding,
        replace_after: Option<Duration>,
    ) -> Self {
        Self {
            disk: DiskLook::at(reserve),
            shared,
            replicas,
            gossip,
            keys,
            sight,
            table,
            courier,
            founding,
            reconciler: Reconciler::new(replace_after),
            replace_after,
            seen_change: 0,
            seen_system: None,
            seen_recoveries: 0,
            seen_level: Level::FIRST,
            outstanding: 0,
            waiting: None,
            reporting: Reporting::default(),
            reported: false,
            looks_soon: false,
            stepped: Duration::ZERO,
            pinned: Duration::ZERO,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    fn leads_system(&self) -> bool {
        let system = self.shared.registry.get(GroupId::ZERO);
        system.is_some_and(|hosted| hosted.leads())
    }

    /// The term in which this node leads the system group, once it knows all that former leaders decided: orders towards old goals are
    /// not to be given.
    fn serves_system(&self) -> Option<Term> {
        self.shared.registry.get(GroupId::ZERO)?.serves()
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let change = *self.shared.changed.borrow();
        if change != self.seen_change {
            self.seen_change = change;
            self.follow_system();
            self.rebuild_table();
        }
        self.look_at_disk();
        self.replicas.sweep();
        self.replicas.remember_lost();
        self.pass_reports();
        let now = self.now();
        if self.leads_system() {
            let pause = if self.reported {
                STEPS_PAUSE
            } else {
                STEPS_EVERY
            };
            let due = now.saturating_sub(self.stepped) >= pause;
            if due
                && self.outstanding == 0
                && let Some(term) = self.serves_system()
            {
                self.stepped = now;
                self.reported = false;
                self.step(term, ctx);
            } else if self.reported && !due && !self.looks_soon {
                self.looks_soon = true;
                ctx.run_later(STEPS_SOON, |steward, ctx| {
                    steward.looks_soon = false;
                    steward.look(ctx);
                });
            }
        } else {
            self.reconciler = Reconciler::new(self.replace_after);
            self.waiting = None;
        }
        if now.saturating_sub(self.pinned) >= PINNED_EVERY {
            self.pinned = now;
            self.replicas.ask_for_durability();
            self.pass_lost();
            for key in self.shared.log_watch.pinned() {
                if let Some(hosted) = self.shared.registry.get(key.group) {
                    hosted.group.do_send(CheckpointNow);
                }
            }
        }
    }

    fn follow_system(&mut self) {
        let (applied, level, members, given_up, recoveries) = {
            let state = lock(&self.shared.system);
            if state.founding.is_none() || self.seen_system == Some(state.applied) {
                return;
            }
            let members: Vec<_> = state
                .members
                .iter()
                .map(|(store, member)| (*store, member.key.clone()))
                .collect();
            if state.is_given_up(self.shared.store) {
                let name = state.removed.get(&self.shared.store);
                let name = name.map_or("this node", String::as_str);
                self.shared.fail(&given_up(&state, self.shared.store, name));
            }
            let given_up: Vec<u64> = state.given_up().collect();
            let unseen = state.recoveries.iter().skip(self.seen_recoveries);
            let recoveries: Vec<String> = unseen.map(crate::recovery::in_words).collect();
            (state.applied, state.level, members, given_up, recoveries)
        };
        self.seen_system = Some(applied);
        self.seen_recoveries += recoveries.len();
        if level > self.seen_level {
            tracing::info!(%level, "every member's build knows the commands of this level: the cluster uses them");
            self.seen_level = level;
        }
        for recovery in recoveries {
            tracing::warn!("{recovery}");
        }
        if !given_up.is_empty() {
            self.gossip.do_send(GivenUp(given_up));
        }
        self.keys.set(members.clone());
        self.gossip.do_send(Admitted(
            members.into_iter().map(|(store, _)| store).collect(),
        ));
        self.replicas.align();
    }

    fn rebuild_table(&mut self) {
        let built = {
            let state = lock(&self.shared.system);
            table::build(&state, &self.sight.all(), &self.shared.registry)
        };
        let Some(built) = built else { return };
        let mut slot = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let same = slot
            .as_ref()
            .is_some_and(|known| known.shards == built.shards && known.stores == built.stores);
        if same {
            return;
        }
        let built = Arc::new(built);
        *slot = Some(built.clone());
        drop(slot);
        self.courier.table_changed(built);
    }

    fn step(&mut self, term: Term, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(system) = self.shared.registry.get(GroupId::ZERO) else {
            return;
        };
        let steps = {
            let state = lock(&self.shared.system);
            let announced = self.sight.announced(system.voters());
            let raised = state.next_level(self.shared.build, &announced);
            if state.founding.is_none() {
                vec![Step::Propose(SystemCommand::Found(self.founding.clone()))]
            } else if let Some(level) = raised {
                // Alone: what changes the placement before it would have it refused.
                let epoch = state.epoch;
                vec![Step::Propose(SystemCommand::Raise { epoch, level })]
            } else {
                let told = state.descriptions(&self.sight.said()).into_iter();
                let steps = self
                    .reconciler
                    .steps(now, term, &state, &self.sight.alive());
                told.map(Step::Propose).chain(steps).collect()
            }
        };
        for known in self.reconciler.news() {
            super::shards::tell(&known);
        }
        let mut waiting = None;
        let mut orders: BTreeMap<u64, Vec<bytes::Bytes>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Propose(command) => {
                    if let SystemCommand::Absent { store, on, .. } = command {
                        match on {
                            true => tracing::warn!(
                                store,
                                "a member is silent for too long: others get its copies"
                            ),
                            false => tracing::info!(store, "an absent member is back"),
                        }
                    }
                    let outcome = match gate::propose(&self.shared, &self.sight, &system, command) {
                        Ok(outcome) => outcome,
                        Err(reason) => {
                            waiting = Some(reason);
                            continue;
                        }
                    };
                    self.outstanding += 1;
                    let wait = tokio::time::timeout(PROPOSAL_PATIENCE, outcome).into_actor(self);
                    ctx.spawn(wait.map(|outcome, steward, ctx| {
                        tracing::debug!(?outcome, "system command ended");
                        steward.outstanding -= 1;
                        // Refused at once while leadership opens or moves: then the next period is soon enough.
                        let happened =
                            matches!(outcome, Ok(Ok(ref outcome)) if !outcome.is_refused());
                        if steward.outstanding == 0 && happened {
                            steward.stepped = Duration::ZERO;
                            steward.look(ctx);
                        }
                    }));
                }
                Step::Order(order) => {
                    let store = ReplicaAddress::of(order.leader).store;
                    if store == self.shared.store {
                        if let Some(hosted) = self.shared.registry.get(order.group) {
                            hosted.group.do_send(CarryOut(order));
                        }
                    } else {
                        orders
                            .entry(store)
                            .or_default()
                            .push(NodeFrame::order(&order));
                    }
                }
            }
        }
        if let Some(reason) = &waiting
            && self.waiting != waiting
        {
            tracing::warn!(reason, "a change of the cluster waits for newer builds");
        }
        self.waiting = waiting;
        for (store, frames) in orders {
            // A lost order is given again.
            let _refused = self.shared.transport.send(store, Lane::Request, frames);
        }
    }
}

impl Actor for Steward {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(PERIOD, Self::look);
        let mut changes = self.shared.changed.subscribe();
        let me = ctx.address().downgrade();
        actix_rt::spawn(async move {
            while changes.changed().await.is_ok() {
                match me.upgrade() {
                    Some(steward) => steward.do_send(Look),
                    None => return,
                }
                // Changes come in bursts: one look serves all of the next moment.
                actix_rt::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}

/// Something changed.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
struct Look;

impl Handler<Look> for Steward {
    type Result = ();
    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

/// A store that leads groups here fell silent: what this node's own callers asked it is asked elsewhere.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct FellSilent(pub(crate) u64);

impl Handler<FellSilent> for Steward {
    type Result = ();
    fn handle(&mut self, FellSilent(store): FellSilent, _ctx: &mut Self::Context) {
        self.courier.disconnected(store);
    }
}

/// How many groups have not reached their goal; `None` where that is not known.
#[derive(Debug, actix::Message)]
#[rtype(result = "Option<u32>")]
pub(crate) struct Unsettled;

impl Handler<Unsettled> for Steward {
    type Result = Option<u32>;
    fn handle(&mut self, _: Unsettled, _ctx: &mut Self::Context) -> Self::Result {
        if !self.leads_system() {
            return None;
        }
        let state = lock(&self.shared.system);
        let gone = self.sight.gone();
        let now = self.shared.clock.now();
        Some(self.reconciler.unsettled(now, &state, &gone) as u32)
    }
}

/// Why a change of the system state waits for newer builds, if one does; `None` where that is not known.
#[derive(Debug, actix::Message)]
#[rtype(result = "Option<String>")]
pub(crate) struct Waiting;

impl Handler<Waiting> for Steward {
    type Result = Option<String>;
    fn handle(&mut self, _: Waiting, _ctx: &mut Self::Context) -> Self::Result {
        let reason = self.waiting.as_ref()?;
        Some(format!(
            "a change of the cluster waits for newer builds: {reason}"
        ))
    }
}

/// What moves and what moved lately; `None` where that is not known.
#[derive(Debug, actix::Message)]
#[rtype(result = "Option<Vec<MoveStatus>>")]
pub(crate) struct ListMoves;

impl Handler<ListMoves> for Steward {
    type Result = Option<Vec<MoveStatus>>;
    fn handle(&mut self, _: ListMoves, _ctx: &mut Self::Context) -> Self::Result {
        if !self.leads_system() {
            return None;
        }
        let now = self.now();
        let all = self.reconciler.moves().all();
        Some(all.map(|known| MoveStatus::of(known, now)).collect())
    }
}

/// The node stops.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for Steward {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
