//! What a seed heard of the others in its list.
//!
//! Here: [`Roster`]: the last answer of each listed seed, whether it is fresh, who gave its word to this seed's electorate. In
//! memory only: after a restart everybody is asked again. Not here: what follows from it (`machine`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::electorate::Electorate;
use super::record::ClusterId;
use super::seed::{Card, Incarnation, SeedList, SeedName};

/// The last that a seed said of itself.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) incarnation: Incarnation,
    pub(super) list: SeedList,
    pub(super) card: Card,
    pub(super) electorate: Option<Electorate>,
    /// When an answer to a present question last said so.
    answered: Option<Duration>,
}

/// What a statement says of its sender.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) incarnation: Incarnation,
    pub(super) list: SeedList,
    pub(super) card: Card,
    pub(super) electorate: Option<Electorate>,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    heard: BTreeMap<SeedName, Heard>,
    /// Who answered that it has data of a cluster and not the record of this seed's founding, of which one, and when. Only a voter
    /// of a complete electorate notes it.
    strangers: BTreeMap<SeedName, (ClusterId, Duration)>,
    /// Who gave its word to the electorate of this seed: as itself, or on a newer disk as a witness. Sticky: a word is never taken
    /// back, and a lost disk cannot give it to anybody else.
    pub(super) words: BTreeSet<SeedName>,
    question: u64,
    previous_question: u64,
}

impl Roster {
    /// A new question; answers to the one before still count.
    pub(super) fn ask(&mut self, question: u64) -> u64 {
        self.previous_question = self.question;
        self.question = question.max(1); // 0 says "no question"
        self.question
    }

    pub(super) fn question(&self) -> u64 {
        self.question
    }

    /// Notes a statement. Another disk, list or card than the known one is believed only in an answer to a present question: a
    /// late message of a lost disk must not pass for news. A word is never taken back.
    pub(super) fn note(&mut self, now: Duration, from: &SeedName, said: Said, echo: u64) {
        let answers = self.is_present(echo);
        let Said {
            incarnation,
            list,
            card,
            electorate,
        } = said;
        let mut heard = Heard {
            incarnation,
            list,
            card,
            electorate,
            answered: answers.then_some(now),
        };
        if let Some(before) = self.heard.remove(from) {
            let same = before.incarnation == heard.incarnation
                && before.list == heard.list
                && before.card == heard.card;
            if !same && !answers {
                heard = before;
            } else if before.incarnation == heard.incarnation {
                heard.electorate = heard.electorate.or(before.electorate);
                heard.answered = heard.answered.or(before.answered);
            }
        }
        if answers {
            self.strangers.remove(from);
        }
        self.heard.insert(from.clone(), heard);
    }

    /// `from` answered a present question: it has data of `cluster` and cannot help this seed to the record.
    pub(super) fn note_stranger(&mut self, now: Duration, from: &SeedName, cluster: ClusterId) {
        self.strangers.insert(from.clone(), (cluster, now));
    }

    pub(super) fn stranger(
        &self,
        now: Duration,
        fresh: Duration,
        seed: &SeedName,
    ) -> Option<ClusterId> {
        let (cluster, heard) = self.strangers.get(seed)?;
        (now <= *heard + fresh).then_some(*cluster)
    }

    /// `echo` answers a present question.
    pub(super) fn is_present(&self, echo: u64) -> bool {
        echo != 0 && (echo == self.question || echo == self.previous_question)
    }

    pub(super) fn get(&self, seed: &SeedName) -> Option<&Heard> {
        self.heard.get(seed)
    }

    /// The last answer of `seed`, if it answered within `fresh`.
    pub(super) fn fresh(&self, now: Duration, fresh: Duration, seed: &SeedName) -> Option<&Heard> {
        self.heard
            .get(seed)
            .filter(|heard| heard.answered.is_some_and(|at| now <= at + fresh))
    }
}
