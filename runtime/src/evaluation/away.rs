//! An evaluator with nothing open gives way to another one of the same leadership, and nothing is different. Compiled for tests only.

use std::time::Duration;

use super::EvaluatorOptions;
use super::bench::{Balance, Bench, Deposit, Slow, Withdraw, again, command, open_door, query};

/// Another evaluator goes on with this clock, as after a rest.
fn goes_on(bench: &mut Bench, serial: u64) {
    let clock = bench.evaluator.idle().expect("nothing is open");
    bench.end();
    bench.evaluator.begin_again(bench.now, serial, clock);
    bench.drain();
}

#[test]
fn what_was_answered_is_answered_alike_after_the_evaluator_was_put_away() {
    let mut bench = Bench::new();
    let session = bench.session(7);
    let request = command(session, 1, &Deposit { amount: 5 });
    let first = bench.send(request.clone());
    bench.settle();
    goes_on(&mut bench, 2);
    let retry = bench.send(again(request));
    let next = bench.send(command(session, 2, &Deposit { amount: 1 }));
    bench.settle();
    assert_eq!((bench.done::<u64>(first), bench.done::<u64>(retry)), (5, 5));
    assert_eq!(bench.done::<u64>(next), 6);
}

#[test]
fn an_evaluator_stays_while_anything_is_open() {
    let mut bench = Bench::new();
    let session = bench.session(7);
    assert!(bench.evaluator.idle().is_some());
    bench.send(command(session, 1, &Deposit { amount: 5 }));
    assert!(bench.evaluator.idle().is_none(), "not proposed yet");
    bench.flush();
    assert!(bench.evaluator.idle().is_none(), "not taken yet");
    bench.take();
    assert!(bench.evaluator.idle().is_none(), "not applied yet");
    bench.settle();
    assert!(bench.evaluator.idle().is_some());
    bench.send(query(&Balance));
    bench.flush();
    assert!(bench.evaluator.idle().is_none(), "a read is not confirmed");
    bench.settle();
    assert!(bench.evaluator.idle().is_some());
    let door = "of one that is put away".to_owned();
    bench.send(command(
        session,
        2,
        &Slow {
            door: door.clone(),
            amount: 1,
        },
    ));
    bench.poll();
    assert!(bench.evaluator.idle().is_none(), "a handler runs");
    open_door(&door);
    bench.poll();
    bench.settle();
    assert!(bench.evaluator.idle().is_some());
    let pause = bench.now + Duration::from_secs(1);
    bench.evaluator.pause(bench.now, pause);
    bench.drain();
    assert!(bench.evaluator.idle().is_none(), "it is paused");
}

#[test]
fn an_evaluator_that_alone_knows_an_answer_stays() {
    // A refused withdrawal is in no log: its second attempt must hear the same, whatever the account holds by then.
    let mut bench = Bench::new();
    let session = bench.session(7);
    bench.send(command(session, 1, &Withdraw { amount: 5 }));
    bench.settle();
    assert!(bench.evaluator.idle().is_none());
    bench.send(command(session, 2, &Deposit { amount: 1 }));
    bench.settle();
    assert!(bench.evaluator.idle().is_none(), "it may still be asked");
}

#[test]
fn sessions_grow_old_also_while_the_evaluator_is_put_away() {
    // One command a minute, for which the group wakes each time: without a clock that goes on, no session would ever end.
    let mut bench = Bench::with(EvaluatorOptions {
        session_idle: Duration::from_secs(600),
        ..EvaluatorOptions::default()
    });
    bench.session(7);
    let active = bench.session(8);
    for minute in 1..=12u64 {
        goes_on(&mut bench, minute + 1);
        bench.now += Duration::from_secs(59);
        goes_on(&mut bench, minute + 101);
        bench.now += Duration::from_secs(1);
        bench.send(command(active, minute, &Deposit { amount: 1 }));
        bench.settle();
    }
    assert_eq!(bench.state.lock().unwrap().sessions(), 1);
}
