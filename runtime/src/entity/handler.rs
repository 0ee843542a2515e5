//! The two traits a user implements per message.

use std::future::Future;

use super::{Context, Entity, Message, View};

/// How an entity handles a command. Write it as `async fn handle(..)`; a handler that never awaits ends in its first
/// poll and costs no task.
///
/// The effect is the entity's state after the handler ended; it is written to a majority before the caller sees the
/// result. `Err(..)` of a command whose result is a `Result`, and a panic, roll the entity back to where it was. Other
/// messages to the same entity wait meanwhile, other entities go on. External side effects happen at least once: after
/// a failover the handler may run again.
///
/// Await what takes long; a handler that blocks its thread keeps every entity of that thread waiting. A thread that is blocked for 10 s
/// counts as stuck: the node hands over what it leads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` lists the command `{M}` but does not handle it",
    note = "write `impl Handler<{M}> for {Self}`"
)]
pub trait Handler<M: Message>: Entity {
    /// Handles one command.
    fn handle(&mut self, message: M, cx: &mut Context<Self>) -> impl Future<Output = M::Result>;
}

/// How an entity answers a query. Write it as `async fn answer(..)`; nothing it does can get into the log.
#[diagnostic::on_unimplemented(
    message = "`{Self}` lists the query `{M}` but does not answer it",
    note = "write `impl Answer<{M}> for {Self}`"
)]
pub trait Answer<M: Message>: Entity {
    /// Answers one query.
    fn answer(&self, message: M, cx: &View<Self>) -> impl Future<Output = M::Result>;
}
