//! The leader of the system group is lost after each step of a history, one run for each.
//!
//! Here: a cluster grows, gives a member up, loses a copy, loses a member and has it back. Whoever leads the system group next remembers
//! nothing, and of what the former leader was about to do nothing happens, or its orders come late.

use super::*;
use crate::system::plan::Placement;

/// Silence after which a member's copies are rebuilt.
const AFTER: Duration = Duration::from_secs(3);
const SHARDS: u32 = 8;
/// Rounds of a tenth of a second in which one part of the history must be over.
const ROUNDS_MAX: u32 = 400;
/// Orders that outlive who gave them arrive so many rounds later.
const LATE: u32 = 3;

/// What becomes of the orders that the lost leader had given, but for those that were carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Lost,
    Late,
}

struct History {
    world: World,
    reconciler: Reconciler,
    now: Duration,
    /// Steps that were carried out.
    taken: usize,
    /// After so many the leader of the system group is lost.
    strike: usize,
    fate: Fate,
    late: Vec<(u32, Order)>,
    kinds: BTreeSet<&'static str>,
}

/// Where everything is in the end.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    members: Vec<u64>,
    /// Of each group: where it should be, the stores that vote, and the one that leads.
    groups: Vec<(Placement, BTreeSet<u64>, u64)>,
}

fn kind_of(step: &Step) -> &'static str {
    match step {
        Step::Propose(SystemCommand::Place { .. }) => "place",
        Step::Propose(SystemCommand::Allot { .. }) => "allot",
        Step::Propose(SystemCommand::Retire { .. }) => "retire",
        Step::Propose(SystemCommand::Absent { on: true, .. }) => "absent",
        Step::Propose(SystemCommand::Absent { on: false, .. }) => "back",
        Step::Order(order) => match order.kind {
            OrderKind::Change { .. } => "change",
            OrderKind::Transfer { .. } => "transfer",
            OrderKind::Fence => "fence",
        },
        Step::Propose(other) => panic!("nobody asked for {other:?}"),
    }
}

fn on(id: ReplicaId) -> u64 {
    ReplicaAddress::of(id).store
}

impl History {
    fn new(strike: usize, fate: Fate) -> Self {
        Self {
            world: World::founded(SHARDS),
            reconciler: Reconciler::new(Some(AFTER)),
            now: Duration::ZERO,
            taken: 0,
            strike,
            fate,
            late: Vec::new(),
            kinds: BTreeSet::new(),
        }
    }

    /// Another node leads the system group.
    fn succeed(&mut self) {
        self.reconciler = Reconciler::new(Some(AFTER));
        self.world.term = self.world.term.next();
        let away = self.world.away.clone();
        let system = self
            .world
            .groups
            .get_mut(&GroupId::ZERO)
            .expect("it is there");
        let voters = system.configuration.voters.iter().copied();
        let heir = { voters }.find(|id| *id != system.leader && !away.contains(&on(*id)));
        if let Some(heir) = heir {
            system.leader = heir;
            system.term = system.term.next();
        }
    }

    /// An order of a leader that is no more reaches its group, which does what a group does with it.
    fn arrives_late(&mut self, order: Order) {
        let report = &self.world.groups[&order.group];
        let mut fence = self
            .world
            .fences
            .get(&order.group)
            .copied()
            .unwrap_or_default();
        // That its node knows from the log who is retired nobody may count on.
        let is_meant = fence.accept(&order, report.leader, report.term);
        let stands = match &order.kind {
            OrderKind::Change { expected, .. } => *expected == report.configuration_index,
            _ => true,
        };
        if is_meant && stands {
            self.world.carry_out(order);
        }
    }

    /// One look of the system leader's, and what comes of it. True: there is nothing to do.
    fn round(&mut self) -> bool {
        self.now += Duration::from_millis(100);
        for (group, replica) in &self.world.lost {
            self.reconciler.lost(self.now, *group, *replica);
        }
        let heard = self.now + Duration::from_millis(1);
        for group in self.world.groups.keys().copied().collect::<Vec<_>>() {
            if let Some(report) = self.world.heard(group) {
                self.reconciler.reported(heard, report);
            }
        }
        let (now, alive) = (heard, self.world.alive());
        let mut steps = self
            .reconciler
            .steps(now, self.world.term, &self.world.state, &alive)
            .into_iter();
        let unsettled = self
            .reconciler
            .unsettled(now, &self.world.state, &self.world.away);
        let nothing = steps.len() == 0 && unsettled == 0 && self.late.is_empty();
        while let Some(step) = steps.next() {
            self.kinds.insert(kind_of(&step));
            match step {
                Step::Propose(command) => {
                    self.world.commit(command);
                }
                Step::Order(order) => self.world.carry_out(order),
            }
            self.taken += 1;
            if self.taken == self.strike {
                let orders = steps.filter_map(|step| match step {
                    Step::Order(order) if self.fate == Fate::Late => Some((LATE, order)),
                    _ => None,
                });
                self.late = orders.collect();
                self.succeed();
                break;
            }
        }
        self.late.iter_mut().for_each(|(rounds, _)| *rounds -= 1);
        for (_, order) in self
            .late
            .extract_if(.., |(rounds, _)| *rounds == 0)
            .collect::<Vec<_>>()
        {
            self.arrives_late(order);
        }
        self.world.catch_up();
        nothing
    }

    /// Until it is so and nothing is left to do.
    fn until(&mut self, what: &str, so: impl Fn(&World) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if self.round() && so(&self.world) {
                return;
            }
        }
        panic!(
            "{what}: not over, the system leader was lost after step {} of {}",
            self.strike, self.taken
        );
    }

    fn run(mut self) -> Self {
        for name in ["a", "bb", "ccc", "dddd"] {
            self.world.join(name);
            self.until(name, |_| true);
        }
        self.world.smallest_voters = usize::MAX;

        self.world
            .commit(SystemCommand::Drain { store: 1, on: true });
        self.until("store 1 drains", |world| world.held(1) == (0, 0, 0));
        let removed = self.world.commit(SystemCommand::Remove { store: 1 });
        assert_eq!(removed, SystemOutcome::Done);
        self.until("store 1 is removed", |world| world.state.is_given_up(1));

        let group = GroupId::new(5);
        let report = &self.world.groups[&group];
        let voters = report.configuration.voters.iter().copied();
        let lost = { voters }.find(|id| *id != report.leader).expect("three");
        self.world.lost = vec![(group, lost)];
        self.until("a copy is lost", |world| {
            world.state.is_retired(group, lost)
        });
        self.world.lost.clear(); // its store has another one

        self.world.away.insert(4);
        let given_up = |world: &World| world.state.absent.contains(&4) && world.voters_on(4) == 0;
        self.until("store 4 is silent", given_up);
        self.world.away.clear();
        self.until("store 4 is back", |world| world.state.absent.is_empty());
        self
    }

    fn outcome(&self) -> Outcome {
        let Self {
            world, reconciler, ..
        } = self;
        let state = &world.state;
        assert!(reconciler.mourned(state).is_empty());
        assert!(state.absent.is_empty() && state.draining == BTreeSet::new());
        assert_eq!(plan(state), vec![]);
        assert_eq!(
            world.smallest_voters, 3,
            "no quorum was given up on the way"
        );
        let mut groups = Vec::new();
        for (group, entry) in &state.groups {
            let report = &world.groups[group];
            let configuration = &report.configuration;
            assert!(report.configuration_committed && configuration.outgoing.is_empty());
            let listed: Members = entry.replicas.iter().copied().collect();
            assert_eq!(configuration.members(), listed, "group {group}");
            let stores: BTreeSet<u64> = listed.iter().map(|id| on(*id)).collect();
            assert!(
                stores.iter().eq(&entry
                    .placement
                    .stores
                    .iter()
                    .copied()
                    .collect::<BTreeSet<_>>()),
                "group {group}"
            );
            let voters = configuration.voters.iter().map(|id| on(*id));
            groups.push((entry.placement.clone(), voters.collect(), on(report.leader)));
        }
        // Who leads the system group, and who of four votes there, is nobody's plan.
        groups[0] = (Placement::default(), BTreeSet::new(), 0);
        let members = state.members.keys().copied().collect();
        Outcome { members, groups }
    }
}

#[test]
fn whenever_the_system_leader_is_lost_everything_ends_in_the_same_place() {
    // S2, S10: after each single step, not between batches only.
    let undisturbed = History::new(usize::MAX, Fate::Lost).run();
    let wanted = undisturbed.outcome();
    for (_, voters, _) in &wanted.groups[1..] {
        assert_eq!(voters.len(), 3);
    }
    let mut kinds = undisturbed.kinds;
    for strike in 1..=undisturbed.taken {
        for fate in [Fate::Lost, Fate::Late] {
            let history = History::new(strike, fate).run();
            assert_eq!(
                history.outcome(),
                wanted,
                "lost after step {strike}, its orders {fate:?}"
            );
            kinds.extend(history.kinds);
        }
    }
    println!("lost after each of {} steps", undisturbed.taken);
    let all = [
        "absent", "allot", "back", "change", "fence", "place", "retire", "transfer",
    ];
    assert!(kinds.iter().eq(&all), "{kinds:?}");
}
