//! How moves begin, catch up and end, as the system leader sees them.

use synod_consensus::{Configuration, LogIndex, Members, Term};

use super::super::command::SystemCommand;
use super::super::plan::Placement;
use super::super::plan::tests::{apply, cluster};
use super::*;

const GROUP: GroupId = GroupId::new(5);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the leader says when these stores vote and those learn; all have caught up but `behind`.
fn report(state: &SystemState, voters: &[u64], learners: &[u64], behind: &[u64]) -> GroupReport {
    let ids = |stores: &[u64]| -> Members {
        let id = |store: &u64| state.replica_on(GROUP, *store).expect("allotted");
        stores.iter().map(id).collect()
    };
    let (voters, learners, behind) = (ids(voters), ids(learners), ids(behind));
    let leader = *voters.first().expect("a voter");
    let matched = |id: &ReplicaId| match behind.contains(id) {
        true => (*id, LogIndex::ZERO),
        false => (*id, LogIndex::new(900)),
    };
    GroupReport {
        group: GROUP,
        term: Term::new(1),
        leader,
        matched: voters.union(&learners).iter().map(matched).collect(),
        configuration: Configuration {
            voters,
            learners,
            ..Configuration::default()
        },
        configuration_index: LogIndex::new(3),
        configuration_committed: true,
        last: LogIndex::new(900),
        resting: false,
        fence: Default::default(),
    }
}

fn look(moves: &mut Moves, now: u64, state: &SystemState, report: &GroupReport) -> Vec<Move> {
    moves.look(at(now), state, |group| (group == GROUP).then_some(report))
}

/// Four members; the group lives on `home` and is to live on `goal`.
fn moving(home: &[u64], goal: &[u64]) -> SystemState {
    let mut state = cluster(4, 8);
    let entry = state.groups.get_mut(&GROUP).expect("a group");
    entry.replicas.clear();
    for store in home.iter().chain(goal) {
        apply(
            &mut state,
            SystemCommand::Allot {
                group: GROUP,
                store: *store,
            },
        );
    }
    set_goal(&mut state, goal);
    state
}

fn set_goal(state: &mut SystemState, goal: &[u64]) {
    let placement = Placement {
        stores: goal.to_vec(),
        leader: None,
    };
    let (epoch, goals) = (state.epoch, vec![(GROUP, placement)]);
    apply(state, SystemCommand::Place { epoch, goals });
}

#[test]
fn a_move_begins_catches_up_and_is_done_when_nothing_is_left_behind() {
    let mut state = moving(&[1, 2, 3], &[1, 2, 4]);
    let mut moves = Moves::default();
    let begun = look(&mut moves, 1, &state, &report(&state, &[1, 2, 3], &[], &[]));
    assert_eq!(begun.len(), 1);
    assert_eq!(
        (&begun[0].from, &begun[0].to),
        (&BTreeSet::from([3]), &BTreeSet::from([4]))
    );
    let behind = report(&state, &[1, 2, 3], &[4], &[4]);
    assert_eq!(look(&mut moves, 2, &state, &behind), Vec::new());
    let caught_up = look(
        &mut moves,
        3,
        &state,
        &report(&state, &[1, 2, 3], &[4], &[]),
    );
    assert_eq!((caught_up.len(), caught_up[0].caught_up), (1, Some(at(3))));
    // The old replica is listed until it is retired.
    let changed = report(&state, &[1, 2, 4], &[], &[]);
    assert_eq!(look(&mut moves, 4, &state, &changed), Vec::new());
    let old = state.replica_on(GROUP, 3).expect("not retired yet");
    apply(
        &mut state,
        SystemCommand::Retire {
            group: GROUP,
            replica: old,
        },
    );
    let done = look(&mut moves, 5, &state, &changed);
    assert_eq!(
        (done.len(), &done[0].ended),
        (1, &Some((at(5), MoveEnd::Done)))
    );
    assert_eq!(look(&mut moves, 6, &state, &changed), Vec::new());
    assert_eq!(moves.all().count(), 1);
}

#[test]
fn a_move_whose_goal_leaves_is_given_up_with_the_reason_and_another_begins() {
    let mut state = moving(&[1, 2, 3], &[1, 2, 4]);
    let mut moves = Moves::default();
    let before = report(&state, &[1, 2, 3], &[], &[]);
    assert_eq!(look(&mut moves, 1, &state, &before).len(), 1);
    apply(&mut state, SystemCommand::Drain { store: 4, on: true });
    set_goal(&mut state, &[1, 2, 3]);
    let ended = look(&mut moves, 2, &state, &before);
    let reason = MoveEnd::GivenUp("`n4` drains".to_owned());
    assert_eq!((ended.len(), &ended[0].ended), (1, &Some((at(2), reason))));
    // Nobody leads: then nothing can be said.
    assert_eq!(moves.look(at(3), &state, |_| None), Vec::new());
    // Another goal while the first is under way.
    set_goal(&mut state, &[1, 2, 4]);
    assert_eq!(look(&mut moves, 4, &state, &before).len(), 1);
    set_goal(&mut state, &[2, 3, 4]);
    let (ended, begun) = match &look(&mut moves, 5, &state, &before)[..] {
        [ended, begun] => (ended.clone(), begun.clone()),
        other => panic!("{other:?}"),
    };
    let otherwise = MoveEnd::GivenUp("a newer placement wants it otherwise".to_owned());
    assert_eq!(ended.ended, Some((at(5), otherwise)));
    assert_eq!(
        (begun.from, begun.to),
        (BTreeSet::from([1]), BTreeSet::from([4]))
    );
}

#[test]
fn only_so_many_ended_moves_are_remembered() {
    let mut state = moving(&[1, 2, 3], &[1, 2, 3]);
    let mut moves = Moves::default();
    let before = report(&state, &[1, 2, 3], &[], &[]);
    for round in 0..2 * ENDED_MAX as u64 + 9 {
        let goal = [[1, 2, 4], [1, 2, 3]][round as usize % 2];
        set_goal(&mut state, &goal);
        look(&mut moves, round, &state, &before);
    }
    assert!(moves.all().count() <= ENDED_MAX + 1);
    let oldest = moves.all().next().expect("many");
    assert!(oldest.begun > at(0), "the oldest are forgotten");
}
