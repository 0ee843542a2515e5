//! What a handler sees beside its entity.
//!
//! Here: [`Context`] for commands and [`View`] for queries. Made by `evaluation`, one per evaluation.

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use super::Entity;

/// Work that waits for its command to be committed.
pub(crate) type AfterCommit = Box<dyn FnOnce()>;

/// Who is asked, where, and for how long the caller waits.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) key: Rc<str>,
    pub(crate) node: Rc<str>,
    pub(crate) deadline: Duration,
}

/// A command's view of its surroundings.
pub struct Context<E> {
    scope: Scope,
    pub(super) deleted: bool,
    pub(super) after_commit: Vec<AfterCommit>,
    entity: PhantomData<fn() -> E>,
}

impl<E: Entity> Context<E> {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            deleted: false,
            after_commit: Vec::new(),
            entity: PhantomData,
        }
    }

    /// The entity's kind.
    pub fn kind(&self) -> &'static str {
        E::KIND
    }

    /// The entity's key.
    pub fn key(&self) -> &str {
        &self.scope.key
    }

    /// Name of the node that evaluates.
    pub fn node(&self) -> &str {
        &self.scope.node
    }

    /// How long the caller still waited when the evaluation began.
    pub fn deadline(&self) -> Duration {
        self.scope.deadline
    }

    /// Runs `work` on this thread once the command's effect is committed and applied. Best effort: at most once, and
    /// not at all when the command fails or the leadership ends before.
    pub fn after_commit(&mut self, work: impl FnOnce() + 'static) {
        self.after_commit.push(Box::new(work));
    }

    /// Deletes the entity when this command ends without an `Err`: the next message finds its initial state.
    pub fn delete(&mut self) {
        self.deleted = true;
    }
}

/// A query's view of its surroundings.
pub struct View<E> {
    scope: Scope,
    entity: PhantomData<fn() -> E>,
}

impl<E: Entity> View<E> {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            entity: PhantomData,
        }
    }

    /// The entity's kind.
    pub fn kind(&self) -> &'static str {
        E::KIND
    }

    /// The entity's key.
    pub fn key(&self) -> &str {
        &self.scope.key
    }

    /// Name of the node that evaluates.
    pub fn node(&self) -> &str {
        &self.scope.node
    }

    /// How long the caller still waited when the evaluation began.
    pub fn deadline(&self) -> Duration {
        self.scope.deadline
    }
}
