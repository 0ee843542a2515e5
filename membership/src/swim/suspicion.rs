//! The time a suspected member has to refute, and who accuses it.
//!
//! Here: [`Suspicion`] and what happens when it ends. Every observer waits at least the shortest suspicion time by its own clock
//! before it holds a member for dead, whatever it is told: a peer's verdict "dead" counts as enough accusers, no more. So a stale
//! view that returns after a partition cannot kill the living (hazards M3, M35), and there is no way from alive to dead that
//! does not give the subject time to hear of it.
//! Source: Lifeguard, section 4 (LHA-Suspicion); hazard M24 (independent accusers).

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

impl Swim {
    /// Suspicions that nobody refuted end in death, as this observer sees it.
    pub(super) fn expire_suspicions(&mut self, now: Duration) {
        let expired: Vec<StoreId> = self
            .suspects
            .iter()
            .copied()
            .filter(|&store| {
                self.suspicion(store)
                    .is_some_and(|suspicion| suspicion.deadline <= now)
            })
            .collect();
        for store in expired {
            self.suspects.remove(&store);
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

    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.suspects
            .iter()
            .filter_map(|&store| self.suspicion(store))
            .map(Suspicion::deadline)
            .min()
    }

    fn suspicion(&self, store: StoreId) -> Option<&Suspicion> {
        self.members.get(store)?.suspicion.as_ref()
    }

    /// After a pause or overload of this process: what it did not hear is no evidence. Ask the suspects first; nobody dies
    /// before they had time to answer.
    pub(super) fn woke_late(&mut self, now: Duration) {
        Counters::add(&mut self.counters.late_wakes);
        self.health.raise(1);
        self.prober.start_over(now);
        let until = now + self.health.scale(self.options.probe_interval) * 2;
        for store in self.suspects.clone() {
            self.members.update(store, |slot| {
                if let Some(suspicion) = slot.as_mut().and_then(|member| member.suspicion.as_mut())
                {
                    suspicion.postpone(until);
                }
            });
            self.prober.hurry(store);
        }
    }
}
