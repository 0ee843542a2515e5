//! What applied entries have changed and no checkpoint has written yet.
//!
//! Here: [`Overlay`], the newest image of every changed entity, deletions included, and which sessions changed.
//! Not here: what lies under it (`base`), when it is sealed (`state`).

use std::collections::{BTreeMap, BTreeSet};

use super::state::Image;
use crate::wire::SessionId;

/// What a row costs besides its kind, key and image: nodes of the maps, allocations, the key it is written under.
const ROW_OVERHEAD: usize = 96;

type Rows = BTreeMap<Box<str>, Option<Image>>;

/// Changed rows; of a state without a base, all rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Overlay {
    entities: BTreeMap<Box<str>, Rows>,
    bytes: usize,
    sessions: BTreeSet<SessionId>,
}

fn cost(key: &str, image: Option<&Image>) -> usize {
    ROW_OVERHEAD + key.len() + image.map_or(0, |image| image.bytes.len())
}

impl Overlay {
    /// Memory that the rows take, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is known here of an entity: nothing, that it was deleted, or its image.
    pub(super) fn find(&self, kind: &str, key: &str) -> Option<Option<&Image>> {
        self.entities.get(kind)?.get(key).map(Option::as_ref)
    }

    /// Notes an entity's newest image, or its end.
    pub(super) fn put(&mut self, kind: Box<str>, key: Box<str>, image: Option<Image>) {
        let new = cost(&key, image.as_ref());
        let length = key.len();
        let rows = match self.entities.get_mut(&kind) {
            Some(rows) => rows,
            None => self.entities.entry(kind).or_default(),
        };
        if let Some(former) = rows.insert(key, image) {
            self.bytes -= ROW_OVERHEAD + length + former.map_or(0, |image| image.bytes.len());
        }
        self.bytes += new;
    }

    /// Forgets an entity: nothing lies under this overlay that would come back.
    pub(super) fn remove(&mut self, kind: &str, key: &str) {
        let Some(rows) = self.entities.get_mut(kind) else {
            return;
        };
        if let Some(former) = rows.remove(key) {
            self.bytes -= cost(key, former.as_ref());
        }
        if rows.is_empty() {
            self.entities.remove(kind);
        }
    }

    /// Everything that is known of entities, in order.
    pub(super) fn entities(&self) -> impl Iterator<Item = (&str, &str, Option<&Image>)> {
        self.entities.iter().flat_map(|(kind, rows)| {
            rows.iter()
                .map(move |(key, image)| (&**kind, &**key, image.as_ref()))
        })
    }

    pub(super) fn session_changed(&mut self, id: SessionId) {
        self.sessions.insert(id);
    }

    pub(super) fn take_sessions(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.sessions)
    }
}
