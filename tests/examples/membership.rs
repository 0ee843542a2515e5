//! The figures of the membership machine beside those of memberlist's algorithm, as one table:
//! `SIM_SEEDS=200 cargo run -p tests --example membership`. Words after `--` choose rows (`storm`, `crash`, `loss`, `starved`,
//! `halves`, `steady`) and one column (`own`, `memberlist`), numbers choose sizes.

use std::time::{Duration, Instant};

use tests::membership::{
    Figure, Machine, Memberlist, Own, agreement_on_crash, deaths_by_a_starved_node,
    deaths_under_loss, healing_of_halves, join_storm, steady,
};
use tests::seeds::seeds;

/// Seeds of each row when `SIM_SEEDS` says nothing.
const SEEDS: u64 = 20;
const ROWS: [&str; 6] = ["storm", "crash", "loss", "starved", "halves", "steady"];

/// The cells of one row for one algorithm: name of the figure, and the figure.
fn measure<M: Machine>(row: &str, size: usize) -> Vec<(&'static str, String)> {
    let seeds = seeds(SEEDS);
    let over = |run: &dyn Fn(u64) -> f64| Figure::of(seeds.iter().map(|&seed| run(seed)));
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    match row {
        "storm" => {
            let runs: Vec<_> = seeds
                .iter()
                .map(|&seed| join_storm::<M>(seed, size))
                .collect();
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
        "loss" => {
            let deaths =
                over(&|seed| deaths_under_loss::<M>(seed, size, 0.3, minutes(10)).healthy as f64);
            let cell = format!("{} in {} runs", deaths.sum(), deaths.runs());
            vec![("30 % loss for 10 min: false deaths", cell)]
        }
        "starved" => {
            let runs: Vec<_> = seeds
                .iter()
                .map(|&seed| deaths_by_a_starved_node::<M>(seed, size, minutes(2)))
                .collect();
            let healthy: usize = runs.iter().map(|deaths| deaths.healthy).sum();
            let starved = runs.iter().filter(|deaths| deaths.starved > 0).count();
            vec![
                (
                    "a node at 5 % of its CPU for 2 min: false deaths of others",
                    format!("{healthy} in {} runs", runs.len()),
                ),
                (
                    "the same: runs in which it was held for dead",
                    format!("{starved} of {}", runs.len()),
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
            let load = steady::<M>(seeds[0], size, Duration::from_secs(30));
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
    let chosen = |word: &str, among: &[&str]| {
        let named = among.iter().any(|one| words.iter().any(|said| said == one));
        !named || words.iter().any(|said| said == word)
    };
    println!(
        "| what | nodes | this machine, p50 / p99 | memberlist, p50 / p99 |\n|---|---|---|---|"
    );
    for row in ROWS.into_iter().filter(|row| chosen(row, &ROWS)) {
        let sizes = match row {
            "loss" => vec![20],
            "starved" => vec![20, 100],
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
            let own = chosen("own", &columns).then(|| measure::<Own>(row, size));
            let theirs = chosen("memberlist", &columns).then(|| measure::<Memberlist>(row, size));
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
