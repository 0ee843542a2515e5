//! What planning costs: 4,096 shards in three copies on 100 nodes in ten zones.
//!
//! `cargo bench -p synod-membership --bench plan`. Medians of nine; bound: 50 ms each (DESIGN section 16).

use std::time::{Duration, Instant};

use synod_membership::placement::{Home, Shard, Site, plan};
use synod_membership::{Ring, StoreId};

const SEED: u64 = 7;
const ROUNDS: usize = 9;

fn site(store: u64) -> Site {
    Site {
        store: StoreId::new(store),
        weight: 1 + u32::try_from(store % 3).expect("small"),
        zone: Some(format!("zone{}", store % 10)),
        takes: true,
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(sites: &[Site], shards: &[Shard]) -> (Duration, Vec<Home>) {
    let started = Instant::now();
    let homes = plan(SEED, 3, sites, shards).homes;
    (started.elapsed(), homes)
}

fn settled(sites: &[Site], shards: &[Shard]) -> Vec<Shard> {
    let homes = timed(sites, shards).1;
    let moved = |(shard, home): (&Shard, Home)| Shard {
        point: shard.point,
        home,
    };
    shards.iter().zip(homes).map(moved).collect()
}

fn row(what: &str, sites: &[Site], shards: &[Shard]) {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| timed(sites, shards).0).collect();
    times.sort();
    let homes = timed(sites, shards).1;
    let new = |(shard, home): (&Shard, &Home)| {
        let held = |store: &&StoreId| !shard.home.stores.contains(store);
        home.stores.iter().filter(held).count()
    };
    let moved: usize = shards.iter().zip(&homes).map(new).sum();
    let median = times[ROUNDS / 2].as_secs_f64() * 1e3;
    println!("{what:<28} {median:>8.2} ms {moved:>8} replicas placed");
}

fn main() {
    let sites: Vec<Site> = (1..=100).map(site).collect();
    let shard = |number: u64| Shard {
        point: Ring::point(SEED, &number.to_le_bytes()),
        home: Home::default(),
    };
    let empty: Vec<Shard> = (0..4_096).map(shard).collect();
    let shards = settled(&sites, &empty);
    row("from nothing", &sites, &empty);
    row("nothing to do", &sites, &shards);
    let more: Vec<Site> = (1..=101).map(site).collect();
    row("a node more", &more, &shards);
    row("a node less", &sites[1..], &shards);
    let zone: Vec<Site> = sites
        .iter()
        .filter(|s| s.store.get() % 10 != 3)
        .cloned()
        .collect();
    row("a zone less", &zone, &shards);
    let few: Vec<Site> = sites[..50].to_vec();
    row("half of the nodes less", &few, &shards);
    row("twice the nodes", &sites, &settled(&few, &empty));
}
