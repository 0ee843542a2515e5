//! Real nodes, really killed, while commands go on: nothing acknowledged is lost, nothing is done twice.

use super::adders::{Adder, SOON, adders, all_go_on, judge};
use super::harness::{Home, Node, PATIENCE, printed, settled, take_leader, until};
use super::kv::{Add, Get, Pair};

#[actix_rt::test]
async fn a_killed_leader_loses_no_acknowledged_command_and_doubles_none() {
    // Issue 2, item 8: kill -9 of real nodes. S20: the same client goes on across the restart of every node.
    let home = Home::new();
    let (mut nodes, client) = home.settled_three().await;
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
    let (nodes, client) = home.settled_three().await;
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
    let (mut nodes, client) = home.settled_three().await;
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
    // S13, S3: a new node does not stay cold. E34: the founder does not lead every group for ever.
    let home = Home::new();
    let (mut nodes, client) = home.settled_three().await;
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
    let (mut nodes, client) = home.settled_three().await;
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
