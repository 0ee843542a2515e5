//! The entity that the simulator's clients use, and how its answers are read.
//!
//! Every command carries an id that the entity records, so that the observer can see in the images themselves whether a
//! command took effect twice, or although its caller was told that it did not.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod::{Answer, CommandOf, Context, Entity, Handler, Message, QueryOf, View, wire};

use super::clock;
use crate::linear::Step;

/// Ids that an account remembers: more than can be under way for one entity at a time.
pub(super) const IDS_KEPT: usize = 96;

/// A balance and the commands that made it.
#[derive(Debug, Default, Serialize, Deserialize, Entity)]
#[entity(
    kind = "account",
    commands(Add, Take, Swap, Touch, Spoil, SlowAdd, Close),
    queries(Balance, SlowBalance)
)]
pub(super) struct Account {
    /// The balance.
    pub(super) balance: u64,
    /// Ids of the last commands that changed it, oldest first.
    pub(super) ids: Vec<u64>,
}

impl Account {
    fn record(&mut self, id: u64) {
        if self.ids.len() == IDS_KEPT {
            self.ids.remove(0);
        }
        self.ids.push(id);
    }
}

/// Adds; answers with the new balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add {
    id: u64,
    amount: u64,
}

/// Takes if there is enough; answers with the new balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<u64, Overdrawn>")]
struct Take {
    id: u64,
    amount: u64,
}

#[derive(Serialize, Deserialize)]
struct Overdrawn;

/// Sets; answers with the old balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Swap {
    id: u64,
    value: u64,
}

/// A command that only looks.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Touch;

/// Spoils the instance, awaits or not, and panics.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Spoil {
    id: u64,
    wait_ms: u64,
}

/// Reads, waits, writes.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct SlowAdd {
    id: u64,
    amount: u64,
    wait_ms: u64,
}

/// Deletes; answers with the old balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Close;

/// The balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Balance;

/// The balance, after a while.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct SlowBalance {
    wait_ms: u64,
}

impl Handler<Add> for Account {
    async fn handle(&mut self, msg: Add, _cx: &mut Context<Self>) -> u64 {
        self.record(msg.id);
        self.balance += msg.amount;
        self.balance
    }
}

impl Handler<Take> for Account {
    async fn handle(&mut self, msg: Take, _cx: &mut Context<Self>) -> Result<u64, Overdrawn> {
        self.record(msg.id); // also when it fails: rolled back
        let before = self.balance;
        self.balance = self.balance.saturating_sub(msg.amount);
        if before < msg.amount {
            return Err(Overdrawn);
        }
        Ok(self.balance)
    }
}

impl Handler<Swap> for Account {
    async fn handle(&mut self, msg: Swap, _cx: &mut Context<Self>) -> u64 {
        self.record(msg.id);
        std::mem::replace(&mut self.balance, msg.value)
    }
}

impl Handler<Touch> for Account {
    async fn handle(&mut self, _msg: Touch, _cx: &mut Context<Self>) -> u64 {
        self.balance
    }
}

impl Handler<Spoil> for Account {
    async fn handle(&mut self, msg: Spoil, _cx: &mut Context<Self>) {
        self.record(msg.id);
        self.balance += 1_000_000;
        if msg.wait_ms > 0 {
            clock::sleep(Duration::from_millis(msg.wait_ms)).await; // of the virtual clock: what it waits for is the test's subject
        }
        // A panic in all but the message on the terminal.
        std::panic::resume_unwind(Box::new("spoiled on purpose"));
    }
}

impl Handler<SlowAdd> for Account {
    async fn handle(&mut self, msg: SlowAdd, _cx: &mut Context<Self>) -> u64 {
        let seen = self.balance;
        clock::sleep(Duration::from_millis(msg.wait_ms)).await; // of the virtual clock: what it waits for is the test's subject
        self.record(msg.id);
        self.balance = seen + msg.amount;
        self.balance
    }
}

impl Handler<Close> for Account {
    async fn handle(&mut self, _msg: Close, cx: &mut Context<Self>) -> u64 {
        cx.delete();
        self.balance
    }
}

impl Answer<Balance> for Account {
    async fn answer(&self, _q: Balance, _cx: &View<Self>) -> u64 {
        self.balance
    }
}

impl Answer<SlowBalance> for Account {
    async fn answer(&self, q: SlowBalance, _cx: &View<Self>) -> u64 {
        let seen = self.balance;
        clock::sleep(Duration::from_millis(q.wait_ms)).await; // of the virtual clock, as above
        assert_eq!(seen, self.balance, "one handler at a time per entity");
        seen
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// New balance = old + amount; with a wait in between or not.
    Add { amount: u64, wait_ms: u64 },
    /// Take if there is enough.
    Take { amount: u64 },
    /// Exchange.
    Swap { value: u64 },
    /// A command that only looks.
    Touch,
    /// A command that panics.
    Spoil { wait_ms: u64 },
    /// Delete.
    Close,
    /// A query, that waits or not.
    Balance { wait_ms: u64 },
}

impl Wish {
    /// True for queries.
    pub(super) fn is_query(self) -> bool {
        matches!(self, Self::Balance { .. })
    }

    /// True when a success leaves the command's id in the image.
    pub(super) fn leaves_id(self) -> bool {
        matches!(self, Self::Add { .. } | Self::Swap { .. })
    }

    /// Wire name and body.
    pub(super) fn encode(self, id: u64) -> (&'static str, Bytes) {
        fn command<M: CommandOf<Account>>(message: M) -> (&'static str, Bytes) {
            (M::NAME, wire::encode(&message))
        }
        fn query<M: QueryOf<Account>>(message: M) -> (&'static str, Bytes) {
            (M::NAME, wire::encode(&message))
        }
        match self {
            Self::Add { amount, wait_ms: 0 } => command(Add { id, amount }),
            Self::Add { amount, wait_ms } => command(SlowAdd {
                id,
                amount,
                wait_ms,
            }),
            Self::Take { amount } => command(Take { id, amount }),
            Self::Swap { value } => command(Swap { id, value }),
            Self::Touch => command(Touch),
            Self::Spoil { wait_ms } => command(Spoil { id, wait_ms }),
            Self::Close => command(Close),
            Self::Balance { wait_ms: 0 } => query(Balance),
            Self::Balance { wait_ms } => query(SlowBalance { wait_ms }),
        }
    }

    /// What the answer's bytes mean.
    pub(super) fn read(self, body: &[u8]) -> Result<Seen, String> {
        let text = |error: rmp_serde::decode::Error| error.to_string();
        match self {
            Self::Take { .. } => {
                match wire::decode::<Result<u64, Overdrawn>>(body).map_err(text)? {
                    Ok(balance) => Ok(Seen::Number(balance)),
                    Err(Overdrawn) => Ok(Seen::Overdrawn),
                }
            }
            Self::Spoil { .. } => Err("a command that panics was answered".to_owned()),
            _ => Ok(Seen::Number(wire::decode(body).map_err(text)?)),
        }
    }
}

/// What a client saw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Seen {
    /// A balance.
    Number(u64),
    /// Not enough to take.
    Overdrawn,
    /// Nothing: it is not known whether the command took effect.
    Unknown,
}

/// What was wanted of one account, and what was seen; how both fit a balance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// What was wanted.
    pub(super) wish: Wish,
    /// What was seen.
    pub(super) seen: Seen,
}

impl Step for Call {
    type State = u64;

    fn step(&self, balance: &u64) -> Option<u64> {
        let balance = *balance;
        let (answer, after) = match self.wish {
            Wish::Add { amount, .. } => (Seen::Number(balance + amount), balance + amount),
            Wish::Take { amount } if balance >= amount => {
                (Seen::Number(balance - amount), balance - amount)
            }
            Wish::Take { .. } => (Seen::Overdrawn, balance),
            Wish::Swap { value } => (Seen::Number(balance), value),
            Wish::Touch | Wish::Balance { .. } => (Seen::Number(balance), balance),
            Wish::Close => (Seen::Number(balance), 0),
            Wish::Spoil { .. } => return None, // fails always; never part of a history
        };
        (self.seen == Seen::Unknown || self.seen == answer).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::{Operation, Verdict, search};

    #[test]
    fn a_failed_take_needs_a_moment_of_poverty() {
        // E6: an Err computed on speculative state is an answer like any other.
        let operation = |wish, seen, began, ended| Operation {
            step: Call { wish, seen },
            began,
            ended: Some(ended),
        };
        let add = Wish::Add {
            amount: 9,
            wait_ms: 0,
        };
        let take = Wish::Take { amount: 5 };
        let fine = [
            operation(add, Seen::Number(9), 1, 9),
            operation(take, Seen::Overdrawn, 2, 3),
        ];
        let wrong = [
            operation(add, Seen::Number(9), 1, 2),
            operation(take, Seen::Overdrawn, 3, 4),
        ];
        assert!(matches!(search(&fine, usize::MAX), Verdict::Explained));
        assert!(matches!(
            search(&wrong, usize::MAX),
            Verdict::Unexplained(_)
        ));
    }
}
