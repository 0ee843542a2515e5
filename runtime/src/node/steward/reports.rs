//! What a node tells the leader of the system group, and how both find out that a word was lost.
//!
//! Here: [`Reporting`], passing on what the groups led here report and which replicas stopped for good. Not here: what is reported
//! (`system::report`), the sums (`system::sums`).

use core::time::Duration;

use actix::Handler;
use synod_consensus::{GroupId, ReplicaId};

use super::{NodeFrame, Steward};
use crate::group::actor::ReportAgain;
use crate::group::lock;
use crate::system::{GroupReport, ReplicaAddress, SUMMED, Sum, Told};
use crate::transport::Lane;

/// So often a node sums up what its groups at rest said; twice as rarely each time when that was asked for again, for a sum may differ as
/// long as somebody who leads now cannot reach the system leader (M31).
const SUMS_EVERY: Duration = Duration::from_secs(10);
/// At most so many times twice.
const DOUBLED_MAX: u32 = 5;
/// Groups at rest say everything again so often while some members' build compares no sums.
const REPORTS_AGAIN: Duration = Duration::from_secs(30);

/// What the leader of the system group was told from here.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    /// Whom the groups led here report to.
    to: Option<ReplicaId>,
    told: Told,
    /// When it was last made sure that nothing was lost.
    checked: Duration,
    /// How many sums in a row the system leader did not come to.
    differed: u32,
    /// It has not said so of the last one.
    agrees: bool,
}

impl Steward {
    /// Groups that rest report nothing by themselves: another leader of the system group has to be told.
    fn ask_for_reports(&mut self) {
        let system = self.shared.registry.get(GroupId::ZERO);
        let Some(leader) = system.and_then(|hosted| hosted.leader()) else {
            self.reporting.to = None;
            return;
        };
        let now = self.now();
        let since = now.saturating_sub(self.reporting.checked);
        if self.reporting.to != Some(leader) {
            self.reporting.to = Some(leader);
            self.reporting.differed = 0;
            self.say_again();
        } else if self.seen_level < SUMMED && since >= REPORTS_AGAIN {
            self.say_again();
        } else if self.seen_level >= SUMMED && since >= SUMS_EVERY * (1 << self.reporting.differed)
        {
            self.reporting.checked = now;
            if std::mem::replace(&mut self.reporting.agrees, true) {
                self.reporting.differed = 0;
            }
            let store = ReplicaAddress::of(leader).store;
            if store != self.shared.store {
                let lookup = self.shared.registry.lookup();
                let leads = |group| lookup.get(group).is_some_and(|hosted| hosted.leads());
                let sum = self.reporting.told.sum(leads);
                drop(lookup);
                self.tell(store, NodeFrame::sum(&sum));
            }
        }
    }

    fn say_again(&mut self) {
        self.reporting.checked = self.now();
        for (_, hosted) in self.shared.registry.all() {
            if hosted.leads() {
                hosted.group.do_send(ReportAgain);
            }
        }
    }

    /// Says it to that store. Returns whether it is on its way.
    fn tell(&self, store: u64, frame: bytes::Bytes) -> bool {
        let transport = &self.shared.transport;
        transport.send(store, Lane::Request, vec![frame]).is_ok()
    }

    pub(super) fn pass_reports(&mut self) {
        self.ask_for_reports();
        let system = self.shared.registry.get(GroupId::ZERO);
        let Some(leader) = system.and_then(|hosted| hosted.leader_store()) else {
            return; // they wait
        };
        let reports = std::mem::take(&mut *lock(&self.shared.reports));
        if reports.is_empty() {
            return;
        }
        let reports: Vec<GroupReport> = reports.into_values().collect();
        if self.leads_system() {
            self.take_reports(reports);
        } else if self.tell(leader, NodeFrame::reports(&reports)) {
            for report in &reports {
                self.reporting.told.tell(report);
            }
        } else {
            // What rests does not say it again by itself.
            self.reporting.to = None;
        }
    }

    /// Says again which replicas here stopped for good, until the log has retired them.
    pub(super) fn pass_lost(&mut self) {
        let lost: Vec<(GroupId, ReplicaId)> = lock(&self.shared.lost)
            .iter()
            .map(|(group, replica)| (*group, *replica))
            .collect();
        if lost.is_empty() {
            return;
        }
        if self.leads_system() {
            self.take_lost(lost);
            return;
        }
        let system = self.shared.registry.get(GroupId::ZERO);
        if let Some(leader) = system.and_then(|hosted| hosted.leader_store()) {
            self.tell(leader, NodeFrame::lost(&lost)); // said again until it is heard
        }
    }

    fn take_lost(&mut self, lost: Vec<(GroupId, ReplicaId)>) {
        let now = self.now();
        for (group, replica) in lost {
            self.reconciler.lost(now, group, replica);
        }
    }

    fn take_reports(&mut self, reports: Vec<GroupReport>) {
        let now = self.now();
        for report in reports {
            self.reported |= self.reconciler.reported(now, report);
        }
    }
}

/// What leaders elsewhere say about their groups.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Reported(pub(crate) Vec<GroupReport>);

impl Handler<Reported> for Steward {
    type Result = ();
    fn handle(&mut self, Reported(reports): Reported, _ctx: &mut Self::Context) {
        if self.leads_system() {
            self.take_reports(reports);
            if self.reported {
                self.shared.touch();
            }
        }
    }
}

/// Of all that the groups at rest which a store leads have said here.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Summed {
    pub(crate) store: u64,
    pub(crate) sum: Sum,
}

impl Handler<Summed> for Steward {
    type Result = ();
    fn handle(&mut self, Summed { store, sum }: Summed, _ctx: &mut Self::Context) {
        if self.leads_system() && !self.reconciler.agrees(store, sum) {
            tracing::debug!(
                store,
                "its groups at rest were reported otherwise here: they are to be reported again"
            );
            self.tell(store, NodeFrame::say_again()); // lost, the next sum asks for it again
        }
    }
}

/// The leader of the system group lacks something that was said here.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct SayAgain;

impl Handler<SayAgain> for Steward {
    type Result = ();
    fn handle(&mut self, _: SayAgain, _ctx: &mut Self::Context) {
        if std::mem::take(&mut self.reporting.agrees) {
            self.reporting.differed = (self.reporting.differed + 1).min(DOUBLED_MAX);
        }
        self.say_again();
    }
}

/// Replicas of another store that stopped for good.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct LostElsewhere(pub(crate) Vec<(GroupId, ReplicaId)>);

impl Handler<LostElsewhere> for Steward {
    type Result = ();
    fn handle(&mut self, LostElsewhere(lost): LostElsewhere, _ctx: &mut Self::Context) {
        if self.leads_system() {
            self.take_lost(lost);
        }
    }
}
