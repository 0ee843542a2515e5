//! Entities leave memory and come back as they were. Compiled for tests only.

use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, BaseError, BaseRows};
use super::bench::{Balance, Bench, Deposit, Slow, at, command, open_door, query};
use super::{CheckedEvaluatorOptions, EvaluatorOptions, ShardState};
use crate::wire::{Outcome, Refusal, SessionId};

/// Puts one into each of so many accounts, again.
fn deposit_into(bench: &mut Bench, session: SessionId, accounts: u64, round: u64) {
    for key in 0..accounts {
        let sequence = round * accounts + key + 1;
        let deposit = command(session, sequence, &Deposit { amount: 1 });
        bench.send(at(&format!("k{key}"), deposit));
    }
    bench.settle();
}

#[test]
fn idle_instances_go_and_come_back_as_they_were() {
    // A bounded number of entities is kept decoded; an evicted one is read from its image again.
    let mut bench = Bench::with(EvaluatorOptions {
        instances_max: 4,
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    for round in 0..3u64 {
        for key in 0..20u64 {
            let sequence = round * 20 + key + 1;
            let deposit = Deposit { amount: key + 1 };
            bench.send(at(&format!("k{key}"), command(session, sequence, &deposit)));
            if key % 5 == 0 {
                bench.settle();
            }
        }
    }
    bench.settle();
    for key in 0..20u64 {
        assert_eq!(bench.balance(&format!("k{key}")), 3 * (key + 1));
    }
    assert!(bench.evaluator.counters().activations > 20);
}

#[test]
fn a_group_that_rests_keeps_only_what_a_handler_is_at_work_on() {
    // Section 9: idle entities cost nothing.
    let mut bench = Bench::with(EvaluatorOptions::default());
    let session = bench.session(7);
    deposit_into(&mut bench, session, 20, 0);
    assert_eq!(bench.evaluator.instances().0, 20);
    let slow = Slow {
        door: "rest".to_owned(),
        amount: 5,
    };
    let running = bench.send(at("k3", command(session, 21, &slow)));
    bench.poll();
    bench.evaluator.rest();
    assert_eq!(bench.evaluator.instances().0, 1);
    open_door("rest");
    bench.settle();
    assert_eq!(bench.done::<u64>(running), 6);
    bench.evaluator.rest();
    assert_eq!(bench.evaluator.instances(), (0, 0));
    deposit_into(&mut bench, session, 20, 2);
    assert_eq!((bench.balance("k2"), bench.balance("k3")), (2, 7));
}

#[test]
fn what_the_evaluators_of_a_node_keep_is_bounded_together() {
    const NODE_BYTES: usize = 16 << 10;
    let options: CheckedEvaluatorOptions = EvaluatorOptions {
        node_instances_bytes: NODE_BYTES,
        ..EvaluatorOptions::default()
    }
    .check()
    .unwrap();
    let bytes = |bench: &Bench| bench.evaluator.instances().1;
    let mut benches: Vec<Bench> = (0..4).map(|_| Bench::of(options.clone())).collect();
    let sessions: Vec<SessionId> = benches.iter_mut().map(|bench| bench.session(7)).collect();
    deposit_into(&mut benches[0], sessions[0], 50, 0);
    assert!(
        bytes(&benches[0]) > NODE_BYTES / 2,
        "who is alone may have all"
    );
    for round in 1..3 {
        for (bench, session) in benches.iter_mut().zip(&sessions) {
            deposit_into(bench, *session, 50, round);
        }
    }
    let each: Vec<usize> = benches.iter().map(bytes).collect();
    assert!(each.iter().sum::<usize>() <= NODE_BYTES, "{each:?}");
    assert!(each.iter().all(|bytes| *bytes > 0));
    // Who rests leaves its share to the others.
    let (first, others) = benches.split_first_mut().unwrap();
    for other in others {
        other.evaluator.rest();
    }
    deposit_into(first, sessions[0], 50, 3);
    assert!(bytes(first) > NODE_BYTES / 2);
    assert_eq!(first.balance("k49"), 4);
}

/// Rows on a disk that refuses.
#[derive(Debug)]
struct Unreadable;

impl Base for Unreadable {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, BaseError> {
        Err(BaseError::Unread("too many open files".to_owned()))
    }

    fn scan(&self, _prefix: &[u8]) -> BaseRows<'_> {
        Box::new(std::iter::empty())
    }
}

#[test]
fn who_asks_for_an_entity_that_cannot_be_read_here_is_sent_on() {
    // Nothing is known to be wrong with its image: this replica or its node stops, and another one has it.
    let mut bench = Bench::idle(EvaluatorOptions::default());
    *bench.state.lock().unwrap() = ShardState::on(Arc::new(Unreadable));
    bench.begin(1);
    let session = bench.session(7);
    let deposit = bench.send(command(session, 1, &Deposit { amount: 1 }));
    let balance = bench.send(query(&Balance));
    bench.settle();
    for token in [deposit, balance] {
        let sent_on = Outcome::Refused(Refusal::NotLeader { leader: None });
        assert_eq!(bench.outcome(token), Some(&sent_on));
    }
    assert_eq!(bench.evaluator.counters().quarantined, 0);
}
