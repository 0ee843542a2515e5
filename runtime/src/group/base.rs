//! A replica's rows, as its state reads them.
//!
//! Here: [`ReplicaBase`], which says at once when a row cannot be read, so that the replica or its node stops whoever read it, and
//! [`ViewBase`], the rows at one moment, of which a snapshot is made. Not here: the rows (`storage::rows`), what they mean (`evaluation`).

use std::sync::{Arc, OnceLock};

use synod_consensus::ReplicaKey;

use super::actor::RowsUnreadable;
use super::freight::{News, Receivers};
use super::overlays::Overlays;
use crate::evaluation::{Base, BaseError, BaseRows};
use crate::storage::{RowSpace, RowView, Rows, RowsError};

/// What the state of a replica lies on.
pub(crate) struct ReplicaBase {
    key: ReplicaKey,
    space: RowSpace,
    receivers: Arc<dyn Receivers>,
    overlays: Arc<Overlays>,
    failed: OnceLock<()>,
}

impl std::fmt::Debug for ReplicaBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaBase")
            .field("key", &self.key)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

/// What a replica makes of it.
pub(crate) fn not_read(error: &RowsError) -> BaseError {
    let text = error.to_string();
    match error {
        RowsError::Closed { .. } => BaseError::Closed(text),
        RowsError::Damaged { .. } => BaseError::Damaged(text),
        RowsError::Unusable { .. } | RowsError::NewerFormat { .. } => BaseError::Unread(text),
    }
}

fn is_closed(error: &BaseError) -> bool {
    matches!(error, BaseError::Closed(_))
}

/// Tells a replica that rows of it cannot be read; that its node stops is no reason to.
pub(super) fn tell_unreadable(receivers: &dyn Receivers, key: ReplicaKey, error: &BaseError) {
    if !is_closed(error) {
        receivers.tell(key, News::Unreadable(RowsUnreadable(error.clone())));
    }
}

impl ReplicaBase {
    /// `receivers` hear when a row cannot be read; `overlays` know whether there is room for changes.
    pub(crate) fn new(
        key: ReplicaKey,
        space: RowSpace,
        receivers: Arc<dyn Receivers>,
        overlays: Arc<Overlays>,
    ) -> Self {
        Self {
            key,
            space,
            receivers,
            overlays,
            failed: OnceLock::new(),
        }
    }

    fn unreadable(&self, error: &RowsError) -> BaseError {
        let error = not_read(error);
        self.tell(&error);
        error
    }

    /// Once is enough: it ends the replica, or its node.
    fn tell(&self, error: &BaseError) {
        if !is_closed(error) && self.failed.set(()).is_ok() {
            tell_unreadable(&*self.receivers, self.key, error);
        }
    }

    fn told<'a>(&'a self, rows: Rows<'a>) -> BaseRows<'a> {
        Box::new(rows.map(|row| row.map_err(|error| self.unreadable(&error))))
    }
}

impl Base for ReplicaBase {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, BaseError> {
        self.space.get(key).map_err(|error| self.unreadable(&error))
    }

    fn scan(&self, prefix: &[u8]) -> BaseRows<'_> {
        self.told(self.space.scan(prefix))
    }

    fn report_damaged(&self, error: &BaseError) {
        self.tell(error);
    }

    fn full(&self, held: usize) -> Option<&'static str> {
        self.overlays.full(held)
    }
}

/// A replica's rows at one moment.
#[derive(Debug)]
pub(crate) struct ViewBase(RowView);

impl ViewBase {
    pub(crate) fn new(view: RowView) -> Self {
        Self(view)
    }

    pub(crate) fn view(&self) -> &RowView {
        &self.0
    }
}

impl Base for ViewBase {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, BaseError> {
        self.0.get(key).map_err(|error| not_read(&error))
    }

    fn scan(&self, prefix: &[u8]) -> BaseRows<'_> {
        let rows = self.0.scan(prefix);
        Box::new(rows.map(|row| row.map_err(|error| not_read(&error))))
    }
}
