//! Three started nodes whose groups rest: nothing is said of them, and each is there when it is wanted. Compiled for tests only.
//!
//! Not here: when a group rests and how one that does is led again (`synod-consensus`, simulated in crate `tests`).

use serde::{Deserialize, Serialize};

use super::tests::{SHARDS, block, count, led, on_an_arbiter, settled, start, until};
use super::*;
use crate::entity::{Context, Entity, Handler, Message};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "tally", commands(Count), queries())]
struct Tally {
    calls: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Count;

impl Handler<Count> for Tally {
    async fn handle(&mut self, _: Count, _cx: &mut Context<Self>) -> u64 {
        self.calls += 1;
        self.calls
    }
}

/// Followers that rest under a claim, on all nodes: two of each shard when all of them rest.
const ALL_REST: usize = 2 * SHARDS as usize;
/// What a group that does not rest says in a second: its leader's heartbeats, every half, to two followers, and their answers.
const AWAKE: u64 = 8;
/// So long it is counted what all say: that is of the system group, which never rests, and of the nodes.
const WINDOW: Duration = Duration::from_secs(3);

fn resting(nodes: [&Node; 3]) -> usize {
    let counts = nodes.map(|node| node.desk.shared.claims(|claims| claims.counts()).1);
    counts.iter().sum()
}

fn said(nodes: [&Node; 3]) -> u64 {
    let of = |node: &Node| -> u64 {
        let counters = node.desk.shared.transport.counters().into_iter();
        let frames = counters.filter(|(name, _)| *name == "frames_sent");
        frames.map(|(_, count)| count).sum()
    };
    nodes.map(of).iter().sum()
}

fn elections(nodes: [&Node; 3]) -> u64 {
    let won = nodes.map(|node| count(&node.desk.shared.counters.elections_won));
    won.iter().sum()
}

/// How many shards are led by nodes that keep an evaluator for them.
fn with_evaluator(nodes: [&Node; 3]) -> usize {
    let of = |node: &Node| {
        let all = node.desk.shared.registry.all().into_iter();
        all.filter(|(_, hosted)| hosted.evaluator().is_some())
            .count()
    };
    nodes.map(of).iter().sum()
}

async fn all_rest(nodes: [&Node; 3]) {
    until("all shards rest", async || {
        resting(nodes) == ALL_REST && with_evaluator(nodes) == 0
    })
    .await;
}

async fn rests() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = || Node::builder().entity::<Tally>();
    let n1 = start(kinds(), directory.path(), "n1", None).await;
    let n2 = start(kinds(), directory.path(), "n2", Some(&n1)).await;
    let n3 = start(kinds(), directory.path(), "n3", Some(&n1)).await;
    let all = [&n1, &n2, &n3];
    settled(all).await;
    all_rest(all).await;

    // A machine that stands still for half a second wakes whoever it wants: then it is looked again.
    let mut asks = 0;
    let tally = n2.entities::<Tally>().at("one");
    until("in silence, until one is called", async || {
        all_rest(all).await;
        let (clock, won) = (n1.desk.shared.clock, elections(all));
        let (began, before) = (clock.now(), said(all));
        until("some time has passed", async || {
            clock.now() - began >= WINDOW
        })
        .await;
        let millis = (clock.now() - began).as_millis() as u64;
        let frames = said(all) - before;
        let awake = AWAKE * u64::from(SHARDS) * millis / 1_000;
        asks += 1;
        assert_eq!(tally.ask(Count).await.unwrap(), asks);
        let others_rest = resting(all) >= ALL_REST - 2;
        frames * 5 < awake && others_rest && elections(all) == won
    })
    .await;
    all_rest(all).await;

    // What rests under claims from a thread that stands still is led elsewhere, for all that its node beats on.
    let release = block(&n3, 0);
    until("others lead what that thread led", async || {
        let others = [&n1, &n2].map(|node| led(node).iter().sum::<usize>());
        others.iter().sum::<usize>() == SHARDS as usize + 1
    })
    .await;
    assert_eq!(tally.ask(Count).await.unwrap(), asks + 1);
    drop(release);
    settled(all).await;
    all_rest(all).await;
    assert_eq!(tally.ask(Count).await.unwrap(), asks + 2);
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

#[test]
fn groups_rest_say_nothing_and_are_there_when_they_are_wanted() {
    // DESIGN section 9.
    on_an_arbiter(rests());
}
