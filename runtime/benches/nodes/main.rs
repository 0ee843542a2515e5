//! Clusters of real `synod` processes: what thousands of groups at rest cost, states larger than memory, states that travel.
//!
//! `cargo bench -p synod --bench nodes -- STORY`, where STORY is
//!
//! - [`rest`]`[=GROUPS]` (10,000): memory and processor time of groups that nobody uses beside those of one group; kill -9 of a node, and
//!   its return;
//! - [`entities`]`[=COUNT]` (2,000,000): keys of 200 B, written once each, then read and written; kill -9 of all nodes, and their return;
//! - [`states`]`[=SHARDS]` (12): a fourth node joins three that hold 100,000 values of 4 KiB, beside 16 clients.
//!
//! Stores lie in the folder for temporary files (`TMPDIR`), which must be on a disk and not in memory. Everything runs on this machine, so
//! that what is told as a pause includes what the processes take from each other.

mod entities;
#[path = "../../tests/cli/harness.rs"]
#[allow(dead_code, reason = "the tests' own, of which the stories use a part")]
mod harness;
#[path = "../../src/bin/synod/kv.rs"]
#[allow(
    dead_code,
    reason = "the binary's own kind, of which the stories use a part"
)]
mod kv;
#[path = "../../tests/loopback/mod.rs"]
mod loopback;
mod process;
mod rest;
mod states;

use std::time::Duration;

use harness::{Home, Node};
use synod::Client;
use synod::node::NodeStatus;

/// Time between two looks at something that is timed.
const GLANCE: Duration = Duration::from_millis(20);

/// Founds a cluster of three with so many shards, and waits until all is where it belongs.
async fn three(home: &Home, shards: u32) -> (Vec<Node>, Client) {
    let seats = ["n1", "n2", "n3"].map(|name| (name, loopback::lasting().to_string()));
    let seeds = seats
        .each_ref()
        .map(|(name, at)| format!("{name}={at}"))
        .join(",");
    let count = shards.to_string();
    let nodes = seats.map(|(name, at)| {
        let more = ["--seeds", &seeds, "--listen", &at, "--shards", &count];
        home.launch_only(name, &more)
    });
    let client = home.client(&nodes.each_ref()).await;
    let addresses = nodes.each_ref().map(|node| node.address.as_str());
    loop {
        let said = all(&client, &addresses).await;
        let led: u32 = said.iter().map(|node| node.led).sum();
        let settled = said.iter().any(|node| node.unsettled == Some(0));
        if settled && led == shards && said.iter().all(|node| node.ready) {
            break;
        }
        actix_rt::time::sleep(GLANCE).await;
    }
    (nodes.into(), client)
}

/// Runs `synod bench` to its end, beside what else this thread has to do; what it printed.
async fn bench(home: &Home, arguments: &[&str]) -> String {
    let mut command = home.command("bench");
    command.args(arguments);
    let output = actix_rt::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it does not panic");
    harness::printed(&output.expect("the binary runs"))
}

/// What each of these nodes says of itself, as soon as all answer.
async fn all(client: &Client, addresses: &[&str]) -> Vec<NodeStatus> {
    loop {
        let mut said = Vec::new();
        for address in addresses {
            said.extend(client.status(address).await.ok());
        }
        if said.len() == addresses.len() {
            return said;
        }
        actix_rt::time::sleep(GLANCE).await;
    }
}

/// The argument that is no option of cargo's: `NAME` or `NAME=NUMBER`.
fn asked() -> Option<(String, Option<u32>)> {
    let mut arguments = std::env::args().skip(1);
    let asked = arguments.find(|argument| !argument.starts_with("--"))?;
    match asked.split_once('=') {
        Some((name, number)) => Some((
            name.to_owned(),
            Some(number.parse().expect("a number after `=`")),
        )),
        None => Some((asked, None)),
    }
}

#[actix_rt::main]
async fn main() {
    let Some((story, number)) = asked() else {
        println!("nothing asked for: -- rest, entities or states");
        return;
    };
    match story.as_str() {
        "rest" => rest::run(number.unwrap_or(10_000)).await,
        "entities" => entities::run(number.unwrap_or(2_000_000)).await,
        "states" => states::run(number.unwrap_or(12)).await,
        other => panic!("there is no story called {other}: rest, entities, states"),
    }
}
