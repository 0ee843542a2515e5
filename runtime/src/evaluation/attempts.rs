//! What a leadership knows about the sequences of each session beyond what is applied.
//!
//! A sequence is unknown, held (queued, or its handler runs), computed (its outcome needs no entry), logged (its outcome
//! is in a batch on its way) or done (stored in `state`). Every further attempt of a held, computed or logged one joins
//! it (E5). Not here: applied sessions and their replies (`state`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::paths::Ticket;
use super::state::size_of_outcome;
use crate::entity::AfterCommit;
use crate::wire::{Outcome, SessionId};

/// Attempts of one command that can wait together; beyond, the oldest is refused, since its router has moved on.
const ATTACHED_MAX: usize = 8;

pub(super) enum Progress {
    /// Queued, or its handler runs.
    Held,
    /// Ended without an entry of its own; kept so that a repeated attempt gets the same answer.
    Computed(Outcome),
    /// Its outcome is in the batch.
    Logged { batch: u64, outcome: Outcome },
}

pub(super) struct Mark {
    pub(super) tickets: Vec<Ticket>,
    /// The highest attempt seen. Above 1 an older copy may still be on its way somewhere.
    pub(super) attempt: u32,
    /// The latest deadline of all attempts.
    pub(super) deadline: Duration,
    pub(super) progress: Progress,
    pub(super) after_commit: Vec<AfterCommit>,
}

impl Mark {
    pub(super) fn begun(&self) -> bool {
        !matches!(self.progress, Progress::Held)
    }

    /// Adds an attempt; returns one that has to make room.
    pub(super) fn attach(
        &mut self,
        ticket: Ticket,
        attempt: u32,
        deadline: Duration,
    ) -> Option<Ticket> {
        self.attempt = self.attempt.max(attempt);
        self.deadline = self.deadline.max(deadline);
        self.tickets.push(ticket);
        if self.tickets.len() > ATTACHED_MAX {
            Some(self.tickets.remove(0))
        } else {
            None
        }
    }
}

#[derive(Default)]
pub(super) struct LiveSession {
    /// Highest low mark that an attempt has announced here.
    pub(super) lowest: u64,
    pub(super) marks: BTreeMap<u64, Mark>,
    /// Bytes of the outcomes in `marks`.
    pub(super) bytes: usize,
}

impl LiveSession {
    /// The router has answers for every sequence below `lowest`: what was kept for repeated attempts goes.
    pub(super) fn raise(&mut self, lowest: u64) {
        if lowest <= self.lowest {
            return;
        }
        self.lowest = lowest;
        if self
            .marks
            .keys()
            .next()
            .is_none_or(|first| *first >= lowest)
        {
            return;
        }
        let kept = self.marks.split_off(&lowest);
        for (sequence, mark) in std::mem::replace(&mut self.marks, kept) {
            match &mark.progress {
                Progress::Computed(outcome) if mark.tickets.is_empty() => {
                    self.bytes -= size_of_outcome(outcome);
                }
                _ => {
                    self.marks.insert(sequence, mark);
                }
            }
        }
    }

    /// True when nothing is under way: what is left are answers kept for repeated attempts.
    pub(super) fn is_idle(&self) -> bool {
        self.marks
            .values()
            .all(|mark| mark.tickets.is_empty() && matches!(mark.progress, Progress::Computed(_)))
    }

    /// Sets the outcome of a sequence.
    pub(super) fn conclude(&mut self, sequence: u64, progress: Progress) {
        let Some(mark) = self.marks.get_mut(&sequence) else {
            return;
        };
        self.bytes -= size_of_progress(&mark.progress);
        self.bytes += size_of_progress(&progress);
        mark.progress = progress;
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Mark> {
        let mark = self.marks.remove(&sequence)?;
        self.bytes -= size_of_progress(&mark.progress);
        Some(mark)
    }
}

fn size_of_progress(progress: &Progress) -> usize {
    match progress {
        Progress::Held => 0,
        Progress::Computed(outcome) | Progress::Logged { outcome, .. } => size_of_outcome(outcome),
    }
}

/// All sessions with something under way.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) sessions: BTreeMap<SessionId, LiveSession>,
    /// Sessions that a batch on its way ends.
    pub(super) expired: BTreeSet<SessionId>,
}

impl Attempts {
    /// Whether an answer that is in no log is kept for repeated attempts.
    pub(super) fn remembers(&self) -> bool {
        let mut marks = { self.sessions.values() }.flat_map(|live| live.marks.values());
        marks.any(|mark| matches!(mark.progress, Progress::Computed(_)))
    }
}

impl Attempts {
    pub(super) fn live(&mut self, session: SessionId) -> &mut LiveSession {
        self.sessions.entry(session).or_default()
    }

    pub(super) fn mark(&mut self, session: SessionId, sequence: u64) -> Option<&mut Mark> {
        self.sessions.get_mut(&session)?.marks.get_mut(&sequence)
    }

    pub(super) fn remove(&mut self, session: SessionId, sequence: u64) -> Option<Mark> {
        self.sessions.get_mut(&session)?.remove(sequence)
    }
}
