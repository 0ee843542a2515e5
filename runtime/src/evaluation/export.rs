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

/// Writes the snapshot of the rows in `base`, which must be of one moment, with the head that was written with them. The bytes are those
/// that [`ShardState::encode`](super::ShardState::encode) would give.
pub fn export(base: &dyn Base, head: &[u8], out: impl Write) -> io::Result<()> {
    let head = Head::decode(head).map_err(io::Error::other)?;
    let applied = LogIndex::new(head.applied);
    let mut out = SnapshotWriter::begin(out, applied, head.clock_ms, head.entities)?;
    for row in base.scan(ENTITIES) {
        let (kind, key, image) = row
            .and_then(|row| entity_of(&row))
            .map_err(io::Error::other)?;
        out.entity(&kind, &key, &image)?;
    }
    let sessions = base.scan(SESSIONS);
    let sessions: Result<Vec<_>, BaseError> = sessions
        .map(|row| row.and_then(|row| session_of(&row)))
        .collect();
    let sessions = sessions.map_err(io::Error::other)?;
    out.sessions(sessions.len() as u64)?;
    for (id, session) in &sessions {
        out.session(*id, session)?;
    }
    out.end()?.flush()
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
    fn entity(&mut self, kind: Box<str>, key: Box<str>, image: Image) -> Result<(), BaseError> {
        self.entities += 1;
        self.bytes += (kind.len() + key.len() + image.bytes.len()) as u64;
        (self.put)(entity_key(&kind, &key), entity_value(&image)).map_err(BaseError)
    }

    fn session(&mut self, id: SessionId, session: Session) -> Result<(), BaseError> {
        (self.put)(session_key(id), session_value(&session)).map_err(BaseError)
    }
}
