//! An invariant that did not hold, in whichever world.

use core::fmt;

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The invariant's name, as in the table at the top of the simulator that holds it.
    pub invariant: &'static str,
    /// Who and where, and what was seen.
    pub detail: String,
}

impl Violation {
    /// The same as [`broken`], for whoever maps another error to it.
    pub(crate) fn of(invariant: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { invariant, detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.detail)
    }
}

/// This invariant does not hold.
pub(crate) fn broken<T>(
    invariant: &'static str,
    detail: impl Into<String>,
) -> Result<T, Violation> {
    Err(Violation::of(invariant, detail))
}
