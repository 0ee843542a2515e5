//! Members that fall silent, and whether they come back.

use super::*;

const AFTER: Duration = Duration::from_secs(10);

impl World {
    /// A cluster of so many members, settled.
    fn of(members: usize, shards: u32) -> Self {
        let mut world = Self::founded(shards);
        for name in ["a", "bb", "ccc", "dddd", "eeeee"].iter().take(members - 1) {
            world.join(name);
        }
        world.settle();
        world.orders = 0;
        world
    }

    /// What the leader of a group says while some are away: another one leads then, and there is none without a majority.
    pub(super) fn heard(&mut self, group: GroupId) -> Option<GroupReport> {
        let away = self.away.clone();
        let there = |id: &ReplicaId| !away.contains(&ReplicaAddress::of(*id).store);
        let report = self.groups.get_mut(&group).expect("a group");
        let voters = &report.configuration.voters;
        let present: Vec<ReplicaId> = voters.iter().copied().filter(there).collect();
        if present.len() <= voters.len() / 2 {
            return None;
        }
        if !there(&report.leader) {
            report.leader = present[0];
            report.term = report.term.next();
        }
        let mut said = report.clone();
        said.matched.retain(|(id, _)| there(id));
        Some(said)
    }

    /// Ten looks a second, for so long.
    fn run(&mut self, reconciler: &mut Reconciler, from: Duration, lasts: Duration) -> Duration {
        let mut now = from;
        while now < from + lasts {
            now += Duration::from_millis(100);
            for group in self.groups.keys().copied().collect::<Vec<_>>() {
                if let Some(report) = self.heard(group) {
                    reconciler.reported(now, report);
                }
            }
            let alive = self.alive();
            for step in reconciler.steps(now, self.term, &self.state, &alive) {
                match step {
                    Step::Propose(command) => {
                        self.commit(command);
                    }
                    Step::Order(order) => self.carry_out(order),
                }
            }
            self.catch_up();
        }
        now
    }

    pub(super) fn voters_on(&self, store: u64) -> usize {
        let votes = |report: &&GroupReport| {
            let voters = report.configuration.voters.iter();
            voters
                .map(|id| ReplicaAddress::of(*id).store)
                .any(|of| of == store)
        };
        self.groups.values().filter(votes).count()
    }
}

#[test]
fn a_member_that_is_silent_for_long_is_replaced_and_takes_shards_again_when_it_is_back() {
    let mut world = World::of(4, 32);
    let mut reconciler = Reconciler::new(Some(AFTER));
    assert!(world.voters_on(4) >= 24);
    world.away.insert(4);
    let almost = AFTER - Duration::from_secs(1);
    let now = world.run(&mut reconciler, Duration::ZERO, almost);
    assert!(world.state.absent.is_empty());
    let moved = world.groups.values().filter(|report| {
        let learners = &report.configuration.learners;
        report.group != GroupId::ZERO && !learners.is_empty()
    });
    assert_eq!(moved.count(), 0, "nothing moves before");

    let now = world.run(&mut reconciler, now, AFTER);
    assert_eq!(world.state.absent, BTreeSet::from([4]));
    assert_eq!(world.voters_on(4), 0);
    assert_eq!(world.state.shards_on(4), 0, "what it has left is retired");
    for (group, report) in &world.groups {
        assert_eq!(report.configuration.voters.len(), 3, "{group}");
    }
    assert_eq!(reconciler.unsettled(now, &world.state, &world.away), 0);
    let done = reconciler.moves().all();
    let done = done.filter(|known| {
        matches!(
            known.ended,
            Some((_, super::super::super::moves::MoveEnd::Done))
        )
    });
    assert_eq!(done.count(), 24, "a quarter of 32 x 3 copies was rebuilt");
    let quiet = world.orders;
    let now = world.run(&mut reconciler, now, AFTER * 10);
    assert_eq!(world.orders, quiet);

    world.away.clear();
    world.run(&mut reconciler, now, AFTER);
    assert!(world.state.absent.is_empty());
    assert_eq!((world.state.shards_on(4), world.voters_on(4)), (24, 24));
}

#[test]
fn a_member_that_is_back_in_time_moves_nothing() {
    let mut world = World::of(4, 32);
    let mut reconciler = Reconciler::new(Some(AFTER));
    // Once each leads what it should.
    let mut now = world.run(&mut reconciler, Duration::ZERO, AFTER);
    let placed = world.state.groups.clone();
    for _ in 0..3 {
        world.away.insert(4);
        now = world.run(&mut reconciler, now, AFTER - Duration::from_secs(1));
        world.away.clear();
        now = world.run(&mut reconciler, now, Duration::from_secs(4));
    }
    assert_eq!(world.state.groups, placed);
}

#[test]
fn two_of_six_that_are_gone_leave_those_alone_that_need_both() {
    let mut world = World::of(6, 40);
    let mut reconciler = Reconciler::new(Some(AFTER));
    world.away.extend([5, 6]);
    let needs_both = |report: &&GroupReport| {
        let voters = report.configuration.voters.iter();
        let on = voters.filter(|id| [5, 6].contains(&ReplicaAddress::of(**id).store));
        report.group != GroupId::ZERO && on.count() == 2
    };
    let stuck: Vec<GroupReport> = world.groups.values().filter(needs_both).cloned().collect();
    assert!(!stuck.is_empty());
    world.run(&mut reconciler, Duration::ZERO, AFTER * 8);
    assert_eq!(world.state.absent, BTreeSet::from([5, 6]));
    for before in &stuck {
        let now = &world.groups[&before.group];
        assert_eq!(now.configuration, before.configuration, "it has no leader");
    }
    let left = (world.voters_on(5), world.voters_on(6));
    assert_eq!(
        left,
        (stuck.len(), stuck.len()),
        "all others have left both"
    );
}
