//! Our own machine.

use core::time::Duration;
use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use synod_consensus::{
    Configuration, EntryKind, Group, GroupId, GroupOptions, LogStore, MemoryStore, Message, Output,
    ReplicaId, ReplicaKey, Restored, Role,
};

use super::{COMPACT_EVERY, KEEP, Trio, command};

struct Node {
    group: Group,
    store: MemoryStore,
    key: ReplicaKey,
    commands: u64,
    applied: u64,
    compacted: u64,
}

/// Three of ours.
pub(crate) struct Synod {
    nodes: [Node; 3],
    wire: VecDeque<Message>,
    now: Duration,
    proposed: u64,
}

impl Trio for Synod {
    const NAME: &'static str = "synod";

    fn new(_batch: u64) -> Self {
        let founding = Configuration::of_voters((1..=3).map(ReplicaId::new));
        let nodes = [1, 2, 3].map(|id| {
            let key = ReplicaKey {
                group: GroupId::ZERO,
                replica: ReplicaId::new(id),
            };
            let options = GroupOptions {
                keep_entries: KEEP,
                ..GroupOptions::default()
            };
            let restored = Restored::founding(founding.clone());
            let options = options.check().expect("they hang together");
            Node {
                group: Group::new(
                    options,
                    key.group,
                    key.replica,
                    restored,
                    id,
                    Duration::ZERO,
                )
                .expect("founding"),
                store: MemoryStore::new(),
                key,
                commands: 0,
                applied: 0,
                compacted: 0,
            }
        });
        let mut trio = Self {
            nodes,
            wire: VecDeque::new(),
            now: Duration::from_millis(1),
            proposed: 0,
        };
        trio.nodes[0].group.campaign(trio.now);
        trio.settle();
        assert_eq!(trio.nodes[0].group.status().role, Role::Leader);
        trio
    }

    fn commit(&mut self, batch: u64) {
        for _ in 0..batch {
            let payload = Bytes::copy_from_slice(&command(self.proposed));
            self.nodes[0]
                .group
                .propose(self.now, payload)
                .expect("it leads");
            self.proposed += 1;
        }
        self.settle();
    }

    fn applied(&mut self) -> [u64; 3] {
        // Without a further append the news of a commit waits for this timer.
        let notice = self.nodes[0].group.options().commit_notice;
        self.now += notice;
        self.nodes[0].group.tick(self.now);
        self.settle();
        [0, 1, 2].map(|place| self.nodes[place].commands)
    }
}

impl Synod {
    /// Delivers messages until none is left, those to one replica together.
    fn settle(&mut self) {
        // Like any driver: after an input, the outputs of the group that had it. From outside, only the leader has any.
        self.nodes[0].drain(&mut self.wire, self.now);
        while let Some(message) = self.wire.pop_front() {
            let to = place(&message);
            self.nodes[to].group.receive(self.now, message);
            while self
                .wire
                .front()
                .is_some_and(|message| place(message) == to)
            {
                let message = self.wire.pop_front().expect("looked at just now");
                self.nodes[to].group.receive(self.now, message);
            }
            self.nodes[to].drain(&mut self.wire, self.now);
        }
    }
}

fn place(message: &Message) -> usize {
    message.to.get() as usize - 1
}

impl Node {
    fn drain(&mut self, wire: &mut VecDeque<Message>, now: Duration) {
        while let Some(output) = self.group.poll_output() {
            match output {
                Output::Persist(persist) => {
                    self.store
                        .write(&[(self.key, persist.writes)])
                        .expect("memory");
                    self.group.persisted(now, persist.token);
                }
                Output::Send(message) => wire.push_back(message),
                Output::Apply(entries) => {
                    for entry in black_box(&entries) {
                        self.commands += u64::from(entry.kind == EntryKind::Normal);
                    }
                    let last = entries.last().expect("not empty").index;
                    self.applied = last.get();
                    self.group.applied(now, last);
                    if self.applied > self.compacted + COMPACT_EVERY {
                        self.compacted = self.applied;
                        self.group.compact(now, last);
                    }
                }
                _ => {}
            }
        }
    }
}
