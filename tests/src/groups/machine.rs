//! The state machine that the simulated group replicates: a few numbers under keys, changed by commands whose answers depend on them.
//!
//! It also chains a digest over everything it applied, so that two replicas with the same chain applied the same entries in the same
//! order. Here: [`Command`] and its bytes, [`Machine`]. Not here: who asks what (`clients`), which answers are right (`oracle`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{Entry, EntryKind, LogIndex};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::model::digest;
use crate::linear::Step;

/// Numbers that the machine holds.
pub(crate) const KEYS: usize = 6;

/// What is asked of one number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// Answered by the sum.
    Add(u64),
    /// Answered by what was there.
    Swap(u64),
    /// Takes effect if `expected` is there; answered by what was there.
    CompareAndSet { expected: u64, value: u64 },
    /// No command: answered by what is there.
    Read,
}

impl Ask {
    /// The answer, and the number afterwards.
    pub(crate) fn of(self, number: u64) -> (u64, u64) {
        match self {
            Self::Add(amount) => {
                let sum = number.wrapping_add(amount);
                (sum, sum)
            }
            Self::Swap(value) => (number, value),
            Self::CompareAndSet { expected, value } if number == expected => (number, value),
            Self::CompareAndSet { .. } | Self::Read => (number, number),
        }
    }
}

/// A question and its answer, if there was one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) ask: Ask,
    pub(crate) answer: Option<u64>,
}

impl Step for Answered {
    type State = u64;

    fn step(&self, number: &u64) -> Option<u64> {
        let (answer, after) = self.ask.of(*number);
        self.answer
            .is_none_or(|seen| seen == answer)
            .then_some(after)
    }
}

/// The payload of a normal entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Command {
    pub(crate) id: u64,
    pub(crate) key: usize,
    pub(crate) ask: Ask,
}

/// Bytes of a command without its padding.
const BYTES: usize = 26;

impl Command {
    /// Its bytes, and `padding` more.
    pub(crate) fn encode(self, padding: usize) -> Bytes {
        let (tag, first, second) = match self.ask {
            Ask::Add(amount) => (0, amount, 0),
            Ask::Swap(value) => (1, value, 0),
            Ask::CompareAndSet { expected, value } => (2, expected, value),
            Ask::Read => unreachable!("reads are no commands"),
        };
        let mut bytes = Vec::with_capacity(BYTES + padding);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend([tag, self.key as u8]);
        bytes.extend(first.to_le_bytes());
        bytes.extend(second.to_le_bytes());
        bytes.resize(BYTES + padding, self.id as u8);
        bytes.into()
    }

    /// The command in an entry; `None`: it is none.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let bytes = entry
            .payload
            .first_chunk::<BYTES>()
            .filter(|_| entry.kind == EntryKind::Normal)?;
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let ask = match bytes[8] {
            0 => Ask::Add(number(10)),
            1 => Ask::Swap(number(10)),
            _ => Ask::CompareAndSet {
                expected: number(10),
                value: number(18),
            },
        };
        Some(Self {
            id: number(0),
            key: usize::from(bytes[9]),
            ask,
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) applied: LogIndex,
    pub(crate) chain: u64,
    numbers: [u64; KEYS],
    /// Makes snapshots long enough for many chunks.
    filler: Bytes,
}

/// How long a state grows.
const FILLER_MAX: usize = 12 << 10;

impl Machine {
    /// Applies the next entry; returns the command in it and its answer.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<(Command, u64)> {
        self.applied = entry.index;
        self.chain = chained(self.chain, entry.term.get(), digest(entry));
        let command = Command::of(entry)?;
        let (answer, after) = command.ask.of(self.numbers[command.key]);
        self.numbers[command.key] = after;
        if self.filler.len() < FILLER_MAX {
            self.filler = [&self.filler[..], &[entry.payload.len() as u8; 16]]
                .concat()
                .into();
        }
        Some((command, answer))
    }

    pub(crate) fn read(&self, key: usize) -> u64 {
        self.numbers[key]
    }

    pub(crate) fn encode(&self) -> Bytes {
        rmp_serde::to_vec_named(self).expect("plain data").into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}

/// The chain's next link.
pub(crate) fn chained(chain: u64, term: u64, digest: u64) -> u64 {
    xxh3_64_with_seed(&[term.to_le_bytes(), digest.to_le_bytes()].concat(), chain)
}

#[cfg(test)]
mod tests {
    use synod_consensus::Term;

    use super::*;

    #[test]
    fn a_command_is_what_its_bytes_say() {
        let asks = [
            Ask::Add(7),
            Ask::Swap(u64::MAX),
            Ask::CompareAndSet {
                expected: 3,
                value: 9,
            },
        ];
        for (id, ask) in (1..).zip(asks) {
            let command = Command { id, key: 5, ask };
            let entry = Entry {
                term: Term::new(1),
                index: LogIndex::new(1),
                kind: EntryKind::Normal,
                payload: command.encode(id as usize),
            };
            assert_eq!(Command::of(&entry), Some(command));
        }
    }
}
