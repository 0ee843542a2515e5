//! News, syncs, joins and farewells.

use super::*;
use crate::packet::{BUCKETS, Claim};

#[test]
fn one_slot_per_subject_however_much_is_said() {
    // M29: consul#16537, a queue of 20,358 intents cured only by restarting every agent.
    let mut bench = Bench::of(5);
    for incarnation in 0..5_000 {
        bench.hear(
            2,
            vec![
                accused(3, 1, incarnation, Verdict::Suspect, 2),
                alive(3, 1, incarnation + 1),
            ],
        );
    }
    assert_eq!(bench.swim.queued(), 1);
    bench.clear();
    bench.pass_with(ms(150), all_answer);
    let newest = |(_, packet): &(StoreId, Packet)| {
        packet
            .rumours
            .iter()
            .all(|rumour| *rumour == alive(3, 1, 5_000))
    };
    assert!(bench.sent.iter().all(newest), "newer replaces older");
}

#[test]
fn accusations_overtake_a_full_queue_and_leave_room_for_the_rest() {
    // M28: memberlist#299, consul#8435: one class filled every packet and the others starved, or farewells waited behind the queue.
    let mut bench = Bench::alone(300);
    for store in 2..=200 {
        bench.swim.introduce(bench.now, signed(record(store, 1, 0)));
    }
    bench.hear(2, vec![accused(150, 1, 0, Verdict::Suspect, 2)]);
    bench.clear();
    bench
        .swim
        .send(id(7), super::super::Lane::Datagram, Body::Gossip);
    bench.drain();
    assert!(
        !bench.told(7, 150).is_empty(),
        "the accusation is on the first packet"
    );
    for store in 2..=120 {
        bench.hear(200, vec![accused(store, 1, 0, Verdict::Suspect, 200)]);
    }
    bench.clear();
    bench
        .swim
        .send(id(7), super::super::Lane::Datagram, Body::Gossip);
    bench.drain();
    let records = bench.sent[0].1.records().count();
    assert!(
        records >= 1,
        "a hundred accusations do not keep a record out"
    );
}

#[test]
fn rumours_are_sent_as_often_as_the_formula_says() {
    // SWIM 4.1: lambda log N transmissions by each node.
    let mut bench = Bench::of(10);
    bench.hear(2, vec![alive(3, 1, 1)]);
    bench.pass_with(ms(10_000), all_answer);
    let sent = bench
        .sent
        .iter()
        .flat_map(|(_, packet)| packet.records())
        .filter(|held| held.record().store == id(3))
        .count();
    assert!(
        (7..=8).contains(&sent),
        "{sent} of 8; one may have been spent on the subject itself"
    );
    assert_eq!(bench.swim.queued(), 0);
}

#[test]
fn every_datagram_keeps_within_the_limit_of_its_connection() {
    // M43, M48: one budget, which follows what the connection takes; the bench holds every datagram against it.
    for limit in [1_000, 1_100, 1_200, 1_452, 9_000] {
        let mut bench = Bench::alone(400);
        bench.swim.set_datagram_bytes(limit);
        for store in 2..=300 {
            bench
                .swim
                .introduce(bench.now, signed(record(store, u64::MAX, 1 << 61)));
        }
        for store in 2..=300 {
            bench.hear(
                2,
                vec![accused(store, u64::MAX, 1 << 61, Verdict::Suspect, 3)],
            );
        }
        bench.pass_with(ms(3_000), all_answer);
        let largest = bench
            .sent
            .iter()
            .map(|(_, packet)| packet.encode().len())
            .max();
        assert!(
            largest > Some(limit * 8 / 10),
            "and makes use of it: {largest:?} of {limit}"
        );
    }
}

#[test]
fn views_that_differ_sync_the_parts_that_differ() {
    // Demers et al. 1987: anti-entropy settles what rumours missed.
    let mut bench = Bench::of(40);
    let packet = |body, hash, rumours| Packet {
        generation: 1,
        incarnation: 0,
        hash,
        want: false,
        body,
        rumours,
    };
    let ping = packet(
        Body::Ping {
            sequence: 1,
            reliable: false,
        },
        12_345,
        Vec::new(),
    );
    bench.hear_packet(2, ping.clone());
    assert!(
        bench.streamed.is_empty(),
        "rumours under way get half an interval"
    );
    bench.now += ms(300);
    bench.hear_packet(2, ping.clone());
    let [
        (
            to,
            Packet {
                body: Body::SyncRequest { buckets },
                ..
            },
        ),
    ] = &bench.streamed[..]
    else {
        panic!("one request")
    };
    assert_eq!((to.get(), buckets.len()), (2, BUCKETS));
    bench.clear();
    bench.hear_packet(2, ping);
    assert!(bench.streamed.is_empty(), "one per second");
    let claims = vec![Claim(id(7), 1, 1, MemberState::Alive)];
    let digest = Body::SyncDigest {
        parts: vec![7],
        claims,
    };
    bench.hear_packet(3, packet(digest.clone(), 12_345, Vec::new()));
    assert!(bench.streamed.is_empty(), "3 was not asked");
    bench.hear_packet(2, packet(digest.clone(), 12_345, Vec::new()));
    let [
        (
            _,
            Packet {
                body: Body::SyncExchange { wanted },
                rumours,
                ..
            },
        ),
    ] = &bench.streamed[..]
    else {
        panic!("one exchange")
    };
    assert_eq!(*wanted, vec![id(7)], "it is further there");
    assert_eq!(
        *rumours,
        vec![alive(39, 1, 0)],
        "what the digest lacked in part 7 = stores 7 and 39"
    );
    bench.clear();
    bench.hear_packet(2, packet(digest, 12_345, Vec::new()));
    assert!(bench.streamed.is_empty(), "one answer to one question");
    bench.hear_packet(2, packet(Body::SyncPush, 12_345, vec![alive(7, 1, 1)]));
    assert_eq!(bench.at(7), Some((1, 1)));
}

#[test]
fn a_sync_request_is_answered_with_the_differing_parts_alone() {
    // Issue 4: bucketed delta sync.
    let mut bench = Bench::of(40);
    let mut buckets = bench.swim.members.buckets().to_vec();
    buckets[7] ^= 1;
    bench.hear_body(
        2,
        Body::SyncRequest {
            buckets: buckets.clone(),
        },
        Vec::new(),
    );
    let claims = vec![
        Claim(id(7), 1, 0, MemberState::Alive),
        Claim(id(39), 1, 0, MemberState::Alive),
    ];
    let digest = Body::SyncDigest {
        parts: vec![7],
        claims,
    };
    let bodies: Vec<_> = bench
        .streamed
        .iter()
        .map(|(_, packet)| packet.body.clone())
        .collect();
    assert_eq!(bodies, vec![digest]);
    bench.clear();
    let exchange = Body::SyncExchange {
        wanted: vec![id(39), id(39), id(99)],
    };
    bench.hear_body(3, exchange.clone(), Vec::new());
    assert!(bench.streamed.is_empty(), "3 was told no digest");
    bench.hear_body(2, exchange.clone(), vec![alive(7, 1, 1)]);
    assert_eq!(bench.at(7), Some((1, 1)));
    let [(_, push)] = &bench.streamed[..] else {
        panic!("one push")
    };
    assert_eq!(
        (&push.body, &push.rumours),
        (&Body::SyncPush, &vec![alive(39, 1, 0)]),
        "each once"
    );
    bench.hear_body(2, exchange, Vec::new());
    assert_eq!(bench.streamed.len(), 1, "one answer to one question");
    bench.hear(3, vec![alive(7, 1, 2)]);
    buckets = bench.swim.members.buckets().to_vec();
    bench.clear();
    bench.hear_body(2, Body::SyncRequest { buckets }, Vec::new());
    assert!(bench.streamed.is_empty(), "equal by now");
    bench.hear_body(
        2,
        Body::SyncRequest {
            buckets: Vec::new(),
        },
        Vec::new(),
    );
    let Body::SyncDigest { parts, claims } = &bench.streamed[0].1.body else {
        panic!("a digest")
    };
    assert_eq!(
        (parts.len(), claims.len()),
        (BUCKETS, 40),
        "nothing sent is everything wanted"
    );
}

#[test]
fn too_many_syncs_are_sent_elsewhere() {
    // Issue 4: overload is answered with other members to ask.
    let mut bench = Bench::of(40);
    for from in 2..=20 {
        bench.hear_body(
            from,
            Body::SyncRequest {
                buckets: Vec::new(),
            },
            Vec::new(),
        );
    }
    let busy = bench
        .streamed
        .iter()
        .filter(|(_, packet)| matches!(packet.body, Body::SyncBusy { .. }))
        .count();
    assert_eq!((busy, bench.swim.counters().syncs_refused), (11, 11));
    bench.clear();
    bench.hear_body(
        2,
        Body::SyncBusy {
            others: vec![id(2), id(99), id(5), id(6)],
        },
        Vec::new(),
    );
    bench.hear_body(
        5,
        Body::SyncBusy {
            others: vec![id(7)],
        },
        Vec::new(),
    );
    let asked: Vec<_> = bench.streamed.iter().map(|(to, _)| to.get()).collect();
    assert_eq!(asked, vec![5], "one referral is followed, no chain of them");
}

#[test]
fn syncs_that_bear_no_fruit_back_off() {
    // M31: ringpop-go#139, two nodes that hash different fields synced in full for ever.
    let mut bench = Bench::of(3);
    let ask = |bench: &mut Bench| {
        bench.now += ms(100);
        let body = Body::Ping {
            sequence: 1,
            reliable: false,
        };
        bench.hear_packet(
            2,
            Packet {
                generation: 1,
                incarnation: 0,
                hash: 1,
                want: false,
                body,
                rumours: Vec::new(),
            },
        );
    };
    (0..6_000).for_each(|_| ask(&mut bench));
    let syncs = bench.swim.counters().syncs;
    assert!(
        (20..=30).contains(&syncs),
        "{syncs} in 600 s: 1, 2, 4, .. 32 s apart"
    );
    bench.hear(3, vec![alive(3, 1, 1)]);
    (0..10).for_each(|_| ask(&mut bench));
    assert_eq!(
        bench.swim.counters().syncs,
        syncs + 1,
        "news makes it worth trying again"
    );
}

#[test]
fn a_sender_with_an_unknown_position_is_asked_for_its_record() {
    // M2: whoever was missed by every rumour introduces itself.
    let mut bench = Bench::of(3);
    let body = Body::Ping {
        sequence: 1,
        reliable: false,
    };
    let ping = Packet {
        generation: 2,
        incarnation: 3,
        hash: 0,
        want: false,
        body,
        rumours: Vec::new(),
    };
    bench.hear_packet(3, ping);
    assert!(bench.sent[0].1.want);
    bench.clear();
    let wanted = Packet {
        generation: 1,
        incarnation: 0,
        hash: 0,
        want: true,
        body: Body::Gossip,
        rumours: Vec::new(),
    };
    bench.hear_packet(3, wanted);
    assert_eq!(bench.told(3, 1), vec![alive(1, 1, 0)]);
}

#[test]
fn a_joiner_with_the_full_view_knows_everybody_and_is_soon_known() {
    // DESIGN section 10: join = the log first, then the full view.
    let mut company = Company::of(10);
    let view = company.machines[4].view();
    assert_eq!(view.len(), 10);
    let mut joiner = Bench::with_seed(record(11, 1, 0), 11, 11).swim;
    company
        .machines
        .iter_mut()
        .for_each(|swim| swim.admitted(Duration::ZERO, [id(11)]));
    view.into_iter()
        .for_each(|record| joiner.introduce(company.now, record));
    assert_eq!(joiner.members().count(), 11);
    company.machines.push(joiner);
    company
        .connected
        .extend((1..=11).flat_map(|other| [(id(11), id(other)), (id(other), id(11))]));
    company.pass(ms(1_000));
    assert_eq!(company.states(11), vec![Some(MemberState::Alive); 11]);
    let first = company.machines[0].hash();
    assert!(company.machines.iter().all(|swim| swim.hash() == first));
}

/// Time from the crash of one of `size` until all others hold it for dead, in each of `seeds` runs, sorted.
fn agreement_on_a_crash(size: u64, seeds: u64) -> Vec<Duration> {
    let mut times: Vec<Duration> = (1..=seeds)
        .map(|seed| {
            let mut company = Company::with_seed(size, seed);
            company.pass(ms(3_000 + seed * 37));
            let crash = company.now;
            company
                .connected
                .retain(|(a, b)| *a != id(1) && *b != id(1));
            while company.states(1)[1..]
                .iter()
                .any(|state| *state != Some(MemberState::Dead))
            {
                company.pass(ms(50));
                assert!(company.now < crash + ms(60_000), "nobody noticed");
            }
            let alive = |store| {
                company.states(store)[1..]
                    .iter()
                    .all(|state| *state == Some(MemberState::Alive))
            };
            assert!((2..=size).all(alive));
            company.now - crash
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn a_crash_is_agreed_upon_by_all_survivors() {
    // Issue 4: with LAN timing within 4 s at 10 nodes and 6 s at 100.
    let times = agreement_on_a_crash(10, 100);
    assert!(
        times[98] <= ms(4_000),
        "p50 {:?} p99 {:?} worst {:?}",
        times[50],
        times[98],
        times[99]
    );
    let times = agreement_on_a_crash(100, 10);
    assert!(
        times[9] <= ms(6_000),
        "p50 {:?} worst {:?}",
        times[5],
        times[9]
    );
}

#[test]
fn a_third_of_all_packets_lost_kills_nobody() {
    // DESIGN section 16: 30 % loss at 20 nodes for 10 minutes, no false death; here the reliable lane loses as much.
    for seed in 0..2 {
        let mut company = Company::with_seed(20, seed);
        company.loss = 30;
        company.pass(Duration::from_secs(600));
        let sum = |count: fn(&super::super::Counters) -> u64| {
            company
                .machines
                .iter()
                .map(|swim| count(swim.counters()))
                .sum::<u64>()
        };
        assert!(
            sum(|counters| counters.suspicions) > 1_000
                && sum(|counters| counters.refutations) > 100
        );
        assert_eq!(sum(|counters| counters.deaths), 0);
    }
}

#[test]
fn a_farewell_reaches_all_and_the_process_learns_when_it_may_end() {
    // M28: consul#8435, the intent to leave waited behind the queue.
    let mut company = Company::of(10);
    company.pass(ms(3_000));
    let now = company.now;
    company.machines[2].leave(now);
    company.deliver();
    company.pass(ms(1_500));
    assert_eq!(company.states(3), vec![Some(MemberState::Left); 10]);
    assert_eq!(company.machines[2].phase, super::super::Phase::Left);
    assert!(
        company
            .machines
            .iter()
            .all(|swim| swim.counters().suspicions == 0)
    );
}

#[test]
fn a_farewell_is_not_refuted_and_a_restart_undoes_it() {
    // M11, M22: gone is gone until a higher generation says otherwise.
    let mut bench = Bench::of(3);
    bench.swim.leave(bench.now);
    bench.drain();
    assert_eq!(
        (bench.at(1), bench.state(1)),
        (Some((1, 1)), Some(MemberState::Left))
    );
    bench.hear(2, vec![accused(1, 1, 1, Verdict::Dead, 2)]);
    assert_eq!(bench.at(1), Some((1, 1)));
    bench.pass(ms(2_000));
    assert!(
        bench.events.contains(&MemberEvent::Left { store: ME }),
        "told as often as it takes"
    );
    let farewell = Record {
        state: MemberState::Left,
        ..record(3, 1, 1)
    };
    let mut other = Bench::of(3);
    other.hear(2, vec![Rumour::Record(signed(farewell))]);
    other.hear(2, vec![accused(3, 1, 1, Verdict::Dead, 2), alive(3, 1, 0)]);
    assert_eq!(other.state(3), Some(MemberState::Left));
    other.hear(3, vec![alive(3, 2, 0)]);
    assert_eq!(other.state(3), Some(MemberState::Alive));
}

#[test]
fn a_farewell_of_the_last_node_ends_at_once() {
    // Nobody is there to be told.
    let mut bench = Bench::alone(1);
    bench.swim.leave(bench.now);
    bench.drain();
    assert_eq!(bench.events, vec![MemberEvent::Left { store: ME }]);
}

#[test]
fn changed_metadata_spreads_as_one_more_incarnation() {
    // DESIGN section 10: only the subject originates a higher position; bounds hold before anything changes.
    let mut bench = Bench::of(3);
    let metadata = Metadata {
        zone: Some("b".to_owned()),
        capacity: 4,
        ..Metadata::default()
    };
    let addresses = vec![([10, 0, 0, 1], 9).into()];
    bench
        .swim
        .advertise(bench.now, addresses.clone(), metadata.clone())
        .unwrap();
    bench
        .swim
        .advertise(bench.now, addresses.clone(), metadata.clone())
        .unwrap();
    assert_eq!(bench.at(1), Some((1, 1)), "the same again is no news");
    let own = bench.swim.member(ME).unwrap().record().clone();
    assert_eq!((own.addresses, own.metadata), (addresses.clone(), metadata));
    let long = Metadata {
        build: "b".repeat(65),
        ..Metadata::default()
    };
    assert!(bench.swim.advertise(bench.now, addresses, long).is_err());
    assert_eq!(bench.at(1), Some((1, 1)));
    bench.hear(
        2,
        vec![Rumour::Record(signed(Record {
            name: "renamed".to_owned(),
            ..record(3, 1, 1)
        }))],
    );
    assert_eq!(bench.events, vec![MemberEvent::Changed { store: id(3) }]);
}

#[test]
fn nothing_is_gossiped_once_everybody_knows() {
    // Issue 4: the steady load of a node does not grow with N; probes and acks alone.
    let mut company = Company::of(20);
    company.pass(ms(10_000));
    company.packets = 0;
    company.pass(ms(10_000));
    let probes = 20 * 20 * 2; // nodes, intervals, ping and ack
    assert!(
        company.packets <= probes + 40,
        "{} packets, {probes} are probes",
        company.packets
    );
    assert!(company.machines.iter().all(|swim| swim.queued() == 0));
}

#[test]
fn records_are_told_until_peers_agree_and_accusations_to_the_end() {
    // Demers et al. 1987, 1.4: a rumour ends when those who are told know it. M28: nothing of the sort ends an accusation early.
    let mut bench = Bench::of(40);
    let moved = |incarnation| {
        let addresses = vec![([10, 9, 9, 9], incarnation as u16).into()];
        Rumour::Record(signed(Record {
            addresses,
            ..record(7, 1, incarnation)
        }))
    };
    bench.hear(2, vec![moved(1), accused(9, 1, 0, Verdict::Suspect, 2)]);
    bench
        .swim
        .advertise(bench.now, Vec::new(), Metadata::default())
        .unwrap();
    assert_eq!(bench.swim.queued(), 3);
    let agree = |bench: &mut Bench, from| {
        let body = Body::Ack {
            sequence: 99,
            target: id(from),
        };
        bench.hear_body(from, body, Vec::new()); // with an equal hash
    };
    (2..5).for_each(|from| agree(&mut bench, from));
    assert_eq!(bench.swim.queued(), 3, "three may be chance");
    bench.hear(2, vec![moved(2)]);
    (2..5).for_each(|from| agree(&mut bench, from));
    assert_eq!(bench.swim.queued(), 3, "news since: counted anew");
    agree(&mut bench, 5);
    assert_eq!(bench.swim.queued(), 1, "the accusation is not in the hash");
}

#[test]
fn a_view_that_was_told_at_a_join_is_not_told_again() {
    // Issue 4: joins are boring. A joiner that repeats a thousand old records would be a storm of its own.
    let mut bench = Bench::alone(40);
    let view = (2..=40).map(|store| signed(record(store, 1, 0)));
    bench.swim.learn(bench.now, view);
    assert_eq!(bench.swim.members().count(), 40);
    assert_eq!(bench.swim.queued(), 1, "itself alone");
    bench.swim.introduce(bench.now, signed(record(7, 2, 0)));
    assert_eq!(bench.swim.queued(), 2, "who introduces itself is news");
    let again = signed(record(7, 2, 1));
    bench.swim.learn(bench.now, [again]);
    assert_eq!(
        bench.swim.queued(),
        2,
        "what was news before stays so, in its newest form"
    );
}
