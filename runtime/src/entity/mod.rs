//! What a user writes: entities, their messages and handlers.
//!
//! Here: [`Entity`] with its dispatch table, [`Handler`] for commands, [`Answer`] for queries, [`Message`] (actix's
//! trait, with a derive that emits `::synod` paths), [`CommandOf`] and [`QueryOf`], what a handler sees ([`Context`],
//! [`View`]) and the per-thread registry of kinds ([`KindTable`]).
//! Not here: when a handler runs and what becomes of its effect (`evaluation`), how a caller reaches it (`router`).
//!
//! An entity is moved into the future of its handler and comes back with the result, so handlers may borrow it across
//! `await` although the future is `'static`, and neither entity nor future needs to be `Send`.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use synod::{Answer, Context, Entity, Handler, Message, View};
//!
//! #[derive(Default, Serialize, Deserialize, Entity)]
//! #[entity(kind = "account", commands(Deposit as "deposit.v2", Withdraw), queries(Balance))]
//! struct Account {
//!     balance: u64,
//! }
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "u64")]
//! struct Deposit {
//!     amount: u64,
//! }
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "Result<u64, Overdrawn>")]
//! struct Withdraw {
//!     amount: u64,
//! }
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "u64")]
//! struct Balance;
//!
//! #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
//! #[error("the account holds less than that")]
//! struct Overdrawn;
//!
//! impl Handler<Deposit> for Account {
//!     async fn handle(&mut self, msg: Deposit, _cx: &mut Context<Self>) -> u64 {
//!         self.balance += msg.amount;
//!         self.balance
//!     }
//! }
//!
//! impl Handler<Withdraw> for Account {
//!     async fn handle(&mut self, msg: Withdraw, _cx: &mut Context<Self>) -> Result<u64, Overdrawn> {
//!         self.balance = self.balance.checked_sub(msg.amount).ok_or(Overdrawn)?; // Err = rolled back
//!         Ok(self.balance)
//!     }
//! }
//!
//! impl Answer<Balance> for Account {
//!     async fn answer(&self, _q: Balance, _cx: &View<Self>) -> u64 {
//!         self.balance
//!     }
//! }
//!
//! assert_eq!(Account::KIND, "account");
//! assert_eq!(<Deposit as synod::CommandOf<Account>>::NAME, "deposit.v2");
//! assert_eq!(<Withdraw as synod::CommandOf<Account>>::NAME, "Withdraw");
//! ```
//!
//! A message that the entity does not list does not compile:
//!
//! ```compile_fail
//! # use serde::{Deserialize, Serialize};
//! # use synod::{Entity, CommandOf, Message};
//! #[derive(Default, Serialize, Deserialize, Entity)]
//! #[entity(kind = "account")]
//! struct Account {}
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "u64")]
//! struct Close;
//!
//! fn ask<E: Entity, M: CommandOf<E>>(_message: M) {}
//! ask::<Account, _>(Close); // `Close` is not a command of `Account`
//! ```

mod context;
mod dispatch;
mod handler;
mod kind;
mod message;

pub use context::{Context, View};
pub use dispatch::Dispatch;
pub use handler::{Answer, Handler};
pub use kind::{KindError, KindFactory, KindTable};
pub use message::{CommandOf, Message, QueryOf};
pub use synod_macros::Entity;

pub(crate) use context::{AfterCommit, Scope};
pub(crate) use dispatch::{Finished, Role, Run, Started, State};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the derive macros' code refers to. No part of the interface.
#[doc(hidden)]
pub mod derived {
    pub use super::dispatch::{FailedAsResult, FailedNever, Probe};
}

/// A replicated actor: state that is kept on several nodes and changes only through its commands.
///
/// Implemented by `#[derive(Entity)]`; an entity exists as soon as it is addressed. Its state is written whole with
/// every change, in named MessagePack (fields may be added with `#[serde(default)]`), so it should be small: tens of
/// kilobytes, at most 1 MiB.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no entity",
    note = "add `#[derive(Entity)]` and `#[entity(kind = \"..\", commands(..), queries(..))]` to it"
)]
pub trait Entity: Serialize + DeserializeOwned + Sized + 'static {
    /// Name of the kind, on the wire and on disk. Never change it while entities of the kind exist.
    const KIND: &'static str;

    /// The state of an entity that was never changed. `key` is its own.
    fn initial(key: &str) -> Self;

    /// Enters every command and query into the table.
    fn dispatch(table: &mut Dispatch<Self>);
}
