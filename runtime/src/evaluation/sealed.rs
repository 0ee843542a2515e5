//! What one checkpoint writes of a shard's state.
//!
//! Here: [`Sealed`], taken in a moment whatever the state's size: the overlay as it was, the sessions that changed, and the counts.
//! While it is being written the state goes on over it; once it is in the base, it is let go.
//! Not here: the write itself, which comes before the log is compacted (E28, `storage::checkpoint_writer`).

use std::sync::Arc;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::overlay::Overlay;
use super::rows::{Head, entity_key, entity_value, session_key, session_value};
use super::state::{Session, ShardState};
use crate::wire::SessionId;

/// A row's key and its new value; none: it is to be removed.
pub type RowChange = (Vec<u8>, Option<Vec<u8>>);

/// Everything that changed since the last one.
#[derive(Clone, Debug)]
pub struct Sealed {
    head: Head,
    overlay: Arc<Overlay>,
    sessions: Vec<(SessionId, Option<Arc<Session>>)>,
}

impl Sealed {
    /// The last entry that is in it.
    pub fn applied(&self) -> LogIndex {
        LogIndex::new(self.head.applied)
    }

    /// What is to be written beside the rows; see [`ShardState::restore`].
    pub fn head(&self) -> Bytes {
        self.head.encode()
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        let sessions = self.sessions.iter();
        let replies = sessions.map(|(_, session)| session.as_ref().map_or(0, |s| s.bytes));
        self.overlay.bytes() + replies.sum::<usize>()
    }

    /// The rows, all to be written at once.
    pub fn changes(&self) -> impl Iterator<Item = RowChange> {
        let entities = self
            .overlay
            .entities()
            .map(|(kind, key, image)| (entity_key(kind, key), image.map(entity_value)));
        let sessions = self.sessions.iter().map(|(id, session)| {
            let value = session.as_deref().map(session_value);
            (session_key(*id), value)
        });
        entities.chain(sessions)
    }
}

impl ShardState {
    /// Memory that the rows take that no checkpoint has written or is writing yet, in bytes, about.
    pub fn overlay_bytes(&self) -> usize {
        self.fresh.bytes()
    }

    /// All memory that the rows take which are not known to be written, in bytes, about.
    pub fn held_bytes(&self) -> usize {
        let sealed = self.sealed.as_ref();
        self.fresh.bytes() + sealed.map_or(0, |(_, overlay)| overlay.bytes())
    }

    /// What is full so that no more changes may be made: too many that wait to be written would fill the memory.
    pub fn full(&self) -> Option<&'static str> {
        self.base.as_ref()?.full(self.held_bytes())
    }

    /// Gives what changed since the last seal, to be written to the base. `None`: there is no base, or the last one is not there yet.
    pub fn seal(&mut self) -> Option<Sealed> {
        if self.base.is_none() || self.sealed.is_some() {
            return None;
        }
        let mut overlay = std::mem::take(&mut self.fresh);
        let sessions = overlay.take_sessions().into_iter();
        let sessions = sessions.map(|id| (id, self.sessions.get(&id).cloned()));
        let sealed = Sealed {
            head: Head::new(self.applied, self.clock_ms, self.entities, self.bytes),
            sessions: sessions.collect(),
            overlay: Arc::new(overlay),
        };
        self.sealed = Some((self.applied, sealed.overlay.clone()));
        Some(sealed)
    }

    /// What was sealed at `applied` is in the base: it is not needed in memory any more.
    pub fn unseal(&mut self, applied: LogIndex) {
        self.sealed.take_if(|(sealed, _)| *sealed == applied);
    }
}
