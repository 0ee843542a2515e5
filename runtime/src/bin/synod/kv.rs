//! The kind that every `synod start` hosts: a key with a value, so that one can play without writing code.

use serde::{Deserialize, Serialize};
use synod::{Answer, Context, Entity, Handler, Message, View};

/// One key; the entity's key is the name.
#[derive(Debug, Default, Deserialize, Entity, Serialize)]
#[entity(kind = "kv", commands(Put as "put", Add as "add", Delete as "delete"), queries(Get as "get"))]
pub(crate) struct Pair {
    #[serde(default)]
    value: Option<String>,
}

/// Gives the key a value.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
pub(crate) struct Put {
    pub(crate) value: String,
}

/// Adds to the number that the value is; no value counts as 0.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "Result<i64, NotAdded>")]
pub(crate) struct Add {
    pub(crate) amount: i64,
}

/// Removes the key. The result says whether it was there.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "bool")]
pub(crate) struct Delete {}

/// Reads the value.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "Option<String>")]
pub(crate) struct Get {}

/// Why nothing was added; nothing changed.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub(crate) enum NotAdded {
    /// The value is text.
    #[error("the value is no whole number; put one first")]
    NotANumber,
    /// The sum has no place in 64 bits.
    #[error("the sum does not fit into 64 bits; nothing was added")]
    Overflow,
}

impl Handler<Put> for Pair {
    async fn handle(&mut self, put: Put, _cx: &mut Context<Self>) {
        self.value = Some(put.value);
    }
}

impl Handler<Add> for Pair {
    async fn handle(&mut self, add: Add, _cx: &mut Context<Self>) -> Result<i64, NotAdded> {
        let before: i64 = match &self.value {
            Some(text) => text.trim().parse().map_err(|_| NotAdded::NotANumber)?,
            None => 0,
        };
        let sum = before.checked_add(add.amount).ok_or(NotAdded::Overflow)?;
        self.value = Some(sum.to_string());
        Ok(sum)
    }
}

impl Handler<Delete> for Pair {
    async fn handle(&mut self, _: Delete, cx: &mut Context<Self>) -> bool {
        cx.delete();
        self.value.is_some()
    }
}

impl Answer<Get> for Pair {
    async fn answer(&self, _: Get, _cx: &View<Self>) -> Option<String> {
        self.value.clone()
    }
}
