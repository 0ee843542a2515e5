//! More state than its nodes keep in memory.

use std::cell::Cell;
use std::rc::Rc;

use synod::Client;

use super::harness::{Home, Node, settled, until};
use super::kv::{Get, Pair, Put};

/// Size of one value.
const VALUE_BYTES: usize = 16 << 10;
/// Keys that are given values: together 384 MiB on every node.
const KEYS: usize = 24_576;
/// Commands under way.
const TASKS: usize = 64;
/// What a node may take: less than its state. Its own bounds are 1 MiB of changes that wait, 32 MiB of blocks that were read, 32 MiB of
/// memtables, 16 MiB of files in the making, and what the tails of 16 logs and the buffers of its connections take.
const MEMORY_MIB: u64 = 288;

fn value(key: usize, round: usize) -> String {
    let stamp = format!("{key}-{round}-");
    let mut value = stamp.repeat(VALUE_BYTES / stamp.len() + 1);
    value.truncate(VALUE_BYTES);
    value
}

/// Has every key's turn taken by one of many tasks.
async fn each_key(client: &Client, ask: impl AsyncFn(&Client, usize) + Clone + 'static) {
    let next = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (client, next, ask) = (client.clone(), next.clone(), ask.clone());
            actix_rt::spawn(async move {
                while next.get() < KEYS {
                    let key = next.replace(next.get() + 1);
                    ask(&client, key).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
}

async fn put(client: &Client, key: usize, round: usize) {
    let value = value(key, round);
    let pair = client.entities::<Pair>().at(format!("k{key}"));
    pair.ask(Put { value }).await.expect("it is served");
}

async fn check(client: &Client, key: usize, round: usize) {
    let pair = client.entities::<Pair>().at(format!("k{key}"));
    let found = pair.query(Get {}).await.expect("it is served");
    assert!(found == Some(value(key, round)), "k{key} in round {round}");
}

#[actix_rt::test]
async fn state_larger_than_memory_is_served_and_survives_kills() {
    // DESIGN 13: state may exceed memory; a restart replays the tail and leaves the rest where it is.
    let home = Home::new();
    let small = ["--unwritten-mib", "1"];
    let start = |name: &str, more: &[&str]| home.start(name, &[&small, more].concat());
    let mut nodes = vec![start("n1", &["--found", "--shards", "16"])];
    for name in ["n2", "n3"] {
        let node = start(name, &["--join", &nodes[0].address]);
        nodes.push(node);
    }
    let client = home.client(&nodes.iter().collect::<Vec<_>>()).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    each_key(&client, async |client, key| put(client, key, 0).await).await;
    each_key(&client, async |client, key| check(client, key, 0).await).await;

    // One of three, and what it missed; then all of them at once.
    let at = |node: &Node| node.address.clone();
    let (second, address) = (nodes.remove(1), nodes[0].address.clone());
    let listen = at(&second);
    second.kill();
    for key in 0..KEYS / 64 {
        put(&client, key, 1).await;
    }
    nodes.insert(1, start("n2", &["--listen", &listen, "--join", &address]));
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    let peaks: Vec<u64> = nodes.iter().map(Node::peak_mib).collect();
    let places: Vec<String> = nodes.iter().map(at).collect();
    nodes.into_iter().for_each(Node::kill);
    let back = ["n1", "n2", "n3"].into_iter().zip(&places);
    let starting: Vec<Node> = back
        .map(|(name, listen)| {
            let more = ["--listen", listen.as_str()];
            home.launch_only(name, &[&small[..], &more].concat())
        })
        .collect();
    until("all keys can be read again", async || {
        let pair = client.entities::<Pair>().at("k0");
        pair.query(Get {}).await.is_ok()
    })
    .await;
    let round = |key| usize::from(key < KEYS / 64);
    each_key(&client, async move |client, key| {
        check(client, key, round(key)).await
    })
    .await;
    let later: Vec<u64> = starting.iter().map(Node::peak_mib).collect();
    println!("peaks {peaks:?} MiB, after the restart {later:?} MiB");
    assert!(
        peaks.iter().chain(&later).all(|peak| *peak <= MEMORY_MIB),
        "{peaks:?} {later:?} MiB"
    );
}
