//! What clients do, and what goes wrong meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::seq::IteratorRandom;
use synod_consensus::{Change, Configuration, GroupId, Role};

use super::node::{ARBITERS, Input, Node, Replica, arbiter_of, replica_of};
use super::watch::Watch;
use super::world::World;
use crate::violation::Violation;

/// When a node notices that one of its threads is stuck.
const NOTICED_AFTER: Duration = Duration::from_secs(2);

impl World {
    /// A storm of so many faults, with a little work between them.
    pub(super) fn storm(&mut self, faults: u32) -> Result<(), Violation> {
        for _ in 0..faults {
            let pause = Duration::from_millis(self.rng.random_range(50..4_000));
            self.work_until(self.now + pause)?;
            self.fault()?;
        }
        Ok(())
    }

    /// Time passes, and now and then somebody wants something of some group.
    pub(super) fn work_until(&mut self, until: Duration) -> Result<(), Violation> {
        loop {
            let pause = Duration::from_millis(self.rng.random_range(1..900));
            let next = self.now + pause;
            if next >= until {
                return self.run_until(until);
            }
            self.run_until(next)?;
            self.client();
        }
    }

    pub(super) fn leader_of(&self, group: GroupId) -> Option<u64> {
        let leads = |number: &&u64| {
            let node = &self.nodes[number];
            let replica = node.replicas.get(&group);
            node.is_running()
                && node.stuck[arbiter_of(group)].is_none()
                && replica.is_some_and(|replica| replica.group.status().role == Role::Leader)
        };
        let leaders = self.nodes.keys().filter(leads);
        leaders
            .max_by_key(|number| self.nodes[number].replicas[&group].group.status().term)
            .copied()
    }

    fn client(&mut self) {
        let group = self.any_group();
        // Mostly who leads, sometimes anybody.
        let number = match self.leader_of(group) {
            Some(leader) if self.rng.random_range(0..10) > 0 => leader,
            _ => self.rng.random_range(1..=self.nodes.len() as u64),
        };
        self.command(number, group);
    }

    pub(super) fn command(&mut self, number: u64, group: GroupId) {
        match self.rng.random_range(0..10) {
            0..5 => self.propose(number, group),
            5..9 => self.ask(number, group),
            _ => {
                let voters = self.groups[&group].voters.iter().copied();
                let to = voters.choose(&mut self.rng).expect("three voters");
                self.with_replica(number, group, |replica, shown, _| {
                    let _refused = replica.group.transfer(shown, to);
                });
            }
        }
    }

    pub(super) fn propose(&mut self, number: u64, group: GroupId) {
        let payload = Bytes::from(format!("{:?}", self.now));
        self.with_replica(number, group, |replica, shown, watch| {
            if let Ok(at) = replica.group.propose(shown, payload) {
                watch.proposed(number, group, at);
            }
        });
    }

    pub(super) fn ask(&mut self, number: u64, group: GroupId) {
        self.with_replica(number, group, |replica, shown, watch| {
            if let Ok(id) = replica.group.read_here(shown) {
                watch.asked(number, group, id);
            }
        });
    }

    fn with_replica(
        &mut self,
        number: u64,
        group: GroupId,
        act: impl FnOnce(&mut Replica, Duration, &mut Watch),
    ) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if !node.is_running() || node.stuck[arbiter_of(group)].is_some() {
            return;
        }
        let shown = node.clock(self.now);
        let Some(replica) = node.replicas.get_mut(&group) else {
            return;
        };
        act(replica, shown, &mut self.watch);
        self.drain(number, group);
    }

    fn any_node(&mut self) -> u64 {
        self.rng.random_range(1..=self.nodes.len() as u64)
    }

    fn any_group(&mut self) -> GroupId {
        let groups = self.groups.keys().copied();
        groups.choose(&mut self.rng).expect("there are groups")
    }

    fn fault(&mut self) -> Result<(), Violation> {
        self.watch.report.coverage.count("faults");
        let node = self.any_node();
        let other = self.any_node();
        match self.rng.random_range(0..20) {
            0 | 1 => self.crash(node),
            2 | 3 => {
                if !self.nodes[&node].running {
                    self.start(node);
                }
            }
            4 => {
                let known = self.nodes.get_mut(&node).expect("it exists");
                if known.running && known.paused.is_none() {
                    known.paused = Some(VecDeque::new());
                }
            }
            5 => self.resume(node),
            6 => {
                let group = self.any_group();
                self.stick(node, arbiter_of(group))?;
            }
            7 => self.unstick_all(node),
            8 => {
                self.net.cut.insert((node, other));
                if self.rng.random_range(0..3) > 0 {
                    self.net.cut.insert((other, node));
                }
            }
            9 => self.net.cut.clear(),
            10 => self.break_streams(node, other),
            11 => {
                self.net.loss = *[0, 0, 20, 200].iter().choose(&mut self.rng).expect("four");
                let slow = *[300, 300, 5_000, 60_000]
                    .iter()
                    .choose(&mut self.rng)
                    .expect("four");
                self.net.delay = Duration::from_micros(slow);
            }
            12 => self.disk_hangs(node),
            13 => self.disk_goes_on(node),
            14 => {
                self.watch.report.coverage.count("connections replaced");
                self.replace_connection(node, other);
            }
            15 => {
                if self.nodes[&node].is_running() {
                    self.watch.report.coverage.count("restarts in one beat");
                    self.restart_unseen(node);
                }
            }
            16 | 17 => {
                let group = self.any_group();
                self.change(group, None);
            }
            _ => {
                let group = self.any_group();
                self.kill_replica(node, group);
            }
        }
        self.watch.verdict()
    }

    pub(super) fn crash(&mut self, node: u64) {
        self.watch.crashed(node);
        self.nodes.get_mut(&node).expect("it exists").crash();
    }

    /// A process is replaced by its successor, and its connections with it, before anybody could miss a beat.
    pub(super) fn restart_unseen(&mut self, node: u64) {
        self.crash(node);
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.replace_connection(node, other);
        }
        self.start(node);
    }

    /// It answers nothing until it goes on; its node beats all the while.
    pub(super) fn disk_hangs(&mut self, number: u64) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if !node.is_running() || node.hung.is_some() {
            return;
        }
        node.hung = Some(VecDeque::new());
        let replicas = node.replicas.values().map(|replica| &replica.group);
        let at_rest = replicas
            .filter(|replica| replica.status().role == Role::Leader && replica.is_resting())
            .count();
        let coverage = &mut self.watch.report.coverage;
        coverage.count("disks that hung");
        coverage.add("disks that hung under leaders at rest", at_rest as u64);
    }

    pub(super) fn disk_goes_on(&mut self, number: u64) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        for writing in node.hung.take().unwrap_or_default() {
            self.input(number, Input::Written(writing));
        }
    }

    pub(super) fn resume(&mut self, number: u64) {
        let node = self.nodes.get_mut(&number).expect("it exists");
        for input in node.paused.take().unwrap_or_default() {
            self.input(number, input);
        }
    }

    /// A thread of a node stands still; after a while the node notices.
    fn stick(&mut self, number: u64, arbiter: usize) -> Result<(), Violation> {
        let node = self.nodes.get_mut(&number).expect("it exists");
        if !node.is_running() || node.stuck[arbiter].is_some() {
            return Ok(());
        }
        node.stuck[arbiter] = Some(VecDeque::new());
        let life = node.life;
        self.work_until(self.now + NOTICED_AFTER)?;
        let node = &self.nodes[&number];
        if node.life != life || node.stuck[arbiter].is_none() {
            return Ok(());
        }
        let led = node.replicas.iter().filter(|(group, replica)| {
            arbiter_of(**group) == arbiter && replica.group.status().role == Role::Leader
        });
        for group in led.map(|(group, _)| *group).collect::<Vec<_>>() {
            self.gone(number, group);
        }
        Ok(())
    }

    pub(super) fn unstick_all(&mut self, number: u64) {
        for arbiter in 0..ARBITERS as usize {
            let node = self.nodes.get_mut(&number).expect("it exists");
            for (group, what) in node.stuck[arbiter].take().unwrap_or_default() {
                self.input(number, Input::Replica { group, what });
            }
        }
    }

    /// A group gets a learner, which is made some time later; or one that it has takes the place of a voter. Returns whether the change
    /// was begun.
    pub(super) fn change(&mut self, group: GroupId, late: Option<Duration>) -> bool {
        let hurt = self.nodes.values().any(|node| node.dead.contains(&group));
        let Some(leader) = self.leader_of(group) else {
            return false;
        };
        if hurt {
            return false;
        }
        let status = self.nodes[&leader].replicas[&group].group.status();
        let Configuration {
            mut voters,
            mut learners,
            ..
        } = status.configuration;
        let mut newcomer = None;
        if let Some(learner) = learners.first().copied() {
            let others = voters.iter().copied();
            let leaves = others
                .filter(|voter| *voter != replica_of(leader, group))
                .choose(&mut self.rng);
            voters.remove(&leaves.expect("it has voters"));
            voters.insert(learner);
            learners.remove(&learner);
        } else {
            let is_free = |node: &&Node| {
                let replica = replica_of(node.number, group);
                !voters.contains(&replica)
                    && !node.allotted.contains(&group)
                    && !self.born[&group].contains(replica)
            };
            let node = self.nodes.values().filter(is_free).choose(&mut self.rng);
            let Some(number) = node.map(|node| node.number) else {
                return false;
            };
            learners.insert(replica_of(number, group));
            newcomer = Some(number);
        }
        let change = Change {
            expected: status.configuration_index,
            voters,
            learners,
        };
        let mut begun = false;
        self.with_replica(leader, group, |replica, shown, _| {
            begun = replica.group.change(shown, change).is_ok();
        });
        if begun {
            self.watch.report.coverage.count("changes");
            if let Some(node) = newcomer {
                let chance = Duration::from_millis(self.rng.random_range(0..10_000));
                let after = late.unwrap_or(chance);
                self.nodes
                    .get_mut(&node)
                    .expect("it exists")
                    .allotted
                    .push(group);
                self.host_later(after, node, group);
            }
        }
        begun
    }

    /// A replica stops for good, if the others of its group are a majority without it.
    fn kill_replica(&mut self, number: u64, group: GroupId) {
        let is_dead = |node: &Node| {
            node.dead.contains(&group)
                || node.allotted.contains(&group)
                || node.retired.contains(&group)
        };
        let member = self.born[&group].contains(replica_of(number, group));
        if !member || self.nodes.values().any(is_dead) {
            return;
        }
        let node = self.nodes.get_mut(&number).expect("it exists");
        node.dead.push(group);
        if node.replicas.remove(&group).is_some() {
            self.watch.report.coverage.count("replicas that stopped");
            self.gone(number, group);
        }
    }
}
