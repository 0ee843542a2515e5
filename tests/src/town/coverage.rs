//! What a run has seen. A simulation that never meets a case proves nothing about it.

use core::fmt;
use std::collections::BTreeMap;

/// Counts of one run or of many.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// One more of `name`.
    pub(super) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub(super) fn add(&mut self, name: &'static str, more: u64) {
        *self.counts.entry(name).or_default() += more;
    }

    /// The greatest value of `name` so far.
    pub(super) fn most(&mut self, name: &'static str, value: u64) {
        let known = self.counts.entry(name).or_default();
        *known = value.max(*known);
    }

    /// How often `name` was seen.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Takes another run's counts in. Names that begin with `most` are maxima.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            if name.starts_with("most") {
                self.most(name, *count);
            } else {
                self.add(name, *count);
            }
        }
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
