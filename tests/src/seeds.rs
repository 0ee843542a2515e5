//! Which seeds a simulator's gate runs (the one place that reads `SIM_SEED`, `SIM_SEEDS` and `SIM_FIRST`), and that a seed is all it takes
//! to run the same again.

use core::fmt::Debug;

use crate::violation::Violation;

/// Exactly `$SIM_SEED` if that is set, else `$SIM_SEEDS` seeds, else `usual` of them, from `$SIM_FIRST` or 0 on.
pub fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let first = number("SIM_FIRST").unwrap_or(0);
    match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (first..).take(count.unwrap_or(usual) as usize).collect(),
    }
}

/// Runs each of these seeds twice: a replay line is worth something only if the run repeats to the byte.
///
/// # Panics
/// If a run breaks an invariant, if its second trace differs, or if the traces of two seeds are the same: then they tell nothing.
pub fn assert_repeats<T: Debug + PartialEq>(
    seeds: [u64; 2],
    trace: impl Fn(u64) -> Result<T, Violation>,
) {
    let [one, other] = seeds.map(|seed| {
        let first = trace(seed);
        assert!(first.is_ok(), "seed {seed}: {first:?}");
        assert_eq!(first, trace(seed), "seed {seed}");
        first
    });
    assert_ne!(one, other);
}
