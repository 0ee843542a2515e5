//! Probing, local health and suspicion.

use super::*;
use crate::timing::Timing;

/// Runs until the first direct probe; gives its target and sequence.
fn first_probe(bench: &mut Bench) -> (u64, u64) {
    bench.clear();
    while bench.sent.is_empty() {
        bench.pass(ms(1));
    }
    match bench.sent_bodies()[..] {
        [
            (
                target,
                Body::Ping {
                    sequence,
                    reliable: false,
                },
            ),
        ] => (target, sequence),
        ref other => panic!("expected a ping, got {other:?}"),
    }
}

fn helpers_asked(bench: &Bench) -> Vec<u64> {
    let asked = |(to, body)| matches!(body, Body::PingRequest { .. }).then_some(to);
    bench.sent_bodies().into_iter().filter_map(asked).collect()
}

#[test]
fn one_member_is_probed_per_interval_and_each_once_per_round() {
    // SWIM 4.3: round-robin bounds the time until a dead member is probed.
    let mut bench = Bench::of(6);
    let mut targets = Vec::new();
    bench.pass_with(ms(5_000), |bench, (to, packet)| {
        targets.push(to);
        all_answer(bench, (to, packet));
    });
    assert_eq!(targets.len(), 10);
    assert_eq!(targets[..5].iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(targets[5..].iter().collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn silence_asks_helpers_and_the_reliable_lane() {
    // SWIM 3.1; M33: datagrams blocked while streams pass must not look like death.
    let mut bench = Bench::of(6);
    let (target, sequence) = first_probe(&mut bench);
    bench.pass(ms(250));
    let helpers = helpers_asked(&bench);
    assert_eq!(helpers.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(!helpers.contains(&target));
    let second_leg = bench.streamed[0].clone();
    assert_eq!(
        (second_leg.0, second_leg.1.body),
        (
            id(target),
            Body::Ping {
                sequence,
                reliable: true
            }
        )
    );
    bench.hear_body(
        target,
        Body::Ack {
            sequence,
            target: id(target),
        },
        Vec::new(),
    );
    bench.pass(ms(400));
    assert_eq!(bench.state(target), Some(MemberState::Alive));
    assert_eq!(bench.swim.counters().probe_failures, 0);
}

#[test]
fn a_reliable_ping_is_answered_on_the_reliable_lane() {
    // M33: the answer must not need the lane that may be blocked.
    let mut bench = Bench::of(3);
    bench.hear_body(
        2,
        Body::Ping {
            sequence: 4,
            reliable: true,
        },
        Vec::new(),
    );
    assert!(bench.sent.is_empty());
    assert_eq!(
        bench.streamed[0].1.body,
        Body::Ack {
            sequence: 4,
            target: ME
        }
    );
}

#[test]
fn helpers_forward_the_answer_or_say_that_they_tried() {
    // SWIM 3.1 and Lifeguard's nack; M34: a helper that cannot try says nothing.
    let mut bench = Bench::of(4);
    bench.hear_body(
        2,
        Body::PingRequest {
            sequence: 70,
            target: id(3),
        },
        Vec::new(),
    );
    let [(3, Body::Ping { sequence, .. })] = bench.sent_bodies()[..] else {
        panic!("{:?}", bench.sent_bodies())
    };
    bench.hear_body(
        3,
        Body::Ack {
            sequence,
            target: id(3),
        },
        Vec::new(),
    );
    assert_eq!(
        bench.sent_bodies()[1..],
        [(
            2,
            Body::Ack {
                sequence: 70,
                target: id(3)
            }
        )]
    );
    bench.clear();
    bench.hear_body(
        2,
        Body::PingRequest {
            sequence: 71,
            target: id(4),
        },
        Vec::new(),
    );
    bench.pass(ms(201));
    assert!(bench.sent_bodies().contains(&(
        2,
        Body::Nack {
            sequence: 71,
            target: id(4)
        }
    )));
    bench.clear();
    bench.hear_body(
        2,
        Body::PingRequest {
            sequence: 72,
            target: id(99),
        },
        Vec::new(),
    );
    bench.pass(ms(201));
    assert!(
        !bench
            .sent_bodies()
            .iter()
            .any(|(to, body)| *to == 2 && matches!(body, Body::Nack { .. }))
    );
}

#[test]
fn a_nack_is_evidence() {
    // M34: helpers that tried and failed speak against the target, and for the prober.
    let mut bench = Bench::of(6);
    let (target, sequence) = first_probe(&mut bench);
    bench.pass(ms(250));
    for helper in helpers_asked(&bench) {
        bench.hear_body(
            helper,
            Body::Nack {
                sequence,
                target: id(target),
            },
            Vec::new(),
        );
    }
    bench.pass(ms(300));
    assert_eq!(bench.state(target), Some(MemberState::Suspect));
    assert_eq!(bench.swim.local_health(), 0);
}

#[test]
fn unreachable_helpers_are_no_evidence() {
    // M34: ringpop-node#59, an unreachable helper was counted against the target.
    let mut bench = Bench::of(6);
    let (target, _) = first_probe(&mut bench);
    bench.pass(ms(520));
    assert_eq!(bench.state(target), Some(MemberState::Alive));
    assert_eq!(bench.swim.counters().doubts, 1);
    assert_eq!(bench.swim.local_health(), 3, "three helpers were silent");
    let again = bench
        .sent_bodies()
        .into_iter()
        .rev()
        .find(|(_, body)| matches!(body, Body::Ping { .. }));
    assert_eq!(
        again.map(|(to, _)| to),
        Some(target),
        "it is asked once more"
    );
    bench.pass(ms(2_500));
    assert_eq!(
        bench.state(target),
        Some(MemberState::Suspect),
        "M36: for ever undecided would see all alive"
    );
}

#[test]
fn send_errors_are_failed_probes_and_lower_own_health() {
    // M36: memberlist#242, "network unreachable" ended the probe: an isolated node saw all alive.
    let mut bench = Bench::of(6);
    let (target, _) = first_probe(&mut bench);
    bench.swim.send_failed(bench.now, id(target));
    assert_eq!(bench.swim.local_health(), 1);
    bench.pass(ms(1));
    assert_eq!(
        helpers_asked(&bench).len(),
        3,
        "without waiting for the timeout"
    );
    bench.pass(ms(15_000));
    assert!(
        bench
            .events
            .contains(&MemberEvent::Suspected { store: id(target) })
    );
}

#[test]
fn a_node_that_misses_answers_probes_more_slowly_and_recovers() {
    // Lifeguard 3: local health.
    let mut bench = Bench::of(6);
    bench.pass(ms(5_000));
    assert_eq!(bench.swim.local_health(), 6);
    let probes = bench.swim.counters().probes;
    bench.pass(ms(3_500));
    assert!(
        bench.swim.counters().probes - probes <= 1,
        "one probe in 7 intervals"
    );
    bench.pass_with(ms(60_000), all_answer);
    assert_eq!(bench.swim.local_health(), 0);
}

#[test]
fn suspicion_shortens_with_independent_accusers() {
    // M24: consul#5567, one sick node accuses hundreds; Lifeguard 4: one accuser alone needs long.
    let deadline = |bench: &Bench| {
        bench
            .swim
            .member(id(3))
            .unwrap()
            .suspicion
            .as_ref()
            .unwrap()
            .deadline()
            - bench.now
    };
    let mut bench = Bench::of(10);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    assert_eq!(deadline(&bench), ms(4_500));
    bench.hear(4, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    assert_eq!(
        deadline(&bench),
        ms(4_500),
        "the same accuser by another way is not another one"
    );
    bench.hear(4, vec![accused(3, 1, 0, Verdict::Suspect, 4)]);
    assert!(deadline(&bench) < ms(3_000));
    bench.hear(5, vec![accused(3, 1, 0, Verdict::Suspect, 5)]);
    assert_eq!(deadline(&bench), ms(1_500));
    bench.hear(99, vec![accused(3, 1, 0, Verdict::Suspect, 99)]);
    bench.hear(6, vec![accused(3, 1, 0, Verdict::Dead, 6)]);
    assert_eq!(deadline(&bench), ms(1_500), "nothing makes it shorter");
}

#[test]
fn small_memberships_need_fewer_accusers() {
    // Lifeguard's k = min(2, N - 2), so that three nodes profit too; DESIGN section 10.
    let options = SwimOptions::lan().check().unwrap();
    let timing = |members| Timing::of(&options, members);
    assert_eq!(
        [1, 2, 3, 4, 1_000].map(|members| timing(members).confirmations),
        [0, 0, 1, 2, 2]
    );
    assert_eq!(
        timing(2).suspicion(0),
        ms(1_500),
        "two nodes: nobody else could confirm"
    );
    assert_eq!(
        (timing(3).suspicion(0), timing(3).suspicion(1)),
        (ms(4_500), ms(1_500))
    );
    let rounded = |members: usize| timing(members).suspicion_least.as_millis();
    assert_eq!([10, 100, 1_000].map(rounded), [1_500, 3_000, 4_500]);
    assert_eq!(
        [1, 10, 100, 1_000].map(|members| timing(members).retransmits),
        [4, 8, 12, 16]
    );
}

#[test]
fn a_suspect_is_told_with_the_next_probe() {
    // Lifeguard 4, buddy: the accused hears of it from whoever probes it.
    let mut bench = Bench::of(3);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    bench.clear();
    let mut told = false;
    bench.pass_with(ms(1_000), |_, (to, packet)| {
        told |= to == id(3)
            && packet
                .accusations()
                .any(|accusation| accusation.subject == id(3));
    });
    assert!(told);
}

#[test]
fn suspect_refutes_with_higher_incarnation() {
    // SWIM 4.2.
    let mut bench = Bench::of(3);
    bench.hear_body(
        2,
        Body::Ping {
            sequence: 5,
            reliable: false,
        },
        vec![accused(1, 1, 0, Verdict::Suspect, 2)],
    );
    assert_eq!(
        (bench.at(1), bench.state(1)),
        (Some((1, 1)), Some(MemberState::Alive))
    );
    assert_eq!(bench.told(2, 1), vec![alive(1, 1, 1)], "with the ack");
    assert_eq!(bench.swim.local_health(), 1);
    bench.hear(2, vec![accused(1, 1, 0, Verdict::Suspect, 2)]);
    assert_eq!(bench.at(1), Some((1, 1)), "one refutation per accusation");
}

#[test]
fn refuted_suspicion_ends() {
    // SWIM 4.2.
    let mut bench = Bench::of(4);
    bench.hear(2, vec![accused(3, 1, 0, Verdict::Suspect, 2)]);
    bench.hear(4, vec![alive(3, 1, 1)]);
    assert_eq!(
        bench.events,
        vec![
            MemberEvent::Suspected { store: id(3) },
            MemberEvent::Returned { store: id(3) }
        ]
    );
    bench.pass_with(ms(60_000), all_answer);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
}

#[test]
fn a_late_timer_asks_again_before_it_accuses() {
    // E22 and issue 4: after a pause the timers are judged before the queued packets are read.
    let mut bench = Bench::of(4);
    let (target, _) = first_probe(&mut bench);
    let suspect = if target == 2 { 3 } else { 2 };
    bench.hear(
        4,
        vec![
            accused(suspect, 1, 0, Verdict::Suspect, 4),
            accused(suspect, 1, 0, Verdict::Dead, 4),
        ],
    );
    bench.now += ms(30_000);
    bench.swim.tick(bench.now);
    bench.drain();
    assert_eq!(bench.swim.counters().late_wakes, 1);
    assert_eq!(
        (bench.state(target), bench.state(suspect)),
        (Some(MemberState::Alive), Some(MemberState::Suspect))
    );
    let hear_suspect = |bench: &mut Bench, (to, packet): (StoreId, Packet)| {
        if to == id(suspect) {
            bench.hear(suspect, vec![alive(suspect, 1, 1)]);
        }
        all_answer(bench, (to, packet));
    };
    bench.pass_with(ms(30_000), hear_suspect);
    assert!(
        !bench
            .events
            .iter()
            .any(|event| matches!(event, MemberEvent::Died { .. })),
        "{:?}",
        bench.events
    );
    assert_eq!(bench.state(suspect), Some(MemberState::Alive));
}

#[test]
fn the_silent_die_and_are_called_for_ever() {
    // M32: metallb#589, after 30 s memberlist forgets the dead, and a 60 s partition never heals.
    let mut bench = Bench::of(3);
    let silent_three = |bench: &mut Bench, (to, packet): (StoreId, Packet)| {
        if to == id(2) {
            if let Body::PingRequest { sequence, target } = packet.body {
                bench.hear_body(
                    2,
                    Body::Nack { sequence, target },
                    vec![accused(3, 1, 0, Verdict::Suspect, 2)],
                );
            }
            all_answer(bench, (to, packet));
        }
    };
    bench.pass_with(ms(4_500), silent_three);
    assert_eq!(bench.state(3), Some(MemberState::Dead));
    assert!(bench.events.contains(&MemberEvent::Died { store: id(3) }));
    bench.pass_with(Duration::from_secs(600), silent_three);
    bench.clear();
    bench.pass_with(Duration::from_secs(10), silent_three);
    let calls = bench.sent.iter().filter(|(to, _)| *to == id(3)).count();
    assert!((4..=6).contains(&calls), "one per 2 s, {calls} in 10 s");
    assert!(
        bench
            .told(3, 3)
            .iter()
            .all(|rumour| *rumour == accused(3, 1, 0, Verdict::Dead, 1))
    );
}

#[test]
fn an_answer_counts_only_from_the_target_or_a_helper_that_was_asked() {
    // M46: replayed or stray acks must not hide a death.
    let mut bench = Bench::of(6);
    let (target, sequence) = first_probe(&mut bench);
    let stranger = (2..=6).find(|&store| store != target).unwrap();
    bench.hear_body(
        stranger,
        Body::Ack {
            sequence,
            target: id(target),
        },
        Vec::new(),
    );
    bench.hear_body(
        target,
        Body::Ack {
            sequence: sequence + 1,
            target: id(target),
        },
        Vec::new(),
    );
    bench.hear_body(
        stranger,
        Body::Nack {
            sequence,
            target: id(target),
        },
        Vec::new(),
    );
    bench.pass(ms(520));
    assert_eq!(
        (
            bench.swim.counters().probe_failures,
            bench.swim.counters().doubts
        ),
        (1, 1)
    );
}

#[test]
fn alone_there_is_nothing_to_do_but_wait() {
    // One node is a cluster too.
    let mut bench = Bench::alone(1);
    bench.pass(Duration::from_secs(60));
    assert!(bench.sent.is_empty() && bench.streamed.is_empty() && bench.events.is_empty());
    assert_eq!(bench.swim.local_health(), 0);
}
