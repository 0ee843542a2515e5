//! What the process knows about itself that its gossip would not show.
//!
//! Here: [`Wellbeing`]: a process whose actors are stuck answers every ping, so it has to say so itself
//! ([`super::Swim::set_degraded`]): its record tells the others, and its own failed probes accuse nobody, for a bounded time. Then
//! it is told to isolate itself ([`MemberEvent::Isolated`]), and accuses again: a cluster in which everybody were sick and kept
//! silent would never notice a death. Not here: how a stuck actor is noticed (`runtime`).
//! Source: hazards M25 (Orleans: a sick judge must not vote, nor limp along for a day), M26 (pings answered while the application
//! is blocked).

use core::time::Duration;

use super::gossip::Class;
use super::{Phase, Swim};
use crate::event::{MemberEvent, SwimOutput};

/// A degraded node accuses nobody for so many probe intervals: 30 s on a LAN.
const ABSTAINS_INTERVALS: u32 = 60;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wellbeing {
    degraded_since: Option<Duration>,
    isolated: bool,
}

impl Wellbeing {
    pub(crate) fn abstains(&self) -> bool {
        self.degraded_since.is_some() && !self.isolated
    }
}

impl Swim {
    /// The process runs, but serves badly (its arbiters answer late), or does so no more. Others read it in the record's
    /// [`crate::Metadata::degraded`].
    pub fn set_degraded(&mut self, now: Duration, degraded: bool) {
        if degraded == self.wellbeing.degraded_since.is_some() || self.phase != Phase::Active {
            return;
        }
        self.wellbeing = Wellbeing {
            degraded_since: degraded.then_some(now),
            isolated: false,
        };
        self.restate(now, Class::Membership, |record| {
            record.metadata.degraded = degraded;
        });
    }

    pub(super) fn isolates_at(&self) -> Option<Duration> {
        let since = self.wellbeing.degraded_since?;
        (!self.wellbeing.isolated).then(|| since + self.options.probe_interval * ABSTAINS_INTERVALS)
    }

    pub(super) fn isolate(&mut self, now: Duration) {
        if self.isolates_at().is_none_or(|at| now < at) {
            return;
        }
        self.wellbeing.isolated = true;
        let event = MemberEvent::Isolated { store: self.me };
        self.outputs.push_back(SwimOutput::Event(event));
    }
}
