//! The gate of the simulator of groups that rest. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many, `SIM_FIRST=n` from
//! that one on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use synod_consensus::claims::{ClaimsOptions, ClaimsSabotage};
use tests::coverage::Coverage;
use tests::idle::{Trace, World};
use tests::seeds::{assert_repeats, seeds};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 60;

#[test]
fn groups_rest_and_wake_in_every_storm() {
    // H50, S17.
    let started = Instant::now();
    let seeds = seeds(SEEDS);
    let mut coverage = Coverage::default();
    let mut longest: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    for &seed in &seeds {
        match World::from_seed(seed).run() {
            Ok(report) => {
                coverage.merge(&report.coverage);
                for (what, time) in report.longest {
                    let known = longest.entry(what).or_default();
                    *known = (time, seed).max(*known);
                }
            }
            Err(violation) => panic!(
                "{violation}\nreplay: SIM_SEED={seed} cargo test -p tests --test idle groups_rest_and_wake_in_every_storm"
            ),
        }
    }
    println!("{} seeds in {:?}", seeds.len(), started.elapsed());
    println!("{coverage}longest, and its seed: {longest:#?}");
    if seeds.len() >= 50 {
        for (what, least) in [
            ("rests", 1_000),
            ("rests without somebody", 100),
            ("silences", 200),
            ("rouses", 1_000),
            ("acknowledged", 1_000),
            ("reads", 1_000),
            ("replicas that stopped", 20),
        ] {
            let count = coverage.get(what);
            assert!(count >= least, "{what}: hardly seen ({count})");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_report() {
    assert_repeats([3, 4], |seed| World::from_seed(seed).run());
}

/// A leader's silence, ranks, one split vote.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn trace_1_the_leaders_replica_dies_while_its_node_beats_on() {
    // E16, H52.
    let mut trace = Trace::at_rest();
    trace.replica_stops(trace.leader);
    assert!(trace.until_led_by_one_of(&trace.others.clone()).unwrap() < SOON);
}

#[test]
fn trace_2_the_leaders_thread_stands_still_while_its_node_beats_on() {
    // E18, H52.
    let mut trace = Trace::at_rest();
    trace.thread_stands_still(trace.leader);
    assert!(trace.until_led_by_one_of(&trace.others.clone()).unwrap() < SOON);
}

#[test]
fn trace_3_the_news_that_a_claim_does_not_stand_is_lost() {
    // E17, H53. The beats arrive all the while. First the stream comes back: the list is sent anew. Then it does not: whoever holds an
    // old list does not trust it for ever.
    for lasts in [Duration::from_millis(250), Duration::from_secs(20)] {
        let mut trace = Trace::at_rest();
        let [one, two] = trace.others;
        trace.replica_stops(trace.leader);
        let begin = Instant::now();
        let mut spent = Duration::ZERO;
        while spent < lasts && !trace.leads(one) && !trace.leads(two) {
            let step = Duration::from_millis(5);
            trace.streams_fail(trace.leader, one, step);
            trace.streams_fail(trace.leader, two, step);
            spent += 2 * step;
        }
        let took = spent + trace.until_led_by_one_of(&[one, two]).unwrap();
        assert!(
            took < Duration::from_millis(3_500),
            "{took:?} ({:?})",
            begin.elapsed()
        );
    }
}

#[test]
fn trace_4_one_way_links_and_reads_at_a_leader_that_is_none() {
    // E19. The leader hears everybody; nobody hears it. The others elect one of them, which takes commands; what the old one then answers
    // from the past, the watch would see.
    let mut trace = Trace::at_rest();
    let (old, [one, two]) = (trace.leader, trace.others);
    trace.cut(old, one);
    trace.cut(old, two);
    assert!(trace.until_led_by_one_of(&[one, two]).unwrap() < SOON);
    let new = if trace.leads(one) { one } else { two };
    assert!(trace.command(new));
    trace.read(old);
    trace.heal();
    trace.until_all_rest();
    assert!(!trace.leads(old) || trace.term(old) > trace.term(one).min(trace.term(two)));
    assert!(trace.read(old) && trace.read(one) && trace.read(two));
}

#[test]
fn trace_5_a_restart_remembers_no_claim() {
    // H50. Of a follower: it learns who leads although nobody beats for the group any more, and elects nobody.
    let mut trace = Trace::at_rest();
    let (leader, [one, _]) = (trace.leader, trace.others);
    let term = trace.term(leader);
    trace.crash(one);
    trace.start(one);
    trace.until_all_rest();
    assert_eq!((trace.leads(leader), trace.term(one)), (true, term));
    // Of the leader, so fast that its silence is not noticed: nobody rests under what it claimed before.
    let mut trace = Trace::at_rest();
    let leader = trace.leader;
    let term = trace.term(leader);
    trace.crash(leader);
    trace.start(leader);
    trace.wait_millis(200);
    assert!(!trace.others.iter().any(|node| trace.rests(*node)));
    assert!(trace.until_led_by_one_of(&[1, 2, 3]).unwrap() < SOON);
    trace.until_all_rest();
    assert!(trace.term(leader) > term);
}

#[test]
fn trace_6_a_node_that_slept_through_everything_hears_of_it() {
    // E21, H55. A whole life of the group happens while one node is stopped: a command, rest without it, another leader, rest.
    let mut trace = Trace::at_rest();
    let (leader, [one, two]) = (trace.leader, trace.others);
    trace.crash(two);
    trace.wait(5);
    assert!(trace.command(leader));
    trace.wait(15);
    assert!(
        trace.rests(leader) && trace.rests(one),
        "without the one that is away"
    );
    trace.crash(leader);
    trace.start(two);
    assert!(trace.until_led_by_one_of(&[one, two]).unwrap() < Duration::from_secs(5));
    trace.start(leader);
    trace.until_all_rest();
    assert!(trace.read(one) && trace.read(two));
}

#[test]
fn trace_7_pause_and_resume() {
    // E22, S1. Of a follower: it judges nobody by what it has not read yet, and the group goes on resting under the same leader.
    let mut trace = Trace::at_rest();
    let (leader, [one, _]) = (trace.leader, trace.others);
    let term = trace.term(leader);
    trace.pause(one);
    trace.wait(30);
    trace.resume(one);
    trace.until_all_rest();
    assert_eq!((trace.leads(leader), trace.term(leader)), (true, term));
    // Of the leader: the others elect another one; what the old one answers when it goes on is not of the past.
    let mut trace = Trace::at_rest();
    let (old, [one, two]) = (trace.leader, trace.others);
    trace.pause(old);
    assert!(trace.until_led_by_one_of(&[one, two]).unwrap() < SOON);
    let new = if trace.leads(one) { one } else { two };
    assert!(trace.command(new));
    trace.wait(30);
    trace.resume(old);
    trace.read(old);
    trace.until_all_rest();
    assert!(!trace.leads(old));
}

#[test]
fn trace_8_a_read_at_one_that_rests_asks_the_leader() {
    // E23, H52, H53. And wakes it: it answers, with what was acknowledged before.
    let mut trace = Trace::at_rest();
    assert!(trace.command(trace.leader));
    trace.until_all_rest();
    let [one, two] = trace.others;
    assert!(trace.read(one) && trace.read(two) && trace.read(trace.leader));
    trace.until_all_rest();
    let said = trace.said();
    trace.wait(60);
    assert_eq!(trace.said(), said, "nobody says anything while all rest");
}

#[test]
fn without_a_rule_its_trace_ends_badly() {
    let without = |rule| {
        Trace::with(ClaimsOptions {
            sabotage: Some(rule),
            ..ClaimsOptions::default()
        })
    };
    let mut trace = without(ClaimsSabotage::DeadClaim);
    trace.replica_stops(trace.leader);
    trace
        .until_led_by_one_of(&trace.others.clone())
        .unwrap_err();

    let mut trace = without(ClaimsSabotage::ListsTrusted);
    let others = trace.others;
    trace.replica_stops(trace.leader);
    trace.streams_fail(trace.leader, others[0], Duration::from_millis(150));
    trace.until_led_by_one_of(&others).unwrap_err();

    let mut trace = without(ClaimsSabotage::LivesConfused);
    let others = trace.others;
    trace.crash(trace.leader);
    trace.start(trace.leader);
    trace.wait_millis(200);
    assert!(
        trace.rests(others[0]) && trace.rests(others[1]),
        "under a leader that is none, until its new process says that it claims nothing"
    );
}

#[test]
fn a_learner_that_is_made_long_after_its_leader_would_rest_is_not_forgotten() {
    // E21, H54. A learner never speaks first: as long as its node lives, its leader goes on looking for it.
    let mut trace = Trace::with_late_learner(Duration::from_secs(20));
    trace.wait(25);
    let learner = trace.learner();
    assert!(trace.is_up_to_date(learner));
    trace.until_all_rest();
    // And one that rests takes a voter's place: its silence says nothing against it.
    trace.wait(30);
    assert!(trace.promote());
    trace.wait(10);
    assert!(trace.leads(trace.leader));
}

#[test]
fn a_learner_that_was_away_hears_what_was_decided_without_it() {
    // H51. Also from a leader whose process has never heard its node before.
    let mut trace = Trace::with_late_learner(Duration::ZERO);
    trace.until_all_rest();
    let learner = trace.learner();
    trace.crash(learner);
    assert!(trace.command(trace.leader));
    for node in [trace.leader, trace.others[0], trace.others[1]] {
        trace.crash(node);
        trace.start(node);
    }
    trace.wait(20);
    trace.start(learner);
    trace.wait(10);
    assert!(trace.is_up_to_date(learner));
}

#[test]
fn a_follower_that_dies_while_all_rest_is_not_taken_for_one_that_answers() {
    let mut trace = Trace::at_rest();
    let (leader, [one, two]) = (trace.leader, trace.others);
    assert!(trace.answers(leader, one) && trace.answers(leader, two));
    trace.crash(two);
    trace.wait(10);
    assert!(trace.rests(leader) && trace.answers(leader, one) && !trace.answers(leader, two));
    trace.command(leader);
    assert!(!trace.answers(leader, two), "to be asked is no answer");
}
