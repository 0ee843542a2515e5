//! Rows that come and go as a whole.
//!
//! Here: a snapshot's rows, which are staged in a space of their own ([`Staging`]) and become a replica's in one write; a replica's rows
//! under another id; and the removal of rows that nobody has any more, in small commits ([`StateRows::sweep`]). What goes is listed in the
//! same write after which nobody has it, so that its removal is gone on with after a restart.
//! Not here: writes of what changed (`rows`), who removes when (`group::exports`).

use std::sync::Weak;

use bytes::Bytes;
use synod_consensus::{GroupId, ReplicaId, ReplicaKey, SnapshotMeta};

use super::rows::{Known, RowHead, StateRows, encode_head, going_key, head_key, row_key};
use super::rows_read::RowSpace;
use super::rows_tree::{Batch, RowsError};

/// Bytes of staged rows in one commit.
const STAGE_BYTES: usize = 1 << 20;

/// Rows that nobody has any more.
#[derive(Debug)]
pub(super) struct Going {
    group: GroupId,
    space: u64,
    /// Who still reads them.
    readers: Weak<()>,
    /// Where the removal is; what lies before is gone.
    from: Vec<u8>,
    /// What is left cannot be read: it stays until the next start, and does not keep the others from going.
    stuck: bool,
}

impl Going {
    pub(super) fn new(group: GroupId, space: u64, readers: Weak<()>) -> Self {
        Self {
            group,
            space,
            readers,
            from: Vec::new(),
            stuck: false,
        }
    }

    /// Whether these are the rows of this space.
    pub(super) fn is(&self, space: u64) -> bool {
        self.space == space
    }
}

impl Known {
    /// The space that nobody has any more once `key` does not.
    pub(super) fn leaves(&self, key: ReplicaKey) -> Option<u64> {
        let space = self.heads.get(&key)?.space;
        let shared = |(other, head): (&ReplicaKey, &RowHead)| *other != key && head.space == space;
        (!self.heads.iter().any(shared)).then_some(space)
    }

    pub(super) fn goes(&mut self, group: GroupId, space: Option<u64>) {
        let Some(space) = space else { return };
        let readers = self.readers.get(&space).cloned().unwrap_or_default();
        self.going.push(Going::new(group, space, readers));
    }

    /// What is damaged cannot be removed.
    fn keep(&mut self, space: u64, error: &RowsError) {
        let mut going = self.going.iter_mut();
        if matches!(error, RowsError::Damaged { .. })
            && let Some(going) = going.find(|going| going.space == space)
        {
            going.stuck = true;
        }
    }
}

impl StateRows {
    /// A place for the rows of a snapshot that is being taken over.
    pub fn stage(&self, group: GroupId) -> Staging {
        let number = self.new_space();
        let space = self.enter(&mut self.known(), group, number);
        let mut batch = Batch::default();
        batch.insert(going_key(group, number), Vec::new());
        Staging {
            space,
            batch,
            taken: false,
        }
    }

    /// Makes staged rows those of a replica, durably and in one write; its former ones are going.
    pub fn adopt(
        &self,
        key: ReplicaKey,
        mut staging: Staging,
        meta: SnapshotMeta,
        head: Bytes,
    ) -> Result<(), RowsError> {
        staging.flush()?;
        let former = self.known().leaves(key);
        let mut batch = Batch::default();
        let space = staging.space.number();
        let head = RowHead { meta, head, space };
        batch.insert(head_key(key), encode_head(&head));
        batch.remove(going_key(key.group, space));
        if let Some(former) = former {
            batch.insert(going_key(key.group, former), Vec::new());
        }
        self.tree().commit(batch, true)?;
        staging.taken = true;
        let mut known = self.known();
        known.heads.insert(key, head);
        known.goes(key.group, former);
        Ok(())
    }

    /// Lets another replica id have a replica's rows, durably. Both have them until one is removed.
    pub fn also_as(&self, key: ReplicaKey, replica: ReplicaId) -> Result<(), RowsError> {
        let Some(head) = self.head(key) else {
            return Ok(());
        };
        let key = ReplicaKey { replica, ..key };
        let mut batch = Batch::default();
        batch.insert(head_key(key), encode_head(&head));
        self.tree().commit(batch, true)?;
        self.known().heads.insert(key, head);
        Ok(())
    }

    /// Forgets a replica; its rows are going. Not durable by itself: after a crash it may be back, and [`Self::retain`] removes it again.
    pub fn remove(&self, key: ReplicaKey) -> Result<(), RowsError> {
        let former = self.known().leaves(key);
        if self.head(key).is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.remove(head_key(key));
        if let Some(former) = former {
            batch.insert(going_key(key.group, former), Vec::new());
        }
        self.tree().commit(batch, false)?;
        let mut known = self.known();
        known.heads.remove(&key);
        known.goes(key.group, former);
        Ok(())
    }

    /// Forgets all replicas but these. Called at start with the replicas that the log knows.
    pub fn retain(&self, wanted: impl Fn(ReplicaKey) -> bool) -> Result<(), RowsError> {
        let unwanted = self.replicas().into_iter().filter(|key| !wanted(*key));
        unwanted.into_iter().try_for_each(|key| self.remove(key))
    }

    /// Removes up to `limit` rows that nobody has any more. Whether there may be more that can go now. On `Damaged` there may be, too.
    pub fn sweep(&self, limit: usize) -> Result<bool, RowsError> {
        let (group, space, from) = {
            let known = self.known();
            let unread = |going: &&Going| !going.stuck && going.readers.strong_count() == 0;
            let Some(going) = known.going.iter().find(unread) else {
                return Ok(false);
            };
            (going.group, going.space, going.from.clone())
        };
        let prefix = row_key(group, space, &[]);
        let start = row_key(group, space, &from);
        let mut batch = Batch::default();
        let mut last = None;
        let rows = self.tree().with(|open| Ok(open.rows.range(start..)))?;
        for (count, row) in rows.enumerate() {
            let row = row.key().map_err(|error| self.tree().refused(error));
            let row = row.inspect_err(|error| self.known().keep(space, error))?;
            if !row.starts_with(&prefix) {
                break;
            }
            if count == limit {
                last = Some(row[prefix.len()..].to_vec());
                break;
            }
            batch.remove(row.to_vec());
        }
        if last.is_none() {
            batch.remove(going_key(group, space));
        }
        self.tree().commit(batch, false)?;
        let mut known = self.known();
        match last {
            Some(from) => {
                let mut going = known.going.iter_mut();
                if let Some(going) = going.find(|going| going.space == space) {
                    going.from = from;
                }
            }
            None => {
                known.going.retain(|going| going.space != space);
                known.readers.remove(&space);
            }
        }
        Ok(true)
    }

    /// Spaces whose rows are to go and are not gone.
    pub fn going(&self) -> usize {
        self.known().going.len()
    }
}

/// Rows on their way in. Dropped before they were adopted, they are going.
pub struct Staging {
    space: RowSpace,
    batch: Batch,
    taken: bool,
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging")
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

impl Staging {
    /// Where the rows will lie.
    pub fn space(&self) -> RowSpace {
        self.space.clone()
    }

    /// Keeps one row.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), RowsError> {
        self.batch.insert(self.space.row(key), value);
        if self.batch.bytes() >= STAGE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RowsError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.space.rows().tree().commit(batch, false)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.taken {
            let (group, space) = (self.space.group(), self.space.number());
            self.space.rows().known().goes(group, Some(space));
        }
    }
}
