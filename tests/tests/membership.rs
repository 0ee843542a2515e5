//! The gossip simulator's gate: many seeds, each with its replay line; the same seed gives the same trace; every invariant can
//! fail. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many.

use std::time::{Duration, Instant};

use synod_membership::{MemberState, Position, StoreId};
use tests::membership::{Coverage, Observed, Observer, Sabotage, Violation, World};
use tests::seeds::seeds;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 100;

#[test]
fn everybody_agrees_after_every_storm() {
    // DESIGN section 10; the invariants are listed in `tests::membership`.
    let started = Instant::now();
    let seeds = seeds(SEEDS);
    let mut coverage = Coverage::default();
    let mut slowest = (0.0f64, 0);
    for &seed in &seeds {
        match World::from_seed(seed).run() {
            Ok(report) => {
                assert!(
                    report.coverage.get("messages") >= 20_000,
                    "seed {seed}: too few messages"
                );
                assert!(
                    report.coverage.get("faults") >= 20,
                    "seed {seed}: too few faults"
                );
                coverage.merge(&report.coverage);
                if report.converged_intervals > slowest.0 {
                    slowest = (report.converged_intervals, seed);
                }
            }
            Err(violation) => panic!(
                "{violation}\nreplay: SIM_SEED={seed} cargo test -p tests --test membership everybody_agrees_after_every_storm"
            ),
        }
    }
    println!(
        "{} seeds in {:?}; slowest agreement {:.0} probe intervals (seed {})",
        seeds.len(),
        started.elapsed(),
        slowest.0,
        slowest.1
    );
    println!("{coverage}");
    if seeds.len() >= 20 {
        let lacking = coverage.lacking(seeds.len());
        assert!(lacking.is_empty(), "hardly seen: {lacking:#?}");
    }
}

#[test]
fn same_seed_gives_the_same_trace() {
    // A replay line is worth something only if the run repeats to the byte.
    for seed in [3, 4] {
        let trace = || {
            World::from_seed(seed)
                .run()
                .map(|report| report.trace)
                .map_err(|violation| violation.to_string())
        };
        let first = trace();
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(first, trace());
    }
}

/// The first violation that `sabotage` causes in a few seeds.
fn broken_by(sabotage: Sabotage) -> Option<&'static str> {
    let broken = |seed| {
        World::from_seed(seed)
            .sabotaged(sabotage)
            .run()
            .err()
            .map(|violation| violation.invariant)
    };
    (0..20).find_map(broken)
}

#[test]
fn invariants_see_a_safeguard_taken_away() {
    // Each invariant of the simulator must be able to fail.
    assert_eq!(broken_by(Sabotage::Amnesia), Some("Order"));
    assert_eq!(broken_by(Sabotage::Forgery), Some("Own word"));
    assert_eq!(broken_by(Sabotage::DeafToAccusations), Some("Refutation"));
    assert_eq!(broken_by(Sabotage::HastyDeaths), Some("Time to refute"));
    assert_eq!(broken_by(Sabotage::OpenDoor), Some("Log"));
    assert_eq!(broken_by(Sabotage::Oversized), Some("Bounds"));
    assert_eq!(broken_by(Sabotage::NeverCallTheDead), Some("Convergence"));
}

#[test]
fn observer_refuses_every_step_that_may_not_follow() {
    // The same by hand, for the steps that no sabotage of the surroundings can bring about.
    let at = |generation, incarnation| Position {
        generation,
        incarnation,
    };
    let seen = |position, state| Observed { position, state };
    let second = Duration::from_secs(1);
    let (me, other, said) = (StoreId::new(1), StoreId::new(2), Some(at(2, 9)));
    let name = |result: Result<(), Violation>| result.err().map(|violation| violation.invariant);
    let mut observer = Observer::new(me, second * 2);
    let mut check =
        |now: u32, store, seen| name(observer.check(second * now, store, seen, true, said));
    assert_eq!(check(1, other, seen(at(1, 1), MemberState::Alive)), None);
    assert_eq!(
        check(2, other, seen(at(1, 1), MemberState::Dead)),
        Some("Time to refute")
    );
    assert_eq!(check(2, other, seen(at(1, 1), MemberState::Suspect)), None);
    assert_eq!(
        check(3, other, seen(at(1, 1), MemberState::Dead)),
        Some("Time to refute")
    );
    assert_eq!(check(4, other, seen(at(1, 1), MemberState::Dead)), None);
    assert_eq!(
        check(5, other, seen(at(1, 1), MemberState::Alive)),
        Some("Order"),
        "no resurrection"
    );
    assert_eq!(
        check(5, other, seen(at(1, 0), MemberState::Left)),
        Some("Order"),
        "no older incarnation"
    );
    assert_eq!(
        check(5, other, seen(at(2, 0), MemberState::Alive)),
        None,
        "a new start returns"
    );
    assert_eq!(
        check(6, other, seen(at(1, 9), MemberState::Alive)),
        Some("Order"),
        "no older generation"
    );
    assert_eq!(
        check(6, other, seen(at(2, 10), MemberState::Alive)),
        Some("Own word")
    );
    assert_eq!(
        check(6, me, seen(at(1, 0), MemberState::Suspect)),
        Some("Self")
    );
    assert_eq!(
        check(6, me, seen(at(1, 0), MemberState::Dead)),
        Some("Self")
    );
    let unknown = observer.check(
        second,
        StoreId::new(3),
        seen(at(1, 0), MemberState::Alive),
        false,
        said,
    );
    assert_eq!(name(unknown), Some("Log"));
}
