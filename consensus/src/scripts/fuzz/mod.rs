//! Arbitrary bytes for the decoders, arbitrary inputs for a [`Group`](crate::Group).
//!
//! Here: [`run`], which draws cases from a seed and shrinks what fails. `decoders`: bytes, and messages with bytes changed. `inputs`: what
//! a group can be told, in words that keep their meaning whatever state it is in. `bench`: the disk, the state machine and the ears around
//! one group, and what must hold after every input.
//! Not here: whole groups and their promises to clients (simulators, crate `tests`), and what a fuzzer found (`findings`).
//!
//! The tests run a few seconds. Longer: `FUZZ_CASES=1000000 FUZZ_SEED=7 cargo test --release -p synod-consensus fuzz -- --nocapture`; every
//! seed is another run. A failure prints the shortest sequence that still fails.

mod bench;
mod decoders;
mod findings;
mod inputs;

use core::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

fn number(name: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the length of a fuzzing run is the caller's wish, not an option of the machine"
    )]
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Draws `cases` values (or `FUZZ_CASES`), the same ones for the same `FUZZ_SEED`, and checks each.
fn run<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let cases =
        number("FUZZ_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap_or(u32::MAX));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("FUZZ_SEED").unwrap_or(0).to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 50_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
        check(value);
        Ok::<_, TestCaseError>(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{why}\nshortest: {value:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

// Issue: fuzzing of `Group` input sequences. Nothing that any replica says, and nothing that happens at any moment, breaks a group.
#[test]
fn no_sequence_of_inputs_breaks_a_group() {
    let total = std::cell::RefCell::new(bench::Reached::default());
    run(
        2_500,
        &(inputs::voters(), inputs::steps()),
        |(voters, steps)| {
            let mut bench = bench::Bench::new(voters);
            bench.run(steps);
            total.borrow_mut().add(&bench.reached);
        },
    );
    let reached = total.into_inner();
    println!("{reached:?}");
    reached.check();
}
