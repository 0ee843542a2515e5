//! What becomes of a placement when members describe themselves anew.

use std::collections::BTreeSet;

use synod_consensus::GroupId;

use super::super::command::BUILD_LEVEL;
use super::super::level::{Announced, Level};
use super::super::plan::tests::{apply, cluster};
use super::super::plan::{plan, shortfalls};
use super::*;

fn said(generation: u64, zone: Option<&str>, capacity: u32) -> Said {
    let zone = zone.map(str::to_owned);
    let description = Description { zone, capacity };
    Said {
        generation,
        description,
    }
}

/// Everything that is said reaches the log, and the placement follows.
fn hear(state: &mut SystemState, said: impl IntoIterator<Item = (u64, Said)>) {
    for command in state.descriptions(&said.into_iter().collect()) {
        assert_eq!(apply(state, command), SystemOutcome::Done);
    }
    let (epoch, goals) = (state.epoch, plan(state));
    apply(state, SystemCommand::Place { epoch, goals });
    assert_eq!(plan(state), Vec::new(), "planned twice");
}

fn zones_of(state: &SystemState, stores: &[u64]) -> BTreeSet<String> {
    let zone = |store: &u64| state.members[store].zone.clone();
    stores.iter().filter_map(zone).collect()
}

/// Stores of every shard.
fn placed(state: &SystemState) -> Vec<BTreeSet<u64>> {
    let shards = state.groups.iter().skip(1);
    shards
        .map(|(_, entry)| entry.placement.stores.iter().copied().collect())
        .collect()
}

#[test]
fn copies_move_when_a_member_changes_its_zone() {
    // DESIGN 11: a zone change goes the one path of every change; here is its beginning, the goals.
    let mut state = cluster(6, 64);
    let before = placed(&state);
    let zones = ["a", "a", "b", "b", "c", "c"];
    let start = |(store, zone): (u64, &&'static str)| (store, said(1, Some(zone), 1));
    hear(&mut state, (1..).zip(&zones).map(start));
    let spread = |state: &SystemState| {
        let shards = placed(state).into_iter();
        shards
            .map(|stores| {
                let stores: Vec<u64> = stores.into_iter().collect();
                zones_of(state, &stores).len()
            })
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(spread(&state), [3].into(), "each copy in its own zone");
    assert_ne!(placed(&state), before, "without zones they lay otherwise");

    // n2 goes over to c: where it held a copy beside one of n5 or n6, one of the two must go, and n1 alone has zone a.
    let before = placed(&state);
    hear(&mut state, [(2, said(2, Some("c"), 1))]);
    assert_eq!(state.members[&2].zone.as_deref(), Some("c"));
    assert_eq!(spread(&state), [3].into());
    let after = placed(&state);
    let gave_up = before.iter().zip(&after);
    let moved = gave_up.filter(|(before, after)| before != after).count();
    assert!(moved > 0);
    assert!(after.iter().all(|stores| stores.contains(&1)));
    let said = shortfalls(&state);
    let of_a = |sentence: &String| sentence.starts_with("zone \"a\" holds 64 replicas");
    assert!(said.iter().any(of_a), "{said:?}");
}

#[test]
fn a_member_of_capacity_two_holds_and_leads_twice_as_much() {
    let mut state = cluster(7, 64);
    hear(&mut state, [(3, said(1, None, 2))]);
    // 64 shards, 3 copies, weights 2 + 6 x 1.
    for store in 1..=7 {
        let held = placed(&state)
            .iter()
            .filter(|stores| stores.contains(&store))
            .count();
        let led = state.groups.values();
        let led = led
            .filter(|entry| entry.placement.leader == Some(store))
            .count();
        let (copies, leaders) = match store {
            3 => (48, 16),
            _ => (24, 8),
        };
        assert!(held.abs_diff(copies) <= 1, "{store} holds {held}");
        assert!(led.abs_diff(leaders) <= 1, "{store} leads {led}");
    }
}

#[test]
fn only_what_differs_is_told_and_nothing_of_an_earlier_start() {
    let mut state = cluster(3, 4);
    let silent = [(1, said(1, None, 1)), (9, said(1, Some("z"), 3))];
    assert_eq!(state.descriptions(&silent.into()), []);
    let unsound = [
        (1, said(1, None, 0)),
        (2, said(1, None, CAPACITY_MAX + 1)),
        (3, said(1, Some("two words"), 1)),
    ];
    assert_eq!(state.descriptions(&unsound.into()), []);
    hear(&mut state, [(2, said(5, Some("b"), 3))]);
    let member = &state.members[&2];
    assert_eq!((member.zone.as_deref(), member.capacity), (Some("b"), 3));

    // Late gossip of an earlier start, through whatever leader.
    let stale = [(2, said(4, Some("a"), 1))];
    assert_eq!(state.descriptions(&stale.into()), []);
    let before = state.clone();
    let stale = SystemCommand::Describe {
        store: 2,
        generation: 4,
        zone: Some("a".to_owned()),
        capacity: 1,
    };
    assert!(apply(&mut state, stale).is_refused());
    assert_eq!(state.members, before.members);
    // A start without a word about it takes it back; said twice it changes nothing.
    hear(&mut state, [(2, said(6, None, 1))]);
    let (member, epoch) = (&state.members[&2], state.epoch);
    assert_eq!((member.zone.as_deref(), member.capacity), (None, 1));
    let again = SystemCommand::Describe {
        store: 2,
        generation: 6,
        zone: None,
        capacity: 1,
    };
    assert_eq!(apply(&mut state, again), SystemOutcome::Done);
    assert_eq!(state.epoch, epoch);
}

#[test]
fn a_description_waits_until_every_build_knows_the_command() {
    let mut state = cluster(3, 4);
    let told = state.descriptions(&[(1, said(1, Some("a"), 1))].into());
    let [describe] = &told[..] else {
        panic!("{told:?}")
    };
    let mut announced = Announced {
        levels: (1..=3).map(|store| (store, BUILD_LEVEL)).collect(),
        electorate: (1..=3).collect(),
    };
    announced.levels.insert(2, Level::FIRST);
    let reason = state.gate(describe, || announced.clone()).unwrap_err();
    assert!(reason.contains("n2 (level 1)"), "{reason}");
    announced.levels.insert(2, BUILD_LEVEL);
    assert!(
        state.gate(describe, || announced.clone()).is_err(),
        "not raised yet"
    );
    let level = state.next_level(BUILD_LEVEL, &announced).unwrap();
    let epoch = state.epoch;
    apply(&mut state, SystemCommand::Raise { epoch, level });
    assert_eq!(state.gate(describe, || announced.clone()), Ok(()));
}

#[test]
fn what_was_told_survives_a_snapshot() {
    let mut state = cluster(3, 4);
    let (epoch, level) = (state.epoch, BUILD_LEVEL);
    apply(&mut state, SystemCommand::Raise { epoch, level });
    hear(&mut state, [(2, said(5, Some("b"), 3))]);
    let read = SystemState::decode(&state.encode(), BUILD_LEVEL).unwrap();
    assert_eq!(read, state);
    assert_eq!(read.members[&2].described, 5);
    assert!(read.groups.contains_key(&GroupId::ZERO));
}

#[test]
fn words_of_a_description_have_their_bounds() {
    let description = |zone: &str, capacity| Description {
        zone: Some(zone.to_owned()),
        capacity,
    };
    assert_eq!(description("rack-1.eu_West", 1).check(), Ok(()));
    assert_eq!(description(&"z".repeat(64), CAPACITY_MAX).check(), Ok(()));
    for (zone, capacity) in [("", 1), ("a b", 1), ("é", 1), ("a", 0), ("a", 65)] {
        let sentence = description(zone, capacity).check().unwrap_err().to_string();
        assert!(sentence.contains("1 to 64"), "{sentence}");
    }
    assert!(description(&"z".repeat(65), 1).check().is_err());
    let roles = |count: usize, role: &str| vec![role.to_owned(); count];
    assert_eq!(check_roles(&roles(8, &"r".repeat(32))), Ok(()));
    for roles in [roles(9, "r"), roles(1, ""), roles(1, &"r".repeat(33))] {
        let sentence = check_roles(&roles).unwrap_err().to_string();
        assert!(sentence.contains("(--role ROLE)"), "{sentence}");
    }
}
