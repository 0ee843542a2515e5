//! When a member counts as absent, when it is back, and when nobody may say so.

use super::super::plan::tests::{apply, cluster};
use super::*;

const AFTER: Duration = Duration::from_secs(10);

/// Looks every half second for so long, from `from` on. Returns when it ended, and the first word.
fn look_for(
    watch: &mut Watch,
    from: Duration,
    lasts: Duration,
    state: &SystemState,
    heard: &[u64],
) -> (Duration, Option<SystemCommand>) {
    let heard: BTreeSet<u64> = heard.iter().copied().collect();
    let mut now = from;
    while now < from + lasts {
        watch.look(now, state, &heard);
        if let Some(word) = watch.verdict(state, |_| None) {
            return (now, Some(word));
        }
        now += Duration::from_millis(500);
    }
    (now, None)
}

fn word(state: &SystemState, store: u64, on: bool) -> Option<SystemCommand> {
    let epoch = state.epoch;
    Some(SystemCommand::Absent { epoch, store, on })
}

#[test]
fn a_member_is_absent_after_the_whole_silence_and_present_once_it_is_heard_for_a_while() {
    let mut state = cluster(5, 8);
    let mut watch = Watch::new(Some(AFTER));
    let (now, said) = look_for(&mut watch, Duration::ZERO, AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None, "not before");
    let (now, said) = look_for(&mut watch, now, AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, word(&state, 5, true));
    assert!(now <= AFTER + Duration::from_millis(500));
    apply(&mut state, said.expect("a word"));
    let (now, said) = look_for(&mut watch, now, AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None, "once is enough");
    // A single sign of life is not a return.
    let (now, said) = look_for(&mut watch, now, BACK_AFTER, &state, &[1, 2, 3, 4, 5]);
    assert_eq!(said, None);
    let (now, said) = look_for(&mut watch, now, BACK_AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None);
    let (_, said) = look_for(&mut watch, now, BACK_AFTER * 2, &state, &[1, 2, 3, 4, 5]);
    assert_eq!(said, word(&state, 5, false));
}

#[test]
fn a_member_that_is_heard_in_between_is_never_absent() {
    let state = cluster(5, 8);
    let mut watch = Watch::new(Some(AFTER));
    let mut now = Duration::ZERO;
    for _ in 0..4 {
        let silence = AFTER - Duration::from_millis(500);
        let (later, said) = look_for(&mut watch, now, silence, &state, &[1, 2, 3, 4]);
        assert_eq!(said, None);
        let (later, said) = look_for(
            &mut watch,
            later,
            Duration::from_millis(500),
            &state,
            &[1, 2, 3, 4, 5],
        );
        assert_eq!(said, None);
        now = later;
    }
}

#[test]
fn what_nobody_saw_is_no_silence() {
    // A new leader counts anew, and one that stood still (a suspended machine, SIGSTOP) for an hour has not listened for an hour.
    let state = cluster(5, 8);
    let mut watch = Watch::new(Some(AFTER));
    let almost = AFTER - Duration::from_millis(500);
    let (now, _) = look_for(&mut watch, Duration::ZERO, almost, &state, &[1, 2, 3, 4]);
    let mut successor = Watch::new(Some(AFTER));
    let (_, said) = look_for(&mut successor, now, almost, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None);
    let mut sleeper = Watch::new(Some(AFTER));
    let short = Duration::from_secs(3);
    let (now, _) = look_for(&mut sleeper, Duration::ZERO, short, &state, &[1, 2, 3, 4]);
    let hour = Duration::from_secs(3_600);
    let (_, said) = look_for(&mut sleeper, now + hour, short, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None);
}

#[test]
fn mass_silence_means_that_we_are_cut_off() {
    // S: of four only two are heard, of six three. And never is never.
    let hour = Duration::from_secs(3_600);
    for (nodes, heard) in [(4, &[1, 2][..]), (6, &[1, 2, 3]), (5, &[1]), (5, &[])] {
        let state = cluster(nodes, 8);
        let mut watch = Watch::new(Some(AFTER));
        let (_, said) = look_for(&mut watch, Duration::ZERO, hour, &state, heard);
        assert_eq!(said, None, "{heard:?} of {nodes}");
    }
    let state = cluster(5, 8);
    let mut watch = Watch::new(None);
    let (_, said) = look_for(&mut watch, Duration::ZERO, hour, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None);
}

#[test]
fn nobody_is_absent_whose_copies_nobody_could_take() {
    let hour = Duration::from_secs(3_600);
    let mut watch = Watch::new(Some(AFTER));
    let state = cluster(3, 8);
    let (_, said) = look_for(&mut watch, Duration::ZERO, hour, &state, &[1, 2]);
    assert_eq!(said, None, "three copies on three nodes");
    let mut state = cluster(4, 8);
    let mut watch = Watch::new(Some(AFTER));
    apply(&mut state, SystemCommand::Drain { store: 3, on: true });
    let (_, said) = look_for(&mut watch, Duration::ZERO, hour, &state, &[1, 2, 3]);
    assert_eq!(said, None, "the third of four is leaving");
}

/// Six members, 40 shards, all copies made.
fn six() -> SystemState {
    let mut state = cluster(6, 40);
    for (group, entry) in state.groups.clone() {
        for store in entry.placement.stores {
            apply(&mut state, SystemCommand::Allot { group, store });
        }
    }
    state
}

#[test]
fn a_group_whose_majority_is_silent_holds_up_nobody_else() {
    // Two of six die for good. Groups with copies on both are lost without them; all others are repaired.
    let mut state = six();
    let mut watch = Watch::new(Some(AFTER));
    let start = Duration::ZERO;
    let (now, _) = look_for(&mut watch, start, AFTER / 2, &state, &[1, 2, 3, 4, 5]);
    let (now, said) = look_for(&mut watch, now, AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, word(&state, 6, true));
    apply(&mut state, said.expect("a word"));
    let (_, said) = look_for(&mut watch, now, AFTER, &state, &[1, 2, 3, 4]);
    assert_eq!(said, word(&state, 5, true));
}

#[test]
fn every_group_keeps_its_majority_without_those_that_are_absent() {
    // 6 counts as absent and is heard again, though not for long enough. A group with copies on 5 and 6 has its majority by that, and
    // would not have it without both.
    let mut state = six();
    let said = word(&state, 6, true).expect("a word");
    apply(&mut state, said);
    let mut watch = Watch::new(Some(AFTER));
    let almost = AFTER - Duration::from_millis(500);
    let (now, said) = look_for(&mut watch, Duration::ZERO, almost, &state, &[1, 2, 3, 4]);
    assert_eq!(said, None);
    let short = BACK_AFTER - Duration::from_millis(500);
    let (now, said) = look_for(&mut watch, now, short, &state, &[1, 2, 3, 4, 6]);
    assert_eq!(said, None, "some group has copies on both");
    // What those groups' leaders say counts for more than what the log lists: nobody votes on 6 any more.
    let groups: Vec<(GroupId, Configuration)> = state
        .groups
        .iter()
        .map(|(group, entry)| {
            let stays = |id: &&ReplicaId| ReplicaAddress::of(**id).store != 6;
            let voters = entry.replicas.iter().filter(stays).copied();
            let filled = voters.chain([ReplicaAddress {
                store: 1,
                serial: 9_999,
            }
            .id()]);
            (*group, Configuration::of_voters(filled))
        })
        .collect();
    let of = |group| {
        let known = groups.iter().find(|(known, _)| *known == group);
        known.map(|(_, configuration)| configuration)
    };
    watch.look(now, &state, &BTreeSet::from([1, 2, 3, 4, 6]));
    assert_eq!(watch.verdict(&state, of), word(&state, 5, true));
}

#[test]
fn the_word_is_refused_on_another_placement_and_for_the_last_that_takes() {
    let mut state = cluster(2, 8);
    let late = SystemCommand::Absent {
        epoch: state.epoch - 1,
        store: 2,
        on: true,
    };
    assert!(apply(&mut state, late).is_refused());
    assert!(state.absent.is_empty());
    let mut say = |store| {
        let said = word(&state, store, true).expect("a word");
        let outcome = apply(&mut state, said);
        (outcome.is_refused(), state.absent.clone())
    };
    assert_eq!(say(2), (false, BTreeSet::from([2])));
    assert_eq!(
        say(2),
        (false, BTreeSet::from([2])),
        "twice is as good as once"
    );
    assert_eq!(
        say(1),
        (true, BTreeSet::from([2])),
        "the last that takes replicas"
    );
    assert_eq!(say(9), (true, BTreeSet::from([2])), "a stranger");
    let drained = apply(&mut state, SystemCommand::Drain { store: 1, on: true });
    assert!(drained.is_refused(), "it is the last that takes replicas");
}
