//! The state machine of the system group.
//!
//! Here: [`SystemState`] and the commands that change it, applied in log order on every node, deterministically.
//! Commands carry what was intended; [`SystemState::apply`] decides what came of it, the same everywhere.
//! Source: DESIGN sections 8 (birth), 10 (authority) and 11 (placement); Ongaro's thesis, 6.3, for the nonce of an admission.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{GroupId, LogIndex, ReplicaId};

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
    /// The founder's name.
    pub name: String,
    /// The founder's certificate key.
    pub key: Bytes,
}

impl Founding {
    /// Store id of the founder.
    pub const FOUNDER: u64 = 1;

    /// Groups of a founded cluster: the system group and one for each shard.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=u64::from(self.sharding.shards)).map(GroupId::new)
    }

    /// The founder's replica of a group. Replicas are born as voters only here.
    pub fn replica(group: GroupId) -> ReplicaId {
        ReplicaAddress {
            store: Self::FOUNDER,
            serial: group.get() as u32 + 1,
        }
        .id()
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
}

/// Placement of one group: what should be, and which replicas may exist.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct GroupEntry {
    /// Where the group should live.
    pub placement: Placement,
    /// Every replica that was allotted and not yet retired.
    pub replicas: BTreeSet<ReplicaId>,
}

/// A change of the system state, as proposed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum SystemCommand {
    /// The first command of a cluster.
    Found(Founding),
    /// Let a store in.
    Admit(MemberEntry),
    /// Allow a new, empty replica of a group on a store.
    Allot {
        /// The group.
        group: GroupId,
        /// The store that shall hold it.
        store: u64,
    },
    /// A replica that its group's committed configuration no longer names may be deleted; so may one that stopped for
    /// good, which the configuration still names until its successor has caught up.
    Retire {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
    },
    /// New goals for shards, computed on the placement of `epoch`; refused when that is no longer current.
    Place {
        /// Epoch that the planner saw.
        epoch: u64,
        /// Group and its goal.
        goals: Vec<(GroupId, Placement)>,
    },
}

/// What came of a command.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum SystemOutcome {
    /// Nothing to say.
    Done,
    /// The store is a member.
    Admitted {
        /// Its store id.
        store: u64,
        /// Its replica of the system group.
        replica: ReplicaId,
    },
    /// The replica may be created on its store.
    Allotted {
        /// Its id.
        replica: ReplicaId,
    },
    /// Nothing changed, and this is why.
    Refused {
        /// One sentence.
        reason: String,
    },
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
    next_store: u64,
    next_serial: u32,
}

impl SystemState {
    /// Takes the entry at `index` into the state. Bytes that are no command change nothing but the index.
    pub fn apply(&mut self, index: LogIndex, payload: &[u8]) -> SystemOutcome {
        self.applied = index;
        match crate::wire::decode::<SystemCommand>(payload) {
            Ok(command) => self.change(command),
            Err(error) => SystemOutcome::Refused {
                reason: format!("entry {index} is no system command: {error}"),
            },
        }
    }

    fn change(&mut self, command: SystemCommand) -> SystemOutcome {
        match command {
            SystemCommand::Found(founding) => self.found(founding),
            SystemCommand::Admit(member) => self.admit(member),
            SystemCommand::Allot { group, store } => self.allot(group, store),
            SystemCommand::Retire { group, replica } => self.retire(group, replica),
            SystemCommand::Place { epoch, goals } => self.place(epoch, goals),
        }
    }

    fn found(&mut self, founding: Founding) -> SystemOutcome {
        if self.founding.is_some() {
            return refused("the cluster is founded already");
        }
        for group in founding.groups() {
            let goal = Placement {
                stores: vec![Founding::FOUNDER],
                leader: Some(Founding::FOUNDER),
            };
            self.groups.insert(
                group,
                GroupEntry {
                    placement: goal,
                    replicas: BTreeSet::from([Founding::replica(group)]),
                },
            );
        }
        let member = MemberEntry {
            name: founding.name.clone(),
            key: founding.key.clone(),
            capacity: 1,
            zone: None,
            nonce: 0,
        };
        self.members.insert(Founding::FOUNDER, member);
        self.next_store = Founding::FOUNDER + 1;
        self.next_serial = founding.sharding.shards + 2;
        self.founding = Some(founding);
        self.epoch = 1;
        SystemOutcome::Done
    }

    fn admit(&mut self, member: MemberEntry) -> SystemOutcome {
        if self.founding.is_none() {
            return refused("the cluster is not founded yet");
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
        self.members.insert(store, member);
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

    /// The whole state as bytes, for a snapshot.
    pub fn encode(&self) -> Bytes {
        crate::wire::encode(self)
    }

    /// Reads [`SystemState::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        crate::wire::decode(bytes)
    }
}

fn refused(reason: &str) -> SystemOutcome {
    SystemOutcome::Refused {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    fn founded(shards: u32) -> SystemState {
        let mut state = SystemState::default();
        let founding = Founding {
            cluster: 9,
            sharding: Sharding { seed: 1, shards },
            copies: 3,
            name: "n1".into(),
            key: Bytes::from_static(b"k1"),
        };
        assert_eq!(
            state.apply(LogIndex::new(2), &encode(&SystemCommand::Found(founding))),
            SystemOutcome::Done
        );
        state
    }

    fn member(name: &str, nonce: u64) -> MemberEntry {
        MemberEntry {
            name: name.into(),
            key: Bytes::from_static(b"k"),
            capacity: 1,
            zone: None,
            nonce,
        }
    }

    #[test]
    fn a_repeated_admission_finds_the_first() {
        // Ongaro's thesis 6.3: a retried command must not take effect twice.
        let mut state = founded(4);
        let first = state.change(SystemCommand::Admit(member("n2", 5)));
        assert_eq!(first, state.change(SystemCommand::Admit(member("n2", 5))));
        assert_eq!(state.members.len(), 2);
    }

    #[test]
    fn a_wiped_store_cannot_pass_for_its_former_self() {
        // E32, M20, E26: another nonce is another disk.
        let mut state = founded(4);
        state.change(SystemCommand::Admit(member("n2", 5)));
        assert!(matches!(
            state.change(SystemCommand::Admit(member("n2", 6))),
            SystemOutcome::Refused { .. }
        ));
    }

    #[test]
    fn a_retired_replica_id_is_never_allotted_again() {
        // H77: a new incarnation gets a fresh id.
        let mut state = founded(4);
        state.change(SystemCommand::Admit(member("n2", 5)));
        let group = GroupId::new(1);
        let SystemOutcome::Allotted { replica } =
            state.change(SystemCommand::Allot { group, store: 2 })
        else {
            panic!("a member's store gets a replica");
        };
        assert!(!state.is_retired(group, replica));
        state.change(SystemCommand::Retire { group, replica });
        assert!(state.is_retired(group, replica));
        let SystemOutcome::Allotted { replica: second } =
            state.change(SystemCommand::Allot { group, store: 2 })
        else {
            panic!("a member's store gets a replica");
        };
        assert_ne!(replica, second);
    }

    #[test]
    fn a_replica_from_the_future_is_not_retired() {
        // H78: a node whose system log lags must not delete what was allotted after its last applied entry.
        let state = founded(4);
        assert!(
            !state.is_retired(
                GroupId::new(1),
                ReplicaAddress {
                    store: 2,
                    serial: 900
                }
                .id()
            )
        );
    }

    #[test]
    fn a_plan_made_on_an_older_placement_is_refused() {
        let mut state = founded(4);
        let stale = SystemCommand::Place {
            epoch: state.epoch - 1,
            goals: Vec::new(),
        };
        assert!(matches!(state.change(stale), SystemOutcome::Refused { .. }));
    }

    #[test]
    fn a_snapshot_restores_the_same_state() {
        let mut state = founded(4);
        state.change(SystemCommand::Admit(member("n2", 5)));
        assert_eq!(SystemState::decode(&state.encode()).unwrap(), state);
    }
}
