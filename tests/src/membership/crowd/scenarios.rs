//! The stories that are measured.
//!
//! Here: one function per story; a seed and a size go in, seconds, deaths or bytes come out. Not here: what they must be (the
//! tests), how they are printed (the example `membership`).

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Crowd, Machine};

/// Between two looks at who sees whom.
const LOOK: Duration = Duration::from_millis(20);
/// Until what the start stirred up has settled.
const SETTLED: Duration = Duration::from_secs(4);

/// A quiet cluster, at no particular moment of its rounds.
fn quiet<M: Machine>(seed: u64, size: usize) -> Crowd<M> {
    let mut crowd = Crowd::acquainted(seed, size);
    crowd.run_until(SETTLED + Duration::from_millis(seed * 37 % 1_000));
    crowd
}

/// Seconds as a figure; infinite for what never came.
fn seconds(since: Duration, at: Option<Duration>) -> f64 {
    at.map_or(f64::INFINITY, |at| (at - since).as_secs_f64())
}

/// `size - 1` nodes start within one second, each with the address of the first node alone: seconds from the first start until
/// all know all, and the bytes that each node sent until then, on average.
pub fn join_storm<M: Machine>(seed: u64, size: usize) -> (f64, f64) {
    let mut crowd: Crowd<M> = Crowd::alone(seed, size);
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    let mut starts: Vec<u64> = (1..size).map(|_| rng.random_range(0..1_000_000)).collect();
    starts.sort_unstable();
    for (node, start) in (1..).zip(starts) {
        crowd.join_at(Duration::from_micros(start), node, 0);
    }
    let complete = |crowd: &Crowd<M>| crowd.started() == size && crowd.all_know_all();
    let done = crowd.run_till(LOOK, Duration::from_secs(120), complete);
    let bytes = crowd.totals.bytes as f64 / size as f64;
    (seconds(Duration::ZERO, done), bytes)
}

/// One of `size` nodes crashes: seconds until no survivor sees it any more.
pub fn agreement_on_crash<M: Machine>(seed: u64, size: usize) -> f64 {
    let mut crowd: Crowd<M> = quiet(seed, size);
    let crashed = crowd.now;
    crowd.crash(0);
    let done = crowd.run_till(LOOK, Duration::from_secs(120), |crowd| crowd.nobody_sees(0));
    seconds(crashed, done)
}

/// Deaths of the living.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Deaths {
    /// Of nodes that had nothing, for anybody.
    pub healthy: usize,
    /// Of the node that was slow, for the others.
    pub starved: usize,
    /// The shortest time without a processor for which it was held for dead.
    pub shortest_stall: Option<Duration>,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ways {
    /// All are as likely.
    Both,
    /// Those from the first half of the nodes to the others; what the others send arrives.
    One,
}

/// A share of the packets is lost for `time`: how often somebody held a living node for dead.
pub fn deaths_under_loss<M: Machine>(
    seed: u64,
    size: usize,
    (loss, ways): (f64, Ways),
    time: Duration,
) -> usize {
    let mut crowd: Crowd<M> = quiet(seed, size);
    crowd.lose(loss, (ways == Ways::One).then_some(size / 2));
    crowd.run_until(crowd.now + time);
    crowd.false_deaths.len()
}

/// One of `size` nodes gets a twentieth of its processor for `time`: whom it kills, and whether it is killed itself.
pub fn deaths_by_a_starved_node<M: Machine>(seed: u64, size: usize, time: Duration) -> Deaths {
    let mut crowd: Crowd<M> = quiet(seed, size);
    crowd.starve(0);
    crowd.run_until(crowd.now + time);
    let own = crowd.false_deaths.iter().filter(|death| death.subject == 0);
    let stalls: Vec<Duration> = own.map(|death| death.stalled).collect();
    Deaths {
        healthy: crowd.false_deaths.len() - stalls.len(),
        starved: stalls.len(),
        shortest_stall: stalls.into_iter().min(),
    }
}

/// The cluster falls into halves for `time`: seconds from the end of it until all see all.
pub fn healing_of_halves<M: Machine>(seed: u64, size: usize, time: Duration) -> f64 {
    let mut crowd: Crowd<M> = quiet(seed, size);
    crowd.cut(Some(size / 2));
    crowd.run_until(crowd.now + time);
    crowd.cut(None);
    let healed = crowd.now;
    let done = crowd.run_till(LOOK, Duration::from_secs(120), Crowd::all_know_all);
    seconds(healed, done)
}

/// What a quiet cluster costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Payload bytes sent, per node and second.
    pub bytes: f64,
    /// Packets sent, per node and second.
    pub packets: f64,
    /// Microseconds of processor time for one step of a machine, the simulator's own work on it included.
    pub step: f64,
}

/// Of this thread, so that neighbours on the machine do not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A quiet cluster of `size` for `time`.
pub fn steady<M: Machine>(seed: u64, size: usize, time: Duration) -> Load {
    let mut crowd: Crowd<M> = quiet(seed, size);
    crowd.run_until(crowd.now + SETTLED);
    let before = crowd.totals;
    let started = processor_time();
    crowd.run_until(crowd.now + time);
    let busy = processor_time() - started;
    let per = |count: u64| count as f64 / size as f64 / time.as_secs_f64();
    Load {
        bytes: per(crowd.totals.bytes - before.bytes),
        packets: per(crowd.totals.packets - before.packets),
        step: busy.as_secs_f64() * 1e6 / (crowd.totals.steps - before.steps) as f64,
    }
}
