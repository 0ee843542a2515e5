//! Logs in memory: for tests and benchmarks, and the plainest reading of what [`LogStore`] means.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::chain::Chain;
use crate::storage::{HardState, LogStore, Recovered, ReplicaKey, StoreError, Write};
use crate::{Entry, LogIndex, SnapshotMeta};

/// A [`LogStore`] that forgets everything with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    replicas: BTreeMap<ReplicaKey, Replica>,
}

#[derive(Clone, Debug, Default)]
struct Replica {
    hard_state: HardState,
    base: SnapshotMeta,
    entries: Chain,
}

impl Replica {
    fn last(&self) -> LogIndex {
        self.entries
            .last()
            .map_or(self.base.position.index, |entry| entry.index)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Where a log would begin and end while a batch is only being checked.
struct Outline {
    base: LogIndex,
    last: LogIndex,
}

impl Outline {
    fn check(outline: &mut Option<Self>, key: ReplicaKey, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Reset { to } => {
                *outline = Some(Self {
                    base: to.position.index,
                    last: to.position.index,
                });
                return Ok(());
            }
            Write::Drop => {
                *outline = None;
                return Ok(());
            }
            Write::HardState(_) | Write::Append(_) | Write::Compact { .. } => {}
        }
        let outline = outline.as_mut().ok_or(StoreError::UnknownReplica { key })?;
        let gap = |index| StoreError::Gap {
            key,
            index,
            base: outline.base,
            last: outline.last,
        };
        match write {
            Write::Append(entries) => {
                let Some(first) = entries.first() else {
                    return Ok(());
                };
                if first.index <= outline.base || first.index > outline.last.next() {
                    return Err(gap(first.index));
                }
                if let Some(pair) = entries
                    .windows(2)
                    .find(|pair| pair[1].index != pair[0].index.next())
                {
                    return Err(gap(pair[1].index));
                }
                outline.last = entries[entries.len() - 1].index;
            }
            Write::Compact { to } => {
                if to.position.index > outline.last {
                    return Err(gap(to.position.index));
                }
                outline.base = outline.base.max(to.position.index);
            }
            Write::HardState(_) | Write::Reset { .. } | Write::Drop => {}
        }
        Ok(())
    }
}

impl LogStore for MemoryStore {
    fn write(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) -> Result<(), StoreError> {
        if let [(key, writes)] = batch {
            return self.write_one(*key, writes);
        }
        let mut outlines = BTreeMap::new();
        for (key, writes) in batch {
            let outline = outlines
                .entry(*key)
                .or_insert_with(|| self.replicas.get(key).map(Replica::outline));
            for write in writes {
                Outline::check(outline, *key, write)?;
            }
        }
        for (key, writes) in batch {
            for write in writes {
                self.apply(*key, write);
            }
        }
        Ok(())
    }

    fn replicas(&self) -> Vec<ReplicaKey> {
        self.replicas.keys().copied().collect()
    }

    fn recover(&self, key: ReplicaKey) -> Result<Option<Recovered>, StoreError> {
        Ok(self.replicas.get(&key).map(|replica| Recovered {
            hard_state: replica.hard_state,
            base: replica.base.clone(),
            entries: replica.entries.iter().cloned().collect(),
        }))
    }

    fn fetch(
        &self,
        key: ReplicaKey,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let replica = self
            .replicas
            .get(&key)
            .ok_or(StoreError::UnknownReplica { key })?;
        let base = replica.base.position.index;
        if from <= base {
            return Err(StoreError::Compacted { key, from, base });
        }
        let mut bytes = 0;
        let within = replica
            .entries
            .iter()
            .skip_while(|e| e.index < from)
            .take_while(|e| e.index <= through);
        let fitting = within.enumerate().take_while(|(nth, entry)| {
            bytes += entry.payload.len();
            *nth == 0 || bytes <= max_bytes
        });
        Ok(fitting.map(|(_, entry)| entry.clone()).collect())
    }
}

impl MemoryStore {
    /// A batch of one replica alone, which is looked up once.
    fn write_one(&mut self, key: ReplicaKey, writes: &[Write]) -> Result<(), StoreError> {
        let mut found = self.replicas.get_mut(&key);
        let mut outline = found.as_deref().map(Replica::outline);
        for write in writes {
            Outline::check(&mut outline, key, write)?;
        }
        for (place, write) in writes.iter().enumerate() {
            match &mut found {
                Some(replica) if !matches!(write, Write::Drop) => replica.apply(write),
                _ => {
                    // It is born here, or ends.
                    for write in &writes[place..] {
                        self.apply(key, write);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// Does a write that was checked.
    fn apply(&mut self, key: ReplicaKey, write: &Write) {
        if matches!(write, Write::Drop) {
            self.replicas.remove(&key);
        } else {
            self.replicas.entry(key).or_default().apply(write);
        }
    }
}

impl Replica {
    /// Where the log begins and ends now.
    fn outline(&self) -> Outline {
        Outline {
            base: self.base.position.index,
            last: self.last(),
        }
    }

    /// Does a write that was checked and is no `Drop`.
    fn apply(&mut self, write: &Write) {
        match write {
            Write::HardState(HardState { term, vote, commit }) => {
                self.hard_state = HardState {
                    term: *term,
                    vote: *vote,
                    commit: *commit,
                };
            }
            Write::Append(entries) => {
                if let Some(first) = entries.first() {
                    self.entries.truncate_from(first.index);
                    self.entries.extend(entries.clone());
                }
            }
            Write::Compact { to } => {
                if to.position.index > self.base.position.index {
                    self.entries.drop_through(to.position.index);
                    self.base = to.clone();
                }
            }
            Write::Reset { to } => {
                self.entries = Chain::default();
                self.base = to.clone();
            }
            Write::Drop => unreachable!("handled by the callers"),
        }
    }
}

/// A store that several hands hold, one at a time; opening it again shows the same contents.
impl<S: LogStore> LogStore for Rc<RefCell<S>> {
    fn write(&mut self, batch: &[(ReplicaKey, Vec<Write>)]) -> Result<(), StoreError> {
        self.borrow_mut().write(batch)
    }

    fn replicas(&self) -> Vec<ReplicaKey> {
        self.borrow().replicas()
    }

    fn recover(&self, key: ReplicaKey) -> Result<Option<Recovered>, StoreError> {
        self.borrow().recover(key)
    }

    fn fetch(
        &self,
        key: ReplicaKey,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.borrow().fetch(key, from, through, max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_store_conforms() {
        let medium = Rc::new(RefCell::new(MemoryStore::new()));
        crate::conformance::check(&mut || Box::new(Rc::clone(&medium)));
    }
}
