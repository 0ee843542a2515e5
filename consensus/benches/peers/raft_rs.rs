//! raft-rs 0.7 (crate `raft`), driven as its documentation says.
//!
//! Options to its advantage: appends of up to 1 MiB (its default is one entry per append), no message that only tells followers of
//! a commit (they learn of it with the next append, as with us), no logger.

use std::collections::VecDeque;
use std::hint::black_box;

use raft::eraftpb::{Entry, EntryType, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::{COMPACT_EVERY, KEEP, Trio, command};

struct Node {
    raw: RawNode<MemStorage>,
    store: MemStorage,
    commands: u64,
    applied: u64,
    compacted: u64,
}

/// Three of raft-rs.
pub(crate) struct RaftRs {
    nodes: [Node; 3],
    wire: VecDeque<Message>,
    proposed: u64,
}

impl Trio for RaftRs {
    const NAME: &'static str = "raft-rs";

    fn new(_batch: u64) -> Self {
        let nodes = [1, 2, 3].map(|id| {
            let store = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            let config = Config {
                id,
                max_size_per_msg: 1 << 20,
                pre_vote: true,
                check_quorum: true,
                skip_bcast_commit: true,
                ..Config::default()
            };
            let logger = slog::Logger::root(slog::Discard, slog::o!());
            Node {
                raw: RawNode::new(&config, store.clone(), &logger).expect("a sound configuration"),
                store,
                commands: 0,
                applied: 0,
                compacted: 0,
            }
        });
        let mut trio = Self {
            nodes,
            wire: VecDeque::new(),
            proposed: 0,
        };
        trio.nodes[0].raw.campaign().expect("a voter");
        trio.settle();
        assert_eq!(trio.nodes[0].raw.raft.state, StateRole::Leader);
        trio
    }

    fn commit(&mut self, batch: u64) {
        for _ in 0..batch {
            let payload = command(self.proposed).to_vec();
            self.nodes[0]
                .raw
                .propose(Vec::new(), payload)
                .expect("it leads");
            self.proposed += 1;
        }
        self.settle();
    }

    fn applied(&mut self) -> [u64; 3] {
        self.nodes[0].raw.ping();
        self.settle();
        [0, 1, 2].map(|place| self.nodes[place].commands)
    }
}

impl RaftRs {
    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                while node.raw.has_ready() {
                    node.drain(&mut self.wire);
                }
            }
            let Some(message) = self.wire.pop_front() else {
                return;
            };
            let to = message.to;
            self.nodes[to as usize - 1]
                .raw
                .step(message)
                .expect("a message of this group");
            while self.wire.front().is_some_and(|message| message.to == to) {
                let message = self.wire.pop_front().expect("looked at just now");
                self.nodes[to as usize - 1]
                    .raw
                    .step(message)
                    .expect("a message of this group");
            }
        }
    }
}

impl Node {
    fn drain(&mut self, wire: &mut VecDeque<Message>) {
        let mut ready = self.raw.ready();
        wire.extend(ready.take_messages());
        self.apply(&ready.take_committed_entries());
        self.store
            .wl()
            .append(ready.entries())
            .expect("contiguous entries");
        if let Some(hard_state) = ready.hs() {
            self.store.wl().set_hardstate(hard_state.clone());
        }
        wire.extend(ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.store.wl().mut_hard_state().set_commit(commit);
        }
        wire.extend(light.take_messages());
        self.apply(&light.take_committed_entries());
        self.raw.advance_apply();
        if self.applied > self.compacted + COMPACT_EVERY {
            self.compacted = self.applied;
            self.store
                .wl()
                .compact(self.applied - KEEP)
                .expect("applied entries");
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in black_box(entries) {
            let is_command =
                entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty();
            self.commands += u64::from(is_command);
        }
        if let Some(last) = entries.last() {
            self.applied = last.index;
        }
    }
}
