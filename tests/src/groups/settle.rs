//! What follows from a step of one replica: messages leave, timers and disks are set going, invariants are looked at.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rand::Rng;
use synod_consensus::{Configuration, Message, ReplicaId, Role, Term};

use super::event::Event;
use super::watch::Cause;
use super::world::World;
use crate::violation::Violation;

/// Term, whether it led, and the last configuration in its log, of a process before a step.
type InForce = Option<(Term, bool, Option<Arc<Configuration>>)>;

impl World {
    /// Draws a replica's outputs, sets its timers, holds it against the invariants.
    pub(super) fn settle(&mut self, id: ReplicaId, cause: Cause) -> Result<(), Violation> {
        if !self.replicas.contains_key(&id) {
            return Ok(());
        }
        let (now, step, forgives) = (self.now, self.steps, self.history.forgives());
        let (replica, mut witnesses) = self.with_witnesses(id);
        let in_force = replica.process.as_ref().map(|process| {
            let leads = process.status.role == Role::Leader;
            (process.status.term, leads, process.asked.in_force())
        });
        let drained = if forgives {
            match catch_unwind(AssertUnwindSafe(|| {
                replica.drain(now, step, &mut witnesses)
            })) {
                Ok(drained) => drained?,
                Err(_) => return self.stopped_itself(Some(id)),
            }
        } else {
            replica.drain(now, step, &mut witnesses)?
        };
        if !replica.is_up() {
            return Ok(());
        }
        let life = replica.life;
        for message in drained.messages {
            self.send(&message);
        }
        if drained.write {
            self.schedule_write(id);
        }
        if drained.apply {
            self.schedule_apply(id);
        }
        if drained.freight {
            self.schedule_freight(id);
        }
        if drained.install && !self.healing && self.rng.random_bool(0.06) {
            let soon = Duration::from_micros(self.rng.random_range(0..20_000));
            self.push(soon, Event::Crash { id, life });
        }
        if drained.shipments {
            self.admit_shipments(id);
        }
        self.check(id, cause, in_force)?;
        if drained.checkpoint {
            let soon = Duration::from_micros(self.rng.random_range(100..50_000));
            self.push(soon, Event::CheckpointAnew { id, life });
        }
        if drained.removed {
            self.retire(id);
            return Ok(());
        }
        let process = self.running(id);
        let clock = process.clock;
        let due = process.group.wake_at().map(|at| clock.when(at).max(now));
        if let Some(at) = due.filter(|at| process.tick_at.is_none_or(|set| *at < set)) {
            process.tick_at = Some(at);
            self.push(at - now, Event::Tick { id, life, at });
        }
        Ok(())
    }

    /// Now and then, half-way through a snapshot from `from` to `to`, its receiver has reason to campaign.
    pub(super) fn disturb_snapshot(&mut self, begins: Duration, from: ReplicaId, to: ReplicaId) {
        if self.healing {
            return;
        }
        let soon = begins + Duration::from_micros(self.rng.random_range(0..15_000));
        match self.rng.random_range(0..8) {
            0..3 => {
                let lasting = Duration::from_millis(self.rng.random_range(1_000..4_000));
                self.cut(soon, vec![(from, to), (to, from)], lasting);
            }
            3 => {
                let life = self.replicas[&to].life;
                let event = Event::Suspect {
                    id: to,
                    life,
                    peer: from,
                };
                self.push(soon, event);
            }
            _ => {}
        }
    }

    /// Now and then, a node that is told to give up its place is shut down or loses its links just then.
    fn disturb_transfer(&mut self, from: ReplicaId) {
        let is_tried = self
            .deaf_in_transfer
            .take_if(|deaf| *deaf == from)
            .is_some();
        if self.healing || !(is_tried || self.rng.random_bool(0.3)) {
            return;
        }
        let mut links = self.all_links_of(from);
        let mut soon = Duration::from_micros(self.rng.random_range(0..6_000));
        if is_tried || self.rng.random() {
            // It hears nothing of what its word leads to.
            links.retain(|(_, to)| *to == from);
            soon = Duration::ZERO;
        }
        let lasting = Duration::from_millis(self.rng.random_range(300..3_000));
        self.cut(soon, links, lasting);
    }

    /// `in_force`: term, whether it led, and the last configuration in its log before this step.
    fn check(&mut self, id: ReplicaId, cause: Cause, in_force: InForce) -> Result<(), Violation> {
        let now = self.now;
        let (replica, mut witnesses) = self.with_witnesses(id);
        let Some(before) = replica.check(cause, now, &mut witnesses)? else {
            return Ok(());
        };
        let status = self.running(id).status.clone();
        self.elected |= status.role == Role::Leader;
        if status.role == Role::Leader && self.leading != Some((id, status.term)) {
            let new = self
                .leading
                .is_none_or(|(other, term)| other != id && term < status.term);
            if new && self.preferred == Some(id) {
                self.coverage.count("preferred_leader_took_over");
            }
            if new {
                self.leading = Some((id, status.term));
                self.visit_former_leaders(id);
            }
        }
        if status.commit > before {
            let process = self.replicas[&id].process.as_ref().expect("just checked");
            let led = |(term, led, _): &(Term, bool, _)| *led && *term == status.term;
            let in_force = in_force.filter(led).and_then(|(_, _, it)| it);
            let decided = in_force.as_deref();
            if decided.is_some_and(Configuration::is_joint) {
                self.coverage.count("committed_by_both_halves");
            }
            let durable = |voter: ReplicaId, index, term| {
                self.replicas.get(&voter).is_some_and(|replica| {
                    replica.durable.covers(index, term) || index <= replica.checkpointed
                })
            };
            self.history
                .commits(id, before, status.commit, &process.asked, decided, durable)?;
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) {
        let bytes = rmp_serde::to_vec_named(message).expect("messages encode");
        let replica = self.replicas.get_mut(&message.from);
        if let Some(process) = replica.and_then(|replica| replica.process.as_mut()) {
            let name = message.name();
            process
                .watch
                .sends(name, message.term, &bytes, &mut self.coverage);
        }
        if message.name() == "campaign_now" {
            self.disturb_transfer(message.from);
        }
        let arrivals = self.network.carry(&mut self.rng, message.from, message.to);
        match arrivals.len() {
            0 => self.coverage.count("messages_lost"),
            1 => {}
            _ => self.coverage.count("messages_doubled"),
        }
        for arrival in arrivals {
            self.push(
                arrival,
                Event::Deliver {
                    to: message.to,
                    bytes: bytes.clone(),
                },
            );
        }
    }

    fn schedule_write(&mut self, id: ReplicaId) {
        let latency = self.disk_latency.as_micros() as u64;
        let slow = if self.rng.random_bool(0.01) { 30 } else { 1 };
        let at = Duration::from_micros(self.rng.random_range(latency / 2..latency * 2) * slow);
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let process = replica.process.as_mut().expect("just drained");
        if !core::mem::replace(&mut process.write_due, true) {
            self.push(at, Event::Write { id, life });
        }
    }

    pub(super) fn schedule_apply(&mut self, id: ReplicaId) {
        let slow = if self.rng.random_bool(0.01) { 500 } else { 1 };
        let at = Duration::from_micros(self.rng.random_range(1..100) * slow);
        let replica = self.replicas.get_mut(&id).expect("just drained");
        let life = replica.life;
        let Some(process) = replica.process.as_mut() else {
            return;
        };
        if !core::mem::replace(&mut process.apply_due, true) {
            self.push(at, Event::Apply { id, life });
        }
    }

    /// A replica met an assertion, in a world with a safeguard taken away: it stays down, which loses nothing.
    pub(super) fn stopped_itself(&mut self, whose: Option<ReplicaId>) -> Result<(), Violation> {
        self.coverage.count("stopped_by_assertion");
        if let Some(id) = whose {
            self.retire(id);
        }
        Ok(())
    }
}
