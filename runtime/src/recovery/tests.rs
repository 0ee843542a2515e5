//! Recoveries of stores that were written by hand: five nodes, of which the first two survive.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use synod_consensus::recovery::{self, Outlook, Survivor};
use synod_consensus::{
    Configuration, Entry, EntryKind, GroupId, HardState, LogIndex, LogStore, ReplicaId, ReplicaKey,
    SnapshotMeta, Term, Write,
};
use tempfile::TempDir;

use super::journal::{JournalError, before_start};
use super::plan::{Fate, store_of};
use super::survey::Survey;
use super::{Plan, RecoveryError};
use crate::storage::{Admission, Disk, LogOptions, RealDisk, SegmentedLog, StoreDirectory};
use crate::system::{Founding, MemberEntry, SystemCommand, SystemOutcome, SystemState};
use crate::wire::{Sharding, encode};

const SHARDS: u32 = 10;
const STORES: u64 = 5;
const CLUSTER: u128 = 0xC0FFEE;
const SHARDING: Sharding = Sharding {
    seed: 1,
    shards: SHARDS,
};

/// Shard `g` lives on the stores g, g + 1, g + 2, counted round.
fn stores_of(group: u64) -> [u64; 3] {
    [0, 1, 2].map(|more| (group + more + STORES - 1) % STORES + 1)
}

fn options() -> LogOptions {
    LogOptions {
        background: false,
        segment_bytes: 64 << 10,
        ..LogOptions::default()
    }
}

/// A log of term 1: `kinds` after a no-op.
fn log_of(after: Vec<(EntryKind, Bytes)>) -> Vec<Entry> {
    let noop = (EntryKind::Noop, Bytes::new());
    let numbered = (1..).zip(core::iter::once(noop).chain(after));
    numbered
        .map(|(index, (kind, payload))| Entry {
            term: Term::new(1),
            index: LogIndex::new(index),
            kind,
            payload,
        })
        .collect()
}

fn configuration(voters: impl IntoIterator<Item = ReplicaId>) -> (EntryKind, Bytes) {
    let voters = Configuration::of_voters(voters);
    (EntryKind::Configuration, voters.encode())
}

/// The stores n1 to n5 of one cluster; those listed in `behind` lack the last entry of each shard.
fn stores(behind: &[u64]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut state = SystemState::default();
    let mut said = Vec::new();
    let mut commit = |command: SystemCommand| {
        let payload = encode(&command);
        said.push((EntryKind::Normal, payload.clone()));
        state.apply(state.applied.next(), &payload)
    };
    commit(SystemCommand::Found(Founding {
        cluster: CLUSTER,
        sharding: SHARDING,
        copies: 3,
        name: "n1".to_owned(),
        key: Bytes::new(),
        others: Vec::new(),
    }));
    let mut system = vec![Founding::replica(GroupId::ZERO)];
    for store in 2..=STORES {
        let member = MemberEntry {
            name: format!("n{store}"),
            key: Bytes::new(),
            capacity: 1,
            zone: None,
            nonce: store,
        };
        match commit(SystemCommand::Admit(member)) {
            SystemOutcome::Admitted { replica, .. } => system.push(replica),
            other => panic!("{other:?}"),
        }
    }
    let mut shards: BTreeMap<GroupId, Vec<ReplicaId>> = BTreeMap::new();
    for group in (1..=u64::from(SHARDS)).map(GroupId::new) {
        let stores = stores_of(group.get());
        for store in stores {
            match commit(SystemCommand::Allot { group, store }) {
                SystemOutcome::Allotted { replica } => {
                    shards.entry(group).or_default().push(replica);
                }
                other => panic!("{other:?}"),
            }
        }
        if !stores.contains(&1) {
            let replica = Founding::replica(group);
            commit(SystemCommand::Retire { group, replica });
        }
    }
    let founder = system[0];
    let mut groups = vec![(GroupId::ZERO, founder, system.clone(), {
        let mut after = vec![configuration(system)];
        after.extend(said);
        log_of(after)
    })];
    for (group, replicas) in shards {
        let payloads = ["a", "b", "c"].map(|text| (EntryKind::Normal, Bytes::from(text)));
        let mut after = vec![configuration(replicas.clone())];
        after.extend(payloads);
        groups.push((group, Founding::replica(group), replicas, log_of(after)));
    }
    for store in 1..=STORES {
        let name = format!("n{store}");
        let path = folder.path().join(&name);
        let mut directory = StoreDirectory::open(&path, Some(&name)).unwrap();
        let admission = Admission {
            cluster: CLUSTER,
            store,
            sharding: SHARDING,
        };
        directory.admit(admission).unwrap();
        let mut log = SegmentedLog::open(Box::new(directory.log().unwrap()), options()).unwrap();
        for (group, founder, replicas, entries) in &groups {
            let Some(replica) = replicas.iter().find(|id| store_of(**id) == store) else {
                continue;
            };
            let to = match replica == founder {
                true => SnapshotMeta::founding(Configuration::of_voters([*founder])),
                false => SnapshotMeta::default(),
            };
            let mut entries = entries.clone();
            if behind.contains(&store) && *group != GroupId::ZERO {
                entries.pop();
            }
            let state = HardState {
                term: Term::new(1),
                vote: None,
                commit: LogIndex::new(entries.len() as u64 - 1),
            };
            let key = ReplicaKey {
                group: *group,
                replica: *replica,
            };
            let writes = vec![
                Write::Reset { to },
                Write::HardState(state),
                Write::Append(entries),
            ];
            log.write(&[(key, writes)]).unwrap();
        }
    }
    folder
}

fn paths(folder: &Path, stores: &[u64]) -> Vec<PathBuf> {
    let path = |store: &u64| folder.join(format!("n{store}"));
    stores.iter().map(path).collect()
}

fn names(stores: &[u64]) -> Vec<String> {
    stores.iter().map(|store| format!("n{store}")).collect()
}

fn draw_up(folder: &Path) -> Result<Plan, RecoveryError> {
    Plan::draw_up(&paths(folder, &[1, 2]), &names(&[3, 4, 5]))
}

fn confirm(mut plan: Plan, accept_empty: bool) -> Result<(), RecoveryError> {
    let confirmation = plan.confirmation();
    plan.carry_out(&confirmation, accept_empty)
}

/// Every file below a directory, with its bytes.
fn bytes_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_of(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// What a recovery must leave behind on n1 and n2.
fn check_recovered(folder: &Path) {
    let mut surveys: Vec<Survey> = paths(folder, &[1, 2])
        .iter()
        .map(|path| {
            before_start(&RealDisk::new(path).unwrap()).unwrap();
            let (lock, admission) = Survey::lock(path).unwrap();
            Survey::of(lock, admission).unwrap()
        })
        .collect();
    let mut states = Vec::new();
    for group in (0..=u64::from(SHARDS)).map(GroupId::new) {
        let lost = [3, 4, 5].map(|store| stores_of(group.get()).contains(&store));
        let mut survivors: Vec<Survivor> = Vec::new();
        for survey in &mut surveys {
            if let Some(survivor) = survey.take_survivor(group) {
                if group == GroupId::ZERO {
                    states.push((survivor.last(), survey.system_state(&survivor)));
                }
                survivors.push(survivor);
            }
        }
        let heir = match recovery::assess(group, &survivors).unwrap() {
            Outlook::Lives { heir } => heir,
            other => panic!("group {group}: {other:?}"),
        };
        let chosen = survivors.iter().find(|s| s.replica() == heir).unwrap();
        let members = chosen.configuration().members();
        let left_alone = group != GroupId::ZERO && lost.iter().filter(|lost| **lost).count() < 2;
        assert_eq!(members.len(), if left_alone { 3 } else { survivors.len() });
        if !left_alone {
            assert_eq!(chosen.configuration().voters, [heir].into());
        }
        let (_, state) = states.iter().max_by_key(|(last, _)| *last).unwrap();
        assert!(
            survivors
                .iter()
                .all(|survivor| state.groups[&group].replicas.contains(&survivor.replica())),
            "group {group}"
        );
        assert!(
            members
                .iter()
                .all(|member| !state.is_retired(group, *member)),
            "group {group}"
        );
    }
    let (_, state) = states.iter().max_by_key(|(last, _)| *last).unwrap();
    assert_eq!(state.given_up().collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(
        state.members.keys().copied().collect::<Vec<_>>(),
        [1, 2],
        "the log says who was given up"
    );
    let recovery = &state.recoveries[0];
    assert_eq!(state.recoveries.len(), 1);
    // Shards 1 and 5 mod 5 have two copies on n1 and n2; 3 mod 5 has none; the others have one.
    assert_eq!((recovery.reformed, recovery.emptied), (5, 2));
}

#[test]
fn a_plan_says_everything_and_changes_nothing() {
    let folder = stores(&[2]);
    let before = bytes_of(folder.path());
    let mut plan = draw_up(folder.path()).unwrap();
    let text = plan.report();
    assert_eq!(plan.emptied(), 2);
    for part in [
        "survivors: n1 (store 1), n2 (store 2)",
        "given up for ever: n3 (store 3), n4 (store 4), n5 (store 5)",
        "MAY BE LOST: in 5 groups",
        "WILL TAKE EFFECT: 5 entries of the log",
        "IS LOST: everything in 2 shards",
        "LEFT ALONE: 4 groups that have",
        "n3, n4, n5",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let fates: BTreeSet<(u64, u64)> = plan
        .groups
        .iter()
        .map(|plan| match &plan.fate {
            Fate::Reformed { recovery, .. } => (plan.group.get(), store_of(recovery.chosen)),
            Fate::Emptied { .. } => (plan.group.get(), 0),
        })
        .collect();
    assert_eq!(
        fates,
        [(0, 1), (2, 2), (3, 0), (4, 1), (7, 2), (8, 0), (9, 1)].into()
    );
    // Not without the right words.
    let refused = plan.carry_out("c0ffef", true).unwrap_err();
    assert!(matches!(refused, RecoveryError::Unconfirmed { .. }));
    let refused = plan.carry_out(&plan.confirmation(), false).unwrap_err();
    assert!(matches!(
        refused,
        RecoveryError::EmptyUnconfirmed { groups: 2 }
    ));
    drop(plan);
    assert!(bytes_of(folder.path()) == before, "a plan changed a file");
}

#[test]
fn a_crash_anywhere_leaves_what_the_same_command_finishes() {
    let mut most = 0;
    for limit in 0.. {
        let folder = stores(&[1]);
        let mut plan = draw_up(folder.path()).unwrap();
        let done = plan.carry_out_until(Some(limit)).unwrap();
        drop(plan);
        // No store that was changed and is not finished starts a node, and none starts while another waits to be changed.
        let changed: Vec<bool> = paths(folder.path(), &[1, 2])
            .iter()
            .map(|path| {
                let disk = RealDisk::new(path.join("log")).unwrap();
                let log = SegmentedLog::open(Box::new(disk), options()).unwrap();
                let new = |key: &ReplicaKey| key.replica.get() & 0xffff_ffff > 1 << 16;
                log.replicas().iter().any(new)
            })
            .collect();
        for path in paths(folder.path(), &[1, 2]) {
            let root = RealDisk::new(&path).unwrap();
            let blocked = matches!(
                before_start_of_a_copy(&root),
                Err(JournalError::Unfinished { .. })
            );
            let all_changed = changed.iter().all(|changed| *changed);
            assert!(
                blocked || all_changed || !changed.contains(&true),
                "after {done} steps"
            );
        }
        match draw_up(folder.path()) {
            Ok(plan) => confirm(plan, true).unwrap(),
            // It came to its end: the lost are no members any more.
            Err(RecoveryError::NoMember { .. }) => {}
            Err(error) => panic!("after {done} steps: {error}"),
        }
        check_recovered(folder.path());
        if done < limit {
            most = done;
            break;
        }
    }
    assert!(most > 8, "{most} steps");
}

/// Asks what a start would be told, without taking a prepared recovery back.
fn before_start_of_a_copy(disk: &RealDisk) -> Result<(), JournalError> {
    let copy = tempfile::tempdir().unwrap();
    let disk_of_copy = RealDisk::new(copy.path()).unwrap();
    for name in disk.list().unwrap() {
        std::fs::copy(disk.path().join(&name), copy.path().join(&name)).unwrap();
    }
    before_start(&disk_of_copy)
}

#[test]
fn a_node_that_starts_takes_a_prepared_recovery_back_and_no_begun_one() {
    let folder = stores(&[]);
    let store = RealDisk::new(folder.path().join("n1")).unwrap();
    let mut plan = draw_up(folder.path()).unwrap();
    assert_eq!(plan.carry_out_until(Some(2)).unwrap(), 2);
    drop(plan);
    before_start(&store).unwrap();
    // Planned anew, for nothing was changed.
    let mut plan = draw_up(folder.path()).unwrap();
    assert!(!plan.resumed);
    assert_eq!(plan.carry_out_until(Some(3)).unwrap(), 3);
    drop(plan);
    assert!(matches!(
        before_start(&store),
        Err(JournalError::Unfinished { .. })
    ));
    // The other, still prepared, takes its mark away by starting: nothing had changed, so the plan is made anew.
    let other = RealDisk::new(folder.path().join("n2")).unwrap();
    before_start(&other).unwrap();
    for limit in 0..3 {
        let mut plan = draw_up(folder.path()).unwrap();
        assert!(!plan.resumed);
        plan.carry_out_until(Some(limit)).unwrap();
    }
    confirm(draw_up(folder.path()).unwrap(), true).unwrap();
    check_recovered(folder.path());
}

#[test]
fn a_store_put_back_from_a_copy_does_not_undo_a_recovery_that_has_changed_another() {
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    // Two marks prepared, two begun, and n1 has begun to change.
    assert_eq!(plan.carry_out_until(Some(5)).unwrap(), 5);
    drop(plan);
    std::fs::remove_file(folder.path().join("n2/recovery")).unwrap();
    let refused = draw_up(folder.path()).unwrap_err();
    assert!(
        matches!(refused, RecoveryError::Foreign { .. }),
        "{refused}"
    );
}

#[test]
fn a_recovery_that_was_begun_is_finished_only_by_its_own_words() {
    let folder = stores(&[]);
    let mut plan = draw_up(folder.path()).unwrap();
    let confirmation = plan.confirmation();
    assert_eq!(plan.carry_out_until(Some(5)).unwrap(), 5);
    drop(plan);
    let refused = Plan::draw_up(&paths(folder.path(), &[1]), &names(&[3, 4, 5])).unwrap_err();
    assert!(
        refused.to_string().contains("needs the stores of n2 too"),
        "{refused}"
    );
    let refused = Plan::draw_up(&paths(folder.path(), &[1, 2]), &names(&[3, 4])).unwrap_err();
    assert!(
        refused.to_string().contains("(--lost n3,n4,n5)"),
        "{refused}"
    );
    let mut plan = draw_up(folder.path()).unwrap();
    assert!(plan.resumed);
    assert_eq!(plan.confirmation(), confirmation, "the plan is the same");
    let refused = plan.carry_out(&confirmation, false).unwrap_err();
    assert!(matches!(refused, RecoveryError::EmptyUnconfirmed { .. }));
    plan.carry_out(&confirmation, true).unwrap();
    drop(plan);
    check_recovered(folder.path());
}

#[test]
fn only_what_was_read_confirms_a_plan() {
    let folder = stores(&[]);
    let first = draw_up(folder.path()).unwrap().confirmation();
    assert_eq!(first, draw_up(folder.path()).unwrap().confirmation());
    // Another cluster's stores, shorter by an entry on n2.
    let other = stores(&[2]);
    let mut plan = draw_up(other.path()).unwrap();
    let refused = plan.carry_out(&first, true).unwrap_err();
    assert!(matches!(refused, RecoveryError::Unconfirmed { .. }));
}

#[test]
fn a_store_that_could_not_be_read_is_not_advised_to_be_left_out() {
    let folder = stores(&[]);
    // The log is no directory: the disk refuses to list it.
    let log = folder.path().join("n2/log");
    std::fs::rename(&log, folder.path().join("kept")).unwrap();
    std::fs::write(&log, b"").unwrap();
    let refused = draw_up(folder.path()).unwrap_err().to_string();
    assert!(
        refused.contains("nothing was decided") && !refused.contains("leave it out"),
        "{refused}"
    );
}

#[test]
fn wrong_words_are_refused_in_one_sentence() {
    let folder = stores(&[]);
    let before = bytes_of(folder.path());
    let other = tempfile::tempdir().unwrap();
    let mut stranger = StoreDirectory::open(other.path().join("m1"), Some("m1")).unwrap();
    let admission = Admission {
        cluster: 7,
        store: 1,
        sharding: SHARDING,
    };
    stranger.admit(admission).unwrap();
    drop(stranger);
    let empty = other.path().join("m2");
    drop(StoreDirectory::open(&empty, Some("m2")).unwrap());
    let with = |mut paths: Vec<PathBuf>, more: PathBuf| {
        paths.push(more);
        paths
    };
    let two = || paths(folder.path(), &[1, 2]);
    let lost = || names(&[3, 4, 5]);
    let cases: Vec<(&str, Vec<PathBuf>, Vec<String>)> = vec![
        ("no store was given", Vec::new(), lost()),
        ("there is no store", vec![folder.path().join("n9")], lost()),
        ("belongs to no cluster", vec![empty], lost()),
        ("given twice", with(two(), folder.path().join("n1")), lost()),
        (
            "belongs to the cluster",
            with(two(), other.path().join("m1")),
            lost(),
        ),
        ("no member `n7`", two(), names(&[3, 4, 5, 7])),
        ("n2 cannot be lost", two(), names(&[2, 3, 4, 5])),
        ("nothing was said of n4, n5", two(), names(&[3])),
        (
            "every group can still elect",
            paths(folder.path(), &[1, 2, 3, 4, 5]),
            Vec::new(),
        ),
    ];
    for (part, stores, lost) in cases {
        let refused = Plan::draw_up(&stores, &lost).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
        assert!(refused.is_wrong_use(), "{refused}");
    }
    let running = StoreDirectory::open(folder.path().join("n2"), None).unwrap();
    let refused = draw_up(folder.path()).unwrap_err();
    assert!(
        refused.to_string().contains("in use by another process") && refused.is_wrong_use(),
        "{refused}"
    );
    drop(running);
    let after = bytes_of(folder.path());
    let identity = folder.path().join("n2/identity"); // a start was counted
    for (path, bytes) in before.iter().filter(|(path, _)| **path != identity) {
        assert!(after[path] == *bytes, "{}", path.display());
    }
}

#[test]
fn a_system_group_with_its_majority_loses_nothing_when_shards_are_recovered() {
    // Only n4 and n5 are lost: three of five of the system group are there, shards 4 and 9 have one copy of three.
    let folder = stores(&[]);
    let stores = paths(folder.path(), &[1, 2, 3]);
    let plan = Plan::draw_up(&stores, &names(&[4, 5])).unwrap();
    assert!(plan.report().contains("NOT LOST: the system group"));
    let groups: Vec<u64> = plan.groups.iter().map(|plan| plan.group.get()).collect();
    assert_eq!(groups, [0, 3, 4, 8, 9]);
    confirm(plan, false).unwrap();
    // Done is done: the same words mean nobody now.
    let again = Plan::draw_up(&stores, &names(&[4, 5])).unwrap_err();
    assert!(matches!(again, RecoveryError::NoMember { .. }), "{again}");
    let again = Plan::draw_up(&stores, &[]).unwrap_err();
    assert!(matches!(again, RecoveryError::NothingLost), "{again}");
}

/// The payloads that a store holds of every shard.
fn payloads_of(store: &Path) -> BTreeMap<GroupId, Vec<Bytes>> {
    let (lock, admission) = Survey::lock(store).unwrap();
    let mut survey = Survey::of(lock, admission).unwrap();
    let groups = (1..=u64::from(SHARDS)).map(GroupId::new);
    let held = groups.filter_map(|group| {
        let entries = survey.take_survivor(group)?.entries();
        let normal = entries.into_iter().filter(|e| e.kind == EntryKind::Normal);
        Some((group, normal.map(|entry| entry.payload).collect()))
    });
    held.collect()
}

#[test]
fn what_an_earlier_recovery_renamed_is_not_retired_by_a_system_log_that_does_not_list_it() {
    // H78: a replica id that a system state has not heard of is not retired.
    let folder = stores(&[2]);
    let mut plan = draw_up(folder.path()).unwrap();
    let first_end = (plan.head.next_store, plan.head.next_serial);
    plan.carry_out_until(None).unwrap();
    drop(plan);
    let second = folder.path().join("n2");
    let held = payloads_of(&second);
    // Left as they were: 1, 5, 6, 10. Renamed: 2, 7. Born: 3 or 8.
    assert!(held.len() >= 7, "{held:?}");
    // The store whose system log lists the new names is lost before the other has heard of them.
    let lost = names(&[1, 3, 4, 5]);
    let mut plan = Plan::draw_up(core::slice::from_ref(&second), &lost).unwrap();
    for plan in &plan.groups {
        let is_emptied = matches!(plan.fate, Fate::Emptied { .. });
        let is_held = plan.group == GroupId::ZERO || held.contains_key(&plan.group);
        assert_eq!(is_emptied, !is_held, "{plan:?}");
    }
    assert!(
        plan.report().contains("NOT LOST: 3 shards with a majority"),
        "{}",
        plan.report()
    );
    assert!(first_end.0 < plan.head.next_store && first_end.1 < plan.head.next_serial);
    plan.carry_out_until(None).unwrap();
    drop(plan);

    let after = payloads_of(&second);
    for (group, payloads) in &held {
        assert_eq!(after.get(group), Some(payloads), "group {group}");
    }
    let (lock, admission) = Survey::lock(&second).unwrap();
    let mut survey = Survey::of(lock, admission).unwrap();
    let system = survey.take_survivor(GroupId::ZERO).unwrap();
    let state = survey.system_state(&system);
    assert_eq!(state.members.keys().copied().collect::<Vec<_>>(), [2]);
    for group in (1..=u64::from(SHARDS)).map(GroupId::new) {
        let survivor = survey.take_survivor(group).unwrap();
        let me = survivor.replica();
        assert!(state.groups[&group].replicas.contains(&me), "group {group}");
        assert!(!state.is_retired(group, me), "group {group}");
        assert_eq!(
            recovery::heir(&[survivor]),
            Some(me),
            "group {group} decides alone"
        );
    }
}

#[test]
fn a_shard_does_not_begin_anew_while_a_copy_that_cannot_be_used_is_left() {
    let folder = stores(&[]);
    // Shard 2 is on n2 alone of the two, shard 1 on both.
    let n2 = folder.path().join("n2");
    let of = |group| {
        let (lock, admission) = Survey::lock(&n2).unwrap();
        Survey::of(lock, admission).unwrap().replicas[&GroupId::new(group)].0
    };
    let stop = |groups: &[u64]| {
        let stopped: BTreeMap<GroupId, ReplicaId> = groups
            .iter()
            .map(|group| (GroupId::new(*group), of(*group)))
            .collect();
        let disk = RealDisk::new(&n2).unwrap();
        crate::storage::write_sealed(&disk, crate::node::LOST, &encode(&stopped)).unwrap();
    };
    stop(&[1]);
    let plan = draw_up(folder.path()).unwrap();
    let text = plan.report();
    let line = "NOT USED: the copy of shard 0 on n2: it had stopped for good.";
    assert!(text.contains(line), "{text}");
    drop(plan);
    stop(&[1, 2]);
    let refused = draw_up(folder.path()).unwrap_err();
    assert!(
        refused.to_string().contains("the copy of shard 1 on n2") && refused.is_wrong_use(),
        "{refused}"
    );
}
