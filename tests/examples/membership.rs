//! The figures of the membership machine beside those of memberlist's algorithm, as one table:
//! `SIM_SEEDS=200 cargo run -p tests --example membership`. Words after `--` choose rows (`storm`, `crash`, `loss`, `starved`,
//! `one_way`, `halves`, `steady`) and one column (`own`, `memberlist`), numbers choose sizes, `from=1000` the first seed, and
//! `each` tells the figure of every seed as it comes.

use std::time::{Duration, Instant};

use tests::membership::{
    Figure, Machine, Memberlist, Own, Ways, agreement_on_crash, deaths_by_a_starved_node,
    deaths_under_loss, healing_of_halves, join_storm, steady,
};
use tests::seeds::seeds;

/// Seeds of each row when `SIM_SEEDS` says nothing.
const SEEDS: u64 = 20;
const ROWS: [&str; 7] = [
    "storm", "crash", "loss", "one_way", "starved", "halves", "steady",
];

/// A simulator's world is made of small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether and from where, as the words of the command say.
struct Runs {
    seeds: Vec<u64>,
    tells: bool,
}

impl Runs {
    fn chosen(words: &[String]) -> Self {
        let first = words.iter().find_map(|word| word.strip_prefix("from="));
        let first: u64 = first.map_or(0, |first| first.parse().expect("a seed after from="));
        Self {
            seeds: seeds(SEEDS).into_iter().map(|seed| first + seed).collect(),
            tells: words.iter().any(|word| word == "each"),
        }
    }

    /// One result per seed.
    fn each<T: core::fmt::Debug>(&self, run: impl Fn(u64) -> T) -> Vec<T> {
        let told = |&seed: &u64| {
            let result = run(seed);
            if self.tells {
                eprintln!("seed {seed}: {result:?}");
            }
            result
        };
        self.seeds.iter().map(told).collect()
    }
}

/// The cells of one row for one algorithm: name of the figure, and the figure.
fn measure<M: Machine>(runs: &Runs, row: &str, size: usize) -> Vec<(&'static str, String)> {
    let over = |run: &dyn Fn(u64) -> f64| Figure::of(runs.each(run));
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    match row {
        "storm" => {
            let runs = runs.each(|seed| join_storm::<M>(seed, size));
            let bytes = Figure::of(runs.iter().map(|(_, bytes)| bytes / 1e3));
            let time = Figure::of(runs.iter().map(|(time, _)| *time));
            vec![
                ("join storm of 1 s until all know all, s", time.to_string()),
                ("the same, kB sent per node", bytes.to_string()),
            ]
        }
        "crash" => {
            let time = over(&|seed| agreement_on_crash::<M>(seed, size));
            vec![("crash until all survivors agree, s", time.to_string())]
        }
        "loss" | "one_way" => {
            let (name, ways) = match row {
                "loss" => ("30 % loss for 10 min: false deaths", Ways::Both),
                _ => (
                    "30 % loss from half to half, nothing lost on the way back, for 10 min: false deaths",
                    Ways::One,
                ),
            };
            let deaths =
                runs.each(|seed| deaths_under_loss::<M>(seed, size, (0.3, ways), minutes(10)));
            let sum: usize = deaths.iter().sum();
            vec![(name, format!("{sum} in {} runs", deaths.len()))]
        }
        "starved" => {
            let runs = runs.each(|seed| deaths_by_a_starved_node::<M>(seed, size, minutes(2)));
            let healthy: usize = runs.iter().map(|deaths| deaths.healthy).sum();
            let starved = runs.iter().filter(|deaths| deaths.starved > 0).count();
            let shortest = runs.iter().filter_map(|deaths| deaths.shortest_stall).min();
            vec![
                (
                    "a node at 5 % of its CPU for 2 min: false deaths of others",
                    format!("{healthy} in {} runs", runs.len()),
                ),
                (
                    "the same: runs in which it was held for dead",
                    format!("{starved} of {}", runs.len()),
                ),
                (
                    "the same: shortest stall for which it was held for dead, s",
                    shortest.map_or("none".to_owned(), |stall| {
                        format!("{:.2}", stall.as_secs_f64())
                    }),
                ),
            ]
        }
        "halves" => {
            let time = over(&|seed| healing_of_halves::<M>(seed, size, minutes(1)));
            vec![(
                "halves apart for 60 s, from their meeting until all know all, s",
                time.to_string(),
            )]
        }
        _ => {
            let load = steady::<M>(runs.seeds[0], size, Duration::from_secs(30));
            vec![
                ("quiet: payload per node, B/s", format!("{:.0}", load.bytes)),
                (
                    "quiet: packets per node, 1/s",
                    format!("{:.1}", load.packets),
                ),
                (
                    "quiet: one step of the machine, us",
                    format!("{:.2}", load.step),
                ),
            ]
        }
    }
}

fn main() {
    let (numbers, words): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|word| word.parse::<usize>().is_ok());
    let runs = Runs::chosen(&words);
    let chosen = |word: &str, among: &[&str]| {
        let named = among.iter().any(|one| words.iter().any(|said| said == one));
        !named || words.iter().any(|said| said == word)
    };
    println!(
        "| what | nodes | this machine, p50 / p99 | memberlist, p50 / p99 |\n|---|---|---|---|"
    );
    for row in ROWS.into_iter().filter(|row| chosen(row, &ROWS)) {
        let sizes = match row {
            "loss" | "one_way" => vec![20],
            _ => vec![10, 100, 1_000],
        };
        let sizes: Vec<usize> = match numbers.is_empty() {
            true => sizes,
            false => numbers
                .iter()
                .filter_map(|number| number.parse().ok())
                .collect(),
        };
        for size in sizes {
            let columns = ["own", "memberlist"];
            let started = Instant::now();
            let own = chosen("own", &columns).then(|| measure::<Own>(&runs, row, size));
            let theirs =
                chosen("memberlist", &columns).then(|| measure::<Memberlist>(&runs, row, size));
            let names = own.as_ref().or(theirs.as_ref()).into_iter().flatten();
            for (place, (name, _)) in names.enumerate() {
                let cell = |column: &Option<Vec<(&str, String)>>| {
                    column
                        .as_ref()
                        .map_or(String::new(), |cells| cells[place].1.clone())
                };
                println!("| {name} | {size} | {} | {} |", cell(&own), cell(&theirs));
            }
            eprintln!("{row} {size}: {:?}", started.elapsed());
        }
    }
}
