//! The state machine of the system group.
//!
//! Here: [`SystemState`], to which commands are applied in log order on every node, deterministically.
//! Commands carry what was intended; [`SystemState::apply`] decides what came of it, the same everywhere.
//! Source: DESIGN sections 8 (birth), 10 (authority) and 11 (placement); Ongaro's thesis, 6.3, for the nonce of an admission.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{GroupId, LogIndex, ReplicaId};

use super::command::{GivingUp, SystemCommand, SystemOutcome, UnknownCommand};
use super::level::Level;
use super::plan::Placement;
use crate::wire::Sharding;

/// Where a replica id lives: the store in the high half, a number from the system log in the low one.
///
/// Built only from what the system log allotted, so an id is never reused (H77) and tells by itself where to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplicaAddress {
    /// Store that holds the replica; below 2^32.
    pub store: u64,
    /// Cluster-wide serial number of the replica.
    pub serial: u32,
}

impl ReplicaAddress {
    /// The id as `consensus` carries it.
    pub fn id(self) -> ReplicaId {
        ReplicaId::new((self.store << 32) | u64::from(self.serial))
    }

    /// Takes an id apart.
    pub fn of(id: ReplicaId) -> Self {
        Self {
            store: id.get() >> 32,
            serial: id.get() as u32,
        }
    }
}

/// What is fixed when a cluster is founded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Founding {
    /// Random identity of the cluster.
    pub cluster: u128,
    /// How keys map to shards, for ever.
    pub sharding: Sharding,
    /// How many stores should hold each shard; odd.
    pub copies: u32,
    /// The name of the founder; of several, of the first.
    pub name: String,
    /// The founder's certificate key.
    pub key: Bytes,
    /// The other founders of a cluster that was founded by several, in the order of their names: stores 2 and up.
    #[serde(default)]
    pub others: Vec<Founder>,
}

/// One of several founders.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Founder {
    /// The node's name.
    pub name: String,
    /// Public key of its certificate.
    pub key: Bytes,
}

impl Founding {
    /// Store id of the founder; of several, of the first.
    pub const FOUNDER: u64 = 1;

    /// Groups of a founded cluster: the system group and one for each shard.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=u64::from(self.sharding.shards)).map(GroupId::new)
    }

    /// The first founder's replica of a group. Replicas are born as voters only at the founding.
    pub fn replica(group: GroupId) -> ReplicaId {
        ReplicaAddress {
            store: Self::FOUNDER,
            serial: group.get() as u32 + 1,
        }
        .id()
    }

    fn replica_on(&self, group: GroupId, store: u64) -> ReplicaId {
        let before = (store - Self::FOUNDER) as u32 * (self.sharding.shards + 1);
        let serial = before + ReplicaAddress::of(Self::replica(group)).serial;
        ReplicaAddress { store, serial }.id()
    }

    /// The founders by store id.
    pub fn members(&self) -> BTreeMap<u64, MemberEntry> {
        let first = (&self.name, &self.key);
        let others = self.others.iter().map(|other| (&other.name, &other.key));
        let entry = |(name, key): (&String, &Bytes)| MemberEntry {
            name: name.clone(),
            key: key.clone(),
            capacity: 1,
            zone: None,
            nonce: 0,
            level: Level::FIRST,
            described: 0,
        };
        let members = [first].into_iter().chain(others).map(entry);
        (Self::FOUNDER..).zip(members).collect()
    }

    /// Every group as it is born. Each founder finds this by itself, and so does everybody who applies the founding, in
    /// whatever version: therefore the rule is fixed for ever and does not lean on [`plan`](super::plan()), which moves the
    /// groups afterwards.
    ///
    /// With `n` founders, shard group `g` lives on `min(n, copies)` of them from number `g - 1` on, and the first should
    /// lead. The largest odd number of them votes, because two voters are worse than one (E24); another one learns. The
    /// system group lives on all; 1, 3 or 5 vote, the others learn.
    pub fn births(&self) -> BTreeMap<GroupId, Birth> {
        let founders = 1 + self.others.len() as u64;
        let birth = |group: GroupId| {
            let (begin, count) = match group.get().checked_sub(1) {
                None => (0, founders),
                Some(number) => (number, founders.min(u64::from(self.copies))),
            };
            let stores: Vec<u64> = (0..count)
                .map(|step| Self::FOUNDER + (begin + step) % founders)
                .collect();
            let replicas: Vec<_> = stores
                .iter()
                .map(|store| self.replica_on(group, *store))
                .collect();
            let voters = count.min(5);
            let (voters, learners) = replicas.split_at((voters - (voters + 1) % 2) as usize);
            let birth = Birth {
                placement: Placement {
                    leader: stores.first().copied(),
                    stores,
                },
                voters: voters.iter().copied().collect(),
                learners: learners.iter().copied().collect(),
            };
            (group, birth)
        };
        self.groups().map(birth).collect()
    }
}

/// A group as it is born.
#[derive(Clone, Debug, PartialEq)]
pub struct Birth {
    /// Where it should live, to begin with.
    pub placement: Placement,
    /// Its first voters; replicas are born as voters only here.
    pub voters: BTreeSet<ReplicaId>,
    /// Its first learners.
    pub learners: BTreeSet<ReplicaId>,
}

impl Birth {
    /// All replicas.
    pub fn replicas(&self) -> BTreeSet<ReplicaId> {
        self.voters.union(&self.learners).copied().collect()
    }
}

/// One admitted store.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MemberEntry {
    /// The node's name, unique among the members.
    pub name: String,
    /// Public key of its certificate; gossip records are signed with it.
    pub key: Bytes,
    /// Relative share of the load; at least 1.
    pub capacity: u32,
    /// Failure domain, when the node names one.
    #[serde(default)]
    pub zone: Option<String>,
    /// Chosen by the joiner for this admission, so that a repeated request finds the first.
    pub nonce: u64,
    /// Level of the joiner's build, read when it is let in. Not kept: what a member's build is at any time, it says in gossip.
    #[serde(default, skip_serializing_if = "Level::is_first")]
    pub level: Level,
    /// Start count of the store when it said its capacity and zone; 0: when it was let in or founded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub described: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Placement of one group: what should be, and which replicas may exist.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct GroupEntry {
    /// Where the group should live.
    pub placement: Placement,
    /// Every replica that was allotted and not yet retired.
    pub replicas: BTreeSet<ReplicaId>,
}

/// An unsafe recovery, as it is remembered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct UnsafeRecovery {
    /// When, in seconds since 1970 by the operator's clock.
    pub at: u64,
    /// The stores that were given up, and their names.
    pub given_up: BTreeMap<u64, String>,
    /// Groups that went on from what was left of them.
    pub reformed: u32,
    /// Groups that began anew, empty.
    pub emptied: u32,
}

/// Everything that the system group replicates.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SystemState {
    /// Index of the last applied entry.
    pub applied: LogIndex,
    /// `None` before the first command.
    pub founding: Option<Founding>,
    /// By store id.
    pub members: BTreeMap<u64, MemberEntry>,
    /// By group; group 0 included.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// Epoch of the placement: grows with every change of `groups` or `members`.
    pub epoch: u64,
    /// Unsafe recoveries, oldest first.
    #[serde(default)]
    pub recoveries: Vec<UnsafeRecovery>,
    /// Members that give up what they hold.
    #[serde(default)]
    pub draining: BTreeSet<u64>,
    /// Members that are away for so long that others hold their copies.
    #[serde(default)]
    pub absent: BTreeSet<u64>,
    /// Stores that were taken out, and their names.
    #[serde(default)]
    pub removed: BTreeMap<u64, String>,
    /// Up to where commands may be used; it never falls.
    #[serde(default, skip_serializing_if = "Level::is_first")]
    pub level: Level,
    next_store: u64,
    next_serial: u32,
}

impl SystemState {
    /// Takes the entry at `index` into the state, as a build of level `build` reads it. One that it does not know changes nothing.
    pub fn apply(
        &mut self,
        index: LogIndex,
        payload: &[u8],
        build: Level,
    ) -> Result<SystemOutcome, UnknownCommand> {
        let command = SystemCommand::decode(payload, build)?;
        Ok(self.take(index, command))
    }

    /// Takes the command of the entry at `index` into the state.
    pub fn take(&mut self, index: LogIndex, command: SystemCommand) -> SystemOutcome {
        self.applied = index;
        self.change(command)
    }

    fn change(&mut self, command: SystemCommand) -> SystemOutcome {
        match command {
            SystemCommand::Found(founding) => self.found(founding),
            SystemCommand::Admit(member) => self.admit(member),
            SystemCommand::Allot { group, store } => self.allot(group, store),
            SystemCommand::Retire { group, replica } => self.retire(group, replica),
            SystemCommand::Place { epoch, goals } => self.place(epoch, goals),
            SystemCommand::Reform { groups } => self.reform(groups),
            SystemCommand::GiveUp(giving_up) => self.give_up(giving_up),
            SystemCommand::Drain { store, on } => self.drain(store, on),
            SystemCommand::Remove { store } => self.remove(store),
            SystemCommand::Absent { epoch, store, on } => self.absent(epoch, store, on),
            SystemCommand::Describe {
                store,
                generation,
                zone,
                capacity,
            } => self.describe(store, generation, zone, capacity),
            SystemCommand::Raise { epoch, level } => self.raise(epoch, level),
        }
    }

    fn found(&mut self, founding: Founding) -> SystemOutcome {
        if self.founding.is_some() {
            return refused("the cluster is founded already");
        }
        let births = founding.births().into_iter();
        let listed = |(group, birth): (GroupId, Birth)| {
            let replicas = birth.replicas();
            let placement = birth.placement;
            (
                group,
                GroupEntry {
                    placement,
                    replicas,
                },
            )
        };
        self.groups = births.map(listed).collect();
        self.members = founding.members();
        let founders = self.members.len() as u64;
        self.next_store = Founding::FOUNDER + founders;
        self.next_serial = founders as u32 * (founding.sharding.shards + 1) + 1;
        self.founding = Some(founding);
        self.epoch = 1;
        SystemOutcome::Done
    }

    fn admit(&mut self, member: MemberEntry) -> SystemOutcome {
        if self.founding.is_none() {
            return refused("the cluster is not founded yet");
        }
        if member.level < self.level {
            return refused(&format!(
                "this cluster is at level {}, and the build of `{}` knows up to level {}: start it with a newer build",
                self.level, member.name, member.level
            ));
        }
        if let Some((&store, known)) = self
            .members
            .iter()
            .find(|(_, known)| known.name == member.name)
        {
            if known.nonce != member.nonce || known.key != member.key {
                // E32, M20: a wiped or cloned disk is another store; it may not pass for the one that is known.
                return refused(&format!(
                    "the name `{}` belongs to store {store}; start with its directory, or choose another name",
                    member.name
                ));
            }
            return match self.system_replica(store) {
                Some(replica) => SystemOutcome::Admitted { store, replica },
                None => refused("the store's system replica was retired"),
            };
        }
        let store = self.next_store;
        self.next_store += 1;
        let level = Level::FIRST;
        self.members.insert(store, MemberEntry { level, ..member });
        let replica = self.next_replica(store);
        self.groups
            .entry(GroupId::ZERO)
            .or_default()
            .replicas
            .insert(replica);
        self.epoch += 1;
        SystemOutcome::Admitted { store, replica }
    }

    fn allot(&mut self, group: GroupId, store: u64) -> SystemOutcome {
        if !self.members.contains_key(&store) {
            return refused(&format!("store {store} is no member"));
        }
        let Some(entry) = self.groups.get(&group) else {
            return refused(&format!("there is no group {group}"));
        };
        if let Some(&replica) = entry
            .replicas
            .iter()
            .find(|id| ReplicaAddress::of(**id).store == store)
        {
            return SystemOutcome::Allotted { replica };
        }
        let replica = self.next_replica(store);
        if let Some(entry) = self.groups.get_mut(&group) {
            entry.replicas.insert(replica);
        }
        self.epoch += 1;
        SystemOutcome::Allotted { replica }
    }

    fn retire(&mut self, group: GroupId, replica: ReplicaId) -> SystemOutcome {
        let Some(entry) = self.groups.get_mut(&group) else {
            return refused(&format!("there is no group {group}"));
        };
        if !entry.replicas.remove(&replica) {
            return refused("that replica is not listed");
        }
        self.epoch += 1;
        SystemOutcome::Done
    }

    fn place(&mut self, epoch: u64, goals: Vec<(GroupId, Placement)>) -> SystemOutcome {
        if epoch != self.epoch {
            return refused("the placement changed meanwhile");
        }
        for (group, placement) in goals {
            if let Some(entry) = self.groups.get_mut(&group) {
                entry.placement = placement;
            }
        }
        self.epoch += 1;
        SystemOutcome::Done
    }

    fn reform(&mut self, groups: Vec<(GroupId, BTreeSet<ReplicaId>)>) -> SystemOutcome {
        for (group, replicas) in groups {
            if let Some(entry) = self.groups.get_mut(&group) {
                entry.replicas = replicas;
            }
        }
        self.epoch += 1;
        SystemOutcome::Done
    }

    fn give_up(&mut self, giving_up: GivingUp) -> SystemOutcome {
        let given_up = giving_up
            .stores
            .iter()
            .filter_map(|store| Some((*store, self.members.remove(store)?.name)))
            .collect();
        self.leave_somebody_who_takes();
        self.next_store = self.next_store.max(giving_up.next_store);
        self.next_serial = self.next_serial.max(giving_up.next_serial);
        self.recoveries.push(UnsafeRecovery {
            at: giving_up.at,
            given_up,
            reformed: giving_up.reformed,
            emptied: giving_up.emptied,
        });
        self.epoch += 1;
        SystemOutcome::Done
    }

    /// The store id and the serial number that would be allotted next.
    pub fn next_ids(&self) -> (u64, u32) {
        (self.next_store, self.next_serial)
    }

    /// Whether a store of this cluster is none of it any more: its id is used up, and it is no member. One whose admission this
    /// state has not heard of yet is not given up.
    pub fn is_given_up(&self, store: u64) -> bool {
        self.founding.is_some() && store < self.next_store && !self.members.contains_key(&store)
    }

    /// Every store that was removed, or that an unsafe recovery gave up.
    pub fn given_up(&self) -> impl Iterator<Item = u64> + '_ {
        self.recoveries
            .iter()
            .flat_map(|recovery| recovery.given_up.keys().copied())
            .chain(self.removed.keys().copied())
    }

    fn next_replica(&mut self, store: u64) -> ReplicaId {
        let serial = self.next_serial;
        self.next_serial = serial
            .checked_add(1)
            .expect("four thousand million replicas were never allotted");
        ReplicaAddress { store, serial }.id()
    }

    /// The replica of the system group on a store.
    pub fn system_replica(&self, store: u64) -> Option<ReplicaId> {
        self.replica_on(GroupId::ZERO, store)
    }

    /// The listed replica of a group on a store; at most one exists.
    pub fn replica_on(&self, group: GroupId, store: u64) -> Option<ReplicaId> {
        let entry = self.groups.get(&group)?;
        entry
            .replicas
            .iter()
            .copied()
            .find(|id| ReplicaAddress::of(*id).store == store)
    }

    /// The members that should hold a copy of a group and were not allotted one.
    pub(super) fn unallotted(&self, group: GroupId) -> impl Iterator<Item = u64> {
        let goal = self.groups.get(&group).into_iter();
        let goal = goal.flat_map(|entry| &entry.placement.stores).copied();
        goal.filter(|store| self.members.contains_key(store))
            .filter(move |store| self.replica_on(group, *store).is_none())
    }

    /// The replica that the placement would like to lead a group.
    pub fn preferred_leader(&self, group: GroupId) -> Option<ReplicaId> {
        let store = self.groups.get(&group)?.placement.leader?;
        self.replica_on(group, store)
    }

    /// Every replica that should exist on a store.
    pub fn replicas_on(&self, store: u64) -> impl Iterator<Item = (GroupId, ReplicaId)> + '_ {
        self.groups.iter().flat_map(move |(group, entry)| {
            let mine = entry
                .replicas
                .iter()
                .copied()
                .filter(move |id| ReplicaAddress::of(*id).store == store);
            mine.map(move |id| (*group, id))
        })
    }

    /// True when this state was applied past the allotment of `replica` and no longer lists it: it may be deleted.
    /// A replica that this state has not heard of yet is not retired (H78).
    pub fn is_retired(&self, group: GroupId, replica: ReplicaId) -> bool {
        ReplicaAddress::of(replica).serial < self.next_serial
            && self
                .groups
                .get(&group)
                .is_none_or(|entry| !entry.replicas.contains(&replica))
    }

    /// The whole state as bytes, for a snapshot. Of a cluster above the first level they begin with that level, so that a build that does
    /// not know it refuses them and drops nothing.
    pub fn encode(&self) -> Bytes {
        if self.level.is_first() {
            return crate::wire::encode(self);
        }
        let mut head = [LEVELLED; 5];
        head[1..].copy_from_slice(&self.level.get().to_be_bytes());
        crate::wire::encode_behind(&head, self)
    }

    /// Reads [`SystemState::encode`] back, in a build of level `build`.
    pub fn decode(bytes: &[u8], build: Level) -> Result<Self, StateError> {
        let mut body = bytes;
        if let [LEVELLED, a, b, c, d, rest @ ..] = bytes {
            let level = Level::new(u32::from_be_bytes([*a, *b, *c, *d]));
            if level > build {
                return Err(StateError::Newer { level, build });
            }
            body = rest;
        }
        Ok(crate::wire::decode(body)?)
    }
}

/// Begins an encoded state that says its level. No MessagePack begins with it, so a build that knows no levels refuses what follows.
const LEVELLED: u8 = 0xc1;

/// Why bytes are no state of the system group for this build.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A newer build wrote it.
    #[error(
        "the state of the system group is of level {level}, and this build knows up to {build}: start this node with a newer build"
    )]
    Newer {
        /// Level of the cluster.
        level: Level,
        /// Level of this build.
        build: Level,
    },
    /// It is damaged.
    #[error("the state of the system group does not decode: {0}")]
    Undecodable(#[from] rmp_serde::decode::Error),
}

pub(super) fn refused(reason: &str) -> SystemOutcome {
    SystemOutcome::Refused {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
