//! Round trips of small frames between two endpoints over loopback, with the CPU that they cost.
//!
//! `cargo bench -p synod --bench transport`: one line per number of frames in flight. Frames cross from a working thread
//! to the transport's and back at both ends, as between a node's arbiters; one round trip is two frames and four
//! hand-overs. CPU is of the whole process, so of both ends. `SECONDS`, `BYTES` and `IN_FLIGHT` change the run.

use std::{
    env,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use synod::transport::{
    CallAnswer, DevelopmentCa, EndpointKeys, Inbound, Lane, Limits, LocalHello, Peer, Transport,
    TransportOptions,
};

/// Hands frames over to a working thread.
struct HandOver(mpsc::Sender<Vec<Bytes>>);

impl Inbound for HandOver {
    fn frame(&self, _from: &Peer, _lane: Lane, frames: Vec<Bytes>) {
        drop(self.0.send(frames)); // the run may be over
    }
    fn datagram(&self, _from: &Peer, _datagram: Bytes) {}
    fn call(&self, _from: &Peer, _frame: Bytes, _answer: CallAnswer) {}
    fn connected(&self, _peer: &Peer) {}
    fn disconnected(&self, _peer: &Peer) {}
}

fn main() {
    let number = |name: &str, default: usize| {
        env::var(name)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(default)
    };
    let (seconds, bytes) = (number("SECONDS", 3), number("BYTES", 256));
    let run_for = Duration::from_secs(seconds as u64);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca = DevelopmentCa::open(directory.path()).expect("a CA");
    let start = |store: u64| {
        let name = format!("n{store}");
        let hello = LocalHello {
            cluster: Some(1),
            name: name.clone(),
            store: Some(store),
            generation: 1,
        };
        let (sender, receiver) = mpsc::channel();
        let options = TransportOptions {
            listen: Some(([127, 0, 0, 1], 0).into()),
            identity: ca
                .issue_node(&name)
                .and_then(|issued| issued.identity())
                .expect("an identity"),
            hello: Arc::new(Mutex::new(hello)),
            keys: EndpointKeys::ephemeral(),
            limits: Limits::default(),
        };
        (
            Transport::bind(options, Arc::new(HandOver(sender))).expect("an endpoint"),
            receiver,
        )
    };
    let ((a, replies), (b, requests)) = (start(1), start(2));
    a.set_address(2, vec![b.local_addr()]);
    b.set_address(1, vec![a.local_addr()]);
    let echo = b.clone();
    std::thread::spawn(move || {
        while let Ok(mut frames) = requests.recv() {
            frames.extend(requests.try_iter().flatten());
            drop(echo.send(1, Lane::Reply, frames)); // full queues cannot be: the other end waits
        }
    });

    let in_flight =
        env::var("IN_FLIGHT").map_or(vec![1, 64, 256], |one| vec![one.parse().expect("a number")]);
    println!("frames of {bytes} bytes, {seconds} s each");
    println!(
        "in flight | round trips/s | p50 us | p99 us | CPU us/round trip | frames/write | frames/wake"
    );
    for in_flight in in_flight {
        run(&a, &b, &replies, in_flight, bytes, Duration::from_secs(1)); // warms up, finds the MTU
        run(&a, &b, &replies, in_flight, bytes, run_for);
    }
}

fn run(
    a: &Transport,
    b: &Transport,
    replies: &mpsc::Receiver<Vec<Bytes>>,
    in_flight: usize,
    bytes: usize,
    time: Duration,
) {
    let began = Instant::now();
    let stamp = || {
        let mut frame = vec![0; bytes.max(8)];
        frame[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
        Bytes::from(frame)
    };
    let count = |name: &str| {
        let of = |t: &Transport| {
            t.counters()
                .into_iter()
                .find(|(n, _)| *n == name)
                .map_or(0, |(_, value)| value)
        };
        of(a) + of(b)
    };
    let before = (cpu(), count("frames_sent"), count("writes"), count("wakes"));
    let mut latencies = Histogram::<u64>::new_with_max(60_000_000, 3).expect("three digits");
    a.send(2, Lane::Request, (0..in_flight).map(|_| stamp()).collect())
        .expect("taken");
    let (mut done, mut open) = (0_u64, in_flight);
    while open > 0 {
        let mut back = replies.recv().expect("the endpoint lives");
        back.extend(replies.try_iter().flatten());
        let now = began.elapsed();
        for frame in &back {
            let sent = u64::from_le_bytes(frame[..8].try_into().expect("8 bytes"));
            latencies.saturating_record((now.as_nanos() as u64 - sent) / 1_000);
        }
        done += back.len() as u64;
        open -= back.len();
        if now < time {
            open += back.len();
            a.send(2, Lane::Request, back.iter().map(|_| stamp()).collect())
                .expect("taken");
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let used = (cpu() - before.0).as_secs_f64();
    let frames = (count("frames_sent") - before.1) as f64;
    println!(
        "{in_flight:>9} | {:>13.0} | {:>6} | {:>6} | {:>17.2} | {:>12.1} | {:>11.1}",
        done as f64 / elapsed,
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.99),
        used * 1e6 / done as f64,
        frames / (count("writes") - before.2) as f64,
        frames / (count("wakes") - before.3) as f64,
    );
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let mut fields = stat
        .rsplit(')')
        .next()
        .expect("a name in parentheses")
        .split_whitespace();
    let mut ticks = |n| {
        fields
            .nth(n)
            .and_then(|v| v.parse::<u64>().ok())
            .expect("a number")
    };
    Duration::from_millis((ticks(11) + ticks(0)) * 10)
}
