//! The traces that break simpler schemes, told one by one (DESIGN section 9): in each, whoever rests would never notice, if one of the
//! rules were left out.
//!
//! Group 1 of three nodes; nothing is random but transit times.

use std::time::Duration;

use synod_consensus::{GroupId, Role, Term};

use super::node::{arbiter_of, node_of, replica_of};
use super::world::{Rules, World};
use crate::violation::{Violation, broken};

const GROUP: GroupId = GroupId::new(1);
/// Well above any bound: what has not happened by then never will.
const LONG: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A trace under way.
#[derive(Debug)]
pub struct Trace {
    world: World,
    /// Who led when it began, and the two others.
    pub leader: u64,
    /// The two others.
    pub others: [u64; 2],
}

impl Trace {
    /// A group that rests.
    ///
    /// # Panics
    /// If it never does.
    pub fn at_rest(rules: Rules) -> Self {
        Self::of(World::of_size(rules, 7, 3, 1))
    }

    /// One of four nodes belongs to the group only after it was added, `late` after that was decided.
    ///
    /// # Panics
    /// If nobody can be added.
    pub fn with_late_learner(rules: Rules, late: Duration) -> Self {
        let mut trace = Self::of(World::of_size(rules, 7, 4, 1));
        assert!(trace.world.change(GROUP, Some(late)));
        trace
    }

    /// The learner takes the place of a voter. Returns whether the leader takes the change.
    pub fn promote(&mut self) -> bool {
        self.world.change(GROUP, None)
    }

    /// The node whose replica learns, once the leader has said so.
    ///
    /// # Panics
    /// If there is none.
    pub fn learner(&self) -> u64 {
        let status = self.world.nodes[&self.leader].replicas[&GROUP]
            .group
            .status();
        let learner = status.configuration.learners.first().copied();
        node_of(learner.expect("a learner"))
    }

    /// Whether what was acknowledged is applied at `node`.
    pub fn is_up_to_date(&self, node: u64) -> bool {
        let last = self.world.watch.acknowledged.get(&GROUP);
        let replica = self.world.nodes[&node].replicas.get(&GROUP);
        replica.is_some_and(|replica| Some(&replica.applied) >= last)
    }

    fn of(world: World) -> Self {
        let mut trace = Self {
            world,
            leader: 0,
            others: [0; 2],
        };
        trace.until_all_rest().expect("it rests at last");
        trace.leader = trace.world.leader_of(GROUP).expect("it rests");
        let hosts = |node: &u64| trace.world.nodes[node].replicas.contains_key(&GROUP);
        let mut others = (1..=4)
            .filter(|node| trace.world.nodes.contains_key(node) && hosts(node))
            .filter(|node| *node != trace.leader);
        trace.others = core::array::from_fn(|_| others.next().expect("two others"));
        trace
    }

    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        self.world.run_until(self.world.now + time)
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) -> Result<(), Violation> {
        self.pass(Duration::from_secs(seconds))
    }

    /// Lets less time pass.
    pub fn wait_millis(&mut self, millis: u64) -> Result<(), Violation> {
        self.pass(Duration::from_millis(millis))
    }

    /// How long it takes until `holds`.
    fn until(&mut self, holds: impl Fn(&World) -> bool) -> Result<Duration, Violation> {
        let begin = self.world.now;
        while !holds(&self.world) {
            if self.world.now - begin > LONG {
                return broken("Liveness", format!("not so after {LONG:?}"));
            }
            self.pass(LOOK)?;
        }
        Ok(self.world.now - begin)
    }

    /// Until every replica that runs rests under one leader.
    pub fn until_all_rest(&mut self) -> Result<Duration, Violation> {
        self.until(|world| {
            let mut replicas = world
                .nodes
                .values()
                .filter_map(|node| node.replicas.get(&GROUP));
            world.leader_of(GROUP).is_some() && replicas.all(|replica| replica.group.is_resting())
        })
    }

    /// Until one of `nodes` leads, which must be `within` that time; returns how long it took.
    pub fn until_led_by_one_of(
        &mut self,
        nodes: &[u64],
        within: Duration,
    ) -> Result<Duration, Violation> {
        let took = self.until(|world| nodes.iter().any(|node| leads(world, *node)))?;
        if took > within {
            let detail = format!("one of {nodes:?} leads only after {took:?}");
            return broken("Succeeded", detail);
        }
        Ok(took)
    }

    /// Until `node` follows `leader`, which must be `within` that time.
    pub fn until_follows(
        &mut self,
        node: u64,
        leader: u64,
        within: Duration,
    ) -> Result<(), Violation> {
        let leader = replica_of(leader, GROUP);
        let took = self.until(|world| {
            let replica = world.nodes[&node].replicas.get(&GROUP);
            replica.is_some_and(|replica| {
                let status = replica.group.status();
                status.role == Role::Follower && status.leader == Some(leader)
            })
        })?;
        if took > within {
            return broken(
                "Led",
                format!("node {node} has a leader only after {took:?}"),
            );
        }
        Ok(())
    }

    /// Whether `node` leads, or takes itself for the leader.
    pub fn leads(&self, node: u64) -> bool {
        leads(&self.world, node)
    }

    /// The term that `node` is in.
    pub fn term(&self, node: u64) -> Term {
        self.world.nodes[&node].replicas[&GROUP].group.status().term
    }

    /// Whether the replica of `node` rests.
    pub fn rests(&self, node: u64) -> bool {
        self.world.nodes[&node].replicas[&GROUP].group.is_resting()
    }

    /// Whether the leader at `leader` takes `node` for one that answers.
    pub fn answers(&self, leader: u64, node: u64) -> bool {
        let known = &self.world.nodes[&leader];
        let status = known.replicas[&GROUP].group.status();
        let now = known.clock(self.world.now);
        let mut peers = status.peers.iter();
        let peer = peers.find(|peer| peer.replica == replica_of(node, GROUP));
        peer.is_some_and(|peer| peer.answers(now, Duration::from_millis(1_200)))
    }

    /// The replica of `node` stops for good, and its node notices.
    pub fn replica_stops(&mut self, node: u64) {
        let node = self.world.nodes.get_mut(&node).expect("it exists");
        node.dead.push(GROUP);
        node.replicas.remove(&GROUP);
        let number = node.number;
        self.world.gone(number, GROUP);
    }

    /// The thread of the replica of `node` stands still, and its node notices.
    pub fn thread_stands_still(&mut self, node: u64) {
        let known = self.world.nodes.get_mut(&node).expect("it exists");
        known.stuck[arbiter_of(GROUP)] = Some(Default::default());
        self.world.gone(node, GROUP);
    }

    /// What the two nodes say to each other by stream from now on, for `time`, is lost; datagrams arrive.
    pub fn streams_fail(&mut self, a: u64, b: u64, time: Duration) -> Result<(), Violation> {
        let until = self.world.now + time;
        while self.world.now < until {
            self.world.break_streams(a, b);
            self.pass(Duration::from_micros(100))?;
        }
        Ok(())
    }

    /// Nothing goes from `a` to `b` any more.
    pub fn cut(&mut self, a: u64, b: u64) {
        self.world.net.cut.insert((a, b));
    }

    /// Beats still go from `a` to `b`, and nothing else.
    pub fn beats_only(&mut self, a: u64, b: u64) {
        self.world.net.beats_only.insert((a, b));
    }

    /// Everything goes through again.
    pub fn heal(&mut self) {
        self.world.net.cut.clear();
        self.world.net.beats_only.clear();
    }

    /// The process of `node` dies, or starts again.
    pub fn crash(&mut self, node: u64) {
        self.world.crash(node);
    }

    /// It starts again.
    pub fn start(&mut self, node: u64) {
        self.world.start(node);
    }

    /// It is replaced by its successor before anybody could miss a beat.
    pub fn restart_unseen(&mut self, node: u64) {
        self.world.restart_unseen(node);
    }

    /// The disk of `node` answers nothing any more.
    pub fn disk_hangs(&mut self, node: u64) {
        self.world.disk_hangs(node);
    }

    /// It does what it was given meanwhile.
    pub fn disk_goes_on(&mut self, node: u64) {
        self.world.disk_goes_on(node);
    }

    /// The process of `node` is stopped, with all that it has in memory.
    pub fn pause(&mut self, node: u64) {
        let node = self.world.nodes.get_mut(&node).expect("it exists");
        node.paused = Some(Default::default());
    }

    /// It goes on, and takes in what came meanwhile.
    pub fn resume(&mut self, node: u64) {
        self.world.resume(node);
    }

    /// A client's command at `node`, until it is acknowledged there.
    pub fn command(&mut self, node: u64) -> Result<Duration, Violation> {
        let before = self.world.watch.report.coverage.get("acknowledged");
        self.propose(node);
        self.until(|world| world.watch.report.coverage.get("acknowledged") > before)
    }

    /// A client's command at `node`, whatever becomes of it.
    pub fn propose(&mut self, node: u64) {
        self.world.propose(node, GROUP);
    }

    /// A client's read at `node`: the watch fails if its answer is of the past. Returns whether it was answered within ten seconds.
    pub fn ask(&mut self, node: u64) -> Result<bool, Violation> {
        let before = self.world.watch.report.coverage.get("reads");
        self.world.ask(node, GROUP);
        self.wait(10)?;
        Ok(self.world.watch.report.coverage.get("reads") > before)
    }

    /// The same, and it must be answered.
    pub fn read(&mut self, node: u64) -> Result<(), Violation> {
        match self.ask(node)? {
            true => Ok(()),
            false => broken("Liveness", format!("a read at node {node} is not answered")),
        }
    }

    /// Fails with that name unless it holds.
    pub fn holds(&self, invariant: &'static str, holds: bool, what: &str) -> Result<(), Violation> {
        match holds {
            true => Ok(()),
            false => broken(invariant, format!("at {:?}: {what}", self.world.now)),
        }
    }

    /// How often something was counted so far.
    pub fn count(&self, what: &str) -> u64 {
        self.world.watch.report.coverage.get(what)
    }

    /// What was said so far by replicas, and by claims.
    pub fn said(&self) -> u64 {
        let report = &self.world.watch.report;
        report.coverage.get("raft") + report.coverage.get("news")
    }
}

fn leads(world: &World, node: u64) -> bool {
    let replica = world.nodes[&node].replicas.get(&GROUP);
    replica.is_some_and(|replica| {
        let status = replica.group.status();
        status.role == Role::Leader && status.leader == Some(replica_of(node, GROUP))
    })
}
