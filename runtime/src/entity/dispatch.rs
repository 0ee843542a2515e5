//! From a wire name and bytes to a running handler.
//!
//! Here: [`Dispatch`], filled by the derive; the functions it holds decode a message, move the entity into its
//! handler's future and bring it back with the encoded result ([`Finished`]). [`Probe`] sees at compile time whether a
//! result type is a `Result`, so that an `Err` can roll back (autoref specialisation on the concrete type that the
//! derive names).
//! Not here: catching panics, images, replies (`evaluation`).

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde::Serialize;

use super::{AfterCommit, Answer, CommandOf, Context, Entity, Handler, QueryOf, Scope, View};
use crate::wire::scratch;

/// An entity whose type only its kind knows.
pub(crate) type State = Box<dyn Any>;

/// A handler on its way.
pub(crate) type Run = Pin<Box<dyn Future<Output = Finished>>>;

/// What a handler that ended leaves behind.
pub(crate) struct Finished {
    pub(crate) state: State,
    /// The encoded result, or why it does not encode.
    pub(crate) body: Result<Bytes, String>,
    /// The command returned `Err`: whatever it did to the state is void.
    pub(crate) failed: bool,
    pub(crate) deleted: bool,
    pub(crate) after_commit: Vec<AfterCommit>,
}

/// The start of a handler.
pub(crate) enum Started {
    Running(Run),
    /// The body is not the message; the state was not touched.
    BadBody {
        state: State,
        detail: String,
    },
}

/// May a message change the entity?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Command,
    Query,
}

pub(crate) type Start = Box<dyn Fn(State, &[u8], Scope) -> Started>;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) start: Start,
}

/// The messages of one kind by wire name.
pub struct Dispatch<E> {
    pub(super) rows: BTreeMap<&'static str, Row>,
    pub(super) repeated: Option<&'static str>,
    entity: std::marker::PhantomData<fn() -> E>,
}

impl<E: Entity> Dispatch<E> {
    pub(super) fn collect() -> Self {
        let mut table = Self {
            rows: BTreeMap::new(),
            repeated: None,
            entity: std::marker::PhantomData,
        };
        E::dispatch(&mut table);
        table
    }

    /// Enters a command. `failed` says whether a result is an `Err`.
    pub fn command<M>(&mut self, failed: fn(&M::Result) -> bool)
    where
        M: CommandOf<E>,
        E: Handler<M>,
    {
        let start = move |state: State, body: &[u8], scope: Scope| {
            let message: M = match rmp_serde::from_slice(body) {
                Ok(message) => message,
                Err(error) => return bad_body(state, &error),
            };
            let mut entity = own::<E>(state);
            Started::Running(Box::pin(async move {
                let mut cx = Context::<E>::new(scope);
                let result = entity.handle(message, &mut cx).await;
                Finished {
                    state: entity,
                    body: encode(&result),
                    failed: failed(&result),
                    deleted: cx.deleted,
                    after_commit: cx.after_commit,
                }
            }))
        };
        self.enter(M::NAME, Role::Command, Box::new(start));
    }

    /// Enters a query.
    pub fn query<M>(&mut self)
    where
        M: QueryOf<E>,
        E: Answer<M>,
    {
        let start = |state: State, body: &[u8], scope: Scope| {
            let message: M = match rmp_serde::from_slice(body) {
                Ok(message) => message,
                Err(error) => return bad_body(state, &error),
            };
            let entity = own::<E>(state);
            Started::Running(Box::pin(async move {
                let view = View::<E>::new(scope);
                let result = entity.answer(message, &view).await;
                Finished {
                    state: entity,
                    body: encode(&result),
                    failed: false,
                    deleted: false,
                    after_commit: Vec::new(),
                }
            }))
        };
        self.enter(M::NAME, Role::Query, Box::new(start));
    }

    fn enter(&mut self, name: &'static str, role: Role, start: Start) {
        if self.rows.insert(name, Row { name, role, start }).is_some() {
            self.repeated = Some(name);
        }
    }
}

fn own<E: Entity>(state: State) -> Box<E> {
    state
        .downcast::<E>()
        .expect("a state never leaves the kind that made it")
}

fn bad_body(state: State, error: &rmp_serde::decode::Error) -> Started {
    Started::BadBody {
        state,
        detail: error.to_string(),
    }
}

fn encode<T: Serialize>(result: &T) -> Result<Bytes, String> {
    scratch::gather(|bytes| rmp_serde::encode::write_named(bytes, result))
        .map_err(|error| error.to_string())
}

/// Holds a result while its type is asked whether it can fail.
#[doc(hidden)]
pub struct Probe<'a, T>(pub &'a T);

/// Found first by method lookup on `&Probe<Result<..>>`.
#[doc(hidden)]
pub trait FailedAsResult {
    /// Is it an `Err`?
    fn failed(&self) -> bool;
}

impl<T, E> FailedAsResult for Probe<'_, Result<T, E>> {
    fn failed(&self) -> bool {
        self.0.is_err()
    }
}

/// Found by one more reference, for every other type.
#[doc(hidden)]
pub trait FailedNever {
    /// Never.
    fn failed(&self) -> bool;
}

impl<T> FailedNever for &Probe<'_, T> {
    fn failed(&self) -> bool {
        false
    }
}
