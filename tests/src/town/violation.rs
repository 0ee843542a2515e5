//! An invariant that did not hold.

use core::fmt;

/// What is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The invariant's name, as in the table of this module's parent.
    pub invariant: &'static str,
    /// Who and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.detail)
    }
}

pub(super) fn broken<T>(
    invariant: &'static str,
    detail: impl Into<String>,
) -> Result<T, Violation> {
    Err(Violation {
        invariant,
        detail: detail.into(),
    })
}
