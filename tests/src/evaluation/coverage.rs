//! What the seeds have been through, so that a run in which an interesting case hardly occurred does not count.

use std::collections::BTreeMap;
use std::fmt;

/// Named counts, added up over seeds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts one.
    pub fn note(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts `many`.
    pub fn add(&mut self, name: &'static str, many: u64) {
        *self.0.entry(name).or_default() += many;
    }

    /// How often.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds the counts of another seed.
    pub fn merge(&mut self, other: &Self) {
        for (name, many) in &other.0 {
            self.add(name, *many);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, many) in &self.0 {
            writeln!(f, "  {many:>10} {name}")?;
        }
        Ok(())
    }
}
