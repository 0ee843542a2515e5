//! Whole nodes in one process: founding, joining, serving, handing over, coming back.
//!
//! The real thing end to end on loopback: user code, router, QUIC, evaluator, group actor, log on disk. Crashes of
//! processes are tested with the `synod` binary; faults of networks and disks in the simulators.

mod loopback;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod::node::StartError;
use synod::{Answer, Client, Context, Entity, Handler, Message, Node, View};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "counter", commands(Add), queries(Get))]
struct Counter {
    value: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add(u64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Get;

impl Handler<Add> for Counter {
    async fn handle(&mut self, add: Add, _cx: &mut Context<Self>) -> u64 {
        self.value += add.0;
        self.value
    }
}

impl Answer<Get> for Counter {
    async fn answer(&self, _get: Get, _cx: &View<Self>) -> u64 {
        self.value
    }
}

const SHARDS: u32 = 16;

async fn found(directory: &Path, name: &str) -> Node {
    let builder = Node::builder()
        .store(directory.join(name))
        .listen(loopback::lasting().to_string())
        .found()
        .shards(SHARDS);
    within("founding", builder.entity::<Counter>().start())
        .await
        .expect("founds")
}

async fn join(directory: &Path, name: &str, at: &Node) -> Node {
    let builder = Node::builder()
        .store(directory.join(name))
        .listen(loopback::lasting().to_string())
        .join([at.local_addr().to_string()]);
    within("joining", builder.entity::<Counter>().start())
        .await
        .expect("joins")
}

async fn restart(directory: &Path, name: &str) -> Node {
    let builder = Node::builder()
        .store(directory.join(name))
        .listen(loopback::lasting().to_string());
    within("restarting", builder.entity::<Counter>().start())
        .await
        .expect("starts again")
}

/// Time between two looks at something awaited.
const GLANCE: Duration = Duration::from_millis(50);
/// Looks after which it hangs: a minute of a machine that runs. A machine that stands still uses none of them up.
const LOOKS: usize = 1_200;

/// What takes longer than all looks hangs.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    for _ in 0..LOOKS {
        if let Ok(done) = tokio::time::timeout(GLANCE, &mut future).await {
            return done;
        }
    }
    panic!("{what} is not over after {LOOKS} looks");
}

/// Looks until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..LOOKS {
        if within(what, so()).await {
            return;
        }
        tokio::time::sleep(GLANCE).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after {LOOKS} looks");
}

async fn settled(nodes: &[&Node]) {
    until("the cluster settles", async || {
        let mut settled = false;
        for node in nodes {
            let status = node.status().await;
            settled |= status.members.len() == nodes.len() && status.unsettled == Some(0);
        }
        settled
    })
    .await;
}

#[actix_rt::test]
async fn one_node_keeps_its_promises_alone_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = found(directory.path(), "n1").await;
    within("ready", node.ready()).await;
    for round in 1..=20 {
        let alice = node.entities::<Counter>().at("alice");
        assert_eq!(within("ask", alice.ask(Add(5))).await.unwrap(), round * 5);
    }
    within("shutdown", node.shutdown()).await;

    let node = restart(directory.path(), "n1").await;
    within("ready", node.ready()).await;
    let alice = node.entities::<Counter>().at("alice");
    assert_eq!(within("query", alice.query(Get)).await.unwrap(), 100);
    within("shutdown", node.shutdown()).await;
}

#[actix_rt::test]
async fn a_cluster_grows_serves_from_every_node_and_outlives_its_founder() {
    // E24, E34: one -> two -> three nodes; then the founder leaves and everything goes on.
    let directory = tempfile::tempdir().unwrap();
    let n1 = found(directory.path(), "n1").await;
    let n2 = join(directory.path(), "n2", &n1).await;
    let n3 = join(directory.path(), "n3", &n2).await;
    settled(&[&n1, &n2, &n3]).await;
    for node in [&n1, &n2, &n3] {
        within("ready", node.ready()).await;
    }
    // Leaderships that moved because the machine stood still move back.
    until("leaderships are spread", async || {
        let mut spread = true;
        for node in [&n1, &n2, &n3] {
            spread &= (4..=7).contains(&node.status().await.led);
        }
        spread
    })
    .await;
    for number in 0..40u64 {
        let key = format!("k{number}");
        for (round, node) in [&n1, &n2, &n3].into_iter().enumerate() {
            let value = within("ask", node.entities::<Counter>().at(&key).ask(Add(1)))
                .await
                .unwrap();
            assert_eq!(value, round as u64 + 1);
        }
    }
    within("shutdown", n1.shutdown()).await;
    for number in 0..40u64 {
        let key = format!("k{number}");
        assert_eq!(
            within("ask", n2.entities::<Counter>().at(&key).ask(Add(1)))
                .await
                .unwrap(),
            4
        );
        assert_eq!(
            within("query", n3.entities::<Counter>().at(&key).query(Get))
                .await
                .unwrap(),
            4
        );
    }
    let n1 = restart(directory.path(), "n1").await;
    within("ready", n1.ready()).await;
    assert_eq!(
        within("query", n1.entities::<Counter>().at("k7").query(Get))
            .await
            .unwrap(),
        4
    );
    for node in [n1, n2, n3] {
        within("shutdown", node.shutdown()).await;
    }
}

#[actix_rt::test]
async fn every_node_restarted_at_new_addresses_finds_the_others() {
    // E27: addresses are in no log, so nothing needs a quorum to learn them.
    let directory = tempfile::tempdir().unwrap();
    let n1 = found(directory.path(), "n1").await;
    let n2 = join(directory.path(), "n2", &n1).await;
    let n3 = join(directory.path(), "n3", &n1).await;
    settled(&[&n1, &n2, &n3]).await;
    assert_eq!(
        within("ask", n1.entities::<Counter>().at("x").ask(Add(3)))
            .await
            .unwrap(),
        3
    );
    let ports: Vec<_> = [&n1, &n2, &n3].map(Node::local_addr).into();
    for node in [n3, n2, n1] {
        within("shutdown", node.shutdown()).await;
    }
    let n1 = restart(directory.path(), "n1").await;
    let seed = n1.local_addr().to_string();
    let again = |name: &str| {
        Node::builder()
            .store(directory.path().join(name))
            .listen(loopback::lasting().to_string())
            .join([seed.clone()])
            .entity::<Counter>()
            .start()
    };
    let n2 = within("restart", again("n2")).await.unwrap();
    let n3 = within("restart", again("n3")).await.unwrap();
    assert!(
        [&n1, &n2, &n3]
            .iter()
            .all(|node| !ports.contains(&node.local_addr())),
        "the addresses are new"
    );
    for node in [&n1, &n2, &n3] {
        within("ready", node.ready()).await;
    }
    assert_eq!(
        within("query", n3.entities::<Counter>().at("x").query(Get))
            .await
            .unwrap(),
        3
    );
    for node in [n1, n2, n3] {
        within("shutdown", node.shutdown()).await;
    }
}

#[actix_rt::test]
async fn a_client_that_is_no_member_asks_and_survives_the_restart_of_every_node() {
    // S20: reconnecting is part of failover.
    let directory = tempfile::tempdir().unwrap();
    let n1 = found(directory.path(), "n1").await;
    let n2 = join(directory.path(), "n2", &n1).await;
    let n3 = join(directory.path(), "n3", &n1).await;
    settled(&[&n1, &n2, &n3]).await;
    let at = [&n1, &n2, &n3].map(|node| node.local_addr().to_string());
    let client = within(
        "connecting",
        Client::builder().development(directory.path()).connect(at),
    )
    .await
    .unwrap();
    let mut expected = 0;
    let mut nodes = vec![n1, n2, n3];
    for turn in 0..3 {
        let node = nodes.remove(0);
        let (name, address) = (node.name().to_owned(), node.local_addr().to_string());
        within("shutdown", node.shutdown()).await;
        expected += 1;
        let value = within("ask", client.entities::<Counter>().at("y").ask(Add(1))).await;
        assert_eq!(value.unwrap(), expected, "turn {turn}");
        let builder = Node::builder()
            .store(directory.path().join(&name))
            .listen(address);
        let node = within("restart", builder.entity::<Counter>().start())
            .await
            .unwrap();
        within("ready", node.ready()).await;
        nodes.push(node);
    }
    client.close();
    for node in nodes {
        within("shutdown", node.shutdown()).await;
    }
}

#[actix_rt::test]
async fn a_start_that_fails_late_leaves_nothing_behind() {
    // `NodeBuilder::start`: on an error nothing is left running, so the port is free and the store can be opened again.
    let directory = tempfile::tempdir().unwrap();
    let (store, address) = (directory.path().join("n1"), loopback::lasting());
    let start = |found: bool| {
        let builder = Node::builder().store(&store).listen(address.to_string());
        let builder = if found {
            builder.found().shards(SHARDS)
        } else {
            builder
        };
        within("starting", builder.entity::<Counter>().start())
    };
    let node = start(true).await.unwrap();
    let alice = node.entities::<Counter>().at("alice");
    assert_eq!(within("ask", alice.ask(Add(7))).await.unwrap(), 7);
    within("shutdown", node.shutdown()).await;

    // Read only when the endpoint, the threads, the log and the checkpoints are there.
    let lost = store.join("lost");
    std::fs::write(&lost, b"nobody wrote this").unwrap();
    for _ in 0..3 {
        let error = start(false).await.unwrap_err();
        assert!(matches!(error, StartError::Replica(_)), "{error}");
        UdpSocket::bind(address).expect("the port is free");
    }
    std::fs::remove_file(&lost).unwrap();
    let node = start(false).await.unwrap();
    let alice = node.entities::<Counter>().at("alice");
    assert_eq!(within("query", alice.query(Get)).await.unwrap(), 7);
    within("shutdown", node.shutdown()).await;
}

#[actix_rt::test]
async fn a_joiner_that_gave_up_leaves_its_port_and_its_store_free() {
    // The same for a start that fails early: the endpoint is open before anybody is asked.
    let directory = tempfile::tempdir().unwrap();
    let address = loopback::lasting();
    let builder = Node::builder()
        .store(directory.path().join("n1"))
        .listen(address.to_string());
    let joiner = builder
        .clone()
        .join([loopback::lasting().to_string()])
        .give_up_joining_after(Duration::from_millis(100));
    let error = within("giving up", joiner.start()).await.unwrap_err();
    assert!(matches!(error, StartError::JoinTimedOut { .. }), "{error}");
    UdpSocket::bind(address).expect("the port is free");
    let node = within("founding", builder.found().shards(SHARDS).start()).await;
    within("shutdown", node.unwrap().shutdown()).await;
}
