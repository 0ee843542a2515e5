//! What a run has seen. A simulation that never meets a case proves nothing about it.
//!
//! Here: [`Coverage`], for every simulator but that of membership, whose counts are few and hot. What many runs must have seen is told
//! where it is known: by the simulators (`genesis`, `groups`) and their gates.

use core::fmt;
use std::collections::BTreeMap;

/// Named counts of one run or of many.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// One more of `name`.
    pub(crate) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// `more` of `name`.
    pub(crate) fn add(&mut self, name: &'static str, more: u64) {
        *self.counts.entry(name).or_default() += more;
    }

    /// The greatest value of `name` so far; its name begins with `most`.
    pub(crate) fn most(&mut self, name: &'static str, value: u64) {
        let known = self.counts.entry(name).or_default();
        *known = value.max(*known);
    }

    /// How often `name` was seen.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Every name and its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Takes another run's counts in. Names that begin with `most` are maxima.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in other.iter() {
            if name.starts_with("most") {
                self.most(name, count);
            } else {
                self.add(name, count);
            }
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.iter() {
            writeln!(f, "{count:>12} {name}")?;
        }
        Ok(())
    }
}
