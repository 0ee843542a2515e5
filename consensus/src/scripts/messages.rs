//! Messages and entries that a story writes by hand.

use core::time::Duration;

use bytes::Bytes;

use crate::message::Body;
use crate::{
    Entry, EntryKind, GroupId, LogIndex, Message, Position, ReplicaId, SnapshotMeta, Term,
};

use super::shelf::checksum;

pub(super) fn id(replica: u64) -> ReplicaId {
    ReplicaId::new(replica)
}

/// A message as `from` would say it, whatever `from` really is.
pub(super) fn say(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message {
        group: GroupId::ZERO,
        from: id(from),
        to: id(to),
        term: Term::new(term),
        body,
    }
}

pub(super) fn at(term: u64, index: u64) -> Position {
    Position::new(Term::new(term), LogIndex::new(index))
}

/// Entries of one term, payload = "term.index".
pub(super) fn entries(term: u64, indexes: core::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let entry = |index: u64| Entry {
        term: Term::new(term),
        index: LogIndex::new(index),
        kind: EntryKind::Normal,
        payload: format!("{term}.{index}").into(),
    };
    indexes.map(entry).collect()
}

/// A heartbeat of a leader that knows no more to be committed than it says.
pub(super) fn heartbeat(round: u64, sent: Duration, upto: u64, commit: u64) -> Body {
    let commit = LogIndex::new(commit);
    Body::Heartbeat {
        round,
        sent,
        upto: LogIndex::new(upto),
        commit,
        known: commit,
    }
}

/// All of a snapshot in one chunk: the state that `entries` make.
pub(super) fn whole(meta: SnapshotMeta, entries: &Vec<Entry>) -> Body {
    let data = rmp_serde::to_vec_named(entries).expect("they encode");
    Body::Chunk {
        serial: 1,
        meta: Box::new(meta),
        total: data.len() as u64,
        checksum: checksum(&data),
        offset: 0,
        data: Bytes::from(data),
    }
}
