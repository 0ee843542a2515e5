//! Real nodes, really killed, while commands go on: nothing acknowledged is lost, nothing is done twice.
//!
//! Several clients add 1 to keys of their own. A key's value at the end lies between its acknowledged and its asked
//! additions, and equals them when no outcome was unknown.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use synod::Client;
use synod::router::{AskError, Entities};

use super::harness::{Home, Node, PATIENCE, printed, settled, until};
use super::kv::{Add, Get, Pair};

/// Deadline of a command that may end in doubt.
const SOON: Duration = Duration::from_secs(5);

/// Additions of one client, going on.
struct Adder {
    key: String,
    tally: Rc<Tally>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Tally {
    acked: Cell<i64>,
    unknown: Cell<i64>,
    refused: Cell<i64>,
    /// The last of the words that were no acknowledgement.
    said: RefCell<String>,
    stop: Cell<bool>,
}

/// Starts this many of them. Beyond the deadline they do not know what became of an addition, and go on with the next.
fn adders(client: &Client, count: usize, deadline: Duration) -> Vec<Adder> {
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
async fn all_go_on(adders: &[Adder]) {
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
async fn judge(client: &Client, adders: Vec<Adder>) {
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

/// Takes the node that leads most groups out of the list.
async fn take_leader(client: &Client, nodes: &mut Vec<Node>) -> Node {
    let mut most = (0, 0);
    for (position, node) in nodes.iter().enumerate() {
        let led = client
            .status(&node.address)
            .await
            .map_or(0, |status| status.led);
        most = most.max((led, position));
    }
    nodes.remove(most.1)
}

#[actix_rt::test]
async fn a_killed_leader_loses_no_acknowledged_command_and_doubles_none() {
    // Issue 2, item 8: kill -9 of real nodes. S20: the same client goes on across the restart of every node.
    let home = Home::new();
    let mut nodes = home.three();
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let adders = adders(&client, 24, SOON);
    all_go_on(&adders).await;
    for _ in 0..3 {
        let victim = take_leader(&client, &mut nodes).await;
        let (name, address) = (victim.name.clone(), victim.address.clone());
        victim.kill();
        all_go_on(&adders).await;
        nodes.push(home.start_beside(&name, &["--listen", &address]).await);
        all_go_on(&adders).await;
        settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    }
    judge(&client, adders).await;
}

#[actix_rt::test]
async fn all_nodes_killed_at_once_come_back_with_everything_acknowledged() {
    // DESIGN, section 10: restarting admitted nodes, all of them at new addresses, needs no quorum.
    let home = Home::new();
    let nodes = home.three();
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let mut sums = Vec::new();
    for key in 0..40 {
        let pair = client.entities::<Pair>().at(format!("k{key}"));
        sums.push(
            pair.ask(Add { amount: key })
                .await
                .expect("acknowledged")
                .expect("a small number"),
        );
    }
    let addresses: Vec<(String, String)> = nodes
        .iter()
        .map(|node| (node.name.clone(), node.address.clone()))
        .collect();
    for node in nodes {
        node.kill();
    }
    // None is ready alone, so they start side by side.
    let home = &home;
    let nodes: Vec<Node> = std::thread::scope(|scope| {
        let starts: Vec<_> = addresses
            .iter()
            .map(|(name, address)| scope.spawn(move || home.start(name, &["--listen", address])))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("it becomes ready"))
            .collect()
    });
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    for (key, sum) in sums.into_iter().enumerate() {
        let value = client
            .entities::<Pair>()
            .at(format!("k{key}"))
            .query(Get {})
            .await
            .expect("it is led again");
        assert_eq!(value, Some(sum.to_string()), "k{key}");
    }
}

#[actix_rt::test]
async fn a_stopped_node_hands_over_and_nobody_notices() {
    // S5, S18: leadership moves before anything stops; no command is refused or in doubt because of it.
    let home = Home::new();
    let mut nodes = home.three();
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    // Far beyond what a busy machine needs: nobody may lose patience, then every doubt is the cluster's.
    let adders = adders(&client, 24, PATIENCE);
    all_go_on(&adders).await;
    let leader = take_leader(&client, &mut nodes).await;
    let (name, address) = (leader.name.clone(), leader.address.clone());
    let status = tokio::task::spawn_blocking(move || leader.stop())
        .await
        .expect("it was waited for");
    assert!(status.success(), "{status}");
    all_go_on(&adders).await;
    nodes.push(home.start_beside(&name, &["--listen", &address]).await);
    all_go_on(&adders).await;
    for Adder { key, tally, .. } in &adders {
        let noticed = (tally.unknown.get(), tally.refused.get());
        assert_eq!(noticed, (0, 0), "{key}: {}", tally.said.borrow());
    }
    judge(&client, adders).await;
}

#[actix_rt::test]
async fn a_cluster_grows_under_load_and_the_new_node_leads() {
    // S13: a new node does not stay cold. E34: the founder does not lead every group for ever.
    let home = Home::new();
    let mut nodes = home.three();
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let adders = adders(&client, 24, SOON);
    all_go_on(&adders).await;
    let fourth = home
        .start_beside("n4", &["--join", &nodes[1].address])
        .await;
    nodes.push(fourth);
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    all_go_on(&adders).await;
    judge(&client, adders).await;
    until("every node is seen alive by the newest", async || {
        let status = printed(&home.run(&["status", "--at", &nodes[3].address]));
        ["n1", "n2", "n3", "n4"].iter().all(|name| {
            let mut lines = status.lines();
            lines.any(|line| line.starts_with(name) && line.contains("alive"))
        })
    })
    .await;
}

#[test]
fn bench_measures_a_running_cluster() {
    let home = Home::new();
    let node = home.start("n1", &["--found", "--shards", "4"]);
    let measured = |seconds: &str| {
        let bench = ["bench", "--at", &node.address, "--warm-up", "0", "--json"];
        let load = ["--seconds", seconds, "--clients", "8", "--entities", "100"];
        let kind = ["--value-bytes", "64", "--read-share", "0.5"];
        let line = printed(&home.run(&[&bench[..], &load, &kind].concat()));
        serde_json::from_str::<serde_json::Value>(&line).expect("one line of JSON")
    };
    // A machine that gives it nothing of the first second has more for a longer measurement.
    let counts = ["per_second", "p50_us", "p99_us", "commands", "reads"];
    let is_counted = |outcome: &serde_json::Value| {
        counts
            .iter()
            .all(|count| outcome[count].as_u64().is_some_and(|count| count > 0))
    };
    let mut outcome = measured("1");
    for seconds in ["5", "20"] {
        assert_eq!(outcome["errors"], serde_json::json!({}), "{outcome}");
        if is_counted(&outcome) {
            return;
        }
        outcome = measured(seconds);
    }
    assert!(is_counted(&outcome), "{outcome}");
}

#[actix_rt::test]
async fn a_leader_whose_disk_is_full_stops_and_comes_back_with_room() {
    // H72, DESIGN section 13: after the first failed write nothing more is acknowledged here; the others go on.
    let home = Home::new();
    let mut nodes = home.three();
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let adders = adders(&client, 24, SOON);
    all_go_on(&adders).await;
    let mut full = take_leader(&client, &mut nodes).await;
    full.fill_disk_beyond(64 << 10);
    until("the log meets the end of the disk", async || !full.runs()).await;
    let said = full.said(&home);
    assert!(said.contains("storage failed"), "{said}");
    all_go_on(&adders).await;
    let (name, address) = (full.name.clone(), full.address.clone());
    drop(full);
    nodes.push(home.start_beside(&name, &["--listen", &address]).await);
    all_go_on(&adders).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    judge(&client, adders).await;
}
