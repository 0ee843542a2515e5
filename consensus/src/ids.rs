//! The numbers of one group, each its own type so that none is taken for another.
//!
//! Here: group, replica, term, index, read, and [`Position`]. Not here: who allots them (the system group, crate `synod`).
//! Called by everybody. Source: Raft paper, figure 2.

use core::fmt;
use core::num::NonZeroU64;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)] // the same bytes as a bare u64
        pub struct $name(u64);

        impl $name {
            /// The number before the first.
            pub const ZERO: Self = Self(0);

            /// Names the number `value`.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The bare number, for formats and arithmetic that this type does not name.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number after this one.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One Raft group. Group 0 is the system group.
    GroupId
}
/// One incarnation of one node's part of a group; never reused, so a wiped disk comes back as somebody else.
/// Opaque here: `synod` puts the store id into its upper half. `Option<ReplicaId>` takes eight bytes too: a group that rests holds some.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(from = "u64", into = "u64")] // the same bytes as a bare u64
pub struct ReplicaId(NonZeroU64);

impl ReplicaId {
    /// Names the number `value`. `u64::MAX`, which nobody allots, counts as the number before it.
    pub const fn new(value: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(value))
    }

    /// The bare number, for formats and arithmetic that this type does not name.
    pub const fn get(self) -> u64 {
        self.0.get() - 1
    }
}

impl Default for ReplicaId {
    fn default() -> Self {
        Self::new(0)
    }
}

impl From<u64> for ReplicaId {
    fn from(value: u64) -> Self {
        Self::new(value)
    }
}

impl From<ReplicaId> for u64 {
    fn from(replica: ReplicaId) -> Self {
        replica.get()
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplicaId").field(&self.get()).finish()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

number! {
    /// A leader's reign. Grows with every election.
    Term
}
number! {
    /// Place in one group's log. The first entry is 1; `ZERO` is "before the first" (Raft paper, figure 2).
    LogIndex
}
number! {
    /// One linearizable read of one [`Group`](crate::Group) value; never reused by it.
    ReadId
}

impl LogIndex {
    /// Further on than any entry will ever lie.
    pub const MAX: Self = Self(u64::MAX);

    /// The place before this one; `ZERO` stays where it is.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The place `count` entries further on.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The place `count` entries back, not before `ZERO`.
    pub const fn minus(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// Number of entries in `(self, end]`; `None` when `end` lies before `self`.
    pub const fn entries_until(self, end: Self) -> Option<u64> {
        end.0.checked_sub(self.0)
    }
}

/// An entry's name in every log that holds it: two logs with the same position agree on all before it
/// (Log Matching, Raft paper 5.3). Ordered by term first, as votes compare logs (H5).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Position {
    /// Term of the leader that created the entry.
    pub term: Term,
    /// Place in the log.
    pub index: LogIndex,
}

impl Position {
    /// Before the first entry of any log.
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        index: LogIndex::ZERO,
    };

    /// The position (`term`, `index`).
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_term_beats_longer_log() {
        // H5: the comparison is lexicographic, term before index.
        let short = Position::new(Term::new(2), LogIndex::new(1));
        let long = Position::new(Term::new(1), LogIndex::new(9));
        assert!(short > long);
    }

    #[test]
    fn an_id_is_as_long_as_its_number_on_the_wire() {
        assert_eq!(rmp_serde::to_vec_named(&ReplicaId::new(7)).unwrap(), [7]);
        assert_eq!(rmp_serde::to_vec_named(&GroupId::new(7)).unwrap(), [7]);
    }

    #[test]
    fn every_replica_keeps_its_number_and_none_costs_nothing() {
        for value in [0, 1, 7 << 32, u64::MAX - 1] {
            let replica = ReplicaId::new(value);
            assert_eq!(replica.get(), value);
            assert_eq!(
                format!("{replica} {replica:?}"),
                format!("{value} ReplicaId({value})")
            );
            let bytes = rmp_serde::to_vec_named(&replica).unwrap();
            assert_eq!(bytes, rmp_serde::to_vec_named(&value).unwrap());
            assert_eq!(rmp_serde::from_slice::<ReplicaId>(&bytes).unwrap(), replica);
        }
        assert!(ReplicaId::new(1) < ReplicaId::new(2));
        let damaged = rmp_serde::to_vec_named(&u64::MAX).unwrap();
        let read: ReplicaId = rmp_serde::from_slice(&damaged).unwrap();
        assert_eq!(read.get(), u64::MAX - 1, "no input stops a process");
        assert_eq!(size_of::<Option<ReplicaId>>(), 8);
    }
}
