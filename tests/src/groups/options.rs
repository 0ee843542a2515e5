//! The options that the groups of one world run with.

use core::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod_consensus::{CheckedOptions, GroupOptions};

/// Small windows and pages, so that limits are met.
pub(crate) fn draw(
    rng: &mut ChaCha8Rng,
    sabotage: Option<synod_consensus::Sabotage>,
) -> CheckedOptions {
    let append_bytes = [800, 4_000, 512 << 10][rng.random_range(0..3)];
    let inflight_appends = [2, 8, 128][rng.random_range(0..3)];
    // With the smallest windows a leader is slower than its clients: what it takes on stays within what it gets rid of.
    let most = if append_bytes * inflight_appends < 8_000 {
        64_000
    } else {
        16 << 20
    };
    let options = GroupOptions {
        append_bytes,
        inflight_appends,
        inflight_bytes: [5_000, 8 << 20][rng.random_range(0..2)],
        chunk_bytes: [700, 5_000, 256 << 10][rng.random_range(0..3)],
        chunk_window_bytes: [1_500, 4 << 20][rng.random_range(0..2)],
        uncommitted_bytes: [8_000, 64_000, most][rng.random_range(0..3)],
        apply_bytes: [500, 1 << 20][rng.random_range(0..2)],
        keep_entries: [0, 10, 200][rng.random_range(0..3)],
        // With the shortest, another leader comes as soon as promises allow.
        election_stagger: Duration::from_millis([10, 40, 150][rng.random_range(0..3)]),
        disk_stall: Duration::from_secs(3),
        lease: Duration::from_millis([0, 400, 1_000, 1_500, 1_500, 1_500][rng.random_range(0..6)]),
        clock_drift_ppm: [50_000, 160_000, 400_000][rng.random_range(0..3)],
        sabotage,
        ..GroupOptions::default()
    };
    options.check().expect("these hang together")
}
