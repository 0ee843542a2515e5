//! What a run has seen. A simulation that never meets a case proves nothing about it.
//!
//! Here: [`Coverage`] and the least a run of many seeds must show.

use core::fmt;

use synod_membership::Counters;

/// Sums over all nodes of one or many runs.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: Vec<(&'static str, u64)>,
}

/// Name, and how often a seed must show it on average.
const LEAST_PER_SEED: &[(&str, f64)] = &[
    ("messages", 20_000.0),
    ("faults", 30.0),
    ("suspicions", 200.0),
    ("refutations", 20.0),
    ("deaths", 60.0),
    ("returns", 200.0),
    ("syncs", 15.0),
    ("syncs_refused", 0.2),
    ("doubts", 10.0),
    ("late_wakes", 1.0),
    ("answers", 200.0),
    ("refused_unadmitted", 30.0),
    ("refused_removed", 3.0),
    ("refused_old_generation", 0.5),
    ("refused_signatures", 0.5),
    ("conflicts", 0.05),
    ("send_failures", 20.0),
    ("crashes", 3.0),
    ("restarts", 3.0),
    ("wipes", 1.0),
    ("pauses", 1.0),
    ("starved", 0.8),
    ("clock_jumps", 0.4),
    ("hold_downs", 0.5),
    ("partitions", 2.0),
    ("one_way_cuts", 1.0),
    ("farewells", 0.5),
    ("joins", 1.0),
    ("removals", 0.5),
    ("copies", 0.5),
    ("copies_stopped", 0.5),
    ("forgers", 0.3),
    ("undecodable", 5.0),
];

impl Coverage {
    /// One more of `name`.
    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// `more` of `name`.
    pub fn add(&mut self, name: &'static str, more: u64) {
        match self.counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += more,
            None => self.counts.push((name, more)),
        }
    }

    /// How often `name` was seen.
    pub fn get(&self, name: &str) -> u64 {
        self.counts
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |&(_, count)| count)
    }

    /// Adds another run.
    pub fn merge(&mut self, other: &Self) {
        for &(name, count) in &other.counts {
            self.add(name, count);
        }
    }

    /// What one machine counted in its life.
    pub(super) fn machine(&mut self, counters: &Counters) {
        for (name, count) in [
            ("suspicions", counters.suspicions),
            ("refutations", counters.refutations),
            ("deaths", counters.deaths),
            ("returns", counters.returns),
            ("syncs", counters.syncs),
            ("syncs_refused", counters.syncs_refused),
            ("doubts", counters.doubts),
            ("late_wakes", counters.late_wakes),
            ("hold_downs", counters.hold_downs),
            ("answers", counters.answers),
            ("refused_unadmitted", counters.refused_unadmitted),
            ("refused_removed", counters.refused_removed),
            ("refused_old_generation", counters.refused_old_generation),
            ("refused_signatures", counters.refused_signatures),
            ("conflicts", counters.conflicts),
            ("send_failures", counters.send_failures),
        ] {
            self.add(name, count);
        }
    }

    /// What `seeds` runs hardly showed; empty is good.
    pub fn lacking(&self, seeds: usize) -> Vec<String> {
        let lacks =
            |&&(name, least): &&(&'static str, f64)| (self.get(name) as f64) < least * seeds as f64;
        let tell = |&(name, least): &(&'static str, f64)| {
            format!(
                "{name}: {} in {seeds} seeds, at least {least} per seed",
                self.get(name)
            )
        };
        LEAST_PER_SEED.iter().filter(lacks).map(tell).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, count)) in self.counts.iter().enumerate() {
            write!(f, "{}{name} {count}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
