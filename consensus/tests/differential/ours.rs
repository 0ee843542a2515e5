//! The world of our machine.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use synod_consensus::{
    CheckedOptions, Configuration, EntryKind, Group, GroupId, GroupOptions, LogStore, MemoryStore,
    Message, Output, ReplicaId, ReplicaKey, Restored, Role, Sabotage, SnapshotMeta,
};

use crate::world::{Change, Look, Members, Wire, World};

const BEAT: Duration = Duration::from_secs(1);
/// So many beats that none but [`World::pass`] ever reaches it.
const TIMEOUT: Duration = Duration::from_secs(1_000_000);

pub(crate) struct Ours {
    options: CheckedOptions,
    founders: u64,
    now: Duration,
    live: BTreeMap<u64, Node>,
    down: BTreeMap<u64, Disk>,
    wire: Wire<Message>,
}

/// What survives a crash: the log, and a state machine that is durable with every step.
struct Disk {
    store: MemoryStore,
    state: SnapshotMeta,
    commands: Vec<u64>,
    members: Members,
}

struct Node {
    group: Group,
    disk: Disk,
}

impl Ours {
    pub(crate) fn new(voters: u64, sabotage: Option<Sabotage>) -> Self {
        let options = GroupOptions {
            heartbeat_interval: BEAT,
            election_timeout: TIMEOUT,
            lease: Duration::ZERO,
            sabotage,
            ..GroupOptions::default()
        };
        let mut world = Self {
            options: options.check().expect("they hang together"),
            founders: voters,
            now: Duration::ZERO,
            live: BTreeMap::new(),
            down: BTreeMap::new(),
            wire: Wire::new(),
        };
        let founding = Configuration::of_voters((1..=voters).map(ReplicaId::new));
        for replica in 1..=voters {
            let disk = Disk::empty(voters);
            world.start(replica, Restored::founding(founding.clone()), disk);
        }
        world.settle();
        world
    }

    fn start(&mut self, replica: u64, restored: Restored, disk: Disk) {
        let group = Group::new(
            self.options.clone(),
            GroupId::ZERO,
            ReplicaId::new(replica),
            restored,
            replica,
            self.now,
        )
        .expect("what was stored is sound");
        self.live.insert(replica, Node { group, disk });
    }

    fn group(&mut self, replica: u64) -> &mut Group {
        &mut self.live.get_mut(&replica).expect("it lives").group
    }

    fn tick_leaders(&mut self) {
        for node in self.live.values_mut() {
            if node.group.status().role == Role::Leader {
                node.group.tick(self.now);
            }
        }
    }
}

impl Disk {
    fn empty(founders: u64) -> Self {
        Self {
            store: MemoryStore::new(),
            state: SnapshotMeta::default(),
            commands: Vec::new(),
            members: Members::of_voters(1..=founders),
        }
    }
}

impl Node {
    fn drain(&mut self, wire: &mut Wire<Message>, now: Duration) {
        while let Some(output) = self.group.poll_output() {
            match output {
                Output::Persist(persist) => {
                    let key = ReplicaKey {
                        group: GroupId::ZERO,
                        replica: self.group.replica(),
                    };
                    self.disk
                        .store
                        .write(&[(key, persist.writes)])
                        .expect("writes fit the log");
                    self.group.persisted(now, persist.token);
                }
                Output::Send(message) => wire.send(message.from.get(), message.to.get(), message),
                Output::Apply(entries) => {
                    for entry in &entries {
                        match entry.kind {
                            EntryKind::Normal => self.disk.commands.push(number(&entry.payload)),
                            EntryKind::Noop => {}
                            EntryKind::Configuration => {
                                self.disk.members =
                                    members(&entry.configuration().expect("it decodes"));
                            }
                        }
                    }
                    let last = entries.last().expect("not empty").index;
                    self.group.applied(now, last);
                    self.disk.state = self.group.meta_at(last).expect("the log holds it");
                }
                _ => {}
            }
        }
    }
}

impl World for Ours {
    fn campaign(&mut self, replica: u64) {
        let now = self.now;
        self.group(replica).campaign(now);
    }

    fn propose(&mut self, replica: u64, command: u64) -> bool {
        let now = self.now;
        let payload = Bytes::copy_from_slice(&command.to_le_bytes());
        self.group(replica).propose(now, payload).is_ok()
    }

    fn change(&mut self, replica: u64, change: &Change) -> bool {
        let now = self.now;
        let group = self.group(replica);
        let change = synod_consensus::Change {
            expected: group.status().configuration_index,
            voters: change.voters.iter().copied().map(ReplicaId::new).collect(),
            learners: change
                .learners
                .iter()
                .copied()
                .map(ReplicaId::new)
                .collect(),
        };
        group.change(now, change).is_ok()
    }

    fn transfer(&mut self, replica: u64, to: u64) -> bool {
        let now = self.now;
        self.group(replica)
            .transfer(now, ReplicaId::new(to))
            .is_ok()
    }

    fn add(&mut self, replica: u64) {
        self.start(replica, Restored::newcomer(), Disk::empty(self.founders));
    }

    fn crash(&mut self, replica: u64) {
        if let Some(node) = self.live.remove(&replica) {
            self.down.insert(replica, node.disk);
        }
    }

    fn restart(&mut self, replica: u64) {
        let disk = self.down.remove(&replica).expect("it is down");
        let key = ReplicaKey {
            group: GroupId::ZERO,
            replica: ReplicaId::new(replica),
        };
        let restored = match disk.store.recover(key).expect("memory") {
            Some(recovered) => Restored::after_restart(recovered, Some(disk.state.clone())),
            None => Restored::newcomer(),
        };
        self.start(replica, restored, disk);
    }

    fn cut(&mut self, links: &BTreeSet<(u64, u64)>) {
        self.wire.cut(links);
    }

    fn settle(&mut self) {
        loop {
            for node in self.live.values_mut() {
                node.drain(&mut self.wire, self.now);
            }
            let Some((to, message)) = self.wire.next() else {
                return;
            };
            if let Some(node) = self.live.get_mut(&to) {
                node.group.receive(self.now, message);
            }
        }
    }

    fn beat(&mut self) {
        self.now += BEAT;
        self.tick_leaders();
    }

    fn pass(&mut self) {
        // After a jump a leader asks first,
        self.now += TIMEOUT + 2 * BEAT;
        self.tick_leaders();
        self.settle();
        // and judges by the answers with the next beat.
        self.beat();
    }

    fn look(&self, replica: u64) -> Look {
        let Node { group, disk } = &self.live[&replica];
        Look {
            term: group.status().term.get(),
            leads: group.status().role == Role::Leader,
            commands: disk.commands.clone(),
            members: disk.members.clone(),
        }
    }
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload.try_into().expect("as proposed"))
}

fn members(configuration: &Configuration) -> Members {
    let half = |ids: &[ReplicaId]| ids.iter().map(|id| id.get()).collect();
    Members {
        voters: half(&configuration.voters),
        outgoing: half(&configuration.outgoing),
        learners: half(&configuration.learners),
        learners_next: half(&configuration.learners_next),
    }
}
