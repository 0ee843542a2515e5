//! After the faults: what must be so again, and whether it is.

use core::time::Duration;

use super::event::Event;
use super::replica::Replica;
use super::world::World;
use crate::violation::{Violation, broken};

impl World {
    /// Faults are over: links are whole, processes run, disks move.
    pub(super) fn heal(&mut self) {
        self.healing = true;
        self.network.heal();
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            let replica = self.replicas.get_mut(&id).expect("listed");
            replica.stall = None;
            replica.disk.set_capacity(None);
            if !replica.is_up() && !replica.retired {
                self.push(Duration::ZERO, Event::Start { id });
            }
            self.resume(id, true);
        }
    }

    /// One leader, one configuration, and every living member has applied what the leader has, and says so.
    pub(super) fn agrees(&self) -> bool {
        let Some(leader) = self.settled_leader() else {
            return false;
        };
        if leader.applied < leader.commit || leader.applied < self.history.committed() {
            return false;
        }
        leader
            .configuration
            .members()
            .iter()
            .filter(|member| self.replicas.get(member).is_some_and(|r| !r.retired))
            .all(|member| {
                let process = self.replicas[member].process.as_ref();
                process.is_some_and(|process| {
                    let status = &process.status;
                    let near = status.applied.plus(64) >= leader.applied;
                    near && status.caught_up
                        && status.leader == Some(leader.replica)
                        && status.configuration_index == leader.configuration_index
                })
            })
    }

    /// What was acknowledged is in the state of the leader that everybody follows.
    pub(super) fn check_acknowledged(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.settled_leader() else {
            return Ok(());
        };
        let last = self.history.last_acknowledged();
        if leader.applied < last {
            let detail = format!(
                "{last} was acknowledged, the leader's state ends at {}",
                leader.applied
            );
            return self.history.judge(broken("Acknowledged Commands", detail));
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let line = |replica: &Replica| match &replica.process {
            Some(process) => {
                let s = &process.status;
                format!(
                    "{} {:?} term {} leader {:?} commit {} applied {} last {} configuration {} {:?}",
                    s.replica,
                    s.role,
                    s.term,
                    s.leader,
                    s.commit,
                    s.applied,
                    s.last,
                    s.configuration_index,
                    s.configuration
                )
            }
            None => format!("{} down, retired {}", replica.id(), replica.retired),
        };
        let founders = self.founders;
        format!(
            "{founders} founders\n  {}",
            self.replicas
                .values()
                .map(line)
                .collect::<Vec<_>>()
                .join("\n  ")
        )
    }
}
