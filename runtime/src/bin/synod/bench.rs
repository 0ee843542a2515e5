//! `synod bench`: a closed loop of commands on the kind `kv` of a running cluster.
//!
//! Each of the clients has one command in flight; the next follows the answer at once. Keys are filled first where that is wished; this
//! and the warm-up are not measured. An error counts, pauses its client, and makes the command fail at the end if nothing succeeded; a key
//! that cannot be filled makes it fail at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::distr::{Alphanumeric, SampleString};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use synod::router::{AskError, Entities};

use crate::connection::{connect, patience};
use crate::kv::{Get, Pair, Put};
use crate::options::BenchOptions;

/// Pause of a client after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Longest latency that is told apart.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Times that a key is tried before filling gives up.
const FILL_TRIES: usize = 3;
/// Different values that are written.
const VALUES: usize = 16;

/// What was measured.
#[derive(Debug, Serialize)]
struct Outcome {
    per_second: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    commands: u64,
    reads: u64,
    errors: BTreeMap<String, u64>,
    /// What writing every key once took, where it was wished.
    fill_seconds: Option<f64>,
    seconds: f64,
    clients: u32,
    connections: u32,
    entities: u64,
    value_bytes: usize,
    read_share: f64,
}

/// Shared by the clients, all on one thread.
struct Shared {
    measuring: Cell<bool>,
    stopping: Cell<bool>,
    latency: RefCell<Histogram<u64>>,
    reads: Cell<u64>,
    errors: RefCell<BTreeMap<String, u64>>,
    entities: u64,
    values: Vec<String>,
    read_share: f64,
    deadline: Duration,
}

pub(crate) async fn run(options: BenchOptions) -> Result<(), Box<dyn Error>> {
    let mut chance = ChaCha8Rng::seed_from_u64(1);
    let shared = Rc::new(Shared {
        measuring: Cell::new(false),
        stopping: Cell::new(false),
        latency: RefCell::new(Histogram::new_with_max(LATENCY_MAX_US, 3)?),
        reads: Cell::new(0),
        errors: RefCell::default(),
        entities: options.entities,
        values: (0..VALUES)
            .map(|_| Alphanumeric.sample_string(&mut chance, options.value_bytes))
            .collect(),
        read_share: options.read_share,
        deadline: patience(&options.cluster),
    });
    let connections = options.connections.min(options.clients);
    let mut gateways = Vec::new();
    for _ in 0..connections {
        gateways.push(connect(&options.cluster).await?);
    }
    let pairs = |client| gateways[(client % connections) as usize].entities::<Pair>();
    let mut fill_seconds = None;
    if options.fill {
        let began = Instant::now();
        let next = Rc::new(Cell::new(0));
        let fillers: Vec<_> = (0..options.clients)
            .map(|client| actix_rt::spawn(fill(shared.clone(), pairs(client), next.clone())))
            .collect();
        for filler in fillers {
            filler.await??;
        }
        fill_seconds = Some(began.elapsed().as_secs_f64());
    }
    let clients: Vec<_> = (0..options.clients)
        .map(|client| {
            let chance = ChaCha8Rng::seed_from_u64(u64::from(client) + 2);
            actix_rt::spawn(client_loop(shared.clone(), pairs(client), chance))
        })
        .collect();
    actix_rt::time::sleep(Duration::from_secs(options.warm_up)).await;
    shared.measuring.set(true);
    let began = Instant::now();
    actix_rt::time::sleep(Duration::from_secs(options.seconds)).await;
    shared.measuring.set(false);
    let seconds = began.elapsed().as_secs_f64();
    shared.stopping.set(true);
    for client in clients {
        client.await?;
    }

    let latency = shared.latency.borrow();
    let outcome = Outcome {
        per_second: (latency.len() as f64 / seconds).round() as u64,
        p50_us: latency.value_at_quantile(0.5),
        p99_us: latency.value_at_quantile(0.99),
        p999_us: latency.value_at_quantile(0.999),
        max_us: latency.max(),
        commands: latency.len() - shared.reads.get(),
        reads: shared.reads.get(),
        errors: shared.errors.take(),
        fill_seconds,
        seconds,
        clients: options.clients,
        connections,
        entities: options.entities,
        value_bytes: options.value_bytes,
        read_share: options.read_share,
    };
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{}", outcome.sentence());
    }
    match outcome.errors.iter().max_by_key(|(_, count)| **count) {
        Some((error, _)) if latency.is_empty() => Err(format!("nothing succeeded: {error}").into()),
        _ => Ok(()),
    }
}

fn key(number: u64) -> String {
    format!("bench-{number}")
}

/// Writes key after key, of which each client takes the next one, until all are written or one cannot be.
async fn fill(
    shared: Rc<Shared>,
    pairs: Entities<Pair>,
    next: Rc<Cell<u64>>,
) -> Result<(), String> {
    while next.get() < shared.entities {
        let number = next.replace(next.get() + 1);
        let key = key(number);
        let value = &shared.values[number as usize % VALUES];
        let mut tries = 1;
        loop {
            let put = pairs.at(key.clone()).ask(Put {
                value: value.clone(),
            });
            let Err(error) = put.deadline(shared.deadline).await else {
                break;
            };
            if tries == FILL_TRIES {
                next.set(shared.entities); // the others end too
                return Err(format!("{key} cannot be written: {error}"));
            }
            tries += 1;
            actix_rt::time::sleep(pause(&error)).await;
        }
    }
    Ok(())
}

/// Time from an error to the next command.
fn pause(error: &AskError) -> Duration {
    error.retry_after().unwrap_or(ERROR_PAUSE).max(ERROR_PAUSE)
}

async fn client_loop(shared: Rc<Shared>, pairs: Entities<Pair>, mut chance: ChaCha8Rng) {
    while !shared.stopping.get() {
        let pair = pairs.at(key(chance.random_range(0..shared.entities)));
        let reads = chance.random_bool(shared.read_share);
        let value = &shared.values[chance.random_range(0..VALUES)];
        let began = Instant::now();
        let result = if reads {
            pair.query(Get {}).deadline(shared.deadline).await.map(drop)
        } else {
            pair.ask(Put {
                value: value.clone(),
            })
            .deadline(shared.deadline)
            .await
        };
        let took = began.elapsed();
        match result {
            Ok(()) if shared.measuring.get() => {
                let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
                shared.latency.borrow_mut().saturating_record(us);
                shared.reads.set(shared.reads.get() + u64::from(reads));
            }
            Ok(()) => {}
            Err(error) => {
                *shared
                    .errors
                    .borrow_mut()
                    .entry(family(&error))
                    .or_default() += 1;
                actix_rt::time::sleep(pause(&error)).await;
            }
        }
    }
}

/// Errors are counted by family; the families differ in what a caller may do.
fn family(error: &AskError) -> String {
    match error {
        AskError::Refused(_) => "refused".to_owned(),
        AskError::Unknown(_) => "unknown".to_owned(),
        AskError::TimedOut(_) => "timed out".to_owned(),
        other => other.to_string(),
    }
}

impl Outcome {
    fn sentence(&self) -> String {
        let filled = match self.fill_seconds {
            Some(seconds) => format!("filled in {seconds:.1} s, then "),
            None => String::new(),
        };
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|(error, count)| format!("{count} {error}"))
            .collect();
        format!(
            "{filled}{} commands/s, p50 {:.2} ms, p99 {:.2} ms ({} writes and {} reads in {:.1} s, {} clients on {} connections, {} entities, {} B, errors: {})",
            self.per_second,
            self.p50_us as f64 / 1_000.0,
            self.p99_us as f64 / 1_000.0,
            self.commands,
            self.reads,
            self.seconds,
            self.clients,
            self.connections,
            self.entities,
            self.value_bytes,
            if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            }
        )
    }
}
