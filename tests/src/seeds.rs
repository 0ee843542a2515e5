//! Which seeds a simulator's gate runs: the one place that reads `SIM_SEED` and `SIM_SEEDS`.

/// Exactly `$SIM_SEED` if that is set, else `$SIM_SEEDS` seeds, else `usual` of them, from 0.
pub fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (0..count.unwrap_or(usual)).collect(),
    }
}
