//! The time a suspected member has to refute, and who accuses it.
//!
//! Here: [`Suspicion`] and what happens when it ends. Every observer waits at least the shortest suspicion time by its own clock
//! before it holds a member for dead, whatever it is told: a peer's verdict "dead" counts as enough accusers, no more. So a stale
//! view that returns after a partition cannot kill the living (hazards M3, M35), and there is no way from alive to dead that
//! does not give the subject time to hear of it.
//! Whoever is silent for a probe and a suspicion is held for dead, be it crashed or starved: a crash is to be known within the same
//! time. Whoever gets a moment of processor meanwhile refutes, and has twice the time the next time.
//! Source: Lifeguard, section 4 (LHA-Suspicion); hazard M24 (independent accusers).

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use super::gossip::Class;
use super::{Counters, Swim};
use crate::accusation::{Accusation, Verdict};
use crate::event::{MemberEvent, SwimOutput};
use crate::ids::StoreId;
use crate::record::MemberState;
use crate::timing::Timing;

/// One member under suspicion.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    started: Duration,
    /// The own timer was late: nobody dies before this.
    not_before: Duration,
    deadline: Duration,
    /// Distinct, first come first; never empty; as many as make a difference.
    accusers: Vec<StoreId>,
    /// A peer waited out its own suspicion.
    confirmed: bool,
}

impl Suspicion {
    pub(crate) fn new(now: Duration, accusation: &Accusation, timing: &Timing) -> Self {
        let mut suspicion = Self {
            started: now,
            not_before: now,
            deadline: now,
            accusers: vec![accusation.accuser],
            confirmed: accusation.verdict == Verdict::Dead,
        };
        suspicion.set_deadline(now, timing);
        suspicion
    }

    /// Whether the accusation said something new; only then is it spread.
    pub(crate) fn add(&mut self, now: Duration, accusation: &Accusation, timing: &Timing) -> bool {
        let fresh = self.accusers.len() <= timing.confirmations
            && !self.accusers.contains(&accusation.accuser);
        if fresh {
            self.accusers.push(accusation.accuser);
        }
        let confirms = accusation.verdict == Verdict::Dead && !self.confirmed;
        self.confirmed |= confirms;
        self.set_deadline(now, timing);
        fresh || confirms
    }

    fn set_deadline(&mut self, now: Duration, timing: &Timing) {
        let lasts = if self.confirmed {
            timing.suspicion_least
        } else {
            timing.suspicion(self.accusers.len() - 1)
        };
        self.deadline = (self.started + lasts).max(self.not_before).max(now);
    }

    pub(crate) fn postpone(&mut self, until: Duration) {
        self.not_before = self.not_before.max(until);
        self.deadline = self.deadline.max(until);
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// In turn, so that all accusers become known by one slot of gossip.
    pub(crate) fn accuser(&self, turn: u32) -> StoreId {
        self.accusers[turn as usize % self.accusers.len()]
    }
}

/// Exactly the members in state `Suspect`, and when each suspicion ends.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    deadlines: BTreeMap<StoreId, Duration>,
    order: BTreeSet<(Duration, StoreId)>,
}

impl Suspects {
    pub(crate) fn set(&mut self, store: StoreId, deadline: Duration) {
        self.remove(store);
        self.deadlines.insert(store, deadline);
        self.order.insert((deadline, store));
    }

    pub(crate) fn remove(&mut self, store: StoreId) {
        if let Some(deadline) = self.deadlines.remove(&store) {
            self.order.remove(&(deadline, store));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn first_deadline(&self) -> Option<Duration> {
        self.order.first().map(|&(deadline, _)| deadline)
    }

    /// One whose time is over; it is a suspect no more.
    fn take_expired(&mut self, now: Duration) -> Option<StoreId> {
        let &(deadline, store) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.remove(store);
        Some(store)
    }
}

impl Swim {
    /// Suspicions that nobody refuted end in death, as this observer sees it.
    pub(super) fn expire_suspicions(&mut self, now: Duration) {
        while let Some(store) = self.suspects.take_expired(now) {
            self.members.update(store, |slot| {
                if let Some(member) = slot {
                    member.state = MemberState::Dead;
                    member.since = now;
                    member.suspicion = None;
                }
            });
            Counters::add(&mut self.counters.deaths);
            self.spread(now, store, Class::Liveness, false);
            self.outputs
                .push_back(SwimOutput::Event(MemberEvent::Died { store }));
        }
    }

    /// After a pause or overload of this process: what it did not hear is no evidence. Ask the suspects first; nobody dies
    /// before they had time to answer.
    pub(super) fn woke_late(&mut self, now: Duration) {
        Counters::add(&mut self.counters.late_wakes);
        self.health.raise(1);
        self.prober.start_over(now);
        let until = now + self.health.scale(self.options.probe_interval) * 2;
        let suspects: Vec<StoreId> = self.suspects.deadlines.keys().copied().collect();
        for store in suspects {
            let deadline = self.members.update(store, |slot| {
                let suspicion = slot.as_mut()?.suspicion.as_mut()?;
                suspicion.postpone(until);
                Some(suspicion.deadline())
            });
            if let Some(deadline) = deadline {
                self.suspects.set(store, deadline);
            }
            self.prober.hurry(store);
        }
    }
}
