//! What is true of the cluster, told by nobody: every committed entry of every group, the system state that follows from the log, and
//! what became of every replica id. Replicas are held against it at each step.
//!
//! Not here: what must be so after calm (`calm`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use synod::system::{BUILD_LEVEL, ReplicaAddress, SystemOutcome, SystemState};
use synod_consensus::{
    Configuration, Entry, EntryKind, GroupId, LogIndex, ReplicaId, ReplicaKey, SnapshotMeta,
};

use super::machine::link;
use crate::violation::{Violation, broken};

/// One group's past.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The chain after each entry, from index 1 on.
    chains: Vec<u64>,
    /// Every committed configuration, by its index.
    configurations: BTreeMap<LogIndex, Configuration>,
    /// The newest committed configuration, and its index.
    pub(super) configuration: (LogIndex, Configuration),
    /// The last entry that a client was told is there.
    pub(super) acknowledged: LogIndex,
}

impl Past {
    pub(super) fn last(&self) -> LogIndex {
        LogIndex::new(self.chains.len() as u64)
    }

    /// The chain after `index`.
    pub(super) fn chain(&self, index: LogIndex) -> Option<u64> {
        match index.get() {
            0 => Some(0),
            index => self.chains.get(index as usize - 1).copied(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) groups: BTreeMap<GroupId, Past>,
    /// After the last committed entry of the system group.
    pub(super) system: SystemState,
    /// Every replica that the log ever allowed.
    allotted: BTreeSet<ReplicaKey>,
    /// Those that it took back.
    retired: BTreeSet<ReplicaKey>,
    /// Replicas that something durable is known of.
    pub(super) lived: BTreeSet<ReplicaKey>,
    /// Replicas whose files went.
    pub(super) deleted: BTreeSet<ReplicaKey>,
    /// Replicas that stopped for good on their store.
    pub(super) lost: BTreeSet<ReplicaKey>,
    /// Since when that is known to their store.
    lost_at: BTreeMap<ReplicaKey, Duration>,
    /// Copies of shards that were allotted after the founding.
    pub(super) copies_allotted: u64,
}

impl Ledger {
    /// A replica applied an entry. Returns whether it is the first to do so.
    pub(super) fn applied(
        &mut self,
        key: ReplicaKey,
        entry: &Entry,
        chain: u64,
    ) -> Result<bool, Violation> {
        let past = self.groups.entry(key.group).or_default();
        if entry.index <= past.last() {
            if past.chain(entry.index) != Some(chain) {
                return broken(
                    "Committed Entries",
                    format!("{key:?} applied another entry at {}", entry.index),
                );
            }
            return Ok(false);
        }
        if entry.index != past.last().next() {
            return broken(
                "Committed Entries",
                format!("{key:?} applied {} after {}", entry.index, past.last()),
            );
        }
        let before = past.chain(past.last()).unwrap_or_default();
        if link(before, entry) != chain {
            return broken(
                "Committed Entries",
                format!("{key:?} applied {} on another past", entry.index),
            );
        }
        past.chains.push(chain);
        if entry.kind == EntryKind::Configuration {
            let Some(next) = entry.configuration() else {
                return broken(
                    "Replica Sets",
                    format!("{key:?}: {entry:?} does not decode"),
                );
            };
            self.committed(key, entry.index, next)?;
        }
        if key.group == GroupId::ZERO {
            self.system_entry(entry)?;
        }
        Ok(true)
    }

    /// A state was taken over as a whole.
    pub(super) fn restored(
        &self,
        key: ReplicaKey,
        index: LogIndex,
        chain: u64,
    ) -> Result<(), Violation> {
        let known = self
            .groups
            .get(&key.group)
            .and_then(|past| past.chain(index));
        if known != Some(chain) {
            return broken(
                "Committed Entries",
                format!("{key:?} took over another state of {index}"),
            );
        }
        Ok(())
    }

    /// A checkpoint of a group says this of itself.
    pub(super) fn checkpointed(
        &self,
        key: ReplicaKey,
        meta: &SnapshotMeta,
    ) -> Result<(), Violation> {
        let past = self.groups.get(&key.group);
        let before = |past: &Past| {
            let through = past.configurations.range(..=meta.position.index);
            through.last().map(|(index, known)| (*index, known.clone()))
        };
        let known = past.and_then(before);
        // The founding configuration is in no log: a newcomer that learns it from the first entry on knows of none until it meets one.
        let is_unheard = known.as_ref().is_some_and(|(index, founding)| {
            *index == LogIndex::ZERO && !founding.contains(key.replica)
        });
        if is_unheard && meta.configuration == Configuration::default() {
            return Ok(());
        }
        if known != Some((meta.configuration_index, meta.configuration.clone())) {
            return broken(
                "Snapshots Name Their Configuration",
                format!("{key:?}: {meta:?}, but {known:?} is in force there"),
            );
        }
        Ok(())
    }

    /// The founding configuration of a group.
    pub(super) fn founded(&mut self, group: GroupId, configuration: Configuration) {
        let ids = configuration.members();
        let keys = ids.iter().map(|id| ReplicaKey {
            group,
            replica: *id,
        });
        self.allotted.extend(keys);
        let past = self.groups.entry(group).or_default();
        past.configurations = BTreeMap::from([(LogIndex::ZERO, configuration.clone())]);
        past.configuration = (LogIndex::ZERO, configuration);
    }

    /// Where the newest configuration lies that a replica of the group knows to be committed.
    pub(super) fn configured_at(&self, group: GroupId) -> LogIndex {
        let past = self.groups.get(&group);
        past.map(|past| past.configuration.0).unwrap_or_default()
    }

    /// A replica knows that a configuration is committed. It acts on that at once, while it may be some time before anybody applies it:
    /// a leader's own disk may be the last to hold it.
    pub(super) fn committed(
        &mut self,
        key: ReplicaKey,
        index: LogIndex,
        next: Configuration,
    ) -> Result<(), Violation> {
        let group = key.group;
        let past = self.groups.entry(group).or_default();
        match past.configurations.get(&index) {
            Some(known) if *known == next => return Ok(()),
            Some(known) => {
                let detail = format!("{key:?} holds {next:?} at {index}, another {known:?}");
                return broken("Committed Entries", detail);
            }
            None if index < past.configuration.0 => {
                let detail = format!("{key:?} holds {next:?} at {index}, where others hold none");
                return broken("Committed Entries", detail);
            }
            None => {}
        }
        let former = &past.configuration.1;
        let shown = format!("group {group} at {index}: {next:?} after {former:?}");
        for id in &next.members() {
            let key = ReplicaKey {
                group,
                replica: *id,
            };
            if !self.allotted.contains(&key) {
                return broken("Replica Sets", format!("{id} was never allotted: {shown}"));
            }
            if !former.contains(*id) && self.retired.contains(&key) {
                return broken("Retired Stays Retired", format!("{id} came back: {shown}"));
            }
        }
        let stores = |ids: &[ReplicaId]| -> BTreeSet<u64> {
            ids.iter().map(|id| ReplicaAddress::of(*id).store).collect()
        };
        if stores(&next.voters).len() != next.voters.len() {
            return broken("Replica Sets", format!("two voters on one store: {shown}"));
        }
        if !next.is_joint() && next.voters.len().is_multiple_of(2) {
            return broken("Odd Voters", shown);
        }
        past.configurations.insert(index, next.clone());
        past.configuration = (index, next);
        Ok(())
    }

    fn system_entry(&mut self, entry: &Entry) -> Result<(), Violation> {
        if entry.kind != EntryKind::Normal {
            self.system.applied = entry.index;
            return Ok(());
        }
        let before = self.listed();
        let was_founded = self.system.founding.is_some();
        let outcome = match self.system.apply(entry.index, &entry.payload, BUILD_LEVEL) {
            Ok(outcome) => outcome,
            Err(error) => return broken("Committed Entries", error.to_string()),
        };
        let after = self.listed();
        for key in after.difference(&before) {
            if !was_founded {
                continue;
            }
            if !self.allotted.insert(*key) {
                let detail = format!("{key:?} is allotted a second time");
                return broken("Retired Stays Retired", detail);
            }
            if key.group != GroupId::ZERO {
                self.copies_allotted += 1;
            }
        }
        for key in before.difference(&after) {
            self.retired.insert(*key);
            self.may_go(*key, "is retired")?;
        }
        if let (SystemOutcome::Allotted { replica }, false) = (&outcome, before == after)
            && !after.iter().any(|key| key.replica == *replica)
        {
            return broken(
                "Replica Sets",
                format!("{replica} is allotted, but not listed"),
            );
        }
        Ok(())
    }

    fn listed(&self) -> BTreeSet<ReplicaKey> {
        let groups = self.system.groups.iter();
        groups
            .flat_map(|(group, entry)| {
                let group = *group;
                { entry.replicas.iter() }.map(move |&replica| ReplicaKey { group, replica })
            })
            .collect()
    }

    /// No committed configuration may name a replica that goes, unless it stopped for good and the others do without it.
    pub(super) fn may_go(&self, key: ReplicaKey, how: &str) -> Result<(), Violation> {
        let named = self
            .groups
            .get(&key.group)
            .filter(|past| past.configuration.1.contains(key.replica));
        match named {
            Some(past) if !self.lost.contains(&key) => broken(
                "Named Replicas Stay",
                format!("{key:?} {how}, but {:?} names it", past.configuration),
            ),
            _ => Ok(()),
        }
    }

    /// A replica stopped for good.
    pub(super) fn loses(&mut self, key: ReplicaKey, now: Duration) {
        self.lost.insert(key);
        self.lost_at.entry(key).or_insert(now);
    }

    /// Whether it stopped for good before that.
    pub(super) fn lost_before(&self, key: ReplicaKey, at: Duration) -> bool {
        self.lost_at.get(&key).is_some_and(|lost| *lost <= at)
    }

    /// A retired replica of a group that its configuration does not name.
    pub(super) fn retired_of(&self, group: GroupId) -> Option<ReplicaId> {
        let named = &self.groups.get(&group)?.configuration.1;
        let mut of_group = self.retired.iter().filter(|key| key.group == group);
        of_group
            .find(|key| !named.contains(key.replica))
            .map(|key| key.replica)
    }

    /// A replica is created, empty.
    pub(super) fn born(&self, key: ReplicaKey) -> Result<(), Violation> {
        if self.lived.contains(&key) || self.deleted.contains(&key) {
            let detail = format!("{key:?} begins anew, empty, after it had lived");
            return broken("Never Born Again", detail);
        }
        Ok(())
    }

    /// A replica says something.
    pub(super) fn speaks(&self, key: ReplicaKey) -> Result<(), Violation> {
        if self.deleted.contains(&key) {
            return broken("Retired Is Silent", format!("{key:?} speaks after its end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new(1);

    fn on(store: u64) -> ReplicaKey {
        let serial = 1;
        let replica = ReplicaAddress { store, serial }.id();
        ReplicaKey {
            group: GROUP,
            replica,
        }
    }

    fn of(stores: [u64; 3]) -> Configuration {
        Configuration::of_voters(stores.map(|store| on(store).replica))
    }

    fn name(result: Result<(), Violation>) -> Option<&'static str> {
        result.err().map(|violation| violation.invariant)
    }

    /// One to three were voters, and four takes the place of three, at index 2.
    fn exchanged() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.founded(GROUP, of([1, 2, 3]));
        ledger.allotted.insert(on(4));
        let joint = Configuration {
            outgoing: of([1, 2, 3]).voters,
            ..of([1, 2, 4])
        };
        ledger.committed(on(1), LogIndex::new(1), joint).unwrap();
        ledger
    }

    #[test]
    fn what_a_leader_knows_to_be_committed_counts_before_anybody_has_applied_it() {
        // Its own disk may be the last to hold the entry, so that it reports it, and a replica is retired, while nobody has applied it.
        let mut ledger = exchanged();
        let rings = name(ledger.may_go(on(3), "is retired"));
        assert_eq!(rings, Some("Named Replicas Stay"));
        let left = of([1, 2, 4]);
        ledger.committed(on(1), LogIndex::new(2), left).unwrap();
        assert_eq!(name(ledger.may_go(on(3), "is retired")), None);
        let rings = name(ledger.may_go(on(4), "is retired"));
        assert_eq!(rings, Some("Named Replicas Stay"));
    }

    #[test]
    fn two_that_know_of_a_commit_know_the_same() {
        let mut ledger = exchanged();
        let (first, second) = (LogIndex::new(1), LogIndex::new(2));
        ledger.committed(on(1), second, of([1, 2, 4])).unwrap();
        assert_eq!(name(ledger.committed(on(2), second, of([1, 2, 4]))), None);
        for (at, other) in [(second, of([1, 2, 3])), (first, of([1, 2, 4]))] {
            let rings = name(ledger.committed(on(2), at, other));
            assert_eq!(rings, Some("Committed Entries"));
        }
        assert_eq!(ledger.configured_at(GROUP), second);
    }
}
