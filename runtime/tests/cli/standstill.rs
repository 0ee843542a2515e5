//! Nodes that stand still for a while and go on, as under a debugger, a snapshot of their machine, or a page out of swap: SIGSTOP.
//!
//! The others may hold such a node dead; it is. What must not be: that it, awake again, holds the others dead for what it did not hear
//! (E22, M24), that it still answers as the leader that it was (H58), or that anything acknowledged is lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use synod::Client;

use super::adders::{Adder, SOON, adders, all_go_on, judge};
use super::harness::{Home, Node, counter, settled, take_leader, until};
use super::kv::{Get, Pair};

/// Of the cluster that [`Home::three`] founds.
const SHARDS: u32 = 16;

/// State of `of` as `by` sees it.
async fn seen(client: &Client, by: &Node, of: &Node) -> String {
    let status = client.status(&by.address).await;
    let members = status.map(|status| status.members).unwrap_or_default();
    let mut states = members.into_iter().filter(|member| member.name == of.name);
    states.next().map_or(String::new(), |member| member.state)
}

/// Asks for every adder's key, again and again. An answer that is older than what was acknowledged before the question is a leader's
/// that was one.
async fn read_on(client: Rc<Client>, key: String, acked: impl Fn() -> i64, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        let least = acked();
        let read = client
            .entities::<Pair>()
            .at(&key)
            .query(Get {})
            .deadline(SOON);
        if let Ok(value) = read.await {
            let value: i64 = value.map_or(0, |value| value.parse().expect("a number"));
            assert!(value >= least, "{key} is {value} after {least} additions");
        }
    }
}

/// The leader of most groups stands still for so long while commands and queries go on. Ends with everybody well.
async fn stands_still_for(pause: Duration, meanwhile: impl AsyncFnOnce(&Client, &Node, &[Node])) {
    let home = Home::new();
    let (mut nodes, client) = home.settled_three().await;
    let adders = adders(&client, 16, SOON);
    all_go_on(&adders).await;
    let sleeper = take_leader(&client, &mut nodes).await;
    // Readers that enter the cluster by the sleeper, and know it as the leader of much.
    let (stop, reader) = (
        Rc::new(Cell::new(false)),
        Rc::new(home.client(&[&sleeper]).await),
    );
    let readers: Vec<_> = adders
        .iter()
        .map(|Adder { key, tally, .. }| {
            let tally = tally.clone();
            let acked = move || tally.acked.get();
            actix_rt::spawn(read_on(reader.clone(), key.clone(), acked, stop.clone()))
        })
        .collect();

    let began = Instant::now();
    sleeper.stand_still();
    all_go_on(&adders).await;
    meanwhile(&client, &sleeper, &nodes).await;
    tokio::time::sleep(pause.saturating_sub(began.elapsed())).await; // the stimulus itself
    sleeper.go_on();

    until("everybody sees everybody alive", async || {
        let all = [&sleeper, &nodes[0], &nodes[1]];
        for by in all {
            for of in all {
                if seen(&client, by, of).await != "alive" {
                    return false;
                }
            }
        }
        true
    })
    .await;
    all_go_on(&adders).await;
    let all = [&sleeper, &nodes[0], &nodes[1]];
    settled(&client, &all).await;
    let status = client.status(&sleeper.address).await;
    let named = format!("member {} is held dead", status.expect("it answers").store);
    assert_eq!(
        counter(&client, &sleeper, "members_died").await,
        0,
        "it holds nobody dead for what it did not hear"
    );
    for node in &nodes {
        let died = counter(&client, node, "members_died").await;
        assert!(
            died <= 1,
            "{}: {died} deaths, and one node stood still",
            node.name
        );
        let said = node.said(&home);
        let whose = said.lines().filter(|line| line.contains(" is held dead"));
        for line in whose {
            assert!(line.contains(&named), "{}: {line}", node.name);
        }
    }
    stop.set(true);
    for reader in readers {
        reader.await.expect("no reader saw anything of the past");
    }
    judge(&client, adders).await;
}

#[actix_rt::test]
async fn a_node_that_stands_still_for_a_moment_goes_on_as_before() {
    stands_still_for(Duration::from_secs(3), async |client, _, others| {
        // Whoever runs is alive to the others all the time.
        for _ in 0..20 {
            for (by, of) in [(0, 1), (1, 0)] {
                let seen = seen(client, &others[by], &others[of]).await;
                assert_ne!(seen, "dead", "{}", others[of].name);
            }
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_node_that_stands_still_for_long_is_held_dead_and_comes_back() {
    // S1.
    stands_still_for(Duration::from_secs(30), async |client, sleeper, others| {
        until("it is held dead", async || {
            for by in others {
                if seen(client, by, sleeper).await != "dead" {
                    return false;
                }
            }
            true
        })
        .await;
        until("the others lead every shard", async || {
            let mut led = 0;
            for node in others {
                let status = client.status(&node.address).await;
                led += status.map_or(0, |status| status.led);
            }
            led == SHARDS
        })
        .await;
    })
    .await;
}
