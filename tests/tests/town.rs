//! The cluster simulator's gate: many seeds, each with its replay line; the same seed gives the same trace; safeguards taken away are
//! missed. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many, `SIM_FIRST=n` from that one on.

use std::time::{Duration, Instant};

use tests::coverage::Coverage;
use tests::seeds::{assert_repeats, seeds};
use tests::town::{
    Sabotage, Scale, World, isolation, mourning, movement, newborn, returns, unheard,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Small clusters of an ordinary run of the tests.
const SEEDS: u64 = 200;
/// Clusters of a hundred nodes.
const LARGE_SEEDS: u64 = 2;
/// Histories of joins and drains.
const HISTORIES: u64 = 10;
/// Clusters of which each node is cut off ten times.
const ISOLATIONS: u64 = 3;
/// A leader that hands over to a node that came back takes no commands for no longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Clusters of which each node is stopped and started four times under load.
const RETURNS: u64 = 3;
/// Clusters at rest that lose replicas for good.
const MOURNINGS: u64 = 3;
/// Clusters at rest to which nodes come and are away at once.
const NEWBORNS: u64 = 8;
/// Clusters at rest whose words are lost.
const UNHEARD: u64 = 3;
/// A node that is cut off is replaced as a leader within this time.
const LED_WITHOUT: Duration = Duration::from_secs(2);
/// A node that comes back costs no group its leader for longer.
const UNLED_AFTER: Duration = Duration::from_millis(500);

/// Runs worlds of one scale; prints what they have seen.
fn run(seeds: &[u64], scale: Scale, test: &str) -> Coverage {
    let started = Instant::now();
    let mut coverage = Coverage::default();
    let (mut led, mut settled) = ((Duration::ZERO, 0), (Duration::ZERO, 0));
    for &seed in seeds {
        match World::of_scale(seed, scale).run() {
            Ok(report) => {
                coverage.merge(&report.coverage);
                led = led.max((report.led_in, seed));
                settled = settled.max((report.settled_in, seed));
            }
            Err(violation) => panic!(
                "seed {seed}: {violation}\nreplay: SIM_SEED={seed} cargo test -p tests --test town {test}"
            ),
        }
    }
    println!(
        "{} seeds in {:?}; slowest to be led: {led:?}, to settle: {settled:?}\n{coverage}",
        seeds.len(),
        started.elapsed(),
    );
    coverage
}

#[test]
fn small_clusters_come_to_rest_after_every_storm() {
    // S2, S10.
    let seeds = seeds(SEEDS);
    let test = "small_clusters_come_to_rest_after_every_storm";
    let coverage = run(&seeds, Scale::SMALL, test);
    if seeds.len() < 100 {
        return;
    }
    for (name, least) in [
        ("admissions", 50),
        ("absences", 10),
        ("absences_ended", 1),
        ("crashes", 50),
        ("damages", 5),
        ("descriptions_changed", 20),
        ("descriptions_told", 20),
        ("drains", 30),
        ("drains_undone", 1),
        ("fences_asked_over_a_loss", 2),
        ("frames_lost", 200),
        ("graceful_stops", 10),
        ("lost_replicas_buried", 5),
        ("moves_by_hand", 10),
        ("one_way_partitions", 10),
        ("partitions", 20),
        ("pauses", 20),
        ("rebalances", 3),
        ("removed_nodes_stopped", 5),
        ("replicas_deleted", 500),
        ("rests", 500),
        ("rests_without_somebody", 50),
        ("roused_by_silence", 50),
        ("second_drains", 5),
        ("snapshots_installed", 50),
        ("sums", 200),
        ("sums_differed", 20), // as often it is asked that everything be said again
        ("system_leader_struck_at_absent", 1),
        ("system_leader_struck_at_allot", 3),
        ("system_leader_struck_at_change", 3),
        ("system_leader_struck_at_place", 3),
        ("system_leader_struck_at_retire", 3),
        ("system_leader_struck_at_transfer", 3),
        ("wipes", 10),
        ("zones_lost", 5),
    ] {
        let seen = coverage.get(name);
        assert!(seen >= least, "{name}: {seen} times, at least {least}");
    }
}

#[test]
fn a_replica_may_go_once_its_leader_knows_of_the_change_without_it() {
    // Entry 48 of group 4 lay in all four logs, and its leader knew it committed and said so, before anybody had applied it: an alarm
    // was raised over the replica that it leaves out.
    let outcome = World::from_seed(1_588).resting(false).run();
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn clusters_of_a_hundred_nodes_come_to_rest_after_every_storm() {
    let seeds = seeds(LARGE_SEEDS);
    let test = "clusters_of_a_hundred_nodes_come_to_rest_after_every_storm";
    run(&seeds, Scale::LARGE, test);
}

#[test]
fn nodes_that_come_and_go_move_hardly_more_copies_than_they_must() {
    // Issue 5: within 1.25 of the optimum over any history, 1.05 for one node that is added. The optimum is at least what the quotas
    // alone demand; where capacities differ it may be more than that, because a store can take only what it does not hold yet.
    for seed in seeds(HISTORIES) {
        let alike = seed % 2 == 0;
        let steps = match movement(seed, 64, 8, alike) {
            Ok(steps) => steps,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        let made: u64 = steps.iter().map(|step| step.made).sum();
        let least: u64 = steps.iter().map(|step| step.least).sum();
        println!("{seed}: {made} copies made, at least {least}");
        assert!(least > 0, "seed {seed}: nothing had to move");
        assert!(
            made * 100 <= least * 125,
            "seed {seed}: {made} copies made, {least} would do: {steps:?}"
        );
        for step in steps.iter().filter(|step| alike && step.joined) {
            assert!(
                step.made * 100 <= step.least * 105,
                "seed {seed}: one node came: {step:?}"
            );
        }
    }
}

#[test]
fn a_node_that_comes_back_under_load_leads_again_without_a_long_pause() {
    for seed in seeds(RETURNS) {
        let history = match returns(seed, 20) {
            Ok(history) => history,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        let longest = history.iter().map(|one| one.longest_pause).max();
        let handed_over: u64 = history.iter().map(|one| one.handed_over).sum();
        println!("{seed}: {handed_over} leaderships handed over, the longest pause {longest:?}");
        assert!(handed_over >= 40, "seed {seed}: {history:?}");
        assert!(longest <= Some(PAUSE_MAX), "seed {seed}: {history:?}");
    }
}

#[test]
fn every_node_is_cut_off_in_turn_and_joined_again_and_every_group_is_led_each_time() {
    // S16.
    for seed in seeds(ISOLATIONS) {
        let rounds = match isolation(seed, 5, 32, 50) {
            Ok(rounds) => rounds,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        let without = rounds.iter().map(|round| round.led_without).max();
        let after = rounds.iter().map(|round| round.unled_after).max();
        println!("{seed}: led without it in {without:?}, unled after its return for {after:?}");
        assert!(without <= Some(LED_WITHOUT), "seed {seed}: {rounds:?}");
        assert!(after <= Some(UNLED_AFTER), "seed {seed}: {rounds:?}");
    }
}

#[test]
fn no_lost_replica_is_buried_on_what_its_group_said_when_it_went_to_rest() {
    for seed in seeds(MOURNINGS) {
        let coverage = match mourning(seed, 4, None) {
            Ok(coverage) => coverage,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        println!("{seed}:\n{coverage}");
        assert!(coverage.get("losses") > 0, "seed {seed}: nothing was lost");
        let asked = coverage.get("fences_asked_over_a_loss");
        assert!(asked > 0, "seed {seed}: nobody was asked");
        let outcome = mourning(seed, 4, Some(Sabotage::OldWordsTrusted));
        let rings = outcome.err().map(|violation| violation.invariant);
        assert_eq!(rings, Some("Lost Replicas Wait"), "seed {seed}");
    }
}

#[test]
fn a_copy_that_was_allotted_to_a_node_that_was_away_fills_though_its_group_rests() {
    // The leader rests without the new replica, which knows of nobody: unless their nodes beat to each other by what the log lists, the
    // copy stays empty until somebody asks its group for something.
    for seed in seeds(NEWBORNS) {
        let coverage = match newborn(seed, 3, None) {
            Ok(coverage) => coverage,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        let without = coverage.get("rests_without_somebody");
        assert!(without > 0, "seed {seed}: {coverage}");
    }
    // Other groups, awake when it comes back, mostly tie the two nodes: one history in some 25 shows it.
    let mut untied = (0..200).map(|seed| newborn(seed, 3, Some(Sabotage::ListedUnheard)));
    let rings = untied.find_map(|outcome| outcome.err().map(|violation| violation.invariant));
    assert_eq!(rings, Some("Settles"));
}

#[test]
fn what_a_group_at_rest_said_and_nobody_heard_is_said_again() {
    for seed in seeds(UNHEARD) {
        let coverage = match unheard(seed, 4, None) {
            Ok(coverage) => coverage,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        let differed = coverage.get("sums_differed");
        assert!(differed > 0, "seed {seed}: nothing was missed: {coverage}");
        let outcome = unheard(seed, 4, Some(Sabotage::SumsUnsaid));
        let rings = outcome.err().map(|violation| violation.invariant);
        assert_eq!(rings, Some("Settles"), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_repeats([2, 5], |seed| {
        World::from_seed(seed).run().map(|report| report.trace)
    });
}

/// A safeguard taken away, and the invariants of which one must be the first to notice.
const NOTICED: [(Sabotage, &str); 17] = [
    (Sabotage::MajorityOfOne, "Committed Entries"),
    (Sabotage::Stranger, "Replica Sets"),
    (Sabotage::EvenVoters, "Odd Voters"),
    (Sabotage::Revenant, "Retired Stays Retired"),
    (Sabotage::RetiredEarly, "Named Replicas Stay"),
    (Sabotage::FilesGoAtOnce, "Never Born Again"),
    (Sabotage::RetiredGoesOn, "Retired Is Silent"),
    (Sabotage::OnlyTheDead, "Quorums Are Kept"),
    (Sabotage::OrdersTwice, "One Change At A Time"),
    (Sabotage::OrdersInHeaps, "Bounded Changes"),
    (
        Sabotage::ConfigurationForgotten,
        "Snapshots Name Their Configuration",
    ),
    (Sabotage::NoTimer, "Led Again"),
    (Sabotage::FilesStay, "Settles"),
    (Sabotage::OrdersLost, "Settles"),
    (Sabotage::Lopsided, "Balance"),
    (Sabotage::WordsUnheard, "Settles"),
    (Sabotage::ZonesForgotten, "Zones"),
];

#[test]
fn every_invariant_notices_what_it_is_for() {
    const SEARCHED: u64 = 60;
    let mut wrong = Vec::new();
    for (sabotage, invariant) in NOTICED {
        let verdict = |seed| {
            let world = World::from_seed(seed).sabotaged(sabotage);
            let run = std::panic::AssertUnwindSafe(|| world.run());
            match std::panic::catch_unwind(run) {
                Ok(Ok(_)) => None,
                Ok(Err(violation)) => Some((seed, violation.invariant, violation.to_string())),
                Err(_) => Some((seed, "Assertion", String::new())),
            }
        };
        match (0..SEARCHED).find_map(verdict) {
            Some((_, first, _)) if first == invariant => {}
            Some((seed, first, detail)) => {
                wrong.push(format!(
                    "{sabotage:?}: {first} rings first, under seed {seed}: {detail}"
                ));
            }
            None => wrong.push(format!("{sabotage:?}: not noticed in {SEARCHED} seeds")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
