//! What must hold at every step, for every observer.
//!
//! Here: [`Observer`], which remembers what one process saw last and refuses what may not follow.
//! The claims: *Order* - what is held of a member never gets older, in the order (generation, incarnation, state), so nothing
//! rises from the dead without a newer word of its own; *Time to refute* - nobody dies before it was suspected for the shortest
//! suspicion time; *Own word* - no position is held that the subject did not say; *Log* - only stores that the log admitted are
//! held; *Self* - the own store is never suspect or dead for itself; *Refutation* - who is accused at its position rises above it;
//! *Steps* - the events of a step follow one another as the states do, even those that one step passes through, and end in what is
//! held; *Bounds* - queues and packets. *Convergence* is checked by [`super::World`] after calm.

use std::collections::BTreeMap;
use std::time::Duration;

use synod_membership::{MemberEvent, MemberState, Position, StoreId};

use crate::violation::{Violation, broken};

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
    /// What the events so far say, and since when; `None`: nobody listened all the time.
    told: Option<BTreeMap<StoreId, (MemberState, Duration)>>,
}

impl Observer {
    /// `suspicion_least` is the shortest suspicion at any size of the membership.
    pub fn new(me: StoreId, suspicion_least: Duration) -> Self {
        Self {
            me,
            suspicion_least,
            held: BTreeMap::new(),
            told: Some(BTreeMap::from([(me, (MemberState::Alive, Duration::ZERO))])),
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
            return broken("Self", format!("{me} holds itself for {:?}", seen.state));
        }
        if !admitted {
            return broken(
                "Log",
                format!("{me} holds {store}, which the log did not admit"),
            );
        }
        if said.is_none_or(|said| seen.position > said) {
            return broken(
                "Own word",
                format!("{me} holds {store} at {}, it said {said:?}", seen.position),
            );
        }
        let since = match self.held.get(&store) {
            Some(&(before, since)) if before == seen => since,
            Some(&(before, since)) => {
                if (seen.position, seen.state) < (before.position, before.state) {
                    return broken(
                        "Order",
                        format!("{me} held {store} at {before:?}, now {seen:?}"),
                    );
                }
                let waited = now - since;
                let ready = before.state == MemberState::Suspect
                    && before.position == seen.position
                    && waited >= self.suspicion_least;
                if seen.state == MemberState::Dead && !ready {
                    return broken(
                        "Time to refute",
                        format!("{me} held {store} at {before:?} for {waited:?}, now {seen:?}"),
                    );
                }
                now
            }
            None if seen.state == MemberState::Dead => {
                return broken("Time to refute", format!("{me} met {store} as {seen:?}"));
            }
            None => now,
        };
        if let Some(told) = &self.told
            && store != me
        {
            let told = told.get(&store).map(|(state, _)| *state);
            if told != Some(seen.state) {
                let held = seen.state;
                return broken(
                    "Steps",
                    format!("{me} holds {store} for {held:?}, told {told:?}"),
                );
            }
        }
        self.held.insert(store, (seen, since));
        Ok(())
    }

    /// An event, in its order. Returns whom it is about.
    pub fn told(
        &mut self,
        now: Duration,
        event: &MemberEvent,
    ) -> Result<Option<StoreId>, Violation> {
        use MemberState::{Alive, Dead, Left, Suspect};
        let me = self.me;
        let Some(told) = &mut self.told else {
            return Ok(None);
        };
        let (store, legal, becomes): (_, &[Option<MemberState>], _) = match *event {
            MemberEvent::Joined { store } => (store, &[None], Alive),
            MemberEvent::Suspected { store } => (store, &[Some(Alive)], Suspect),
            MemberEvent::Died { store } => (store, &[Some(Suspect)], Dead),
            MemberEvent::Unsteady { store } => {
                (store, &[Some(Suspect), Some(Dead), Some(Left)], Alive)
            }
            // A hold-down that ends tells of one that is alive already.
            MemberEvent::Returned { store } => (
                store,
                &[Some(Alive), Some(Suspect), Some(Dead), Some(Left)],
                Alive,
            ),
            MemberEvent::Left { store } => {
                (store, &[None, Some(Alive), Some(Suspect), Some(Dead)], Left)
            }
            MemberEvent::Changed { store } => {
                let known = told.get(&store);
                return match known {
                    Some((Alive, _)) => Ok(Some(store)),
                    _ => broken("Steps", format!("{me}: {store} changed, it was {known:?}")),
                };
            }
            _ => return Ok(None),
        };
        let before = told.get(&store).copied();
        if !legal.contains(&before.map(|(state, _)| state)) {
            return broken("Steps", format!("{me} told {event:?} after {before:?}"));
        }
        if let Some((Suspect, since)) = before
            && becomes == Dead
            && now - since < self.suspicion_least
        {
            let waited = now - since;
            return broken(
                "Time to refute",
                format!("{me} told {event:?} after {waited:?}"),
            );
        }
        told.insert(store, (becomes, now));
        Ok(Some(store))
    }

    /// Events are not listened to any more: the machine was replaced under way.
    pub(super) fn ignore_events(&mut self) {
        self.told = None;
    }

    /// The log removed it.
    pub(super) fn forget(&mut self, store: StoreId) {
        self.held.remove(&store);
        if let Some(told) = &mut self.told {
            told.remove(&store);
        }
    }
}
