//! What must hold after the storm, and within which time.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use synod_consensus::{GroupId, Role, Term};

use super::node::{Node, replica_of};
use super::world::{Report, World};
use crate::violation::{Violation, broken};

/// Every group with a majority is led.
const LED_WITHIN: Duration = Duration::from_secs(5);
/// Every group rests: two seconds of nothing to do, twice if the first claim came to nothing, and lists that were lost.
pub(super) const RESTS_WITHIN: Duration = Duration::from_secs(15);
/// After the death of a node: its silence, ranks, one split vote.
pub(super) const SUCCEEDED_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

impl World {
    /// A storm, then calm.
    pub fn run(mut self) -> Result<Report, Violation> {
        self.settle("at first")?;
        let faults = self.rng.random_range(5..40);
        self.storm(faults)?;
        self.heal()?;
        self.settle("after the storm")?;
        self.nobody_speaks()?;
        self.one_wakes_alone()?;
        self.a_death_is_noticed()?;
        self.everything_is_everywhere()?;
        Ok(self.watch.report)
    }

    /// While all rest, so many of a thousand packets are lost for a while; nobody wakes.
    pub fn rests_through_loss(
        mut self,
        thousandths: u32,
        time: Duration,
    ) -> Result<Report, Violation> {
        self.settle("at first")?;
        self.run_until(self.now + Duration::from_millis(300))?;
        let seen = |world: &Self, what| world.watch.report.coverage.get(what);
        let heard_of_it = ["raft", "pre-votes", "leaderships", "rouses", "silences"];
        let before = heard_of_it.map(|what| seen(&self, what));
        let lost = seen(&self, "packets lost");
        self.net.loss = thousandths;
        self.run_until(self.now + time)?;
        let after = heard_of_it.map(|what| seen(&self, what));
        if before != after {
            let detail = format!(
                "{heard_of_it:?} were {before:?} when beats began to be lost, then {after:?}"
            );
            return broken("Quiet", detail);
        }
        let lost = seen(&self, "packets lost") - lost;
        self.watch.report.coverage.add("beats lost at rest", lost);
        Ok(self.watch.report)
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.net.cut.clear();
        self.net.beats_only.clear();
        self.net.loss = 0;
        self.net.delay = Duration::from_micros(300);
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.resume(node);
            self.unstick_all(node);
            self.disk_goes_on(node);
            if !self.nodes[&node].running {
                self.start(node);
            }
            // What stopped is mended; what was allotted is made.
            let known = self.nodes.get_mut(&node).expect("it exists");
            let late = std::mem::take(&mut known.dead);
            for group in late.into_iter().chain(known.allotted.clone()) {
                self.host(node, group);
            }
        }
        self.watch.verdict()
    }

    fn live(&self, group: GroupId) -> impl Iterator<Item = &Node> {
        let members = &self.groups[&group];
        self.nodes.values().filter(move |node| {
            members.contains(replica_of(node.number, group)) && node.replicas.contains_key(&group)
        })
    }

    pub(super) fn has_majority(&self, group: GroupId) -> bool {
        self.live_voters(group).count() > self.groups[&group].voters.len() / 2
    }

    fn live_voters(&self, group: GroupId) -> impl Iterator<Item = &Node> {
        let voters = &self.groups[&group].voters;
        self.live(group)
            .filter(move |node| voters.contains(&replica_of(node.number, group)))
    }

    /// The leader that a majority follows.
    pub(super) fn led_by(&self, group: GroupId) -> Option<(u64, Term)> {
        let number = self.leader_of(group)?;
        let term = self.nodes[&number].replicas[&group].group.status().term;
        let me = replica_of(number, group);
        let follows = |node: &&Node| {
            let status = node.replicas[&group].group.status();
            (status.term, status.leader) == (term, Some(me))
        };
        let followers = self.live_voters(group).filter(follows).count();
        (followers > self.groups[&group].voters.len() / 2).then_some((number, term))
    }

    pub(super) fn rests(&self, group: GroupId) -> bool {
        let leaders = |node: &&Node| node.replicas[&group].group.status().role == Role::Leader;
        self.live(group).filter(leaders).count() == 1
            && self
                .live(group)
                .map(|node| &node.replicas[&group].group)
                .all(|replica| replica.is_resting() && replica.has_caught_up())
    }

    /// Looks every 10 ms until `holds`; returns how long that took.
    pub(super) fn within(
        &mut self,
        bound: Duration,
        invariant: &'static str,
        what: &str,
        holds: impl Fn(&Self, GroupId) -> bool,
    ) -> Result<Duration, Violation> {
        let begin = self.now;
        loop {
            let lacking = self.groups.keys().find(|group| !holds(self, **group));
            let Some(lacking) = lacking.copied() else {
                return Ok(self.now - begin);
            };
            if self.now - begin > bound {
                let mut words = format!("group {lacking} {what} after {bound:?}:");
                for node in self.live(lacking) {
                    let status = node.replicas[&lacking].group.status();
                    words += &format!(
                        "\n  node {} life {}: {:?} in {} of {:?}, {} committed, {:?} last, caught up: {}, rests: {}",
                        node.number,
                        node.life,
                        status.role,
                        status.term,
                        status.leader,
                        status.commit,
                        status.last,
                        status.caught_up,
                        status.resting
                    );
                }
                return broken(invariant, words);
            }
            self.run_until(self.now + LOOK)?;
        }
    }

    pub(super) fn settle(&mut self, when: &str) -> Result<(), Violation> {
        let led = self.within(
            LED_WITHIN,
            "Led",
            &format!("is not led {when}"),
            |world, group| world.led_by(group).is_some(),
        )?;
        self.watch.report.took("led again", led);
        self.know_members()?;
        let rests = self.within(
            RESTS_WITHIN,
            "Rests",
            &format!("does not rest {when}"),
            |world, group| world.rests(group),
        )?;
        self.watch.report.took("at rest again", rests);
        Ok(())
    }

    /// The system log retires whoever belongs to a group no more, and may not have heard of it.
    fn know_members(&mut self) -> Result<(), Violation> {
        self.within(LED_WITHIN, "Led", "is still joint", |world, group| {
            let leader = world.leader_of(group);
            leader.is_some_and(|leader| {
                let status = world.nodes[&leader].replicas[&group].group.status();
                status.configuration_index <= status.commit && !status.configuration.is_joint()
            })
        })?;
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            let leader = self.leader_of(group).expect("it was led just now");
            let status = self.nodes[&leader].replicas[&group].group.status();
            for number in self.nodes.keys().copied().collect::<Vec<_>>() {
                let node = self.nodes.get_mut(&number).expect("it exists");
                let belongs = status.configuration.contains(replica_of(number, group));
                if !belongs && node.replicas.remove(&group).is_some() {
                    node.retired.push(group);
                    self.gone(number, group);
                }
            }
            self.groups.insert(group, status.configuration);
        }
        Ok(())
    }

    /// Nothing but beats.
    fn nobody_speaks(&mut self) -> Result<(), Violation> {
        // What the last claims said is still on its way.
        self.run_until(self.now + Duration::from_millis(300))?;
        let said = |world: &Self| {
            world.watch.report.coverage.get("raft") + world.watch.report.coverage.get("news")
        };
        let before = said(self);
        self.run_until(self.now + Duration::from_secs(30))?;
        let messages = said(self) - before;
        if messages > 0 {
            let detail = format!("{messages} messages in 30 s in which every group rests");
            return broken("Quiet", detail);
        }
        Ok(())
    }

    pub(super) fn terms(&self) -> BTreeMap<GroupId, Option<(u64, Term)>> {
        let groups = self.groups.keys();
        groups.map(|group| (*group, self.led_by(*group))).collect()
    }

    fn one_wakes_alone(&mut self) -> Result<(), Violation> {
        let nth = self.rng.random_range(0..self.groups.len());
        let chosen = *self.groups.keys().nth(nth).expect("below the number");
        let before = self.terms();
        let leader = self.leader_of(chosen).expect("it rests");
        let acknowledged = self.watch.report.coverage.get("acknowledged")
            + self.watch.report.coverage.get("reads");
        while self.rests(chosen) {
            self.command(leader, chosen);
        }
        let until = self.now + RESTS_WITHIN;
        while self.now < until {
            self.run_until(self.now + LOOK)?;
            for group in self.groups.keys().filter(|group| **group != chosen) {
                if !self.rests(*group) {
                    let detail = format!("group {group} woke when {chosen} had something to do");
                    return broken("One Wakes Alone", detail);
                }
            }
        }
        let after = self.terms();
        let others = |terms: &BTreeMap<GroupId, _>| {
            let mut others = terms.clone();
            others.remove(&chosen);
            others
        };
        if others(&before) != others(&after) {
            return broken("Leaders Stay", "leaders changed without cause");
        }
        if self.watch.report.coverage.get("acknowledged") + self.watch.report.coverage.get("reads")
            == acknowledged
        {
            self.watch.report.coverage.count("only transferred");
        }
        self.settle("after it had something to do")
    }

    fn a_death_is_noticed(&mut self) -> Result<(), Violation> {
        let victim = self.rng.random_range(1..=self.nodes.len() as u64);
        let before = self.terms();
        self.crash(victim);
        let decided = |world: &Self, group: GroupId| {
            !world.has_majority(group) || world.led_by(group).is_some()
        };
        let took = self.within(
            SUCCEEDED_WITHIN,
            "Succeeded",
            &format!("has no leader though only node {victim} died"),
            decided,
        )?;
        self.watch.report.took("succeeded", took);
        for (group, leader) in &before {
            let another = self.led_by(*group);
            let by_another = leader.is_some_and(|(node, _)| node != victim);
            if by_another && self.has_majority(*group) && another != *leader {
                return broken(
                    "Leaders Stay",
                    format!(
                        "group {group} changed its leader when node {victim} died, which did not lead it: {leader:?}, then {another:?}"
                    ),
                );
            }
        }
        // Those without a majority do not rest: they look for one.
        self.within(
            RESTS_WITHIN,
            "Rests",
            "does not rest without the node that died",
            |world, group| !world.has_majority(group) || world.rests(group),
        )?;
        self.start(victim);
        self.settle("after a node was started again")
    }

    fn everything_is_everywhere(&mut self) -> Result<(), Violation> {
        for (group, last) in &self.watch.acknowledged {
            for node in self.live(*group) {
                let applied = node.replicas[group].applied;
                if applied < *last {
                    return broken(
                        "Acknowledged Commands",
                        format!(
                            "group {group}: node {} holds {applied}, but {last} was acknowledged",
                            node.number
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}
