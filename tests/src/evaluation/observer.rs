//! Who sees everything and believes nobody: the invariants of the evaluation simulator.
//!
//! - effect chain: no effect is applied on a version that it was not computed from (section 5).
//! - agreement: all replicas of a shard apply the same entries at the same indexes and hold the same state.
//! - at most once: no command's id enters an entity's images twice (section 6).
//! - acknowledged is applied: whoever was told "done" finds the effect in an applied entry.
//! - refused did not happen: whoever was told that nothing happened never finds an effect.
//! - an error changes nothing: whoever was answered with an `Err` never finds an effect (E31).
//! - linearizability: one order explains all answers of an entity ([`linear`](mod@crate::linear)).
//! - healing: once the faults are over, everything answers again.

use std::collections::{BTreeMap, BTreeSet};

use synod::evaluation::ShardState;
use synod::wire;
use synod_consensus::LogIndex;

use super::account::{self, Account, Seen, Wish};
use super::clients::CLOSED_KEY;
use crate::linear::{Operation, Verdict, search};
use crate::violation::{Violation, broken};

/// What became of a client's operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// Answered.
    Answered(Seen),
    /// It certainly did not happen.
    DidNotHappen,
    /// Nobody knows (a query: nobody cares).
    Unknown,
}

/// One call of one client.
#[derive(Clone, Copy, Debug)]
struct Call {
    shard: usize,
    key: usize,
    wish: Wish,
    began: u64,
    ended: u64,
    fate: Option<Fate>,
}

#[derive(Default)]
struct Shard {
    /// Checksum of each entry's payload, by index.
    entries: BTreeMap<LogIndex, u64>,
    /// The newest images' ids.
    ids: BTreeMap<String, Vec<u64>>,
}

/// See the module.
pub(super) struct Observer {
    shards: Vec<Shard>,
    applied: BTreeSet<u64>,
    calls: Vec<Call>,
    moment: u64,
}

impl Observer {
    /// Nothing seen yet.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            applied: BTreeSet::new(),
            calls: Vec::new(),
            moment: 0,
        }
    }

    /// A client asks; the number is the command's id.
    pub(super) fn asked(&mut self, shard: usize, key: usize, wish: Wish) -> u64 {
        self.moment += 1;
        self.calls.push(Call {
            shard,
            key,
            wish,
            began: self.moment,
            ended: u64::MAX,
            fate: None,
        });
        self.calls.len() as u64 - 1
    }

    /// The wish of a call.
    pub(super) fn wish(&self, id: u64) -> Wish {
        self.calls[id as usize].wish
    }

    /// The call has ended.
    pub(super) fn ended(&mut self, id: u64, fate: Fate) -> Result<(), Violation> {
        self.moment += 1;
        let call = &mut self.calls[id as usize];
        call.ended = self.moment;
        call.fate = Some(fate);
        let changed = match (call.wish, fate) {
            (wish, Fate::Answered(Seen::Number(_))) => {
                wish.leaves_id() || matches!(wish, Wish::Take { .. })
            }
            _ => false,
        };
        // A command and the closing of its account in one entry leave no image that shows the command.
        if changed && call.key != CLOSED_KEY && !self.applied.contains(&id) {
            return broken(
                "acknowledged is applied",
                format!("{:?} was answered {fate:?} without an effect", call.wish),
            );
        }
        Ok(())
    }

    /// Calls that have ended in this way.
    pub(super) fn count(&self, is: impl Fn(Wish, Fate) -> bool) -> u64 {
        self.calls
            .iter()
            .filter(|call| call.fate.is_some_and(|fate| is(call.wish, fate)))
            .count() as u64
    }

    /// Some replica applied an entry.
    pub(super) fn entry(
        &mut self,
        shard: usize,
        index: LogIndex,
        payload: &[u8],
        state: &ShardState,
    ) -> Result<(), Violation> {
        let checksum = xxhash_rust::xxh3::xxh3_64(payload);
        let seen = &mut self.shards[shard];
        if let Some(known) = seen.entries.get(&index) {
            if *known != checksum {
                return broken(
                    "agreement",
                    format!("two entries at index {index} of shard {shard}"),
                );
            }
            return Ok(());
        }
        seen.entries.insert(index, checksum);
        seen.ids
            .retain(|key, _| matches!(state.image("account", key), Ok(Some(_))));
        let mut changed = Vec::new();
        let seen_all = state.visit(|_, key, image| {
            if image.version == index {
                changed.push((key.to_owned(), image.clone()));
            }
        });
        seen_all.map_err(|error| Violation::of("agreement", error.to_string()))?;
        for (key, image) in changed {
            let account: Account = wire::decode(&image.bytes).map_err(|error| {
                Violation::of(
                    "agreement",
                    format!("the image of {key} does not decode: {error}"),
                )
            })?;
            let before = seen
                .ids
                .insert(key.clone(), account.ids.clone())
                .unwrap_or_default();
            for (place, id) in account.ids.iter().enumerate() {
                let again = account.ids[..place].contains(id)
                    || (!before.contains(id) && !self.applied.insert(*id));
                if again {
                    return broken(
                        "at most once",
                        format!(
                            "command {id} ({:?}) took effect on {key} again in entry {index} of shard {shard}",
                            self.calls[*id as usize].wish
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    /// All is over: what can only be judged by the whole.
    pub(super) fn judge(&self) -> Result<(), Violation> {
        let mut histories: BTreeMap<(usize, usize), Vec<Operation<account::Call>>> =
            BTreeMap::new();
        for (id, call) in self.calls.iter().enumerate() {
            let seen = match call.fate {
                Some(Fate::Answered(Seen::Overdrawn)) if self.applied.contains(&(id as u64)) => {
                    return broken(
                        "an error changes nothing",
                        format!(
                            "{:?} was answered with an error, and took effect",
                            call.wish
                        ),
                    );
                }
                Some(Fate::Answered(seen)) => seen,
                Some(Fate::DidNotHappen) => {
                    if self.applied.contains(&(id as u64)) {
                        return broken(
                            "refused did not happen",
                            format!("{:?} was refused, and took effect", call.wish),
                        );
                    }
                    continue;
                }
                Some(Fate::Unknown) | None if call.wish.is_query() => continue,
                Some(Fate::Unknown) | None => Seen::Unknown,
            };
            histories
                .entry((call.shard, call.key))
                .or_default()
                .push(Operation {
                    step: account::Call {
                        wish: call.wish,
                        seen,
                    },
                    began: call.began,
                    ended: (seen != Seen::Unknown).then_some(call.ended),
                });
        }
        for ((shard, key), history) in histories {
            if let Verdict::Unexplained(around) = search(&history, usize::MAX) {
                let mut detail =
                    format!("no order explains the answers of k{key} (shard {shard}); around:");
                for Operation { step, began, ended } in around.iter().rev().take(30).rev() {
                    let ended = ended.map_or("?".to_owned(), |ended| ended.to_string());
                    let account::Call { wish, seen } = step;
                    detail += &format!("\n  {began:>7}..{ended:<7} {wish:?} -> {seen:?}");
                }
                return broken("linearizability", detail);
            }
        }
        Ok(())
    }
}
