//! How many copies are on their way at a time, and which of them go first.

use super::*;
use crate::system::arrivals::{IN_CLUSTER_MAX, TO_A_NODE_MAX};

/// Copies on their way, counted apart from the reconciler: allotted where they belong, without a vote, and short of what the leader has.
fn on_their_way(world: &World) -> BTreeMap<u64, usize> {
    let mut to: BTreeMap<u64, usize> = BTreeMap::new();
    for (group, entry) in &world.state.groups {
        let report = &world.groups[group];
        for id in &entry.replicas {
            let matched = report.matched.iter().find(|(peer, _)| peer == id);
            let there = report.configuration.voters.contains(id)
                || *id == report.leader
                || matched.is_some_and(|(_, at)| *at == report.last);
            let store = ReplicaAddress::of(*id).store;
            if !there && *group != GroupId::ZERO && entry.placement.stores.contains(&store) {
                *to.entry(store).or_default() += 1;
            }
        }
    }
    to
}

impl World {
    /// Every leader reports.
    fn tell(&self, reconciler: &mut Reconciler, now: Duration) {
        for report in self.groups.values() {
            reconciler.reported(now, report.clone());
        }
    }

    /// One look, of which what is proposed is committed and no order arrives. The groups that were allotted a copy.
    fn allot(&mut self, reconciler: &mut Reconciler, now: Duration) -> Vec<GroupId> {
        let mut allotted = Vec::new();
        for step in reconciler.steps(now, TERM, &self.state, &self.alive()) {
            if let Step::Propose(command) = step {
                if let SystemCommand::Allot { group, .. } = command {
                    allotted.push(group);
                }
                self.commit(command);
            }
        }
        allotted
    }
}

/// Settles, and returns the most copies that were on their way to one node and in all.
fn most_while_settling(world: &mut World) -> (usize, usize) {
    let mut most = (0, 0);
    world.settle_watched(|world| {
        let to = on_their_way(world);
        let one = to.values().copied().max().unwrap_or(0);
        most = (most.0.max(one), most.1.max(to.values().sum()));
    });
    most
}

#[test]
fn a_node_that_joins_gets_few_copies_at_a_time() {
    // S2.
    let mut world = World::founded(256);
    world.join("a");
    world.join("bb");
    world.settle();
    world.join("ccc");
    // Reconcilers come and go meanwhile: a new one keeps the bound, too.
    let (to_one, _) = most_while_settling(&mut world);
    assert_eq!(to_one, TO_A_NODE_MAX, "as many as allowed, and no more");
}

#[test]
fn many_nodes_that_join_at_once_get_no_more_than_the_cluster_can_send() {
    // S7.
    let mut world = World::founded(256);
    world.join("a");
    world.join("bb");
    world.settle();
    world.catches_up_every = 20;
    for length in 3..18 {
        world.join(&"n".repeat(length));
    }
    let (to_one, at_all) = most_while_settling(&mut world);
    assert!(to_one <= TO_A_NODE_MAX, "{to_one} to one node");
    // All copies of a group set out together: a place or two may stay free.
    let range = IN_CLUSTER_MAX - 2..=IN_CLUSTER_MAX;
    assert!(range.contains(&at_all), "{at_all} at a time");
}

#[test]
fn groups_that_lost_a_copy_go_first() {
    let mut world = World::founded(512);
    world.join("a");
    world.join("bb");
    world.settle();
    world.join("ccc");
    let hurt = |group: GroupId| group.get() >= 192;
    for report in world.groups.values_mut() {
        if hurt(report.group) {
            let leader = report.leader;
            let away = *report
                .configuration
                .voters
                .iter()
                .find(|id| **id != leader)
                .unwrap();
            report.matched.retain(|(id, _)| *id != away);
        }
    }
    let mut reconciler = Reconciler::new(None);
    let now = Duration::from_secs(1);
    world.tell(&mut reconciler, now);
    let epoch = world.state.epoch;
    assert_eq!(world.allot(&mut reconciler, now), []);
    assert!(world.state.epoch > epoch, "nothing was planned");
    let mut allotted = world.allot(&mut reconciler, now);
    allotted.extend(world.allot(&mut reconciler, now));
    assert_eq!(allotted.len(), TO_A_NODE_MAX);
    assert!(allotted.iter().all(|group| hurt(*group)), "{allotted:?}");
}

#[test]
fn copies_that_stopped_for_good_hold_no_others_up() {
    // Their retirement waits until their groups were heard without them, and for minutes after they were lost again and again.
    let mut world = World::founded(256);
    world.join("a");
    world.join("bb");
    world.settle();
    world.join("ccc");
    let mut reconciler = Reconciler::new(None);
    let mut now = Duration::from_secs(1);
    world.tell(&mut reconciler, now);
    let mut allotted = BTreeSet::new();
    for round in 0..6 {
        allotted.extend(world.allot(&mut reconciler, now));
        if round == 3 {
            assert_eq!(allotted.len(), TO_A_NODE_MAX, "nobody catches up");
            for group in &allotted {
                let replica = world.state.replica_on(*group, 4).unwrap();
                reconciler.lost(now, *group, replica);
            }
        }
        now += Duration::from_millis(100);
    }
    assert!(allotted.len() > TO_A_NODE_MAX, "{allotted:?}");
}

#[test]
fn learners_that_stay_learners_and_lag_take_nobodys_place() {
    // Of two copies one is a learner. A node that comes back after long has thousands of them that lag.
    let mut world = World::grown(8, &["a"]);
    for report in world.groups.values_mut() {
        let leader = report.leader;
        let others = report.matched.iter_mut().filter(|(id, _)| *id != leader);
        others.for_each(|(_, at)| *at = LogIndex::ZERO);
    }
    let mut arrivals = Arrivals::default();
    for (group, entry) in &world.state.groups {
        let report = &world.groups[group];
        let arrives = arrivals.count(*group, entry, report, &world.alive(), &[]);
        assert!(!arrives, "group {group}");
    }
}

#[test]
fn a_copy_that_stopped_before_it_came_in_does_not_come_in() {
    // It is retired: an order on its way would bring a retired replica in.
    let mut world = World::grown(16, &["a", "bb"]);
    world.join("ccc");
    let mut reconciler = Reconciler::new(None);
    let now = Duration::from_secs(1);
    world.tell(&mut reconciler, now);
    let mut allotted = BTreeSet::new();
    for _ in 0..2 {
        allotted.extend(world.allot(&mut reconciler, now));
    }
    let lost = *allotted.first().expect("one was allotted");
    let replica = world.state.replica_on(lost, 4).expect("just now");
    let later = now + Duration::from_millis(50);
    reconciler.lost(later, lost, replica);
    for heard in [now, later + Duration::from_millis(1)] {
        reconciler.reported(heard, world.groups[&lost].clone());
        let steps = reconciler.steps(later, TERM, &world.state, &world.alive());
        let ordered = |group| {
            let mut steps = steps.iter();
            steps.any(|step| matches!(step, Step::Order(order) if order.group == group))
        };
        assert!(!ordered(lost), "{steps:?}");
    }
}
