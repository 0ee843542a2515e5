//! omnipaxos 0.2 with its own store in memory.
//!
//! Options to its advantage: its batch size is the batch, so that a batch is one write and one message.
//!
//! Its entries are of any type. [`Heap`] is what a carrier of commands of many kinds uses, as the entries of the other machines are:
//! bytes on the heap. [`Inline`] is a plain array: then a batch is copied like memory, which no log of byte strings can match; it is
//! shown so that nobody has to guess.

use std::hint::black_box;

use bytes::Bytes;
use omnipaxos::macros::Entry;
use omnipaxos::messages::Message;
use omnipaxos::storage::Entry as LogType;
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::{COMMAND, COMPACT_EVERY, KEEP, Trio, command};

/// A command as omnipaxos carries it.
pub(crate) trait Command: LogType {
    /// How the table names it.
    const NAME: &'static str;

    /// Command `number`.
    fn number(number: u64) -> Self;
}

/// Bytes on the heap.
#[derive(Clone, Debug, Entry)]
pub(crate) struct Heap(#[expect(dead_code, reason = "carried, never looked at")] Bytes);

impl Command for Heap {
    const NAME: &'static str = "omnipaxos";

    fn number(number: u64) -> Self {
        Self(Bytes::copy_from_slice(&command(number)))
    }
}

/// A plain array.
#[derive(Clone, Debug, Entry)]
pub(crate) struct Inline(#[expect(dead_code, reason = "carried, never looked at")] [u8; COMMAND]);

impl Command for Inline {
    const NAME: &'static str = "its arrays";

    fn number(number: u64) -> Self {
        Self(command(number))
    }
}

struct Node<C: Command> {
    paxos: OmniPaxos<C, MemoryStorage<C>>,
    applied: usize,
}

/// Three of omnipaxos.
pub(crate) struct Omni<C: Command> {
    nodes: [Node<C>; 3],
    incoming: Vec<Message<C>>,
    outgoing: Vec<Message<C>>,
    leader: usize,
    proposed: u64,
    compacted: u64,
}

impl<C: Command> Trio for Omni<C> {
    const NAME: &'static str = C::NAME;

    fn new(batch: u64) -> Self {
        let nodes = [1, 2, 3].map(|pid| {
            let config = OmniPaxosConfig {
                cluster_config: ClusterConfig {
                    configuration_id: 1,
                    nodes: vec![1, 2, 3],
                    flexible_quorum: None,
                },
                server_config: ServerConfig {
                    pid,
                    election_tick_timeout: 1,
                    batch_size: batch as usize,
                    ..ServerConfig::default()
                },
            };
            Node {
                paxos: config
                    .build(MemoryStorage::default())
                    .expect("a sound configuration"),
                applied: 0,
            }
        });
        let mut trio = Self {
            nodes,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            leader: 0,
            proposed: 0,
            compacted: 0,
        };
        for _ in 0..100 {
            for node in &mut trio.nodes {
                node.paxos.tick();
            }
            trio.settle();
        }
        let (leader, _) = trio.nodes[0].paxos.get_current_leader().expect("elected");
        trio.leader = leader as usize - 1;
        trio
    }

    fn commit(&mut self, batch: u64) {
        for _ in 0..batch {
            self.nodes[self.leader]
                .paxos
                .append(C::number(self.proposed))
                .expect("it leads");
            self.proposed += 1;
        }
        self.settle();
        if self.proposed > self.compacted + COMPACT_EVERY {
            self.compacted = self.proposed;
            let keep_from = (self.proposed - KEEP) as usize;
            self.nodes[self.leader]
                .paxos
                .trim(Some(keep_from))
                .expect("accepted by all");
            self.settle();
        }
    }

    fn applied(&mut self) -> [u64; 3] {
        [0, 1, 2].map(|place| self.nodes[place].applied as u64)
    }
}

impl<C: Command> Omni<C> {
    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                node.paxos.take_outgoing_messages(&mut self.outgoing);
                node.apply();
            }
            if self.outgoing.is_empty() {
                return;
            }
            core::mem::swap(&mut self.incoming, &mut self.outgoing);
            for message in self.incoming.drain(..) {
                let to = message.get_receiver() as usize - 1;
                self.nodes[to].paxos.handle_incoming(message);
            }
        }
    }
}

impl<C: Command> Node<C> {
    fn apply(&mut self) {
        let decided = self.paxos.get_decided_idx();
        if decided <= self.applied {
            return;
        }
        let entries = self
            .paxos
            .read_decided_suffix(self.applied)
            .expect("not trimmed");
        for entry in black_box(&entries) {
            self.applied += usize::from(matches!(entry, LogEntry::Decided(_)));
        }
    }
}
