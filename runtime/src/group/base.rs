//! A replica's rows, as its state reads them.
//!
//! Here: [`ReplicaBase`], which says at once when a row cannot be read, so that the replica stops whoever read it, and [`ViewBase`], the
//! rows at one moment, of which a snapshot is made. Not here: the rows (`storage::rows`), what they mean (`evaluation`).

use std::sync::{Arc, OnceLock};

use synod_consensus::ReplicaKey;

use super::actor::RowsDamaged;
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
        let closed = matches!(error, RowsError::Closed { .. });
        if !closed && self.failed.set(()).is_ok() {
            let damaged = RowsDamaged(error.to_string());
            self.receivers.tell(self.key, News::Damaged(damaged));
        }
        BaseError(error.to_string())
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

    fn has_room(&self, held: usize) -> bool {
        self.overlays.have_room(held)
    }
}

/// A replica's rows at one moment.
#[derive(Debug)]
pub(crate) struct ViewBase {
    view: RowView,
    failed: OnceLock<String>,
}

impl ViewBase {
    pub(crate) fn new(view: RowView) -> Self {
        let failed = OnceLock::new();
        Self { view, failed }
    }

    pub(crate) fn view(&self) -> &RowView {
        &self.view
    }

    /// Why a row could not be read.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    fn unreadable(&self, error: &RowsError) -> BaseError {
        let text = error.to_string();
        if !matches!(error, RowsError::Closed { .. }) {
            self.failed.get_or_init(|| text.clone());
        }
        BaseError(text)
    }
}

impl Base for ViewBase {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, BaseError> {
        self.view.get(key).map_err(|error| self.unreadable(&error))
    }

    fn scan(&self, prefix: &[u8]) -> BaseRows<'_> {
        let rows = self.view.scan(prefix);
        Box::new(rows.map(|row| row.map_err(|error| self.unreadable(&error))))
    }
}
