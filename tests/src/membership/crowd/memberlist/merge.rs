//! What a message changes in memberlist: alive, suspect, dead, and the full exchange.
//!
//! Here: [`Suspicion`] with Lifeguard's timeout, and the rules for claims. Not here: probes ([`super::probe`]).

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;

use super::{
    AWARENESS_MAX, Claim, Effect, Memberlist, Node, PROBE_INTERVAL, SUSPICION_MAX_TIMEOUT_MULT,
    SUSPICION_MULT, State,
};

#[derive(Debug)]
pub(super) struct Suspicion {
    started: Duration,
    least: Duration,
    most: Duration,
    /// Confirmations that make it shortest.
    wanted: usize,
    /// The first accuser and who confirmed.
    accusers: BTreeSet<usize>,
    pub(super) deadline: Duration,
}

impl Suspicion {
    fn new(now: Duration, from: usize, known: usize) -> Self {
        let magnitude = (known.max(1) as f64).log10().max(1.0);
        let least = PROBE_INTERVAL.mul_f64(magnitude * f64::from(SUSPICION_MULT));
        let most = least * SUSPICION_MAX_TIMEOUT_MULT;
        let wanted = SUSPICION_MULT as usize - 2;
        let wanted = if known < wanted + 2 { 0 } else { wanted };
        Self {
            started: now,
            least,
            most,
            wanted,
            accusers: BTreeSet::from([from]),
            deadline: now + if wanted == 0 { least } else { most },
        }
    }

    /// Whether it was new.
    fn confirm(&mut self, now: Duration, from: usize) -> bool {
        if self.accusers.len() > self.wanted || !self.accusers.insert(from) {
            return false;
        }
        let confirmations = (self.accusers.len() - 1) as f64;
        let share = (confirmations + 1.0).ln() / (self.wanted as f64 + 1.0).ln();
        let lasts = (self.most - (self.most - self.least).mul_f64(share)).max(self.least);
        self.deadline = (self.started + lasts).max(now);
        true
    }
}

impl Memberlist {
    pub(super) fn aware(&mut self, by: i64) {
        let score = i64::from(self.awareness) + by;
        self.awareness = score.clamp(0, i64::from(AWARENESS_MAX) - 1) as u32;
    }

    fn set(&mut self, now: Duration, node: usize, state: State, incarnation: u64) {
        self.nodes[node] = Some(Node {
            state,
            incarnation,
            changed: now,
        });
        self.effects.push_back(Effect::Seen(node));
    }

    pub(super) fn merge(&mut self, now: Duration, claim: Claim) {
        match claim {
            Claim::Alive { node, incarnation } => self.alive(now, node, incarnation),
            Claim::Suspect {
                node,
                incarnation,
                from,
            } => self.suspect(now, node, incarnation, from),
            Claim::Dead {
                node,
                incarnation,
                from,
            } => self.dead(now, node, incarnation, from),
        }
    }

    pub(super) fn merge_states(&mut self, now: Duration, states: &[(usize, Node)]) {
        for &(node, held) in states {
            match held.state {
                State::Alive => self.alive(now, node, held.incarnation),
                State::Suspect | State::Dead => self.suspect(now, node, held.incarnation, self.me),
            }
        }
    }

    pub(super) fn alive(&mut self, now: Duration, node: usize, incarnation: u64) {
        match self.nodes[node] {
            None => {
                // A random place in the running round.
                let place = self.rng.random_range(0..=self.list.len());
                self.list.insert(place, node);
            }
            Some(held) if node == self.me => {
                if incarnation > held.incarnation {
                    self.refute(now, incarnation);
                }
                return;
            }
            Some(held) if incarnation <= held.incarnation => return,
            Some(_) => {}
        }
        self.suspicions.remove(&node);
        self.queue.add(Claim::Alive { node, incarnation });
        self.set(now, node, State::Alive, incarnation);
    }

    fn refute(&mut self, now: Duration, accused: u64) {
        let own = self.nodes[self.me].map_or(0, |held| held.incarnation);
        let incarnation = own.max(accused) + 1;
        self.aware(1);
        self.set(now, self.me, State::Alive, incarnation);
        self.queue.add(Claim::Alive {
            node: self.me,
            incarnation,
        });
    }

    pub(super) fn suspect(&mut self, now: Duration, node: usize, incarnation: u64, from: usize) {
        let Some(held) = self.nodes[node].filter(|held| incarnation >= held.incarnation) else {
            return;
        };
        let claim = Claim::Suspect {
            node,
            incarnation,
            from,
        };
        if let Some(suspicion) = self.suspicions.get_mut(&node) {
            if suspicion.confirm(now, from) {
                self.queue.add(claim);
            }
            return;
        }
        if held.state != State::Alive {
            return;
        }
        if node == self.me {
            self.refute(now, incarnation);
            return;
        }
        self.queue.add(claim);
        self.set(now, node, State::Suspect, incarnation);
        let suspicion = Suspicion::new(now, from, self.known());
        self.suspicions.insert(node, suspicion);
    }

    fn dead(&mut self, now: Duration, node: usize, incarnation: u64, from: usize) {
        let Some(held) = self.nodes[node].filter(|held| incarnation >= held.incarnation) else {
            return;
        };
        self.suspicions.remove(&node);
        if held.state == State::Dead {
            return;
        }
        if node == self.me {
            self.refute(now, incarnation);
            return;
        }
        self.queue.add(Claim::Dead {
            node,
            incarnation,
            from,
        });
        self.set(now, node, State::Dead, incarnation);
    }

    pub(super) fn expire(&mut self, now: Duration) {
        let expired: Vec<usize> = self
            .suspicions
            .iter()
            .filter(|(_, suspicion)| suspicion.deadline <= now)
            .map(|(&node, _)| node)
            .collect();
        for node in expired {
            self.suspicions.remove(&node);
            if let Some(held) = self.nodes[node].filter(|held| held.state == State::Suspect) {
                self.dead(now, node, held.incarnation, self.me);
            }
        }
    }
}
