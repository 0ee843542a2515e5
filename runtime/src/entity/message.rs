//! Messages: actix's trait under our own derive, and which entity understands which.
//!
//! Here: [`Message`] (trait and derive under one name), [`CommandOf`], [`QueryOf`].
//! Not here: the wire (`wire::Request` carries the name and the encoded body).

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Entity;

/// The trait comes by the glob, the derive by name: an explicit import shadows actix's derive of the same name, which
/// would emit `::actix` paths into the user's crate (S22).
mod both {
    pub use actix::dev::*;
    pub use synod_macros::Message;
}

pub use both::Message;

/// `Self` is a command of the entity `E`: it may change the entity. Implemented by `#[derive(Entity)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no command of `{E}`",
    label = "not listed in the entity's `commands(..)`",
    note = "add it to `#[entity(commands(..))]` of `{E}`, or send a query with `query` instead of `ask`"
)]
pub trait CommandOf<E: Entity>:
    Message<Result: Serialize + DeserializeOwned> + Serialize + DeserializeOwned + 'static
{
    /// Name on the wire, from the derive's list.
    const NAME: &'static str;
}

/// `Self` is a query of the entity `E`: it only reads. Implemented by `#[derive(Entity)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no query of `{E}`",
    label = "not listed in the entity's `queries(..)`",
    note = "add it to `#[entity(queries(..))]` of `{E}`, or send a command with `ask` instead of `query`"
)]
pub trait QueryOf<E: Entity>:
    Message<Result: Serialize + DeserializeOwned> + Serialize + DeserializeOwned + 'static
{
    /// Name on the wire, from the derive's list.
    const NAME: &'static str;
}
