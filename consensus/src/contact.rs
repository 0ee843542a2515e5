//! How a leader reaches a newcomer that does not exist yet.
//!
//! A replica is added to its group as soon as it is allotted, and its node may start it some milliseconds after the leader has spoken to
//! it: what arrives before it exists is dropped (H77). If only the next heartbeat were answered, that would be nearly all of a small
//! copy's way. Here: [`Contact`], when the leader asks those again that never said anything. Not here: everybody whom it has heard
//! (`heartbeat`), and those who were members before it led: who of them is dead it finds out by beats.

use core::time::Duration;

use crate::group::Group;
use crate::nanos::Nanos;
use crate::progress::{Feed, Progress};

/// When newcomers are asked again.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    at: Option<Nanos>,
    /// The gap before that; the next one is twice as long.
    gap: Nanos,
}

impl Contact {
    /// Somebody was added just now.
    pub(crate) fn begin(&mut self, now: Duration, gap: Duration) {
        self.gap = gap.into();
        self.at = Some((now + gap).into());
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.at.is_some_and(|at| at.get() <= now)
    }

    pub(crate) fn wake_at(&self) -> Option<Nanos> {
        self.at
    }

    /// They were asked. From a gap of a heartbeat on, heartbeats do as well.
    fn asked(&mut self, now: Duration, anybody: bool, heartbeat: Duration) {
        let gap = self.gap.get() * 2;
        let again = anybody && gap < heartbeat;
        self.gap = gap.into();
        self.at = again.then(|| (now + gap).into());
    }
}

impl Progress {
    /// Added under this leader, still a member, and nothing was heard of it yet, although it was asked something.
    fn waits_for_first_word(&self) -> bool {
        self.unheard
            && self.departed_at.is_none()
            && matches!(self.feed, Feed::Probe { waiting: true })
    }
}

impl Group {
    /// Lets the first append go out again to all who never answered.
    pub(crate) fn ask_newcomers(&mut self) {
        let (now, heartbeat) = (self.now, self.options.heartbeat_interval);
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let mut anybody = false;
        let silent = leadership.peers.iter_mut();
        for peer in silent.filter(|peer| peer.waits_for_first_word()) {
            peer.feed = Feed::Probe { waiting: false };
            anybody = true;
        }
        leadership.contact.asked(now, anybody, heartbeat);
    }
}
