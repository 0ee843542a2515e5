//! Which seeds a simulator's gate runs: the one place that reads `SIM_SEED`, `SIM_SEEDS` and `SIM_FIRST`.

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
