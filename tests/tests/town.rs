//! The cluster simulator's gate: many seeds, each with its replay line; the same seed gives the same trace; safeguards taken away are
//! missed. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many, `SIM_FIRST=n` from that one on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::coverage::Coverage;
use tests::seeds::{assert_repeats, seeds};
use tests::town::{
    Course, Cut, Kind, Sabotage, Scale, Step, World, isolation, mourning, movement, newborn,
    returns, unheard,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Small clusters of an ordinary run of the tests.
const SEEDS: u64 = 200;
/// Clusters of a hundred nodes.
const LARGE_SEEDS: u64 = 6;
/// Faults come more often there: each hits one of many.
const LARGE: Scale = Scale {
    pause: Duration::from_millis(800),
    ..Scale::LARGE
};
/// Histories of clusters of a hundred nodes.
const LARGE_HISTORIES: u64 = 2;
/// Histories of joins and drains.
const HISTORIES: u64 = 10;
/// Clusters of which each node is cut off, and so often.
const ISOLATIONS: u64 = 2;
const ROUNDS: usize = 50;
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
/// One that is heard, but hears nobody, leads on until it notices: the last word that it heard is a timeout and a beat old, and it looks
/// once in a beat; then the others wait a timeout, and each its rank's share. It hears nobody say that they would rather have another.
const DEAF_LED_WITHOUT: Duration = Duration::from_millis(1_500 + 500 + 500 + 1_500 + 450);
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
    let least = [
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
        ("zones_lost", 20),
        ("zones_replaced", 3),
        ("zones_returned", 3),
    ];
    covers(&coverage, &least);
}

/// That worlds have seen enough of what they are there for.
fn covers(coverage: &Coverage, least: &[(&'static str, u64)]) {
    for &(name, least) in least {
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
    let coverage = run(&seeds, LARGE, test);
    if seeds.len() < LARGE_SEEDS as usize {
        return;
    }
    covers(
        &coverage,
        &[
            ("admissions", 10),
            ("crashes", 5),
            ("drains", 10),
            ("partitions", 5),
            ("removals", 5),
            ("zones_lost", 1),
        ],
    );
}

/// Runs a history, and holds it against the bounds of issue 5: within 1.25 of the optimum over any history, 1.05 for one node that is
/// added, if all are worth the same. Of unequal ones in zones one join made 1.116 times the fewest copies.
fn moves_hardly_more_than_it_must(seed: u64, course: &Course, joins: bool) -> Vec<Step> {
    let started = Instant::now();
    let steps = match movement(seed, course) {
        Ok(steps) => steps,
        Err(violation) => panic!("seed {seed}, {course:?}: {violation}"),
    };
    let made: u64 = steps.iter().map(|step| step.made).sum();
    let least: u64 = steps.iter().map(|step| step.least).sum();
    let ratio = |step: &Step| step.made as f64 / step.least.max(1) as f64;
    let of_joins = steps.iter().filter(|step| step.kind == Kind::Join);
    let worst = of_joins.clone().map(ratio).fold(0.0, f64::max);
    println!(
        "{seed}: {made} copies made, at least {least}, {:.3}; worst join {worst:.3}; {:?}",
        made as f64 / least.max(1) as f64,
        started.elapsed()
    );
    assert!(least > 0, "seed {seed}: nothing had to move");
    assert!(
        made * 100 <= least * 125,
        "seed {seed}, {course:?}: {made} copies made, {least} would do: {steps:?}"
    );
    for step in of_joins.filter(|_| joins) {
        assert!(
            step.made * 100 <= step.least * 105,
            "seed {seed}, {course:?}: one node came: {step:?}"
        );
    }
    steps
}

#[test]
fn nodes_that_come_and_go_move_hardly_more_copies_than_they_must() {
    for seed in seeds(HISTORIES) {
        let course = Course {
            nodes: (3, 9),
            shards: 64,
            steps: 8,
            alike: seed % 2 == 0,
            zones: 0,
            losses: false,
        };
        moves_hardly_more_than_it_must(seed, &course, course.alike);
    }
}

#[test]
fn nodes_and_zones_that_are_lost_and_come_back_move_hardly_more_copies_than_they_must() {
    let seeds = seeds(HISTORIES * 2);
    let mut steps = Vec::new();
    for &seed in &seeds {
        let course = Course {
            nodes: (5, 12),
            shards: 64,
            steps: 12,
            alike: seed % 2 == 0,
            zones: [0, 3, 4][seed as usize % 3],
            losses: true,
        };
        steps.extend(moves_hardly_more_than_it_must(seed, &course, course.alike));
    }
    println!("{:?}", met(&steps));
    if seeds.len() < 20 {
        return;
    }
    for (kind, least) in [
        (Kind::Join, 20),
        (Kind::Drain, 20),
        (Kind::Loss, 20),
        (Kind::Return, 10),
        (Kind::ZoneLoss, 5),
        (Kind::ZoneReturn, 3),
    ] {
        let seen = met(&steps).get(&kind).copied().unwrap_or_default();
        assert!(seen >= least, "{kind:?}: {seen} times, at least {least}");
    }
    let struck = steps.iter().filter(|step| step.struck).count();
    assert!(struck >= 20, "the system leader crashed {struck} times");
}

#[test]
fn a_cluster_of_a_hundred_nodes_moves_hardly_more_copies_than_it_must() {
    for seed in seeds(LARGE_HISTORIES) {
        let course = Course {
            nodes: (60, 100),
            shards: 256,
            steps: 8,
            alike: seed % 2 == 0,
            zones: 5,
            losses: true,
        };
        let steps = moves_hardly_more_than_it_must(seed, &course, course.alike);
        println!("{:?}", met(&steps));
        assert!(steps.iter().all(|step| step.takers >= 40), "{steps:?}");
    }
}

/// How often what happened.
fn met(steps: &[Step]) -> BTreeMap<Kind, u32> {
    let mut met = BTreeMap::new();
    for step in steps {
        *met.entry(step.kind).or_default() += 1;
    }
    met
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
        // Every second cluster would have no majority with one node less.
        let nodes = [3, 5][seed as usize % 2];
        let rounds = match isolation(seed, nodes, 32, ROUNDS * nodes as usize) {
            Ok(rounds) => rounds,
            Err(violation) => panic!("seed {seed}: {violation}"),
        };
        for cut in [Cut::Both, Cut::Mute, Cut::Deaf] {
            let rounds = rounds.iter().filter(|round| round.cut == cut);
            let without = rounds.clone().map(|round| round.led_without).max();
            let after = rounds.clone().map(|round| round.unled_after).max();
            println!(
                "{seed}: {nodes} nodes, {cut:?}, {} times: led without it in {without:?}, unled after its return for {after:?}",
                rounds.clone().count()
            );
            let within = match cut {
                Cut::Both | Cut::Mute => LED_WITHOUT,
                Cut::Deaf => DEAF_LED_WITHOUT,
            };
            for round in rounds {
                assert!(round.led_without <= within, "seed {seed}: {round:?}");
                assert!(round.unled_after <= UNLED_AFTER, "seed {seed}: {round:?}");
                assert!(round.acknowledged_without > 0, "seed {seed}: {round:?}");
            }
        }
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
