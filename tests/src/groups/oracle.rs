//! The clients' memory: what each asked, when, and what it was answered; at the end, whether anything explains all of it.
//!
//! A command that was refused never gets here. One that another leader's entry replaced did not happen. One whose leader was lost may
//! have happened, at any time since, or never. Every key is a number of its own, checked by [`linear`](mod@crate::linear).
//!
//! The order of the log, as far as the world knows it, is tried first, in one pass; only when it does not explain the answers, any
//! order is searched. So a run costs little, and what is asked is still the clients' question: is there any order?

use synod_consensus::LogIndex;

use super::machine::{Answered, Ask, KEYS};
use crate::linear::{Operation, Verdict, explains, search};
use crate::violation::{Violation, broken};

/// Attempts to place an operation before a search ends. What is right is explained in one pass; this bounds the price of a wrong run.
const SEARCH_STEPS: usize = 200_000;

#[derive(Clone, Copy, Debug)]
enum Fate {
    /// No answer yet, or never.
    Unknown,
    /// Of a read, `seen` is the state that answered it.
    Answered {
        answer: u64,
        ended: u64,
        seen: LogIndex,
    },
    /// It certainly did not happen.
    Replaced,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    key: usize,
    ask: Ask,
    began: u64,
    fate: Fate,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    moment: u64,
    asked: Vec<Asked>,
    /// What was last seen of each number: lets clients compare and set with success.
    seen: [u64; KEYS],
}

impl Oracle {
    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// The name of the next question.
    pub(crate) fn next_id(&self) -> u64 {
        self.asked.len() as u64
    }

    pub(crate) fn last_seen(&self, key: usize) -> u64 {
        self.seen[key]
    }

    /// A client asks, and was not refused.
    pub(crate) fn ask(&mut self, key: usize, ask: Ask) -> u64 {
        let (id, began) = (self.next_id(), self.now());
        self.asked.push(Asked {
            key,
            ask,
            began,
            fate: Fate::Unknown,
        });
        id
    }

    /// A client is answered by a state that covers everything through `seen`.
    pub(crate) fn answer(&mut self, id: u64, answer: u64, seen: LogIndex) {
        let ended = self.now();
        let asked = &mut self.asked[id as usize];
        asked.fate = Fate::Answered {
            answer,
            ended,
            seen,
        };
        self.seen[asked.key] = answer;
    }

    /// A client is told that another entry stands where its command was to be.
    pub(crate) fn replaced(&mut self, id: u64) {
        self.asked[id as usize].fate = Fate::Replaced;
    }

    /// Judges the whole. `place` says where a command is in the log that was committed, if it is there.
    pub(crate) fn judge(&self, place: impl Fn(u64) -> Option<LogIndex>) -> Result<(), Violation> {
        let mut histories: [Vec<(Option<LogIndex>, Operation<Answered>)>; KEYS] =
            Default::default();
        for (id, asked) in (0..).zip(&self.asked) {
            let is_read = asked.ask == Ask::Read;
            let (answer, ended, place) = match asked.fate {
                Fate::Replaced => {
                    if let Some(index) = place(id) {
                        return broken(
                            "Replaced Commands",
                            format!("command {id} took effect at {index}"),
                        );
                    }
                    continue;
                }
                Fate::Unknown if is_read => continue,
                Fate::Unknown => (None, None, place(id)),
                Fate::Answered {
                    answer,
                    ended,
                    seen,
                } => {
                    let place = if is_read { Some(seen) } else { place(id) };
                    (Some(answer), Some(ended), place)
                }
            };
            let operation = Operation {
                step: Answered {
                    ask: asked.ask,
                    answer,
                },
                began: asked.began,
                ended,
            };
            histories[asked.key].push((place, operation));
        }
        histories
            .into_iter()
            .enumerate()
            .try_for_each(|(key, history)| judge_key(key, history))
    }
}

fn judge_key(
    key: usize,
    history: Vec<(Option<LogIndex>, Operation<Answered>)>,
) -> Result<(), Violation> {
    let (places, operations): (Vec<_>, Vec<_>) = history.into_iter().unzip();
    // Reads saw what stands at their place, so they come after it.
    let mut order: Vec<usize> = (0..operations.len())
        .filter(|number| places[*number].is_some())
        .collect();
    order.sort_by_key(|number| {
        let Operation { step, began, .. } = operations[*number];
        (places[*number], step.ask == Ask::Read, began)
    });
    if explains(&operations, &order) {
        return Ok(());
    }
    let (what, around) = match search(&operations, SEARCH_STEPS) {
        Verdict::Explained => return Ok(()),
        Verdict::GivenUp => ("neither the log nor a long search explains", Vec::new()),
        Verdict::Unexplained(around) => ("no order explains", around),
    };
    let mut detail = format!("{what} the answers about number {key}");
    for Operation { step, began, ended } in around.iter().rev().take(30).rev() {
        let ended = ended.map_or("?".to_owned(), |ended| ended.to_string());
        detail += &format!(
            "\n  {began:>7}..{ended:<7} {:?} -> {:?}",
            step.ask, step.answer
        );
    }
    broken("Linearizability", detail)
}
