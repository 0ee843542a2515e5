//! A shard's state is copied slice by slice while entries go on being applied.
//!
//! Here: [`Copying`], which lives inside a [`ShardState`] while a copy is being taken: what changes behind the copy's place is kept as it
//! was when the copy began. So nobody holds the state for longer than a slice takes, however large it is, and the copy is of one moment.
//! Not here: who takes copies and on which thread (`group::machine`), the format (`state`).

use std::collections::BTreeMap;
use std::ops::Bound;

use synod_consensus::LogIndex;

use super::state::{EntityRow, Image, Session, SessionRow, ShardState};
use crate::wire::{Outcome, SessionId};

type Place = (Box<str>, Box<str>);

/// One copy under way.
#[derive(Clone, Debug)]
pub(super) struct Copying {
    serial: u64,
    applied: LogIndex,
    clock_ms: u64,
    entities: usize,
    sessions: usize,
    /// The last entity that was copied.
    entity: Option<Place>,
    /// The last session that was copied.
    session: Option<SessionId>,
    /// What changed behind these places, as it was; `None`: it was not there.
    entities_before: BTreeMap<Place, Option<Image>>,
    sessions_before: BTreeMap<SessionId, Option<Session>>,
}

/// Is no part of the state: two states are equal whatever is being copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies(pub(super) Option<Box<Copying>>);

impl PartialEq for Copies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What a copy begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyHead {
    pub(super) applied: LogIndex,
    pub(super) clock_ms: u64,
    pub(super) entities: usize,
    pub(super) sessions: usize,
}

pub(super) type CopiedEntity = EntityRow<Box<str>>;
pub(super) type CopiedSession = SessionRow<BTreeMap<u64, Outcome>>;

impl Copies {
    /// Before an entity's row changes.
    pub(super) fn entity_changes(&mut self, kind: &str, key: &str, was: Option<&Image>) {
        let Some(copying) = &mut self.0 else { return };
        let copied = copying
            .entity
            .as_ref()
            .is_some_and(|(k, e)| (kind, key) <= (&**k, &**e));
        if !copied {
            copying
                .entities_before
                .entry((kind.into(), key.into()))
                .or_insert_with(|| was.cloned());
        }
    }

    /// Before a session changes.
    pub(super) fn session_changes(&mut self, id: SessionId, was: Option<&Session>) {
        let Some(copying) = &mut self.0 else { return };
        if copying.session.is_none_or(|copied| id > copied) {
            copying
                .sessions_before
                .entry(id)
                .or_insert_with(|| was.cloned());
        }
    }
}

impl ShardState {
    /// Begins a copy of the present state, in place of another one. Takes no longer than a look at its size.
    pub(super) fn begin_copy(&mut self, serial: u64) -> CopyHead {
        let head = CopyHead {
            applied: self.applied(),
            clock_ms: self.clock_ms(),
            entities: self.entities(),
            sessions: self.sessions(),
        };
        self.copies.0 = Some(Box::new(Copying {
            serial,
            applied: head.applied,
            clock_ms: head.clock_ms,
            entities: head.entities,
            sessions: head.sessions,
            entity: None,
            session: None,
            entities_before: BTreeMap::new(),
            sessions_before: BTreeMap::new(),
        }));
        head
    }

    /// What the copy begins with; `None`: it is not under way any more, because the state was replaced.
    pub(super) fn copy_head(&self, serial: u64) -> Option<CopyHead> {
        let copying = self.copies.0.as_ref().filter(|c| c.serial == serial)?;
        Some(CopyHead {
            applied: copying.applied,
            clock_ms: copying.clock_ms,
            entities: copying.entities,
            sessions: copying.sessions,
        })
    }

    /// The next entities of the copy, at most `limit`; fewer at the end. `None`: see [`Self::copy_head`].
    pub(super) fn copy_entities(&mut self, serial: u64, limit: usize) -> Option<Vec<CopiedEntity>> {
        let mut copies = std::mem::take(&mut self.copies);
        let copied = copies
            .0
            .as_mut()
            .filter(|copying| copying.serial == serial)
            .map(|copying| self.next_entities(copying, limit));
        self.copies = copies;
        copied
    }

    fn next_entities(&self, copying: &mut Copying, limit: usize) -> Vec<CopiedEntity> {
        let after = copying.entity.take();
        let mut now = self
            .images_after(after.as_ref().map(|(kind, key)| (&**kind, &**key)))
            .peekable();
        let bound = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut before = copying
            .entities_before
            .range((bound, Bound::Unbounded))
            .peekable();
        let mut rows = Vec::with_capacity(limit);
        let mut last = None;
        while rows.len() < limit {
            let there = now.peek().map(|(kind, key, _)| (*kind, *key));
            let changed = before.peek().map(|((kind, key), _)| (&**kind, &**key));
            let place = match (there, changed) {
                (None, None) => break,
                (Some(place), None) | (None, Some(place)) => place,
                (Some(there), Some(changed)) => there.min(changed),
            };
            let mut image = None;
            if there == Some(place) {
                image = now.next().map(|(_, _, image)| image);
            }
            if changed == Some(place) {
                image = before.next().and_then(|(_, image)| image.as_ref());
            }
            last = Some(place);
            if let Some(image) = image {
                rows.push(EntityRow {
                    kind: Box::from(place.0),
                    key: Box::from(place.1),
                    version: image.version.get(),
                    image: image.bytes.clone(),
                });
            }
        }
        let last = last.map(|(kind, key)| (Box::from(kind), Box::from(key)));
        drop(now);
        copying.entity = last.or(after);
        rows
    }

    /// The next sessions of the copy, like [`Self::copy_entities`].
    pub(super) fn copy_sessions(
        &mut self,
        serial: u64,
        limit: usize,
    ) -> Option<Vec<CopiedSession>> {
        let mut copies = std::mem::take(&mut self.copies);
        let copied = copies
            .0
            .as_mut()
            .filter(|copying| copying.serial == serial)
            .map(|copying| self.next_sessions(copying, limit));
        self.copies = copies;
        copied
    }

    fn next_sessions(&self, copying: &mut Copying, limit: usize) -> Vec<CopiedSession> {
        let bound = copying.session.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (bound, Bound::Unbounded);
        let mut now = self.sessions_within(range).peekable();
        let mut before = copying.sessions_before.range(range).peekable();
        let mut rows = Vec::with_capacity(limit);
        let mut last = None;
        while rows.len() < limit {
            let there = now.peek().map(|(id, _)| **id);
            let changed = before.peek().map(|(id, _)| **id);
            let Some(id) = there.into_iter().chain(changed).min() else {
                break;
            };
            let mut session = None;
            if there == Some(id) {
                session = now.next().map(|(_, session)| session);
            }
            if changed == Some(id) {
                session = before.next().and_then(|(_, session)| session.as_ref());
            }
            last = Some(id);
            if let Some(session) = session {
                rows.push(SessionRow {
                    session: id,
                    router: session.router,
                    used_ms: session.used_ms,
                    lowest: session.lowest,
                    replies: session.replies.clone(),
                });
            }
        }
        copying.session = last.or(copying.session);
        rows
    }

    /// The copy is taken.
    pub(super) fn end_copy(&mut self, serial: u64) {
        self.copies.0.take_if(|copying| copying.serial == serial);
    }
}
