//! A state over a base is the state in memory, wherever its rows lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use synod_consensus::LogIndex;

use super::base::{Base, BaseError, BaseRows};
use super::batch::{BATCH_VERSION, Batch, Effect, Stored};
use super::{ApplyError, ExportError, Sealed, ShardState, export, import};
use crate::wire::{Outcome, SessionId};

/// Rows in memory, in the place of those on disk.
#[derive(Debug, Default)]
struct Shelf {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    head: Mutex<Bytes>,
    damaged: Mutex<bool>,
}

impl Shelf {
    fn put(&self, sealed: &Sealed) {
        let mut rows = self.rows.lock().unwrap();
        for (key, value) in sealed.changes() {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        *self.head.lock().unwrap() = sealed.head();
    }
}

impl Base for Shelf {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BaseError> {
        if *self.damaged.lock().unwrap() {
            return Err(BaseError::Damaged("its checksum is wrong".into()));
        }
        let rows = self.rows.lock().unwrap();
        Ok(rows.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(&self, prefix: &[u8]) -> BaseRows<'_> {
        let rows = self.rows.lock().unwrap().clone();
        let prefix = prefix.to_vec();
        let rows = rows
            .into_iter()
            .filter(move |row| row.0.starts_with(&prefix));
        Box::new(rows.map(|(key, value)| Ok((key.into(), value.into()))))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Entities by kind and number, with the length of the new image, or their end.
    Change(Vec<(u8, u8, Option<u8>)>),
    Open(u8),
    Reply(u8, u8, u8),
    Expire(u8),
    Skip,
    Seal,
    /// What was sealed reaches the base; then, perhaps later, the state lets it go.
    Write,
    Unseal,
    /// The process dies; the log behind the base is replayed.
    Restart,
    /// Another replica takes a snapshot over.
    Ship,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..3_u8, 0..6_u8, prop::option::weighted(0.7, 0..40_u8));
    prop_oneof![
        8 => prop::collection::vec(change, 1..4).prop_map(Step::Change),
        2 => (0..4_u8).prop_map(Step::Open),
        3 => (0..4_u8, 0..6_u8, 0..4_u8).prop_map(|(who, sequence, lowest)| Step::Reply(who, sequence, lowest)),
        1 => (0..4_u8).prop_map(Step::Expire),
        1 => Just(Step::Skip),
        3 => Just(Step::Seal),
        3 => Just(Step::Write),
        3 => Just(Step::Unseal),
        1 => Just(Step::Restart),
        1 => Just(Step::Ship),
    ]
}

fn empty() -> Batch {
    Batch {
        version: BATCH_VERSION,
        clock_ms: 0,
        effects: Vec::new(),
        replies: Vec::new(),
        opens: None,
        expires: Vec::new(),
    }
}

/// A state over a base, beside the same state whole in memory.
struct Pair {
    model: ShardState,
    state: ShardState,
    shelf: Arc<Shelf>,
    sealed: Option<Sealed>,
    written: Option<LogIndex>,
    log: Vec<Option<Bytes>>,
}

impl Pair {
    fn new() -> Self {
        let shelf = Arc::new(Shelf::default());
        Self {
            model: ShardState::new(),
            state: ShardState::on(shelf.clone()),
            shelf,
            sealed: None,
            written: None,
            log: Vec::new(),
        }
    }

    fn entry(&mut self, payload: Option<Bytes>) {
        let index = self.model.applied().next();
        for state in [&mut self.model, &mut self.state] {
            match &payload {
                Some(payload) => state.apply(index, payload).unwrap(),
                None => state.skip(index).unwrap(),
            }
        }
        self.log.push(payload);
    }

    fn batch(&mut self, batch: &Batch) {
        self.entry(Some(crate::wire::encode(batch)));
    }

    fn session(&self, who: u8) -> Option<SessionId> {
        self.model.session_of(u128::from(who))
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Change(changes) => {
                let mut effects = BTreeMap::new();
                for (kind, key, length) in changes {
                    let (kind, key) = (format!("kind{kind}\0"), format!("key-{key}"));
                    let was = self.state.image(&kind, &key).unwrap();
                    let base = was.map_or(0, |image| image.version.get());
                    let image = length.map(|length| Bytes::from(vec![length; length.into()]));
                    effects.insert(
                        (kind.clone(), key.clone()),
                        Effect {
                            kind: kind.into(),
                            key: key.into(),
                            base,
                            image,
                        },
                    );
                }
                self.batch(&Batch {
                    clock_ms: self.log.len() as u64,
                    effects: effects.into_values().collect(),
                    ..empty()
                });
            }
            Step::Open(who) => self.batch(&Batch {
                opens: Some(u128::from(*who)),
                ..empty()
            }),
            Step::Reply(who, sequence, lowest) => {
                let Some(session) = self.session(*who) else {
                    return;
                };
                self.batch(&Batch {
                    replies: vec![Stored {
                        session,
                        sequence: u64::from(*sequence),
                        lowest: u64::from(*lowest),
                        outcome: Outcome::Opened { session },
                    }],
                    ..empty()
                });
            }
            Step::Expire(who) => {
                let expires = self.session(*who).into_iter().collect();
                self.batch(&Batch { expires, ..empty() });
            }
            Step::Skip => self.entry(None),
            Step::Seal => {
                if let Some(sealed) = self.state.seal() {
                    assert_eq!(self.state.overlay_bytes(), 0, "all of it is sealed");
                    self.sealed = Some(sealed);
                }
            }
            Step::Write => {
                if let Some(sealed) = self.sealed.take() {
                    self.shelf.put(&sealed);
                    self.written = Some(sealed.applied());
                }
            }
            Step::Unseal => {
                if let Some(written) = self.written.take() {
                    self.state.unseal(written);
                }
            }
            Step::Restart => {
                let head = self.shelf.head.lock().unwrap().clone();
                self.state = match head.is_empty() {
                    true => ShardState::on(self.shelf.clone()),
                    false => ShardState::restore(self.shelf.clone(), &head).unwrap(),
                };
                (self.sealed, self.written) = (None, None);
                let covered = usize::try_from(self.state.applied().get()).unwrap();
                for payload in &self.log[covered..] {
                    let index = self.state.applied().next();
                    match payload {
                        Some(payload) => self.state.apply(index, payload).unwrap(),
                        None => self.state.skip(index).unwrap(),
                    }
                }
            }
            Step::Ship => {
                let head = self.shelf.head.lock().unwrap().clone();
                if head.is_empty() {
                    return;
                }
                let mut bytes = Vec::new();
                export(&*self.shelf, &head, &mut bytes).unwrap();
                let far = Arc::new(Shelf::default());
                let (applied, far_head) = import(&bytes[..], |key, value| {
                    far.rows.lock().unwrap().insert(key, value);
                    Ok(())
                })
                .unwrap();
                let taken = ShardState::restore(far, &far_head).unwrap();
                assert_eq!(taken.applied(), applied);
                assert_eq!(taken.encode(), bytes, "the rows are the snapshot's");
                let here = ShardState::restore(self.shelf.clone(), &head).unwrap();
                assert_eq!(taken, here);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_state_over_a_base_is_the_state_in_memory(steps in prop::collection::vec(step(), 1..120)) {
        // Section 13: sealing, writing, letting go and dying in any order change nothing of what is read, counted and shipped.
        let mut pair = Pair::new();
        for step in &steps {
            pair.take(step);
            prop_assert_eq!(pair.state.encode(), pair.model.encode());
            prop_assert_eq!(pair.state.entities(), pair.model.entities());
            prop_assert_eq!(pair.state.bytes(), pair.model.bytes());
            let mut shown = 0;
            pair.model.visit(|kind, key, image| {
                shown += 1;
                assert_eq!(pair.state.image(kind, key).unwrap().as_ref(), Some(image));
            }).unwrap();
            prop_assert_eq!(shown, pair.model.entities());
        }
        // All of it in rows, and nothing in memory.
        for step in [Step::Write, Step::Unseal, Step::Seal, Step::Write, Step::Unseal, Step::Restart, Step::Ship] {
            pair.take(&step);
        }
        prop_assert_eq!(pair.state.overlay_bytes(), 0);
        prop_assert_eq!(pair.state.encode(), pair.model.encode());
    }
}

#[test]
fn an_entry_whose_base_cannot_be_read_changes_nothing_and_says_so() {
    // Section 7: corrupt storage stops the replica; it never looks like an entity that does not exist.
    let mut pair = Pair::new();
    pair.take(&Step::Change(vec![(0, 0, Some(3)), (0, 1, Some(3))]));
    for step in [Step::Seal, Step::Write, Step::Unseal] {
        pair.take(&step);
    }
    let effect = |key: &str, base| Effect {
        kind: "kind0\0".into(),
        key: key.into(),
        base,
        image: None,
    };
    let effects = vec![effect("key-0", 1), effect("key-1", 1)];
    let payload = crate::wire::encode(&Batch { effects, ..empty() });
    *pair.shelf.damaged.lock().unwrap() = true;
    let refused = pair.state.apply(LogIndex::new(2), &payload).unwrap_err();
    assert!(matches!(refused, ApplyError::Unreadable(_)), "{refused}");
    assert!(pair.state.image("kind0\0", "key-0").is_err());
    *pair.shelf.damaged.lock().unwrap() = false;
    assert_eq!(pair.state, pair.model);
}

#[test]
fn rows_that_the_head_does_not_count_are_damaged() {
    // One was lost in silence: the snapshot of the rest would be another state, and a try again comes to the same.
    let mut pair = Pair::new();
    pair.take(&Step::Change(vec![(0, 0, Some(3)), (0, 1, Some(3))]));
    for step in [Step::Seal, Step::Write, Step::Unseal] {
        pair.take(&step);
    }
    let head = pair.shelf.head.lock().unwrap().clone();
    export(&*pair.shelf, &head, std::io::sink()).unwrap();
    let (lost, _) = pair.shelf.rows.lock().unwrap().pop_first().unwrap();
    assert!(lost.starts_with(b"e"), "an entity's");
    let error = export(&*pair.shelf, &head, std::io::sink()).unwrap_err();
    assert!(
        matches!(error, ExportError::Rows(BaseError::Damaged(_))),
        "{error}"
    );
}

#[test]
fn a_write_in_flight_is_read_as_it_was_sealed_and_changed_over_it() {
    let mut pair = Pair::new();
    pair.take(&Step::Change(vec![(0, 0, Some(3)), (0, 1, Some(3))]));
    let sealed = pair.state.seal().unwrap();
    assert!(pair.state.seal().is_none(), "one at a time");
    pair.take(&Step::Change(vec![(0, 0, None), (0, 2, Some(1))]));
    assert_eq!(pair.state, pair.model);
    assert_eq!(sealed.changes().count(), 2, "nothing that came later");
    pair.state.unseal(LogIndex::new(9)); // another one's
    assert!(pair.state.image("kind0\0", "key-1").unwrap().is_some());
}
