//! What a run has seen. A simulation that never meets a case proves nothing about it.

use core::fmt;
use std::collections::BTreeMap;

/// Counts of one or many runs.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

/// Name, and how often a seed must show it on average.
const LEAST_PER_SEED: &[(&str, f64)] = &[
    ("events", 20_000.0),
    ("acknowledged", 500.0),
    ("faults", 20.0),
    ("elections", 4.0),
    ("truncations", 0.5),
    ("transfers", 0.5),
    ("transfers_failed", 0.05),
    ("snapshots", 0.5),
    ("compactions", 5.0),
    ("configurations", 3.0),
    ("joint_configurations", 1.0),
    ("configurations_reverted", 0.02),
    ("configuration_changes_with_a_crash", 0.5),
    ("removed", 0.3),
    ("newcomers", 1.0),
    ("reads", 100.0),
    ("reads_failed", 0.5),
    ("crashes", 3.0),
    ("power_lost_while_writing", 0.3),
    ("syncs_failed", 0.2),
    ("blackouts", 0.1),
    ("stalls", 0.5),
    ("pauses", 0.5),
    ("partitions", 2.0),
    ("wiped", 0.05),
    ("messages_lost", 100.0),
    ("messages_doubled", 50.0),
    ("outcomes_unknown", 5.0),
    ("refused_busy", 0.1),
    ("refused_transferring", 0.05),
];

impl Coverage {
    /// One more of `name`.
    pub(crate) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub(crate) fn add(&mut self, name: &'static str, more: u64) {
        *self.counts.entry(name).or_default() += more;
    }

    /// How often `name` was seen.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            self.add(name, *count);
        }
    }

    /// What was seen less often than many seeds must show it.
    pub fn lacking(&self, seeds: usize) -> Vec<String> {
        let seen = |name: &str| self.get(name) as f64 / seeds as f64;
        let lacking = LEAST_PER_SEED
            .iter()
            .filter(|(name, least)| seen(name) < *least);
        lacking
            .map(|(name, least)| format!("{name}: {:.2} per seed, at least {least}", seen(name)))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "{count:>12} {name}")?;
        }
        Ok(())
    }
}
