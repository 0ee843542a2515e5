//! What nodes say of themselves - the level of their build, their zone and capacity - and what the cluster makes of it.
//!
//! An older build is played by this one, which announces a lower level and knows no command above it.

mod looks;
mod loopback;

use std::path::Path;

use looks::{counter, settled, until};
use synod::Node;
use synod::node::{NodeBuilder, NodeStatus, StartError};
use synod::system::BUILD_LEVEL;

/// A node that comes back to where the others look for it.
fn builder(directory: &Path, name: &str) -> NodeBuilder {
    Node::builder()
        .store(directory.join(name))
        .listen(loopback::lasting().to_string())
}

async fn start(builder: NodeBuilder) -> Node {
    builder.start().await.expect("starts")
}

async fn all_of(nodes: &[&Node]) -> Vec<NodeStatus> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.status().await);
    }
    all
}

async fn raised(nodes: &[&Node], level: u32) {
    until("every node has the level", async || {
        let all = all_of(nodes).await;
        all.iter().all(|status| status.level == level)
    })
    .await;
}

#[actix_rt::test]
async fn a_cluster_uses_what_all_builds_know_and_lets_no_older_one_in_afterwards() {
    // DESIGN 14: a feature switches on when every member has it.
    let build = BUILD_LEVEL.get();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let older = |name| builder(directory, name).build_level(1);
    let n1 = start(older("n1").found().shards(4)).await;
    let n2 = start(older("n2").join([n1.local_addr().to_string()])).await;
    let n3 = start(builder(directory, "n3").join([n1.local_addr().to_string()])).await;
    n1.shutdown().await;
    let n1 = start(builder(directory, "n1").zone("a").capacity(2)).await;
    let at = [n1.local_addr().to_string()];
    until(
        "the newer nodes say what holds the cluster up",
        async || {
            let all = all_of(&[&n1, &n3]).await;
            let holds_up = |status: &NodeStatus| {
                let mut notes = status.notes.iter();
                notes.any(|note| note.contains("level 1") && note.contains("n2 (level 1)"))
            };
            all.iter().all(holds_up)
        },
    )
    .await;
    until("the leader says what waits for it", async || {
        let all = all_of(&[&n1, &n2, &n3]).await;
        let mut notes = all.iter().flat_map(|status| &status.notes);
        notes.any(|note| note.contains("waits for newer builds") && note.contains("n2 (level 1)"))
    })
    .await;
    for status in all_of(&[&n1, &n2, &n3]).await {
        assert_eq!(status.level, 1, "{status:?}");
        let described = (
            status.members[0].zone.as_deref(),
            status.members[0].capacity,
        );
        assert_eq!(described, (None, 1), "{status:?}");
    }
    n2.shutdown().await;
    let n2 = start(builder(directory, "n2")).await;
    raised(&[&n1, &n2, &n3], build).await;
    settled([&n1, &n2, &n3], 4).await;
    for node in [&n1, &n2, &n3] {
        assert_eq!(counter(node, "replicas_stopped").await, 0);
    }
    until("what waited is done", async || {
        let status = n1.status().await;
        let described = (
            status.members[0].zone.as_deref(),
            status.members[0].capacity,
        );
        let waits = status.notes.iter().any(|note| note.contains("level"));
        described == (Some("a"), 2) && !waits
    })
    .await;

    let late = older("n4").join(at);
    let Err(StartError::NotAdmitted { reason }) = late.start().await else {
        panic!("an older build was let in")
    };
    assert!(reason.contains("newer build"), "{reason}");

    n3.shutdown().await;
    let back = older("n3").start().await;
    let Err(refused @ StartError::BuildTooOld { .. }) = back else {
        panic!("an older build started in a store of a newer one")
    };
    let sentence = refused.to_string();
    assert!(sentence.contains("newer build"), "{sentence}");
    let n3 = start(builder(directory, "n3")).await;
    raised(&[&n3], build).await;
    for node in [n3, n2, n1] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn a_node_that_comes_back_in_another_zone_and_larger_has_shards_moved_to_it() {
    // DESIGN 11: zone changes go the one path of every change.
    const SHARDS: u32 = 8;
    let directory = tempfile::tempdir().unwrap();
    let zoned = |name: &str, zone: &str| builder(directory.path(), name).zone(zone);
    let n1 = start(zoned("n1", "a").found().shards(SHARDS)).await;
    let mut nodes = vec![n1];
    for (name, zone) in [("n2", "b"), ("n3", "c"), ("n4", "c")] {
        let at = nodes[0].local_addr().to_string();
        nodes.push(start(zoned(name, zone).role("edge").join([at])).await);
    }
    // Held by each member, once everything is where it belongs.
    let placed = async |nodes: &[Node], zones: [&str; 4]| {
        let mut held = Vec::new();
        until("the copies lie in all zones", async || {
            let mut all = Vec::new();
            for node in nodes {
                all.push(node.status().await);
            }
            let at_rest = all.iter().any(|status| status.unsettled == Some(0));
            let members = &all[0].members;
            let known = members.iter().map(|member| member.zone.as_deref());
            held = members.iter().map(|member| member.shards).collect();
            at_rest && known.eq(zones.map(Some))
        })
        .await;
        held
    };
    let held = placed(&nodes, ["a", "b", "c", "c"]).await;
    assert_eq!(held, [SHARDS, SHARDS, SHARDS / 2, SHARDS / 2]);
    assert_eq!(nodes[0].status().await.members[3].roles, ["edge"]);

    nodes.pop().expect("n4").shutdown().await;
    nodes.push(start(zoned("n4", "a").capacity(3)).await);
    let held = placed(&nodes, ["a", "b", "c", "a"]).await;
    assert_eq!(held[1..3], [SHARDS, SHARDS]);
    assert_eq!(held[0] + held[3], SHARDS);
    assert!((5..=7).contains(&held[3]), "three quarters of 8: {held:?}");
    for node in nodes {
        node.shutdown().await;
    }
}
