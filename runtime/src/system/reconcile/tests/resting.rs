//! Silent voters and groups at rest: who is not counted on, whose word is asked for again, and when nobody looks.

use super::*;

fn store_of(id: ReplicaId) -> u64 {
    ReplicaAddress::of(id).store
}

#[test]
fn the_system_group_is_not_left_to_voters_who_are_silent() {
    // 1 and 2 drain while two other voters are dead: of the four members who stay three vote, and only two of those live.
    let mut world = World::grown(8, &["a", "bb", "ccc", "dddd", "eeeee"]);
    let system = GroupId::ZERO;
    let voters = world.groups[&system].configuration.voters.clone();
    assert_eq!(voters.len(), 5);
    let staying = voters.iter().filter(|id| store_of(**id) > 2);
    let silent: Vec<u64> = staying.map(|id| store_of(*id)).take(2).collect();
    let drained: Vec<u64> = { voters.iter().map(|id| store_of(*id)) }
        .filter(|store| !silent.contains(store))
        .take(2)
        .collect();
    assert!(!silent.contains(&store_of(world.groups[&system].leader)));
    for store in &drained {
        world.commit(SystemCommand::Drain {
            store: *store,
            on: true,
        });
    }
    world.away = silent.iter().copied().collect();
    let mut reconciler = Reconciler::new(None);
    world.term = world.term.next();
    let term = world.term;
    for round in 0..100 {
        let now = Duration::from_millis(round * 100);
        let report = world.groups.get_mut(&system).expect("it is there");
        let (leader, last) = (report.leader, report.last);
        let members = report.configuration.members();
        report.matched = { members.iter().copied() }
            .filter(|id| *id != leader && !silent.contains(&store_of(*id)))
            .map(|id| (id, last))
            .collect();
        reconciler.reported(now, report.clone());
        for step in reconciler.steps(now, term, &world.state, &world.alive()) {
            match step {
                Step::Propose(command) => {
                    world.commit(command);
                }
                Step::Order(order) => {
                    if let OrderKind::Change { voters, .. } = &order.kind {
                        let live = { voters.iter() }
                            .filter(|id| !silent.contains(&store_of(**id)))
                            .count();
                        assert!(live * 2 > voters.len(), "{voters:?}, {silent:?} are silent");
                    }
                    world.carry_out(order);
                }
            }
        }
    }
    let voters = &world.groups[&system].configuration.voters;
    let drains = voters.iter().any(|id| drained.contains(&store_of(*id)));
    assert!(!drains, "{voters:?}, {drained:?} drain");
}

#[test]
fn a_group_at_rest_is_asked_once_more_before_a_lost_replica_of_it_goes() {
    // It rested when the replica was lost, and says nothing by itself.
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    let group = GroupId::new(5);
    let mut report = world.groups[&group].clone();
    report.resting = true;
    let voters = report.configuration.voters.iter().copied();
    let lost = { voters }.find(|id| *id != report.leader).expect("three");
    let (heard, now) = (Duration::from_secs(1), Duration::from_secs(2));
    let mut reconciler = Reconciler::new(None);
    reconciler.reported(heard, report.clone());
    reconciler.lost(heard, group, lost);
    let alive = world.alive();
    let steps = reconciler.steps(now, TERM, &world.state, &alive);
    let [Step::Order(order)] = &steps[..] else {
        panic!("{steps:?}");
    };
    assert_eq!((order.group, &order.kind), (group, &OrderKind::Fence));
    let soon = now + Duration::from_millis(10);
    let steps = reconciler.steps(soon, TERM, &world.state, &alive);
    assert_eq!(steps, Vec::new(), "it was just asked");
    reconciler.reported(soon, report);
    let steps = reconciler.steps(soon, TERM, &world.state, &alive);
    let retire = SystemCommand::Retire {
        group,
        replica: lost,
    };
    assert_eq!(steps, vec![Step::Propose(retire)]);
}

#[test]
fn what_a_report_changes_is_seen_at_once_however_calm_it_was() {
    let mut world = World::founded(16);
    world.join("a");
    world.join("bb");
    world.settle();
    let mut reconciler = Reconciler::new(None);
    let now = Duration::from_secs(1);
    for report in world.groups.values() {
        reconciler.reported(now, report.clone());
    }
    let alive = world.alive();
    let term = world.term.next();
    assert_eq!(reconciler.steps(now, term, &world.state, &alive), vec![]);
    let group = GroupId::new(5);
    let mut report = world.groups[&group].clone();
    let voters = report.configuration.voters.iter().copied();
    report.leader = { voters }.find(|id| *id != report.leader).expect("three");
    report.term = report.term.next();
    let other = world.groups[&group].leader;
    report.matched = vec![(other, report.last)];
    reconciler.reported(now, report);
    let steps = reconciler.steps(now, term, &world.state, &alive);
    let kind = OrderKind::Transfer { to: other };
    assert!(
        matches!(&steps[..], [Step::Order(order)] if order.group == group && order.kind == kind),
        "{steps:?}"
    );
}

/// A settled cluster of three with many groups at rest, as the system leader heard it a second ago.
fn resting(groups: u32) -> (World, Reconciler) {
    let mut world = World::founded(groups);
    world.join("a");
    world.join("bb");
    world.settle();
    let mut reconciler = Reconciler::new(None);
    for report in world.groups.values() {
        let resting = report.group != GroupId::ZERO;
        let report = GroupReport {
            resting,
            ..report.clone()
        };
        reconciler.reported(Duration::from_secs(1), report);
    }
    (world, reconciler)
}

fn follower_of(report: &GroupReport) -> ReplicaId {
    let mut voters = report.configuration.voters.iter().copied();
    voters.find(|id| *id != report.leader).expect("three")
}

#[test]
fn the_farewell_of_one_who_led_shows_nobody_by_whom_a_lost_replica_could_go() {
    // It stood still since it rested; whoever answered it then may be gone, and the lost one may hold what others committed since.
    let (world, mut reconciler) = resting(16);
    let group = GroupId::new(5);
    let resting = true;
    let report = GroupReport {
        resting,
        ..world.groups[&group].clone()
    };
    let lost = follower_of(&report);
    let at = Duration::from_secs(2);
    reconciler.lost(at, group, lost);
    let soon = at + Duration::from_millis(10);
    let farewell = report.taken_back().expect("it rested");
    reconciler.reported(soon, farewell);
    for step in reconciler.steps(soon, TERM, &world.state, &world.alive()) {
        let retires = matches!(step, Step::Propose(SystemCommand::Retire { .. }));
        assert!(!retires, "{step:?}");
    }
}

#[test]
fn who_does_not_answer_is_asked_ever_more_rarely_and_keeps_nobody_from_being_asked() {
    let (world, mut reconciler) = resting(60);
    let mut asked: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
    for round in 0..600 {
        let now = Duration::from_secs(2) + Duration::from_millis(100 * round);
        for (group, report) in world
            .groups
            .iter()
            .filter(|(group, _)| **group != GroupId::ZERO)
        {
            reconciler.lost(now, *group, follower_of(report));
        }
        reconciler.reported(now, world.groups[&GroupId::ZERO].clone());
        for step in reconciler.steps(now, TERM, &world.state, &world.alive()) {
            let Step::Order(order) = step else {
                panic!("{step:?}");
            };
            assert_eq!(order.kind, OrderKind::Fence);
            asked.entry(order.group).or_default().push(round);
        }
    }
    assert_eq!(asked.len(), 60, "each was asked");
    for (group, rounds) in &asked {
        // After 1, 2, 4, 8, 16 seconds.
        assert!((4..=6).contains(&rounds.len()), "{group}: {rounds:?}");
        assert!(rounds[0] <= 10, "{group}: {rounds:?}");
    }
}

#[test]
fn a_short_silence_of_two_voters_changes_no_voters() {
    // The fourth member's replica is a learner of the system group. A change now takes the silent ones' word, and is for nothing after it.
    let world = World::grown(8, &["a", "bb", "ccc"]);
    let mut report = world.groups[&GroupId::ZERO].clone();
    let configuration = &report.configuration;
    assert_eq!(
        (configuration.voters.len(), configuration.learners.len()),
        (3, 1)
    );
    let (leader, last) = (report.leader, report.last);
    report.matched = { configuration.learners.iter() }
        .map(|id| (*id, last))
        .collect();
    let mut reconciler = Reconciler::new(None);
    let now = Duration::from_secs(1);
    reconciler.reported(now, report.clone());
    let steps = reconciler.steps(now, TERM, &world.state, &world.alive());
    assert_eq!(steps, vec![]);
    // Nor do those count whom a new leader only lists.
    let entry = &world.state.groups[&GroupId::ZERO];
    let goal: Members = { entry.placement.stores.iter() }
        .filter_map(|store| world.state.replica_on(GroupId::ZERO, *store))
        .collect();
    report.matched = { goal.iter().filter(|id| **id != leader) }
        .map(|id| (*id, LogIndex::ZERO))
        .collect();
    assert!(!can_decide(&goal, &report));
    report.matched = { goal.iter().filter(|id| **id != leader) }
        .map(|id| (*id, last))
        .collect();
    assert!(can_decide(&goal, &report));
}

#[test]
fn no_word_of_a_store_stands_whose_sum_is_another() {
    let (world, mut reconciler) = resting(16);
    let group = GroupId::new(5);
    let report = &world.groups[&group];
    let store = store_of(report.leader);
    let late = Duration::from_secs(60);
    reconciler.steps(late, TERM, &world.state, &world.alive());
    let sum = reconciler.sum_of(store);
    assert!(reconciler.agrees(store, sum));
    assert!(
        reconciler.report(late, group).is_some(),
        "it stands while its node is heard"
    );
    assert!(!reconciler.agrees(store, Sum::default()));
    assert!(reconciler.report(late, group).is_none());
    reconciler.reported(
        late,
        GroupReport {
            resting: true,
            ..report.clone()
        },
    );
    assert!(
        reconciler.report(late, group).is_some(),
        "it was said again"
    );
}
