//! Groups that nobody uses: what they cost, and what the loss of a node does to them.

use std::time::{Duration, Instant};

use synod::Client;

use super::harness::{Home, Node};
use super::process::processor_time;
use super::{GLANCE, all, three};

/// Time from the founding to the measurement: groups have gone to rest, and what was written is on disk in its rows.
const CALM: Duration = Duration::from_secs(45);
/// Time of the measurement.
const WINDOW: Duration = Duration::from_secs(30);

/// What one node takes.
struct Cost {
    anonymous: u64,
    processor: Duration,
}

async fn cost(nodes: &[Node]) -> Vec<Cost> {
    actix_rt::time::sleep(CALM).await;
    let used = |node: &Node| processor_time(node.id());
    let before: Vec<Duration> = nodes.iter().map(used).collect();
    actix_rt::time::sleep(WINDOW).await;
    let costs = nodes.iter().zip(before).map(|(node, before)| Cost {
        anonymous: node.memory("RssAnon:"),
        processor: used(node) - before,
    });
    costs.collect()
}

fn tell(shards: u32, costs: &[Cost]) {
    let shares: Vec<String> = costs
        .iter()
        .map(|cost| cost.processor.as_secs_f64() / WINDOW.as_secs_f64() * 100.0)
        .map(|share| format!("{share:.1} %"))
        .collect();
    let memory: Vec<String> = costs
        .iter()
        .map(|cost| format!("{:.1} MB", cost.anonymous as f64 / 1e6))
        .collect();
    println!(
        "{shards} shards at rest on three nodes: {} of a core, {} of anonymous memory",
        shares.join(", "),
        memory.join(", ")
    );
}

pub(crate) async fn run(shards: u32) {
    let base = {
        let home = Home::new();
        let (nodes, _client) = three(&home, 1).await;
        cost(&nodes).await
    };
    tell(1, &base);
    let home = Home::new();
    let begun = Instant::now();
    let (mut nodes, client) = three(&home, shards).await;
    println!(
        "{shards} shards founded and led after {:.1?}",
        begun.elapsed()
    );
    let costs = cost(&nodes).await;
    tell(shards, &costs);
    let each = costs.iter().zip(&base).map(|(cost, base)| {
        cost.anonymous.saturating_sub(base.anonymous) / u64::from(shards.saturating_sub(1).max(1))
    });
    println!("bytes per replica: {:?}", each.collect::<Vec<_>>());

    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    let said = all(&client, &addresses).await;
    let most = (0..nodes.len()).max_by_key(|place| said[*place].led);
    let killed = nodes.remove(most.expect("three nodes"));
    let (name, address) = (killed.name.clone(), killed.address.clone());
    let led = said[most.expect("three nodes")].led;
    killed.kill();
    let lost = Instant::now();
    println!("kill -9 of {name}, which led {led} of {shards} groups");
    let survivors: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
        let goal = shards - led + (f64::from(led) * share).ceil() as u32;
        let (taken, after) = led_again(&client, &survivors, goal, lost).await;
        println!("{taken} led after {after:.2?}");
    }

    actix_rt::time::sleep(Duration::from_secs(5)).await; // gone for a while, as a node is that somebody starts again
    let begun = Instant::now();
    nodes.push(home.start(&name, &["--listen", &address]));
    while !all(&client, &[&address]).await[0].ready {
        actix_rt::time::sleep(GLANCE).await;
    }
    println!("{name} is ready {:.2?} after its restart", begun.elapsed());
    let peaks: Vec<u64> = nodes.iter().map(Node::peak_mib).collect();
    println!("peaks of memory: {peaks:?} MiB");
}

/// Looks until so many groups are led; how many then are, and when that was.
async fn led_again(
    client: &Client,
    survivors: &[&str],
    goal: u32,
    lost: Instant,
) -> (u32, Duration) {
    loop {
        let said = all(client, survivors).await;
        let after = lost.elapsed();
        let led = said.iter().map(|node| node.led).sum();
        if led >= goal {
            return (led, after);
        }
        actix_rt::time::sleep(GLANCE).await;
    }
}
