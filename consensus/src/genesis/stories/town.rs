//! A network and disks of seeds that do exactly what a story says.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::genesis::*;

pub(super) fn name(letter: char) -> SeedName {
    SeedName::new(letter).unwrap()
}

pub(super) fn list(letters: &str) -> SeedList {
    SeedList::new(letters.chars().map(name)).unwrap()
}

pub(super) fn card(letter: char) -> Card {
    Card::new(Bytes::from(format!("card of {letter}"))).unwrap()
}

pub(super) fn kind(body: &Body) -> &'static str {
    match body {
        Body::Statement {
            electorate: Some(_),
            ..
        } => "word",
        body => body.name(),
    }
}

/// One machine with a disk, which outlives its process.
#[derive(Default)]
pub(super) struct Seed {
    pub(super) genesis: Option<Genesis>,
    pub(super) disk: Option<Durable>,
    pub(super) holds: Option<ClusterId>,
    pub(super) chosen: Option<ClusterId>,
    pub(super) joins: Option<ClusterId>,
}

/// Seeds, wires between them and a clock.
#[derive(Default)]
pub(super) struct Town {
    pub(super) now: Duration,
    pub(super) starts: u64,
    pub(super) seeds: BTreeMap<char, Seed>,
    pub(super) wire: VecDeque<(char, Message)>,
    /// Kinds of messages that do not get from one to the other. A statement with a word in it is a "word".
    pub(super) lost: BTreeSet<(&'static str, char, char)>,
    /// Seeds whose certificate was renewed, with another key.
    pub(super) renewed: BTreeSet<char>,
    /// Every message that was ever sent.
    pub(super) sent: Vec<(char, Message)>,
}

impl Town {
    pub(super) fn of(letters: &str) -> Self {
        let mut town = Self::default();
        for letter in letters.chars() {
            town.start(letter, letters);
        }
        town
    }

    pub(super) fn start(&mut self, letter: char, letters: &str) {
        self.starts += 1;
        let (now, starts) = (self.now, self.starts);
        let seed = self.seeds.entry(letter).or_default();
        let options = GenesisOptions::default();
        let genesis = match seed.holds {
            Some(cluster) => {
                Genesis::holding(options, name(letter), cluster, seed.disk.clone(), now)
            }
            None => {
                let seat = Seat {
                    me: name(letter),
                    list: list(letters),
                    card: match self.renewed.contains(&letter) {
                        true => Card::new(Bytes::from_static(b"renewed")).unwrap(),
                        false => card(letter),
                    },
                    candidate: Record::new(ClusterId(u128::from(starts)), Bytes::new()).unwrap(),
                    restored: seed.disk.clone(),
                };
                Genesis::seeking(options, seat, starts, now).unwrap()
            }
        };
        seed.genesis = Some(genesis);
        self.settle();
    }

    pub(super) fn stop(&mut self, letter: char) {
        self.seeds.entry(letter).or_default().genesis = None;
    }

    pub(super) fn wipe(&mut self, letter: char) {
        self.seeds.insert(letter, Seed::default());
    }

    pub(super) fn restart(&mut self, letter: char, letters: &str) {
        self.stop(letter);
        self.start(letter, letters);
    }

    /// Until nobody has anything to do at this time.
    pub(super) fn settle(&mut self) {
        loop {
            for (letter, seed) in &mut self.seeds {
                let Some(genesis) = &mut seed.genesis else {
                    continue;
                };
                while genesis.wake_at().is_some_and(|at| at <= self.now) {
                    genesis.tick(self.now);
                }
                while let Some(output) = genesis.poll_output() {
                    match output {
                        Output::Persist(token, durable) => {
                            seed.disk = Some(durable);
                            genesis.persisted(self.now, token);
                        }
                        Output::Send(to, message) => {
                            let to = to.as_str().chars().next().unwrap();
                            self.sent.push((to, message.clone()));
                            if !self.lost.contains(&(kind(&message.body), *letter, to)) {
                                self.wire.push_back((to, message));
                            }
                        }
                        Output::Chosen(_, record) => seed.chosen = Some(record.cluster()),
                        Output::Join { cluster, .. } => seed.joins = Some(cluster),
                        Output::Obstructed(_) => {}
                    }
                }
            }
            let Some((to, message)) = self.wire.pop_front() else {
                return;
            };
            self.hand_over(to, message);
        }
    }

    pub(super) fn hand_over(&mut self, to: char, message: Message) {
        if let Some(genesis) = self
            .seeds
            .get_mut(&to)
            .and_then(|seed| seed.genesis.as_mut())
        {
            genesis.receive(self.now, message);
        }
    }

    pub(super) fn run_ms(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.now += Duration::from_millis(10);
            self.settle();
        }
    }

    pub(super) fn chosen(&self, letter: char) -> Option<ClusterId> {
        self.seeds[&letter].chosen
    }

    pub(super) fn joins(&self, letter: char) -> Option<ClusterId> {
        self.seeds[&letter].joins
    }

    pub(super) fn obstacle(&self, letter: char) -> Option<&Obstacle> {
        self.seeds[&letter].genesis.as_ref()?.obstacle()
    }

    pub(super) fn disk(&self, letter: char) -> &Durable {
        self.seeds[&letter].disk.as_ref().unwrap()
    }

    /// What the runtime does with the cluster that a seed is in: from now on its store has data of it.
    pub(super) fn admit(&mut self, letter: char) {
        let now = self.now;
        let seed = self.seeds.get_mut(&letter).unwrap();
        seed.holds = seed.chosen.or(seed.joins);
        if let (Some(genesis), Some(cluster)) = (&mut seed.genesis, seed.holds) {
            genesis.held(now, cluster);
        }
    }

    /// Loses messages of that kind that `from` sends to the others.
    pub(super) fn lose(&mut self, what: &'static str, from: char, others: &str) {
        self.lost
            .extend(others.chars().map(|other| (what, from, other)));
    }

    /// The last message of the kind that `from` sent to `to`.
    pub(super) fn copy_of(&self, what: &str, from: char, to: char) -> Message {
        let mut sent = self.sent.iter().rev();
        let found = sent.find(|(receiver, message)| {
            *receiver == to && message.from == name(from) && kind(&message.body) == what
        });
        found.unwrap().1.clone()
    }
}
