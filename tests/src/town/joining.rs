//! How nodes come: as founders, or let in by the system group.
//!
//! Here: this part of [`World`]. Not here: who leaves, and how (`faults`).

use core::time::Duration;

use bytes::Bytes;
use rand::Rng;
use synod::system::{
    BUILD_LEVEL, Description, MemberEntry, ReplicaAddress, SystemCommand, SystemOutcome,
};
use synod_consensus::{Configuration, GroupId, ReplicaId, ReplicaKey, SnapshotMeta, Write};

use super::descriptions::draw;
use super::faults::Undo;
use super::node::{Node, Waits, Writing};
use super::world::{Event, World};
use crate::violation::Violation;

/// An applicant without an answer asks again after so long.
const APPLY_AGAIN: Duration = Duration::from_millis(900);

/// A node that wants to be let in.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) member: MemberEntry,
    pub(super) admitted: bool,
}

impl World {
    /// The founders, each with its replicas as the founding says.
    pub(super) fn found(&mut self) {
        let births = self.founding.births();
        for (store, member) in self.founding.members() {
            let MemberEntry { zone, capacity, .. } = member;
            let sync = self.draw_sync();
            let mut node = Node::new(store, Description { zone, capacity }, sync);
            for (group, birth) in &births {
                let configuration = Configuration {
                    voters: birth.voters.clone().into(),
                    learners: birth.learners.clone().into(),
                    ..Configuration::default()
                };
                self.ledger.founded(*group, configuration.clone());
                let replicas = birth.replicas();
                let mine = |id: &&ReplicaId| ReplicaAddress::of(**id).store == store;
                if let Some(&replica) = replicas.iter().find(mine) {
                    let group = *group;
                    let key = ReplicaKey { group, replica };
                    let to = SnapshotMeta::founding(configuration);
                    self.bear(&mut node, key, to);
                }
            }
            self.nodes.insert(store, node);
        }
    }

    fn draw_sync(&mut self) -> Duration {
        Duration::from_micros([300, 1_500, 6_000][self.rng.random_range(0..3)])
    }

    /// A node comes with this replica on its disk, whose log begins after `to`.
    fn bear(&mut self, node: &mut Node, key: ReplicaKey, to: SnapshotMeta) {
        let born = Writing::Log {
            key,
            token: None,
            writes: vec![Write::Reset { to }],
        };
        node.disk.write(&born).expect("an empty disk takes it");
        self.ledger.lived.insert(key);
    }

    /// Somebody wants to be let in.
    pub(super) fn join(&mut self) {
        let number = self.applicants.len();
        let Description { zone, capacity } = draw(&mut self.rng, self.zones, self.alike);
        self.applicants.push(Applicant {
            member: MemberEntry {
                name: name(1_000 + number as u64),
                key: Bytes::new(),
                capacity,
                zone,
                nonce: number as u64 + 1,
                level: BUILD_LEVEL,
                described: 0,
            },
            admitted: false,
        });
        self.coverage.count("joins");
        self.push(Duration::ZERO, Event::Apply(number));
    }

    pub(super) fn apply_for_admission(&mut self, number: usize) -> Result<(), Violation> {
        let applicant = &self.applicants[number];
        if applicant.admitted {
            return Ok(());
        }
        let member = applicant.member.clone();
        if let Some(leader) = self.system_leader()
            && self.ledger.system.founding.is_some()
        {
            let command = SystemCommand::Admit(member);
            self.propose_system(leader, &command, Waits::Applicant(number))?;
        }
        self.push(APPLY_AGAIN, Event::Apply(number));
        Ok(())
    }

    /// The system group's word on an applicant.
    pub(super) fn answered(&mut self, number: usize, outcome: &SystemOutcome) {
        let applicant = &mut self.applicants[number];
        let SystemOutcome::Admitted { store, replica } = *outcome else {
            return;
        };
        if core::mem::replace(&mut applicant.admitted, true) {
            return;
        }
        let (zone, capacity) = (applicant.member.zone.clone(), applicant.member.capacity);
        let sync = self.draw_sync();
        let mut node = Node::new(store, Description { zone, capacity }, sync);
        let key = ReplicaKey {
            group: GroupId::ZERO,
            replica,
        };
        self.bear(&mut node, key, SnapshotMeta::default());
        self.nodes.insert(store, node);
        self.push(Duration::ZERO, Event::Undo(Undo::Start { store }));
        self.coverage.count("admissions");
    }
}

/// What a founder or applicant is called.
pub(super) fn name(number: u64) -> String {
    format!("n{number}")
}
