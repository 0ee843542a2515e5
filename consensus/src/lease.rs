//! How a leader answers reads without asking anybody, for a while.
//!
//! Here, on the follower: the promise that goes with every answer to a heartbeat: for so long, by this replica's own clock, it neither
//! campaigns nor helps anybody but that leader, except on that leader's own wish (a transfer). On the leader: the lease, which
//! lasts as long as a quorum's promises do, counted from when the answered heartbeat was *sent* (H58) and shortened by what two
//! clocks may drift apart. Not here: the rounds that confirm reads without a lease (`read_index`).
//!
//! What must hold: while a leader's lease lasts, nobody else can win an election. Every election needs a quorum that shares a
//! voter with the quorum that promised; that voter keeps its promise over everything but
//! - its own restart: then it keeps still for the longest promise it could have given (H57, E20);
//! - a transfer: so a leader that told anybody to campaign has no lease any more in that term, however the transfer ends, for the
//!   word may arrive late (H59).
//!
//! A leader that is no voter of the effective configuration has no lease: the rest may elect without any of its quorum.
//! Safety rests on one assumption about time: over the length of a lease, no clock of the group runs more than
//! `GroupOptions::clock_drift_ppm` faster or slower than another. The clock must not stand still while a machine is suspended.
//! Source: Ongaro's thesis, 6.4.1; H57-H59, E19, E20.

use core::time::Duration;

use crate::ReplicaId;
use crate::group::Group;
use crate::nanos::Nanos;
use crate::options::Sabotage;

/// What this replica promised, and to whom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promised {
    /// Whom it may still help; nobody after a restart, which forgets whom it was.
    to: Option<ReplicaId>,
    until: Nanos,
}

impl Group {
    /// After a restart: a promise may have been given just before it. A replica that is new promised nothing, and a sole voter
    /// has nobody that could lead by its promise.
    pub(crate) fn remember_promises(&mut self, is_new: bool) {
        if !is_new && !self.is_sole_voter() && !self.is_sabotaged(Sabotage::PromiseForgotten) {
            self.promised = Promised {
                to: None,
                until: (self.now + self.options.lease).into(),
            };
        }
    }

    /// Promises the leader `to` what these options allow, from now on; returns for how long. Nothing as long as the term is not
    /// on disk: a restart would not know that there is something to keep.
    pub(crate) fn promise_lease(&mut self, to: ReplicaId) -> Duration {
        if self.options.lease.is_zero() || !self.may_promise() {
            return Duration::ZERO;
        }
        self.promised = Promised {
            to: Some(to),
            until: (self.now + self.options.lease).into(),
        };
        self.options.lease
    }

    /// Whether a promise forbids to help `candidate` (or, if that is this replica, to campaign).
    pub(crate) fn is_bound_against(&self, candidate: ReplicaId) -> bool {
        self.now < self.promised.until.get() && self.promised.to != Some(candidate)
    }

    /// When this replica may campaign, as far as promises go.
    pub(crate) fn free_at(&self) -> Duration {
        self.promised.until.get()
    }

    /// `from` answered a heartbeat sent at `sent`, and promised to hold still for `promised` after it arrived.
    pub(crate) fn extend_lease(&mut self, from: ReplicaId, sent: Duration, promised: Duration) {
        let drift = match self.options.sabotage {
            Some(Sabotage::DriftIgnored) => 0,
            _ => self.options.clock_drift_ppm,
        };
        let begun = match self.options.sabotage {
            Some(Sabotage::LeaseFromAnswer) => self.now,
            _ => sent,
        };
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let Some(peer) = leadership.peer(from) else {
            return;
        };
        let kept = promised.min(LONGEST) * (1_000_000 - drift) / 1_000_000;
        peer.promised_until = peer.promised_until.max((begun + kept).into());
    }

    /// Whether nobody else can lead at this moment, by the promises of a quorum. The time of the present input counts: take it
    /// after the read arrived.
    pub(crate) fn has_lease(&self) -> bool {
        self.holds_lease(self.now)
    }

    /// The same at `now`, no earlier than the last input; for simulators, which look at it between two inputs, too.
    #[doc(hidden)]
    pub fn holds_lease(&self, now: Duration) -> bool {
        let Some(leadership) = &self.leadership else {
            return false;
        };
        let given_up =
            leadership.lease_given_up && !self.is_sabotaged(Sabotage::LeaseKeptInTransfer);
        if !self.options.lease_reads || given_up || !self.configuration().voters.contains(&self.me)
        {
            return false;
        }
        let beats = self.resting && self.is_sabotaged(Sabotage::LeaseFromBeats);
        leadership
            .halves
            .agree(self.options.sabotage, true, |place| {
                let peer = &leadership.peers[place];
                now < peer.promised_until.get() || (beats && peer.rests)
            })
    }
}

/// No promise counts for longer, whatever a message says.
const LONGEST: Duration = Duration::from_secs(60);
