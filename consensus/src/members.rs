//! A set of replicas, in as many bytes as it needs.
//!
//! Here: [`Members`], one list of a configuration. Every group holds four of them for as long as it lives, mostly one of three ids and
//! three empty ones; nodes of a tree would take ten times the room. Not here: what the lists mean (`configuration`).

use core::ops::Deref;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ReplicaId;

/// Replicas in ascending order, each once. Reads like a slice; asked and changed like a set, in time that grows with its size.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Deserialize, Serialize)]
#[serde(from = "Vec<ReplicaId>")]
pub struct Members(Box<[ReplicaId]>);

impl Members {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a replica; `false` when it was there.
    pub fn insert(&mut self, replica: ReplicaId) -> bool {
        let is_new = !self.contains(&replica);
        self.extend([replica]);
        is_new
    }

    /// Takes a replica out; `false` when it was not there.
    pub fn remove(&mut self, replica: &ReplicaId) -> bool {
        let was_there = self.contains(replica);
        self.0 = self
            .iter()
            .copied()
            .filter(|other| other != replica)
            .collect();
        was_there
    }

    /// Whether everybody is in `other` too.
    pub fn is_subset(&self, other: &[ReplicaId]) -> bool {
        self.iter().all(|replica| other.contains(replica))
    }

    /// Those that are not in `other`, ascending.
    pub fn difference<'a>(&'a self, other: &'a [ReplicaId]) -> impl Iterator<Item = &'a ReplicaId> {
        self.iter().filter(|replica| !other.contains(replica))
    }

    /// Those that are in `other` too, ascending.
    pub fn intersection<'a>(
        &'a self,
        other: &'a [ReplicaId],
    ) -> impl Iterator<Item = &'a ReplicaId> {
        self.iter().filter(|replica| other.contains(replica))
    }

    /// Those that are here or in `other`, ascending.
    pub fn union(&self, other: &[ReplicaId]) -> Self {
        self.iter().chain(other).copied().collect()
    }
}

impl Deref for Members {
    type Target = [ReplicaId];

    fn deref(&self) -> &[ReplicaId] {
        &self.0
    }
}

impl From<Vec<ReplicaId>> for Members {
    fn from(mut replicas: Vec<ReplicaId>) -> Self {
        replicas.sort_unstable();
        replicas.dedup();
        Self(replicas.into())
    }
}

impl From<BTreeSet<ReplicaId>> for Members {
    fn from(replicas: BTreeSet<ReplicaId>) -> Self {
        Self(replicas.into_iter().collect())
    }
}

impl From<Members> for BTreeSet<ReplicaId> {
    fn from(members: Members) -> Self {
        members.into_iter().collect()
    }
}

impl<const N: usize> From<[ReplicaId; N]> for Members {
    fn from(replicas: [ReplicaId; N]) -> Self {
        Vec::from(replicas).into()
    }
}

impl FromIterator<ReplicaId> for Members {
    fn from_iter<I: IntoIterator<Item = ReplicaId>>(replicas: I) -> Self {
        replicas.into_iter().collect::<Vec<_>>().into()
    }
}

impl Extend<ReplicaId> for Members {
    fn extend<I: IntoIterator<Item = ReplicaId>>(&mut self, replicas: I) {
        *self = self.iter().copied().chain(replicas).collect();
    }
}

impl<'a> Extend<&'a ReplicaId> for Members {
    fn extend<I: IntoIterator<Item = &'a ReplicaId>>(&mut self, replicas: I) {
        self.extend(replicas.into_iter().copied());
    }
}

impl IntoIterator for Members {
    type Item = ReplicaId;
    type IntoIter = std::vec::IntoIter<ReplicaId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a ReplicaId;
    type IntoIter = core::slice::Iter<'a, ReplicaId>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = Vec<ReplicaId>> {
        proptest::collection::vec((0_u64..9).prop_map(ReplicaId::new), 0..9)
    }

    proptest! {
        #[test]
        fn they_are_a_set(first in ids(), second in ids(), one in 0_u64..9) {
            let one = ReplicaId::new(one);
            let mut members: Members = first.iter().copied().collect();
            let mut set: BTreeSet<ReplicaId> = first.into_iter().collect();
            prop_assert_eq!(members.insert(one), set.insert(one));
            prop_assert_eq!(&BTreeSet::from(members.clone()), &set);
            members.extend(&second);
            set.extend(&second);
            prop_assert_eq!(members.remove(&one), set.remove(&one));
            prop_assert!(members.iter().eq(&set));
            let other: Members = second.clone().into();
            let second: BTreeSet<ReplicaId> = second.into_iter().collect();
            prop_assert!(members.difference(&other).eq(set.difference(&second)));
            prop_assert!(members.intersection(&other).eq(set.intersection(&second)));
            prop_assert_eq!(members.is_subset(&other), set.is_subset(&second));
            prop_assert!(members.union(&other).iter().eq(set.union(&second)));
            prop_assert_eq!(Members::from(set), members);
        }
    }
}
