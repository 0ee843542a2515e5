//! Clusters whose nodes run builds of several levels: what the cluster may use, and whom it turns away.
//!
//! An older build is played by this one, which announces a lower level and knows no command above it.

mod looks;
mod loopback;

use std::path::Path;

use looks::until;
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
    let n1 = start(builder(directory, "n1")).await;
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
    for status in all_of(&[&n1, &n2, &n3]).await {
        assert_eq!(status.level, 1, "{status:?}");
    }
    n2.shutdown().await;
    let n2 = start(builder(directory, "n2")).await;
    raised(&[&n1, &n2, &n3], build).await;
    let status = n1.status().await;
    assert!(
        !status.notes.iter().any(|note| note.contains("level")),
        "{status:?}"
    );

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
