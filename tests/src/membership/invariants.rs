//! What must hold at every step, for every observer.
//!
//! Here: [`Observer`], which remembers what one process saw last and refuses what may not follow, and [`Violation`].
//! The claims: *Order* - what is held of a member never gets older, in the order (generation, incarnation, state), so nothing
//! rises from the dead without a newer word of its own; *Time to refute* - nobody dies before it was suspected for the shortest
//! suspicion time; *Own word* - no position is held that the subject did not say; *Log* - only stores that the log admitted are
//! held; *Self* - the own store is never suspect or dead for itself; *Refutation* - who is accused at its position rises above it;
//! *Bounds* - queues and packets. *Convergence* is checked by [`super::World`] after calm.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use synod_membership::{MemberState, Position, StoreId};

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// Who saw what.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// What an observer holds of one member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Observed {
    /// The newest word of the member.
    pub position: Position,
    /// The observer's verdict.
    pub state: MemberState,
}

/// One process's memory of what it held.
#[derive(Debug)]
pub struct Observer {
    me: StoreId,
    suspicion_least: Duration,
    held: BTreeMap<StoreId, (Observed, Duration)>,
}

impl Observer {
    /// `suspicion_least` is the shortest suspicion at any size of the membership.
    pub fn new(me: StoreId, suspicion_least: Duration) -> Self {
        Self {
            me,
            suspicion_least,
            held: BTreeMap::new(),
        }
    }

    /// Holds what is seen now against what was seen before. `said` is the newest position that a store ever signed.
    pub fn check(
        &mut self,
        now: Duration,
        store: StoreId,
        seen: Observed,
        admitted: bool,
        said: Option<Position>,
    ) -> Result<(), Violation> {
        let me = self.me;
        if store == me && matches!(seen.state, MemberState::Suspect | MemberState::Dead) {
            return violated("Self", format!("{me} holds itself for {:?}", seen.state));
        }
        if !admitted {
            return violated(
                "Log",
                format!("{me} holds {store}, which the log did not admit"),
            );
        }
        if said.is_none_or(|said| seen.position > said) {
            return violated(
                "Own word",
                format!("{me} holds {store} at {}, it said {said:?}", seen.position),
            );
        }
        let since = match self.held.get(&store) {
            Some(&(before, since)) if before == seen => since,
            Some(&(before, since)) => {
                if (seen.position, seen.state) < (before.position, before.state) {
                    return violated(
                        "Order",
                        format!("{me} held {store} at {before:?}, now {seen:?}"),
                    );
                }
                let waited = now - since;
                let ready = before.state == MemberState::Suspect
                    && before.position == seen.position
                    && waited >= self.suspicion_least;
                if seen.state == MemberState::Dead && !ready {
                    return violated(
                        "Time to refute",
                        format!("{me} held {store} at {before:?} for {waited:?}, now {seen:?}"),
                    );
                }
                now
            }
            None if seen.state == MemberState::Dead => {
                return violated("Time to refute", format!("{me} met {store} as {seen:?}"));
            }
            None => now,
        };
        self.held.insert(store, (seen, since));
        Ok(())
    }

    /// The log removed it.
    pub(super) fn forget(&mut self, store: StoreId) {
        self.held.remove(&store);
    }
}

/// A refusal by name.
pub(super) fn violated<T>(invariant: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { invariant, detail })
}
