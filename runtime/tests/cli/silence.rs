//! Nodes that are silent for longer than the others wait for them.

use super::adders::{SOON, adders, all_go_on, judge};
use super::harness::{Home, Node, printed, settled, until};
use super::placing::{names, of_shards, shards};

/// Shards of which the node of that name holds a copy, or may still hold one, as that other sees it.
async fn held(client: &synod::Client, by: &Node, name: &str) -> Option<u32> {
    let status = client.status(&by.address).await.ok()?;
    let member = status
        .members
        .into_iter()
        .find(|member| member.name == name);
    member.map(|member| member.shards)
}

#[actix_rt::test]
async fn a_silent_node_is_replaced_and_used_again_when_it_is_back() {
    // kill -9 of one of four that hold three copies of everything.
    let home = Home::new();
    let begin =
        |name: &str, more: &[&str]| home.start(name, &[more, &["--replace-after", "3"]].concat());
    let mut nodes = vec![begin("n1", &["--found", "--shards", "16"])];
    let at = nodes[0].address.clone();
    for name in ["n2", "n3", "n4"] {
        nodes.push(begin(name, &["--join", &at]));
    }
    let all: Vec<&Node> = nodes.iter().collect();
    let client = home.client(&all).await;
    settled(&client, &all).await;
    let adders = adders(&client, 12, SOON);
    all_go_on(&adders).await;

    let gone = nodes.pop().expect("four");
    let address = gone.address.clone();
    gone.kill();
    all_go_on(&adders).await;
    until("the others hold what it held", async || {
        held(&client, &nodes[0], "n4").await == Some(0)
    })
    .await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let view = shards(&home, &at, &[]);
    for shard in of_shards(&view) {
        assert_eq!(names(&shard["replicas"]), ["n1", "n2", "n3"], "{shard}");
        assert_eq!(shard["state"], "serving", "{shard}");
    }
    let status = printed(&home.run(&["status", "--at", &at]));
    let line = status.lines().find(|line| line.starts_with("n4 "));
    assert!(
        line.is_some_and(|line| line.contains("replaced, silent")),
        "{status}"
    );
    all_go_on(&adders).await;

    // Its old copies go; it takes its share anew.
    let back = home
        .start_beside("n4", &["--listen", &address, "--replace-after", "3"])
        .await;
    nodes.push(back);
    until("it has its share", async || {
        held(&client, &nodes[0], "n4").await == Some(12)
    })
    .await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let view = shards(&home, &at, &["--node", "n4"]);
    assert_eq!(of_shards(&view).len(), 12);
    all_go_on(&adders).await;
    judge(&client, adders).await;
}
