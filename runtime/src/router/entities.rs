//! What a caller holds: an entity by kind and key, and calls to it as futures.
//!
//! Here: [`Entities`], [`EntityRef`], the typed calls [`Ask`], [`Query`] and [`StaleQuery`], and [`RawAsk`] by names and
//! bytes. Not here: routing (`handle`, `core`), which message belongs to which entity (`entity`).
//!
//! Every call is a future that does nothing until it is polled. From then on it runs to its end: dropping it cancels
//! nothing, a command may still take effect.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::handle::{End, Router};
use super::{Answered, AskError, AskSpec, Failed, Mode, Unknown};
use crate::entity::{CommandOf, Entity, QueryOf};
use crate::wire::{Failure, scratch};

/// The entities of one kind.
pub struct Entities<E> {
    router: Router,
    kind: PhantomData<fn() -> E>,
}

impl<E: Entity> Entities<E> {
    pub(super) fn new(router: Router) -> Self {
        Self {
            router,
            kind: PhantomData,
        }
    }

    /// The entity of this key. It need not exist: it does as soon as it is addressed.
    pub fn at(&self, key: impl Into<String>) -> EntityRef<E> {
        EntityRef {
            router: self.router.clone(),
            key: key.into(),
            kind: PhantomData,
        }
    }
}

impl<E> Clone for Entities<E> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            kind: PhantomData,
        }
    }
}

impl<E: Entity> fmt::Debug for Entities<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entities({})", E::KIND)
    }
}

/// One entity, wherever it lives now.
pub struct EntityRef<E> {
    router: Router,
    key: String,
    kind: PhantomData<fn() -> E>,
}

impl<E: Entity> EntityRef<E> {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Sends a command. It takes effect at most once, and its answer comes when a majority holds the effect on disk.
    pub fn ask<M: CommandOf<E>>(&self, message: M) -> Ask<M::Result> {
        Ask::of(self.raw(M::NAME, &message, Mode::Command))
    }

    /// Sends a query. Its answer is the entity's state of a moment between call and answer.
    pub fn query<M: QueryOf<E>>(&self, message: M) -> Query<M::Result> {
        Query {
            raw: self.raw(M::NAME, &message, Mode::Query),
            result: PhantomData,
        }
    }

    fn raw(&self, name: &'static str, message: &impl Serialize, mode: Mode) -> RawAsk {
        let encoded = scratch::gather(|bytes| rmp_serde::encode::write_named(bytes, message));
        let body = match encoded {
            Ok(body) => body,
            Err(error) => {
                let failure = Failure::BadBody {
                    message: name.to_owned(),
                    detail: format!("it does not even encode, {error}"),
                };
                return RawAsk(Stage::Ended(Failed(failure).into()));
            }
        };
        let deadline = self.router.default_deadline();
        let key = self.key.as_str();
        self.router
            .ask_raw(E::KIND, key, name, body, mode, deadline)
    }
}

impl<E> Clone for EntityRef<E> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            key: self.key.clone(),
            kind: PhantomData,
        }
    }
}

impl<E: Entity> fmt::Debug for EntityRef<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityRef({}/{})", E::KIND, self.key)
    }
}

/// A command on its way. Await it for the handler's result.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Ask<R> {
    raw: RawAsk,
    result: PhantomData<fn() -> R>,
}

impl<R> Ask<R> {
    /// A raw command whose answer is read as `R`.
    pub fn of(raw: RawAsk) -> Self {
        Self {
            raw,
            result: PhantomData,
        }
    }

    /// How long the caller waits, from the first poll on. Before evaluation began it then ends as refused, after that
    /// as unknown.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.raw.set_deadline(deadline);
        self
    }
}

impl<R: DeserializeOwned> Future for Ask<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.raw).poll(cx))?;
        Poll::Ready(rmp_serde::from_slice(&answered.body).map_err(|error| {
            // It took effect, and nobody here can read what it said: to the caller that is no answer.
            AskError::Unknown(Unknown {
                shard: answered.shard,
                reason: format!("it was answered, but the answer does not decode ({error})"),
            })
        }))
    }
}

/// A query on its way. Await it for the handler's answer.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Query<R> {
    raw: RawAsk,
    result: PhantomData<fn() -> R>,
}

impl<R> Query<R> {
    /// How long the caller waits, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.raw.set_deadline(deadline);
        self
    }

    /// Asks the nearest replica, which may lag behind by at most `max_age`; the answer says by how much. For now only the leader knows how
    /// old its state is (not at all), and every other replica passes the question on: an answer is never wrong, but costs a way round.
    pub fn stale(mut self, max_age: Duration) -> StaleQuery<R> {
        self.raw.set_mode(Mode::Stale { max_age });
        StaleQuery {
            raw: self.raw,
            result: PhantomData,
        }
    }
}

impl<R: DeserializeOwned> Future for Query<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.raw).poll(cx))?;
        Poll::Ready(decode_read(&answered))
    }
}

/// A stale query on its way. Await it for the replica's answer and its age.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct StaleQuery<R> {
    raw: RawAsk,
    result: PhantomData<fn() -> R>,
}

impl<R> StaleQuery<R> {
    /// How long the caller waits, from the first poll on.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.raw.set_deadline(deadline);
        self
    }
}

impl<R: DeserializeOwned> Future for StaleQuery<R> {
    type Output = Result<Aged<R>, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.raw).poll(cx))?;
        Poll::Ready(decode_read(&answered).map(|value| Aged {
            value,
            age: answered.age,
        }))
    }
}

fn decode_read<R: DeserializeOwned>(answered: &Answered) -> Result<R, AskError> {
    rmp_serde::from_slice(&answered.body).map_err(|error| {
        let message = "the answer".to_owned();
        let detail = error.to_string();
        Failed(Failure::BadBody { message, detail }).into()
    })
}

/// What a replica knew, and how old that is at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Aged<T> {
    /// The answer.
    pub value: T,
    /// Upper bound of the age of the state that was read.
    pub age: Duration,
}

/// A call by names and bytes.
#[must_use = "a call is made when it is awaited"]
pub struct RawAsk(Stage);

enum Stage {
    Ready(Router, AskSpec),
    /// With the router, so that it lives until its calls have ended.
    Waiting(Router, oneshot::Receiver<End>),
    Ended(AskError),
    Over,
}

impl RawAsk {
    /// `spec.deadline` counts from the first poll on.
    pub(super) fn new(router: Router, spec: AskSpec) -> Self {
        Self(Stage::Ready(router, spec))
    }

    fn set_deadline(&mut self, deadline: Duration) {
        if let Stage::Ready(_, spec) = &mut self.0 {
            spec.deadline = deadline;
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        if let Stage::Ready(_, spec) = &mut self.0 {
            spec.mode = mode;
        }
    }
}

impl fmt::Debug for RawAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Stage::Ready(..) => "RawAsk(not sent)",
            Stage::Waiting(..) => "RawAsk(waiting)",
            Stage::Ended(_) | Stage::Over => "RawAsk(ended)",
        })
    }
}

impl Future for RawAsk {
    type Output = Result<Answered, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.0, Stage::Over) {
                Stage::Ready(router, spec) => {
                    let end = router.begin(spec);
                    self.0 = Stage::Waiting(router, end);
                }
                Stage::Waiting(router, mut end) => {
                    let Poll::Ready(answer) = Pin::new(&mut end).poll(cx) else {
                        self.0 = Stage::Waiting(router, end);
                        return Poll::Pending;
                    };
                    return Poll::Ready(answer.expect("a router ends every call before it goes"));
                }
                Stage::Ended(error) => return Poll::Ready(Err(error)),
                Stage::Over => panic!("the call was polled after it had ended"),
            }
        }
    }
}
