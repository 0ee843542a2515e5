//! More entities than memory holds, and a start with all of them.

use std::time::Instant;

use super::harness::{Home, Node};
use super::kv::{Get, Pair};
use super::{GLANCE, all, bench, three};

const VALUE_BYTES: &str = "200";
const SHARDS: u32 = 256;
const CLIENTS: &str = "512";
const SECONDS: &str = "60";

pub(crate) async fn run(entities: u32) {
    let home = Home::new();
    let (nodes, client) = three(&home, SHARDS).await;
    let count = entities.to_string();
    let at = [
        "--at",
        &nodes[0].address,
        "--entities",
        &count,
        "--value-bytes",
        VALUE_BYTES,
        "--clients",
        CLIENTS,
    ];
    let fill = ["--fill", "--warm-up", "0", "--seconds", "1", "--json"];
    println!("filled: {}", bench(&home, &[&at[..], &fill].concat()).await);
    let peaks = |nodes: &[Node]| nodes.iter().map(Node::peak_mib).collect::<Vec<_>>();
    println!("peaks of memory: {:?} MiB", peaks(&nodes));
    for share in ["0", "0.5", "1"] {
        let load = ["--seconds", SECONDS, "--read-share", share];
        let said = bench(&home, &[&at[..], &load].concat()).await;
        println!("{said}");
    }
    println!("peaks of memory: {:?} MiB", peaks(&nodes));

    let places: Vec<(String, String)> = nodes
        .iter()
        .map(|node| (node.name.clone(), node.address.clone()))
        .collect();
    nodes.into_iter().for_each(Node::kill);
    let begun = Instant::now();
    let nodes: Vec<Node> = places
        .iter()
        .map(|(name, at)| home.launch_only(name, &["--listen", at]))
        .collect();
    let pairs = client.entities::<Pair>();
    let mut tried = 0;
    let found = loop {
        tried += 1;
        if let Ok(found) = pairs.at("bench-0").query(Get {}).await {
            break found;
        }
        actix_rt::time::sleep(GLANCE).await;
    };
    println!(
        "after kill -9 of all three: first read {:.2?} after their start ({tried} tries, {} B)",
        begun.elapsed(),
        found.expect("every key was filled").len()
    );
    let addresses: Vec<&str> = places.iter().map(|(_, at)| at.as_str()).collect();
    while !all(&client, &addresses).await.iter().all(|node| node.ready) {
        actix_rt::time::sleep(GLANCE).await;
    }
    println!("all three ready after {:.2?}", begun.elapsed());
    println!("peaks of memory: {:?} MiB", peaks(&nodes));
}
