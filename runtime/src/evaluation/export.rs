//! A shard's rows become a snapshot, and a snapshot rows, one after the other: neither is ever whole in memory.
//!
//! Here: [`export`] and [`import`]. Not here: the format (`snapshot`, `rows`), where the bytes lie (`storage`), on which thread this runs
//! (`group::exports`, `group::freight`).

use std::io::{self, Read, Write};

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::base::{Base, BaseError};
use super::rows::{
    ENTITIES, Head, SESSIONS, entity_key, entity_of, entity_value, session_key, session_of,
    session_value,
};
use super::snapshot::{self, Sink, SnapshotError, SnapshotWriter};
use super::state::{Image, Session};
use crate::wire::SessionId;

/// Why there is no snapshot of rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// They are not what was written, or cannot be read; see [`BaseError`].
    #[error(transparent)]
    Rows(#[from] BaseError),
    /// Whoever takes its bytes does not: try again.
    #[error("the snapshot of a shard cannot be written: {0}")]
    Out(#[from] io::Error),
}

/// Writes the snapshot of the rows in `base`, which must be of one moment, with the head that was written with them. The bytes are those
/// that [`ShardState::encode`](super::ShardState::encode) would give. Rows that the head does not count are damaged.
pub fn export(base: &dyn Base, head: &[u8], out: impl Write) -> Result<(), ExportError> {
    let head = Head::decode(head)?;
    let applied = LogIndex::new(head.applied);
    let mut out = SnapshotWriter::begin(out, applied, head.clock_ms, head.entities)?;
    let mut entities = 0;
    for row in base.scan(ENTITIES) {
        let (kind, key, image) = entity_of(&row?)?;
        out.entity(&kind, &key, &image)?;
        entities += 1;
    }
    if entities != head.entities {
        let counted = head.entities;
        let wrong = format!("there are rows of {entities} entities, and the head counts {counted}");
        return Err(BaseError::Damaged(wrong).into());
    }
    let sessions = base.scan(SESSIONS);
    let sessions: Result<Vec<_>, BaseError> = sessions
        .map(|row| row.and_then(|row| session_of(&row)))
        .collect();
    let sessions = sessions?;
    out.sessions(sessions.len() as u64)?;
    for (id, session) in &sessions {
        out.session(*id, session)?;
    }
    Ok(out.end()?.flush()?)
}

/// Reads a snapshot into rows, each of which is handed to `put`; gives what it covers and the head to be written with the rows. On an
/// error a part of the rows was handed over.
pub fn import(
    from: impl Read,
    put: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), String>,
) -> Result<(LogIndex, Bytes), SnapshotError> {
    let mut importing = Importing {
        put,
        entities: 0,
        bytes: 0,
    };
    let head = snapshot::read(from, &mut importing)?;
    let Importing {
        entities, bytes, ..
    } = importing;
    let rows = Head::new(head.applied, head.clock_ms, entities, bytes);
    Ok((head.applied, rows.encode()))
}

struct Importing<F> {
    put: F,
    entities: u64,
    bytes: u64,
}

impl<F: FnMut(Vec<u8>, Vec<u8>) -> Result<(), String>> Sink for Importing<F> {
    fn entity(&mut self, kind: Box<str>, key: Box<str>, image: Image) -> Result<(), String> {
        self.entities += 1;
        self.bytes += (kind.len() + key.len() + image.bytes.len()) as u64;
        (self.put)(entity_key(&kind, &key), entity_value(&image))
    }

    fn session(&mut self, id: SessionId, session: Session) -> Result<(), String> {
        (self.put)(session_key(id), session_value(&session))
    }
}

/// A snapshot of so many entities with images of so many bytes, as of `applied`.
#[cfg(test)]
pub(crate) fn snapshot_of(applied: LogIndex, entities: u64, bytes: usize) -> Bytes {
    let image = Image {
        bytes: vec![7; bytes].into(),
        version: LogIndex::new(1),
    };
    let mut out = SnapshotWriter::begin(Vec::new(), applied, 0, entities).unwrap();
    for number in 0..entities {
        out.entity("kind", &format!("{number:06}"), &image).unwrap();
    }
    out.sessions(0).unwrap();
    out.end().unwrap().into()
}
