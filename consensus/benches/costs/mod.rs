//! What a group takes from the allocator: per commit, per message, and at rest.
//!
//! Here: [`Meter`], three replicas whose own allocations are counted, those of store, wire and payloads not. Called by the benchmark
//! `memory`, which prints them, and by the test `costs`, which bounds them.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use allocation_counter::measure;
use bytes::Bytes;
use synod_consensus::{
    CheckedOptions, Configuration, Group, GroupId, GroupOptions, LogIndex, LogStore, MemoryStore,
    Message, Output, ReplicaId, ReplicaKey, Restored, Role,
};

/// Exchanged by groups that went to rest, before they are measured.
const HEARTBEATS: usize = 8;

/// Replicas 0, 1 and 2; the first one leads.
pub(crate) struct Meter {
    /// One value per node, shared by its groups.
    options: CheckedOptions,
    nodes: [Node; 3],
    wire: VecDeque<Message>,
    now: Duration,
}

struct Node {
    group: Group,
    store: MemoryStore,
    key: ReplicaKey,
    applied: LogIndex,
    /// Blocks that this replica's group allocated.
    allocations: u64,
}

/// What one group occupies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// The value itself and all that it alone holds on the heap.
    pub(crate) bytes: usize,
    /// Of that: the value.
    inline: usize,
    /// Blocks on the heap.
    blocks: usize,
}

impl core::fmt::Display for Footprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            bytes,
            inline,
            blocks,
        } = self;
        let heap = bytes - inline;
        write!(
            f,
            "{bytes} bytes = {inline} in the value + {heap} in {blocks} blocks"
        )
    }
}

impl Meter {
    /// Three voters, the first one leading, its first entry applied everywhere.
    pub(crate) fn new() -> Self {
        let options: CheckedOptions = GroupOptions::default().check().expect("defaults");
        let founding = Configuration::of_voters((1..=3).map(ReplicaId::new));
        let now = Duration::from_millis(1);
        let nodes = [1, 2, 3].map(|id| {
            let key = ReplicaKey {
                group: GroupId::ZERO,
                replica: ReplicaId::new(id),
            };
            let restored = Restored::founding(founding.clone());
            let group = Group::new(options.clone(), key.group, key.replica, restored, id, now);
            Node {
                group: group.expect("founding"),
                store: MemoryStore::new(),
                key,
                applied: LogIndex::ZERO,
                allocations: 0,
            }
        });
        let mut meter = Self {
            options,
            nodes,
            wire: VecDeque::new(),
            now,
        };
        meter.nodes[0].metered(|group| group.campaign(now));
        meter.settle();
        assert_eq!(meter.nodes[0].group.status().role, Role::Leader);
        meter.notice();
        meter
    }

    /// Proposes `batch` commands and settles.
    pub(crate) fn commit(&mut self, batch: u64) {
        let now = self.now;
        for _ in 0..batch {
            let payload = Bytes::from_static(&[7; 16]);
            self.nodes[0].metered(|group| {
                group.propose(now, payload).expect("it leads");
            });
        }
        self.settle();
    }

    /// Time passes until the leader tells followers of its commits; the logs are cut as far as options allow.
    pub(crate) fn notice(&mut self) {
        self.pass(self.options.commit_notice);
        self.each(|node, now| node.group.compact(now, node.applied));
    }

    /// Time passes, timers ring.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.each(|node, now| {
            if node.group.wake_at().is_some_and(|at| at <= now) {
                node.metered(|group| group.tick(now));
            }
        });
    }

    /// Everything is applied and checkpointed: the logs are emptied, as the runtime does with groups that fell asleep.
    pub(crate) fn sleep(&mut self) {
        self.notice();
        self.each(|node, now| node.group.compact_all(now, node.applied));
        for _ in 0..HEARTBEATS {
            self.pass(self.options.heartbeat_interval);
        }
    }

    /// Lets the time up to just before each replica's next wake-up pass in steps, asking it to tick at each. Returns the blocks that
    /// it allocated, the outputs that came of it, and whether the next wake-up stayed where it was.
    pub(crate) fn rest(&mut self) -> [(u64, usize, bool); 3] {
        [0, 1, 2].map(|place| {
            let node = &mut self.nodes[place];
            let at = node.group.wake_at().expect("voters have timers");
            let step = (at - self.now) / 100;
            let before = node.allocations;
            let mut outputs = 0;
            for nth in 0..100 {
                let now = self.now + step * nth;
                node.metered(|group| {
                    group.tick(now);
                    outputs += usize::from(group.poll_output().is_some());
                });
            }
            let stays = node.group.wake_at() == Some(at);
            (node.allocations - before, outputs, stays)
        })
    }

    fn each(&mut self, mut act: impl FnMut(&mut Node, Duration)) {
        for node in &mut self.nodes {
            act(node, self.now);
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                node.drain(&mut self.wire, self.now);
            }
            let Some(message) = self.wire.pop_front() else {
                return;
            };
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        let now = self.now;
        let to = message.to.get() as usize - 1;
        self.nodes[to].metered(|group| group.receive(now, message));
    }

    /// Blocks allocated so far by each group.
    pub(crate) fn allocations(&self) -> [u64; 3] {
        [0, 1, 2].map(|place| self.nodes[place].allocations)
    }

    /// Blocks allocated per commit, at the leader and at a follower, over `batches` batches of `batch` commands.
    pub(crate) fn per_commit(batch: u64, batches: u64) -> (f64, f64) {
        let mut meter = Self::new();
        let mut counted = [0; 3];
        for round in 0..2 {
            let before = meter.allocations();
            for nth in 0..batches {
                meter.commit(batch);
                if nth % 16 == 0 {
                    meter.notice();
                }
            }
            if round > 0 {
                let after = meter.allocations();
                counted = [0, 1, 2].map(|place| after[place] - before[place]);
            }
        }
        let commits = (batch * batches) as f64;
        (counted[0] as f64 / commits, counted[1] as f64 / commits)
    }

    /// Blocks allocated for one message, or one beat of the leader's timer, until everything that follows from it at that replica
    /// is done: the most of many, by name.
    pub(crate) fn per_message(mut self) -> BTreeMap<&'static str, u64> {
        for _ in 0..200 {
            self.commit(1); // buffers grow to their size
            self.notice();
        }
        let mut most = BTreeMap::new();
        for round in 0..100 {
            if round % 2 == 0 {
                let (now, payload) = (self.now, Bytes::from_static(&[7; 16]));
                self.costs(&mut most, "proposal", 0, |group| {
                    group.propose(now, payload).expect("it leads");
                });
            } else {
                self.now += self.options.heartbeat_interval;
                let now = self.now;
                self.costs(&mut most, "beat", 0, |group| group.tick(now));
            }
            let now = self.now;
            while let Some(message) = self.wire.pop_front() {
                let (name, to) = (message.name(), message.to.get() as usize - 1);
                self.costs(&mut most, name, to, |group| group.receive(now, message));
            }
        }
        most
    }

    fn costs(
        &mut self,
        most: &mut BTreeMap<&'static str, u64>,
        name: &'static str,
        place: usize,
        act: impl FnOnce(&mut Group),
    ) {
        let node = &mut self.nodes[place];
        let before = node.allocations;
        node.metered(act);
        node.drain(&mut self.wire, self.now);
        let took = node.allocations - before;
        let known = most.entry(name).or_default();
        *known = took.max(*known);
    }

    /// What each group occupies now.
    pub(crate) fn footprints(self) -> [Footprint; 3] {
        let Self { options, nodes, .. } = self;
        // What dropping it sets free is what it alone held; shared payloads and options stay with their other holders.
        let footprints = nodes.map(|Node { group, .. }| {
            let freed = measure(|| drop(group));
            let inline = size_of::<Group>();
            let heap = usize::try_from(-freed.bytes_current).expect("dropping allocates nothing");
            Footprint {
                bytes: inline + heap,
                inline,
                blocks: usize::try_from(-freed.count_current).expect("the same"),
            }
        });
        drop(options);
        footprints
    }

    /// A group at rest after it was busy: its log compacted, heartbeats exchanged.
    pub(crate) fn at_rest() -> Self {
        let mut meter = Self::new();
        for _ in 0..200 {
            meter.commit(64);
            meter.notice();
        }
        meter.sleep();
        meter
    }
}

impl Node {
    fn metered(&mut self, act: impl FnOnce(&mut Group)) {
        self.allocations += measure(|| act(&mut self.group)).count_total;
    }

    fn drain(&mut self, wire: &mut VecDeque<Message>, now: Duration) {
        loop {
            let mut output = None;
            self.metered(|group| output = group.poll_output());
            match output {
                Some(Output::Persist(persist)) => {
                    self.store
                        .write(&[(self.key, persist.writes)])
                        .expect("memory");
                    self.metered(|group| group.persisted(now, persist.token));
                }
                Some(Output::Send(message)) => wire.push_back(message),
                Some(Output::Apply(entries)) => {
                    let last = entries.last().expect("not empty").index;
                    self.applied = last;
                    self.metered(|group| group.applied(now, last));
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}
