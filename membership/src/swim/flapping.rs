//! Members that die and return again and again.
//!
//! Here: [`Flaps`], one member's history as this observer saw it, and the hold-down that follows from it. A return from the dead
//! within [`MEMORY_INTERVALS`] of the last one counts; from the third on the member is held down: it is a member like any other for
//! probing and gossip, but [`crate::Member::is_steady`] says no, and its return is told ([`MemberEvent::Returned`]) only when it has
//! stayed for the hold-down, which doubles each time. Whoever gives work to members by these events gives it once per hold-down
//! instead of once per flap.
//! Source: hazard M38 (Rapid, figures 9 and 10: one-way loss that comes and goes makes a membership oscillate for as long as it
//! lasts); route flap damping (RFC 2439).

use std::collections::BTreeSet;

use core::time::Duration;

use super::Swim;
use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::record::MemberState;

/// Returns within this many probe intervals of the last one belong together.
const MEMORY_INTERVALS: u32 = 240;
/// The first that are believed at once.
const BELIEVED: u32 = 2;
/// The first hold-down, in probe intervals: 10 s on a LAN.
const HOLD_INTERVALS: u32 = 20;
/// It doubles this often: up to five minutes on a LAN.
const DOUBLINGS_MAX: u32 = 5;

/// One member's returns from the dead.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flaps {
    returns: u32,
    last: Duration,
    held_until: Option<Duration>,
}

impl Flaps {
    /// It returned from the dead. Until when it is held down, if it is.
    pub(crate) fn returned(&mut self, now: Duration, interval: Duration) -> Option<Duration> {
        if self.returns > 0 && now > self.last + interval * MEMORY_INTERVALS {
            *self = Self::default();
        }
        self.returns = self.returns.saturating_add(1);
        self.last = now;
        let beyond = self.returns.checked_sub(BELIEVED + 1)?;
        let hold = interval * HOLD_INTERVALS * (1 << beyond.min(DOUBLINGS_MAX));
        self.last = now + hold; // the memory begins when the hold-down ends
        self.held_until = Some(now + hold);
        self.held_until
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held_until.is_some()
    }
}

/// Who is held down until when; at most one entry per member.
#[derive(Debug, Default)]
pub(crate) struct HoldDowns(BTreeSet<(Duration, StoreId)>);

impl HoldDowns {
    pub(crate) fn first(&self) -> Option<Duration> {
        self.0.first().map(|&(until, _)| until)
    }

    pub(crate) fn forget(&mut self, store: StoreId) {
        self.0.retain(|&(_, held)| held != store);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Swim {
    /// A dead member is there again: told at once, or held down.
    pub(super) fn returned(&mut self, now: Duration, store: StoreId) {
        let interval = self.options.probe_interval;
        let until = self.members.update(store, |slot| {
            let member = slot.as_mut()?;
            member.flaps.returned(now, interval)
        });
        self.hold_downs.forget(store);
        let Some(until) = until else {
            let event = MemberEvent::Returned { store };
            self.outputs.push_back(SwimOutput::Event(event));
            return;
        };
        super::Counters::add(&mut self.counters.hold_downs);
        self.hold_downs.0.insert((until, store));
        let event = MemberEvent::Unsteady { store };
        self.outputs.push_back(SwimOutput::Event(event));
    }

    /// Hold-downs that are over: who is alive by now has returned for good; who is suspected has another while to show it.
    pub(super) fn end_hold_downs(&mut self, now: Duration) {
        while let Some(&(until, store)) =
            self.hold_downs.0.first().filter(|(until, _)| *until <= now)
        {
            self.hold_downs.0.remove(&(until, store));
            let again = now + self.options.probe_interval * HOLD_INTERVALS;
            let state = self.members.update(store, |slot| {
                let member = slot.as_mut()?;
                let suspected = member.state == MemberState::Suspect;
                member.flaps.held_until = suspected.then_some(again);
                Some(member.state)
            });
            match state {
                Some(MemberState::Alive) => {
                    let event = MemberEvent::Returned { store };
                    self.outputs.push_back(SwimOutput::Event(event));
                }
                Some(MemberState::Suspect) => {
                    self.hold_downs.0.insert((again, store));
                }
                _ => {}
            }
        }
    }
}
