//! How a node's words reach the leader of the system group, and its answers come back.
//!
//! Here: passing on what the groups led here report, the sums of it, and which replicas stopped for good. Not here: what is reported
//! (`system::report`), when it is made sure that nothing was lost (`system::reporting`).

use actix::Handler;
use synod_consensus::{GroupId, ReplicaId};

use super::{NodeFrame, Steward};
use crate::group::actor::ReportAgain;
use crate::group::lock;
use crate::system::{Assurance, GroupReport, ReplicaAddress, Sum};
use crate::transport::Lane;

/// Reports in one frame: a quarter of a mebibyte, about. A node may lead more groups than one frame could tell of.
const REPORTS_MAX: usize = 1_024;

impl Steward {
    fn say_again(&self) {
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

    /// Passes on what was reported here, and sees to it that nothing which was said is lost.
    pub(super) fn pass_reports(&mut self) {
        let system = self.shared.registry.get(GroupId::ZERO);
        let leader = system.and_then(|hosted| hosted.leader());
        let due = self.reporting.look(self.now(), leader, self.seen_level);
        let Some(leader) = leader.map(|leader| ReplicaAddress::of(leader).store) else {
            return; // they wait
        };
        self.pass_waiting_reports(leader);
        match due {
            Some(Assurance::SayAgain) => self.say_again(),
            // After what waited: a leadership that has just ended is in no sum any more, and must have been taken back.
            Some(Assurance::Sum) if leader != self.shared.store => {
                let lookup = self.shared.registry.lookup();
                let leads = |group| lookup.get(group).is_some_and(|hosted| hosted.leads());
                let sum = self.reporting.sum(leads);
                drop(lookup);
                self.tell(leader, NodeFrame::sum(&sum));
            }
            _ => {}
        }
    }

    fn pass_waiting_reports(&mut self, leader: u64) {
        let reports = std::mem::take(&mut *lock(&self.shared.reports));
        if reports.is_empty() {
            return;
        }
        let reports: Vec<GroupReport> = reports.into_values().collect();
        if self.leads_system() {
            self.take_reports(reports);
            return;
        }
        for some in reports.chunks(REPORTS_MAX) {
            if self.tell(leader, NodeFrame::reports(some)) {
                self.reporting.told(some);
            } else {
                self.reporting.not_told();
            }
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
        self.reporting.asked_again(self.now());
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
