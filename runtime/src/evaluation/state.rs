//! Everything replicated of one shard, as the log has made it so far.
//!
//! Here: [`ShardState`]: entities with image and version, sessions with their stored replies, log time. Every replica
//! applies the same entries and holds the same state; the leader's evaluator reads it, nobody else writes it. Entities lie in up to
//! three layers: what changed since the last checkpoint was begun, what that checkpoint is writing, and the base. Without a base
//! everything is in the first. Sessions are few and stay in memory; their changed rows are written, too.
//! Not here: anything speculative (`leadership`), the log (`synod-consensus`), files (`storage`), the layers (`overlay`, `base`),
//! what is written of them (`sealed`).
//!
//! An effect names the version it was computed from. A mismatch means that an acknowledged effect is about to be lost,
//! so [`ShardState::apply`] refuses and the replica has to stop ([`ApplyError::ChainBroken`]): a bug, never an outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::base::{Base, BaseError, BaseRow};
use super::batch::{BATCH_VERSION, Batch, Effect, Stored};
use super::overlay::Overlay;
use super::rows::{
    ENTITIES, Head, SESSIONS, entity_key, entity_of, found_in, image_of, session_of,
};
use super::snapshot::{self, Sink, SnapshotError, SnapshotWriter};
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

impl Session {
    /// One that was written down.
    pub(super) fn kept(
        router: u128,
        used_ms: u64,
        lowest: u64,
        replies: BTreeMap<u64, Outcome>,
    ) -> Self {
        Self {
            router,
            used_ms,
            lowest,
            bytes: replies.values().map(size_of_outcome).sum(),
            replies,
        }
    }
}

/// The replicated state of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardState {
    pub(super) applied: LogIndex,
    pub(super) clock_ms: u64,
    /// What changed since the last seal.
    pub(super) fresh: Overlay,
    /// What a checkpoint is writing, and up to where.
    pub(super) sealed: Option<(LogIndex, Arc<Overlay>)>,
    pub(super) base: Option<Arc<dyn Base>>,
    /// Entities that exist.
    pub(super) entities: u64,
    /// Bytes of their kinds, keys and images.
    pub(super) bytes: u64,
    pub(super) sessions: BTreeMap<SessionId, Arc<Session>>,
    routers: BTreeMap<u128, SessionId>,
}

/// Two states are equal when they say the same, wherever their rows lie.
impl PartialEq for ShardState {
    fn eq(&self, other: &Self) -> bool {
        self.try_encode()
            .is_ok_and(|bytes| other.try_encode().is_ok_and(|others| bytes == others))
    }
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
    /// What it was computed from cannot be read.
    #[error(transparent)]
    Unreadable(#[from] BaseError),
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
        usize::try_from(self.entities).unwrap_or(usize::MAX)
    }

    /// Bytes of all entities' kinds, keys and images.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of open sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The committed image of an entity: from memory, else from the base.
    pub fn image(&self, kind: &str, key: &str) -> Result<Option<Image>, BaseError> {
        if let Some(known) = self.in_memory(kind, key) {
            return Ok(known.cloned());
        }
        let image = { self.in_base(kind, key)? }.map(|row| image_of(&row));
        if let (Some(Err(error)), Some(base)) = (&image, &self.base) {
            base.report_damaged(error);
        }
        image.transpose()
    }

    fn in_memory(&self, kind: &str, key: &str) -> Option<Option<&Image>> {
        let sealed = || self.sealed.as_ref()?.1.find(kind, key);
        self.fresh.find(kind, key).or_else(sealed)
    }

    fn in_base(&self, kind: &str, key: &str) -> Result<Option<Bytes>, BaseError> {
        match &self.base {
            Some(base) => base.get(&entity_key(kind, key)),
            None => Ok(None),
        }
    }

    /// Version and length of an entity's image.
    fn found(&self, kind: &str, key: &str) -> Result<Option<(LogIndex, usize)>, BaseError> {
        if let Some(known) = self.in_memory(kind, key) {
            return Ok(known.map(|image| (image.version, image.bytes.len())));
        }
        self.in_base(kind, key)?
            .map(|row| found_in(&row))
            .transpose()
    }

    /// Shows every entity's kind, key and image, in order.
    pub fn visit(&self, mut show: impl FnMut(&str, &str, &Image)) -> Result<(), BaseError> {
        let mut over: BTreeMap<(&str, &str), Option<&Image>> = BTreeMap::new();
        let sealed = self.sealed.iter().flat_map(|(_, sealed)| sealed.entities());
        for (kind, key, image) in sealed.chain(self.fresh.entities()) {
            over.insert((kind, key), image);
        }
        let mut over = over.into_iter().peekable();
        for row in self.base.iter().flat_map(|base| base.scan(ENTITIES)) {
            let (kind, key, image) = entity_of(&row?)?;
            let place = (&*kind, &*key);
            while let Some(((kind, key), image)) = over.next_if(|(other, _)| *other < place) {
                image.inspect(|image| show(kind, key, image));
            }
            match over.next_if(|(other, _)| *other == place) {
                Some((_, newer)) => drop(newer.inspect(|image| show(&kind, &key, image))),
                None => show(&kind, &key, &image),
            }
        }
        for ((kind, key), image) in over {
            image.inspect(|image| show(kind, key, image));
        }
        Ok(())
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
        let mut lengths = Vec::with_capacity(batch.effects.len());
        for effect in &batch.effects {
            lengths.push(self.chained(index, effect)?);
        }
        for (effect, length) in batch.effects.into_iter().zip(lengths) {
            self.take_effect(index, effect, length);
        }
        self.clock_ms = self.clock_ms.max(batch.clock_ms);
        for stored in batch.replies {
            self.store(stored);
        }
        for session in batch.expires {
            if let Some(gone) = self.sessions.remove(&session) {
                self.session_changed(session);
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

    /// The length of the image that the effect replaces.
    fn chained(&self, index: LogIndex, effect: &Effect) -> Result<Option<usize>, ApplyError> {
        let (version, length) = match self.found(&effect.kind, &effect.key)? {
            Some((version, length)) => (version, Some(length)),
            None => (LogIndex::ZERO, None),
        };
        if version.get() != effect.base {
            return Err(ApplyError::ChainBroken {
                index,
                kind: effect.kind.to_string(),
                key: effect.key.to_string(),
                expected: LogIndex::from(effect.base),
                found: version,
            });
        }
        Ok(length)
    }

    fn take_effect(&mut self, index: LogIndex, effect: Effect, replaced: Option<usize>) {
        let Effect {
            kind, key, image, ..
        } = effect;
        let name = kind.len() + key.len();
        if let Some(length) = replaced {
            self.entities -= 1;
            self.bytes -= (name + length) as u64;
        }
        if let Some(bytes) = &image {
            self.entities += 1;
            self.bytes += (name + bytes.len()) as u64;
        }
        let image = image.map(|bytes| Image {
            bytes,
            version: index,
        });
        if image.is_none() && self.base.is_none() {
            self.fresh.remove(&kind, &key);
        } else {
            self.fresh.put(kind, key, image);
        }
    }

    fn session_changed(&mut self, id: SessionId) {
        if self.base.is_some() {
            self.fresh.session_changed(id);
        }
    }

    fn store(&mut self, stored: Stored) {
        // A session that expired in the log before this entry keeps nothing: its router is told `Unknown`.
        let Some(session) = self.sessions.get_mut(&stored.session) else {
            return;
        };
        if self.base.is_some() {
            self.fresh.session_changed(stored.session);
        }
        let session = Arc::make_mut(session);
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
        self.session_changed(id);
        self.routers.insert(router, id);
        self.sessions.insert(
            id,
            Arc::new(Session {
                router,
                used_ms: self.clock_ms,
                lowest: 1,
                ..Session::default()
            }),
        );
    }

    pub(super) fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|session| &**session)
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

    /// The whole state, as a snapshot holds it. Equal states give equal bytes.
    ///
    /// # Panics
    /// When the base cannot be read.
    pub fn encode(&self) -> Bytes {
        self.try_encode().expect("the base can be read")
    }

    fn try_encode(&self) -> Result<Bytes, BaseError> {
        let unwritten = |error: std::io::Error| BaseError::Damaged(error.to_string());
        let (applied, clock_ms) = (self.applied, self.clock_ms);
        let mut out = SnapshotWriter::begin(Vec::new(), applied, clock_ms, self.entities)
            .map_err(unwritten)?;
        let mut written = Ok(());
        self.visit(|kind, key, image| {
            if written.is_ok() {
                written = out.entity(kind, key, image);
            }
        })?;
        written
            .and_then(|()| out.sessions(self.sessions.len() as u64))
            .and_then(|()| {
                let mut sessions = self.sessions.iter();
                sessions.try_for_each(|(id, session)| out.session(*id, session))
            })
            .and_then(|()| out.end())
            .map(Bytes::from)
            .map_err(unwritten)
    }

    /// Reads what [`encode`](Self::encode) wrote into a state without a base.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut state = Self::default();
        let head = snapshot::read(bytes, &mut state)?;
        state.applied = head.applied;
        state.clock_ms = head.clock_ms;
        Ok(state)
    }

    /// The state before the first entry, over a base that has no rows yet.
    pub fn on(base: Arc<dyn Base>) -> Self {
        Self {
            base: Some(base),
            ..Self::default()
        }
    }

    /// The state that a checkpoint left in `base`; `head` was written with it. Reads the sessions; the entities stay where they are.
    pub fn restore(base: Arc<dyn Base>, head: &[u8]) -> Result<Self, BaseError> {
        let head = Head::decode(head)?;
        let mut state = Self {
            applied: LogIndex::new(head.applied),
            clock_ms: head.clock_ms,
            entities: head.entities,
            bytes: head.bytes,
            ..Self::default()
        };
        for row in base.scan(SESSIONS) {
            let row: BaseRow = row?;
            let (id, session) = session_of(&row)?;
            state.enter(id, session);
        }
        state.base = Some(base);
        Ok(state)
    }

    fn enter(&mut self, id: SessionId, session: Session) {
        self.routers.insert(session.router, id);
        self.sessions.insert(id, Arc::new(session));
    }
}

impl Sink for ShardState {
    fn entity(&mut self, kind: Box<str>, key: Box<str>, image: Image) -> Result<(), String> {
        self.entities += 1;
        self.bytes += (kind.len() + key.len() + image.bytes.len()) as u64;
        self.fresh.put(kind, key, Some(image));
        Ok(())
    }

    fn session(&mut self, id: SessionId, session: Session) -> Result<(), String> {
        self.enter(id, session);
        Ok(())
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
