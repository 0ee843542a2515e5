//! The derive macros of `synod`.
//!
//! Here: `Entity` (module `entity`) and `Message` (module `message`). Both emit `::synod::..` paths only, so a user depends on
//! `synod` and `serde` alone. Not here: the traits themselves (`synod::entity`).

mod entity;
mod message;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a type an entity: `#[entity(kind = "account", commands(Deposit, Withdraw as "withdraw.v2"), queries(Balance))]`.
///
/// `kind` is required. A message's wire name is the last segment of its path unless `as ".."` names another.
/// The initial state is `Default`, or `initial = path` to a `fn(&str) -> Self` that gets the key.
#[proc_macro_derive(Entity, attributes(entity))]
pub fn derive_entity(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    entity::expand(&input)
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Makes a type a message: `#[rtype(result = "Result<u64, Overdrawn>")]` names its result.
#[proc_macro_derive(Message, attributes(rtype))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message::expand(&input)
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
