//! More load than a node can take: it goes on, and its memory stays small. Who is refused and when, the tests of
//! `evaluation` and `router` say, where it does not depend on the speed of a machine.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use synod::router::{AskError, Entities};

use super::harness::{Home, until};
use super::kv::{Get, Pair, Put};

/// Size of one value.
const VALUE_BYTES: usize = 64 << 10;
/// Keys that are given values; together 4 MiB.
const KEYS: usize = 64;
/// Routers, each with a connection of its own.
const CLIENTS: usize = 8;
/// Commands that each of them has under way: together 120 MiB of values for one shard at any time.
const TASKS: usize = 240;
/// Commands after which it is enough: 1.2 GiB.
const COMMANDS: u64 = 20_000;
/// What the node may take: its bounds are 8 MiB of commands that wait, 4 MiB that are proposed, 1 MiB of
/// entries that are kept for followers, and the buffers of its connections.
const MEMORY_MIB: u64 = 256;

/// How commands ended.
#[derive(Default)]
struct Tally {
    ended: Cell<u64>,
    acked: Cell<u64>,
    stop: Cell<bool>,
}

/// Puts values, again and again. Nobody waits for long, so a command soon makes room for the next.
async fn flood(pairs: Entities<Pair>, task: usize, tally: Rc<Tally>) {
    let pair = pairs.at(format!("k{}", task % KEYS));
    while !tally.stop.get() {
        let value = "v".repeat(VALUE_BYTES);
        let put = pair.ask(Put { value }).deadline(Duration::from_millis(500));
        match put.await {
            Ok(()) => tally.acked.set(tally.acked.get() + 1),
            Err(AskError::Refused(_) | AskError::Unknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tally.ended.set(tally.ended.get() + 1);
    }
}

#[actix_rt::test]
async fn a_flood_of_commands_takes_little_memory_and_stops_nothing() {
    // Issue 2, bad input: bounded queues everywhere, never unbounded memory.
    let home = Home::new();
    let node = home.start("n1", &["--found", "--shards", "1"]);
    let tally = Rc::new(Tally::default());
    let (mut clients, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        let client = home.client(&[&node]).await;
        for task in 0..TASKS {
            let pairs = client.entities::<Pair>();
            tasks.push(actix_rt::spawn(flood(pairs, task, tally.clone())));
        }
        clients.push(client);
    }
    until("many commands have ended", async || {
        tally.ended.get() >= COMMANDS && tally.acked.get() > 0
    })
    .await;
    tally.stop.set(true);
    for task in tasks {
        task.await.expect("only acknowledged, refused or unknown");
    }
    let (acked, ended) = (tally.acked.get(), tally.ended.get());
    let peak = node.peak_mib();
    println!("{acked} of {ended} commands acknowledged; peak {peak} MiB");
    assert!(peak <= MEMORY_MIB, "{peak} MiB");
    // And it is as well as before.
    let pair = clients[0].entities::<Pair>().at("after");
    let value = "v".to_owned();
    pair.ask(Put { value }).await.expect("it serves");
    let read = pair.query(Get {}).await.expect("it serves");
    assert_eq!(read.as_deref(), Some("v"));
}
