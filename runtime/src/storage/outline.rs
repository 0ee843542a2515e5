//! Whether a batch fits the logs it is for, found out before a byte of it is written.
//!
//! Here: [`Outlines`]. Source: H80, a gap that reached the disk made a store refuse to open for ever.
//! Not here: the logs themselves (`index`).

use std::collections::BTreeMap;

use synod_consensus::{LogIndex, ReplicaKey, StoreError, Write};

use super::index::Index;

/// Where a log begins and ends while a batch is only being checked.
#[derive(Clone, Copy, Debug)]
struct Outline {
    base: LogIndex,
    last: LogIndex,
}

/// The outlines of the replicas that a batch touches; the memory is reused.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    logs: BTreeMap<ReplicaKey, Option<Outline>>,
    /// For each compaction of the batch, in order: whether it changes anything. One that does not is not written: replayed without the
    /// records before it, it would look like one that does.
    compacts: Vec<bool>,
}

impl Outlines {
    /// Refuses the whole batch when one write of it does not fit. The index does not change.
    pub(crate) fn check(
        &mut self,
        index: &Index,
        batch: &[(ReplicaKey, Vec<Write>)],
    ) -> Result<(), StoreError> {
        self.logs.clear();
        self.compacts.clear();
        for (key, writes) in batch {
            let outline = self.logs.entry(*key).or_insert_with(|| {
                index.replicas.get(key).map(|replica| Outline {
                    base: replica.base.position.index,
                    last: replica.last(),
                })
            });
            for write in writes {
                let base = outline.map(|outline| outline.base);
                Outline::step(outline, *key, write)?;
                if matches!(write, Write::Compact { .. }) {
                    self.compacts
                        .push(outline.map(|outline| outline.base) != base);
                }
            }
        }
        Ok(())
    }

    /// For each compaction of the batch that was checked last, in order: whether it changes anything.
    pub(crate) fn compacts(&self) -> impl Iterator<Item = bool> {
        self.compacts.iter().copied()
    }
}

impl Outline {
    fn step(outline: &mut Option<Self>, key: ReplicaKey, write: &Write) -> Result<(), StoreError> {
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
                let mut last = first.index;
                for entry in &entries[1..] {
                    if entry.index != last.next() {
                        return Err(gap(entry.index));
                    }
                    last = entry.index;
                }
                outline.last = last;
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
