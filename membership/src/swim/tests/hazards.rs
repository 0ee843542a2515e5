//! Bugs that other systems shipped, each with the line of the list that tells its story.

use super::*;

#[test]
fn somebody_elses_alive_revives_nobody() {
    // M1: memberlist#312, a full sync re-issued "alive" on behalf of others; a gone node lived on for hours.
    let mut bench = Bench::of(4);
    bench.hear(
        2,
        vec![
            accused(3, 1, 0, Verdict::Suspect, 2),
            accused(3, 1, 0, Verdict::Dead, 2),
        ],
    );
    bench.hear(4, vec![alive(3, 1, 0)]);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    bench.pass(ms(2_600));
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    bench.hear(4, vec![alive(3, 1, 0)]);
    bench.hear_body(4, Body::SyncPush, vec![alive(3, 1, 0)]);
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    bench.hear(4, vec![alive(3, 1, 1)]);
    assert_eq!(
        bench.state(3),
        Some(MemberState::Alive),
        "its own newer word does"
    );
}

#[test]
fn stale_claims_are_answered_with_the_newer_record() {
    // M2: memberlist#311, stale "alive" was dropped silently, and a restarted node never learnt that it is accused.
    let mut bench = Bench::of(4);
    bench.hear(4, vec![alive(3, 1, 5)]);
    bench.settle();
    bench.hear(2, vec![alive(3, 1, 2)]);
    assert_eq!(bench.told(2, 3), vec![alive(3, 1, 5)]);
    bench.settle();
    bench.now += ms(1_000);
    bench.hear(2, vec![accused(3, 1, 4, Verdict::Dead, 2)]);
    assert_eq!(
        bench.told(2, 3),
        vec![alive(3, 1, 5)],
        "a stale accusation too"
    );
    assert_eq!(bench.state(3), Some(MemberState::Alive));
}

#[test]
fn restarted_node_learns_at_its_first_packet_that_it_is_accused() {
    // S12. M2, and Lifeguard's buddy: whoever is held for dead is told so with whatever is sent to it.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Dead, 2)]);
    bench.settle();
    bench.hear_body(
        3,
        Body::Ping {
            sequence: 9,
            reliable: false,
        },
        Vec::new(),
    );
    assert_eq!(
        bench.told(3, 3),
        vec![accused(3, 1, 0, Verdict::Suspect, 2)]
    );
}

#[test]
fn accusation_that_comes_before_its_record_is_kept() {
    // M2: PR#345, dead-for-unknown was dropped silently.
    let mut bench = Bench::alone(4);
    bench.swim.introduce(bench.now, signed(record(2, 1, 0)));
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    assert_eq!(bench.state(3), None);
    bench.hear(2, vec![alive(3, 1, 0)]);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
}

#[test]
fn a_peers_verdict_never_kills_without_time_to_refute() {
    // M3, M35: after a partition both sides hold the other for dead at the same incarnation; a merge must not kill the living.
    let mut bench = Bench::of(4);
    bench.hear_body(
        2,
        Body::SyncPush,
        vec![alive(3, 1, 0), accused(3, 1, 0, Verdict::Dead, 2)],
    );
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    bench.pass_with(ms(1_200), all_answer);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    bench.hear(3, vec![alive(3, 1, 1)]);
    bench.pass_with(ms(60_000), all_answer);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
    assert!(!bench.events.contains(&MemberEvent::Died { store: id(3) }));
}

#[test]
fn removed_stores_never_come_back_by_gossip() {
    // M4, M5, M6, M8, M21: removal is the log's decision; neither a lagging peer nor the removed node itself undoes it.
    let mut bench = Bench::of(3);
    bench.swim.removed(id(3));
    bench.drain();
    assert_eq!(bench.events, vec![MemberEvent::Left { store: id(3) }]);
    bench.hear(2, vec![alive(3, 9, 9), accused(3, 9, 9, Verdict::Dead, 2)]);
    bench.hear_body(
        3,
        Body::Ping {
            sequence: 1,
            reliable: false,
        },
        vec![alive(3, 10, 0)],
    );
    bench.swim.admitted(bench.now, [id(3)]);
    bench.swim.introduce(bench.now, signed(record(3, 11, 0)));
    assert_eq!(bench.state(3), None);
    assert!(bench.told(3, 3).is_empty());
    assert!(bench.swim.counters().refused_removed >= 2);
}

#[test]
fn accusation_about_an_unknown_id_never_adds_it() {
    // M10: atomix#962, a Suspect rumour about an unknown id added it.
    let mut bench = Bench::alone(4);
    bench.swim.introduce(bench.now, signed(record(2, 1, 0)));
    bench.hear(
        2,
        vec![
            accused(3, 1, 0, Verdict::Suspect, 2),
            accused(99, 1, 0, Verdict::Dead, 2),
        ],
    );
    assert_eq!(bench.swim.members().count(), 2);
    assert_eq!(
        bench.swim.waiting_accusations.len(),
        1,
        "kept for the admitted one alone"
    );
}

#[test]
fn who_left_or_died_is_not_counted_and_not_probed() {
    // M11: memberlist#253, Left nodes were never reaped and filled every sync.
    let mut bench = Bench::of(12);
    for store in 3..=12 {
        let farewell = Record {
            state: MemberState::Left,
            ..record(store, 1, 1)
        };
        bench.hear(2, vec![Rumour::Record(signed(farewell))]);
    }
    bench.settle();
    assert_eq!(
        bench.swim.timing(),
        crate::Timing::of(&bench.swim.options, 2)
    );
    bench.pass_with(ms(30_000), all_answer);
    assert!(bench.sent.iter().all(|(to, _)| *to == id(2)));
}

#[test]
fn inflated_incarnations_are_refused() {
    // M12: memberlist#359, an inflated incarnation poisons a name for ever.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![alive(3, 1, (1 << 20) + 1)]);
    assert_eq!(
        (bench.at(3), bench.swim.counters().refused_jumps),
        (Some((1, 0)), 1)
    );
    bench.hear(2, vec![alive(3, 1, 1 << 20)]);
    assert_eq!(
        bench.at(3),
        Some((1, 1 << 20)),
        "the bound itself is allowed"
    );
    bench.hear(2, vec![alive(3, 2, 0)]);
    assert_eq!(bench.at(3), Some((2, 0)), "a new generation resets it");
    bench.hear(2, vec![alive(3, 3, 1 << 40)]);
    assert_eq!(
        bench.at(3),
        Some((3, 1 << 40)),
        "nothing is known yet of a new generation"
    );
}

#[test]
fn accusation_above_the_own_incarnation_moves_nothing() {
    // M12: only the subject originates a higher position; an accuser must not push it there.
    let mut bench = Bench::of(3);
    bench.hear(
        2,
        vec![
            accused(1, 1, 1 << 50, Verdict::Dead, 2),
            accused(1, 7, 0, Verdict::Dead, 2),
        ],
    );
    assert_eq!(bench.at(1), Some((1, 0)));
    assert_eq!(
        bench.told(2, 1),
        vec![alive(1, 1, 0)],
        "the answer is the record as it is"
    );
    bench.hear(2, vec![accused(3, 1, 1 << 50, Verdict::Dead, 2)]);
    assert_eq!(
        (bench.at(3), bench.state(3)),
        (Some((1, 0)), Some(MemberState::Alive))
    );
}

#[test]
fn death_is_refuted_any_number_of_times_without_a_new_identity() {
    // M13: foca, one false Down forced a new identity.
    let mut bench = Bench::of(3);
    for incarnation in 0..100 {
        bench.hear(2, vec![accused(1, 1, incarnation, Verdict::Dead, 2)]);
        assert_eq!(
            (bench.at(1), bench.state(1)),
            (Some((1, incarnation + 1)), Some(MemberState::Alive))
        );
    }
}

#[test]
fn generations_are_compared_and_never_judged() {
    // M14, M15: scylladb#5164 and #3331, generations checked against clocks; here they are start counts, any jump is fine.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![alive(3, 1_500_000_000, 0)]);
    assert_eq!(bench.at(3), Some((1_500_000_000, 0)));
    bench.hear(2, vec![alive(3, 2, 0)]);
    assert_eq!(bench.at(3), Some((1_500_000_000, 0)));
}

#[test]
fn a_restart_wins_at_once_and_makes_no_second_member() {
    // M16, M18, M19, M22, M23: restart with a new address under the same name was refused for hours, or listed twice.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Dead, 2)]);
    bench.pass(ms(2_600));
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    bench.clear();
    bench.hear(3, vec![alive(3, 2, 0)]);
    assert_eq!(
        (bench.at(3), bench.state(3)),
        (Some((2, 0)), Some(MemberState::Alive))
    );
    assert_eq!(bench.swim.members().count(), 3);
    assert_eq!(
        bench.events,
        vec![
            MemberEvent::Returned { store: id(3) },
            MemberEvent::Changed { store: id(3) }
        ]
    );
}

#[test]
fn two_that_hold_each_other_for_dead_settle() {
    // M17: foca#25, an endless flood of "you are dead" between two nodes.
    let mut company = Company::of(2);
    company.connected.retain(|(a, b)| a == b);
    company.pass(ms(20_000));
    assert_eq!(company.states(1)[1], Some(MemberState::Dead));
    assert_eq!(company.states(2)[0], Some(MemberState::Dead));
    company.connected = [(id(1), id(2)), (id(2), id(1))].into();
    company.packets = 0;
    company.pass(ms(5_000));
    assert_eq!(company.states(1), vec![Some(MemberState::Alive); 2]);
    assert_eq!(company.states(2), vec![Some(MemberState::Alive); 2]);
    assert!(company.packets < 250, "{} packets in 5 s", company.packets);
    company.packets = 0;
    company.pass(ms(10_000));
    assert!(
        company.packets <= 90,
        "probes alone: {} packets in 10 s",
        company.packets
    );
}

#[test]
fn a_peer_that_repeats_stale_claims_is_not_answered_each_time() {
    // M17: answers have a rate.
    let mut bench = Bench::of(3);
    bench.hear(3, vec![alive(3, 1, 5)]);
    bench.settle();
    for _ in 0..1_000 {
        bench.hear(2, vec![alive(3, 1, 2)]);
    }
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_copy_of_a_store_is_told_and_the_first_one_stays() {
    // M20: consul#13037, a cloned disk image half-joins; the later one is refused.
    let mut bench = Bench::of(3);
    let copy = Record {
        addresses: vec![([10, 9, 9, 9], 1).into()],
        ..record(3, 1, 0)
    };
    bench.hear(3, vec![Rumour::Record(signed(copy))]);
    assert_eq!(bench.told(3, 3), vec![alive(3, 1, 0)]);
    assert_eq!(bench.swim.counters().conflicts, 1);
}

#[test]
fn a_process_that_meets_a_later_start_of_its_own_store_falls_silent() {
    // M20, M46: a restored disk with a lower start count is refused.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![alive(1, 2, 0)]);
    assert_eq!(bench.events, vec![MemberEvent::Superseded { store: ME }]);
    assert_eq!(bench.swim.wake_at(), Duration::MAX);
    bench.hear_body(
        2,
        Body::Ping {
            sequence: 1,
            reliable: false,
        },
        Vec::new(),
    );
    assert!(bench.sent.is_empty());
}

#[test]
fn a_process_that_meets_another_record_of_its_own_position_falls_silent() {
    // M20: both copies count the same start.
    let mut bench = Bench::of(3);
    let other = Record {
        addresses: vec![([10, 9, 9, 9], 1).into()],
        ..record(1, 1, 0)
    };
    bench.hear(2, vec![alive(1, 1, 0)]);
    assert!(bench.events.is_empty(), "its own word comes back to it");
    bench.hear(2, vec![Rumour::Record(signed(other))]);
    assert_eq!(bench.events, vec![MemberEvent::Superseded { store: ME }]);
}

#[test]
fn packets_of_an_earlier_start_are_not_heard() {
    // M46: foca 0.17.1, replayed packets of a stale identity were accepted.
    let mut bench = Bench::of(4);
    bench.hear(3, vec![alive(3, 5, 0)]);
    bench.settle();
    bench.hear(3, vec![accused(4, 1, 0, Verdict::Dead, 3)]); // of generation 1
    assert_eq!(bench.state(4), Some(MemberState::Alive));
    assert_eq!(bench.told(3, 3), vec![alive(3, 5, 0)], "it learns why");
    assert_eq!(bench.swim.counters().refused_old_generation, 1);
}

#[test]
fn gossip_about_stores_that_the_log_did_not_admit_waits() {
    // M41, M42: scylladb#20082, nodes that gossip but never enter the log stay as orphans. Gossip never extends the log's set.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![alive(4, 1, 0)]);
    bench.hear_body(
        4,
        Body::Ping {
            sequence: 3,
            reliable: false,
        },
        vec![alive(4, 1, 1), accused(2, 1, 0, Verdict::Dead, 4)],
    );
    assert_eq!(
        (bench.state(4), bench.state(2)),
        (None, Some(MemberState::Alive)),
        "its accusations count for nothing"
    );
    assert_eq!(
        bench.sent_bodies(),
        vec![(
            4,
            Body::Ack {
                sequence: 3,
                target: ME
            }
        )],
        "but it is told that this node lives"
    );
    assert!(bench.told(2, 4).is_empty() && bench.swim.view().len() == 3);
    bench.swim.admitted(bench.now, [id(4)]);
    bench.drain();
    assert_eq!(bench.at(4), Some((1, 1)), "the newest that was heard");
    assert_eq!(bench.events, vec![MemberEvent::Joined { store: id(4) }]);
}

#[test]
fn what_waits_for_the_log_is_bounded() {
    // M41 with M44: whoever is not admitted cannot fill the memory.
    let mut bench = Bench::of(2);
    for store in 10..3_000 {
        bench.hear(
            2,
            vec![alive(store, 1, 0), accused(store, 1, 0, Verdict::Dead, 2)],
        );
    }
    assert_eq!(bench.swim.waiting_records.len(), super::super::WAITING_MAX);
    assert!(bench.swim.waiting_accusations.is_empty());
}

#[test]
fn records_that_others_signed_are_dropped() {
    // M45: with one shared key any holder can impersonate any member; here only the subject's key counts.
    let mut bench = Bench::of(3);
    let mut forged = record(3, 1, 1);
    forged.state = MemberState::Left;
    let forged = forged.sign(&Key(id(2))).unwrap();
    let rumours = vec![
        Rumour::Record(forged),
        alive(2, 1, 1),
        accused(3, 1, 0, Verdict::Suspect, 2),
    ];
    let mut packet = Packet {
        generation: 1,
        incarnation: 0,
        hash: 0,
        want: false,
        body: Body::Gossip,
        rumours,
    };
    assert_eq!(packet.clone().verify(&Keys), 1);
    assert_eq!(bench.swim.screen(&mut packet, &Keys), 1);
    bench.hear_packet(2, packet);
    assert_eq!(
        (bench.at(3), bench.state(3)),
        (Some((1, 0)), Some(MemberState::Suspect))
    );
    assert_eq!(bench.swim.counters().refused_signatures, 1);
}

#[test]
fn what_is_held_already_is_not_verified_again() {
    // M44: bounded work per datagram; a sync of a thousand known records costs no signature check.
    struct Never;
    impl Verifier for Never {
        fn verify(&self, _: StoreId, _: &[u8], _: &[u8]) -> bool {
            false
        }
    }
    let mut bench = Bench::of(3);
    let rumours = vec![alive(2, 1, 0), alive(3, 1, 0)];
    let mut packet = Packet {
        generation: 1,
        incarnation: 0,
        hash: 0,
        want: false,
        body: Body::Gossip,
        rumours,
    };
    assert_eq!(bench.swim.screen(&mut packet, &Never), 0);
}

#[test]
fn equal_views_have_equal_hashes_whatever_the_order() {
    // M49: cadence#5672, different views went unnoticed; M31: a suspicion, which differs for a while by nature, does not count.
    let (mut one, mut other) = (Bench::alone(9), Bench::alone(9));
    for store in 2..=9 {
        one.swim.introduce(one.now, signed(record(store, 1, 0)));
        other
            .swim
            .introduce(other.now, signed(record(11 - store, 1, 0)));
    }
    assert_eq!(one.swim.hash(), other.swim.hash());
    one.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    assert_eq!(one.swim.hash(), other.swim.hash());
    one.hear(3, vec![alive(3, 1, 1)]);
    assert_ne!(one.swim.hash(), other.swim.hash());
    other.hear(3, vec![alive(3, 1, 1)]);
    assert_eq!(one.swim.hash(), other.swim.hash());
}

#[test]
fn a_wiped_store_is_a_new_member_and_its_ghost_does_not_matter() {
    // E32: keyed by name, a wiped store that starts at 1 again loses to its own ghost.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![alive(3, 400, 7)]);
    bench.swim.admitted(bench.now, [id(4)]);
    let wiped = Record {
        name: "n3".to_owned(),
        ..record(4, 1, 0)
    };
    bench.hear(4, vec![Rumour::Record(signed(wiped))]);
    assert_eq!(
        (bench.at(4), bench.state(4)),
        (Some((1, 0)), Some(MemberState::Alive))
    );
    assert_eq!(
        bench.at(3),
        Some((400, 7)),
        "the ghost stays until the log removes it"
    );
    bench.swim.removed(id(3));
    assert_eq!(
        (bench.state(3), bench.state(4)),
        (None, Some(MemberState::Alive))
    );
}
