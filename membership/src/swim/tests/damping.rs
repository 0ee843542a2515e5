//! Members that flap, nodes that are sick, deaths that nobody may forget.

use super::*;

/// `store` dies here, at its present position, while everybody else answers.
fn kill(bench: &mut Bench, store: u64) {
    let (generation, incarnation) = bench.at(store).unwrap();
    let accusers = (2..).filter(|&other| other != store).take(3);
    let accusations = accusers
        .map(|accuser| accused(store, generation, incarnation, Verdict::Dead, accuser))
        .collect();
    bench.hear(5, accusations);
    bench.pass_with(ms(3_100), all_answer); // a suspicion that follows a refutation
    assert_eq!(bench.state(store), Some(MemberState::Dead));
}

/// It refutes, and what is told of it.
fn comes_back(bench: &mut Bench, store: u64) -> Vec<MemberEvent> {
    bench.events.clear();
    let (generation, incarnation) = bench.at(store).unwrap();
    bench.hear(5, vec![alive(store, generation, incarnation + 1)]);
    core::mem::take(&mut bench.events)
}

/// How long `store` is suspect, accused by enough members at its present position while everybody else answers.
fn time_to_refute(bench: &mut Bench, store: u64) -> u64 {
    let (generation, incarnation) = bench.at(store).unwrap();
    let accuse = |by| accused(store, generation, incarnation, Verdict::Suspect, by);
    bench.hear(8, vec![accuse(8), accuse(9), accuse(10)]);
    let waits = |bench: &Bench| bench.state(store) == Some(MemberState::Suspect);
    assert!(waits(bench));
    let mut time = 0;
    while waits(bench) {
        bench.pass_with(ms(100), all_but(store));
        time += 100;
    }
    assert_eq!(bench.state(store), Some(MemberState::Dead));
    time
}

/// Everybody answers but one.
fn all_but(silent: u64) -> impl FnMut(&mut Bench, (StoreId, Packet)) {
    move |bench, (to, packet)| {
        if to != id(silent) {
            all_answer(bench, (to, packet));
        }
    }
}

#[test]
fn who_refuted_lately_has_twice_the_time_to_refute_again() {
    // M38, issue 4: a node that is starved to a twentieth of its processor refutes many times before one stall is too long.
    let mut bench = Bench::of(10);
    assert_eq!(
        time_to_refute(&mut bench, 2),
        1_500,
        "a crash out of good health"
    );
    bench.hear(
        8,
        vec![accused(3, 1, 0, Verdict::Suspect, 8), alive(3, 1, 1)],
    );
    bench.hear(8, vec![accused(3, 1, 1, Verdict::Suspect, 8)]);
    comes_back(&mut bench, 3);
    assert_eq!(time_to_refute(&mut bench, 3), 3_000);
    // A refutation that overtook its accusation counts as well; a change of what it says does not.
    bench.hear(8, vec![alive(4, 1, 1)]);
    assert_eq!(time_to_refute(&mut bench, 4), 3_000);
    let moved = Record {
        addresses: vec![([10, 9, 9, 9], 9).into()],
        ..record(5, 1, 1)
    };
    bench.hear(8, vec![Rumour::Record(signed(moved))]);
    assert_eq!(time_to_refute(&mut bench, 5), 1_500);
    // A new start has no past, and old stories are forgotten.
    bench.hear(8, vec![alive(6, 1, 1), alive(7, 1, 1)]);
    bench.hear(8, vec![alive(6, 2, 0)]);
    assert_eq!(time_to_refute(&mut bench, 6), 1_500);
    bench.pass_with(ms(61_000), all_answer);
    assert_eq!(time_to_refute(&mut bench, 7), 1_500);
}

#[test]
fn a_lone_accusers_suspicion_lasts_no_longer_for_it() {
    // The bound within which everybody agrees after any storm follows from it.
    let options = SwimOptions::lan().check().unwrap();
    for members in [2, 10, 1_000] {
        let (usual, patient) = (
            crate::Timing::of(&options, members),
            crate::Timing::of(&options, members).with_patience(),
        );
        assert_eq!(usual.suspicion_most, patient.suspicion_most);
        assert_eq!(patient.suspicion(2), usual.suspicion_least * 2);
        assert!((0..3).all(|others| patient.suspicion(others) <= usual.suspicion_most));
    }
    let lone = SwimOptions {
        suspicion_lone_factor: 1,
        ..SwimOptions::lan()
    };
    let timing = crate::Timing::of(&lone.check().unwrap(), 10);
    assert_eq!(timing.clone().with_patience(), timing);
}

#[test]
fn a_member_that_dies_and_returns_again_and_again_is_held_down() {
    // M38: Rapid, figures 9 and 10: one-way loss in spells of 20 s made memberships oscillate for as long as it lasted.
    let mut bench = Bench::of(10);
    let (returned, unsteady) = (
        vec![MemberEvent::Returned { store: id(3) }],
        vec![MemberEvent::Unsteady { store: id(3) }],
    );
    let steady = |bench: &Bench| bench.swim.member(id(3)).unwrap().is_steady();
    for _ in 0..2 {
        kill(&mut bench, 3);
        assert_eq!(comes_back(&mut bench, 3), returned, "twice may be chance");
        assert!(steady(&bench));
    }
    for hold in [10_000, 20_000] {
        kill(&mut bench, 3);
        assert_eq!(comes_back(&mut bench, 3), unsteady);
        assert_eq!(bench.state(3), Some(MemberState::Alive), "a member it is");
        bench.events.clear();
        bench.pass_with(ms(hold - 1), all_answer);
        assert!(bench.events.is_empty() && !steady(&bench));
        bench.pass_with(ms(2), all_answer);
        assert_eq!((&bench.events, steady(&bench)), (&returned, true));
    }
    bench.pass_with(ms(121_000), all_answer);
    kill(&mut bench, 3);
    assert_eq!(
        comes_back(&mut bench, 3),
        returned,
        "old stories are forgotten"
    );
}

#[test]
fn a_hold_down_does_not_end_in_the_middle_of_a_suspicion() {
    // M38: nor does a death meanwhile bring anything back.
    let mut bench = Bench::of(10);
    for _ in 0..3 {
        kill(&mut bench, 3);
        comes_back(&mut bench, 3);
    }
    bench.pass_with(ms(9_000), all_answer);
    bench.events.clear();
    bench.hear(5, vec![accused(3, 1, 3, Verdict::Suspect, 5)]);
    bench.pass_with(ms(1_500), all_answer);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    assert_eq!(
        comes_back(&mut bench, 3),
        vec![MemberEvent::Unsteady { store: id(3) }]
    );
    bench.pass_with(ms(11_000), all_answer);
    assert_eq!(bench.events, vec![MemberEvent::Returned { store: id(3) }]);
    kill(&mut bench, 3);
    comes_back(&mut bench, 3);
    kill(&mut bench, 3);
    bench.events.clear();
    bench.pass_with(ms(60_000), all_answer);
    assert!(bench.events.is_empty() && bench.state(3) == Some(MemberState::Dead));
}

#[test]
fn a_degraded_node_says_so_and_accuses_nobody_for_a_while() {
    // M25: a sick silo voted others dead, one limped for 28 h; M26: pings were answered while the application was blocked.
    let mut bench = Bench::of(10);
    bench.swim.set_degraded(bench.now, true);
    let me = bench.swim.member(ME).unwrap();
    assert!(me.record().metadata.degraded && !me.is_steady());
    assert_eq!(me.position().incarnation, 1, "and spreads it");
    let metadata = Metadata::default();
    bench
        .swim
        .advertise(bench.now, Vec::new(), metadata)
        .unwrap();
    assert!(
        bench.swim.member(ME).unwrap().record().metadata.degraded,
        "until it is well"
    );
    bench.pass(ms(29_900)); // nobody answers
    assert!(bench.swim.counters().abstentions > 0);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    bench.pass(ms(200));
    assert_eq!(bench.events, vec![MemberEvent::Isolated { store: ME }]);
    bench.pass(ms(30_000));
    assert!(
        bench.swim.counters().suspicions > 0,
        "silence of all sick ones would hide every death"
    );
    bench.swim.set_degraded(bench.now, false);
    assert!(bench.swim.member(ME).unwrap().is_steady());
}

#[test]
fn who_calls_itself_degraded_is_a_member_not_to_be_relied_on() {
    // M26: the others read it in its record.
    let mut bench = Bench::of(3);
    let mut sick = record(2, 1, 1);
    sick.metadata.degraded = true;
    bench.hear(2, vec![Rumour::Record(signed(sick))]);
    assert_eq!(bench.events, vec![MemberEvent::Changed { store: id(2) }]);
    assert!(
        bench.state(2) == Some(MemberState::Alive)
            && !bench.swim.member(id(2)).unwrap().is_steady()
    );
    bench.hear(2, vec![alive(2, 1, 2)]);
    assert!(bench.swim.member(id(2)).unwrap().is_steady());
}

#[test]
fn a_refutation_is_never_overtaken_by_its_accusation() {
    // M27: memberlist#159, late packets handled in the order of their arrival made members flap.
    let mut bench = Bench::of(10);
    let news = vec![
        accused(3, 1, 0, Verdict::Suspect, 5),
        accused(3, 1, 0, Verdict::Dead, 6),
        alive(3, 1, 1),
    ];
    bench.hear(5, news);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    assert_eq!(
        (bench.state(3), bench.at(3)),
        (Some(MemberState::Alive), Some((1, 1)))
    );
}

#[test]
fn the_dead_are_kept_until_the_log_removes_them() {
    // M9, M7: chitchat#155, what is forgotten by a local clock is learnt again from those whose clock is later. M37: one single
    // authority: no verdict of the gossip, however old, removes a member.
    let mut bench = Bench::of(10);
    kill(&mut bench, 3);
    bench.pass_with(Duration::from_secs(3_600), all_answer);
    bench.hear_body(4, Body::SyncPush, vec![alive(3, 1, 0)]);
    assert_eq!(
        (bench.state(3), bench.at(3)),
        (Some(MemberState::Dead), Some((1, 0)))
    );
    bench.swim.removed(id(3));
    bench.hear_body(4, Body::SyncPush, vec![alive(3, 9, 9)]);
    assert_eq!(bench.state(3), None);
}

#[test]
fn whoever_was_removed_is_remembered_in_little_room() {
    // M7: akka-core#23318, tombstones grow without bound or are pruned on one side only.
    let mut bench = Bench::of(3);
    for store in 4..100_000 {
        bench.swim.admitted(bench.now, [id(store)]);
        bench.swim.removed(id(store));
    }
    assert_eq!(bench.swim.removed.ranges(), 1);
    bench.hear(2, vec![alive(50_000, 1, 0)]);
    assert_eq!(
        (bench.state(50_000), bench.swim.counters().refused_removed),
        (None, 1)
    );
}
