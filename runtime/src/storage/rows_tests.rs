//! Whatever the process dies of, and wherever, a replica has its former rows or its new ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use synod_consensus::{
    Configuration, GroupId, LogIndex, Position, ReplicaId, ReplicaKey, SnapshotMeta, Term,
};
use xxhash_rust::xxh3::Xxh3;

use super::rows::{RowWrite, StateRows};
use super::rows_journal::mend;
use super::rows_look::{forget_look, look_at_rows};
use super::rows_read::RowSpace;
use super::rows_tree::RowsError;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn key(group: u64, replica: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: ReplicaId::new(replica),
    }
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(1), LogIndex::new(index)),
        ..SnapshotMeta::founding(Configuration::of_voters([ReplicaId::new(1)]))
    }
}

fn head(index: u64) -> Bytes {
    Bytes::from(index.to_string())
}

pub(super) fn write(
    key: ReplicaKey,
    space: &RowSpace,
    index: u64,
    rows: &[(&str, Option<&str>)],
) -> RowWrite {
    let changes = rows.iter().map(|(row, value)| {
        let value = value.map(|value| value.as_bytes().to_vec());
        (row.as_bytes().to_vec(), value)
    });
    RowWrite {
        key,
        space: space.clone(),
        meta: meta(index),
        head: head(index),
        changes: changes.collect(),
    }
}

fn rows_of(space: &RowSpace) -> State {
    let rows = space.scan(b"").map(|row| row.unwrap());
    rows.map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// What a restart finds of a replica.
fn found(rows: &StateRows, key: ReplicaKey) -> Option<(u64, State)> {
    let head = rows.head(key)?;
    let index = head.meta.position.index.get();
    assert_eq!(head.head, index.to_string(), "one write");
    Some((index, rows_of(&rows.space(key))))
}

fn state(rows: &[(&str, &str)]) -> State {
    let rows = rows.iter();
    rows.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

fn sweep_all(rows: &StateRows) {
    while rows.sweep(1).unwrap() {}
    assert_eq!(rows.going(), 0);
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let (one, other) = (key(1, 1), key(2, 1));
    assert_eq!(found(&rows, one), None);
    let (near, far) = (rows.space(one), rows.space(other));
    let first = write(one, &near, 5, &[("a", Some("1")), ("b", Some("2"))]);
    let second = write(other, &far, 7, &[("a", Some("3"))]);
    let done = rows.put(vec![first, second]).unwrap();
    assert_eq!(done, [(one, LogIndex::new(5)), (other, LogIndex::new(7))]);
    let third = write(one, &near, 6, &[("a", None), ("c", Some(""))]);
    rows.put(vec![third]).unwrap();
    drop((near, far, rows));
    let rows = StateRows::open(folder.path()).unwrap();
    assert_eq!(rows.replicas(), [one, other]);
    let expected = state(&[("b", "2"), ("c", "")]);
    assert_eq!(found(&rows, one), Some((6, expected)));
    assert_eq!(found(&rows, other), Some((7, state(&[("a", "3")]))));
    assert_eq!(rows.space(one).get(b"a").unwrap(), None);
}

#[test]
fn a_replica_that_is_made_anew_reads_nothing_of_the_former() {
    // H77: the former's rows are still going when the next one, or the same id again, is made.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let former = rows.space(key(1, 1));
    rows.put(vec![write(
        key(1, 1),
        &former,
        5,
        &[("a", Some("old")), ("b", Some("old"))],
    )])
    .unwrap();
    rows.remove(key(1, 1)).unwrap();
    for replica in [1, 2] {
        let space = rows.space(key(1, replica));
        assert_eq!(space.get(b"a").unwrap(), None);
        rows.put(vec![write(
            key(1, replica),
            &space,
            1,
            &[("b", Some("new"))],
        )])
        .unwrap();
        assert_eq!(rows_of(&space), state(&[("b", "new")]));
    }
    // One of before that comes late is not written: its space is going.
    let late = write(key(1, 3), &former, 9, &[("z", Some("old"))]);
    assert_eq!(rows.put(vec![late]).unwrap(), []);
    assert!(!rows.sweep(10).unwrap(), "it is still read");
    assert_eq!(rows_of(&former).len(), 2);
    drop(former);
    sweep_all(&rows);
    for replica in [1, 2] {
        let space = rows.space(key(1, replica));
        assert_eq!(rows_of(&space), state(&[("b", "new")]));
    }
}

#[test]
fn a_checkpoint_of_a_state_that_was_replaced_is_left_out() {
    // A snapshot was taken over while the checkpoint of the former state was waiting.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let former = rows.space(key(1, 1));
    rows.put(vec![write(key(1, 1), &former, 5, &[("a", Some("1"))])])
        .unwrap();
    let waiting = write(key(1, 1), &former, 6, &[("a", Some("2"))]);
    let mut staging = rows.stage(GroupId::new(1));
    staging.put(b"b", b"9".to_vec()).unwrap();
    rows.adopt(key(1, 1), staging, meta(9), head(9)).unwrap();
    assert_eq!(rows.put(vec![waiting]).unwrap(), []);
    assert_eq!(found(&rows, key(1, 1)), Some((9, state(&[("b", "9")]))));
    assert_eq!(rows_of(&former), state(&[("a", "1")]), "who still reads it");
    let older = write(key(1, 1), &rows.space(key(1, 1)), 8, &[("b", None)]);
    assert_eq!(rows.put(vec![older]).unwrap(), []);
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let here = key(1, 1);
    let space = rows.space(here);
    let all: Vec<String> = (0..500).map(|row| format!("{row:03}")).collect();
    let some: Vec<_> = all.iter().map(|row| (row.as_str(), Some("old"))).collect();
    rows.put(vec![write(here, &space, 5, &some)]).unwrap();
    let view = rows.view(here).unwrap().unwrap();
    let mut scanned = view.scan(b"");
    assert_eq!(scanned.next().unwrap().unwrap().1, "old");
    let gone: Vec<_> = all.iter().map(|row| (row.as_str(), None)).collect();
    rows.put(vec![write(here, &space, 6, &gone)]).unwrap();
    drop(space);
    rows.remove(here).unwrap();
    sweep_all(&rows);
    assert_eq!(view.head().meta.position.index.get(), 5);
    assert!(scanned.all(|row| row.unwrap().1 == "old"));
    assert_eq!(view.scan(b"4").count(), 100);
    assert!(rows.view(here).unwrap().is_none());
}

#[test]
fn what_is_said_to_be_durable_was_synced_whatever_was_left_out_behind_it() {
    // E28: on the word of it the log is compacted. The first fills a commit, and of the second nothing is wanted any more.
    let large = "v".repeat(1 << 20);
    for steps in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let rows = StateRows::open(folder.path()).unwrap();
        let (one, other) = (key(1, 1), key(2, 1));
        let former = rows.space(other);
        rows.put([write(other, &former, 5, &[("a", Some("1"))])])
            .unwrap();
        rows.remove(other).unwrap();
        let first = write(one, &rows.space(one), 5, &[("a", Some(large.as_str()))]);
        let stale = write(other, &former, 6, &[("a", Some("2"))]);
        // The commit, and then its sync.
        rows.fail_after(steps);
        let done = rows.put([first, stale]);
        match steps {
            1 => assert!(done.is_err(), "it was not synced"),
            _ => assert_eq!(done.unwrap(), [(one, LogIndex::new(5))]),
        }
    }
}

#[test]
fn what_waited_while_a_write_failed_fails_too() {
    // The first error is sticky, also for those that had asked before.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let still = rows.hold();
    rows.fail_after(0);
    let (begun, begins) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let put = |group| {
            let (begun, rows) = (begun.clone(), &rows);
            scope.spawn(move || {
                let write = write(key(group, 1), &rows.space(key(group, 1)), 1, &[]);
                begun.send(()).unwrap();
                rows.put([write])
            })
        };
        let puts = [put(1), put(2), put(3)];
        for _ in &puts {
            begins.recv().unwrap();
        }
        // What they do between that and their turn nobody can see; the claim holds wherever they are.
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(still);
        for put in puts {
            assert!(put.join().unwrap().is_err());
        }
    });
}

/// One life of a store, which ends at the commit at which the seam strikes. `Err`: there.
fn life(rows: &StateRows) -> Result<(), RowsError> {
    let here = key(1, 1);
    let space = rows.space(here);
    let first = write(here, &space, 5, &[("a", Some("1")), ("b", Some("1"))]);
    let beside = write(key(2, 1), &rows.space(key(2, 1)), 3, &[("a", Some("1"))]);
    rows.put(vec![first, beside])?;
    rows.put(vec![write(
        here,
        &space,
        6,
        &[("a", None), ("c", Some("2"))],
    )])?;
    let mut staging = rows.stage(here.group);
    for row in 0..3_000 {
        // Some commits of staged rows.
        staging.put(format!("{row:05}").as_bytes(), vec![7; 1_000])?;
    }
    drop(space);
    rows.adopt(here, staging, meta(9), head(9))?;
    while rows.sweep(1)? {}
    rows.remove(key(2, 1))?;
    while rows.sweep(1)? {}
    rows.also_as(here, ReplicaId::new(4))?;
    rows.remove(here)?;
    while rows.sweep(1)? {}
    Ok(())
}

/// Looks at a store after the end of a life; which of the states a replica may be in it was in.
fn judge(path: &Path) -> usize {
    let rows = StateRows::open(path).unwrap();
    let snapshot: State = (0..3_000)
        .map(|row| (format!("{row:05}").into_bytes(), vec![7; 1_000]))
        .collect();
    let states = [
        None,
        Some((5, state(&[("a", "1"), ("b", "1")]))),
        Some((6, state(&[("b", "1"), ("c", "2")]))),
        Some((9, snapshot)),
    ];
    let here = found(&rows, key(1, 1)).or_else(|| found(&rows, key(1, 4)));
    let place = states.iter().position(|state| *state == here);
    let place = place.unwrap_or_else(|| panic!("neither the former state nor the new one"));
    let beside = found(&rows, key(2, 1));
    assert!(beside.is_none() || beside == Some((3, state(&[("a", "1")]))));
    // What nobody has any more goes, all of it and nothing else.
    sweep_all(&rows);
    let here = found(&rows, key(1, 1)).or_else(|| found(&rows, key(1, 4)));
    assert_eq!(here, states[place]);
    assert_eq!(found(&rows, key(2, 1)), beside);
    for key in rows.replicas() {
        rows.remove(key).unwrap();
    }
    sweep_all(&rows);
    assert!(rows.is_empty(), "rows that nobody has");
    place
}

#[test]
fn a_crash_between_any_two_commits_leaves_the_former_state_or_the_new_one() {
    // E28, H66, H77.
    let mut seen = [0; 4];
    for commits in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let rows = StateRows::open(folder.path()).unwrap();
        rows.fail_after(commits);
        let ended = life(&rows);
        if ended.is_err() {
            // The first error is sticky: what failed once is not tried again.
            rows.fail_after(u64::MAX);
            let refused = rows.put(vec![write(key(3, 1), &rows.space(key(3, 1)), 1, &[])]);
            assert!(refused.is_err());
        }
        drop(rows);
        seen[judge(folder.path())] += 1;
        if ended.is_ok() {
            break;
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn a_journal_that_ends_anywhere_gives_a_state_that_there_was() {
    // A power cut takes what was not synced: of the journal any end, also the middle of a commit.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let space = rows.space(key(1, 1));
    for index in 1..=20 {
        let value = index.to_string();
        let changes: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|row| (row, Some(value.as_str())))
            .collect();
        rows.put(vec![write(key(1, 1), &space, index, &changes)])
            .unwrap();
    }
    drop((space, rows));
    let journal = journal_in(folder.path());
    let mut whole = std::fs::read(&journal).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    whole.resize(end + 500, 0); // zeros as far as the file was made, if it was
    let mut seen = std::collections::BTreeSet::new();
    // Cut off there, or only a hole there, or other bytes: what lies behind may have reached the disk.
    let cuts = (0..=end).rev().step_by(101);
    for (cut, hole) in cuts.flat_map(|cut| [(cut, 0), (cut, 16), (cut, 400)]) {
        let mut torn = whole.clone();
        match hole {
            0 => torn[cut..].fill(0),
            16 => torn[cut..cut + 16].fill(0xff),
            hole => torn[cut..cut + hole].fill(0),
        }
        std::fs::write(&journal, &torn).unwrap();
        let rows = StateRows::open(folder.path()).unwrap();
        match found(&rows, key(1, 1)) {
            None => seen.insert(0),
            Some((index, state)) => {
                let value = index.to_string().into_bytes();
                assert_eq!(state.len(), 4);
                assert!(state.values().all(|found| *found == value), "a mixture");
                seen.insert(index)
            }
        };
        drop(rows);
    }
    assert!(seen.len() > 10, "{seen:?}");
}

/// The only journal in a store.
fn journal_in(path: &Path) -> PathBuf {
    let files = files_below(path).into_iter();
    let mut journals = files.filter(|file| file.extension().is_some_and(|end| end == "jnl"));
    journals.next().expect("there is a journal")
}

#[test]
fn a_journal_of_another_program_is_refused_and_stays_as_it_is() {
    // A program with the tree's compression wrote on; cut away, commits that were synced would be gone without a word.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let space = rows.space(key(1, 1));
    let first = write(key(1, 1), &space, 5, &[("a", Some("1"))]);
    rows.put([first]).unwrap();
    drop((space, rows));
    let journal = journal_in(folder.path());
    let mut whole = std::fs::read(&journal).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    whole.resize(end + 500, 0);
    let commit = |item: &[u8], trailer: &[u8]| {
        let mut checksum = Xxh3::new();
        checksum.update(item);
        let start = [&[1][..], &1_u32.to_le_bytes(), &99_u64.to_le_bytes()].concat();
        let closing = [&[3][..], &checksum.digest().to_le_bytes(), trailer].concat();
        [start, item.to_vec(), closing].concat()
    };
    let item = |compression: u8, length: u32, stored: &[u8]| {
        let stored_length = u32::try_from(stored.len()).unwrap().to_le_bytes();
        let head = [2, 0, compression];
        let (keyspace, key_length) = (1_u64.to_le_bytes(), 1_u16.to_le_bytes());
        let lengths = [length.to_le_bytes(), stored_length].concat();
        [&head[..], &keyspace, &key_length, &lengths, b"k", stored].concat()
    };
    let clear = [&[4][..], &1_u64.to_le_bytes()].concat();
    let foreign = [
        (
            "a compressed value",
            commit(&item(1, 9_000, b"short"), b"FJL\x03"),
        ),
        ("clears a keyspace", commit(&clear, b"FJL\x03")),
        ("another version", commit(&item(0, 5, b"plain"), b"FJL\x04")),
    ];
    let behind = |commit: &[u8]| {
        let mut bytes = whole.clone();
        bytes[end..end + commit.len()].copy_from_slice(commit);
        bytes
    };
    for (what, commit) in foreign {
        let written = behind(&commit);
        std::fs::write(&journal, &written).unwrap();
        let error = StateRows::open(folder.path()).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.contains(what) && sentence.contains("nothing was changed"),
            "{sentence}"
        );
        assert!(
            std::fs::read(&journal).unwrap() == written,
            "{what}: it was changed"
        );
        // The same, half-way there: nobody was told that it is durable.
        let torn = behind(&commit[..commit.len() - 6]);
        std::fs::write(&journal, &torn).unwrap();
        let rows = StateRows::open(folder.path()).unwrap();
        assert_eq!(found(&rows, key(1, 1)), Some((5, state(&[("a", "1")]))));
    }
}

#[test]
fn a_look_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let look = || look_at_rows(&path, |view| view.head().clone()).unwrap();
    assert!(look().is_empty(), "nothing is there");
    let rows = StateRows::open(&path).unwrap();
    life(&rows).unwrap();
    let expected = rows.head(key(1, 4));
    drop(rows);
    let before: Vec<_> = files_below(folder.path())
        .into_iter()
        .map(|file| (std::fs::read(&file).unwrap(), file))
        .collect();
    // One that was interrupted left its copy.
    let copy = path.with_extension("look");
    std::fs::create_dir_all(copy.join("tables")).unwrap();
    let looked = look();
    assert_eq!(looked.get(&key(1, 4)).cloned(), expected);
    assert_eq!(looked.len(), 1);
    let after: Vec<_> = files_below(folder.path())
        .into_iter()
        .map(|file| (std::fs::read(&file).unwrap(), file))
        .collect();
    assert!(before == after);
    assert!(!copy.exists());
    std::fs::create_dir_all(copy.join("tables")).unwrap();
    forget_look(&path).unwrap();
    assert!(!copy.exists() && path.exists());
    forget_look(&path).unwrap();
}

const VALUE: [u8; 100] = [b'v'; 100];

/// 2,000 rows of one replica in files, one block of which is damaged; and their names.
fn damaged_rows() -> (tempfile::TempDir, StateRows, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let space = rows.space(key(1, 1));
    let names: Vec<String> = (0..2_000).map(|row| format!("{row:05}")).collect();
    let value = std::str::from_utf8(&VALUE).unwrap();
    let changes: Vec<_> = names
        .iter()
        .map(|row| (row.as_str(), Some(value)))
        .collect();
    rows.put([write(key(1, 1), &space, 1, &changes)]).unwrap();
    rows.to_files().unwrap();
    drop((space, rows));
    damage_tables(folder.path());
    let rows = StateRows::open(folder.path()).unwrap();
    (folder, rows, names)
}

#[test]
fn a_damaged_row_is_an_error_and_no_row_that_is_not_there() {
    let (_folder, rows, names) = damaged_rows();
    let space = rows.space(key(1, 1));
    let mut errors = 0;
    for name in &names {
        match space.get(name.as_bytes()) {
            Ok(found) => assert_eq!(found.unwrap(), VALUE[..]),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 0 && errors < 200, "{errors}: a block of them");
    assert!(space.scan(b"").any(|row| row.is_err()));
}

/// A bit of the largest file of tables is another one from now on.
fn damage_tables(folder: &Path) {
    let largest = files_below(folder)
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("tables"))
        .max_by_key(|file| std::fs::metadata(file).unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x40;
    std::fs::write(&largest, bytes).unwrap();
}

#[test]
fn damaged_rows_that_go_do_not_keep_others_from_going() {
    let (_folder, rows, _names) = damaged_rows();
    let sound = rows.space(key(2, 1));
    let other = write(key(2, 1), &sound, 1, &[("a", Some("1"))]);
    rows.put([other]).unwrap();
    drop(sound);
    rows.remove(key(1, 1)).unwrap();
    rows.remove(key(2, 1)).unwrap();
    assert_eq!(rows.going(), 2);
    let mut errors = 0;
    loop {
        match rows.sweep(100) {
            Ok(true) => {}
            Ok(false) => break,
            Err(RowsError::Damaged { .. }) => errors += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(errors < 2, "said once");
    }
    assert_eq!((errors, rows.going()), (1, 1));
}

#[test]
fn a_journal_that_newer_ones_rest_on_is_whole_or_refused() {
    // The tree would pass over the hole without a word, and heads would name states whose rows are gone.
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let space = rows.space(key(1, 1));
    for index in [5, 6] {
        let change = write(key(1, 1), &space, index, &[("a", Some("1"))]);
        rows.put([change]).unwrap();
    }
    drop((space, rows));
    let journal = journal_in(folder.path());
    let whole = std::fs::read(&journal).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let two = tempfile::tempdir().unwrap();
    let (older, newer) = (two.path().join("7.jnl"), two.path().join("8.jnl"));
    std::fs::write(&older, &whole).unwrap();
    std::fs::write(&newer, &whole).unwrap();
    assert_eq!(mend(two.path()).unwrap(), 0, "both are whole");
    let mut damaged = whole.clone();
    damaged[end - 30] ^= 0x40;
    std::fs::write(&older, &damaged).unwrap();
    let refused = mend(two.path()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    assert!(std::fs::read(&older).unwrap() == damaged);
    std::fs::write(&older, &whole).unwrap();
    std::fs::write(&newer, &damaged).unwrap();
    assert!(mend(two.path()).unwrap() > 0, "as a power cut leaves it");
}

#[test]
fn a_start_that_ended_while_it_made_the_rows_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let making = folder.path().join("rows.making");
    std::fs::create_dir_all(making.join("keyspaces")).unwrap();
    std::fs::write(making.join("0.jnl"), [0; 100]).unwrap();
    std::fs::write(making.join("version"), []).unwrap();
    let rows = StateRows::open(&path).unwrap();
    let space = rows.space(key(1, 1));
    let first = write(key(1, 1), &space, 5, &[("a", Some("1"))]);
    rows.put([first]).unwrap();
    drop((space, rows));
    assert!(!making.exists());
    let rows = StateRows::open(&path).unwrap();
    assert_eq!(rows.head(key(1, 1)).unwrap().head, head(5));
}

#[test]
fn what_lies_where_the_rows_should_and_is_none_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("0.jnl"), b"somebody's").unwrap();
    StateRows::open(&path).unwrap_err();
    assert_eq!(std::fs::read(path.join("0.jnl")).unwrap(), b"somebody's");
}

#[test]
fn a_view_sees_whole_commits_while_memtables_become_files() {
    // A memtable that becomes a file says of all commits that were begun that they can be seen.
    const ROWS: usize = 500;
    const LOOKS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let rows = StateRows::open(folder.path()).unwrap();
    let space = rows.space(key(1, 1));
    let names: Vec<String> = (0..ROWS).map(|row| format!("{row:05}")).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Done(&done); // also when what was seen is wrong
        scope.spawn(|| {
            for index in 1.. {
                let value = index.to_string();
                let changes: Vec<_> = names
                    .iter()
                    .map(|row| (row.as_str(), Some(value.as_str())))
                    .collect();
                rows.put([write(key(1, 1), &space, index, &changes)])
                    .unwrap();
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rows.to_files().unwrap();
            }
        });
        let mut looks = 0;
        while looks < LOOKS {
            let Some(view) = rows.view(key(1, 1)).unwrap() else {
                continue;
            };
            let index = view.head().head.clone();
            for row in view.scan(b"") {
                assert_eq!(row.unwrap().1, index);
            }
            looks += 1;
        }
    });
}

/// Ends the threads beside it.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
