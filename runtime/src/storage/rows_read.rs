//! One replica's rows, as they are read.
//!
//! Here: [`RowSpace`], where they lie, and as they are now; [`RowView`], as they were at one moment. Not here: how they come there
//! (`rows`, `rows_going`).

use std::sync::Arc;

use bytes::Bytes;
use fjall::{Readable, Snapshot};
use synod_consensus::{GroupId, ReplicaKey};

use super::rows::{RowHead, StateRows, decode_head, head_key, row_key};
use super::rows_tree::{Open, RowsError, Viewing};

/// Keys and values in order; after an error nothing more comes.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), RowsError>> + 'a>;

fn answered(of: &StateRows, rows: Result<fjall::Iter, RowsError>, prefix: usize) -> Rows<'static> {
    let of = of.clone();
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return Box::new(std::iter::once(Err(error))),
    };
    Box::new(rows.map(move |row| {
        let (key, value) = row.into_inner().map_err(|error| of.tree().refused(error))?;
        Ok((
            Bytes::copy_from_slice(&key[prefix..]),
            Bytes::copy_from_slice(&value),
        ))
    }))
}

/// Where the rows of one replica lie. They are not removed while anybody has this.
#[derive(Clone, Debug)]
pub struct RowSpace {
    rows: StateRows,
    group: GroupId,
    number: u64,
    _reader: Arc<()>,
}

impl RowSpace {
    pub(super) fn new(rows: StateRows, group: GroupId, number: u64, reader: Arc<()>) -> Self {
        Self {
            rows,
            group,
            number,
            _reader: reader,
        }
    }

    pub(super) fn rows(&self) -> &StateRows {
        &self.rows
    }

    pub(super) fn group(&self) -> GroupId {
        self.group
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Under which key a row of the owner's lies.
    pub(super) fn row(&self, key: &[u8]) -> Vec<u8> {
        row_key(self.group, self.number, key)
    }

    /// One row, as the last write left it. The value is memory of its own.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        let key = self.row(key);
        let value = self.rows.tree().with(|open| open.rows.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// All rows whose keys begin so, as they are now.
    pub fn scan(&self, prefix: &[u8]) -> Rows<'_> {
        let own = self.row(&[]).len();
        let prefix = self.row(prefix);
        let rows = self.rows.tree().with(|open| Ok(open.rows.prefix(prefix)));
        answered(&self.rows, rows, own)
    }
}

/// A replica's rows at one moment.
pub struct RowView {
    rows: StateRows,
    snapshot: Snapshot,
    group: GroupId,
    head: RowHead,
    /// Counted until the snapshot is gone: while there is one, memtables that were written meanwhile are not let go.
    _counted: Viewing,
}

impl std::fmt::Debug for RowView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowView")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl RowView {
    /// What was durable of the replica then.
    pub fn head(&self) -> &RowHead {
        &self.head
    }

    /// One row.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        let key = row_key(self.group, self.head.space, key);
        let value = self
            .rows
            .tree()
            .with(|open| self.snapshot.get(&open.rows, key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// All rows whose keys begin so.
    pub fn scan(&self, prefix: &[u8]) -> Rows<'_> {
        let own = row_key(self.group, self.head.space, &[]).len();
        let prefix = row_key(self.group, self.head.space, prefix);
        let rows = |open: &Open| Ok(self.snapshot.prefix(&open.rows, prefix));
        answered(&self.rows, self.rows.tree().with(rows), own)
    }
}

impl StateRows {
    /// A replica's rows as they are now, whatever is written meanwhile; `None`: it has none. Writes wait for its end when memory has no
    /// room for more of them (`rows_tree`), so whoever has it must not wait for a write.
    pub fn view(&self, key: ReplicaKey) -> Result<Option<RowView>, RowsError> {
        let (snapshot, counted) = self.tree().view()?;
        let row = self
            .tree()
            .with(|open| snapshot.get(&open.rows, head_key(key)))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let head = decode_head(&row)
            .map_err(|error| self.tree().damaged(format!("the head of {key:?}: {error}")))?;
        Ok(Some(RowView {
            rows: self.clone(),
            snapshot,
            group: key.group,
            head,
            _counted: counted,
        }))
    }
}
