//! The nodes, their clock and their processors.
//!
//! Here: [`Crowd`]: an agenda of arrivals and wake-ups, who sees whom, what was sent and what it cost. Not here: what is done to
//! the nodes ([`super::scenarios`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::wire::Wire;
use super::{Effect, Machine, Sight};

/// Packets that wait while a node has no processor; more are lost, as in a socket's buffer.
const BACKLOG_MAX: usize = 2_000;

/// A stall that ended so long ago, at most, may have caused a death: what the node said since may still be on its way.
const JUST_ENDED: Duration = Duration::from_millis(500);

/// What was sent, and what it cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Their encoded bytes, joins included.
    pub bytes: u64,
    /// Calls of machines.
    pub steps: u64,
}

/// A node that was up and within reach became gone for another.
#[derive(Clone, Copy, Debug)]
pub struct FalseDeath {
    /// For whom.
    pub observer: usize,
    /// Who.
    pub subject: usize,
    /// The longest time for which the subject had no processor, of those that lasted or had just ended when it happened.
    pub stalled: Duration,
}

enum What<P> {
    Wake(usize),
    Arrive {
        from: usize,
        to: usize,
        packet: P,
    },
    Join {
        node: usize,
        seed: usize,
    },
    /// The node gets or loses its processor.
    Switch(usize),
}

struct Appointment<P> {
    key: Reverse<(Duration, u64)>,
    what: What<P>,
}

impl<P> PartialEq for Appointment<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<P> Eq for Appointment<P> {}
impl<P> PartialOrd for Appointment<P> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for Appointment<P> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

struct Node<M: Machine> {
    machine: M,
    up: bool,
    /// The wake-up that counts: the earliest on the agenda.
    wakes_at: Duration,
    /// Has a processor at the moment.
    runs: bool,
    /// From when to when it had none; of late, oldest first. The last one's end counts only while it runs.
    stalls: VecDeque<(Duration, Duration)>,
    backlog: VecDeque<(usize, M::Packet)>,
}

/// See the module.
pub struct Crowd<M: Machine> {
    rng: ChaCha8Rng,
    seed: u64,
    size: usize,
    /// Virtual time.
    pub now: Duration,
    agenda: BinaryHeap<Appointment<M::Packet>>,
    appointments: u64,
    nodes: Vec<Node<M>>,
    pub(super) wire: Wire,
    /// By observer, then subject.
    sights: Vec<Sight>,
    /// Nodes up that each subject is present for, itself included.
    seen_by: Vec<usize>,
    /// Of nodes that were up and within reach.
    pub false_deaths: Vec<FalseDeath>,
    /// See [`Totals`].
    pub totals: Totals,
}

impl<M: Machine> Crowd<M> {
    /// `size` nodes that know each other, and probe for a random while already.
    pub fn acquainted(seed: u64, size: usize) -> Self {
        let mut crowd = Self::empty(seed, size);
        for me in 0..size {
            let machine = M::acquainted(me, size, crowd.rng.random(), Duration::ZERO);
            crowd.add(machine);
        }
        crowd
    }

    /// One node that knows itself; the other `size - 1` come by [`Self::join_at`].
    pub fn alone(seed: u64, size: usize) -> Self {
        let mut crowd = Self::empty(seed, size);
        let machine = M::new(0, size, crowd.rng.random(), Duration::ZERO);
        crowd.add(machine);
        crowd
    }

    fn empty(seed: u64, size: usize) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            size,
            now: Duration::ZERO,
            agenda: BinaryHeap::new(),
            appointments: 0,
            nodes: Vec::with_capacity(size),
            wire: Wire::default(),
            sights: vec![Sight::Unknown; size * size],
            seen_by: vec![0; size],
            false_deaths: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn add(&mut self, machine: M) {
        let me = self.nodes.len();
        self.nodes.push(Node {
            machine,
            up: true,
            wakes_at: Duration::MAX,
            runs: true,
            stalls: VecDeque::new(),
            backlog: VecDeque::new(),
        });
        for subject in 0..self.size {
            self.look(me, subject);
        }
        self.arm(me);
    }

    /// Number of nodes started so far.
    pub fn started(&self) -> usize {
        self.nodes.len()
    }

    /// Its machine.
    pub fn machine(&self, node: usize) -> &M {
        &self.nodes[node].machine
    }

    /// Does something to one machine.
    pub fn act(&mut self, node: usize, input: impl FnOnce(&mut M, Duration)) {
        let now = self.now;
        if !self.nodes[node].up {
            return;
        }
        input(&mut self.nodes[node].machine, now);
        self.totals.steps += 1;
        while let Some(effect) = self.nodes[node].machine.poll() {
            match effect {
                Effect::Seen(subject) => self.look(node, subject),
                Effect::Send {
                    to,
                    reliable,
                    packet,
                    bytes,
                } => self.send(node, to, reliable, packet, bytes),
            }
        }
        self.arm(node);
    }

    fn send(&mut self, from: usize, to: usize, reliable: bool, packet: M::Packet, bytes: usize) {
        self.totals.packets += 1;
        self.totals.bytes += bytes as u64;
        if let Some(delay) = self.wire.delay(&mut self.rng, from, to, reliable) {
            self.appoint(self.now + delay, What::Arrive { from, to, packet });
        }
    }

    fn look(&mut self, observer: usize, subject: usize) {
        let place = observer * self.size + subject;
        let sight = self.nodes[observer].machine.sight(subject);
        let before = core::mem::replace(&mut self.sights[place], sight);
        if before == sight {
            return;
        }
        if sight == Sight::Present {
            self.seen_by[subject] += 1;
        } else if before == Sight::Present {
            self.seen_by[subject] -= 1;
        }
        let apart = self
            .wire
            .cut
            .is_some_and(|cut| (observer < cut) != (subject < cut));
        if sight == Sight::Gone
            && !apart
            && let Some(node) = self.nodes.get(subject).filter(|node| node.up)
        {
            let now = self.now;
            let lasted = |&(since, ended): &(Duration, Duration)| ended.min(now) - since;
            let recent =
                |&&(_, ended): &&(Duration, Duration)| ended.saturating_add(JUST_ENDED) >= now;
            let stalls = node.stalls.iter().filter(recent).map(lasted);
            self.false_deaths.push(FalseDeath {
                observer,
                subject,
                stalled: stalls.max().unwrap_or_default(),
            });
        }
    }

    fn appoint(&mut self, at: Duration, what: What<M::Packet>) {
        self.appointments += 1;
        self.agenda.push(Appointment {
            key: Reverse((at, self.appointments)),
            what,
        });
    }

    fn arm(&mut self, node: usize) {
        let wanted = self.nodes[node].machine.wake_at();
        if wanted < self.nodes[node].wakes_at {
            let at = wanted.max(self.now);
            self.nodes[node].wakes_at = at;
            self.appoint(at, What::Wake(node));
        }
    }

    /// The next node starts at `at` and joins through `seed`.
    pub fn join_at(&mut self, at: Duration, node: usize, seed: usize) {
        self.appoint(at, What::Join { node, seed });
    }

    /// Runs until `end`.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(next) = self.agenda.peek()
            && next.key.0.0 <= end
        {
            let Some(Appointment {
                key: Reverse((at, _)),
                what,
            }) = self.agenda.pop()
            else {
                break;
            };
            self.now = self.now.max(at);
            self.happen(at, what);
        }
        self.now = end;
    }

    /// Runs until `done`, looked at every `step`; the time then, or `None` when `most` has passed.
    pub fn run_till(
        &mut self,
        step: Duration,
        most: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let end = self.now + most;
        while self.now < end {
            if done(self) {
                return Some(self.now);
            }
            self.run_until(self.now + step);
        }
        done(self).then_some(self.now)
    }

    fn happen(&mut self, at: Duration, what: What<M::Packet>) {
        match what {
            What::Wake(node) if self.nodes[node].wakes_at != at => {} // an earlier appointment took its place
            What::Wake(node) => {
                self.nodes[node].wakes_at = Duration::MAX;
                if !self.nodes[node].runs {
                    return; // when it runs again
                }
                if self.nodes[node].machine.wake_at() <= self.now {
                    self.act(node, |machine, now| machine.tick(now));
                } else {
                    self.arm(node);
                }
            }
            What::Arrive { from, to, packet } => {
                let Some(node) = self.nodes.get_mut(to).filter(|node| node.up) else {
                    return;
                };
                if node.runs {
                    self.act(to, |machine, now| machine.receive(now, from, packet));
                } else if node.backlog.len() < BACKLOG_MAX {
                    node.backlog.push_back((from, packet));
                }
            }
            What::Join { node, seed } => {
                while self.nodes.len() <= node {
                    let me = self.nodes.len();
                    let machine = M::new(me, self.size, self.rng.random(), self.now);
                    self.add(machine);
                }
                self.join(node, seed);
            }
            What::Switch(node) => self.switch(node),
        }
    }

    fn join(&mut self, node: usize, seed: usize) {
        let now = self.now;
        let (low, high) = self.nodes.split_at_mut(node.max(seed));
        let (one, other) = (&mut low[node.min(seed)], &mut high[0]);
        let (joiner, host) = if node < seed {
            (one, other)
        } else {
            (other, one)
        };
        let bytes = joiner.machine.join(&mut host.machine, now);
        self.totals.bytes += bytes as u64;
        self.act(seed, |_, _| {});
        self.act(node, |_, _| {});
    }

    /// The process is gone at once.
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].backlog.clear();
        for subject in 0..self.size {
            let place = node * self.size + subject;
            if self.sights[place] == Sight::Present {
                self.seen_by[subject] -= 1;
            }
            self.sights[place] = Sight::Unknown;
        }
    }

    /// Share of packets lost from now on; with `one_way`, only of what nodes below it send to the others.
    pub fn lose(&mut self, share: f64, one_way: Option<usize>) {
        self.wire.loss = share;
        self.wire.one_way = one_way;
    }

    /// Nodes below `first` and the others do not hear each other, until `None`.
    pub fn cut(&mut self, first: Option<usize>) {
        self.wire.cut = first;
    }

    /// From now on the node has its processor for a twentieth of the time: spells of 20 ms on average, then stalls of 380 ms on
    /// average, both drawn from exponential distributions, as under a scheduler with too much to do.
    pub fn starve(&mut self, node: usize) {
        self.appoint(self.now, What::Switch(node));
    }

    fn switch(&mut self, node: usize) {
        let runs = !self.nodes[node].runs;
        let mean = if runs { 0.020 } else { 0.380 };
        let spell = -mean * (1.0 - self.rng.random::<f64>()).ln();
        self.nodes[node].runs = runs;
        let stalls = &mut self.nodes[node].stalls;
        if let Some(last) = stalls.back_mut().filter(|_| runs) {
            last.1 = self.now;
        } else if !runs {
            stalls.retain(|&(_, ended)| ended + JUST_ENDED >= self.now);
            stalls.push_back((self.now, Duration::MAX));
        }
        self.appoint(
            self.now + Duration::from_secs_f64(spell),
            What::Switch(node),
        );
        if !runs {
            return;
        }
        // Whether the timer or the socket is read first is up to the scheduler.
        if self.rng.random_bool(0.5) {
            self.act(node, |machine, now| machine.tick(now));
        }
        for (from, packet) in core::mem::take(&mut self.nodes[node].backlog) {
            self.act(node, |machine, now| machine.receive(now, from, packet));
        }
        self.act(node, |machine, now| machine.tick(now));
    }

    /// Everybody that was started sees everybody that was started.
    pub fn all_know_all(&self) -> bool {
        let up = self.nodes.iter().filter(|node| node.up).count();
        let present = |subject: usize| !self.nodes[subject].up || self.seen_by[subject] == up;
        (0..self.nodes.len()).all(present)
    }

    /// Nobody that is up sees `subject` any more.
    pub fn nobody_sees(&self, subject: usize) -> bool {
        self.seen_by[subject] == 0
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}
