//! What must hold at every moment.

use std::collections::BTreeMap;

use synod_consensus::{Entry, GroupId, LogIndex, Message, Position, ReadId, ReplicaId, Role, Term};

use super::world::Report;
use crate::violation::Violation;

/// What the replicas of one group said to each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) messages: u64,
    pub(super) pre_votes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) report: Report,
    /// Since somebody last cleared it.
    pub(super) said: BTreeMap<GroupId, Said>,
    leaders: BTreeMap<(GroupId, Term), ReplicaId>,
    /// What was applied first at each index.
    history: BTreeMap<(GroupId, LogIndex), Entry>,
    /// Proposed at a node, not applied there yet.
    proposed: BTreeMap<(u64, GroupId, LogIndex), Term>,
    /// The last acknowledged entry of each group.
    pub(super) acknowledged: BTreeMap<GroupId, LogIndex>,
    /// What a read must hold.
    reads: BTreeMap<(u64, GroupId, ReadId), LogIndex>,
    violation: Option<Violation>,
}

impl Watch {
    pub(super) fn fail(&mut self, invariant: &'static str, detail: String) {
        self.violation
            .get_or_insert(Violation { invariant, detail });
    }

    pub(super) fn verdict(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(super) fn role(&mut self, group: GroupId, replica: ReplicaId, role: Role, term: Term) {
        if role != Role::Leader {
            return;
        }
        let first = *self.leaders.entry((group, term)).or_insert(replica);
        if first != replica {
            self.fail(
                "Election Safety",
                format!("group {group}: two leaders in {term}"),
            );
        } else {
            self.report.coverage.count("leaderships");
        }
    }

    pub(super) fn said(&mut self, message: &Message) {
        self.report.coverage.count("raft");
        let said = self.said.entry(message.group).or_default();
        said.messages += 1;
        if message.name() == "pre_vote" {
            said.pre_votes += 1;
            self.report.coverage.count("pre-votes");
        }
    }

    pub(super) fn applied(&mut self, node: u64, group: GroupId, entry: &Entry) {
        let at = (group, entry.index);
        let first = self.history.entry(at).or_insert_with(|| entry.clone());
        if first != entry {
            self.fail(
                "State Machine Safety",
                format!("group {group}: two entries were applied at {}", entry.index),
            );
            return;
        }
        if self.proposed.remove(&(node, group, entry.index)) == Some(entry.term) {
            self.report.coverage.count("acknowledged");
            let last = self.acknowledged.entry(group).or_default();
            *last = entry.index.max(*last);
        }
    }

    pub(super) fn proposed(&mut self, node: u64, group: GroupId, at: Position) {
        self.proposed.insert((node, group, at.index), at.term);
    }

    pub(super) fn asked(&mut self, node: u64, group: GroupId, id: ReadId) {
        let floor = self.acknowledged.get(&group).copied().unwrap_or_default();
        self.reads.insert((node, group, id), floor);
    }

    pub(super) fn read(&mut self, node: u64, group: GroupId, id: ReadId, index: LogIndex) {
        let Some(floor) = self.reads.remove(&(node, group, id)) else {
            return;
        };
        self.report.coverage.count("reads");
        if index < floor {
            self.fail("Linearizable Reads", format!(
                "group {group}: a read at node {node} was answered with {index}, but {floor} had been acknowledged"
            ));
        }
    }

    /// A node forgets what it was asked.
    pub(super) fn crashed(&mut self, node: u64) {
        self.reads.retain(|(of, _, _), _| *of != node);
        self.proposed.retain(|(of, _, _), _| *of != node);
    }
}
