//! Three replicas on one thread, a store in memory, 16-byte commands in batches: commits per second of the core alone.
//!
//! `cargo bench -p synod-consensus`. Every batch is proposed at the leader, written by all three, acknowledged and applied by all
//! three before the next one; messages move as values (nothing is encoded), as in the usual benchmarks of such cores.

use core::time::Duration;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use synod_consensus::{
    Configuration, Group, GroupId, GroupOptions, LogStore, MemoryStore, Message, Output, ReplicaId,
    ReplicaKey, Restored, Role,
};

struct Node {
    group: Group,
    store: MemoryStore,
    key: ReplicaKey,
    applied: u64,
    compacted: u64,
}

fn main() {
    println!("three replicas, one thread, store in memory, 16 B commands");
    for batch in [1, 64, 1_024] {
        let mut best = 0.0_f64;
        for _ in 0..5 {
            best = best.max(run(batch));
        }
        println!("batches of {batch:>5}: {best:>12.0} commits/s");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time; the crate itself does not"
)]
fn run(batch: u64) -> f64 {
    let founding = Configuration::of_voters((1..=3).map(ReplicaId::new));
    let mut nodes: Vec<_> = (1..=3)
        .map(|id| {
            let key = ReplicaKey {
                group: GroupId::ZERO,
                replica: ReplicaId::new(id),
            };
            let options = GroupOptions::default().check().expect("defaults");
            let restored = Restored::founding(founding.clone());
            let group = Group::new(
                options,
                key.group,
                key.replica,
                restored,
                id,
                Duration::ZERO,
            )
            .expect("founding");
            Node {
                group,
                store: MemoryStore::new(),
                key,
                applied: 0,
                compacted: 0,
            }
        })
        .collect();
    let mut wire = VecDeque::new();
    let now = Duration::from_millis(1);
    nodes[0].group.campaign(now);
    settle(&mut nodes, &mut wire, now);
    assert_eq!(nodes[0].group.status().role, Role::Leader);
    let payload = Bytes::from_static(&[7; 16]);
    let total = 400_000 / batch * batch;
    let started = Instant::now();
    let mut proposed = 0;
    while proposed < total {
        for _ in 0..batch {
            nodes[0]
                .group
                .propose(now, payload.clone())
                .expect("it leads");
        }
        proposed += batch;
        settle(&mut nodes, &mut wire, now);
    }
    let taken = started.elapsed();
    assert!(nodes[0].applied > total);
    total as f64 / taken.as_secs_f64()
}

fn settle(nodes: &mut [Node], wire: &mut VecDeque<Message>, now: Duration) {
    loop {
        for node in nodes.iter_mut() {
            drain(node, wire, now);
        }
        let Some(message) = wire.pop_front() else {
            return;
        };
        let to = message.to.get() as usize - 1;
        nodes[to].group.receive(now, message);
        while wire
            .front()
            .is_some_and(|message| message.to.get() as usize - 1 == to)
        {
            let message = wire.pop_front().expect("looked at just now");
            nodes[to].group.receive(now, message);
        }
    }
}

fn drain(node: &mut Node, wire: &mut VecDeque<Message>, now: Duration) {
    while let Some(output) = node.group.poll_output() {
        match output {
            Output::Persist(persist) => {
                node.store
                    .write(&[(node.key, persist.writes)])
                    .expect("memory");
                node.group.persisted(now, persist.token);
            }
            Output::Send(message) => wire.push_back(message),
            Output::Apply(entries) => {
                let last = black_box(&entries).last().expect("not empty").index;
                node.applied = last.get();
                node.group.applied(now, last);
                if node.applied > node.compacted + 20_000 {
                    node.compacted = node.applied;
                    node.group.compact(now, last);
                }
            }
            _ => {}
        }
    }
}
