//! States of which hardly anything is in memory.
//!
//! Here: [`SeatRows`]: on every second node a shard's state lies over rows, and every few entries what changed goes there. The others hold
//! all in memory; all replicas must say the same (`world` compares their bytes). Not here: rows on a disk (`synod::storage`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use synod::evaluation::{Base, BaseError, BaseRows, Sealed, ShardState, import};

#[derive(Debug, Default)]
struct Rows(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Base for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BaseError> {
        let rows = self.0.lock().expect("no panics while held");
        Ok(rows.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(&self, prefix: &[u8]) -> BaseRows<'_> {
        let rows = self.0.lock().expect("no panics while held");
        let first = prefix.to_vec();
        let prefix = first.clone();
        let found: Vec<_> = rows
            .range(first..)
            .take_while(|row| row.0.starts_with(&prefix))
            .map(|(key, value)| Ok((Bytes::from(key.clone()), Bytes::from(value.clone()))))
            .collect();
        Box::new(found.into_iter())
    }
}

/// Where the state of one seat lies.
#[derive(Debug, Default)]
pub(super) struct SeatRows {
    rows: Option<Arc<Rows>>,
    sealed: Option<Sealed>,
}

impl SeatRows {
    /// A node's replica, and its state from what a checkpoint or a snapshot held.
    pub(super) fn begin(node: usize, data: Option<&[u8]>) -> Result<(Self, ShardState), String> {
        if node.is_multiple_of(2) {
            let state = data.map_or(Ok(ShardState::new()), ShardState::decode);
            return Ok((Self::default(), state.map_err(|error| error.to_string())?));
        }
        let rows = Arc::new(Rows::default());
        let state = match data {
            None => ShardState::on(rows.clone()),
            Some(data) => {
                let put = |key, value| {
                    rows.0
                        .lock()
                        .expect("no panics while held")
                        .insert(key, value);
                    Ok(())
                };
                let (_, head) = import(data, put).map_err(|error| error.to_string())?;
                ShardState::restore(rows.clone(), &head).map_err(|error| error.to_string())?
            }
        };
        let this = Self {
            rows: Some(rows),
            sealed: None,
        };
        Ok((this, state))
    }

    /// After an entry: seals, writes and lets go in turns. Whether something was let go.
    pub(super) fn turn(&mut self, state: &mut ShardState) -> bool {
        let Some(rows) = &self.rows else { return false };
        match state.applied().get() % 3 {
            0 => {
                if let Some(sealed) = state.seal() {
                    self.sealed = Some(sealed);
                }
                false
            }
            1 => {
                let mut rows = rows.0.lock().expect("no panics while held");
                for (key, value) in self.sealed.iter().flat_map(Sealed::changes) {
                    match value {
                        Some(value) => rows.insert(key, value),
                        None => rows.remove(&key),
                    };
                }
                false
            }
            _ => match &self.sealed {
                Some(sealed) if sealed.applied().get() + 1 < state.applied().get() => {
                    state.unseal(sealed.applied());
                    self.sealed = None;
                    true
                }
                _ => false,
            },
        }
    }
}
