//! The replicated part of the demo: an account that can prove what was done to it.
//!
//! Here: the entity, its two commands and its one query. Besides the balance it keeps what the oracle needs: the ids of
//! its last commands in order, and the count and the wrapping sum of all. Not here: what should have happened (`journal`).

use serde::{Deserialize, Serialize};
use synod::{Answer, Context, Entity, Handler, Message, View};

/// So many ids an account remembers.
pub(crate) const RECENT: usize = 64;

/// A balance with the traces of the commands that made it.
#[derive(Clone, Debug, Default, Deserialize, Entity, Eq, PartialEq, Serialize)]
#[entity(kind = "account", commands(Deposit, Withdraw), queries(Inspect))]
pub(crate) struct Account {
    pub(crate) balance: u64,
    /// Number of commands that took effect.
    pub(crate) count: u64,
    /// Wrapping sum of their ids.
    pub(crate) sum: u64,
    /// Ids of the last of them, oldest first.
    pub(crate) recent: Vec<u64>,
}

/// What an account says after a command: enough to tell whether exactly the expected ones took effect before.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Receipt {
    pub(crate) balance: u64,
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

#[derive(Clone, Debug, Deserialize, Message, Serialize)]
#[rtype(result = "Receipt")]
pub(crate) struct Deposit {
    pub(crate) id: u64,
    pub(crate) amount: u64,
}

#[derive(Clone, Debug, Deserialize, Message, Serialize)]
#[rtype(result = "Result<Receipt, Overdrawn>")]
pub(crate) struct Withdraw {
    pub(crate) id: u64,
    pub(crate) amount: u64,
}

/// The account holds less than the withdrawal; nothing changed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("the account holds {} only", .0.balance)]
pub(crate) struct Overdrawn(pub(crate) Receipt);

#[derive(Clone, Copy, Debug, Deserialize, Message, Serialize)]
#[rtype(result = "Account")]
pub(crate) struct Inspect;

impl Account {
    pub(crate) fn receipt(&self) -> Receipt {
        Receipt {
            balance: self.balance,
            count: self.count,
            sum: self.sum,
        }
    }

    /// The trace that every effect leaves.
    pub(crate) fn record(&mut self, id: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(id);
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(id);
    }
}

impl Handler<Deposit> for Account {
    async fn handle(&mut self, deposit: Deposit, _cx: &mut Context<Self>) -> Receipt {
        self.balance += deposit.amount;
        self.record(deposit.id);
        self.receipt()
    }
}

impl Handler<Withdraw> for Account {
    async fn handle(
        &mut self,
        withdraw: Withdraw,
        _cx: &mut Context<Self>,
    ) -> Result<Receipt, Overdrawn> {
        self.balance = self
            .balance
            .checked_sub(withdraw.amount)
            .ok_or(Overdrawn(self.receipt()))?;
        self.record(withdraw.id);
        Ok(self.receipt())
    }
}

impl Answer<Inspect> for Account {
    async fn answer(&self, _inspect: Inspect, _cx: &View<Self>) -> Account {
        self.clone()
    }
}
