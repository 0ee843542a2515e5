//! What a node tells the leader of the system group, how both find out that a word was lost, and what is buried by such words: as the
//! runtime's steward and group actors do it, around the same pure parts.
//!
//! Here: this part of [`World`]. Not here: what the system leader does by it (`steward`).

use core::time::Duration;

use synod::system::{Assurance, GroupReport, OrderKind, ReplicaAddress, Step, Sum};
use synod_consensus::{GroupId, ReplicaId, ReplicaKey};

use super::Sabotage;
use super::world::{Packet, World};
use crate::violation::{Violation, broken};

/// Who has been silent for less than this may count as there when a lost replica is retired: a report is made of answers of up to 1.2 s
/// before, may be 2 s on its way, and the retirement waits for other proposals, for as long as those may take.
const BURIED_AFTER: Duration = Duration::from_secs(6);

impl World {
    /// A report, if this replica leads and something changed or the last one is old.
    pub(super) fn report_if_due(&mut self, store: u64, group: GroupId, force: bool) {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return;
        };
        let Some(replica) = process.hosted.get_mut(&group) else {
            return;
        };
        if force {
            replica.reported = None;
        }
        let rests = replica.group.is_resting();
        let due = replica
            .reported
            .as_ref()
            .is_none_or(|(last, at)| last.is_due_after(now.saturating_sub(*at), rests));
        if replica.leadership.is_none() || !due {
            return;
        }
        let report = GroupReport::of(replica.group.status(), replica.fence, now);
        replica.reported = Some((report.clone(), now));
        process.reports.insert(group, report);
        if force {
            self.touch(store);
        }
    }

    /// Reports when the system leader may go on by it.
    pub(super) fn report_progress(&mut self, store: u64, group: GroupId) {
        let (now, rests) = (self.now, self.rests);
        let Some(replica) = self.replica(store, group) else {
            return;
        };
        let Some((last, at)) = replica.reported.as_ref().filter(|_| rests) else {
            return;
        };
        let looks = last.look_after();
        if looks.is_none_or(|pause| now.saturating_sub(*at) < pause) {
            return;
        }
        let report = GroupReport::of(replica.group.status(), replica.fence, now);
        if report.is_further_than(last) {
            self.report_if_due(store, group, true);
        }
    }

    pub(super) fn pass_reports(&mut self, store: u64) {
        let (now, rests) = (self.now, self.rests);
        let is_forgetful = self.sabotage == Some(Sabotage::SumsUnsaid);
        let Some(process) = self.process(store) else {
            return;
        };
        let system = process.hosted.get(&GroupId::ZERO);
        let leader = system.and_then(|system| system.leader);
        let level = process.system.level;
        let due = rests.then(|| process.reporting.look(now, leader, level));
        let due = due.flatten();
        let Some(to) = leader.map(|leader| ReplicaAddress::of(leader).store) else {
            return; // they wait
        };
        self.pass_waiting(store, to);
        if due == Some(Assurance::Sum)
            && to != store
            && !is_forgetful
            && let Some(process) = self.process(store)
        {
            // After what waited, as there.
            let hosted = &process.hosted;
            let leads = |group| hosted.get(&group).is_some_and(|replica| replica.leads());
            let sum = process.reporting.sum(leads);
            self.coverage.count("sums");
            self.send(store, to, Packet::Sum(sum));
        }
        if due == Some(Assurance::SayAgain) {
            // Its groups hear of it when these are gone.
            self.say_again(store);
        }
    }

    fn pass_waiting(&mut self, store: u64, to: u64) {
        let takes = !self.rests || self.takes_frames(store, to);
        let Some(process) = self.process(store) else {
            return;
        };
        let reports: Vec<GroupReport> = core::mem::take(&mut process.reports)
            .into_values()
            .collect();
        if reports.is_empty() {
            return;
        }
        if to == store {
            self.take_reports(store, reports);
        } else if takes {
            process.reporting.told(&reports);
            self.send(store, to, Packet::Reports(reports));
        } else {
            process.reporting.not_told();
            self.coverage.count("reports_not_sent");
        }
    }

    /// Whether a frame can be handed over to that node's connection. A node that ended closed its connection.
    fn takes_frames(&self, from: u64, to: u64) -> bool {
        let runs = { self.nodes.get(&to) }.is_some_and(|node| node.process.is_some());
        let cut = self.network.cut_since((from, to));
        // One that is cut breaks after a while.
        runs && cut.is_none_or(|since| self.now.saturating_sub(since) < Duration::from_secs(5))
    }

    fn say_again(&mut self, store: u64) {
        let Some(process) = self.process(store) else {
            return;
        };
        let led = { process.hosted.iter() }.filter(|(_, replica)| replica.leads());
        let led: Vec<GroupId> = led.map(|(group, _)| *group).collect();
        for group in led {
            self.report_if_due(store, group, true);
        }
    }

    /// The system leader lacks something that was said here.
    pub(super) fn asked_again(&mut self, store: u64) {
        let now = self.now;
        if let Some(process) = self.process(store) {
            process.reporting.asked_again(now);
            self.say_again(store);
        }
    }

    /// Of all that the groups at rest which a store leads have said here.
    pub(super) fn summed(&mut self, store: u64, from: u64, sum: Sum) {
        let Some(process) = self.process(store) else {
            return;
        };
        let leads = { process.hosted.get(&GroupId::ZERO) }.is_some_and(|replica| replica.leads());
        if leads && !process.reconciler.agrees(from, sum) {
            self.coverage.count("sums_differed");
            self.send(store, from, Packet::SayAgain);
        }
    }

    /// Reports to the leader of the system group.
    pub(super) fn reported(&mut self, store: u64, reports: Vec<GroupReport>) {
        if self.take_reports(store, reports) {
            self.touch(store);
        }
    }

    /// Whether there is anything new for the next steps now.
    fn take_reports(&mut self, store: u64, reports: Vec<GroupReport>) -> bool {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return false;
        };
        if !{ process.hosted.get(&GroupId::ZERO) }.is_some_and(|replica| replica.leads()) {
            return false;
        }
        for report in reports {
            process.reported |= process.reconciler.reported(now, report);
        }
        process.reported
    }

    pub(super) fn pass_lost(&mut self, store: u64) {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return;
        };
        let lost: Vec<(GroupId, ReplicaId)> = { process.lost.iter() }
            .map(|(group, replica)| (*group, *replica))
            .collect();
        let leader = process
            .hosted
            .get(&GroupId::ZERO)
            .and_then(|system| system.leader);
        let Some(leader) = leader.filter(|_| !lost.is_empty()) else {
            return;
        };
        for (group, replica) in &lost {
            let (group, replica) = (*group, *replica);
            self.ledger.loses(ReplicaKey { group, replica }, now);
        }
        let to = ReplicaAddress::of(leader).store;
        if to == store {
            self.heard_lost(store, &lost);
        } else {
            self.send(store, to, Packet::Lost(lost));
        }
    }

    pub(super) fn heard_lost(&mut self, store: u64, lost: &[(GroupId, ReplicaId)]) {
        let now = self.now;
        let trusts = self.sabotage == Some(Sabotage::OldWordsTrusted);
        let Some(process) = self.process(store) else {
            return;
        };
        if { process.hosted.get(&GroupId::ZERO) }.is_some_and(|replica| replica.leads()) {
            for (group, replica) in lost {
                process.reconciler.lost(now, *group, *replica);
                let old = process.reconciler.report(now, *group).cloned();
                if let Some(old) = old.filter(|old| old.resting && trusts) {
                    // As if it had been said just now.
                    let later = now + Duration::from_nanos(1);
                    process.reconciler.reported(later, old);
                }
            }
        }
    }

    /// Counts what is asked of groups at rest.
    pub(super) fn count_fence(&mut self, store: u64, step: &Step) {
        let now = self.now;
        let Step::Order(order) = step else { return };
        let Some(process) = self.nodes[&store].process.as_ref() else {
            return;
        };
        let group = order.group;
        let report = process.reconciler.report(now, group);
        let rests = report.is_some_and(|report| report.resting);
        if order.kind != OrderKind::Fence || !rests {
            return;
        }
        let listed = process.system.groups.get(&group);
        let mut listed = listed.into_iter().flat_map(|entry| &entry.replicas);
        let mourns = listed.any(|id| {
            let replica = *id;
            self.ledger.lost.contains(&ReplicaKey { group, replica })
        });
        self.coverage.count(match mourns {
            true => "fences_asked_over_a_loss",
            false => "fences_asked_at_rest",
        });
    }

    /// What a lost replica holds may be all that is left: a majority must be there without it, or have been lately enough for nobody to
    /// know better.
    pub(super) fn check_burial(&self, group: GroupId, lost: ReplicaId) -> Result<(), Violation> {
        let key = |replica: ReplicaId| ReplicaKey { group, replica };
        let Some(past) = self.ledger.groups.get(&group) else {
            return Ok(());
        };
        let configuration = &past.configuration.1;
        if !self.ledger.lost.contains(&key(lost)) || !configuration.contains(lost) {
            return Ok(());
        }
        let horizon = self.now.saturating_sub(BURIED_AFTER);
        let is_there = |id: &&ReplicaId| {
            let node = self.nodes.get(&ReplicaAddress::of(**id).store);
            let silent = node.is_none_or(|node| {
                let since = node.silent_since;
                since.is_some_and(|since| since <= horizon)
            });
            **id != lost && !silent && !self.ledger.lost_before(key(**id), horizon)
        };
        for half in [&configuration.voters, &configuration.outgoing] {
            let there = half.iter().filter(is_there).count();
            if !half.is_empty() && there * 2 <= half.len() {
                let detail = format!(
                    "{lost} of group {group} is retired while {there} of {half:?} are there\n{}",
                    self.describe(group)
                );
                return broken("Lost Replicas Wait", detail);
            }
        }
        Ok(())
    }
}
