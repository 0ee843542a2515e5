//! Everything replicated of one shard, as the log has made it so far.
//!
//! Here: [`ShardState`]: entities with image and version, sessions with their stored replies, log time. Every replica
//! applies the same entries and holds the same state; the leader's evaluator reads it, nobody else writes it.
//! Not here: anything speculative (`leadership`), the log (`synod-consensus`), files (`storage`).
//!
//! An effect names the version it was computed from. A mismatch means that an acknowledged effect is about to be lost,
//! so [`ShardState::apply`] refuses and the replica has to stop ([`ApplyError::ChainBroken`]): a bug, never an outcome.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::LogIndex;

use super::batch::{BATCH_VERSION, Batch, Effect, Stored};
use super::copying::Copies;
use crate::wire::{Outcome, SessionId};

/// An entity's committed state.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The encoded entity.
    pub bytes: Bytes,
    /// Log index of the effect that made it.
    pub version: LogIndex,
}

/// A session: one router's exactly-once window on this shard (RIFL, SOSP 2015).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Session {
    pub(super) router: u128,
    /// Log time of the last recorded command, or of the opening.
    pub(super) used_ms: u64,
    /// Sequences below are answered or given up; never evaluated again.
    pub(super) lowest: u64,
    pub(super) replies: BTreeMap<u64, Outcome>,
    /// Sum of the replies' sizes.
    pub(super) bytes: usize,
}

/// The replicated state of one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardState {
    applied: LogIndex,
    clock_ms: u64,
    entities: BTreeMap<Box<str>, BTreeMap<Box<str>, Image>>,
    sessions: BTreeMap<SessionId, Session>,
    routers: BTreeMap<u128, SessionId>,
    /// A copy that is being taken.
    pub(super) copies: Copies,
}

/// Why an entry could not be applied. Nothing of it was; the replica must stop and say so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The effect was not computed from the entity's state. Effects must form one chain per entity (section 7).
    #[error(
        "entry {index} changes `{kind}/{key}` from version {expected}, but its version is {found}: the chain of effects is broken"
    )]
    ChainBroken {
        /// The entry.
        index: LogIndex,
        /// The entity's kind.
        kind: String,
        /// The entity's key.
        key: String,
        /// The version that the effect was computed from.
        expected: LogIndex,
        /// The version that the entity has.
        found: LogIndex,
    },
    /// The entry is not the next one.
    #[error("entry {index} cannot be applied after entry {applied}")]
    OutOfOrder {
        /// The entry.
        index: LogIndex,
        /// The last applied entry.
        applied: LogIndex,
    },
    /// The payload does not decode.
    #[error("entry {index} does not decode: {detail}")]
    Undecodable {
        /// The entry.
        index: LogIndex,
        /// What the decoder said.
        detail: String,
    },
    /// A newer version of Synod wrote the entry.
    #[error(
        "entry {index} has batch format {got}, this build reads up to {BATCH_VERSION}; upgrade this node"
    )]
    TooNew {
        /// The entry.
        index: LogIndex,
        /// Its format.
        got: u16,
    },
}

/// Why a snapshot was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are no snapshot.
    #[error("the shard snapshot does not decode: {0}")]
    Undecodable(#[from] rmp_serde::decode::Error),
    /// A newer version of Synod wrote it.
    #[error(
        "the shard snapshot has format {got}, this build reads up to {SNAPSHOT_VERSION}; upgrade this node"
    )]
    TooNew {
        /// Its format.
        got: u16,
    },
}

pub(super) const SNAPSHOT_VERSION: u16 = 1;

#[derive(Serialize)]
struct SnapshotRef<'a> {
    version: u16,
    applied: u64,
    clock_ms: u64,
    entities: Vec<EntityRow<&'a str>>,
    sessions: Vec<SessionRow<&'a BTreeMap<u64, Outcome>>>,
}

#[derive(Deserialize)]
struct Snapshot {
    version: u16,
    applied: u64,
    clock_ms: u64,
    entities: Vec<EntityRow<Box<str>>>,
    sessions: Vec<SessionRow<BTreeMap<u64, Outcome>>>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct EntityRow<S> {
    pub(super) kind: S,
    pub(super) key: S,
    pub(super) version: u64,
    pub(super) image: Bytes,
}

#[derive(Deserialize, Serialize)]
pub(super) struct SessionRow<R> {
    pub(super) session: SessionId,
    pub(super) router: u128,
    pub(super) used_ms: u64,
    pub(super) lowest: u64,
    pub(super) replies: R,
}

impl ShardState {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last entry that is in the state.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Number of entities that exist.
    pub fn entities(&self) -> usize {
        self.entities.values().map(BTreeMap::len).sum()
    }

    /// Number of open sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The committed image of an entity.
    pub fn image(&self, kind: &str, key: &str) -> Option<&Image> {
        self.entities.get(kind)?.get(key)
    }

    /// Every entity's kind, key and image, in order.
    pub fn images(&self) -> impl Iterator<Item = (&str, &str, &Image)> {
        self.entities.iter().flat_map(|(kind, rows)| {
            rows.iter()
                .map(move |(key, image)| (&**kind, &**key, image))
        })
    }

    /// The entities behind `after`, in order.
    pub(super) fn images_after<'a>(
        &'a self,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Image)> {
        let first = after.and_then(|(kind, key)| {
            let rows = self.entities.get(kind)?;
            let behind = (Bound::Excluded(key), Bound::Unbounded);
            Some(rows.range::<str, _>(behind).map(move |row| (kind, row)))
        });
        let kinds = (
            after.map_or(Bound::Unbounded, |(kind, _)| Bound::Excluded(kind)),
            Bound::Unbounded,
        );
        let rest = self
            .entities
            .range::<str, _>(kinds)
            .flat_map(|(kind, rows)| rows.iter().map(move |row| (&**kind, row)));
        first
            .into_iter()
            .flatten()
            .chain(rest)
            .map(|(kind, (key, image))| (kind, &**key, image))
    }

    pub(super) fn sessions_within(
        &self,
        range: (Bound<SessionId>, Bound<SessionId>),
    ) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.sessions.range(range)
    }

    /// Passes over an entry without effects (a no-op, a configuration).
    pub fn skip(&mut self, index: LogIndex) -> Result<(), ApplyError> {
        self.in_order(index)?;
        self.applied = index;
        Ok(())
    }

    /// Applies the batch of entry `index`. On an error nothing of it is applied.
    pub fn apply(&mut self, index: LogIndex, payload: &[u8]) -> Result<(), ApplyError> {
        self.in_order(index)?;
        let batch: Batch =
            rmp_serde::from_slice(payload).map_err(|error| ApplyError::Undecodable {
                index,
                detail: error.to_string(),
            })?;
        if batch.version > BATCH_VERSION {
            return Err(ApplyError::TooNew {
                index,
                got: batch.version,
            });
        }
        for effect in &batch.effects {
            self.chained(index, effect)?;
        }
        for effect in batch.effects {
            self.take_effect(index, effect);
        }
        self.clock_ms = self.clock_ms.max(batch.clock_ms);
        for stored in batch.replies {
            self.store(stored);
        }
        for session in batch.expires {
            if let Some(gone) = self.sessions.remove(&session) {
                self.copies.session_changes(session, Some(&gone));
                self.routers.remove(&gone.router);
            }
        }
        if let Some(router) = batch.opens {
            self.open(SessionId(index.get()), router);
        }
        self.applied = index;
        Ok(())
    }

    fn in_order(&self, index: LogIndex) -> Result<(), ApplyError> {
        if index != self.applied.next() {
            return Err(ApplyError::OutOfOrder {
                index,
                applied: self.applied,
            });
        }
        Ok(())
    }

    fn chained(&self, index: LogIndex, effect: &Effect) -> Result<(), ApplyError> {
        let found = self
            .image(&effect.kind, &effect.key)
            .map_or(LogIndex::ZERO, |image| image.version);
        if found.get() != effect.base {
            return Err(ApplyError::ChainBroken {
                index,
                kind: effect.kind.to_string(),
                key: effect.key.to_string(),
                expected: LogIndex::from(effect.base),
                found,
            });
        }
        Ok(())
    }

    fn take_effect(&mut self, index: LogIndex, effect: Effect) {
        let was = self
            .entities
            .get(&effect.kind)
            .and_then(|rows| rows.get(&effect.key));
        self.copies.entity_changes(&effect.kind, &effect.key, was);
        match effect.image {
            Some(bytes) => {
                let image = Image {
                    bytes,
                    version: index,
                };
                if let Some(rows) = self.entities.get_mut(&effect.kind) {
                    rows.insert(effect.key, image);
                } else {
                    self.entities
                        .insert(effect.kind, BTreeMap::from([(effect.key, image)]));
                }
            }
            None => {
                if let Some(rows) = self.entities.get_mut(&effect.kind) {
                    rows.remove(&effect.key);
                    if rows.is_empty() {
                        self.entities.remove(&effect.kind);
                    }
                }
            }
        }
    }

    fn store(&mut self, stored: Stored) {
        // A session that expired in the log before this entry keeps nothing: its router is told `Unknown`.
        let Some(session) = self.sessions.get_mut(&stored.session) else {
            return;
        };
        self.copies.session_changes(stored.session, Some(session));
        session.used_ms = self.clock_ms;
        session.bytes += size_of_outcome(&stored.outcome);
        if let Some(replaced) = session.replies.insert(stored.sequence, stored.outcome) {
            session.bytes -= size_of_outcome(&replaced);
        }
        if stored.lowest > session.lowest {
            session.lowest = stored.lowest;
            let kept = session.replies.split_off(&stored.lowest);
            for outcome in std::mem::replace(&mut session.replies, kept).values() {
                session.bytes -= size_of_outcome(outcome);
            }
        }
    }

    fn open(&mut self, id: SessionId, router: u128) {
        if self.routers.contains_key(&router) {
            return; // the first opening stands
        }
        self.copies.session_changes(id, self.sessions.get(&id));
        self.routers.insert(router, id);
        self.sessions.insert(
            id,
            Session {
                router,
                used_ms: self.clock_ms,
                lowest: 1,
                ..Session::default()
            },
        );
    }

    pub(super) fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(super) fn session_of(&self, router: u128) -> Option<SessionId> {
        self.routers.get(&router).copied()
    }

    /// Sessions whose last recorded use lies before `horizon_ms`.
    pub(super) fn sessions_used_before(
        &self,
        horizon_ms: u64,
    ) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions
            .iter()
            .filter(move |(_, session)| session.used_ms < horizon_ms)
            .map(|(id, _)| *id)
    }

    /// The whole state: what a snapshot and a checkpoint hold. Equal states give equal bytes.
    pub fn encode(&self) -> Bytes {
        let snapshot = SnapshotRef {
            version: SNAPSHOT_VERSION,
            applied: self.applied.get(),
            clock_ms: self.clock_ms,
            entities: self
                .images()
                .map(|(kind, key, image)| EntityRow {
                    kind,
                    key,
                    version: image.version.get(),
                    image: image.bytes.clone(),
                })
                .collect(),
            sessions: self
                .sessions
                .iter()
                .map(|(id, session)| SessionRow {
                    session: *id,
                    router: session.router,
                    used_ms: session.used_ms,
                    lowest: session.lowest,
                    replies: &session.replies,
                })
                .collect(),
        };
        crate::wire::encode(&snapshot)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes)?;
        if snapshot.version > SNAPSHOT_VERSION {
            return Err(SnapshotError::TooNew {
                got: snapshot.version,
            });
        }
        let mut state = Self {
            applied: LogIndex::from(snapshot.applied),
            clock_ms: snapshot.clock_ms,
            ..Self::default()
        };
        for row in snapshot.entities {
            let image = Image {
                bytes: row.image,
                version: LogIndex::from(row.version),
            };
            state
                .entities
                .entry(row.kind)
                .or_default()
                .insert(row.key, image);
        }
        for row in snapshot.sessions {
            state.routers.insert(row.router, row.session);
            state.sessions.insert(
                row.session,
                Session {
                    router: row.router,
                    used_ms: row.used_ms,
                    lowest: row.lowest,
                    bytes: row.replies.values().map(size_of_outcome).sum(),
                    replies: row.replies,
                },
            );
        }
        Ok(state)
    }
}

/// What one stored reply costs, for the bound per session.
pub(super) fn size_of_outcome(outcome: &Outcome) -> usize {
    const FIXED: usize = 64; // the record around the body
    FIXED
        + match outcome {
            Outcome::Done { body, .. } => body.len(),
            Outcome::Failed(failure) => failure.to_string().len(),
            Outcome::Unknown { reason } => reason.len(),
            Outcome::Opened { .. } | Outcome::Refused(_) | Outcome::Interrupted { .. } => 0,
        }
}
