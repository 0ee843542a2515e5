//! What goes wrong: one fault after the other until the world heals.
//!
//! Here: this half of [`World`]. Not here: the ways (`network`), what a crash leaves (`node`).

use std::time::Duration;

use rand::Rng;

use super::event::{Event, SeatEvent, ToEvaluator};
use super::network::End;
use super::node::replica;
use super::world::World;
use crate::violation::Violation;

/// Longest time that a fault lasts, in milliseconds: longer than an election and a retry.
const LONGEST_MS: u64 = 900;

impl World {
    /// Lets something go wrong, and plans what comes next.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        if self.healing {
            return Ok(());
        }
        let gap = self.chance.random_range(60..350);
        self.agenda
            .put(self.now + Duration::from_millis(gap), Event::Fault);
        self.faults += 1;
        self.coverage.count("faults");
        let shard = self.chance.random_range(0..self.plan.shards);
        let leader = self.leader_of(shard);
        let any = self.chance.random_range(0..self.nodes.len());
        let lasts = Duration::from_millis(self.chance.random_range(50..LONGEST_MS));
        match self.chance.random_range(0..100) {
            0..18 => self.isolate(leader.unwrap_or(any), lasts),
            18..24 => self.isolate(any, lasts),
            24..42 => {
                let victim = if self.chance.random_range(0..3) == 0 {
                    any
                } else {
                    leader.unwrap_or(any)
                };
                self.crash(victim, lasts)?;
            }
            42..52 => self.freeze(leader.unwrap_or(any), lasts),
            52..72 => self.hand_over(shard, leader),
            72..84 => self.bounce(shard, leader)?,
            84..88 => {
                self.coverage.count("slow disks");
                self.slow_disk[any] = self.now + lasts;
            }
            88..92 => self.cut_router(any, lasts),
            92..96 => {
                // Long enough for its sessions to expire, with commands under way (E10).
                self.coverage.count("stopped routers");
                let router = self.chance.random_range(0..self.routers.len());
                let stop = Duration::from_millis(self.chance.random_range(500..6_000));
                self.routers[router].stopped_until = self.now + stop;
            }
            _ => {
                // One way only: the node hears, and is not heard.
                self.coverage.count("one-way cuts");
                for other in 0..self.nodes.len() {
                    if other != any {
                        self.network.set_cut(End::Node(any), End::Node(other), true);
                    }
                }
                self.agenda
                    .put(self.now + lasts, Event::Reconnect { node: any });
            }
        }
        Ok(())
    }

    /// No other node is reached; clients still are, so that a deposed leader goes on being asked.
    fn isolate(&mut self, node: usize, lasts: Duration) {
        self.coverage.count("isolations");
        for other in 0..self.nodes.len() {
            if other != node {
                self.network
                    .set_cut(End::Node(node), End::Node(other), true);
                self.network
                    .set_cut(End::Node(other), End::Node(node), true);
            }
        }
        if self.chance.random_range(0..3) == 0 {
            for router in 0..self.routers.len() {
                self.network
                    .set_cut(End::Node(node), End::Router(router), true);
            }
        }
        self.agenda.put(self.now + lasts, Event::Reconnect { node });
    }

    pub(super) fn reconnect(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.network
                .set_cut(End::Node(node), End::Node(other), false);
            self.network
                .set_cut(End::Node(other), End::Node(node), false);
        }
        for router in 0..self.routers.len() {
            self.network
                .set_cut(End::Node(node), End::Router(router), false);
            self.network
                .set_cut(End::Router(router), End::Node(node), false);
        }
    }

    fn crash(&mut self, node: usize, lasts: Duration) -> Result<(), Violation> {
        if !self.nodes[node].is_up() {
            return Ok(());
        }
        self.coverage.count("crashes");
        self.count_evaluators(node);
        let kept = self.chance.random_range(0..=self.nodes[node].writing.len());
        self.nodes[node]
            .crash(node, kept)
            .map_err(|detail| Violation::of("storage", detail))?;
        for router in 0..self.routers.len() {
            if self.chance.random_range(0..2) == 0 {
                let notice = Duration::from_millis(self.chance.random_range(1..150));
                let up = false;
                self.agenda
                    .put(self.now + notice, Event::Connection { router, node, up });
            }
        }
        self.agenda.put(self.now + lasts, Event::Start { node });
        Ok(())
    }

    fn freeze(&mut self, node: usize, lasts: Duration) {
        self.coverage.count("stopped processes");
        let until = self.now + lasts;
        let frozen = &mut self.nodes[node].frozen_until;
        *frozen = (*frozen).max(until);
        self.agenda.put(*frozen, Event::Thaw { node });
    }

    /// Leadership moves as the planner would do it once the heir is near: pause, drain, transfer.
    fn hand_over(&mut self, shard: usize, leader: Option<usize>) {
        let Some(leader) = leader else {
            return;
        };
        let to = (leader + self.chance.random_range(1..self.nodes.len())) % self.nodes.len();
        self.coverage.count("pauses");
        self.nodes[leader].seats[shard].handover = Some(to);
        let deadline = self.now + Duration::from_millis(self.chance.random_range(5..120));
        self.tell_evaluator(leader, shard, ToEvaluator::Pause { deadline });
        let give_up = deadline + Duration::from_millis(300);
        self.at_seat(give_up, leader, shard, SeatEvent::GiveUpHandover);
    }

    /// Leadership moves without warning and comes back: handlers that were running would end in another term.
    fn bounce(&mut self, shard: usize, leader: Option<usize>) -> Result<(), Violation> {
        let Some(leader) = leader else {
            return Ok(());
        };
        self.coverage.count("bounces");
        let to = (leader + self.chance.random_range(1..self.nodes.len())) % self.nodes.len();
        let now = self.now;
        let _ = self.nodes[leader].seats[shard]
            .group
            .transfer(now, replica(to));
        let wait = Duration::from_millis(self.chance.random_range(5..60));
        self.agenda.put(
            now + wait,
            Event::Bounce {
                shard,
                to: leader,
                tries: 20,
            },
        );
        self.drain_group(leader, shard)
    }

    pub(super) fn bounce_back(
        &mut self,
        shard: usize,
        to: usize,
        tries: u32,
    ) -> Result<(), Violation> {
        match self.leader_of(shard) {
            Some(leader) if leader != to => {
                let now = self.now;
                let _ = self.nodes[leader].seats[shard]
                    .group
                    .transfer(now, replica(to));
                self.drain_group(leader, shard)
            }
            _ if tries > 0 && !self.healing => {
                self.agenda.put(
                    self.now + Duration::from_millis(5),
                    Event::Bounce {
                        shard,
                        to,
                        tries: tries - 1,
                    },
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn cut_router(&mut self, node: usize, lasts: Duration) {
        self.coverage.count("router cuts");
        let router = self.chance.random_range(0..self.routers.len());
        let both = self.chance.random_range(0..2) == 0;
        self.network
            .set_cut(End::Node(node), End::Router(router), true);
        if both {
            self.network
                .set_cut(End::Router(router), End::Node(node), true);
        }
        let up = false;
        let notice = Duration::from_millis(self.chance.random_range(1..200));
        self.agenda
            .put(self.now + notice, Event::Connection { router, node, up });
        self.agenda.put(self.now + lasts, Event::Reconnect { node });
    }
}
