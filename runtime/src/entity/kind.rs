//! Which kinds a thread can evaluate.
//!
//! Here: [`KindTable`], one per entity arbiter, built from factories that may cross threads ([`KindFactory`]); the
//! states in it may not. Not here: where entities live (`evaluation::ShardState`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dispatch::Row;
use super::{Dispatch, Entity, State};
use crate::wire::scratch;

/// Makes one kind's part of a [`KindTable`]; `Copy + Send`, so that every arbiter gets its own.
#[derive(Clone, Copy)]
pub struct KindFactory {
    name: &'static str,
    type_name: &'static str,
    make: fn() -> Result<Kind, KindError>,
}

impl KindFactory {
    /// The factory of an entity.
    pub fn of<E: Entity>() -> Self {
        Self {
            name: E::KIND,
            type_name: std::any::type_name::<E>(),
            make: Kind::of::<E>,
        }
    }

    /// The kind that it makes.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl std::fmt::Debug for KindFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.type_name)
    }
}

/// Why kinds cannot be registered together. Nothing was registered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// One name, two types (or one type twice).
    #[error(
        "kind `{kind}` is registered twice, by `{first}` and `{second}`; give each entity its own #[entity(kind = ..)]"
    )]
    Twice {
        /// The name.
        kind: &'static str,
        /// The type registered first.
        first: &'static str,
        /// The type registered again.
        second: &'static str,
    },
    /// A kind lists one wire name twice.
    #[error(
        "kind `{kind}` lists the message name `{message}` twice; rename one with `as \"..\"` in commands(..) or queries(..)"
    )]
    MessageTwice {
        /// The kind.
        kind: &'static str,
        /// The wire name.
        message: &'static str,
    },
    /// A kind without a name cannot be addressed.
    #[error("`{type_name}` has an empty kind; name it in #[entity(kind = ..)]")]
    Nameless {
        /// The type.
        type_name: &'static str,
    },
}

/// One kind, with its type erased.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    rows: Vec<Row>,
    by_name: BTreeMap<&'static str, usize>,
    initial: fn(&str) -> State,
    decode: fn(&[u8]) -> Result<State, String>,
    encode: fn(&State, usize) -> Result<Bytes, String>,
}

impl Kind {
    fn of<E: Entity>() -> Result<Self, KindError> {
        let table = Dispatch::<E>::collect();
        if let Some(message) = table.repeated {
            return Err(KindError::MessageTwice {
                kind: E::KIND,
                message,
            });
        }
        let mut rows = Vec::new();
        let mut by_name = BTreeMap::new();
        for (name, row) in table.rows {
            by_name.insert(name, rows.len());
            rows.push(row);
        }
        Ok(Self {
            name: E::KIND,
            rows,
            by_name,
            initial: |key| Box::new(E::initial(key)),
            decode: |image| match rmp_serde::from_slice::<E>(image) {
                Ok(entity) => Ok(Box::new(entity)),
                Err(error) => Err(error.to_string()),
            },
            encode: |state, expected| {
                let entity = state
                    .downcast_ref::<E>()
                    .expect("a state never leaves the kind that made it");
                scratch::gather(|image| {
                    image.reserve(expected);
                    rmp_serde::encode::write_named(image, entity)
                })
                .map_err(|error| error.to_string())
            },
        })
    }

    pub(crate) fn message(&self, name: &str) -> Option<(usize, &Row)> {
        let position = *self.by_name.get(name)?;
        Some((position, &self.rows[position]))
    }

    pub(crate) fn row(&self, position: usize) -> &Row {
        &self.rows[position]
    }

    pub(crate) fn initial(&self, key: &str) -> State {
        (self.initial)(key)
    }

    pub(crate) fn decode(&self, image: &[u8]) -> Result<State, String> {
        (self.decode)(image)
    }

    /// The state in named MessagePack. `expected` bytes are reserved for it.
    pub(crate) fn encode(&self, state: &State, expected: usize) -> Result<Bytes, String> {
        (self.encode)(state, expected)
    }
}

/// Every kind that this thread can evaluate.
pub struct KindTable {
    kinds: Vec<Kind>,
    by_name: BTreeMap<&'static str, usize>,
}

impl KindTable {
    /// Builds this thread's table.
    pub fn build(factories: &[KindFactory]) -> Result<Self, KindError> {
        let mut table = Self {
            kinds: Vec::new(),
            by_name: BTreeMap::new(),
        };
        for (position, factory) in factories.iter().enumerate() {
            if factory.name.is_empty() {
                return Err(KindError::Nameless {
                    type_name: factory.type_name,
                });
            }
            if let Some(earlier) = table.by_name.insert(factory.name, position) {
                return Err(KindError::Twice {
                    kind: factory.name,
                    first: factories[earlier].type_name,
                    second: factory.type_name,
                });
            }
            table.kinds.push((factory.make)()?);
        }
        Ok(table)
    }

    /// The names of the kinds, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }

    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Kind)> {
        let position = *self.by_name.get(name)?;
        Some((position, &self.kinds[position]))
    }

    pub(crate) fn at(&self, position: usize) -> &Kind {
        &self.kinds[position]
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::entity::Message;
    use crate::{CommandOf, Context, Handler};

    #[derive(Serialize, Deserialize, Entity)]
    #[entity(kind = "ticket", commands(Punch), initial = Ticket::of)]
    struct Ticket {
        holder: String,
        punched: u32,
    }

    impl Ticket {
        fn of(key: &str) -> Self {
            Self {
                holder: key.to_owned(),
                punched: 0,
            }
        }
    }

    #[derive(Message, Serialize, Deserialize)]
    #[rtype(result = "u32")]
    struct Punch;

    impl Handler<Punch> for Ticket {
        async fn handle(&mut self, _msg: Punch, _cx: &mut Context<Self>) -> u32 {
            self.punched += 1;
            self.punched
        }
    }

    #[derive(Default, Serialize, Deserialize, Entity)]
    #[entity(kind = "ticket")]
    struct Impostor;

    #[test]
    fn a_kind_registered_twice_is_refused_with_both_names() {
        // Two types under one kind would read each other's states.
        let error = KindTable::build(&[KindFactory::of::<Ticket>(), KindFactory::of::<Impostor>()])
            .err()
            .expect("one kind, two types");
        let text = error.to_string();
        assert!(text.contains("kind `ticket` is registered twice"), "{text}");
        assert!(
            text.contains("Ticket") && text.contains("Impostor"),
            "{text}"
        );
    }

    #[test]
    fn a_factory_crosses_threads_and_its_table_knows_every_message() {
        // One table per entity arbiter, built there; states never cross.
        let factory = KindFactory::of::<Ticket>();
        std::thread::spawn(move || {
            let table = KindTable::build(&[factory]).expect("one kind");
            let (position, kind) = table.find("ticket").expect("it is there");
            assert_eq!(table.at(position).name, "ticket");
            assert!(kind.message("Punch").is_some());
            assert!(kind.message("Pinch").is_none());
            let state = kind.initial("alice");
            let image = kind.encode(&state, 0).expect("plain data");
            let ticket: Ticket = rmp_serde::from_slice(&image).expect("the same data");
            assert_eq!((ticket.holder.as_str(), ticket.punched), ("alice", 0));
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn an_entitys_message_is_an_actix_message_too() {
        // Section 4: the same trait and the same rtype, so that it can go to ordinary actors.
        fn is_actix_message<M: actix::Message<Result = u32>>(_: M) {}
        is_actix_message(Punch);
        assert_eq!(<Punch as CommandOf<Ticket>>::NAME, "Punch");
    }
}
