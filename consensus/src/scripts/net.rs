//! A network and disks that do exactly what a script says.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::message::Body;
use crate::storage::{HardState, LogStore, Write};
use crate::{
    Change, Configuration, EntryKind, Group, GroupId, GroupOptions, LogIndex, MemoryStore, Message,
    Output, Persist, Position, ReadId, ReplicaId, ReplicaKey, Restored, Role, SnapshotMeta, Status,
    Term, TransferOutcome,
};

use super::node::{Disk, Node, snapshot_of};
use super::shelf::{Partial, Room, Shelf, Snapshot};
use super::{entries, id};

/// Replicas 1.. of group 0, wires between them, and a clock.
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) wire: VecDeque<Message>,
    cut: BTreeSet<(u64, u64)>,
    options: GroupOptions,
    restarts: u64,
}

impl Net {
    pub(super) fn new(voters: u64) -> Self {
        Self::with(voters, Self::options())
    }

    /// What stories run with unless they are about an option.
    pub(super) fn options() -> GroupOptions {
        // Most stories are about something else; those about leases ask for them.
        GroupOptions {
            lease: Duration::ZERO,
            ..GroupOptions::default()
        }
    }

    pub(super) fn with(voters: u64, options: GroupOptions) -> Self {
        let mut net = Self {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            options,
            restarts: 0,
        };
        let founding = Configuration::of_voters((1..=voters).map(id));
        for replica in 1..=voters {
            net.start(
                replica,
                Restored::founding(founding.clone()),
                MemoryStore::new(),
                Shelf::default(),
            );
        }
        net.settle();
        net
    }

    /// Replicas 1.., each with the term it knows and the terms of its log's entries, on disk; nothing is committed, nobody leads.
    pub(super) fn with_logs(logs: &[(u64, &[u64])]) -> Self {
        let mut net = Self::new(0);
        let base =
            SnapshotMeta::founding(Configuration::of_voters((1..=logs.len() as u64).map(id)));
        for (replica, (term, log)) in (1..).zip(logs) {
            let hard_state = HardState {
                term: Term::new(*term),
                ..HardState::default()
            };
            let entries: Vec<_> = (1..)
                .zip(*log)
                .flat_map(|(index, term)| entries(*term, index..=index))
                .collect();
            let key = ReplicaKey {
                group: GroupId::ZERO,
                replica: id(replica),
            };
            let writes = vec![
                Write::Reset { to: base.clone() },
                Write::HardState(hard_state),
                Write::Append(entries.clone().into()),
            ];
            let mut store = MemoryStore::new();
            store.write(&[(key, writes)]).unwrap();
            let restored = Restored {
                hard_state,
                base: base.clone(),
                entries,
                state: base.clone(),
                is_new: false,
            };
            net.start(replica, restored, store, Shelf::default());
        }
        net.settle();
        net
    }

    /// The voters of the configuration that is effective at `replica`, of the new half if it is joint.
    pub(super) fn voters(&self, replica: u64) -> Vec<u64> {
        let configuration = self.status(replica).configuration;
        let voters = configuration.voters.iter();
        voters.map(|voter| voter.get()).collect()
    }

    /// Delivers messages until `replica` leads. Whenever none is left, the disks of `writers`, and no others, do one write each.
    pub(super) fn until_led_with_disks_of(&mut self, replica: u64, writers: &[u64]) {
        while self.status(replica).role != Role::Leader {
            match self.wire.pop_front() {
                Some(message) => self.deliver(message),
                None => writers.iter().for_each(|writer| {
                    self.write_one(*writer);
                }),
            }
        }
    }

    /// A group whose replica `leader` leads and has committed its first entry.
    pub(super) fn led(voters: u64, leader: u64) -> Self {
        let mut net = Self::new(voters);
        net.elect(leader);
        net
    }

    fn start(&mut self, replica: u64, restored: Restored, store: MemoryStore, shelf: Shelf) {
        self.restarts += 1;
        let options = self.options.clone().check().unwrap();
        let applied = shelf
            .checkpoint
            .as_ref()
            .map_or_else(Vec::new, Snapshot::entries);
        let mut group = Group::new(
            options,
            GroupId::ZERO,
            id(replica),
            restored,
            replica * 1_000 + self.restarts,
            self.now,
        )
        .unwrap();
        if let Some(partial) = &shelf.partial {
            group.partial_snapshot(self.now, partial.meta.clone(), partial.id, partial.held());
        }
        let node = Node {
            group,
            store,
            queue: VecDeque::new(),
            disk_held: false,
            apply_held: false,
            to_apply: VecDeque::new(),
            applied,
            shelf,
            events: Vec::new(),
        };
        self.nodes.insert(replica, node);
    }

    pub(super) fn add_newcomer(&mut self, replica: u64) {
        self.start(
            replica,
            Restored::newcomer(),
            MemoryStore::new(),
            Shelf::default(),
        );
    }

    /// Loses what is in memory and what the disk has not done; comes back with the rest.
    pub(super) fn crash(&mut self, replica: u64) {
        let disk = self.stop(replica);
        self.start_from(replica, disk);
    }

    /// Ends a replica; what is left is its disk.
    pub(super) fn stop(&mut self, replica: u64) -> Disk {
        let node = self.nodes.remove(&replica).unwrap();
        Disk {
            store: node.store,
            shelf: node.shelf.after_crash(),
        }
    }

    /// Starts a replica from its disk.
    pub(super) fn start_from(&mut self, replica: u64, disk: Disk) {
        let restored = disk.restored(replica);
        self.start(replica, restored, disk.store, disk.shelf);
    }

    pub(super) fn node(&mut self, replica: u64) -> &mut Node {
        self.nodes.get_mut(&replica).unwrap()
    }

    pub(super) fn group(&mut self, replica: u64) -> &mut Group {
        &mut self.node(replica).group
    }

    pub(super) fn status(&self, replica: u64) -> Status {
        self.nodes[&replica].group.status()
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leading = |(replica, node): (&u64, &Node)| {
            (node.group.role == Role::Leader).then_some((node.group.term, *replica))
        };
        self.nodes
            .iter()
            .filter_map(leading)
            .max()
            .map(|(_, replica)| replica)
    }

    /// Whom `replica` takes for the leader.
    pub(super) fn leader_of(&self, replica: u64) -> Option<u64> {
        self.status(replica).leader.map(ReplicaId::get)
    }

    /// Terms of all entries that are not compacted.
    pub(super) fn log(&self, replica: u64) -> Vec<u64> {
        let group = &self.nodes[&replica].group;
        let (first, last) = (group.log.first_index().get(), group.log.last_index().get());
        (first..=last)
            .map(|i| group.log.term_at(LogIndex::new(i)).unwrap().get())
            .collect()
    }

    pub(super) fn applied(&self, replica: u64) -> Vec<String> {
        let payloads = self.nodes[&replica]
            .applied
            .iter()
            .filter(|entry| entry.kind == EntryKind::Normal);
        payloads
            .map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap())
            .collect()
    }

    pub(super) fn cut(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(super) fn connect(&mut self, a: u64, b: u64) {
        self.cut.retain(|link| *link != (a, b) && *link != (b, a));
    }

    pub(super) fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    pub(super) fn isolate(&mut self, replica: u64) {
        let others: Vec<_> = self
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != replica)
            .collect();
        others
            .into_iter()
            .for_each(|other| self.cut(replica, other));
    }

    pub(super) fn heal_link(&mut self, a: u64, b: u64) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Takes messages of one kind off the wire, to be lost or delivered later.
    pub(super) fn take(&mut self, name: &str, to: u64) -> Vec<Message> {
        let (taken, rest): (VecDeque<_>, VecDeque<_>) = self
            .wire
            .drain(..)
            .partition(|message| message.name() == name && message.to == id(to));
        self.wire = rest;
        taken.into()
    }

    pub(super) fn on_wire(&self, name: &str, to: u64) -> usize {
        self.wire
            .iter()
            .filter(|message| message.name() == name && message.to == id(to))
            .count()
    }

    /// Draws the outputs of one node: messages go to the wire, writes to its disk's queue, events to its list.
    pub(super) fn drain(&mut self, replica: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&replica).unwrap();
        while let Some(output) = node.group.poll_output() {
            match output {
                Output::Send(message) => {
                    // Everything goes through the real encoding.
                    let bytes = rmp_serde::to_vec_named(&message).unwrap();
                    assert_eq!(rmp_serde::from_slice::<Message>(&bytes).unwrap(), message);
                    let link = (message.from.get(), message.to.get());
                    if !self.cut.contains(&link) {
                        self.wire.push_back(message);
                    }
                }
                Output::Persist(persist) => node.queue.push_back(persist),
                Output::Apply(entries) => node.to_apply.push_back(entries),
                Output::Install { meta, id } => match node.shelf.install(*meta, id) {
                    Some(applied) => {
                        node.to_apply.clear();
                        node.applied = applied;
                        node.group.installed(now, id.position);
                    }
                    None => node.group.install_refused(now, id),
                },
                Output::SnapshotNeeded { to } => {
                    node.shelf.needed += 1;
                    if let Some(snapshot) = snapshot_of(node)
                        && !node.shelf.offers_held
                    {
                        let offer = node.shelf.offer(to, snapshot);
                        node.group.provide_snapshot(now, to, offer);
                    }
                }
                Output::ReadChunk(wanted) => {
                    node.shelf.wanted.insert(wanted.to, wanted);
                    if !node.shelf.reads_held {
                        node.read_one();
                    }
                }
                Output::StoreChunk(chunk) => {
                    let id = chunk.id;
                    match node.shelf.room {
                        Room::Enough => {
                            let held = node.shelf.store(chunk);
                            node.group.chunk_stored(now, id, held);
                        }
                        Room::Full => {
                            node.shelf.drop_partial(id);
                            node.group.chunk_not_kept(now, id);
                        }
                        Room::Silent => {
                            let partial = node.shelf.partial.as_ref();
                            let partial = partial.filter(|partial| partial.id == id);
                            let held = partial.map_or(0, Partial::held);
                            node.group.chunk_stored(now, id, held);
                        }
                    }
                }
                Output::DropPartial { id } => node.shelf.drop_partial(id),
                Output::ShipmentEnded { to, end } => {
                    node.shelf.sources.remove(&to);
                    node.shelf.wanted.remove(&to);
                    node.shelf.ended.push((to, end));
                }
                event => node.events.push(event),
            }
        }
    }

    /// Does the oldest waiting write of one disk.
    pub(super) fn write_one(&mut self, replica: u64) -> bool {
        let now = self.now;
        let node = self.nodes.get_mut(&replica).unwrap();
        let Some(Persist { token, writes }) = node.queue.pop_front() else {
            return false;
        };
        let key = ReplicaKey {
            group: GroupId::ZERO,
            replica: id(replica),
        };
        node.store.write(&[(key, writes)]).unwrap();
        node.group.persisted(now, token);
        self.drain(replica);
        true
    }

    /// Reads a chunk for a follower, also where a story holds them.
    pub(super) fn read_chunk(&mut self, replica: u64) -> bool {
        let read = self.node(replica).read_one();
        self.drain(replica);
        read
    }

    /// Applies the oldest page that was handed out.
    pub(super) fn apply_one(&mut self, replica: u64) -> bool {
        let now = self.now;
        let node = self.nodes.get_mut(&replica).unwrap();
        let Some(entries) = node.to_apply.pop_front() else {
            return false;
        };
        let last = entries.last().unwrap().index;
        for entry in &entries {
            let expected = node.applied.last().map_or(1, |entry| entry.index.get() + 1);
            assert_eq!(
                entry.index.get(),
                expected,
                "H36: no gap and no repetition in what is applied"
            );
            node.applied.push(entry.clone());
        }
        node.group.applied(now, last);
        self.drain(replica);
        true
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let to = message.to.get();
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&to) {
            node.group.receive(now, message);
            self.drain(to);
        }
    }

    /// Lets one thing happen that needs no time: a message arrives, a write is done, a page is applied. `false`: nothing is left.
    pub(super) fn step(&mut self) -> bool {
        let replicas: Vec<_> = self.nodes.keys().copied().collect();
        replicas.iter().for_each(|replica| self.drain(*replica));
        if let Some(message) = self.wire.pop_front() {
            self.deliver(message);
            return true;
        }
        replicas.iter().any(|replica| {
            let (disk, apply) = (
                !self.nodes[replica].disk_held,
                !self.nodes[replica].apply_held,
            );
            (disk && self.write_one(*replica)) || (apply && self.apply_one(*replica))
        })
    }

    /// Lets everything happen that needs no time, except at disks that are held.
    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets things happen, none of which needs time, until `done`.
    pub(super) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.step(), "nothing is left to happen");
        }
    }

    /// Like `settle`, but stops as soon as a message of this kind to `to` is on the wire.
    pub(super) fn settle_until(&mut self, name: &str, to: u64) {
        while self.on_wire(name, to) == 0 {
            let message = self.wire.pop_front().expect("it will be said");
            self.deliver(message);
        }
    }

    /// Lets time pass and everything happen that falls due.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self
                .nodes
                .iter()
                .filter_map(|(replica, node)| Some((node.group.wake_at()?, *replica)))
                .min();
            let Some((at, replica)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            let now = self.now;
            self.group(replica).tick(now);
            self.drain(replica);
        }
        self.now = end;
        self.settle();
    }

    /// Lets time pass, but delivers and writes nothing: only timers fire.
    pub(super) fn pass_ms(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let now = self.now;
        let due: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.group.wake_at().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for replica in due {
            self.group(replica).tick(now);
            self.drain(replica);
        }
    }

    pub(super) fn run_ms(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    /// One replica campaigns at once; stickiness has run out because nobody led, or the script saw to it.
    pub(super) fn campaign(&mut self, replica: u64) {
        let now = self.now;
        self.group(replica).campaign(now);
        self.drain(replica);
    }

    /// Makes `replica` the leader of a group that has none.
    pub(super) fn elect(&mut self, replica: u64) {
        self.campaign(replica);
        self.settle();
        assert_eq!(self.leader(), Some(replica), "elected as the script says");
    }

    /// Ends everybody's stickiness to the present leader, as after its death.
    pub(super) fn forget_leader(&mut self, leader: u64) {
        let now = self.now;
        let others: Vec<_> = self
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != leader)
            .collect();
        for other in others {
            self.group(other).peer_silent(now, id(leader));
        }
    }

    pub(super) fn propose(&mut self, replica: u64, payload: &str) -> Position {
        let now = self.now;
        let position = self
            .group(replica)
            .propose(now, Bytes::copy_from_slice(payload.as_bytes()))
            .unwrap();
        self.drain(replica);
        position
    }

    pub(super) fn read(&mut self, replica: u64) -> ReadId {
        let now = self.now;
        let read = self.group(replica).read(now).unwrap();
        self.drain(replica);
        read
    }

    pub(super) fn change(&mut self, replica: u64, voters: &[u64], learners: &[u64]) -> Position {
        let change = self.wish(replica, voters, learners);
        let now = self.now;
        let position = self.group(replica).change(now, change).unwrap();
        self.drain(replica);
        position
    }

    pub(super) fn transfer(&mut self, replica: u64, to: u64) {
        let now = self.now;
        self.group(replica).transfer(now, id(to)).unwrap();
        self.drain(replica);
    }

    pub(super) fn prepare_transfer(&mut self, replica: u64, to: u64) {
        let now = self.now;
        self.group(replica).prepare_transfer(now, id(to)).unwrap();
        self.drain(replica);
    }

    pub(super) fn wish(&self, replica: u64, voters: &[u64], learners: &[u64]) -> Change {
        let set = |replicas: &[u64]| replicas.iter().copied().map(id).collect();
        Change {
            expected: self.status(replica).configuration_index,
            voters: set(voters),
            learners: set(learners),
        }
    }

    /// Writes a checkpoint of what is applied and compacts the log up to it.
    pub(super) fn checkpoint(&mut self, replica: u64, keep_nothing: bool) {
        let now = self.now;
        let node = self.nodes.get_mut(&replica).unwrap();
        node.shelf.checkpoint = snapshot_of(node);
        let through = node.group.applied;
        if keep_nothing {
            node.group.compact_all(now, through)
        } else {
            node.group.compact(now, through)
        }
        self.drain(replica);
    }

    /// Offers the present state of one replica to another; returns whether it is taken.
    pub(super) fn offer(&mut self, replica: u64, to: u64) -> bool {
        let now = self.now;
        let node = self.nodes.get_mut(&replica).unwrap();
        let offer = snapshot_of(node).expect("it applied something").offer();
        let taken = node.group.provide_snapshot(now, id(to), offer);
        self.drain(replica);
        taken
    }

    pub(super) fn has_event(&self, replica: u64, event: &Output) -> bool {
        self.nodes[&replica].events.contains(event)
    }

    pub(super) fn read_outcome(&self, replica: u64, read: ReadId) -> Option<Result<LogIndex, ()>> {
        self.nodes[&replica]
            .events
            .iter()
            .find_map(|event| match event {
                Output::ReadReady { id, index } if *id == read => Some(Ok(*index)),
                Output::ReadFailed { id } if *id == read => Some(Err(())),
                _ => None,
            })
    }

    pub(super) fn transfer_outcome(&self, replica: u64) -> Option<TransferOutcome> {
        self.nodes[&replica]
            .events
            .iter()
            .rev()
            .find_map(|event| match event {
                Output::TransferEnded { outcome, .. } => Some(*outcome),
                _ => None,
            })
    }

    pub(super) fn may_evaluate(&self, replica: u64, term: u64) -> bool {
        self.has_event(
            replica,
            &Output::MayEvaluate {
                term: Term::new(term),
            },
        )
    }
}

impl Net {
    /// A follower's answer to a heartbeat that says nothing but that it heard it.
    pub(super) fn heartbeat_reply(round: u64, sent: Duration) -> Body {
        Body::HeartbeatReply {
            round,
            sent,
            upto: LogIndex::ZERO,
            received: LogIndex::ZERO,
            matched: LogIndex::ZERO,
            promised: Duration::ZERO,
        }
    }
}
