//! The ways back to callers: one per request that has no answer yet.
//!
//! Here: [`Paths`], which answers each exactly once and knows when its deadline passes. Not here: what the answer is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ReplyToken;
use crate::wire::{Outcome, Refusal, Reply};

/// Name of one way back within a leadership.
pub(super) type Ticket = u64;

/// How far a request has come, as far as its deadline cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Nothing has run for it.
    Waiting,
    /// Its command has begun: after the deadline nobody knows.
    Begun,
}

struct Path {
    token: ReplyToken,
    id: u64,
    attempt: u32,
    deadline: Duration,
    stage: Stage,
    command: bool,
}

/// Least pause between two sweeps for passed deadlines; an answer may come this late after its deadline.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Paths {
    rows: BTreeMap<Ticket, Path>,
    next: Ticket,
    sweep_at: Option<Duration>,
}

impl Paths {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The ticket that the next path gets.
    pub(super) fn upcoming(&self) -> Ticket {
        self.next + 1
    }

    pub(super) fn add(
        &mut self,
        token: ReplyToken,
        id: u64,
        attempt: u32,
        deadline: Duration,
        command: bool,
    ) -> Ticket {
        self.next += 1;
        self.rows.insert(
            self.next,
            Path {
                token,
                id,
                attempt,
                deadline,
                stage: Stage::Waiting,
                command,
            },
        );
        self.sweep_at = Some(self.sweep_at.map_or(deadline, |at| at.min(deadline)));
        self.next
    }

    pub(super) fn set_stage(&mut self, ticket: Ticket, stage: Stage) {
        if let Some(path) = self.rows.get_mut(&ticket) {
            path.stage = stage;
        }
    }

    /// The reply of the path, if it has none yet.
    pub(super) fn answer(
        &mut self,
        ticket: Ticket,
        logged: bool,
        outcome: Outcome,
    ) -> Option<(ReplyToken, Reply)> {
        let path = self.rows.remove(&ticket)?;
        Some((
            path.token,
            Reply {
                id: path.id,
                attempt: path.attempt,
                logged,
                outcome,
            },
        ))
    }

    /// Answers every path whose deadline has passed.
    pub(super) fn sweep(&mut self, now: Duration) -> Vec<(ReplyToken, Reply)> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let late: Vec<Ticket> = self
            .rows
            .iter()
            .filter(|(_, path)| path.deadline <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        let replies = late
            .into_iter()
            .filter_map(|ticket| {
                let path = self.rows.get(&ticket)?;
                let outcome = if path.command && path.stage == Stage::Begun {
                    Outcome::Unknown {
                        reason: "the deadline passed while the command was under way".to_owned(),
                    }
                } else {
                    Outcome::Refused(Refusal::DeadlinePassed)
                };
                self.answer(ticket, false, outcome)
            })
            .collect();
        self.sweep_at = self
            .rows
            .values()
            .map(|path| path.deadline)
            .min()
            .map(|deadline| deadline.max(now + SWEEP_PAUSE));
        replies
    }

    pub(super) fn sweep_at(&self) -> Option<Duration> {
        if self.rows.is_empty() {
            None
        } else {
            self.sweep_at
        }
    }

    /// Every path without an answer, oldest first.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.rows.keys().copied().collect()
    }
}
