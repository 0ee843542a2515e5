//! A world in which orders are carried out at once, and what the reconciler makes of it.

mod arriving;
mod resting;
mod silent;
mod succession;
mod zones;

use super::*;
use crate::system::command::{BUILD_LEVEL, GivingUp, SystemOutcome};
use crate::system::fence::Fence;
use crate::system::state::{Founding, MemberEntry};
use crate::wire::Sharding;
use bytes::Bytes;
use synod_consensus::Term;

/// A term of the system leader's.
const TERM: Term = Term::new(5);

/// A world in which every order is carried out at once: the fixed point is what the reconciler aims at.
struct World {
    state: SystemState,
    groups: BTreeMap<GroupId, GroupReport>,
    orders: usize,
    smallest_voters: usize,
    /// The system leader's.
    term: Term,
    /// What the groups' leaders refuse.
    fences: BTreeMap<GroupId, Fence>,
    /// New copies have what the leader has after so many rounds at most.
    catches_up_every: u64,
    /// Stores that said goodbye.
    away: BTreeSet<u64>,
    /// What stores say again and again of their stopped replicas.
    lost: Vec<(GroupId, ReplicaId)>,
}

impl World {
    fn founded(shards: u32) -> Self {
        let mut state = SystemState::default();
        let founding = Founding {
            cluster: 1,
            sharding: Sharding { seed: 3, shards },
            copies: 3,
            name: "n1".into(),
            key: Bytes::new(),
            others: Vec::new(),
        };
        let groups = founding
            .groups()
            .map(|group| {
                let leader = Founding::replica(group);
                let configuration = Configuration {
                    voters: [leader].into(),
                    ..Configuration::default()
                };
                let report = GroupReport {
                    group,
                    term: Term::new(1),
                    leader,
                    configuration,
                    configuration_index: LogIndex::ZERO,
                    configuration_committed: true,
                    last: LogIndex::new(10),
                    matched: Vec::new(),
                    resting: false,
                    fence: Stamp::default(),
                };
                (group, report)
            })
            .collect();
        state.take(LogIndex::new(1), SystemCommand::Found(founding));
        let (epoch, level) = (state.epoch, BUILD_LEVEL);
        state.take(LogIndex::new(2), SystemCommand::Raise { epoch, level });
        Self {
            state,
            groups,
            orders: 0,
            smallest_voters: usize::MAX,
            term: Term::new(1),
            fences: BTreeMap::new(),
            catches_up_every: 5,
            away: BTreeSet::new(),
            lost: Vec::new(),
        }
    }

    fn join(&mut self, name: &str) {
        let member = MemberEntry {
            name: name.into(),
            key: Bytes::new(),
            capacity: 1,
            zone: None,
            nonce: name.len() as u64,
            level: BUILD_LEVEL,
            described: 0,
        };
        let outcome = self.commit(SystemCommand::Admit(member));
        assert!(
            matches!(outcome, SystemOutcome::Admitted { .. }),
            "{outcome:?}"
        );
    }

    fn commit(&mut self, command: SystemCommand) -> SystemOutcome {
        let index = self.state.applied.next();
        self.state.take(index, command)
    }

    fn carry_out(&mut self, order: Order) {
        self.orders += 1;
        let report = self.groups.get_mut(&order.group).expect("a group");
        let fence = self.fences.entry(order.group).or_default();
        assert!(
            fence.accept(&order, report.leader, report.term),
            "{order:?}"
        );
        report.fence = fence.stamp();
        match order.kind {
            OrderKind::Change {
                expected,
                voters,
                learners,
            } => {
                assert_eq!(expected, report.configuration_index);
                assert_eq!(voters.len() % 2, 1, "voters are odd");
                for voter in &voters {
                    let known = report.configuration.voters.contains(voter)
                        || report.configuration.learners.contains(voter);
                    assert!(known, "a voter was a learner first (E26)");
                }
                self.smallest_voters = self.smallest_voters.min(voters.len());
                report.last = report.last.next();
                report.configuration_index = report.last;
                // Newcomers hold nothing yet; `catch_up` brings them there.
                let present = report.configuration.voters.clone();
                let matched = |id: &ReplicaId| match present.contains(id) {
                    true => report.last,
                    false => LogIndex::ZERO,
                };
                report.matched = voters
                    .union(&learners)
                    .iter()
                    .map(|id| (*id, matched(id)))
                    .collect();
                if !voters.contains(&report.leader) {
                    report.leader = *voters.first().expect("a voter");
                    report.term = report.term.next();
                }
                report.configuration = Configuration {
                    voters,
                    learners,
                    ..Configuration::default()
                };
            }
            OrderKind::Fence => {}
            OrderKind::Transfer { to } => {
                assert!(report.configuration.voters.contains(&to));
                report.leader = to;
                report.term = report.term.next();
            }
        }
    }

    fn catch_up(&mut self) {
        for report in self.groups.values_mut() {
            let last = report.last;
            report.matched.iter_mut().for_each(|(_, at)| *at = last);
        }
    }

    fn alive(&self) -> BTreeSet<u64> {
        self.state
            .members
            .keys()
            .copied()
            .filter(|store| !self.away.contains(store))
            .collect()
    }

    fn settle(&mut self) -> usize {
        self.settle_watched(|_| {})
    }

    /// The same, and shows the world after each round.
    fn settle_watched(&mut self, mut watch: impl FnMut(&Self)) -> usize {
        let mut reconciler = Reconciler::new(None);
        // Each time this is called another node leads the system group.
        self.term = self.term.next();
        for round in 0..2_000u64 {
            let now = Duration::from_millis(round * 100);
            for (group, replica) in &self.lost {
                reconciler.lost(now, *group, *replica);
            }
            let heard = now + Duration::from_millis(1);
            for report in self.groups.values() {
                reconciler.reported(heard, report.clone());
            }
            let steps = reconciler.steps(now, self.term, &self.state, &self.alive());
            if steps.is_empty() && reconciler.unsettled(now, &self.state, &self.away) == 0 {
                return round as usize;
            }
            for step in steps {
                match step {
                    Step::Propose(command) => {
                        self.commit(command);
                    }
                    Step::Order(order) => self.carry_out(order),
                }
            }
            watch(self);
            if round % self.catches_up_every == self.catches_up_every - 1 {
                self.catch_up();
            }
            // A system leader lost at any moment leaves a fresh reconciler behind (S2).
            if round % 7 == 3 {
                reconciler = Reconciler::new(None);
                self.term = self.term.next();
            }
        }
        panic!("did not settle");
    }
}

#[test]
fn a_cluster_grows_from_one_to_six_and_settles_each_time() {
    let mut world = World::founded(32);
    world.settle();
    for (name, copies, system) in [
        ("n2", 1, 1),
        ("n33", 3, 3),
        ("n444", 3, 3),
        ("n5555", 3, 5),
        ("n66666", 3, 5),
    ] {
        world.join(name);
        world.settle();
        for (group, report) in &world.groups {
            let wanted = if *group == GroupId::ZERO {
                system
            } else {
                copies
            };
            assert_eq!(
                report.configuration.voters.len(),
                wanted,
                "group {group} after {name}"
            );
            let entry = &world.state.groups[group];
            if let Some(store) = entry.placement.leader.filter(|_| copies > 1) {
                assert_eq!(
                    ReplicaAddress::of(report.leader).store,
                    store,
                    "group {group} is led where planned"
                );
            }
            let present: Members = report
                .configuration
                .voters
                .union(&report.configuration.learners);
            assert_eq!(
                entry.replicas,
                present.into(),
                "nothing is left behind of group {group}"
            );
        }
    }
}

#[test]
fn the_voters_never_become_fewer_on_the_way() {
    // H41-H44's frame: our own moves never give up a quorum.
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    world.smallest_voters = usize::MAX;
    world.join("ccc");
    world.settle();
    assert_eq!(world.smallest_voters, 3);
}

#[test]
fn a_settled_cluster_gives_no_orders() {
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    world.orders = 0;
    assert_eq!(world.settle(), 0);
    assert_eq!(world.orders, 0);
}

#[test]
fn a_lost_replica_is_replaced_under_a_new_id_on_its_store() {
    // DESIGN section 7, E26.
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    let group = GroupId::new(5);
    let leader = world.groups[&group].leader;
    let voters = world.groups[&group].configuration.voters.clone();
    let lost = *voters.iter().find(|id| **id != leader).expect("three");
    world.lost.push((group, lost));
    world.settle();
    let configuration = &world.groups[&group].configuration;
    let store = ReplicaAddress::of(lost).store;
    let next = world.state.replica_on(group, store).expect("another one");
    assert!(next > lost, "ids grow");
    assert_eq!(configuration.voters.len(), 3);
    assert!(configuration.voters.contains(&next) && !configuration.voters.contains(&lost));
    assert!(world.state.is_retired(group, lost));
}

#[test]
fn a_lost_replica_stays_while_its_group_was_not_heard_without_it() {
    // What it holds may be all that is left of the group.
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    let group = GroupId::new(5);
    let report = world.groups[&group].clone();
    let other = *report
        .configuration
        .voters
        .iter()
        .find(|id| **id != report.leader)
        .expect("three");
    let third = *report
        .configuration
        .voters
        .iter()
        .find(|id| **id != report.leader && **id != other)
        .expect("three");
    let mut alone = report.clone();
    alone.matched.retain(|(id, _)| *id != third);
    let (heard, now) = (Duration::from_secs(1), Duration::from_secs(2));
    let cases: [(&str, &[ReplicaId], Duration, &GroupReport); 4] = [
        ("the leader itself is lost", &[report.leader], now, &report),
        ("nothing was heard since", &[other], heard, &report),
        ("two of three are lost", &[other, third], now, &report),
        ("the third is away", &[other], now, &alone),
    ];
    for (case, lost, reported, report) in cases {
        let mut reconciler = Reconciler::new(None);
        for replica in lost {
            reconciler.lost(heard, group, *replica);
        }
        reconciler.reported(reported, report.clone());
        let alive = world.alive();
        let steps = reconciler.steps(now, TERM, &world.state, &alive);
        assert_eq!(steps, Vec::new(), "{case}");
        let unsettled = reconciler.unsettled(now, &world.state, &world.away);
        assert!(unsettled > 0, "{case}");
    }
    // And what a store no longer says is no longer so.
    let mut reconciler = Reconciler::new(None);
    reconciler.lost(heard, group, other);
    let later = heard + REPORT_STALE * 2;
    reconciler.reported(later, report);
    assert_eq!(
        reconciler.steps(later, TERM, &world.state, &world.alive()),
        Vec::new()
    );
}

#[test]
fn a_replica_that_is_lost_again_and_again_is_replaced_ever_more_rarely() {
    // A snapshot that one store cannot read would else fill the log with ids.
    let mut world = World::founded(4);
    world.join("a");
    world.join("bb");
    world.settle();
    let group = GroupId::new(3);
    let leader = world.groups[&group].leader;
    let store = (1..=3)
        .find(|store| *store != ReplicaAddress::of(leader).store)
        .expect("three");
    let mut reconciler = Reconciler::new(None);
    let mut retired = 0;
    for round in 0..6_000u64 {
        let now = Duration::from_millis(round * 10);
        for report in world.groups.values() {
            reconciler.reported(now, report.clone());
        }
        if let Some(replica) = world.state.replica_on(group, store) {
            reconciler.lost(now, group, replica);
        }
        for step in reconciler.steps(now, world.term, &world.state, &world.alive()) {
            match step {
                Step::Propose(command) => {
                    retired += u32::from(matches!(command, SystemCommand::Retire { .. }));
                    world.commit(command);
                }
                Step::Order(order) => world.carry_out(order),
            }
        }
        let learners = &world.groups[&group].configuration.learners;
        assert!(learners.len() <= 1, "{learners:?}");
    }
    assert!((4..=7).contains(&retired), "{retired} times in a minute");
}

#[test]
fn no_leadership_moves_to_a_store_that_is_not_alive() {
    // S5, S18: its replica may count as caught up for long after it went.
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    world.away.insert(2);
    let others: Vec<ReplicaId> = (1..=16)
        .map(GroupId::new)
        .filter_map(|group| world.state.replica_on(group, 1))
        .collect();
    for (report, heir) in world.groups.values_mut().skip(1).zip(others) {
        if ReplicaAddress::of(report.leader).store == 2 {
            report.leader = heir;
            report.term = report.term.next();
        }
    }
    world.settle();
    let led_there = world
        .groups
        .values()
        .filter(|report| ReplicaAddress::of(report.leader).store == 2);
    assert_eq!(led_there.count(), 0);
}

impl World {
    fn grown(shards: u32, names: &[&str]) -> Self {
        let mut world = Self::founded(shards);
        names.iter().for_each(|name| world.join(name));
        world.settle();
        world
    }

    /// Replicas of shards that a store is listed with, led, and votes with.
    fn held(&self, store: u64) -> (usize, usize, usize) {
        let on = |id: &ReplicaId| ReplicaAddress::of(*id).store == store;
        let shards = || {
            self.groups
                .values()
                .filter(|report| report.group != GroupId::ZERO)
        };
        (
            self.state.shards_on(store),
            shards().filter(|report| on(&report.leader)).count(),
            shards()
                .filter(|report| report.configuration.voters.iter().any(on))
                .count(),
        )
    }
}

#[test]
fn a_drained_member_holds_nothing_and_can_be_removed() {
    let mut world = World::grown(32, &["a", "bb", "ccc", "dddd"]);
    world.smallest_voters = usize::MAX;
    let refused = world.commit(SystemCommand::Remove { store: 1 });
    assert!(
        matches!(refused, SystemOutcome::Refused { .. }),
        "{refused:?}"
    );
    world.commit(SystemCommand::Drain { store: 1, on: true });
    let refused = world.commit(SystemCommand::Remove { store: 1 });
    assert!(
        matches!(refused, SystemOutcome::Refused { .. }),
        "{refused:?}"
    );
    world.settle();
    assert_eq!(world.held(1), (0, 0, 0));
    assert_eq!(
        world.smallest_voters, 3,
        "no quorum was given up on the way"
    );
    for _ in 0..2 {
        let removed = world.commit(SystemCommand::Remove { store: 1 });
        assert_eq!(removed, SystemOutcome::Done, "also when it is said again");
    }
    world.settle();
    assert!(world.state.is_given_up(1));
    let system = &world.groups[&GroupId::ZERO].configuration;
    let known = system.voters.union(&system.learners);
    assert!(
        known
            .iter()
            .map(|id| ReplicaAddress::of(*id).store)
            .all(|store| store != 1)
    );
    // Its name is free for a new store, which is somebody else.
    world.join("n1");
    world.settle();
    assert_eq!(world.state.store_named("n1"), Some(6));
    assert!(world.held(6).0 > 0);
}

#[test]
fn who_drains_votes_no_more_in_the_system_group_and_does_not_lead_it() {
    // Its process ends with its removal: the others have their majority, and their leader, before.
    let mut world = World::grown(8, &["a", "bb", "ccc", "dddd"]);
    let votes = |world: &World, store: u64| {
        let system = &world.groups[&GroupId::ZERO].configuration;
        system
            .voters
            .iter()
            .any(|id| ReplicaAddress::of(*id).store == store)
    };
    assert_eq!(
        ReplicaAddress::of(world.groups[&GroupId::ZERO].leader).store,
        1
    );
    for store in [1, 2] {
        assert!(votes(&world, store));
        world.commit(SystemCommand::Drain { store, on: true });
        world.settle();
        assert!(!votes(&world, store));
        assert_ne!(
            ReplicaAddress::of(world.groups[&GroupId::ZERO].leader).store,
            store
        );
    }
    assert_eq!(world.groups[&GroupId::ZERO].configuration.voters.len(), 3);
}

#[test]
fn what_is_left_of_a_draining_cluster_takes_replicas_again() {
    let mut world = World::grown(8, &["a", "bb"]);
    world.commit(SystemCommand::Drain { store: 1, on: true });
    let giving_up = GivingUp {
        at: 0,
        stores: BTreeSet::from([2, 3]),
        reformed: 0,
        emptied: 0,
        next_store: 0,
        next_serial: 0,
    };
    world.commit(SystemCommand::GiveUp(giving_up));
    assert!(world.state.draining.is_empty());
    let goals = plan(&world.state);
    assert!(
        goals.iter().all(|(_, goal)| goal.stores == [1]),
        "{goals:?}"
    );
}

#[test]
fn a_drain_that_is_taken_back_leaves_the_member_as_it_was() {
    let mut world = World::grown(32, &["a", "bb", "ccc"]);
    let before = world.held(2);
    world.commit(SystemCommand::Drain { store: 2, on: true });
    world.settle();
    world.commit(SystemCommand::Drain {
        store: 2,
        on: false,
    });
    world.settle();
    let after = world.held(2);
    assert_eq!((before.0, before.1), (after.0, after.1));
}

#[test]
fn a_member_that_is_gone_is_drained_without_its_help() {
    let mut world = World::grown(32, &["a", "bb", "ccc"]);
    world.away.insert(2);
    for report in world.groups.values_mut() {
        let on = |id: &ReplicaId| ReplicaAddress::of(*id).store == 2;
        if on(&report.leader) {
            let heir = report
                .configuration
                .voters
                .iter()
                .copied()
                .find(|id| !on(id));
            report.leader = heir.expect("three");
            report.term = report.term.next();
        }
    }
    world.commit(SystemCommand::Drain { store: 2, on: true });
    world.settle();
    assert_eq!(world.held(2), (0, 0, 0));
    let removed = world.commit(SystemCommand::Remove { store: 2 });
    assert_eq!(removed, SystemOutcome::Done);
    world.settle();
}

#[test]
fn two_drains_at_once_end() {
    // S6.
    let mut world = World::grown(32, &["a", "bb", "ccc", "dddd"]);
    world.commit(SystemCommand::Drain { store: 1, on: true });
    world.commit(SystemCommand::Drain { store: 3, on: true });
    world.settle();
    assert_eq!((world.held(1), world.held(3)), ((0, 0, 0), (0, 0, 0)));
}

#[test]
fn a_drain_that_would_cost_a_copy_keeps_it_until_somebody_can_take_it() {
    let mut world = World::grown(32, &["a", "bb"]);
    world.commit(SystemCommand::Drain { store: 2, on: true });
    world.settle();
    assert_eq!(
        world.held(2),
        (32, 0, 32),
        "three copies need three nodes; it leads nothing"
    );
    world.join("ccc");
    world.settle();
    assert_eq!(world.held(2), (0, 0, 0));
    for store in [1, 3] {
        world.commit(SystemCommand::Drain { store, on: true });
    }
    let refused = world.commit(SystemCommand::Drain { store: 4, on: true });
    assert_eq!(
        refused,
        SystemOutcome::Refused {
            reason: "`ccc` is the last node that takes replicas: add another one first".into()
        }
    );
}
