//! Each invariant is shown to fail: one thing is told, or tampered with, that may not be.
//!
//! Bugs put back in `consensus` show most of them in whole runs (`tests/groups.rs`); here each check is shown by itself, so that none
//! can come to check nothing.

use core::time::Duration;

use synod_consensus::{
    Configuration, Entry, EntryKind, HardState, LogIndex, ReplicaId, SnapshotMeta, Term, Write,
};

use super::history::{History, Judged};
use super::machine::Ask;
use super::model::Model;
use super::oracle::Oracle;
use super::watch::Cause;
use super::world::World;
use crate::coverage::Coverage;
use crate::violation::Violation;

const ONE: ReplicaId = ReplicaId::new(1);
const TWO: ReplicaId = ReplicaId::new(2);

fn at(index: u64) -> LogIndex {
    LogIndex::new(index)
}

fn entry(term: u64, index: u64, payload: &'static [u8]) -> Entry {
    Entry {
        term: Term::new(term),
        index: at(index),
        kind: EntryKind::Normal,
        payload: payload.into(),
    }
}

/// A log of three voters with these entries, from index 1 on.
fn log(entries: &[Entry]) -> Model {
    let to = SnapshotMeta::founding(Configuration::of_voters((1..=3).map(ReplicaId::new)));
    let mut model = Model::default();
    model.apply(&Write::Reset { to });
    model.apply(&Write::Append(entries.to_vec().into()));
    model
}

fn with_configuration(log: &Model, index: u64, configuration: &Configuration) -> Model {
    let mut model = log.clone();
    let entry = Entry {
        kind: EntryKind::Configuration,
        payload: configuration.encode(),
        ..entry(1, index, b"")
    };
    model.apply(&Write::Append(vec![entry].into()));
    model
}

fn name(result: Result<(), Violation>) -> Option<&'static str> {
    result.err().map(|violation| violation.invariant)
}

fn all() -> History {
    History::new(Judged::All)
}

/// A history in which 1 committed `entries`, which are durable.
fn committed(entries: &[Entry]) -> History {
    let mut history = all();
    let last = at(entries.len() as u64);
    let result = history.commits(ONE, at(0), last, &log(entries), None, |_, _, _| true);
    assert_eq!(name(result), None);
    history
}

#[test]
fn election_safety_can_fail() {
    // Raft paper 5.2.
    let (mut history, mut coverage) = (all(), Coverage::default());
    let mut leads = |who, term| name(history.leads(who, Term::new(term), &log(&[]), &mut coverage));
    assert_eq!(leads(ONE, 1), None);
    assert_eq!(leads(ONE, 1), None);
    assert_eq!(leads(TWO, 2), None);
    assert_eq!(leads(TWO, 1), Some("Election Safety"));
}

#[test]
fn log_matching_can_fail() {
    // Raft paper 5.3: another payload, another predecessor, a hole.
    let mut history = all();
    let mut asked = |log: &Model, entry: Entry| {
        let write = Write::Append(vec![entry].into());
        name(history.asked(ONE, log, &write))
    };
    let (empty, one) = (log(&[]), log(&[entry(1, 1, b"a")]));
    assert_eq!(asked(&empty, entry(1, 1, b"a")), None);
    assert_eq!(asked(&empty, entry(1, 1, b"b")), Some("Log Matching"));
    assert_eq!(asked(&one, entry(3, 2, b"c")), None);
    let other = log(&[entry(2, 1, b"a")]);
    assert_eq!(asked(&other, entry(3, 2, b"c")), Some("Log Matching"));
    assert_eq!(asked(&empty, entry(1, 2, b"d")), Some("Log Matching"));
}

#[test]
fn leader_completeness_can_fail() {
    // Raft paper 5.4.3.
    let mut history = committed(&[entry(1, 1, b"a")]);
    let mut leads = |term, log: &Model| {
        name(history.leads(TWO, Term::new(term), log, &mut Coverage::default()))
    };
    assert_eq!(leads(2, &log(&[entry(1, 1, b"a")])), None);
    assert_eq!(leads(3, &log(&[])), Some("Leader Completeness"));
    let other = log(&[entry(2, 1, b"b")]);
    assert_eq!(leads(4, &other), Some("Leader Completeness"));
}

#[test]
fn state_machine_safety_can_fail() {
    // Raft paper 5.4.3: another entry, one that is not there, one above a hole, one given up, another state.
    let history = || committed(&[entry(1, 1, b"a")]);
    let safety = Some("State Machine Safety");
    let commits = |from, to, log: &Model| {
        let durable = |_, _, _| true;
        name(history().commits(TWO, at(from), at(to), log, None, durable))
    };
    let same = log(&[entry(1, 1, b"a"), entry(1, 2, b"b")]);
    assert_eq!(commits(0, 2, &same), None);
    assert_eq!(commits(0, 1, &log(&[entry(1, 1, b"x")])), safety);
    assert_eq!(commits(0, 3, &same), safety);
    let more = log(&[entry(1, 1, b"a"), entry(1, 2, b"b"), entry(1, 3, b"c")]);
    assert_eq!(commits(2, 3, &more), safety);
    let instead = Write::Append(vec![entry(2, 1, b"x")].into());
    assert_eq!(name(history().asked(TWO, &same, &instead)), safety);
    assert_eq!(name(history().applied(TWO, at(1), 77)), safety);
    assert_eq!(name(history().applied(TWO, at(2), 0)), safety);
}

#[test]
fn committed_is_durable_can_fail() {
    // Raft paper 5.4: two of three disks are enough, one is not.
    let commits = |holding: u64| {
        let durable = |voter: ReplicaId, _, _| voter.get() <= holding;
        let log = log(&[entry(1, 1, b"a")]);
        name(all().commits(ONE, at(0), at(1), &log, None, durable))
    };
    assert_eq!(commits(2), None);
    assert_eq!(commits(1), Some("Committed Is Durable"));
}

#[test]
fn a_joint_commit_needs_both_halves() {
    // Raft paper 6: 1, 2 and 3 give way to 3, 4 and 5. That the very step which commits also leaves for the new half changes nothing.
    let voters = |ids: [u64; 3]| ids.map(ReplicaId::new).into_iter().collect();
    let joint = Configuration {
        outgoing: voters([1, 2, 3]),
        ..Configuration::of_voters([3, 4, 5].map(ReplicaId::new))
    };
    let left = Configuration::of_voters([3, 4, 5].map(ReplicaId::new));
    let entered = with_configuration(&log(&[]), 1, &joint);
    let also_left = with_configuration(&entered, 2, &left);
    let commits = |log: &Model, before: Option<&Configuration>, holding: &[u64]| {
        let durable = |voter: ReplicaId, _, _| holding.contains(&voter.get());
        name(all().commits(ONE, at(0), at(1), log, before, durable))
    };
    let broken = Some("Committed Is Durable");
    for log in [&entered, &also_left] {
        assert_eq!(commits(log, Some(&joint), &[1, 3, 4]), None);
        assert_eq!(commits(log, Some(&joint), &[3, 4, 5]), broken);
        assert_eq!(commits(log, Some(&joint), &[1, 2, 3]), broken);
    }
    assert_eq!(commits(&entered, None, &[3, 4, 5]), broken);
    assert_eq!(commits(&also_left, Some(&left), &[3, 4, 5]), None);
}

#[test]
fn one_lease_can_fail() {
    // Thesis 6.4.1.
    let (mut history, mut coverage) = (all(), Coverage::default());
    for (who, term) in [(ONE, 1), (TWO, 2)] {
        let led = history.leads(who, Term::new(term), &log(&[]), &mut coverage);
        assert_eq!(name(led), None);
    }
    assert_eq!(name(history.leased(TWO, Term::new(2))), None);
    let stale = history.leased(ONE, Term::new(1));
    assert_eq!(name(stale), Some("One Lease"));
}

#[test]
fn acknowledged_commands_can_fail() {
    // Promise 1: another command in its place, or the same one twice.
    let mut history = all();
    assert_eq!(name(history.acknowledge(5, at(3), at(2))), None);
    assert_eq!(name(history.applies(TWO, at(3), Some(5))), None);
    let lost = history.applies(TWO, at(3), Some(6));
    assert_eq!(name(lost), Some("Acknowledged Commands"));
    let twice = history.applies(TWO, at(4), Some(5));
    assert_eq!(name(twice), Some("Acknowledged Commands"));
    let gone = history.applies(TWO, at(3), None);
    assert_eq!(name(gone), Some("Acknowledged Commands"));
}

#[test]
fn linearizable_reads_can_fail() {
    // Thesis 6.4: a read from the past, and a command that took effect before what was seen when it was asked.
    let mut history = all();
    assert_eq!(name(history.read(at(4), at(0))), None);
    let past = history.read(at(3), history.floor);
    assert_eq!(name(past), Some("Linearizable Reads"));
    let early = history.acknowledge(1, at(4), history.floor);
    assert_eq!(name(early), Some("Linearizable Reads"));
}

#[test]
fn replaced_commands_can_fail() {
    // H31.
    let mut oracle = Oracle::default();
    let id = oracle.ask(0, Ask::Add(1));
    oracle.replaced(id);
    assert_eq!(name(oracle.judge(|_| None)), None);
    let happened = oracle.judge(|_| Some(at(9)));
    assert_eq!(name(happened), Some("Replaced Commands"));
}

#[test]
fn linearizability_can_fail() {
    // Promise 2, whatever the world knows about places in the log: a lost effect, one from the past, an answer out of nothing.
    let asked = |answers: &[(Ask, u64)]| {
        let mut oracle = Oracle::default();
        for (ask, answer) in answers {
            let id = oracle.ask(2, *ask);
            oracle.answer(id, *answer, at(id + 1));
        }
        name(oracle.judge(|id| Some(at(id + 1))))
    };
    let broken = Some("Linearizability");
    assert_eq!(asked(&[(Ask::Add(5), 5), (Ask::Read, 5)]), None);
    assert_eq!(asked(&[(Ask::Add(5), 5), (Ask::Read, 0)]), broken);
    assert_eq!(asked(&[(Ask::Add(5), 5), (Ask::Add(1), 1)]), broken);
    assert_eq!(asked(&[(Ask::Swap(7), 3)]), broken);
}

/// A world that has answered clients and in which nothing is under way at `ONE`: neither down nor installing, and past a checkpoint.
fn in_order() -> World {
    let worlds = (0..20).map(World::from_seed);
    { worlds }
        .find_map(got_in_order)
        .expect("few worlds lose it before")
}

/// Not every world gets so far: it may lose `ONE` before.
fn got_in_order(mut world: World) -> Option<World> {
    while world.now < Duration::from_secs(60) {
        world
            .step()
            .unwrap_or_else(|violation| panic!("{violation}"));
        let one = &world.replicas[&ONE];
        let calm = one
            .process
            .as_ref()
            .is_some_and(|process| !process.is_installing() && process.status.commit > at(20));
        if calm && one.checkpointed > at(0) && one.durable.hard_state.term > Term::ZERO {
            return Some(world);
        }
    }
    None
}

/// What the check of `ONE`'s own invariants says.
fn looked_at(world: &mut World) -> Option<&'static str> {
    let now = world.now;
    let (replica, mut witnesses) = world.with_witnesses(ONE);
    let checked = replica.check(Cause::Other, now, &mut witnesses);
    name(checked.map(|_| ()))
}

/// What the start of `ONE` says after a kill and `change`.
fn restarted(change: impl FnOnce(&mut World)) -> Option<&'static str> {
    let mut world = in_order();
    world.replicas.get_mut(&ONE).expect("a founder").stop(false);
    change(&mut world);
    name(world.start(ONE).map(|_| ()))
}

#[test]
fn what_one_replica_must_keep_can_fail() {
    assert_eq!(looked_at(&mut in_order()), None);
    let tampered = |change: fn(&mut super::replica::Replica)| {
        let mut world = in_order();
        change(world.replicas.get_mut(&ONE).expect("a founder"));
        looked_at(&mut world)
    };
    let ordering = tampered(|one| one.checkpointed = LogIndex::new(1 << 40));
    assert_eq!(ordering, Some("State Ordering"));
    let monotone = tampered(|one| {
        let process = one.process.as_mut().expect("it runs");
        process.status.commit = LogIndex::new(1 << 40);
    });
    assert_eq!(monotone, Some("Monotone"));
    let configuration = tampered(|one| {
        let process = one.process.as_mut().expect("it runs");
        process.asked = Model::default();
    });
    assert_eq!(configuration, Some("Effective Configuration"));
}

#[test]
fn what_a_disk_must_give_back_can_fail() {
    // H72 to H76: a vote, an entry, a state that was acknowledged and is not found; a log that nobody damaged and that cannot be read.
    let recovery = Some("Recovery");
    fn one(world: &mut World) -> &mut super::replica::Replica {
        world.replicas.get_mut(&ONE).expect("a founder")
    }
    assert_eq!(restarted(|_| {}), None);
    let vote = restarted(|world| {
        let durable = &mut one(world).durable;
        let hard_state = HardState {
            vote: Some(TWO),
            term: durable.hard_state.term.next(),
            ..durable.hard_state
        };
        durable.apply(&Write::HardState(hard_state));
    });
    assert_eq!(vote, recovery);
    let lost = restarted(|world| {
        let durable = &mut one(world).durable;
        let last = durable.last();
        let more = entry(last.term.get(), last.index.next().get(), b"acknowledged");
        durable.apply(&Write::Append(vec![more].into()));
    });
    assert_eq!(lost, recovery);
    let state = restarted(|world| {
        let one = one(world);
        one.checkpointed = one.checkpointed.next();
    });
    assert_eq!(state, recovery);
    let unreadable = restarted(|world| {
        let one = one(world);
        let name = one.disk.names("log").first().expect("a log").clone();
        one.disk.damage("log", &name, |bytes| bytes.fill(0xa5));
    });
    assert_eq!(unreadable, recovery);
}

#[test]
fn liveness_can_fail() {
    // All links of a majority stay cut although the faults are over.
    let mut world = in_order();
    world.heal();
    let links: Vec<_> = world
        .replicas
        .keys()
        .flat_map(|id| world.all_links_of(*id))
        .collect();
    world.network.cut(&links);
    let calm = world.now;
    while world.now < calm + Duration::from_secs(4) {
        assert_eq!(name(world.step()), None);
    }
    assert!(!world.agrees());
}
