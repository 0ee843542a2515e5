//! What commands make of the state, and that founders find what they always found.

use super::*;
use crate::system::command::BUILD_LEVEL;
use crate::wire::encode;

fn founded(shards: u32) -> SystemState {
    let mut state = SystemState::default();
    let founding = founded_by(1, shards);
    let outcome = state.take(LogIndex::new(2), SystemCommand::Found(founding));
    assert_eq!(outcome, SystemOutcome::Done);
    state
}

fn founded_by(founders: u64, shards: u32) -> Founding {
    let founder = |number: u64| Founder {
        name: format!("n{number}"),
        key: Bytes::from(format!("k{number}")),
    };
    let Founder { name, key } = founder(1);
    Founding {
        cluster: 9,
        sharding: Sharding { seed: 1, shards },
        copies: 3,
        name,
        key,
        others: (2..=founders).map(founder).collect(),
    }
}

#[test]
fn several_founders_are_born_as_voters_of_every_group() {
    // DESIGN section 8: replicas are born as voters only at genesis; E24: an odd number of them votes.
    for (founders, system, shard) in [
        (1, 1, 1),
        (2, 1, 1),
        (3, 3, 3),
        (4, 3, 3),
        (5, 5, 3),
        (7, 5, 3),
    ] {
        let founding = founded_by(founders, 8);
        let births = founding.births();
        assert_eq!(births.len(), 9);
        let mut ids = BTreeSet::new();
        for (group, born) in &births {
            let voters = if *group == GroupId::ZERO {
                system
            } else {
                shard
            };
            assert_eq!(
                born.voters.len(),
                voters,
                "{founders} founders, group {group}"
            );
            let replicas = born.replicas();
            assert_eq!(replicas.len(), born.placement.stores.len());
            for replica in &replicas {
                assert!(ids.insert(ReplicaAddress::of(*replica).serial), "H77");
                assert!(
                    born.placement
                        .stores
                        .contains(&ReplicaAddress::of(*replica).store)
                );
            }
            let leader = born.placement.leader.unwrap();
            let leads = |id: &ReplicaId| ReplicaAddress::of(*id).store == leader;
            assert!(born.voters.iter().any(leads), "the leader to be votes");
        }
        assert_eq!(births[&GroupId::ZERO].replicas().len() as u64, founders);
        let mut state = SystemState::default();
        state.change(SystemCommand::Found(founding.clone()));
        for (group, entry) in &state.groups {
            assert_eq!(entry.replicas, births[group].replicas());
        }
        assert_eq!(state.members.len() as u64, founders);
        let joined = state.change(SystemCommand::Admit(member("late", 5)));
        let SystemOutcome::Admitted { store, replica } = joined else {
            panic!("{joined:?}");
        };
        assert_eq!(store, founders + 1);
        assert!(ids.insert(ReplicaAddress::of(replica).serial), "H77");
    }
}

#[test]
fn what_one_founder_founds_is_what_it_always_was() {
    // STYLE 11: a log of an older version replays to the same state; its founding names no others.
    #[derive(Serialize)]
    struct Before {
        cluster: u128,
        sharding: Sharding,
        copies: u32,
        name: String,
        key: Bytes,
    }
    let before = Before {
        cluster: 9,
        sharding: Sharding { seed: 1, shards: 2 },
        copies: 3,
        name: "n1".into(),
        key: Bytes::from_static(b"k1"),
    };
    let founding: Founding = crate::wire::decode(&encode(&before)).unwrap();
    assert_eq!(founding, founded_by(1, 2));
    for (group, born) in founding.births() {
        assert_eq!(born.voters, BTreeSet::from([Founding::replica(group)]));
        assert!(born.learners.is_empty());
        assert_eq!(born.placement.stores, [1]);
        assert_eq!(born.placement.leader, Some(1));
    }
    let mut state = SystemState::default();
    state.change(SystemCommand::Found(founding));
    assert_eq!((state.next_store, state.next_serial), (2, 4));
}

fn member(name: &str, nonce: u64) -> MemberEntry {
    MemberEntry {
        name: name.into(),
        key: Bytes::from_static(b"k"),
        capacity: 1,
        zone: None,
        nonce,
        level: Level::FIRST,
        described: 0,
    }
}

#[test]
fn a_repeated_admission_finds_the_first() {
    // Ongaro's thesis 6.3: a retried command must not take effect twice.
    let mut state = founded(4);
    let first = state.change(SystemCommand::Admit(member("n2", 5)));
    assert_eq!(first, state.change(SystemCommand::Admit(member("n2", 5))));
    assert_eq!(state.members.len(), 2);
}

#[test]
fn a_wiped_store_cannot_pass_for_its_former_self() {
    // E32, M20, E26: another nonce is another disk.
    let mut state = founded(4);
    state.change(SystemCommand::Admit(member("n2", 5)));
    assert!(matches!(
        state.change(SystemCommand::Admit(member("n2", 6))),
        SystemOutcome::Refused { .. }
    ));
}

#[test]
fn a_store_that_was_given_up_is_nobody_and_its_name_is_free() {
    // M21: the ban is part of the log, and ids are never reused, not even those that only the lost may have heard of.
    let mut state = founded(4);
    state.change(SystemCommand::Admit(member("n2", 5)));
    let group = GroupId::new(2);
    let old = Founding::replica(group);
    let new = ReplicaAddress {
        store: 1,
        serial: 90,
    }
    .id();
    state.change(SystemCommand::Reform {
        groups: vec![(group, BTreeSet::from([new]))],
    });
    assert!(
        !state.is_retired(group, new),
        "it is listed before its id is used up"
    );
    assert!(state.is_retired(group, old));
    let outcome = state.change(SystemCommand::GiveUp(GivingUp {
        at: 7,
        stores: BTreeSet::from([2]),
        reformed: 1,
        emptied: 0,
        next_store: 50,
        next_serial: 100,
    }));
    assert_eq!(outcome, SystemOutcome::Done);
    assert!(!state.is_retired(group, new));
    assert!(state.is_given_up(2) && state.is_given_up(49));
    assert!(!state.is_given_up(1) && !state.is_given_up(50));
    assert_eq!(state.given_up().collect::<Vec<_>>(), [2]);
    assert_eq!(state.recoveries[0].given_up[&2], "n2");
    let admitted = state.change(SystemCommand::Admit(member("n2", 6)));
    assert!(
        matches!(admitted, SystemOutcome::Admitted { store: 50, .. }),
        "{admitted:?}"
    );
    assert_eq!(
        state,
        SystemState::decode(&state.encode(), BUILD_LEVEL).unwrap()
    );
}

#[test]
fn a_retired_replica_id_is_never_allotted_again() {
    // H77: a new incarnation gets a fresh id.
    let mut state = founded(4);
    state.change(SystemCommand::Admit(member("n2", 5)));
    let group = GroupId::new(1);
    let SystemOutcome::Allotted { replica } =
        state.change(SystemCommand::Allot { group, store: 2 })
    else {
        panic!("a member's store gets a replica");
    };
    assert!(!state.is_retired(group, replica));
    state.change(SystemCommand::Retire { group, replica });
    assert!(state.is_retired(group, replica));
    let SystemOutcome::Allotted { replica: second } =
        state.change(SystemCommand::Allot { group, store: 2 })
    else {
        panic!("a member's store gets a replica");
    };
    assert_ne!(replica, second);
}

#[test]
fn a_replica_from_the_future_is_not_retired() {
    // H78: a node whose system log lags must not delete what was allotted after its last applied entry.
    let state = founded(4);
    assert!(
        !state.is_retired(
            GroupId::new(1),
            ReplicaAddress {
                store: 2,
                serial: 900
            }
            .id()
        )
    );
}

#[test]
fn a_plan_made_on_an_older_placement_is_refused() {
    let mut state = founded(4);
    let stale = SystemCommand::Place {
        epoch: state.epoch - 1,
        goals: Vec::new(),
    };
    assert!(matches!(state.change(stale), SystemOutcome::Refused { .. }));
}

#[test]
fn a_snapshot_restores_the_same_state() {
    let mut state = founded(4);
    state.change(SystemCommand::Admit(member("n2", 5)));
    assert_eq!(
        SystemState::decode(&state.encode(), BUILD_LEVEL).unwrap(),
        state
    );
}
