//! The bytes of a shard's state, taken beside the thread that applies entries.
//!
//! Here: [`StateCopy`], which locks the state for a slice at a time and encodes between. Its bytes are those that
//! [`ShardState::encode`] would have given when it began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::copying::CopyHead;
use super::state::{SNAPSHOT_VERSION, ShardState};

/// Rows copied under one lock: some tens of microseconds.
const SLICE: usize = 256;

/// Tells copies of one process apart.
static SERIALS: AtomicU64 = AtomicU64::new(1);

/// A copy that has begun.
#[derive(Debug)]
pub(crate) struct StateCopy {
    state: Arc<Mutex<ShardState>>,
    serial: u64,
}

fn lock(state: &Mutex<ShardState>) -> MutexGuard<'_, ShardState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateCopy {
    /// Begins a copy of the present state. Another one of the same state ends without a result.
    pub(crate) fn begin(state: &Arc<Mutex<ShardState>>) -> Self {
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        lock(state).begin_copy(serial);
        Self {
            state: state.clone(),
            serial,
        }
    }

    /// Takes it; `None` when the state was replaced meanwhile, or another copy began.
    pub(crate) fn encode(self) -> Option<Bytes> {
        let CopyHead {
            applied,
            clock_ms,
            entities,
            sessions,
        } = lock(&self.state).copy_head(self.serial)?;
        let mut out = Encoder(Vec::new());
        out.map(5);
        out.field("version", &SNAPSHOT_VERSION);
        out.field("applied", &applied.get());
        out.field("clock_ms", &clock_ms);
        out.rows("entities", entities, |limit| {
            lock(&self.state).copy_entities(self.serial, limit)
        })?;
        out.rows("sessions", sessions, |limit| {
            lock(&self.state).copy_sessions(self.serial, limit)
        })?;
        Some(out.0.into())
    }
}

impl Drop for StateCopy {
    fn drop(&mut self) {
        lock(&self.state).end_copy(self.serial);
    }
}

/// Named MessagePack, written piece by piece.
struct Encoder(Vec<u8>);

impl Encoder {
    fn map(&mut self, fields: u8) {
        self.0.push(0x80 | fields); // fixmap
    }

    fn value(&mut self, value: &impl Serialize) {
        let mut serializer = rmp_serde::Serializer::new(&mut self.0).with_struct_map();
        value
            .serialize(&mut serializer)
            .expect("plain data always encodes into memory");
    }

    fn field(&mut self, name: &str, value: &impl Serialize) {
        self.value(&name);
        self.value(value);
    }

    fn array(&mut self, length: usize) {
        match length {
            0..16 => self.0.push(0x90 | length as u8),
            16..=0xffff => {
                self.0.push(0xdc);
                self.0.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.0.push(0xdd);
                self.0.extend_from_slice(&(length as u32).to_be_bytes());
            }
        }
    }

    fn rows<R: Serialize>(
        &mut self,
        name: &str,
        count: usize,
        mut next: impl FnMut(usize) -> Option<Vec<R>>,
    ) -> Option<()> {
        self.value(&name);
        self.array(count);
        let mut written = 0;
        loop {
            let rows = next(SLICE)?;
            rows.iter().for_each(|row| self.value(row));
            written += rows.len();
            if rows.len() < SLICE {
                assert_eq!(written, count, "a copy holds what was there when it began");
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use synod_consensus::LogIndex;

    use super::*;
    use crate::evaluation::batch::{BATCH_VERSION, Batch, Effect, Stored};
    use crate::wire::{Outcome, SessionId};

    fn effect(state: &ShardState, key: &str, image: Option<&[u8]>) -> Effect {
        let base = state
            .image("account", key)
            .map_or(0, |image| image.version.get());
        Effect {
            kind: "account".into(),
            key: key.into(),
            base,
            image: image.map(Bytes::copy_from_slice),
        }
    }

    fn apply(state: &Mutex<ShardState>, batch: impl FnOnce(&ShardState) -> Batch) -> LogIndex {
        let mut state = lock(state);
        let batch = batch(&state);
        let index = state.applied().next();
        state.apply(index, &crate::wire::encode(&batch)).unwrap();
        index
    }

    fn batch(effects: Vec<Effect>) -> Batch {
        Batch {
            version: BATCH_VERSION,
            clock_ms: 0,
            effects,
            replies: Vec::new(),
            opens: None,
            expires: Vec::new(),
        }
    }

    fn filled(entities: usize, bytes: usize) -> Arc<Mutex<ShardState>> {
        let state = Arc::new(Mutex::new(ShardState::new()));
        let image = vec![7; bytes];
        for nth in 0..entities.div_ceil(500) {
            let keys = (nth * 500..entities.min((nth + 1) * 500)).map(|i| format!("key-{i:07}"));
            apply(&state, |state| {
                batch(keys.map(|key| effect(state, &key, Some(&image))).collect())
            });
        }
        state
    }

    #[test]
    fn a_copy_is_of_the_moment_at_which_it_began() {
        // Everything changes between the slices: rows before and behind the copy's place, new ones, deleted ones, sessions.
        let state = filled(1_000, 20);
        let mut opened = Vec::new();
        for router in 1..=20 {
            let index = apply(&state, |_| Batch {
                opens: Some(router),
                ..batch(Vec::new())
            });
            opened.push(SessionId(index.get()));
        }
        let expected = lock(&state).encode();
        let copy = StateCopy::begin(&state);
        let head = lock(&state).copy_head(copy.serial).unwrap();
        let mut entities = 0;
        let mut sessions = 0;
        let mut out = Encoder(Vec::new());
        out.map(5);
        out.field("version", &SNAPSHOT_VERSION);
        out.field("applied", &head.applied.get());
        out.field("clock_ms", &head.clock_ms);
        let churn = |round: usize| {
            for key in [round * 7 % 1_000, 999 - round * 11 % 1_000, 1_000 + round] {
                let key = format!("key-{key:07}");
                apply(&state, |state| {
                    batch(vec![effect(state, &key, Some(b"new"))])
                });
            }
            let gone = format!("key-{:07}", 13 * (round + 1) % 1_000);
            let there = lock(&state).image("account", &gone).is_some();
            if there {
                apply(&state, |state| batch(vec![effect(state, &gone, None)]));
            }
            let session = opened[round % opened.len()];
            apply(&state, |_| Batch {
                opens: Some(1_000 + round as u128),
                expires: if round.is_multiple_of(9) {
                    vec![opened[19 - round / 9 % 10]]
                } else {
                    Vec::new()
                },
                replies: vec![Stored {
                    session,
                    sequence: 1,
                    lowest: 1,
                    outcome: Outcome::Opened { session },
                }],
                ..batch(Vec::new())
            });
        };
        let mut round = 0;
        out.value(&"entities");
        out.array(head.entities);
        loop {
            churn(round);
            round += 1;
            let rows = lock(&state).copy_entities(copy.serial, 17).unwrap();
            rows.iter().for_each(|row| out.value(row));
            entities += rows.len();
            if rows.len() < 17 {
                break;
            }
        }
        out.value(&"sessions");
        out.array(head.sessions);
        loop {
            churn(round);
            round += 1;
            let rows = lock(&state).copy_sessions(copy.serial, 3).unwrap();
            rows.iter().for_each(|row| out.value(row));
            sessions += rows.len();
            if rows.len() < 3 {
                break;
            }
        }
        assert_eq!((entities, sessions), (head.entities, head.sessions));
        assert!(out.0 == expected, "the copy is another state");
    }

    #[test]
    fn a_copy_of_an_idle_state_is_its_encoding() {
        for entities in [0, 1, 15, 16, 255, 256, 257, 70_000] {
            let state = filled(entities, 4);
            let expected = lock(&state).encode();
            let copied = StateCopy::begin(&state).encode().unwrap();
            assert!(copied == expected, "{entities} entities");
            assert!(lock(&state).copies.0.is_none(), "nothing stays behind");
        }
    }

    #[test]
    fn a_copy_of_a_state_that_was_replaced_has_no_result() {
        // H66: a snapshot was installed meanwhile.
        let state = filled(600, 4);
        let copy = StateCopy::begin(&state);
        *lock(&state) = ShardState::new();
        assert!(copy.encode().is_none());
        let (first, second) = (StateCopy::begin(&state), StateCopy::begin(&state));
        assert!(first.encode().is_none() && second.encode().is_some());
    }

    #[test]
    fn a_large_state_is_copied_in_short_holds() {
        // Prints what it costs; a bound on time would only measure the machine.
        let state = filled(100_000, 200);
        let began = Instant::now();
        let whole = lock(&state).encode();
        let at_once = began.elapsed();
        let copy = StateCopy::begin(&state);
        let (mut longest, mut held) = (Duration::ZERO, Duration::ZERO);
        let mut copied = 0;
        loop {
            let began = Instant::now();
            let rows = lock(&state).copy_entities(copy.serial, SLICE).unwrap();
            longest = longest.max(began.elapsed());
            held += began.elapsed();
            copied += rows.len();
            if rows.len() < SLICE {
                break;
            }
        }
        assert_eq!(copied, 100_000);
        println!(
            "{} bytes: at once {at_once:?}; in slices {held:?}, the longest {longest:?}",
            whole.len()
        );
    }
}
