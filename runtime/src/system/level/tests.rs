//! When a cluster of several builds is raised, whom it waits for, and that older builds refuse what they do not know.

use bytes::Bytes;
use synod_consensus::{GroupId, LogIndex};

use super::super::command::{BUILD_LEVEL, UnknownCommand};
use super::super::plan::tests::{apply, cluster};
use super::super::state::{MemberEntry, StateError};
use super::*;

const TWO: Level = Level::new(2);
const THREE: Level = Level::new(3);

fn announced(levels: &[(u64, u32)]) -> Announced {
    let levels = levels.iter().copied();
    Announced {
        levels: levels
            .map(|(store, level)| (store, Level::new(level)))
            .collect(),
        ..Announced::default()
    }
}

fn raise(state: &mut SystemState, level: Level) -> SystemOutcome {
    let epoch = state.epoch;
    apply(state, SystemCommand::Raise { epoch, level })
}

fn joiner(name: &str, level: u32) -> MemberEntry {
    MemberEntry {
        name: name.to_owned(),
        key: Bytes::new(),
        capacity: 1,
        zone: None,
        nonce: 77,
        level: Level::new(level),
        described: 0,
    }
}

#[test]
fn a_cluster_is_raised_to_what_every_members_build_knows() {
    let mut state = cluster(3, 4);
    assert_eq!(state.level, Level::FIRST);
    let mixed = announced(&[(1, 4), (2, 2), (3, 3)]);
    assert_eq!(state.next_level(Level::new(4), &mixed), Some(TWO));
    // Whoever proposes it must know it itself.
    assert_eq!(state.next_level(Level::FIRST, &mixed), None);
    assert_eq!(raise(&mut state, TWO), SystemOutcome::Done);
    assert_eq!(state.level, TWO);
    assert_eq!(state.next_level(Level::new(4), &mixed), None);
    // Builds may go back; the cluster does not.
    assert_eq!(raise(&mut state, Level::FIRST), SystemOutcome::Done);
    assert_eq!(state.level, TWO);
}

#[test]
fn a_member_that_was_not_heard_or_is_absent_holds_a_raise_up_and_a_drained_one_does_not() {
    let mut state = cluster(4, 4);
    let heard = announced(&[(1, 2), (2, 2), (3, 2)]);
    assert_eq!(state.next_level(TWO, &heard), None);
    let note = state.held_back(TWO, &heard).unwrap();
    assert!(note.contains("n4 (not heard yet)"), "{note}");
    let (epoch, store, on) = (state.epoch, 4, true);
    apply(&mut state, SystemCommand::Absent { epoch, store, on });
    let older = announced(&[(1, 2), (2, 2), (3, 2), (4, 1)]);
    assert_eq!(state.next_level(TWO, &older), None);
    let note = state.held_back(TWO, &older).unwrap();
    assert!(note.contains("n4 (level 1)"), "{note}");
    let group = GroupId::new(1);
    apply(&mut state, SystemCommand::Allot { group, store });
    apply(&mut state, SystemCommand::Drain { store, on });
    assert_eq!(state.behind(TWO, &older), [4], "it still holds shards");
    let replica = state.replica_on(group, store).unwrap();
    apply(&mut state, SystemCommand::Retire { group, replica });
    // It leaves the system group last, and as long as it votes there it must know what it is to write down.
    let voting = Announced {
        electorate: [1, 2, store].into(),
        ..older.clone()
    };
    assert_eq!(state.behind(TWO, &voting), [store]);
    assert_eq!(state.next_level(TWO, &older), Some(TWO));
    assert_eq!(state.held_back(TWO, &older), None);
    assert_eq!(state.must_stay_drained(store, &older), Ok(()));
    let mut raised = state.clone();
    raise(&mut raised, TWO);
    let reason = raised.must_stay_drained(store, &older).unwrap_err();
    assert!(reason.contains("`n4` knows up to level 1"), "{reason}");
    assert_eq!(raised.must_stay_drained(1, &older), Ok(()));
    let reason = raised.must_stay_drained(store, &heard).unwrap_err();
    assert!(reason.contains("was not heard yet"), "{reason}");
    apply(&mut state, SystemCommand::Remove { store });
    assert_eq!(state.next_level(TWO, &older), Some(TWO));
}

#[test]
fn a_command_above_the_clusters_level_waits_and_says_for_whom() {
    let mut state = cluster(3, 4);
    let far = SystemCommand::Raise {
        epoch: state.epoch,
        level: THREE,
    };
    assert_eq!(far.level(), THREE);
    let mixed = announced(&[(1, 3), (2, 2), (3, 3)]);
    let reason = state.gate(&far, || mixed.clone()).unwrap_err();
    assert!(
        reason.contains("level 3") && reason.contains("level 1") && reason.contains("n2 (level 2)"),
        "{reason}"
    );
    assert!(!reason.contains("n1") && !reason.contains("n3"), "{reason}");
    let everywhere = announced(&[(1, 3), (2, 3), (3, 3)]);
    assert_eq!(state.gate(&far, || everywhere.clone()), Ok(()));
    assert_eq!(raise(&mut state, THREE), SystemOutcome::Done);
    // What the cluster may use it may use, whatever is heard of builds.
    assert_eq!(state.gate(&far, Announced::default), Ok(()));
}

#[test]
fn a_raise_and_an_admission_of_an_older_build_exclude_each_other() {
    // Both may be under way at once; the log's order decides.
    let before = cluster(2, 4);
    let epoch = before.epoch;
    let raise = SystemCommand::Raise { epoch, level: TWO };
    let admit = SystemCommand::Admit(joiner("n3", 1));

    let mut state = before.clone();
    assert!(!apply(&mut state, admit.clone()).is_refused());
    assert!(apply(&mut state, raise.clone()).is_refused());
    assert_eq!(state.level, Level::FIRST);

    let mut state = before;
    assert!(!apply(&mut state, raise).is_refused());
    let SystemOutcome::Refused { reason } = apply(&mut state, admit) else {
        panic!("an older build was let in")
    };
    assert!(
        reason.contains("`n3`") && reason.contains("newer build"),
        "{reason}"
    );
    let newer = apply(&mut state, SystemCommand::Admit(joiner("n3", 2)));
    assert!(!newer.is_refused(), "{newer:?}");
    // Nor when it asks again with an older build for what it was granted.
    let again = apply(&mut state, SystemCommand::Admit(joiner("n3", 1)));
    assert!(again.is_refused(), "{again:?}");
}

#[test]
fn at_the_first_level_the_state_has_the_bytes_of_the_first_builds() {
    // STYLE 11. Those builds must read it, for they may be members still.
    let state = cluster(3, 2);
    let bytes = state.encode();
    assert_eq!(bytes, crate::wire::encode(&state));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.contains("level"), "{text}");
    let read = SystemState::decode(&bytes, Level::FIRST).unwrap();
    assert_eq!((read.level, &read), (Level::FIRST, &state));
    let admission = String::from_utf8_lossy(&crate::wire::encode(&joiner("n4", 1))).into_owned();
    assert!(!admission.contains("level"), "{admission}");
}

#[test]
fn a_state_of_a_higher_level_is_refused_by_an_older_build_and_kept_by_this_one() {
    let mut state = cluster(3, 2);
    raise(&mut state, BUILD_LEVEL);
    let bytes = state.encode();
    assert_eq!(SystemState::decode(&bytes, BUILD_LEVEL).unwrap(), state);
    let refused = SystemState::decode(&bytes, Level::FIRST).unwrap_err();
    assert!(matches!(refused, StateError::Newer { .. }), "{refused}");
    assert!(
        refused.to_string().contains("with a newer build"),
        "{refused}"
    );
    // The first builds read the bytes as they come: they find no state in them.
    assert!(crate::wire::decode::<SystemState>(&bytes).is_err());
}

#[test]
fn an_older_build_takes_no_command_of_a_higher_level() {
    let mut state = cluster(3, 2);
    let (before, epoch) = (state.clone(), state.epoch);
    let payload = crate::wire::encode(&SystemCommand::Raise { epoch, level: TWO });
    let at = LogIndex::new(90);
    let newer = UnknownCommand::Newer {
        level: TWO,
        build: Level::FIRST,
    };
    assert_eq!(state.apply(at, &payload, Level::FIRST), Err(newer));
    assert_eq!(state, before);
    assert_eq!(state.apply(at, &payload, TWO), Ok(SystemOutcome::Done));
}
