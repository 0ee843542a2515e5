//! Finding the leader: hints, probing, silence, lost connections, stale queries, tables.

use super::*;
use crate::router::Refused;

#[test]
fn a_hint_is_followed_at_once_by_everything_that_asked_there() {
    // S4: a message waits for the event and not for the next retry tick.
    let mut rig = Rig::new();
    let calls = [(); 3].map(|()| rig.query(5_000));
    let sent: [Sent; 3] = rig.take();
    for sent in &sent {
        assert_eq!(sent.to, 1);
        rig.not_leader(sent, Some(2));
    }
    let again: [Sent; 3] = rig.take();
    for again in &again {
        assert_eq!(again.to, 2);
        rig.answer(again, false, b"0");
    }
    for call in calls {
        rig.ended(call).unwrap();
    }
    rig.query(5_000);
    assert_eq!(rig.take::<1>()[0].to, 2, "the hint is remembered");
}

#[test]
fn without_a_known_leader_one_call_probes_and_the_others_leave_with_its_answer() {
    // S4: no waiting for the next retry tick; and one probe, not a thousand.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    rig.table(table(1, 1, None));
    let calls: Vec<_> = (0..50).map(|_| rig.query(5_000)).collect();
    let [probe] = rig.take();
    rig.not_leader(&probe, None);
    rig.take::<0>();
    let waited = rig.pass_until_sent();
    assert!(waited <= ms(10), "{waited:?}");
    let [probe] = rig.take();
    rig.answer(&probe, false, b"0");
    assert_eq!(rig.sent.len(), 49, "all leave in the same moment");
    assert!(rig.sent.iter().all(|sent| sent.to == probe.to));
    assert_eq!(calls.len(), 50);
}

#[test]
fn probing_visits_every_replica_and_slows_down_to_a_tenth_of_a_second() {
    // Brief pauses at first, since most searches end at once; never more than 100 ms, so a new leader is found soon.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    rig.table(table(1, 1, None));
    rig.query(9_000);
    let mut visited = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        pauses.push(rig.pass_until_sent());
        let [probe] = rig.take();
        visited.push(probe.to);
        rig.not_leader(&probe, None);
    }
    for window in visited.windows(3) {
        let mut window = window.to_vec();
        window.sort_unstable();
        assert_eq!(window, [1, 2, 3]);
    }
    assert!(pauses[1] <= ms(10) && pauses[1] >= ms(5), "{pauses:?}");
    assert!(pauses[11] <= ms(100) && pauses[11] >= ms(50), "{pauses:?}");
    assert!(rig.table_wanted > 0, "they may all have moved");
}

#[test]
fn two_replicas_that_point_at_each_other_are_not_asked_in_a_spin() {
    // S4 the other way round: after three hints without an answer there is a pause.
    let mut rig = Rig::new();
    rig.query(1_000);
    let mut asked = 0;
    let end = rig.now + ms(990);
    while rig.now < end {
        for sent in std::mem::take(&mut rig.sent) {
            asked += 1;
            rig.not_leader(&sent, Some(if sent.to == 1 { 2 } else { 1 }));
        }
        if rig.sent.is_empty() {
            let at = rig.core.wake_at().unwrap();
            rig.pass(at - rig.now);
        }
    }
    assert!((20..150).contains(&asked), "{asked} requests in a second");
}

#[test]
fn a_late_hint_does_not_unseat_a_leader_that_answered() {
    // Replies overtake each other: a follower's old opinion is no news.
    let mut rig = Rig::new();
    rig.query(5_000);
    rig.query(5_000);
    let [one, two] = rig.take();
    rig.not_leader(&one, Some(2));
    let [again] = rig.take();
    rig.answer(&again, false, b"0");
    let [recalled] = rig.take(); // the second query, still on its way to the old leader
    assert_eq!((recalled.to, recalled.request.id), (2, two.request.id));
    rig.not_leader(&two, Some(3));
    rig.query(5_000);
    assert_eq!(rig.take::<1>()[0].to, 2);
}

#[test]
fn a_lost_connection_sends_everything_to_another_replica_at_once() {
    // S20: reconnecting is part of failover.
    let mut rig = Rig::with_session();
    let calls = [rig.command(5_000), rig.query(5_000)];
    let [command, _query] = rig.take();
    rig.core.disconnected(rig.now, 1);
    rig.drain();
    let [probe] = rig.take();
    assert_ne!(probe.to, 1);
    assert_eq!(probe.command(), command.command());
    rig.not_leader(&probe, Some(1)); // it still believes in the dead
    rig.take::<0>();
    let mut leader = 1;
    while rig.running(calls[0]) || rig.running(calls[1]) {
        for sent in std::mem::take(&mut rig.sent) {
            assert_ne!(sent.to, 1, "a dead leader is not asked on a replica's word");
            leader = sent.to;
            rig.answer(&sent, true, b"ok");
        }
        if rig.sent.is_empty()
            && let Some(at) = rig.core.wake_at()
        {
            rig.pass(at - rig.now);
        }
    }
    assert_ne!(leader, 1);
}

#[test]
fn a_store_that_comes_back_is_asked_the_moment_it_is_connected() {
    // S20: client connections that do not come back after a restart; S4: no tick in between.
    let mut rig = Rig::new();
    rig.query(20_000);
    rig.take::<1>();
    for store in [1, 2, 3] {
        rig.core.disconnected(rig.now, store);
    }
    rig.drain();
    rig.pass(ms(1_000));
    for sent in std::mem::take(&mut rig.sent) {
        rig.core.unsent(
            rig.now,
            sent.to,
            CallId(sent.request.id),
            sent.request.attempt,
        );
        rig.drain();
    }
    rig.core.connected(rig.now, 3);
    rig.drain();
    assert_eq!(rig.sent.last().unwrap().to, 3);
}

#[test]
fn a_dead_leader_without_a_word_is_left_after_the_attempt_timeout() {
    // S20: kill -9 gives no reset; the others are probed before their election is even over.
    let mut rig = Rig::with_session();
    let call = rig.command(10_000);
    rig.pass(ms(499));
    assert!(
        rig.sent.drain(..).all(|sent| sent.to == 1),
        "its reply may be lost"
    );
    rig.pass_until_sent();
    let elected = rig.now + ms(700);
    while rig.running(call) {
        for sent in std::mem::take(&mut rig.sent) {
            match sent.to {
                1 => {} // dead
                2 if rig.now >= elected => rig.answer(&sent, true, b"ok"),
                _ => rig.not_leader(&sent, Some(1)),
            }
        }
        if rig.sent.is_empty()
            && let Some(at) = rig.core.wake_at()
        {
            rig.pass(at - rig.now);
        }
    }
    rig.ended(call).unwrap();
    let late = rig.now - elected;
    assert!(late <= ms(250), "found {late:?} after the election");
}

#[test]
fn a_slow_leader_that_lives_is_neither_left_nor_flooded() {
    // E5: each repetition attaches to the same evaluation; a store that answers others is not dead.
    let mut rig = Rig::with_session();
    let slow = rig.command(20_000);
    let [first] = rig.take();
    let end = rig.now + ms(10_000);
    let mut repetitions = 0;
    while rig.now < end {
        rig.pass(ms(50));
        let probe = rig.query(5_000);
        for sent in std::mem::take(&mut rig.sent) {
            if sent.request.id != first.request.id {
                assert_eq!(sent.to, 1, "other calls stay with the leader");
                rig.answer(&sent, false, b"0");
            } else if sent.to != 1 {
                rig.not_leader(&sent, Some(1));
            } else {
                repetitions += 1;
            }
        }
        rig.ended(probe).unwrap();
    }
    assert!(rig.running(slow));
    assert!((5..=14).contains(&repetitions), "{repetitions}");
}

#[test]
fn a_lost_reply_costs_a_few_times_the_usual_answer() {
    // S4: a fixed half second per lost reply would stall its caller a hundred answers long.
    let mut rig = Rig::with_session();
    for _ in 0..20 {
        rig.command(5_000);
        let [sent] = rig.take();
        rig.pass(ms(8));
        rig.answer(&sent, true, b"ok");
    }
    let call = rig.command(5_000);
    let [_lost] = rig.take();
    let waited = rig.pass_until_sent();
    assert!(waited >= ms(16) && waited <= ms(40), "{waited:?}");
    let [again] = rig.take();
    assert_eq!((again.to, again.request.attempt), (1, 2));
    rig.answer(&again, true, b"ok");
    rig.ended(call).unwrap();
}

#[test]
fn a_full_queue_to_a_leader_that_lives_is_waited_out() {
    // STYLE 14: `Full` is acted on; looking for another leader would not make room.
    let mut rig = Rig::with_session();
    rig.command(5_000);
    let [sent] = rig.take();
    rig.core.unsent(rig.now, 1, CallId(sent.request.id), 1);
    rig.drain();
    let waited = rig.pass_until_sent();
    assert!(waited >= ms(20) && waited <= ms(40), "{waited:?}");
    assert_eq!(rig.take::<1>()[0].to, 1);
}

#[test]
fn whoever_knows_the_leader_may_say_so() {
    // S4: the local group's election result moves what flies to the old leader.
    let mut rig = Rig::new();
    rig.query(5_000);
    rig.take::<1>();
    rig.core.leader(rig.now, shard(), 3);
    rig.drain();
    assert_eq!(rig.take::<1>()[0].to, 3);
    rig.core.leader(rig.now, ShardId::main(999), 3);
    rig.drain();
    rig.take::<0>();
}

#[test]
fn calls_before_the_first_table_leave_with_it() {
    // A client starts with addresses only.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    rig.command(5_000);
    rig.query(5_000);
    assert_eq!(rig.table_wanted, 1);
    rig.pass(ms(2_000));
    assert!((2..10).contains(&rig.table_wanted), "{}", rig.table_wanted);
    rig.table(table(1, 4, Some(2)));
    let [opening, query] = rig.take();
    assert!(opening.opens() && opening.to == 2 && query.to == 2);
}

#[test]
fn a_leader_that_was_gone_and_came_back_is_asked_as_soon_as_its_successor_says_so() {
    // S20: replicas that believe in the dead are not believed, but its successor gave the leadership back.
    let mut rig = Rig::new();
    rig.query(5_000);
    let [first] = rig.take();
    assert_eq!(first.to, 1);
    rig.core.disconnected(rig.now, 1);
    rig.drain();
    let [probe] = rig.take();
    rig.not_leader(&probe, Some(1));
    assert!(
        rig.sent.iter().all(|sent| sent.to != 1),
        "it may only not know yet"
    );
    rig.pass_until_sent();
    let [next] = rig.take();
    rig.answer(&next, false, b"0");
    rig.query(5_000);
    let [asked] = rig.take();
    assert_eq!(asked.to, next.to);
    rig.not_leader(&asked, Some(1));
    assert_eq!(rig.take::<1>()[0].to, 1);
}

#[test]
fn a_leader_that_joined_after_the_table_was_made_is_found_with_the_next_table() {
    // S3, S4: its first calls waited for a third of a second when it was taken for one that cannot be reached.
    let mut rig = Rig::new();
    rig.query(5_000);
    let [asked] = rig.take();
    rig.not_leader(&asked, Some(4));
    assert_eq!(rig.table_wanted, 1, "asked for at once");
    assert!(
        rig.sent.iter().all(|sent| sent.to != 4),
        "nobody knows the way"
    );
    let mut newer = table(2, 1, Some(4));
    let grown = Arc::make_mut(&mut newer);
    grown.stores.push(store(4));
    grown.shards[0].replicas = vec![2, 3, 4];
    rig.sent.clear();
    rig.table(newer);
    assert_eq!(rig.take::<1>()[0].to, 4);
}

#[test]
fn an_older_table_and_another_clusters_table_change_nothing() {
    // Clients pin the cluster id; tables may overtake each other.
    let mut rig = Rig::new();
    rig.table(table(5, 1, Some(2)));
    rig.table(table(4, 1, Some(3)));
    let mut foreign = table(9, 1, Some(3));
    Arc::make_mut(&mut foreign).cluster = 2;
    rig.table(foreign);
    rig.query(5_000);
    assert_eq!(rig.take::<1>()[0].to, 2);
}

#[test]
fn a_table_that_moves_the_shard_wakes_its_calls() {
    // S4 and S10: a change of placement is an event, too.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    let mut nowhere = table(1, 1, None);
    Arc::make_mut(&mut nowhere).shards[0].replicas.clear();
    rig.table(nowhere);
    rig.query(5_000);
    assert_eq!(rig.table_wanted, 1);
    rig.table(table(2, 1, None));
    rig.take::<1>();
}

#[test]
fn a_stale_query_goes_to_the_local_replica_first_and_then_round() {
    // DESIGN 4: nearest replica, says how stale.
    let mut rig = Rig::bare(RouterOptions::default(), Some(3));
    rig.table(table(1, 1, Some(1)));
    let max_age = ms(200);
    let call = rig.ask("alice", Mode::Stale { max_age }, 5_000);
    let [local] = rig.take();
    assert_eq!(local.to, 3);
    assert_eq!(local.request.intent, Intent::StaleQuery { max_age_ms: 200 });
    rig.refuse(&local, Refusal::TooStale { age_ms: 900 });
    let [next] = rig.take();
    assert_ne!(next.to, 3);
    let body = Bytes::from_static(b"0");
    rig.reply(&next, false, Outcome::Done { body, age_ms: 120 });
    assert_eq!(rig.ended(call).unwrap().age, ms(120));
    rig.query(5_000);
    assert_eq!(
        rig.take::<1>()[0].to,
        1,
        "it taught nothing about the leader"
    );
}

#[test]
fn a_stale_query_that_is_too_young_for_everybody_says_what_there_is() {
    // STYLE 5: the caller learns which age would have been served.
    let mut rig = Rig::new();
    let max_age = ms(1);
    let call = rig.ask("alice", Mode::Stale { max_age }, 5_000);
    for age_ms in [900, 300, u64::MAX] {
        let [sent] = rig.take();
        rig.refuse(&sent, Refusal::TooStale { age_ms });
    }
    assert_eq!(
        rig.ended(call),
        Err(Refused::TooStale {
            shard: shard(),
            age: Some(ms(300))
        }
        .into())
    );
}

#[test]
fn a_stale_query_survives_silent_replicas() {
    // S20: whoever answers will do.
    let mut rig = Rig::new();
    let max_age = ms(1_000);
    let call = rig.ask("alice", Mode::Stale { max_age }, 5_000);
    let [first] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    assert_ne!(first.to, second.to);
    rig.not_leader(&second, None); // holds no replica any more
    let [third] = rig.take();
    rig.answer(&third, false, b"0");
    rig.ended(call).unwrap();
    rig.ask("alice", Mode::Stale { max_age }, 5_000);
    assert_ne!(rig.take::<1>()[0].to, first.to, "it was silent just now");
}

#[test]
fn a_single_node_is_asked_patiently() {
    // One replica: there is nobody else to probe, so a slow answer is waited for.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    let mut alone = table(1, 1, None);
    Arc::make_mut(&mut alone).shards[0].replicas = vec![1];
    rig.table(alone);
    let call = rig.query(20_000);
    let [first] = rig.take();
    rig.pass(ms(3_000));
    assert!(rig.sent.len() <= 8, "{} repetitions", rig.sent.len());
    rig.answer(&first, false, b"0");
    rig.ended(call).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_sendings() {
    // STYLE 10: simulators replay by seed.
    let trace = || {
        let mut rig = Rig::bare(RouterOptions::default(), None);
        rig.table(table(1, 4, None));
        let mut trace = Vec::new();
        for step in 0..200u64 {
            rig.ask(&format!("k{}", step % 7), Mode::Command, 700);
            rig.pass(ms(17));
            for sent in std::mem::take(&mut rig.sent) {
                trace.push(format!("{:?} {sent:?}", rig.now));
                match (sent.opens(), sent.to) {
                    (_, 2) => rig.not_leader(&sent, None),
                    (true, _) => {
                        let session = SessionId(step + 1);
                        rig.reply(&sent, true, Outcome::Opened { session });
                    }
                    (false, 1) => rig.answer(&sent, true, b"ok"),
                    _ => {}
                }
            }
            for done in rig.done.drain(..) {
                trace.push(format!("{done:?}"));
            }
        }
        trace
    };
    assert_eq!(trace(), trace());
}
