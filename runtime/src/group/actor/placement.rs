//! What a group tells the system leader, and what it is told to do.
//!
//! Here: reports, and orders carried out: changes of the configuration, moves of the leadership. Not here: who decides
//! (`system::reconcile`).

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{AsyncContext, Context, Handler};
use synod_consensus::{Change, ReplicaId};

use super::GroupActor;
use crate::group::evaluator::Pause;
use crate::group::lock;
use crate::group::shared::Counters;
use crate::system::{GroupReport, Order, OrderKind, PEER_ACTIVE, ReplicaAddress, Stamp};

/// How long commands may wait for a leadership to move before they are evaluated here after all.
const TRANSFER_PAUSE: Duration = Duration::from_millis(400);
/// An evaluator that was told to pause and has not said for so long that it is drained never will: its arbiter is stuck. Far above
/// [`TRANSFER_PAUSE`] and any turn of a busy machine.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
impl GroupActor {
    /// Posts a report at once.
    pub(super) fn report(&mut self, force: bool) {
        if force {
            self.reported = None;
        }
        if let Some(report) = self.fresh_report() {
            self.post(report);
        }
    }

    /// A report, if this replica leads and something changed or the last one is old.
    pub(super) fn fresh_report(&self) -> Option<GroupReport> {
        self.leadership?;
        let now = self.now();
        let rests = self.group.is_resting();
        let due = self.reported.as_ref().is_none_or(|known| {
            let (last, at) = (&known.0, known.1);
            last.is_due_after(now.saturating_sub(at), rests)
        });
        due.then(|| GroupReport::of(self.group.status(), self.fence, now))
    }

    /// Reports when the system leader may go on by it; costs nothing while nothing is under way.
    pub(super) fn report_progress(&mut self) {
        let now = self.now();
        let Some((last, at)) = self.reported.as_deref() else {
            return;
        };
        let looks = last.look_after();
        if looks.is_none_or(|pause| now.saturating_sub(*at) < pause) {
            return;
        }
        let report = GroupReport::of(self.group.status(), self.fence, now);
        if report.is_further_than(last) {
            self.post(report);
        }
    }

    pub(super) fn post(&mut self, report: GroupReport) {
        let now = self.now();
        let news = self.reported.as_ref().is_none_or(|known| {
            let last = &known.0;
            last.configuration_index != report.configuration_index || report.is_further_than(last)
        });
        self.reported = Some(Box::new((report.clone(), now)));
        lock(&self.shared.reports).insert(self.key.group, report);
        if news {
            self.shared.touch();
        }
    }

    pub(super) fn carry_out(&mut self, order: Order, ctx: &mut Context<Self>) {
        if self.leadership.is_none()
            || self.handing_over.to().is_some()
            || !self.fence.accept(&order, self.key.replica, self.role.1)
        {
            return;
        }
        let configuration = self.group.status().configuration;
        if order.brings_retired(&lock(&self.shared.system), &configuration) {
            tracing::debug!(group = %self.key.group, "an order brings a retired replica in");
            return;
        }
        let now = self.now();
        match order.kind {
            OrderKind::Fence => self.report(true),
            OrderKind::Change {
                expected,
                voters,
                learners,
            } => {
                match self.group.change(
                    now,
                    Change {
                        expected,
                        voters,
                        learners,
                    },
                ) {
                    Ok(_) => Counters::bump(&self.shared.counters.moves),
                    Err(error) => {
                        tracing::debug!(group = %self.key.group, %error, "change not begun")
                    }
                }
                self.flush(ctx);
            }
            OrderKind::Transfer { to } => {
                match self.group.prepare_transfer(now, to) {
                    Ok(()) => {
                        Counters::bump(&self.shared.counters.moves);
                        self.handing_over.begin(to);
                    }
                    Err(error) => {
                        tracing::debug!(group = %self.key.group, %to, %error, "transfer not prepared")
                    }
                }
                self.flush(ctx);
            }
        }
    }

    /// The heir is near: what is evaluated here comes to its end, then leadership moves.
    pub(super) fn drain_for(&mut self, to: ReplicaId, ctx: &mut Context<Self>) {
        let Some(attempt) = self.handing_over.attempt_for(to) else {
            return;
        };
        let Some(evaluator) = &self.evaluator else {
            return self.hand_over();
        };
        evaluator.do_send(Pause {
            attempt,
            deadline: self.now() + TRANSFER_PAUSE,
        });
        // One whose arbiter is stuck never says that it is drained. What it says later is refused, or is of a leadership that is over.
        ctx.run_later(DRAIN_PATIENCE, move |actor, ctx| {
            if actor.handing_over.is_still(attempt) {
                actor.hand_over();
                actor.flush(ctx);
            }
        });
    }

    fn hand_over(&mut self) {
        let Some(to) = self.handing_over.to() else {
            return;
        };
        let now = self.now();
        if let Err(error) = self.group.transfer(now, to) {
            tracing::debug!(group = %self.key.group, %to, %error, "leadership not moved");
            self.resume_evaluation();
        }
    }
}

/// The evaluator has nothing open: leadership may move.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Drained {
    pub(crate) serial: u64,
    /// Of the pause that this answers.
    pub(crate) attempt: u64,
}

impl Handler<Drained> for GroupActor {
    type Result = ();
    fn handle(&mut self, Drained { serial, attempt }: Drained, ctx: &mut Self::Context) {
        if self.leadership == Some(serial) && self.handing_over.is_still(attempt) {
            self.hand_over();
            self.flush(ctx);
        }
    }
}

/// A report is wanted: the system leader may be another one.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct ReportAgain;

impl Handler<ReportAgain> for GroupActor {
    type Result = ();
    fn handle(&mut self, _: ReportAgain, _ctx: &mut Self::Context) {
        self.report(true);
    }
}

/// An order of the system leader.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct CarryOut(pub(crate) Order);

impl Handler<CarryOut> for GroupActor {
    type Result = ();
    fn handle(&mut self, CarryOut(order): CarryOut, ctx: &mut Self::Context) {
        if !self.stopped {
            self.carry_out(order, ctx);
        }
    }
}

/// Move the leadership to any caught-up voter: this node is about to stop, or is not well.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct StepAside {
    /// Stores that may take over; `None`: all.
    pub(crate) heirs: Option<Arc<BTreeSet<u64>>>,
}

impl Handler<StepAside> for GroupActor {
    type Result = ();
    fn handle(&mut self, StepAside { heirs }: StepAside, ctx: &mut Self::Context) {
        // What the system leader wished and is only prepared gives way; what this node wished itself has its time.
        let gives_way = |to| Some(to) != self.last_heir && self.group.status().prepares == Some(to);
        if self.handing_over.to().is_some_and(|to| !gives_way(to)) {
            return;
        }
        let may_lead = |replica| {
            let store = ReplicaAddress::of(replica).store;
            heirs.as_ref().is_none_or(|heirs| heirs.contains(&store))
        };
        let now = self.now();
        let status = self.group.status();
        let heir = status
            .peers
            .iter()
            .filter(|peer| status.configuration.voters.contains(&peer.replica))
            .filter(|peer| may_lead(peer.replica))
            .filter(|peer| peer.answers(now, PEER_ACTIVE))
            .max_by_key(|peer| (Some(peer.replica) != self.last_heir, peer.matched));
        if let Some(heir) = heir {
            self.last_heir = Some(heir.replica);
            self.handing_over.end();
            let order = Order {
                group: self.key.group,
                leader: self.key.replica,
                term: self.role.1,
                stamp: Stamp::default(), // this node's own wish
                kind: OrderKind::Transfer { to: heir.replica },
            };
            self.carry_out(order, ctx);
        }
    }
}
