//! The genesis simulator's gate: many seeds, each with its replay line; the same seed gives the same trace; safeguards taken away
//! are missed. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many.

use std::time::{Duration, Instant};

use synod_consensus::genesis::Sabotage;
use tests::coverage::Coverage;
use tests::genesis::{World, lacking};
use tests::seeds::{assert_repeats, seeds};

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 100;

#[test]
fn seeds_found_at_most_one_cluster_and_one_when_they_agree() {
    // E25, DESIGN section 8 (Genesis); the invariants are listed in `tests::genesis`.
    let started = Instant::now();
    let seeds = seeds(SEEDS);
    let mut coverage = Coverage::default();
    let mut slowest = (Duration::ZERO, 0);
    for &seed in &seeds {
        match World::from_seed(seed).run() {
            Ok(report) => {
                coverage.merge(&report.coverage);
                slowest = slowest.max((report.healed_in, seed));
            }
            Err(violation) => panic!(
                "{violation}\nreplay: SIM_SEED={seed} cargo test -p tests --test genesis seeds_found_at_most_one_cluster_and_one_when_they_agree"
            ),
        }
    }
    println!(
        "{} seeds in {:?}; slowest to heal: {:?} (seed {})",
        seeds.len(),
        started.elapsed(),
        slowest.0,
        slowest.1
    );
    println!("{coverage}");
    if seeds.len() >= 50 {
        let lacking = lacking(&coverage, seeds.len());
        assert!(lacking.is_empty(), "hardly seen: {lacking:#?}");
    }
}

#[test]
fn genesis_same_seed_gives_the_same_trace() {
    assert_repeats([3, 4], |seed| {
        World::from_seed(seed).run().map(|report| report.trace)
    });
}

/// The first of 200 seeds in which `sabotage` breaks what is founded, and the invariant that says so. That seed and all before it
/// must pass unbroken.
fn broken_by(sabotage: Sabotage) -> (u64, &'static str) {
    let broken = |seed| {
        let world = World::from_seed(seed)
            .judged_by_outcome()
            .sabotaged(sabotage);
        let violation = world.run().err()?;
        let outcome = ["One Cluster", "Agreement"].contains(&violation.invariant);
        outcome.then_some((seed, violation.invariant))
    };
    let Some((seed, invariant)) = (0..200).find_map(broken) else {
        panic!("{sabotage:?}: no seed of 200 noticed");
    };
    println!("{sabotage:?}: {invariant}, seed {seed}");
    for seed in 0..=seed {
        if let Err(violation) = World::from_seed(seed).run() {
            panic!("seed {seed} fails without sabotage: {violation}");
        }
    }
    (seed, invariant)
}

#[test]
fn two_records_are_chosen_when_acceptors_forget() {
    // "Paxos Made Simple" 2.5: stable storage.
    assert_eq!(broken_by(Sabotage::AcceptorForgotten).1, "Agreement");
}

#[test]
fn two_clusters_are_founded_when_a_majority_of_words_suffices() {
    // E25
    assert_eq!(broken_by(Sabotage::MajoritySuffices).1, "One Cluster");
}

#[test]
fn two_clusters_are_founded_when_words_are_forgotten() {
    // E25: a disk that forgot its word gives it to another electorate.
    broken_by(Sabotage::WordForgotten);
}

#[test]
fn two_records_are_chosen_when_a_wiped_seed_votes() {
    // E25
    assert_eq!(broken_by(Sabotage::WipedVotes).1, "Agreement");
}

#[test]
fn what_is_said_before_it_is_durable_is_noticed() {
    // H2, for foundings: the disk is asked at every message.
    let noticed = |seed| {
        let world = World::from_seed(seed).sabotaged(Sabotage::SaidEarly);
        world.run().err().map(|violation| violation.invariant)
    };
    assert_eq!((0..200).find_map(noticed), Some("Durable Promise"));
}
