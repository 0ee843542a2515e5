//! The next step of every group towards its goal.
//!
//! Here: [`Reconciler`], which the node that leads the system group runs periodically and on events: it compares the
//! system state with what group leaders report and answers with [`Step`]s. Every step is idempotent and carries what it
//! was computed from, so losing the system leader between any two of them loses nothing (S2, S10).
//! Not here: the goals (`plan`), carrying the orders out (`node`).
//!
//! The one path of every change (DESIGN section 11): allot -> add learner -> catch up -> joint change -> move the
//! leadership -> remove the old replicas -> retire them.

use core::cmp::Reverse;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use synod_consensus::{Configuration, GroupId, LogIndex, Members, ReplicaId, Term};

use super::absence::Watch;
use super::arrivals::Arrivals;
use super::command::SystemCommand;
use super::fence::{FENCED, Fences, Stamp};
use super::moves::{Move, Moves};
use super::plan::{plan, system_voters, voters_for};
use super::report::GroupReport;
use super::state::{GroupEntry, ReplicaAddress, SystemState};
use super::sums::Sum;

/// Group changes under way at the same time, cluster-wide: enough to overlap disks and round trips, few enough that
/// snapshots do not crowd out commands.
const CHANGES_MAX: usize = 24;
/// System commands proposed by one step, so that one batch stays far below an entry's limit.
const COMMANDS_MAX: usize = 64;
/// Groups at rest asked for their word at once.
const ASKED_MAX: usize = 8;
/// An order that shows no effect is given again after this long.
const ORDER_RETRY: Duration = Duration::from_millis(1_000);
/// A report older than this says nothing about who leads.
const REPORT_STALE: Duration = Duration::from_secs(10);
/// All groups are looked at so often even if nothing changed and nobody waits for time to pass: nothing should come of it, and thousands
/// of them cost a hundredth of a second.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// News of moves that wait to be told; more are only in the list.
const NEWS_MAX: usize = 1_024;
/// A replica this many entries behind the leader counts as caught up.
const CAUGHT_UP_ENTRIES: u64 = 256;

/// What a group's leader should do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// The group.
    pub group: GroupId,
    /// The leader that was seen; another replica ignores the order.
    pub leader: ReplicaId,
    /// The term in which it leads; in another one it ignores the order, too.
    #[serde(default)]
    pub term: Term,
    /// Who gives it, and on which placement.
    #[serde(default)]
    pub stamp: Stamp,
    /// What to do.
    pub kind: OrderKind,
}

/// Kinds of orders.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum OrderKind {
    /// Change the configuration, if it is still the expected one.
    Change {
        /// Index of the configuration that the order was computed from.
        expected: LogIndex,
        /// The voters to have.
        voters: Members,
        /// The learners to have.
        learners: Members,
    },
    /// Hand the leadership over.
    Transfer {
        /// The replica that should lead.
        to: ReplicaId,
    },
    /// Nothing but to refuse older orders. Since level 3.
    Fence,
}

/// One thing to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Propose this to the system group.
    Propose(SystemCommand),
    /// Send this to the store of `order.leader`.
    Order(Order),
}

#[derive(Clone, Debug)]
struct Seen {
    report: GroupReport,
    at: Duration,
    /// What stands for it in a sum.
    mark: Option<u64>,
}

/// What the system leader remembers between steps. Losing it costs a few repeated orders.
#[derive(Debug, Default)]
pub struct Reconciler {
    /// In boxes: thousands stay, and a map keeps room for half as many again.
    seen: BTreeMap<GroupId, Box<Seen>>,
    /// What the last look at all groups was of, and when it was, if there was nothing to do: then the next one may wait.
    calm: Option<(Calm, Duration)>,
    /// Stores that gave a sign of life at the last steps.
    heard: BTreeSet<u64>,
    ordered: BTreeMap<GroupId, Duration>,
    /// Groups at rest that were asked for a word on which a lost replica may go, and have not given it.
    asked: BTreeMap<GroupId, Asked>,
    /// Which orders may still be on their way.
    fences: Fences,
    /// Epoch at which planning had nothing to change; until the next one, planning again would find the same.
    planned: Option<u64>,
    /// Configuration changes that reports have shown finished; for people.
    finished: u64,
    /// Replicas that stopped for good.
    lost: BTreeMap<(GroupId, ReplicaId), Loss>,
    /// When a store's replica of a group was last replaced.
    replaced: BTreeMap<(GroupId, u64), Replaced>,
    /// Who is silent, and for how long.
    watch: Watch,
    /// What moves; for people.
    moves: Moves,
    /// Moves that began, caught up or ended since they were last asked for.
    news: Vec<Move>,
}

/// What the next step of a group depends on, besides reports and time.
#[derive(Clone, Debug, PartialEq)]
struct Calm {
    applied: LogIndex,
    alive: BTreeSet<u64>,
    heard: BTreeSet<u64>,
}

/// When it was heard that a replica stopped for good. Its store says so again and again.
#[derive(Clone, Copy, Debug)]
struct Loss {
    first: Duration,
    last: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Replaced {
    replica: ReplicaId,
    at: Duration,
    times: u32,
}

/// When a group was asked last, and how often before that.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Duration,
    times: u32,
}

impl Reconciler {
    /// An empty memory, as after a change of the system leader. Members that are silent for `replace_after` from now on count as
    /// absent, and others get their copies; `None`: never.
    pub fn new(replace_after: Option<Duration>) -> Self {
        Self {
            watch: Watch::new(replace_after),
            ..Self::default()
        }
    }

    /// What moves, and what did lately.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Moves that began, caught up or ended since this was last asked.
    pub fn news(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.news)
    }

    /// Stores that gave a sign of life: those that gossip sees alive, and those that answered the leader of the system group, of
    /// which every member has a replica.
    fn heard(&self, now: Duration, alive: &BTreeSet<u64>) -> BTreeSet<u64> {
        let report = self.report(now, GroupId::ZERO);
        let answered = report.into_iter().flat_map(|report| {
            let peers = report.matched.iter().map(|(peer, _)| *peer);
            peers.chain([report.leader])
        });
        let answered = answered.map(|id| ReplicaAddress::of(id).store);
        alive.iter().copied().chain(answered).collect()
    }

    /// Takes a leader's report in; true when it says something new. Late ones are ignored: of a lower term, of an earlier configuration,
    /// of before an order that was reported.
    pub fn reported(&mut self, now: Duration, report: GroupReport) -> bool {
        let mut news = true;
        if self.report(now, report.group).is_none() {
            self.calm = None; // what is not known is passed over
        }
        if let Some(seen) = self.seen.get(&report.group) {
            let known = &seen.report;
            let is_late = known.term > report.term
                || known.term == report.term
                    && (known.configuration_index > report.configuration_index
                        || known.fence > report.fence);
            if is_late {
                return false;
            }
            let told = GroupReport {
                resting: seen.report.resting,
                ..report.clone()
            };
            news = seen.report != told;
            if news {
                self.calm = None;
            }
            let moved = seen.report.term < report.term
                || seen.report.configuration_index < report.configuration_index
                || seen.report.configuration_committed != report.configuration_committed
                || seen.report.fence < report.fence;
            if moved {
                self.ordered.remove(&report.group);
                self.finished += 1;
            }
        }
        let (at, mark) = (now, report.mark());
        self.seen
            .insert(report.group, Box::new(Seen { report, at, mark }));
        news
    }

    /// Whether it is this that was reported here of groups at rest that `store` leads. If not, none of those words stands any longer: they
    /// are to be said again, and who leads no more cannot take its own back.
    pub fn agrees(&mut self, store: u64, sum: Sum) -> bool {
        if self.sum_of(store) == sum {
            return true;
        }
        self.calm = None;
        let of_store =
            |seen: &&mut Box<Seen>| ReplicaAddress::of(seen.report.leader).store == store;
        for seen in self.seen.values_mut().filter(of_store) {
            // When it was heard stays as it is: it is no newer by that.
            seen.report.resting = false;
            seen.mark = None;
        }
        false
    }

    /// Of what was reported of groups at rest that this store leads.
    pub fn sum_of(&self, store: u64) -> Sum {
        { self.seen.values() }
            .filter(|seen| ReplicaAddress::of(seen.report.leader).store == store)
            .filter_map(|seen| seen.mark)
            .collect()
    }

    /// The store of this replica says that it stopped for good. Once its group is known to live on without it, it is
    /// retired, and the store gets another one under a new id.
    pub fn lost(&mut self, now: Duration, group: GroupId, replica: ReplicaId) {
        let first = now;
        self.calm = None;
        let loss = self.lost.entry((group, replica));
        loss.or_insert(Loss { first, last: now }).last = now;
    }

    /// Lost replicas that the log still lists.
    fn mourned(&self, state: &SystemState) -> Vec<(GroupId, ReplicaId, Loss)> {
        let listed = |group: &GroupId, replica: &ReplicaId| {
            let entry = state.groups.get(group);
            entry.is_some_and(|entry| entry.replicas.contains(replica))
        };
        self.lost
            .iter()
            .filter(|((group, replica), _)| listed(group, replica))
            .map(|((group, replica), loss)| (*group, *replica, *loss))
            .collect()
    }

    /// Retires lost replicas whose groups are known to live on without them.
    fn bury(&mut self, now: Duration, state: &SystemState) -> Vec<Step> {
        // A store that no longer says so has its replica back.
        self.lost
            .retain(|_, loss| now.saturating_sub(loss.last) <= REPORT_STALE);
        let mourned = self.mourned(state);
        let mut steps = Vec::new();
        let mut unheard = BTreeSet::new();
        for (group, replica, loss) in &mourned {
            let Some(seen) = self.seen.get(group).filter(|seen| seen.at > loss.first) else {
                unheard.insert(*group);
                continue;
            };
            // What a stopped replica holds may be all that is left: it goes only when a majority is there without it, and
            // without any other that is lost or gone.
            let report = &seen.report;
            let listed = |id: &ReplicaId| {
                let entry = state.groups.get(group);
                entry.is_some_and(|entry| entry.replicas.contains(id))
            };
            let is_lost = |id: &ReplicaId| mourned.iter().any(|(_, lost, _)| lost == id);
            let lives = |id: &ReplicaId| listed(id) && !is_lost(id) && report.shows(*id);
            if is_lost(&report.leader) || !has_majority(&report.configuration, lives) {
                continue;
            }
            let store = ReplicaAddress::of(*replica).store;
            let before = self.replaced.get(&(*group, store)).copied();
            let times = match before {
                Some(before) if before.replica == *replica => before.times,
                // A cause that stays would make replicas come and go for ever: each time it waits twice as long.
                Some(before) if now.saturating_sub(before.at) < pause_after(before.times) => {
                    continue;
                }
                Some(before) => before.times + 1,
                None => 0,
            };
            let replaced = Replaced {
                replica: *replica,
                at: now,
                times,
            };
            self.replaced.insert((*group, store), replaced);
            steps.push(Step::Propose(SystemCommand::Retire {
                group: *group,
                replica: *replica,
            }));
        }
        steps.truncate(COMMANDS_MAX);
        steps.extend(self.ask_those_at_rest(now, state, &unheard));
        steps
    }

    /// Who rests says nothing by itself: its word may be older than what is to be judged by it. Who does not answer is asked ever more
    /// rarely, and keeps nobody else from being asked.
    fn ask_those_at_rest(
        &mut self,
        now: Duration,
        state: &SystemState,
        unheard: &BTreeSet<GroupId>,
    ) -> Vec<Step> {
        self.asked.retain(|group, _| unheard.contains(group));
        if state.level < FENCED {
            return Vec::new();
        }
        let is_due = |known: &Asked| now.saturating_sub(known.at) >= pause_after(known.times);
        let mut due: Vec<(Option<Duration>, Order)> = { unheard.iter() }
            .filter(|group| self.asked.get(group).is_none_or(is_due))
            .filter_map(|group| {
                let report = self.report(now, *group)?;
                let last = self.asked.get(group).map(|known| known.at);
                { report.resting }.then(|| (last, order(report, OrderKind::Fence)))
            })
            .collect();
        due.sort_by_key(|(last, order)| (*last, order.group)); // who was never asked comes first
        due.truncate(ASKED_MAX);
        let ask = |(_, order): (_, Order)| {
            let before = self.asked.get(&order.group);
            let times = before.map_or(0, |known| known.times.saturating_add(1));
            self.asked.insert(order.group, Asked { at: now, times });
            Step::Order(self.fences.give(order, state.epoch))
        };
        due.into_iter().map(ask).collect()
    }

    /// The newest report of a group, if it is fresh.
    pub fn report(&self, now: Duration, group: GroupId) -> Option<&GroupReport> {
        Self::fresh(&self.seen, &self.heard, now, group)
    }

    fn fresh<'a>(
        seen: &'a BTreeMap<GroupId, Box<Seen>>,
        heard: &BTreeSet<u64>,
        now: Duration,
        group: GroupId,
    ) -> Option<&'a GroupReport> {
        let seen = seen.get(&group)?;
        let leader = ReplicaAddress::of(seen.report.leader).store;
        let stands = seen.report.resting && heard.contains(&leader);
        let is_new = now.saturating_sub(seen.at) <= REPORT_STALE;
        (stands || is_new).then_some(&seen.report)
    }

    /// What to do now, as the leader of the system group in `term`. `alive`: stores that gossip sees alive, the only ones that
    /// leaderships move to (S5, S18).
    pub fn steps(
        &mut self,
        now: Duration,
        term: Term,
        state: &SystemState,
        alive: &BTreeSet<u64>,
    ) -> Vec<Step> {
        if state.founding.is_none() {
            return Vec::new();
        }
        self.fences.lead(term);
        let heard = self.heard(now, alive);
        self.watch.look(now, state, &heard);
        self.heard = heard;
        let goals = if self.planned == Some(state.epoch) {
            Vec::new()
        } else {
            plan(state)
        };
        if goals.is_empty() {
            self.planned = Some(state.epoch);
        } else {
            // Everything else waits for the new goals: steps towards old ones would be wasted.
            return vec![Step::Propose(SystemCommand::Place {
                epoch: state.epoch,
                goals,
            })];
        }
        let calm = Calm {
            applied: state.applied,
            alive: alive.clone(),
            heard: self.heard.clone(),
        };
        let is_calm = |(known, since): &(Calm, Duration)| {
            *known == calm && now.saturating_sub(*since) < LOOK_AGAIN
        };
        let is_calm = self.calm.as_ref().is_some_and(is_calm);
        let (seen, heard) = (&self.seen, &self.heard);
        let fresh = |group| Self::fresh(seen, heard, now, group);
        if !is_calm {
            self.news.extend(self.moves.look(now, state, fresh));
            self.news.truncate(NEWS_MAX);
        }
        let known = |group| Some(&fresh(group)?.configuration);
        if let Some(word) = self.watch.verdict(state, known) {
            // One at a time: the next is judged by what this one changed.
            return vec![Step::Propose(word)];
        }
        if is_calm {
            return Vec::new();
        }
        let mut steps = self.bury(now, state);
        self.ordered
            .retain(|_, at| now.saturating_sub(*at) < ORDER_RETRY);
        let mut commands = steps.len();
        let mut arrivals = Arrivals::default();
        let mut copies_wanted = Vec::new();
        for (group, entry) in &state.groups {
            let Some(report) = self.report(now, *group) else {
                continue;
            };
            let lost: Vec<ReplicaId> = { entry.replicas.iter().copied() }
                .filter(|id| self.lost.contains_key(&(*group, *id)))
                .collect();
            let begun = arrivals.count(*group, entry, report, alive, &lost);
            let mut next = match without(&lost, report) {
                Some(report) => next_step(*group, entry, state, &report, alive),
                None => Next::Wait,
            };
            if let Next::Take(Step::Propose(SystemCommand::Retire { replica, .. })) = next
                && state.level >= FENCED
                && !self.fences.shut_out(report, replica)
            {
                next = Next::Take(Step::Order(order(report, OrderKind::Fence)));
            }
            match next {
                Next::Take(Step::Propose(SystemCommand::Allot { .. })) => {
                    copies_wanted.push((copies_missing(entry, report), *group, begun));
                }
                Next::Take(Step::Propose(command)) if commands < COMMANDS_MAX => {
                    commands += 1;
                    steps.push(Step::Propose(command));
                }
                Next::Take(Step::Order(order))
                    if self.ordered.len() < CHANGES_MAX && !self.ordered.contains_key(group) =>
                {
                    self.ordered.insert(*group, now);
                    steps.push(Step::Order(self.fences.give(order, state.epoch)));
                }
                _ => {}
            }
        }
        let nothing_wanted = copies_wanted.is_empty();
        // Who lacks most copies gets one first: a loss is mended before loads are evened out.
        copies_wanted.sort_by_key(|(missing, _, _)| Reverse(*missing));
        for (_, group, begun) in copies_wanted {
            let stores: Vec<u64> = state.unallotted(group).collect();
            if commands < COMMANDS_MAX && arrivals.admit(&stores, begun) {
                commands += stores.len();
                let allot = |store| Step::Propose(SystemCommand::Allot { group, store });
                steps.extend(stores.into_iter().map(allot));
            }
        }
        // What was ordered may have to be ordered again.
        let nothing_to_do = steps.is_empty()
            && nothing_wanted
            && self.ordered.is_empty()
            && self.mourned(state).is_empty(); // some of them wait for their time
        self.calm = nothing_to_do.then_some((calm, now));
        steps
    }

    /// Groups that have not reached their goal, as far as fresh reports tell; unreported groups count. A leadership is
    /// not expected at a store that is `gone` (dead or left, as gossip sees it).
    pub fn unsettled(&self, now: Duration, state: &SystemState, gone: &BTreeSet<u64>) -> usize {
        let present: BTreeSet<u64> = state
            .members
            .keys()
            .copied()
            .filter(|store| !gone.contains(store))
            .collect();
        let open = |(group, entry): (&GroupId, &GroupEntry)| {
            let Some(report) = self.report(now, *group) else {
                return true;
            };
            !matches!(
                next_step(*group, entry, state, report, &present),
                Next::Settled
            )
        };
        let unplanned = if self.planned == Some(state.epoch) {
            0
        } else {
            plan(state).len()
        };
        let mourned = self.mourned(state).len();
        state.groups.iter().filter(|pair| open(*pair)).count() + unplanned + mourned
    }
}

/// What a group needs to reach its goal.
enum Next {
    /// It is there.
    Settled,
    /// Something is under way: a change commits, or a replica catches up.
    Wait,
    /// This brings it nearer.
    Take(Step),
}

/// What a group's leader reports while some of its replicas are `lost`, stopped for good: none of them has caught up, so none is promoted.
/// `None` while one of them is not in the configuration: it must not come in, and what lacks it waits until it is retired.
fn without<'a>(lost: &[ReplicaId], report: &'a GroupReport) -> Option<Cow<'a, GroupReport>> {
    let mut report = Cow::Borrowed(report);
    if !lost.is_empty() {
        let Configuration {
            voters, learners, ..
        } = &report.configuration;
        let present = |id| voters.contains(id) || learners.contains(id);
        if !lost.iter().all(present) {
            return None;
        }
        let matched = &mut report.to_mut().matched;
        matched.retain(|(peer, _)| !lost.contains(peer));
    }
    Some(report)
}

/// The one step that brings a group nearer to its goal. `alive`: the stores that a leadership may move to; a preferred
/// leader elsewhere is not waited for.
fn next_step(
    group: GroupId,
    entry: &GroupEntry,
    state: &SystemState,
    report: &GroupReport,
    alive: &BTreeSet<u64>,
) -> Next {
    let configuration = &report.configuration;
    if !report.configuration_committed
        || !configuration.outgoing.is_empty()
        || !configuration.learners_next.is_empty()
    {
        return Next::Wait;
    }
    if let Some(store) = state.unallotted(group).next() {
        return Next::Take(Step::Propose(SystemCommand::Allot { group, store }));
    }
    let goal: Members = entry
        .placement
        .stores
        .iter()
        .filter_map(|store| state.replica_on(group, *store))
        .collect();
    let present = configuration.voters.union(&configuration.learners);
    let can_lead = |id: ReplicaId| {
        configuration.voters.contains(&id)
            && caught_up(id, report)
            && alive.contains(&ReplicaAddress::of(id).store)
    };
    let order = |kind| Next::Take(Step::Order(order(report, kind)));
    let change = |voters, learners| {
        order(OrderKind::Change {
            expected: report.configuration_index,
            voters,
            learners,
        })
    };

    // New replicas come in as learners first; a learner that is no longer wanted goes.
    if !goal.is_subset(&present) {
        let learners = goal.difference(&configuration.voters).copied().collect();
        return change(configuration.voters.clone(), learners);
    }

    let voters = wanted_voters(group, &goal, state, report);
    if voters != configuration.voters {
        let mut awaited = voters
            .iter()
            .filter(|id| !configuration.voters.contains(id) && !caught_up(**id, report))
            .peekable();
        if awaited.peek().is_some() {
            // Nobody waits for those who are away.
            let somebody = awaited.any(|id| alive.contains(&ReplicaAddress::of(*id).store));
            return if somebody { Next::Wait } else { Next::Settled };
        }
        if !can_decide(&voters, report) {
            return Next::Wait; // its leader would refuse
        }
        // Leadership moves before its holder goes (S5), if somebody who stays can take it now.
        if !voters.contains(&report.leader) {
            let heir = voters.iter().copied().find(|id| can_lead(*id));
            if let Some(to) = heir {
                return order(OrderKind::Transfer { to });
            }
        }
        let learners = goal.difference(&voters).copied().collect();
        return change(voters, learners);
    }
    let learners: Members = goal.difference(&voters).copied().collect();
    if learners != configuration.learners {
        return change(voters, learners);
    }

    // Nothing of the group names the old replicas any more.
    if let Some(old) = entry
        .replicas
        .iter()
        .find(|id| !goal.contains(id) && !present.contains(id))
    {
        return Next::Take(Step::Propose(SystemCommand::Retire {
            group,
            replica: *old,
        }));
    }

    let preferred = state
        .preferred_leader(group)
        .filter(|replica| alive.contains(&ReplicaAddress::of(*replica).store));
    match preferred {
        Some(to) if to != report.leader && can_lead(to) => order(OrderKind::Transfer { to }),
        // A learner cannot lead, and of two copies one is a learner (E24).
        Some(to) if to != report.leader && configuration.voters.contains(&to) => Next::Wait,
        _ => Next::Settled,
    }
}

/// An order to a group's leader, without its stamp.
fn order(report: &GroupReport, kind: OrderKind) -> Order {
    Order {
        group: report.group,
        leader: report.leader,
        term: report.term,
        stamp: Stamp::default(),
        kind,
    }
}

/// Whether those of the wished voters who answer the leader are a majority.
fn can_decide(voters: &Members, report: &GroupReport) -> bool {
    // A new leader lists everybody for a while; who has acknowledged something is there.
    let acknowledged = |id: &ReplicaId| {
        let mut peers = report.matched.iter();
        peers.any(|(peer, matched)| peer == id && *matched > LogIndex::ZERO)
    };
    let answers = |id: &&ReplicaId| **id == report.leader || acknowledged(id);
    voters.iter().filter(answers).count() > voters.len() / 2
}

/// Which of the goal's replicas should vote: an odd number, those of draining and absent members last, present voters first so that nothing
/// moves without need, then those that are caught up, then by id; of each zone one before a second of any, so that the loss of one takes
/// no majority that could be kept. If too many of those are silent, while the present voters can still change that, who has caught up comes
/// before them.
fn wanted_voters(
    group: GroupId,
    goal: &Members,
    state: &SystemState,
    report: &GroupReport,
) -> Members {
    let configuration = &report.configuration;
    let leaves = |id: &ReplicaId| {
        let store = ReplicaAddress::of(*id).store;
        state.draining.contains(&store) || state.absent.contains(&store)
    };
    let count = if group == GroupId::ZERO {
        // Who drains or is absent votes no more, so that it can be stopped and removed; but while the others are too few to take all copies,
        // it is not going anywhere, and its vote is worth more.
        let takers = goal.iter().filter(|id| !leaves(id)).count();
        let copies = state
            .founding
            .as_ref()
            .map_or(0, |founding| founding.copies as usize);
        system_voters(if takers >= copies { takers } else { goal.len() })
    } else {
        voters_for(goal.len())
    };
    if goal.len() <= count {
        return goal.clone();
    }
    let first = |behind: &dyn Fn(&ReplicaId) -> bool| -> Members {
        let mut ranked: Vec<ReplicaId> = goal.iter().copied().collect();
        // Who has caught up may vote at once; nobody waits for another one for its zone's sake.
        let is_new = |id: &ReplicaId| !configuration.voters.contains(id) && !caught_up(*id, report);
        let late = |id: &ReplicaId| (leaves(id), is_new(id));
        ranked.sort_by_key(|id| (late(id), behind(id), !caught_up(*id, report), *id));
        let mut of_zone: BTreeMap<_, usize> = BTreeMap::new();
        let place = |id: ReplicaId| {
            let member = state.members.get(&ReplicaAddress::of(id).store);
            let zone = member.and_then(|member| member.zone.as_deref());
            let before = of_zone.entry((late(&id), zone)).or_default();
            *before += 1;
            (late(&id), *before, id)
        };
        let mut spread: Vec<_> = ranked.into_iter().map(place).collect();
        spread.sort_by_key(|(late, nth, _)| (*late, *nth)); // stable: within a zone, and without zones, the order stays
        spread.truncate(count);
        spread.into_iter().map(|(_, _, id)| id).collect()
    };
    let voters = first(&|id| !configuration.voters.contains(id));
    // A change takes a majority of those who vote now; and while they are to go on, a short silence is no reason for one.
    let can_change = has_majority(configuration, |id| report.shows(*id));
    if voters == configuration.voters || !can_change || can_decide(&voters, report) {
        return voters;
    }
    first(&|id| !caught_up(*id, report) || !configuration.voters.contains(id))
}

/// How many copies a group lacks, of those that it has when all is well: who does not answer has none.
fn copies_missing(entry: &GroupEntry, report: &GroupReport) -> usize {
    let present = (report.configuration.voters).union(&report.configuration.learners);
    let there = present.iter().filter(|id| report.shows(**id)).count();
    entry.placement.stores.len().saturating_sub(there)
}

/// How long a store's next replica of a group must have stood before it is replaced again: 1 s, then twice as long each
/// time, at most about four minutes.
fn pause_after(times: u32) -> Duration {
    Duration::from_secs(1 << times.min(8))
}

/// Whether those who are `there` are a majority of each half of a configuration.
pub(super) fn has_majority(
    configuration: &Configuration,
    there: impl Fn(&ReplicaId) -> bool,
) -> bool {
    [&configuration.voters, &configuration.outgoing]
        .iter()
        .all(|half| {
            let present = half.iter().filter(|id| there(id)).count();
            half.is_empty() || present > half.len() / 2
        })
}

pub(super) fn caught_up(replica: ReplicaId, report: &GroupReport) -> bool {
    if replica == report.leader {
        return true;
    }
    let matched = report
        .matched
        .iter()
        .find(|(id, _)| *id == replica)
        .map(|(_, matched)| *matched);
    matched.is_some_and(|matched| {
        matched > LogIndex::ZERO
            && report.last.get().saturating_sub(matched.get()) <= CAUGHT_UP_ENTRIES
    })
}

#[cfg(test)]
mod tests;
