//! How a seed of a complete electorate gets a record chosen.
//!
//! Here: the proposer of Lamport's "Paxos Made Simple" (2.2, phases 1 and 2; 2.4 for progress) and what the acceptor answers. Not
//! here: the acceptor's rules (`acceptor`), who decides (`machine`).

use core::time::Duration;
use std::collections::BTreeSet;

use super::acceptor::Ballot;
use super::electorate::Electorate;
use super::machine::Genesis;
use super::message::Body;
use super::record::Record;
use super::seed::SeedName;

/// The back-off is doubled at most this often.
const DOUBLINGS_MAX: u32 = 5;

/// How far the present attempt is.
#[derive(Debug, Default)]
enum Attempt {
    #[default]
    None,
    Preparing {
        ballot: Ballot,
        promised: BTreeSet<SeedName>,
        /// The latest of what they accepted (2.2, phase 2 (a)).
        latest: Option<(Ballot, Record)>,
    },
    Proposing {
        ballot: Ballot,
        record: Record,
        accepted: BTreeSet<SeedName>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Proposer {
    attempt: Attempt,
    /// When the next attempt begins; `None` before the first was planned.
    next_at: Option<Duration>,
    failures: u32,
    /// The latest round heard of.
    round: u64,
}

impl Genesis {
    /// The electorate is complete: plan the first attempt, staggered by place, so that as a rule nobody outbids anybody.
    pub(super) fn start_proposer(&mut self) {
        if self.proposer.next_at.is_some() || !self.is_deciding() {
            return;
        }
        let place = self.place();
        let back_off = self.options.back_off;
        self.proposer.next_at = Some(self.now + back_off * u32::from(place));
    }

    pub(super) fn proposer_wakes_at(&self) -> Option<Duration> {
        self.proposer.next_at.filter(|_| self.is_deciding())
    }

    pub(super) fn tick_proposer(&mut self) {
        if self.is_deciding() && self.proposer.next_at.is_some_and(|at| self.now >= at) {
            self.attempt();
        }
    }

    fn place(&self) -> u8 {
        let place = self.list().and_then(|list| list.place(&self.me));
        place
            .and_then(|place| u8::try_from(place).ok())
            .unwrap_or(u8::MAX)
    }

    /// Phase 1 (a). The own promise is part of it: no message of this ballot leaves before it is durable, so that no later start
    /// uses the ballot again.
    fn attempt(&mut self) {
        self.plan_another(self.options.attempt);
        let Some(durable) = &self.durable else { return };
        let Some(electorate) = durable.electorate.clone() else {
            return;
        };
        let promised = durable.acceptor.promised.unwrap_or_default().round;
        let Some(round) = promised.max(self.proposer.round).checked_add(1) else {
            return;
        };
        self.proposer.round = round;
        let place = self.place();
        let ballot = Ballot { round, place };
        self.proposer.attempt = Attempt::Preparing {
            ballot,
            promised: BTreeSet::new(),
            latest: None,
        };
        for seed in self.others() {
            let electorate = electorate.clone();
            self.send_after_promise(ballot, seed, Body::Prepare { electorate, ballot });
        }
        self.send_after_promise(
            ballot,
            self.me.clone(),
            Body::Prepare { electorate, ballot },
        );
    }

    fn send_after_promise(&mut self, ballot: Ballot, to: SeedName, body: Body) {
        let promised = self
            .durable
            .as_ref()
            .and_then(|durable| durable.acceptor.promised);
        if promised != Some(ballot) {
            self.change(|durable| {
                let _ = durable.acceptor.promise(ballot); // above all that was promised
            });
        }
        self.send(to, body);
    }

    /// The next attempt begins after `patience` and a back-off that grows with every failure.
    fn plan_another(&mut self, patience: Duration) {
        let bound = self.options.back_off * (1 << self.proposer.failures.min(DOUBLINGS_MAX));
        let back_off = self.draw.below(bound);
        self.proposer.failures += 1;
        self.proposer.next_at = Some(self.now + patience + back_off);
    }

    /// A message of the choice.
    pub(super) fn handle_choice(&mut self, from: &SeedName, body: Body) {
        match body {
            Body::Prepare { electorate, ballot } if self.answers_in(&electorate) => {
                self.handle_prepare(from, electorate, ballot);
            }
            Body::Accept {
                electorate,
                ballot,
                record,
            } if self.answers_in(&electorate) => {
                self.handle_accept(from, electorate, ballot, record);
            }
            Body::Promise {
                electorate,
                ballot,
                accepted,
            } if self.counts(&electorate, from) => self.handle_promise(from, ballot, accepted),
            Body::Accepted { electorate, ballot } if self.counts(&electorate, from) => {
                self.handle_accepted(from, &electorate, ballot);
            }
            Body::Refused {
                electorate,
                ballot,
                promised,
            } if self.counts(&electorate, from) => self.handle_refused(ballot, promised),
            _ => {}
        }
    }

    /// An answer of `from` counts in the founding that this seed decides in.
    fn counts(&self, electorate: &Electorate, from: &SeedName) -> bool {
        self.is_deciding() && self.votes_in(electorate) && electorate.list().contains(from)
    }

    fn handle_prepare(&mut self, from: &SeedName, electorate: Electorate, ballot: Ballot) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        if let Some(record) = durable.chosen.clone() {
            self.send(from.clone(), Body::Chosen { electorate, record });
            return;
        }
        let answer = match durable.acceptor.promise(ballot) {
            Ok(()) => Body::Promise {
                electorate,
                ballot,
                accepted: durable.acceptor.accepted.clone(),
            },
            Err(promised) => Body::Refused {
                electorate,
                ballot,
                promised,
            },
        };
        self.answer_choice(from, answer);
    }

    fn handle_accept(
        &mut self,
        from: &SeedName,
        electorate: Electorate,
        ballot: Ballot,
        record: Record,
    ) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        if let Some(record) = durable.chosen.clone() {
            self.send(from.clone(), Body::Chosen { electorate, record });
            return;
        }
        let answer = match durable.acceptor.accept(ballot, record) {
            Ok(()) => Body::Accepted { electorate, ballot },
            Err(promised) => Body::Refused {
                electorate,
                ballot,
                promised,
            },
        };
        self.answer_choice(from, answer);
    }

    /// The acceptor moved unless it refused; and whoever proposes knows that the electorate is complete.
    fn answer_choice(&mut self, from: &SeedName, answer: Body) {
        if !matches!(answer, Body::Refused { .. }) {
            self.change(|durable| durable.complete = true);
        }
        self.send(from.clone(), answer);
    }

    /// Phase 2 (a): with a majority's promises the latest accepted value is proposed, or the own one if there is none.
    fn handle_promise(&mut self, from: &SeedName, of: Ballot, accepted: Option<(Ballot, Record)>) {
        let Some(electorate) = self.electorate().cloned() else {
            return;
        };
        let Attempt::Preparing {
            ballot,
            promised,
            latest,
        } = &mut self.proposer.attempt
        else {
            return;
        };
        let ballot = *ballot;
        if ballot != of {
            return;
        }
        promised.insert(from.clone());
        if let Some((at, record)) = accepted
            && latest.as_ref().is_none_or(|(latest, _)| at > *latest)
        {
            *latest = Some((at, record));
        }
        if promised.len() < electorate.majority() {
            return;
        }
        let latest = latest.take().map(|(_, record)| record);
        let Some(record) = latest.or_else(|| self.candidate.clone()) else {
            return;
        };
        self.proposer.attempt = Attempt::Proposing {
            ballot,
            record: record.clone(),
            accepted: BTreeSet::new(),
        };
        for seed in electorate.list().iter() {
            let accept = Body::Accept {
                electorate: electorate.clone(),
                ballot,
                record: record.clone(),
            };
            self.send(seed.clone(), accept);
        }
    }

    /// A majority accepted one ballot: its value is chosen (2.2), and stays so.
    fn handle_accepted(&mut self, from: &SeedName, electorate: &Electorate, of: Ballot) {
        let Attempt::Proposing {
            ballot,
            record,
            accepted,
        } = &mut self.proposer.attempt
        else {
            return;
        };
        if *ballot != of {
            return;
        }
        accepted.insert(from.clone());
        if accepted.len() >= electorate.majority() {
            let record = record.clone();
            self.proposer.attempt = Attempt::None;
            self.learn(electorate, record);
        }
    }

    /// Section 2.3: gives the attempt up, and leaves the later one time to end.
    fn handle_refused(&mut self, of: Ballot, promised: Ballot) {
        let (Attempt::Preparing { ballot, .. } | Attempt::Proposing { ballot, .. }) =
            &self.proposer.attempt
        else {
            return;
        };
        if *ballot != of {
            return;
        }
        self.proposer.attempt = Attempt::None;
        self.proposer.round = self.proposer.round.max(promised.round);
        self.plan_another(self.options.attempt / 4);
    }
}
