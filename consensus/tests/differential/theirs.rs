//! The world of raft-rs 0.7.

use std::collections::{BTreeMap, BTreeSet};

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message,
};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use crate::world::{Change, Look, Members, Wire, World};

/// In ticks.
const TIMEOUT: usize = 10;
/// So many ticks that no replica ever campaigns by itself.
const NEVER: usize = 1_000_000;

pub(crate) struct Theirs {
    founders: u64,
    live: BTreeMap<u64, Node>,
    down: BTreeMap<u64, Disk>,
    wire: Wire<Message>,
}

/// What survives a crash: the log, and a state machine that is durable with every step.
struct Disk {
    store: MemStorage,
    applied: u64,
    commands: Vec<u64>,
    members: Members,
}

struct Node {
    raw: RawNode<MemStorage>,
    disk: Disk,
}

impl Theirs {
    pub(crate) fn new(voters: u64) -> Self {
        let mut world = Self {
            founders: voters,
            live: BTreeMap::new(),
            down: BTreeMap::new(),
            wire: Wire::new(),
        };
        for replica in 1..=voters {
            world.add(replica);
        }
        world
    }

    fn start(&mut self, replica: u64, disk: Disk) {
        let config = Config {
            id: replica,
            election_tick: TIMEOUT,
            heartbeat_tick: 1,
            min_election_tick: NEVER,
            max_election_tick: NEVER + 1,
            applied: disk.applied,
            max_size_per_msg: 1 << 20,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw =
            RawNode::new(&config, disk.store.clone(), &logger).expect("what was stored is sound");
        self.live.insert(replica, Node { raw, disk });
    }

    fn raw(&mut self, replica: u64) -> &mut RawNode<MemStorage> {
        &mut self.live.get_mut(&replica).expect("it lives").raw
    }
}

impl Node {
    fn drain(&mut self, replica: u64, wire: &mut Wire<Message>) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            let mut messages = ready.take_messages();
            self.apply(&ready.take_committed_entries());
            let store = self.disk.store.clone();
            store
                .wl()
                .append(ready.entries())
                .expect("entries fit the log");
            if let Some(hard_state) = ready.hs() {
                store.wl().set_hardstate(hard_state.clone());
            }
            messages.extend(ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                store.wl().mut_hard_state().set_commit(commit);
            }
            messages.extend(light.take_messages());
            self.apply(&light.take_committed_entries());
            self.raw.advance_apply();
            for message in messages {
                wire.send(replica, message.to, message);
            }
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.disk.applied = entry.index;
            match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => self.disk.commands.push(u64::from_le_bytes(
                    entry.data[..].try_into().expect("as proposed"),
                )),
                EntryType::EntryConfChange => unreachable!("nobody proposes the old form"),
                EntryType::EntryConfChangeV2 => {
                    let mut change = ConfChangeV2::default();
                    change.merge_from_bytes(&entry.data).expect("as proposed");
                    let state = self
                        .raw
                        .apply_conf_change(&change)
                        .expect("a change that ours took");
                    self.disk.members = members(&state);
                    self.disk.store.wl().set_conf_state(state);
                }
            }
        }
    }
}

impl World for Theirs {
    fn campaign(&mut self, replica: u64) {
        // An error says that it may not: the comparison shows whether ours may.
        let _ = self.raw(replica).campaign();
    }

    fn propose(&mut self, replica: u64, command: u64) -> bool {
        let data = command.to_le_bytes().to_vec();
        self.raw(replica).propose(Vec::new(), data).is_ok()
    }

    fn change(&mut self, replica: u64, change: &Change) -> bool {
        let Change {
            from,
            voters,
            learners,
        } = change;
        let mut wanted = ConfChangeV2::default();
        let steps = [
            (ConfChangeType::AddNode, voters.difference(&from.voters)),
            (
                ConfChangeType::AddLearnerNode,
                learners.difference(&from.learners),
            ),
        ];
        for (kind, replicas) in steps {
            for replica in replicas {
                wanted.mut_changes().push(single(kind, *replica));
            }
        }
        let gone = |replica: &&u64| !voters.contains(replica) && !learners.contains(replica);
        for replica in from.voters.union(&from.learners).filter(gone) {
            wanted
                .mut_changes()
                .push(single(ConfChangeType::RemoveNode, *replica));
        }
        let simple = *voters == from.voters;
        if !simple {
            wanted.set_transition(ConfChangeTransition::Implicit);
        }
        self.raw(replica)
            .propose_conf_change(Vec::new(), wanted)
            .is_ok()
    }

    fn transfer(&mut self, replica: u64, to: u64) -> bool {
        self.raw(replica).transfer_leader(to);
        true
    }

    fn add(&mut self, replica: u64) {
        let voters: Vec<u64> = (1..=self.founders).collect();
        let disk = Disk {
            store: MemStorage::new_with_conf_state((voters, Vec::new())),
            applied: 0,
            commands: Vec::new(),
            members: Members::of_voters(1..=self.founders),
        };
        self.start(replica, disk);
    }

    fn crash(&mut self, replica: u64) {
        if let Some(node) = self.live.remove(&replica) {
            self.down.insert(replica, node.disk);
        }
    }

    fn restart(&mut self, replica: u64) {
        let disk = self.down.remove(&replica).expect("it is down");
        self.start(replica, disk);
    }

    fn cut(&mut self, links: &BTreeSet<(u64, u64)>) {
        self.wire.cut(links);
    }

    fn settle(&mut self) {
        loop {
            for (replica, node) in &mut self.live {
                node.drain(*replica, &mut self.wire);
            }
            let Some((to, message)) = self.wire.next() else {
                return;
            };
            if let Some(node) = self.live.get_mut(&to) {
                // An error says that the sender is unknown here: as good as lost.
                let _ = node.raw.step(message);
            }
        }
    }

    fn beat(&mut self) {
        for node in self.live.values_mut() {
            node.raw.ping();
        }
    }

    fn pass(&mut self) {
        // A leader judges once per timeout by what it heard since it last judged; only the second judgement is of this pass alone.
        for _ in 0..2 * TIMEOUT {
            for node in self.live.values_mut() {
                node.raw.tick();
            }
            self.settle();
        }
    }

    fn look(&self, replica: u64) -> Look {
        let Node { raw, disk } = &self.live[&replica];
        Look {
            term: raw.raft.term,
            leads: raw.raft.state == StateRole::Leader,
            commands: disk.commands.clone(),
            members: disk.members.clone(),
        }
    }
}

fn single(kind: ConfChangeType, replica: u64) -> ConfChangeSingle {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = replica;
    single
}

fn members(state: &ConfState) -> Members {
    let half = |ids: &[u64]| ids.iter().copied().collect();
    Members {
        voters: half(&state.voters),
        outgoing: half(&state.voters_outgoing),
        learners: half(&state.learners),
        learners_next: half(&state.learners_next),
    }
}
