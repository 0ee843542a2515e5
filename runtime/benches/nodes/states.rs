//! States that travel to a node that joins, and what the callers of their groups notice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::distr::{Alphanumeric, SampleString};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::Client;

use super::harness::{Home, counter};
use super::kv::{Pair, Put};
use super::{GLANCE, bench, loopback, three};

const ENTITIES: u32 = 100_000;
const VALUE_BYTES: usize = 4_096;
/// Commands under way beside.
const CLIENTS: u64 = 16;
/// Time that callers are watched before anything travels.
const QUIET: Duration = Duration::from_secs(15);
/// The fastest window of this length is told.
const WINDOW: Duration = Duration::from_millis(500);

/// Callers, and how long each command waited that ended since the last look.
struct Callers {
    waits: Rc<RefCell<Histogram<u64>>>,
    stopping: Rc<Cell<bool>>,
}

impl Callers {
    fn start(client: &Client) -> Self {
        let waits = Histogram::new_with_max(600_000_000, 3).expect("it holds ten minutes");
        let callers = Self {
            waits: Rc::new(RefCell::new(waits)),
            stopping: Rc::default(),
        };
        for seed in 0..CLIENTS {
            let mut chance = ChaCha8Rng::seed_from_u64(seed);
            let value = Alphanumeric.sample_string(&mut chance, VALUE_BYTES);
            let pairs = client.entities::<Pair>();
            let (waits, stopping) = (callers.waits.clone(), callers.stopping.clone());
            actix_rt::spawn(async move {
                while !stopping.get() {
                    let pair = pairs.at(format!("bench-{}", chance.random_range(0..ENTITIES)));
                    let value = value.clone();
                    let begun = Instant::now();
                    pair.ask(Put { value }).await.expect("it is served");
                    let took = begun.elapsed().as_micros();
                    waits.borrow_mut().saturating_record(took as u64);
                }
            });
        }
        callers
    }

    /// What was waited for since the last look.
    fn tell(&self, meanwhile: &str) {
        let mut waits = self.waits.borrow_mut();
        let at = |quantile| waits.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{meanwhile}: {} commands, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            waits.len(),
            at(0.5),
            at(0.99),
            waits.max() as f64 / 1e3
        );
        waits.reset();
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stopping.set(true);
    }
}

pub(crate) async fn run(shards: u32) {
    let home = Home::new();
    let (nodes, client) = three(&home, shards).await;
    let first = &nodes[0];
    let (count, size) = (ENTITIES.to_string(), VALUE_BYTES.to_string());
    let at = ["--at", &first.address, "--entities", &count];
    let fill = [
        "--value-bytes",
        &size,
        "--fill",
        "--warm-up",
        "0",
        "--seconds",
        "1",
        "--json",
    ];
    println!("filled: {}", bench(&home, &[&at[..], &fill].concat()).await);
    let callers = Callers::start(&client);
    actix_rt::time::sleep(QUIET).await;
    callers.tell("before");

    let address = loopback::lasting().to_string();
    let joins = ["--join", &first.address, "--listen", &address];
    let fourth = home.launch_only("n4", &joins);
    // Of three copies of each shard on four nodes.
    let states = u64::from(shards) * 3 / 4;
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    loop {
        if client.status(&address).await.is_ok() {
            let received = counter(&client, &fourth, "snapshot_bytes_received").await;
            seen.push((Instant::now(), received));
            if counter(&client, &fourth, "snapshots_installed").await >= states {
                break;
            }
        }
        actix_rt::time::sleep(GLANCE).await;
    }
    callers.tell("meanwhile");
    let last = *seen.last().expect("a look");
    let (total, installed_at) = (last.1, last.0);
    let begun = seen.iter().rev().find(|(_, received)| *received == 0);
    let begun = begun.or(seen.first()).expect("a look").0;
    let arrived = seen.iter().find(|(_, received)| *received == total);
    let arrived = arrived.expect("the last look").0;
    let mut fastest = 0.0_f64;
    for (place, (from, before)) in seen.iter().enumerate() {
        let end = seen[place..].iter().find(|(at, _)| *at - *from >= WINDOW);
        if let Some((at, after)) = end {
            fastest = fastest.max((after - before) as f64 / (*at - *from).as_secs_f64());
        }
    }
    println!(
        "{states} states of {shards} shards, {:.0} MB: travelled in {:.2?} ({:.0} MB/s; {:.0} MB/s in the fastest {WINDOW:?}), all installed after {:.2?}",
        total as f64 / 1e6,
        arrived - begun,
        total as f64 / 1e6 / (arrived - begun).as_secs_f64(),
        fastest / 1e6,
        installed_at - begun
    );
    actix_rt::time::sleep(QUIET).await;
    callers.tell("quiet again");
}
