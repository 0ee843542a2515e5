//! Three started nodes, of which one has a thread that is blocked. Compiled for tests only.
//!
//! In the end nobody leads where nothing is answered, and nobody was taken for dead: the process runs, beats and gossips (M26).

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};

use super::*;

pub(super) const SHARDS: u32 = 24;
/// Arbiters for groups of each node; as many for evaluators come behind them.
const ARBITERS: usize = 2;

/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(25);
/// Looks after which a condition counts as never met: a minute of a machine that runs.
const LOOKS: usize = 2_400;

pub(super) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..LOOKS {
        if so().await {
            return;
        }
        actix_rt::time::sleep(GLANCE).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after {LOOKS} looks");
}

pub(super) async fn start(
    kinds: NodeBuilder,
    directory: &Path,
    name: &str,
    at: Option<&Node>,
) -> Node {
    let builder = kinds
        .store(directory.join(name))
        .listen("127.0.0.1:0")
        .arbiters(ARBITERS)
        .shards(SHARDS);
    let builder = match at {
        Some(node) => builder.join([node.local_addr().to_string()]),
        None => builder.found(),
    };
    builder.start().await.expect("starts")
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Groups that a node leads, by the number of their arbiter.
pub(super) fn led(node: &Node) -> [usize; ARBITERS] {
    let mut led = [0; ARBITERS];
    for (group, hosted) in node.desk.shared.registry.all() {
        if hosted.leads() {
            led[group.get() as usize % ARBITERS] += 1;
        }
    }
    led
}

/// Waits until everybody is well, and leads what it should.
pub(super) async fn settled(nodes: [&Node; 3]) {
    until("settled", async || {
        let mut settled = false;
        for node in nodes {
            let status = node.status().await;
            settled |= status.unsettled == Some(0) && status.members.len() == 3;
            let alive = node.desk.sight.alive().len() == 3;
            if !status.ready || !alive || led(node) == [0; ARBITERS] {
                return false;
            }
        }
        settled
    })
    .await;
}

/// Blocks one thread of a node until the sender is dropped.
pub(super) fn block(node: &Node, arbiter: usize) -> Sender<()> {
    let (release, released) = channel();
    let blocks = move || {
        let _dropped = released.recv();
    };
    assert!(node.arbiters[arbiter].spawn_fn(blocks));
    release
}

/// Blocks an arbiter of the third node, until the others lead everything that it led or would still lead if it could. `choose` is told how
/// much it leads on each of its arbiters for groups.
async fn blocked(choose: impl FnOnce([usize; ARBITERS]) -> usize) {
    let directory = tempfile::tempdir().unwrap();
    let n1 = start(Node::builder(), directory.path(), "n1", None).await;
    let n2 = start(Node::builder(), directory.path(), "n2", Some(&n1)).await;
    let n3 = start(Node::builder(), directory.path(), "n3", Some(&n1)).await;
    settled([&n1, &n2, &n3]).await;
    let sick = n3.store_id();
    let died = || {
        let deaths = [&n1, &n2].map(|node| count(&node.desk.shared.counters.members_died));
        deaths.iter().sum::<u64>()
    };

    let arbiter = choose(led(&n3));
    let release = block(&n3, arbiter);
    until("the others lead everything", async || {
        let led: usize = [&n1, &n2]
            .iter()
            .map(|node| led(node).iter().sum::<usize>())
            .sum();
        led == SHARDS as usize + 1
    })
    .await;
    until("the others know that it is not well", async || {
        [&n1, &n2]
            .iter()
            .all(|node| !node.desk.sight.alive().contains(&sick))
    })
    .await;
    until("what can still hear there has handed over", async || {
        let led = led(&n3).into_iter().enumerate();
        led.filter(|(place, _)| *place != arbiter)
            .all(|(_, led)| led == 0)
    })
    .await;
    assert!(count(&n3.desk.shared.counters.arbiters_stuck) >= 1);
    assert_eq!(died(), 0, "it was a member all the time");

    drop(release);
    settled([&n1, &n2, &n3]).await;
    assert_eq!(died(), 0);
    assert!(!n3.desk.shared.degraded.load(Ordering::Relaxed));
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

/// Runs a test as on one arbiter.
pub(super) fn on_an_arbiter(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

#[test]
fn a_node_whose_groups_are_stuck_loses_its_leaderships_and_stays_a_member() {
    // Issue 4: it leads no more before it could lose its membership.
    on_an_arbiter(blocked(|led| {
        // So that there is something on the other one to be handed over.
        if led[0] < led[1] { 0 } else { 1 }
    }));
}

#[test]
fn a_node_whose_handlers_are_stuck_hands_its_leaderships_over() {
    // Raft goes on without them, for ever, and nobody gets an answer; the evaluators there do not even say that they pause.
    on_an_arbiter(blocked(|_| ARBITERS));
}
