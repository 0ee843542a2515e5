//! Which moves are granted and stay, and which are refused and why.

use super::super::command::SystemCommand;
use super::super::plan::plan;
use super::super::plan::tests::{apply, cluster};
use super::*;

fn place(state: &mut SystemState, goals: Goals) {
    let epoch = state.epoch;
    let goals = goals.goals;
    let outcome = apply(state, SystemCommand::Place { epoch, goals });
    assert!(!outcome.is_refused(), "{outcome:?}");
}

fn stores(state: &SystemState, group: GroupId) -> &[u64] {
    &state.groups[&group].placement.stores
}

/// A group, a store that holds a copy of it, and one that does not.
fn wish(state: &SystemState, number: u64) -> (GroupId, u64, u64) {
    let group = GroupId::new(number);
    let holders = stores(state, group);
    let other = state
        .members
        .keys()
        .find(|store| !holders.contains(store))
        .expect("more members than copies");
    (group, holders[0], *other)
}

#[test]
fn a_move_by_hand_is_not_undone_by_the_planner() {
    // 5 x 3 x 16 copies give every node a whole share; one more or less must be made up for by another shard.
    for nodes in [4, 5, 6] {
        let mut state = cluster(nodes, 80);
        for number in [1, 7, 31, 80] {
            let (group, from, to) = wish(&state, number);
            let goals = move_replica(&state, group, from, to).expect("nothing is in the way");
            let replicas = goals
                .changes
                .iter()
                .filter(|change| matches!(change, PlacementChange::Replica { .. }));
            assert!(replicas.count() <= 2, "{:?}", goals.changes);
            place(&mut state, goals);
            assert!(stores(&state, group).contains(&to) && !stores(&state, group).contains(&from));
            assert_eq!(plan(&state), Vec::new(), "the planner is content");
            let again = move_replica(&state, group, from, to);
            assert_eq!(again, Ok(Goals::default()), "twice is as good as once");
        }
        let rebalanced = rebalance(&state, false).expect("founded");
        assert_eq!(rebalanced, Goals::default(), "every node has its share");
    }
}

#[test]
fn a_leader_that_is_moved_leads_from_its_new_place_if_shares_allow_it() {
    let mut state = cluster(4, 64);
    let group = GroupId::new(9);
    let from = state.groups[&group]
        .placement
        .leader
        .expect("one is preferred");
    let holders = stores(&state, group).to_vec();
    let to = (1..=4)
        .find(|store| !holders.contains(store))
        .expect("one of four");
    let goals = move_replica(&state, group, from, to).expect("nothing is in the way");
    place(&mut state, goals);
    let leader = state.groups[&group]
        .placement
        .leader
        .expect("one is preferred");
    assert!(stores(&state, group).contains(&leader));
    assert_ne!(leader, from);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let mut state = cluster(5, 16);
    let (group, from, to) = wish(&state, 3);
    let holders = stores(&state, group).to_vec();
    let refused = |state: &SystemState, group, from, to| match move_replica(state, group, from, to)
    {
        Err(sentence) => sentence,
        Ok(goals) => panic!("not refused: {goals:?}"),
    };
    assert_eq!(
        refused(&state, GroupId::new(17), from, to),
        "there is no such shard: they are 0 to 15"
    );
    let names: Vec<String> = holders.iter().map(|store| format!("n{store}")).collect();
    let another = (1..=5)
        .find(|store| *store != to && !holders.contains(store))
        .expect("two of five hold none");
    assert_eq!(
        refused(&state, group, another, to),
        format!(
            "`n{another}` is to hold no copy of shard 2: {} are",
            names.join(", ")
        )
    );
    assert_eq!(
        refused(&state, group, from, holders[1]),
        format!("`n{}` holds a copy of shard 2 already", holders[1])
    );
    assert!(refused(&state, group, from, from).contains("holds a copy of shard 2 already"));
    apply(
        &mut state,
        SystemCommand::Drain {
            store: to,
            on: true,
        },
    );
    assert_eq!(
        refused(&state, group, from, to),
        format!("`n{to}` drains and takes nothing: `synod drain n{to} --undo` first")
    );
    apply(
        &mut state,
        SystemCommand::Drain {
            store: to,
            on: false,
        },
    );
    let epoch = state.epoch;
    apply(
        &mut state,
        SystemCommand::Absent {
            epoch,
            store: to,
            on: true,
        },
    );
    assert_eq!(
        refused(&state, group, from, to),
        format!("`n{to}` is absent: start it first")
    );
}

#[test]
fn a_move_that_zones_forbid_is_refused() {
    let mut state = cluster(6, 30);
    for (store, member) in &mut state.members {
        member.zone = Some(["a", "b", "c"][*store as usize % 3].to_owned());
    }
    let goals = rebalance(&state, false).expect("founded");
    place(&mut state, goals);
    let zone = |store: u64| store % 3;
    let group = GroupId::new(4);
    let holders = stores(&state, group).to_vec();
    let from = holders[0];
    let spare = |same: bool| {
        let others = (1..=6_u64).filter(|store| !holders.contains(store));
        let mut fit = others.filter(|store| (zone(*store) == zone(from)) == same);
        fit.next().expect("two nodes in each zone")
    };
    let sentence = move_replica(&state, group, from, spare(false)).expect_err("two in a zone");
    assert!(
        sentence.starts_with("the zones do not allow shard 3 on"),
        "{sentence}"
    );
    assert!(move_replica(&state, group, from, spare(true)).is_ok());
}

#[test]
fn a_move_that_would_not_last_is_refused() {
    // One shard, and one node that is to hold a copy of it by its weight.
    let mut state = cluster(4, 1);
    state.members.get_mut(&2).expect("a member").capacity = 8;
    let goals = rebalance(&state, false).expect("founded");
    place(&mut state, goals);
    let group = GroupId::new(1);
    let holders = stores(&state, group).to_vec();
    assert!(holders.contains(&2));
    let to = (1..=4)
        .find(|store| !holders.contains(store))
        .expect("one of four");
    let sentence = move_replica(&state, group, 2, to).expect_err("it has its share");
    assert!(
        sentence.starts_with("it would be moved back at once"),
        "{sentence}"
    );
}

#[test]
fn a_rebalance_from_nothing_forgets_history_and_is_a_placement_of_the_planner() {
    let mut state = cluster(5, 64);
    let (group, from, to) = wish(&state, 3);
    let goals = move_replica(&state, group, from, to).expect("nothing is in the way");
    place(&mut state, goals);
    let afresh = rebalance(&state, true).expect("founded");
    assert!(!afresh.goals.is_empty());
    place(&mut state, afresh);
    assert_eq!(plan(&state), Vec::new());
    let again = rebalance(&state, true).expect("founded");
    assert_eq!(
        again,
        Goals::default(),
        "there is one placement from nothing"
    );
}
