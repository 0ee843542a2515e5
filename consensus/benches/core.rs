//! Commits per second of the core alone, beside raft-rs 0.7 and omnipaxos 0.2 in the same process.
//!
//! `cargo bench -p synod-consensus`. What one commit takes of each machine: `peers`. The machines take turns, round by round, so
//! that a slow moment of the computer falls on all of them, and are charged the processor time of their one thread, so that what else
//! runs on it counts for nobody; the table shows medians. Floor: twice raft-rs at every size; goal: above
//! omnipaxos at every size. `cargo bench -p synod-consensus --bench core -- ours 64` runs our machine alone on one size, for a profiler.
//!
//! What the peers cost: 22 packages in the lock file, all of tests and benchmarks alone. On the idle 2-core development machine `raft`
//! builds in 20 s by itself with this codec (40 packages, those shared with others included; with the other codec 18 s and 81); a clean
//! `cargo test -p synod-consensus` took 27 s and 42 s of processor time without the peers, and with them, on a busy machine, 112 s of
//! processor time. Over two cores the difference should stay below a minute, so they are ordinary dev-dependencies.

mod peers;

use core::time::Duration;

use peers::Trio;
use peers::omnipaxos::{Heap, Inline, Omni};
use peers::raft_rs::RaftRs;
use peers::synod::Synod;

const ROUNDS: usize = 9;

/// Commands per batch, and commands per machine and round.
const SIZES: [(u64, u64); 3] = [(1, 50_000), (64, 256_000), (1_024, 512_000)];

fn main() {
    // For a profiler: "ours" leaves the peers out, numbers choose batches.
    let arguments: Vec<String> = std::env::args().collect();
    let only_ours = arguments.iter().any(|argument| argument == "ours");
    let chosen: Vec<u64> = arguments
        .iter()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    println!(
        "three replicas, one thread, stores in memory, 16 B commands; commits per second of processor time, median of {ROUNDS} rounds in turns"
    );
    println!(
        "{:>7} {:>11} {:>11} {:>11} {:>11} {:>13} {:>13}",
        "batch",
        Synod::NAME,
        RaftRs::NAME,
        Omni::<Heap>::NAME,
        Omni::<Inline>::NAME,
        "to raft-rs",
        "to omnipaxos"
    );
    for (batch, commands) in SIZES {
        if !chosen.is_empty() && !chosen.contains(&batch) {
            continue;
        }
        let mut lanes: Vec<Box<dyn Lane>> = vec![Machine::<Synod>::new(batch)];
        if !only_ours {
            lanes.push(Machine::<RaftRs>::new(batch));
            lanes.push(Machine::<Omni<Heap>>::new(batch));
            lanes.push(Machine::<Omni<Inline>>::new(batch));
        }
        let mut rates = vec![Vec::with_capacity(ROUNDS); lanes.len()];
        for _ in 0..ROUNDS {
            for (lane, rates) in lanes.iter_mut().zip(&mut rates) {
                rates.push(lane.round(commands));
            }
        }
        let medians: Vec<_> = rates.into_iter().map(median).collect();
        print!("{batch:>7}");
        for rate in &medians {
            print!(" {rate:>11.0}");
        }
        for peer in medians.iter().skip(1).take(2) {
            print!(" {:>12.2}x", medians[0] / peer);
        }
        println!();
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Of this thread: what others do on the computer meanwhile counts for nobody.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.try_into().expect("it is positive")
}

/// One machine of the table.
trait Lane {
    /// Commits per second over `commands` commands.
    fn round(&mut self, commands: u64) -> f64;
}

struct Machine<T> {
    trio: T,
    batch: u64,
    commands: u64,
}

impl<T: Trio> Machine<T> {
    fn new(batch: u64) -> Box<Self> {
        let mut machine = Self {
            trio: T::new(batch),
            batch,
            commands: 0,
        };
        machine.round(50 * batch.max(64)); // buffers grow to their size
        Box::new(machine)
    }
}

impl<T: Trio> Lane for Machine<T> {
    fn round(&mut self, commands: u64) -> f64 {
        let batches = commands / self.batch;
        let started = processor_time();
        for _ in 0..batches {
            self.trio.commit(self.batch);
        }
        let taken = processor_time() - started;
        self.commands += batches * self.batch;
        let applied = self.trio.applied();
        assert_eq!(applied, [self.commands; 3], "{} left work undone", T::NAME);
        (batches * self.batch) as f64 / taken.as_secs_f64()
    }
}
