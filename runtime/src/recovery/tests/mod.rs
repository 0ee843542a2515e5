//! Recoveries of stores that were written by hand: five nodes, of which the first two survive.

mod interruptions;
mod plans;

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
use crate::system::{
    BUILD_LEVEL, Founding, MemberEntry, SystemCommand, SystemOutcome, SystemState,
};
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
        said.push((EntryKind::Normal, encode(&command)));
        state.take(state.applied.next(), command)
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
            level: BUILD_LEVEL,
            described: 0,
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
                Write::Append(entries.into()),
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
                    let state = survey.system_state(&survivor).unwrap();
                    states.push((survivor.last(), state));
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
