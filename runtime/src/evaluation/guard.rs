//! User code between two walls: whatever it throws becomes a text.
//!
//! Here: [`call`] for plain code and [`Guarded`] for a handler's future (S22: a panic that gets through ends the actor
//! with its mailbox). Not here: what a panic means for the entity (`leadership`).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::entity::{Finished, Run};

/// Runs user code; a panic becomes its text. What the code could have broken is thrown away by the caller, which is why
/// asserting unwind safety is right.
pub(super) fn call<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(text_of)
}

fn text_of(panic: Box<dyn std::any::Any + Send>) -> String {
    const LONGEST: usize = 1_000; // characters of a panic's text that travel to the caller
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.chars().take(LONGEST).collect()
    } else {
        "a panic without text".to_owned()
    };
    // The payload is the user's value; its drop is the user's code.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
    text
}

/// How a handler ended.
pub(super) enum Ended {
    Finished(Finished),
    Panicked(String),
}

/// A handler's future that ends with the panic's text instead of unwinding, also while it is dropped.
pub(super) struct Guarded(Option<Run>);

impl Guarded {
    pub(super) fn new(run: Run) -> Self {
        Self(Some(run))
    }
}

impl Future for Guarded {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let run = self.0.as_mut().expect("polled after it ended");
        let polled = call(|| run.as_mut().poll(cx));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(finished)) => Ended::Finished(finished),
            Err(text) => Ended::Panicked(text),
        };
        let run = self.0.take();
        let _ = call(|| drop(run));
        Poll::Ready(ended)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let run = self.0.take();
        let _ = call(|| drop(run));
    }
}
