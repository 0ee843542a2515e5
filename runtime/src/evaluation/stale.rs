//! Queries on applied state alone, on any replica.
//!
//! Here: [`stale_query`]. It needs no evaluator and no leadership, and sees committed images only, on the leader too.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::ShardState;
use super::guard::{self, Ended};
use crate::entity::{KindTable, Role, Scope, Started};
use crate::wire::{Failure, Intent, Outcome, Refusal, Request};

/// Answers [`Intent::StaleQuery`] from the applied state, whose age the caller knows (`None`: it does not). The image
/// is taken at once; the future runs the handler, borrows nothing and never panics. Other intents are refused as not
/// led here.
pub fn stale_query(
    state: &ShardState,
    kinds: &Rc<KindTable>,
    node: &Rc<str>,
    request: &Request,
    age: Option<Duration>,
) -> Pin<Box<dyn Future<Output = Outcome>>> {
    match prepare(state, kinds, node, request, age) {
        Ok(running) => running,
        Err(outcome) => Box::pin(std::future::ready(outcome)),
    }
}

fn prepare(
    state: &ShardState,
    kinds: &Rc<KindTable>,
    node: &Rc<str>,
    request: &Request,
    age: Option<Duration>,
) -> Result<Pin<Box<dyn Future<Output = Outcome>>>, Outcome> {
    let Intent::StaleQuery { max_age_ms } = request.intent else {
        return Err(Outcome::Refused(Refusal::NotLeader { leader: None }));
    };
    let age_ms = age.map_or(u64::MAX, |age| {
        u64::try_from(age.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
    });
    if age_ms > max_age_ms {
        return Err(Outcome::Refused(Refusal::TooStale { age_ms }));
    }
    let unknown_kind = || {
        Outcome::Failed(Failure::UnknownKind {
            kind: request.kind.clone(),
        })
    };
    let (position, kind) = kinds.find(&request.kind).ok_or_else(unknown_kind)?;
    let row = match kind.message(&request.message) {
        Some((row, found)) if found.role == Role::Query => row,
        _ => {
            return Err(Outcome::Failed(Failure::UnknownMessage {
                kind: request.kind.clone(),
                message: request.message.clone(),
            }));
        }
    };
    let image = state
        .image(kind.name, &request.key)
        // This replica is about to stop; another one has the row.
        .map_err(|_| Outcome::Refused(Refusal::NotLeader { leader: None }))?
        .map(|image| image.bytes);
    let kinds = Rc::clone(kinds);
    let request = request.clone();
    let scope = Scope {
        key: Rc::from(request.key.as_str()),
        node: Rc::clone(node),
        deadline: Duration::from_millis(request.deadline_ms),
    };
    Ok(Box::pin(async move {
        let kind = kinds.at(position);
        let row = kind.row(row);
        let state = guard::call(|| match &image {
            Some(bytes) => kind.decode(bytes),
            None => Ok(kind.initial(&request.key)),
        });
        let state = match state {
            Err(text) => return Outcome::Failed(Failure::Panicked { text }),
            Ok(Err(detail)) => {
                return Outcome::Failed(Failure::Quarantined {
                    kind: request.kind,
                    key: request.key,
                    detail,
                });
            }
            Ok(Ok(state)) => state,
        };
        let run = match guard::call(|| (row.start)(state, &request.body, scope)) {
            Err(text) => return Outcome::Failed(Failure::Panicked { text }),
            Ok(Started::BadBody { detail, .. }) => {
                return Outcome::Failed(Failure::BadBody {
                    message: request.message,
                    detail,
                });
            }
            Ok(Started::Running(run)) => run,
        };
        match guard::Guarded::new(run).await {
            Ended::Finished(finished) => match finished.body {
                Ok(body) => Outcome::Done { body, age_ms },
                Err(text) => Outcome::Failed(Failure::Panicked { text }),
            },
            Ended::Panicked(text) => Outcome::Failed(Failure::Panicked { text }),
        }
    }))
}
