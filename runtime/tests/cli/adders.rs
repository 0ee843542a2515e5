//! Clients that add 1 to keys of their own, again and again, while a test does something to the cluster.
//!
//! A key's value at the end lies between its acknowledged and its asked additions, and equals them when no outcome was unknown.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use synod::Client;
use synod::router::{AskError, Entities};

use super::harness::until;
use super::kv::{Add, Get, Pair};

/// Deadline of a command that may end in doubt.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Additions of one client, going on.
pub(crate) struct Adder {
    pub(crate) key: String,
    pub(crate) tally: Rc<Tally>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) acked: Cell<i64>,
    pub(crate) unknown: Cell<i64>,
    pub(crate) refused: Cell<i64>,
    /// The last of the words that were no acknowledgement.
    pub(crate) said: RefCell<String>,
    stop: Cell<bool>,
}

/// Starts this many of them. Beyond the deadline they do not know what became of an addition, and go on with the next.
pub(crate) fn adders(client: &Client, count: usize, deadline: Duration) -> Vec<Adder> {
    (0..count)
        .map(|number| {
            let (key, tally) = (format!("k{number}"), Rc::new(Tally::default()));
            let pairs = client.entities::<Pair>();
            let task = actix_rt::spawn(add(pairs, key.clone(), tally.clone(), deadline));
            Adder { key, tally, task }
        })
        .collect()
}

async fn add(pairs: Entities<Pair>, key: String, tally: Rc<Tally>, deadline: Duration) {
    let pair = pairs.at(&key);
    while !tally.stop.get() {
        match pair.ask(Add { amount: 1 }).deadline(deadline).await {
            Ok(sum) => {
                tally.acked.set(tally.acked.get() + 1);
                let sum = sum.expect("a small number");
                let (least, most) = (tally.acked.get(), tally.acked.get() + tally.unknown.get());
                assert!(
                    (least..=most).contains(&sum),
                    "{key} is {sum} after {least} to {most} additions"
                );
            }
            Err(error) => {
                *tally.said.borrow_mut() = error.to_string();
                let count = match error {
                    AskError::Unknown(_) => &tally.unknown,
                    AskError::Refused(_) => &tally.refused,
                    error => panic!("{key}: {error}"),
                };
                count.set(count.get() + 1);
            }
        }
    }
}

/// Waits until every adder was acknowledged some times more.
pub(crate) async fn all_go_on(adders: &[Adder]) {
    let before: Vec<i64> = adders.iter().map(|adder| adder.tally.acked.get()).collect();
    until("every key goes on", async || {
        adders
            .iter()
            .zip(&before)
            .all(|(adder, before)| adder.tally.acked.get() >= before + 5)
    })
    .await;
}

/// Stops the adders and compares every key with what was asked of it.
pub(crate) async fn judge(client: &Client, adders: Vec<Adder>) {
    for Adder { key, tally, task } in adders {
        tally.stop.set(true);
        task.await.expect("no adder saw anything impossible");
        let mut value = None;
        until("the key can be read", async || {
            let read = client.entities::<Pair>().at(&key).query(Get {}).await;
            value = read.unwrap_or_default();
            value.is_some()
        })
        .await;
        let value: i64 = value.expect("it was added to").parse().expect("a number");
        let (least, most) = (tally.acked.get(), tally.acked.get() + tally.unknown.get());
        assert!(
            (least..=most).contains(&value),
            "{key} is {value} after {least} to {most} additions"
        );
    }
}
