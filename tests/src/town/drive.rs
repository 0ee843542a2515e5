//! What a replica's outputs lead to, as its actor in the runtime does it.
//!
//! Here: this part of [`World`]. Not here: durable states and snapshots (`checkpoints`), claims (`rest`), reports (`reports`), what the node
//! does by the system log (`steward`).

use rand::Rng;
use synod::system::{BUILD_LEVEL, Order, OrderKind, ReplicaAddress, SystemOutcome};
use synod_consensus::{
    Change, Configuration, Entries, Entry, EntryKind, GroupId, LogIndex, Message, Output, Position,
    ReplicaId, ReplicaKey, TransferOutcome,
};

use super::Sabotage;
use super::node::{Process, Replica, Waits, Writing};
use super::world::{Event, Packet, World};
use crate::violation::{Violation, broken};

impl World {
    pub(super) fn process(&mut self, store: u64) -> Option<&mut Process> {
        self.nodes.get_mut(&store)?.process.as_mut()
    }

    pub(super) fn replica(&mut self, store: u64, group: GroupId) -> Option<&mut Replica> {
        let replica = self.process(store)?.hosted.get_mut(&group)?;
        (!replica.stopped).then_some(replica)
    }

    /// Runs one input of a replica, then everything that it put out.
    pub(super) fn drive(
        &mut self,
        store: u64,
        group: GroupId,
        input: impl FnOnce(&mut Replica),
    ) -> Result<(), Violation> {
        if let Some(replica) = self.replica(store, group) {
            input(replica);
            self.flush(store, group)?;
        }
        Ok(())
    }

    /// A message of another replica.
    pub(super) fn receive(
        &mut self,
        store: u64,
        group: GroupId,
        message: Message,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        // S18: a node that stops takes no leadership over.
        let unwanted = message.name() == "campaign_now" && process.stopping.is_some();
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        // H77: a message to a former incarnation of this replica is not for this one.
        if replica.key.replica != message.to || unwanted {
            return Ok(());
        }
        replica.group.receive(now, message);
        self.flush(store, group)?;
        self.report_if_due(store, group, false);
        Ok(())
    }

    pub(super) fn wake(&mut self, store: u64, group: GroupId) -> Result<(), Violation> {
        let now = self.now;
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        if replica.wake != Some(now) {
            return Ok(());
        }
        replica.wake = None;
        if replica.group.wake_at().is_some_and(|at| at <= now) {
            replica.group.tick(now);
        }
        self.flush(store, group)?;
        self.report_if_due(store, group, false);
        Ok(())
    }

    /// Everything that a replica wants done.
    pub(super) fn flush(&mut self, store: u64, group: GroupId) -> Result<(), Violation> {
        while let Some(replica) = self.replica(store, group) {
            let Some(output) = replica.group.poll_output() else {
                break;
            };
            self.effect(store, group, output)?;
        }
        let now = self.now;
        let known = self.ledger.configured_at(group);
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        let key = replica.key;
        let commits = replica.commits(known);
        if let Some(at) = replica.group.wake_at() {
            let at = at.max(now);
            if replica.wake.is_none_or(|set| set > at) {
                replica.wake = Some(at);
                let life = self.nodes[&store].life;
                self.push_at(at, Event::Wake { store, life, group });
            }
        }
        for (index, configuration) in commits {
            self.ledger.committed(key, index, configuration)?;
        }
        self.report_progress(store, group);
        Ok(())
    }

    fn effect(&mut self, store: u64, group: GroupId, output: Output) -> Result<(), Violation> {
        let now = self.now;
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        let key = replica.key;
        match output {
            Output::Persist(persist) => {
                replica.logs(&persist.writes);
                let (token, writes) = (Some(persist.token), persist.writes);
                self.write(store, Writing::Log { key, token, writes });
            }
            Output::Send(message) => {
                self.ledger.speaks(key)?;
                let to = ReplicaAddress::of(message.to).store;
                self.send(store, to, Packet::Raft(group, message));
            }
            Output::Apply(entries) => self.apply(store, key, &entries)?,
            Output::StoreChunk(chunk) => {
                let held = replica.shelf.store(&chunk);
                replica.group.chunk_stored(now, chunk.id, held);
            }
            Output::DropPartial { id } => replica.shelf.drop_partial(id),
            Output::Install { meta, id } => self.install(store, key, *meta, id)?,
            Output::SnapshotNeeded { to } => self.provide(store, key, to)?,
            Output::ReadChunk(wanted) => {
                let data = replica.shelf.read(&wanted);
                replica.group.chunk_read(now, wanted, data);
            }
            Output::ShipmentEnded { to, .. } => replica.shelf.end(to),
            Output::Role { term, leader, role } => {
                replica.leader = leader;
                let leads_on = replica.leadership == Some(term);
                if role != synod_consensus::Role::Leader || !leads_on {
                    self.end_leadership(store, group);
                }
                self.touch(store);
            }
            Output::MayEvaluate { term } => {
                replica.leadership = Some(term);
                self.pauses.ends(group, now);
                self.coverage.count("leaderships");
                self.report_if_due(store, group, true);
                self.touch(store);
            }
            Output::Configuration { .. } => {
                self.ties_change(store);
                self.report_if_due(store, group, true);
            }
            Output::TransferPrepared { to } => {
                if replica.group.transfer(now, to).is_err() {
                    replica.handing_over = None;
                } else {
                    self.pauses.begins(group, now);
                    self.coverage.count("transfers_begun");
                }
            }
            Output::TransferEnded { outcome, .. } => {
                replica.handing_over = None;
                if outcome == TransferOutcome::TimedOut {
                    self.pauses.ends(group, now);
                }
            }
            Output::Claim { claim, holders } => {
                let on_store = |id: &ReplicaId| (ReplicaAddress::of(*id).store, *id);
                let holders: Vec<_> = holders.iter().map(on_store).collect();
                self.coverage.count("claims");
                self.claims(store, |claims| claims.claim(claim, &holders))?;
            }
            Output::Rests { without } => {
                let on_store = |id: &ReplicaId| ReplicaAddress::of(*id).store;
                let without: Vec<_> = without.iter().map(on_store).collect();
                self.coverage.count(match without.is_empty() {
                    true => "rests",
                    false => "rests_without_somebody",
                });
                self.claims(store, |claims| claims.rests(key, &without))?;
                self.report_if_due(store, group, true);
            }
            Output::Unclaimed => self.claims(store, |claims| claims.unclaimed(key))?,
            Output::Removed => self.end_leadership(store, group),
            Output::DataLost { acknowledged, last } => {
                return broken(
                    "Recovery",
                    format!("{key:?} acknowledged {acknowledged}, its log ends at {last}"),
                );
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn end_leadership(&mut self, store: u64, group: GroupId) {
        let Some(process) = self.process(store) else {
            return;
        };
        let Some(replica) = process.hosted.get_mut(&group) else {
            return;
        };
        replica.leadership = None;
        replica.handing_over = None;
        let last = replica.reported.take();
        if let Some(report) = last.and_then(|(last, _)| last.taken_back()) {
            process.reports.insert(group, report);
        }
        for (_, waits) in core::mem::take(&mut replica.waiting).into_values() {
            if let Waits::Steward(number) = waits {
                process.proposals.remove(&number);
            }
        }
    }

    fn apply(&mut self, store: u64, key: ReplicaKey, entries: &Entries) -> Result<(), Violation> {
        let group = key.group;
        for entry in entries {
            self.apply_one(store, key, entry)?;
        }
        let now = self.now;
        let every = self.checkpoint_every;
        let Some(replica) = self.replica(store, group) else {
            return Ok(());
        };
        let index = replica.machine.applied;
        replica.group.applied(now, index);
        let due = replica.since >= every;
        if group == GroupId::ZERO {
            self.touch(store);
        }
        if due {
            self.make_checkpoint(store, group)?;
        }
        self.report_if_due(store, group, false);
        Ok(())
    }

    fn apply_one(&mut self, store: u64, key: ReplicaKey, entry: &Entry) -> Result<(), Violation> {
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let Some(replica) = process.hosted.get_mut(&key.group) else {
            return Ok(());
        };
        replica.machine.apply(entry);
        replica.since += 1;
        replica.applied.position = Position {
            term: entry.term,
            index: entry.index,
        };
        if let Some(configuration) = entry.configuration() {
            replica.applied.configuration = configuration;
            replica.applied.configuration_index = entry.index;
        }
        let chain = replica.machine.chain;
        let waits = replica.waiting.remove(&entry.index);
        let waits = waits.filter(|(term, _)| *term == entry.term);
        let mut outcome = SystemOutcome::Done;
        if key.group == GroupId::ZERO {
            match entry.kind {
                EntryKind::Normal => {
                    let (index, payload) = (entry.index, &entry.payload);
                    outcome = match process.system.apply(index, payload, BUILD_LEVEL) {
                        Ok(outcome) => outcome,
                        Err(error) => return broken("Committed Entries", error.to_string()),
                    };
                }
                _ => process.system.applied = entry.index,
            }
        }
        self.ledger.applied(key, entry, chain)?;
        match waits {
            Some((_, Waits::Client)) => {
                let past = self.ledger.groups.entry(key.group).or_default();
                past.acknowledged = past.acknowledged.max(entry.index);
                self.coverage.count("acknowledged");
            }
            Some((_, Waits::Steward(number))) => self.proposal_ended(store, number, &outcome),
            Some((_, Waits::Applicant(number))) => self.answered(number, &outcome),
            Some((_, Waits::Operator)) if outcome.is_refused() => {
                self.coverage.count("operator_refused");
            }
            Some((_, Waits::Operator)) => self.coverage.count("operator_served"),
            None => {}
        }
        Ok(())
    }

    /// Something became durable.
    pub(super) fn written(&mut self, store: u64, writing: Writing) -> Result<(), Violation> {
        let now = self.now;
        if let Writing::Log { key, .. } = &writing {
            self.ledger.speaks(*key)?;
        }
        let node = self.nodes.get_mut(&store).expect("it runs");
        node.disk.write(&writing)?;
        let key = writing.key();
        match writing {
            Writing::Log { token, .. } => {
                self.ledger.lived.insert(key);
                if let (Some(token), Some(replica)) = (token, self.replica(store, key.group))
                    && replica.key == key
                {
                    replica.group.persisted(now, token);
                    self.flush(store, key.group)?;
                }
            }
            Writing::Checkpoint { checkpoint, .. } => {
                self.checkpointed(store, key, checkpoint.meta.position.index)?;
            }
            Writing::Install { id, checkpoint, .. } => {
                self.installed(store, key, id, &checkpoint)?;
            }
            Writing::Drop { .. } => {
                self.ledger.may_go(key, "was deleted")?;
                self.ledger.deleted.insert(key);
                self.coverage.count("replicas_deleted");
                if self.sabotage == Some(Sabotage::FilesGoAtOnce) && self.calm_at.is_none() {
                    self.crash(store)?;
                }
            }
        }
        Ok(())
    }

    /// The system leader wants something of a group that is led here.
    pub(super) fn carry_out(&mut self, store: u64, order: Order) -> Result<(), Violation> {
        let now = self.now;
        let group = order.group;
        let Some(process) = self.process(store) else {
            return Ok(());
        };
        let hosted = process.hosted.get_mut(&group);
        let Some(replica) = hosted.filter(|replica| !replica.stopped) else {
            return Ok(());
        };
        let status = replica.group.status();
        if replica.leadership.is_none()
            || replica.handing_over.is_some()
            || !replica
                .fence
                .accept(&order, replica.key.replica, status.term)
            || order.brings_retired(&process.system, &status.configuration)
        {
            return Ok(());
        }
        match order.kind {
            OrderKind::Fence => self.report_if_due(store, group, true),
            OrderKind::Change {
                expected,
                voters,
                learners,
            } => {
                let (voters, learners) = self.tampered(group, voters, learners);
                let Some(replica) = self.replica(store, group) else {
                    return Ok(());
                };
                let status = replica.group.status();
                let change = Change {
                    expected,
                    voters: voters.clone(),
                    learners,
                };
                if replica.group.change(now, change).is_ok() {
                    self.coverage.count("configurations_changed");
                    self.check_change(group, &status.configuration, &voters, status.commit)?;
                }
            }
            OrderKind::Transfer { to } => {
                replica.handing_over = Some(to);
                if replica.group.prepare_transfer(now, to).is_err() {
                    replica.handing_over = None;
                } else {
                    self.coverage.count("transfers_prepared");
                }
            }
        }
        self.flush(store, group)
    }

    /// A change that was ordered never leaves a group without a majority that lives and has caught up, if it had one before.
    fn check_change(
        &mut self,
        group: GroupId,
        before: &Configuration,
        voters: &[ReplicaId],
        commit: LogIndex,
    ) -> Result<(), Violation> {
        let fit = |id: &ReplicaId| self.is_fit(group, *id, commit);
        let have = |ids: &[ReplicaId]| ids.iter().filter(|id| fit(id)).count();
        let (had, has) = (have(&before.voters), have(voters));
        if had * 2 > before.voters.len() && has * 2 <= voters.len() {
            return broken(
                "Quorums Are Kept",
                format!(
                    "group {group} goes from {:?}, of which {had} are fit, to {voters:?}, of which {has} are",
                    before.voters
                ),
            );
        }
        Ok(())
    }

    /// Whether a replica lives, or did so lately enough for nobody to know better, and holds what is committed but for a little.
    fn is_fit(&self, group: GroupId, id: ReplicaId, commit: LogIndex) -> bool {
        let Some(node) = self.nodes.get(&ReplicaAddress::of(id).store) else {
            return false;
        };
        let fresh = |since| self.now.saturating_sub(since) < super::world::UNHEARD;
        if let Some(since) = node.silent_since {
            return !node.gone && fresh(since);
        }
        let Some(process) = &node.process else {
            return false;
        };
        let Some(replica) = process.hosted.get(&group) else {
            return false;
        };
        let last = replica.group.status().last.index;
        replica.key.replica == id && last.plus(super::world::LAG) >= commit
    }

    /// An append of a client.
    pub(super) fn client(&mut self) -> Result<(), Violation> {
        let shards = self.shards;
        let group = GroupId::new(self.rng.random_range(1..=u64::from(shards)));
        let leads = |replica: &Replica| replica.leadership.is_some() && !replica.stopped;
        let leaders: Vec<u64> = { self.nodes.iter() }
            .filter(|(_, node)| node.runs(self.now))
            .filter(|(_, node)| {
                let process = node.process.as_ref().expect("it runs");
                process.hosted.get(&group).is_some_and(leads)
            })
            .map(|(store, _)| *store)
            .collect();
        if leaders.is_empty() {
            self.coverage.count("nobody_leads");
            return Ok(());
        }
        let store = leaders[self.rng.random_range(0..leaders.len())];
        self.appended += 1;
        let number = self.appended.to_le_bytes();
        let payload = bytes::Bytes::copy_from_slice(&number);
        let now = self.now;
        self.drive(store, group, |replica| {
            if let Ok(position) = replica.group.propose(now, payload) {
                let waits = (position.term, Waits::Client);
                replica.waiting.insert(position.index, waits);
            }
        })
    }
}
