//! The evaluation simulator's gate: many seeds, each with its replay line; the same seed gives the same trace; every rule
//! that is taken away is missed. `SIM_SEED=n` runs exactly that seed, `SIM_SEEDS=n` that many.

use std::time::Instant;

use tests::coverage::Coverage;
use tests::evaluation::{Sabotage, World};
use tests::seeds::{assert_repeats, seeds};

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 100;
/// Seeds within which a missing rule must be noticed.
const CONTROL_SEEDS: u64 = 200;

#[test]
fn acknowledged_commands_survive_and_happen_once() {
    // DESIGN sections 5 to 7; the invariants are listed in `tests::evaluation`.
    let started = Instant::now();
    let seeds = seeds(SEEDS);
    let mut coverage = Coverage::default();
    for &seed in &seeds {
        match World::from_seed(seed).run() {
            Ok(report) => {
                assert!(
                    report.messages >= 20_000,
                    "seed {seed}: only {} messages",
                    report.messages
                );
                assert!(
                    report.acknowledged >= 500,
                    "seed {seed}: only {} commands acknowledged",
                    report.acknowledged
                );
                assert!(
                    report.faults >= 20,
                    "seed {seed}: only {} faults",
                    report.faults
                );
                coverage.merge(&report.coverage);
            }
            Err(violation) => panic!(
                "{violation}\nreplay: SIM_SEED={seed} cargo test -p tests --test evaluation acknowledged_commands_survive"
            ),
        }
    }
    println!(
        "{} seeds in {:?}\n{coverage}",
        seeds.len(),
        started.elapsed()
    );
    if seeds.len() >= 20 {
        let most = seeds.len() as u64;
        for (name, least) in [
            ("elections", 5 * most),
            ("transfers", most),
            ("crashes", 2 * most),
            ("snapshots installed", most / 4),
            ("overlays let go", 10 * most),
            ("async handlers across terms", most / 2),
            ("batches with a failure", 10 * most),
            ("retries at two leaders", most),
            ("attempts attached", most),
            ("attempts repeated", most),
            ("proposals refused", most / 4),
            ("handlers interrupted", most),
            ("outdated outcomes dropped", most / 10),
            ("replies: unknown session", most / 2),
            ("replies: superseded", most / 10),
            ("state ahead of the evaluator", most),
        ] {
            assert!(
                coverage.get(name) >= least,
                "{name} was seen {} times, expected at least {least}",
                coverage.get(name)
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_repeats([3, 4], |seed| {
        let report = World::from_seed(seed).run()?;
        Ok((report.trace, report.coverage))
    });
}

/// Runs the seeds with a rule taken away until the named invariant breaks, and the same seed with the rule.
fn is_missed(sabotage: Sabotage, invariant: &str) {
    let mut others = Vec::new();
    for seed in 0..CONTROL_SEEDS {
        if let Err(violation) = World::sabotaged(seed, sabotage).run() {
            if violation.invariant != invariant {
                others.push((seed, violation.invariant));
                continue;
            }
            println!("{sabotage:?}: seed {seed}: {violation}");
            if let Err(violation) = World::from_seed(seed).run() {
                panic!("seed {seed} breaks without sabotage, too: {violation}");
            }
            return;
        }
    }
    panic!(
        "{sabotage:?} was not noticed as `{invariant}` in {CONTROL_SEEDS} seeds; else: {others:?}"
    );
}

#[test]
fn without_sessions_commands_happen_twice() {
    // E5, E10: negative control of exactly-once.
    is_missed(Sabotage::SessionsOff, "at most once");
}

#[test]
fn without_the_may_evaluate_rule_the_chain_breaks() {
    // E1: negative control of "nothing is evaluated before the own no-op is applied".
    is_missed(Sabotage::EvaluateEarly, "effect chain");
}

#[test]
fn with_rollback_to_the_applied_image_the_chain_breaks() {
    // E2: negative control of "never further back than the newest earlier image".
    is_missed(Sabotage::RollbackToApplied, "effect chain");
}

#[test]
fn without_gates_answers_come_from_the_future_and_the_past() {
    // E6, E7: negative control of "no reply before all that it was computed from is applied".
    is_missed(Sabotage::Ungated, "linearizability");
}

#[test]
fn without_a_record_of_retried_errors_old_copies_take_effect() {
    // E31 from the other side: attempt 2 answered `Err`, attempt 1 was still on its way.
    is_missed(Sabotage::UnrecordedRetries, "an error changes nothing");
}
