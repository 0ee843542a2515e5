//! Nodes, wires and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_consensus::claims::{Beat, ClaimsOptions, ClaimsOutput, ClaimsSabotage, News};
use synod_consensus::{
    CheckedOptions, Configuration, GroupId, GroupOptions, LogStore, Output, Role, Sabotage, Term,
};

use super::node::{Input, Node, Word, Writing, arbiter_of, key_of, node_of, replica_of};
use super::watch::Watch;
use crate::coverage::Coverage;
use crate::violation::Violation;

pub(super) const BEAT: Duration = Duration::from_millis(100);

/// What a run showed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// What happened, and how often.
    pub coverage: Coverage,
    /// The longest time after something that each bound is about.
    pub longest: BTreeMap<&'static str, Duration>,
}

impl Report {
    pub(super) fn took(&mut self, what: &'static str, time: Duration) {
        let longest = self.longest.entry(what).or_default();
        *longest = time.max(*longest);
    }
}

/// What a world goes by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// How its nodes keep their claims.
    pub claims: ClaimsOptions,
    /// A rule of its groups that is left out on purpose.
    pub group: Option<Sabotage>,
}

impl Rules {
    /// All but this one.
    pub fn without(bug: ClaimsSabotage) -> Self {
        let claims = ClaimsOptions {
            sabotage: Some(bug),
            ..ClaimsOptions::default()
        };
        Self {
            claims,
            group: None,
        }
    }

    /// And without this one of the groups.
    pub fn nor(self, bug: Sabotage) -> Self {
        Self {
            group: Some(bug),
            ..self
        }
    }
}

/// Nodes 1.. and groups 1.., each with three replicas.
#[derive(Debug)]
pub struct World {
    pub(super) now: Duration,
    pub(super) rng: ChaCha8Rng,
    pub(super) nodes: BTreeMap<u64, Node>,
    /// As they were born.
    pub(super) born: BTreeMap<GroupId, Configuration>,
    /// As they are, as far as is known.
    pub(super) groups: BTreeMap<GroupId, Configuration>,
    pub(super) options: CheckedOptions,
    pub(super) claims: ClaimsOptions,
    pub(super) net: Net,
    pub(super) watch: Watch,
    events: BTreeMap<(Duration, u64), Event>,
    serial: u64,
}

/// How the wires are.
#[derive(Debug, Default)]
pub(super) struct Net {
    /// Nothing goes from the first to the second.
    pub(super) cut: BTreeSet<(u64, u64)>,
    /// Of datagrams and Raft messages, in thousandths.
    pub(super) loss: u32,
    pub(super) delay: Duration,
    /// Nothing but beats goes from the first to the second.
    pub(super) beats_only: BTreeSet<(u64, u64)>,
    /// When the last piece of a stream arrives, and how often it broke.
    streams: BTreeMap<(u64, u64), (Duration, u64)>,
    /// How often the connection was replaced by another one.
    connections: BTreeMap<(u64, u64), u64>,
}

impl Net {
    fn connection(&self, from: u64, to: u64) -> u64 {
        self.connections.get(&(from, to)).copied().unwrap_or(0)
    }
}

#[derive(Debug)]
enum Event {
    /// Of one life of a node.
    At { node: u64, life: u64, input: Input },
    /// Pieces of a stream are lost when it breaks before they arrive.
    Piece {
        from: u64,
        to: u64,
        breaks: u64,
        news: News,
    },
    /// Lost, too, if its connection is replaced.
    Packet {
        from: u64,
        to: u64,
        connection: u64,
        input: Input,
    },
    /// A learner that was allotted is made.
    Host { node: u64, group: GroupId },
}

impl World {
    /// A world in which everything runs, and nothing has happened.
    pub fn from_seed(seed: u64) -> Self {
        Self::by(Rules::default(), seed)
    }

    /// The same by other rules.
    pub fn by(rules: Rules, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = rng.random_range(3..=5);
        let groups = rng.random_range(4..=16);
        Self::new(rng, nodes, groups, rules)
    }

    /// One of a chosen size.
    pub fn of_size(rules: Rules, seed: u64, nodes: u64, groups: u64) -> Self {
        Self::new(ChaCha8Rng::seed_from_u64(seed), nodes, groups, rules)
    }

    fn new(mut rng: ChaCha8Rng, nodes: u64, groups: u64, rules: Rules) -> Self {
        let options = GroupOptions {
            rest_after: 4,
            sabotage: rules.group,
            ..GroupOptions::default()
        };
        let mut world = Self {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            born: BTreeMap::new(),
            groups: BTreeMap::new(),
            options: options.check().expect("they hang together"),
            claims: rules.claims,
            net: Net {
                delay: Duration::from_micros(300),
                ..Net::default()
            },
            watch: Watch::default(),
            events: BTreeMap::new(),
            serial: 0,
            rng: ChaCha8Rng::seed_from_u64(rng.random()),
        };
        for group in (1..=groups).map(GroupId::new) {
            let first = world.rng.random_range(0..nodes);
            let members = (0..3).map(|step| replica_of(1 + (first + step) % nodes, group));
            world.born.insert(group, Configuration::of_voters(members));
        }
        world.groups = world.born.clone();
        for number in 1..=nodes {
            let offset = Duration::from_millis(rng.random_range(0..100_000));
            let node = Node::new(number, offset, rng.random_range(0..80_000));
            world.nodes.insert(number, node);
            world.start(number);
        }
        world
    }

    pub(super) fn start(&mut self, number: u64) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        node.start(self.now, &self.options, self.claims, &self.born);
        let groups: Vec<_> = node.replicas.keys().copied().collect();
        let first = Duration::from_micros(self.rng.random_range(0..100_000));
        self.input_at(self.now + first, number, Input::Time);
        for group in groups {
            self.drain(number, group);
        }
    }

    pub(super) fn host_later(&mut self, after: Duration, node: u64, group: GroupId) {
        self.push(self.now + after, Event::Host { node, group });
    }

    /// Makes a replica that was allotted, or is mended; unless its node does not run, or its thread.
    pub(super) fn host(&mut self, number: u64, group: GroupId) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if node.is_running() && node.stuck[arbiter_of(group)].is_none() {
            node.host(self.now, &self.options, group, &self.born[&group]);
            self.drain(number, group);
        }
    }

    /// The thread of these replicas is stuck long enough for the node to notice, or a replica stopped.
    pub(super) fn gone(&mut self, node: u64, group: GroupId) {
        let node = self.nodes.get_mut(&node).expect("it exists");
        node.claims.gone(key_of(node.number, group));
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((at.max(self.now), self.serial), event);
    }

    fn input_at(&mut self, at: Duration, node: u64, input: Input) {
        let life = self.nodes[&node].life;
        self.push(at, Event::At { node, life, input });
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, until: Duration) -> Result<(), Violation> {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.watch.report.coverage.count("events");
            match event {
                Event::At { node, life, input } => {
                    if self.nodes[&node].life == life {
                        self.input(node, input);
                    }
                }
                Event::Piece {
                    from,
                    to,
                    breaks,
                    news,
                } => {
                    let link = (from, to);
                    let broke = self.net.streams.get(&link).map_or(0, |(_, b)| *b);
                    let is_cut =
                        self.net.cut.contains(&link) || self.net.beats_only.contains(&link);
                    if broke == breaks && !is_cut {
                        self.input(to, Input::News { from, news });
                    }
                }
                Event::Packet {
                    from,
                    to,
                    connection,
                    input,
                } => {
                    if self.net.connection(from, to) == connection {
                        self.input(to, input);
                    }
                }
                Event::Host { node, group } => self.host(node, group),
            }
            self.watch.verdict()?;
        }
        self.now = until;
        Ok(())
    }

    /// What was on its way by stream between the two is lost.
    pub(super) fn break_streams(&mut self, a: u64, b: u64) {
        for link in [(a, b), (b, a)] {
            self.net.streams.entry(link).or_default().1 += 1;
        }
    }

    /// So is everything else: one of them knows the other by a new connection, and nobody noticed that the old one was gone.
    pub(super) fn replace_connection(&mut self, a: u64, b: u64) {
        self.break_streams(a, b);
        for link in [(a, b), (b, a)] {
            *self.net.connections.entry(link).or_default() += 1;
        }
    }

    /// Something comes to a node.
    pub(super) fn input(&mut self, number: u64, input: Input) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if !node.running {
            return;
        }
        if let Some(waiting) = &mut node.paused {
            if waiting.len() < 20_000 {
                waiting.push_back(input);
            }
            return;
        }
        let shown = node.clock(self.now);
        match input {
            Input::Replica { group, what } => self.word(number, group, what),
            Input::Written(writing) => self.written(number, writing),
            Input::Beat { from, beat } => {
                node.claims.heard(shown, from, &beat);
                self.drain_claims(number);
            }
            Input::News { from, news } => {
                node.claims.receive(from, news);
                self.drain_claims(number);
            }
            Input::Time => {
                node.claims.judge(shown, |_| None);
                let others: Vec<u64> = self.nodes.keys().copied().collect();
                for other in others.into_iter().filter(|other| *other != number) {
                    let node = self.nodes.get_mut(&number).expect("it exists");
                    let beat = node.claims.beat(other);
                    self.drain_claims(number);
                    self.datagram(number, other, beat);
                }
                let node = &self.nodes[&number];
                let next = node.when(node.clock(self.now) + BEAT);
                self.input_at(next, number, Input::Time);
            }
        }
    }

    fn datagram(&mut self, from: u64, to: u64, beat: Beat) {
        for _ in 0..self.copies(from, to) {
            let input = Input::Beat { from, beat };
            self.packet(from, to, input);
        }
    }

    fn packet(&mut self, from: u64, to: u64, input: Input) {
        let at = self.now + self.transit();
        let connection = self.net.connection(from, to);
        self.push(
            at,
            Event::Packet {
                from,
                to,
                connection,
                input,
            },
        );
    }

    fn transit(&mut self) -> Duration {
        self.net.delay.mul_f64(self.rng.random_range(0.5..3.0))
    }

    /// How often a message arrives that may be lost.
    fn copies(&mut self, from: u64, to: u64) -> u32 {
        if self.net.cut.contains(&(from, to)) {
            return 0;
        }
        if self.rng.random_range(0..1_000) < self.net.loss {
            self.watch.report.coverage.count("packets lost");
            return 0;
        }
        1 + u32::from(self.rng.random_range(0..2_000) < self.net.loss)
    }

    pub(super) fn drain_claims(&mut self, number: u64) {
        loop {
            let node = self.nodes.get_mut(&number).expect("it exists");
            let Some(output) = node.claims.poll_output() else {
                return;
            };
            match output {
                ClaimsOutput::Send { to, news } => {
                    self.watch.report.coverage.count("news");
                    let transit = self.transit();
                    let (last, breaks) = self.net.streams.entry((number, to)).or_default();
                    *last = (*last).max(self.now + transit);
                    let (at, breaks) = (*last, *breaks);
                    let from = number;
                    self.push(
                        at,
                        Event::Piece {
                            from,
                            to,
                            breaks,
                            news,
                        },
                    );
                }
                ClaimsOutput::Ask(asked) => self.word(number, asked.claim.group, Word::Ask(asked)),
                ClaimsOutput::Taken { claim, by } => {
                    self.word(number, claim.group, Word::Taken(claim, by));
                }
                ClaimsOutput::Rouse(here) => {
                    self.watch.report.coverage.count("rouses");
                    self.word(number, here.group, Word::Rouse(here.replica));
                }
                ClaimsOutput::Silent { here, leader } => {
                    self.watch.report.coverage.count("silences");
                    self.word(number, here.group, Word::Silent(here.replica, leader));
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// The disk of a node has done a write, unless it hangs.
    pub(super) fn written(&mut self, number: u64, writing: Writing) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if let Some(waiting) = &mut node.hung {
            waiting.push_back(writing);
            return;
        }
        let Writing {
            group,
            of,
            token,
            writes,
        } = writing;
        let asked_by = node.replicas.get(&group);
        if asked_by.is_some_and(|replica| replica.serial == of) {
            let write = (key_of(number, group), writes);
            node.disk.write(&[write]).expect("writes come in order");
            self.word(number, group, Word::Persisted(token));
        }
    }

    /// Something comes to a replica.
    fn word(&mut self, number: u64, group: GroupId, what: Word) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if let Some(waiting) = &mut node.stuck[arbiter_of(group)] {
            if waiting.len() < 20_000 {
                waiting.push_back((group, what));
            }
            return;
        }
        let shown = node.clock(self.now);
        let Some(replica) = node.replicas.get_mut(&group) else {
            if let Word::Ask(asked) = what {
                node.claims.answered(asked, false);
            }
            return;
        };
        let me = replica.group.replica();
        match what {
            Word::Raft(message) => replica.group.receive(shown, message),
            Word::Tick => {
                if replica.alarm.take().is_some() {
                    replica.group.tick(shown);
                }
            }
            Word::Persisted(token) => replica.group.persisted(shown, token),
            Word::Ask(asked) => {
                let rests = asked.to == me && replica.group.take_claim(shown, &asked.claim);
                node.claims.answered(asked, rests);
            }
            Word::Taken(claim, by) => replica.group.claim_taken(shown, &claim, by),
            Word::Rouse(of) if of == me => replica.group.rouse(shown),
            Word::Silent(of, leader) if of == me => replica.group.peer_silent(shown, leader),
            Word::Rouse(_) | Word::Silent(..) => {}
        }
        self.drain(number, group);
    }

    /// Carries out what a replica, and then the node's claims, want done.
    pub(super) fn drain(&mut self, number: u64, group: GroupId) {
        loop {
            let node = self.nodes.get_mut(&number).expect("it exists");
            let shown = node.clock(self.now);
            let Some(replica) = node.replicas.get_mut(&group) else {
                break;
            };
            let me = replica.group.replica();
            let Some(output) = replica.group.poll_output() else {
                if replica.group.holds_lease(shown) {
                    self.watch.report.coverage.count("leases");
                    self.nobody_else_has_a_lease(number, group, None);
                }
                self.arm(number, group);
                break;
            };
            match output {
                Output::Persist(persist) => {
                    let of = replica.serial;
                    let rng = &mut self.rng;
                    let takes = || Duration::from_micros(rng.random_range(50..3_000));
                    let at = node.done_at(self.now, takes);
                    let writing = Writing {
                        group,
                        of,
                        token: persist.token,
                        writes: persist.writes,
                    };
                    self.input_at(at, number, Input::Written(writing));
                }
                Output::Send(message) => {
                    self.watch.said(&message);
                    let to = node_of(message.to);
                    if self.net.beats_only.contains(&(number, to)) {
                        continue;
                    }
                    for _ in 0..self.copies(number, to) {
                        let what = Word::Raft(message.clone());
                        self.packet(number, to, Input::Replica { group, what });
                    }
                }
                Output::Apply(entries) => {
                    for entry in &entries {
                        replica.applied = entry.index;
                        self.watch.applied(number, group, entry);
                    }
                    let last = replica.applied;
                    replica.group.applied(shown, last);
                }
                Output::ReadReady { id, index } => self.watch.read(number, group, id, index),
                Output::Role { role, term, .. } => {
                    self.watch.role(group, me, role, term);
                    if role == Role::Leader {
                        self.nobody_else_has_a_lease(number, group, Some(term));
                    }
                }
                Output::Claim { claim, holders } => {
                    self.watch.report.coverage.count("claims");
                    let holders: Vec<_> = holders.iter().map(|id| (node_of(*id), *id)).collect();
                    node.claims.claim(claim, &holders);
                }
                Output::Rests { without } => {
                    self.watch.report.coverage.count("rests");
                    if !without.is_empty() {
                        self.watch.report.coverage.count("rests without somebody");
                    }
                    let without: Vec<_> = without.iter().map(|id| node_of(*id)).collect();
                    node.claims.rests(key_of(number, group), &without);
                }
                Output::Unclaimed => node.claims.unclaimed(key_of(number, group)),
                Output::Removed => {
                    node.retired.push(group);
                    node.replicas.remove(&group);
                    self.gone(number, group);
                    self.watch
                        .report
                        .coverage
                        .count("replicas that were retired");
                    break;
                }
                Output::DataLost { .. } => self
                    .watch
                    .fail("Recovery", format!("group {group} lost data")),
                Output::ReadFailed { .. }
                | Output::MayEvaluate { .. }
                | Output::Configuration { .. }
                | Output::TransferEnded { .. } => {}
                other => self
                    .watch
                    .fail("Nothing Unasked", format!("nobody asked for {other:?}")),
            }
        }
        self.drain_claims(number);
    }

    /// One Lease: the replica of this node has one now, or leads from now on. Two can only begin to be there when one of them is given,
    /// which is in some input; that one ends is told by each node's own clock.
    fn nobody_else_has_a_lease(&mut self, number: u64, group: GroupId, leads: Option<Term>) {
        let others = self.nodes.values().filter(|node| node.number != number);
        let other = others.into_iter().find(|node| {
            let replica = node.replicas.get(&group);
            replica.is_some_and(|replica| {
                // A vote that comes late makes a leader of a term that is over.
                let is_over = |term| replica.group.status().term > term;
                replica.group.holds_lease(node.clock(self.now)) && !leads.is_some_and(is_over)
            })
        });
        if let Some(other) = other.map(|node| node.number) {
            let what = leads.map_or("has a lease".to_owned(), |term| format!("leads {term}"));
            self.watch.fail(
                "One Lease",
                format!("group {group}: node {number} {what} while node {other} has a lease"),
            );
        }
    }

    fn arm(&mut self, number: u64, group: GroupId) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        let shown = node.clock(self.now);
        let replica = node.replicas.get_mut(&group).expect("it was just here");
        let Some(at) = replica.group.wake_at() else {
            replica.alarm = None;
            return;
        };
        let at = at.max(shown);
        if replica.alarm.is_none_or(|set| set > at) {
            replica.alarm = Some(at);
            let when = node.when(at);
            let what = Word::Tick;
            self.input_at(when, number, Input::Replica { group, what });
        }
    }
}
