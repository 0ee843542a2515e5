//! What a plan says, what it refuses, and what it leaves alone.

use synod_consensus::Position;

use super::*;
use crate::evaluation::{import, snapshot_of};
use crate::storage::{RowWrite, StateRows};

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
fn a_system_log_of_a_newer_build_is_left_to_that_build() {
    // Passed over, it would be missing from what the plan rests on.
    let folder = stores(&[]);
    for store in [1, 2] {
        let directory = StoreDirectory::open(folder.path().join(format!("n{store}")), None);
        let mut log =
            SegmentedLog::open(Box::new(directory.unwrap().log().unwrap()), options()).unwrap();
        let system = log.replicas().into_iter();
        let key = system.min_by_key(|key| key.group).unwrap();
        let last = log.recover(key).unwrap().unwrap().entries.pop().unwrap();
        let newer = Entry {
            index: last.index.next(),
            payload: encode(&BTreeMap::from([("Rename", 7)])),
            ..last
        };
        log.write(&[(key, vec![Write::Append(vec![newer].into())])])
            .unwrap();
    }
    let before = bytes_of(folder.path());
    let refused = draw_up(folder.path()).unwrap_err();
    let sentence = refused.to_string();
    assert!(
        sentence.contains("n1") && sentence.contains("newer build"),
        "{sentence}"
    );
    assert!(
        !refused.is_wrong_use(),
        "the operator asked for the right thing"
    );
    assert!(bytes_of(folder.path()) == before, "a plan changed a file");
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
    let state = survey.system_state(&system).unwrap();
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

#[test]
fn a_founder_that_has_not_come_up_is_to_be_started_and_not_left_out() {
    let folder = stores(&[]);
    let path = folder.path().join("n3");
    std::fs::remove_dir_all(&path).unwrap_or_default();
    drop(StoreDirectory::open(&path, Some("n3")).unwrap());
    let refused = |path: &Path| {
        let stores = [paths(folder.path(), &[1, 2]), vec![path.to_path_buf()]].concat();
        Plan::draw_up(&stores, &names(&[4, 5])).unwrap_err()
    };
    assert!(matches!(refused(&path), RecoveryError::NotAdmitted { .. }));
    let kept = crate::node::chosen_alone("n3", &Bytes::from_static(b"key"));
    kept.write(&RealDisk::new(&path).unwrap()).unwrap();
    let said = refused(&path).to_string();
    assert!(said.contains("start its node first"), "{said}");
}

#[test]
fn a_store_whose_log_is_gone_is_to_be_left_out() {
    let folder = stores(&[]);
    let log = folder.path().join("n2/log");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let said = draw_up(folder.path()).unwrap_err().to_string();
    assert!(
        said.contains("its log is gone") && said.contains("leave it out"),
        "{said}"
    );
}

#[test]
fn a_copy_whose_rows_are_not_all_there_is_not_gone_on_with() {
    // Whoever is chosen is the only one that has the group: with rows missing it would begin again without them, in silence.
    let folder = stores(&[]);
    let path = folder.path().join("n1");
    let survey = || {
        let (lock, admission) = Survey::lock(&path).unwrap();
        Survey::of(lock, admission).unwrap()
    };
    let groups = [1, 5].map(GroupId::new);
    let keys = groups.map(|group| {
        let replica = survey().replicas[&group].0;
        ReplicaKey { group, replica }
    });
    let rows = StateRows::open(path.join("rows")).unwrap();
    for key in keys {
        let snapshot = snapshot_of(LogIndex::new(3), 20, 100);
        let mut staging = rows.stage(key.group);
        let put = |row: Vec<u8>, value| staging.put(&row, value).map_err(|error| error.to_string());
        let (index, head) = import(&snapshot[..], put).unwrap();
        let meta = SnapshotMeta {
            position: Position::new(Term::new(1), index),
            configuration: Configuration::of_voters([key.replica]),
            configuration_index: LogIndex::new(2),
        };
        rows.adopt(key, staging, meta, head).unwrap();
    }
    let [whole, torn] = keys;
    let (space, durable) = (rows.space(torn), rows.head(torn).unwrap());
    let (lost, _) = space.scan(b"").next().unwrap().unwrap();
    let write = RowWrite {
        key: torn,
        space,
        meta: durable.meta,
        head: durable.head,
        changes: vec![(lost.to_vec(), None)],
    };
    rows.put([write]).unwrap();
    rows.close();
    let survey = survey();
    let found = |key: ReplicaKey| survey.replicas[&key.group].1.as_ref();
    found(whole).expect("all of it is there");
    let reason = found(torn).expect_err("one row is gone");
    assert!(reason.contains("rows of 19 entities"), "{reason}");
}
