//! Looks at nodes of this process, until they are as a test wants them.
//!
//! Nothing rests on the length of a pause; patience is counted in looks and not by the clock, so that a machine which stands still
//! uses none of it up.

use std::time::Duration;

use synod::Node;

/// Time between two looks.
const GLANCE: Duration = Duration::from_millis(25);
/// Looks after which a condition counts as never met: a minute of a machine that runs.
const LOOKS: usize = 2_400;

/// Looks until it is so. What is not so after a minute never will be.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..LOOKS {
        if so().await {
            return;
        }
        actix_rt::time::sleep(GLANCE).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after a minute");
}

/// Waits until three nodes know each other, each is ready, and each has a replica of every shard.
pub(crate) async fn settled(nodes: [&Node; 3], shards: u32) {
    until("settled", async || {
        let mut settled = false;
        let mut ready = true;
        for node in nodes {
            let status = node.status().await;
            settled |= status.unsettled == Some(0) && status.members.len() == 3;
            ready &= status.ready && status.replicas == shards + 1;
        }
        settled && ready
    })
    .await;
}

/// A count by the name that operators see.
pub(crate) async fn counter(node: &Node, name: &str) -> u64 {
    let status = node.status().await;
    let mut counters = status.counters.iter();
    let count = counters.find_map(|(counter, count)| (counter == name).then_some(*count));
    count.expect("it is counted")
}
