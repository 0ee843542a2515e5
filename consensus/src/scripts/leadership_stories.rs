//! What ends with a leadership, and what a deposed leader still owes.

use super::*;
use crate::message::Body;
use crate::{LogIndex, Output, Role};

#[test]
fn a_deposed_leader_that_gets_a_snapshot_owes_no_answer_and_applies_on() {
    // H69: 1 holds a proposal and a read when it is cut off; the others compact beyond both. Its caller hears that the leadership is
    // over and that the read failed before the snapshot comes, and what is applied goes on right behind the snapshot (the script's
    // state machine checks that there is no gap).
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(1);
    let lost = net.propose(1, "lost");
    let read = net.read(1);
    net.run_ms(5_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    for payload in ["a", "b", "c"] {
        net.propose(leader, payload);
    }
    net.settle();
    net.checkpoint(leader, true);
    assert!(net.status(leader).first > lost.index);
    assert_eq!(net.read_outcome(1, read), Some(Err(())));
    let deposed = |event: &Output| {
        matches!(
            event,
            Output::Role {
                role: Role::Follower,
                ..
            }
        )
    };
    assert!(net.node(1).events.iter().any(deposed));
    net.heal();
    net.run_ms(3_000);
    assert_eq!(net.node(leader).shelf.needed, 1);
    net.propose(leader, "d");
    net.run_ms(600);
    assert_eq!(net.applied(1), ["a", "b", "c", "d"]);
    let now = net.now;
    net.group(1).applied(now, lost.index);
    net.drain(1);
    assert_eq!(net.status(1).applied, net.status(leader).applied);
}

#[test]
fn a_read_waits_for_the_leaders_own_disk_and_state() {
    // H64: "a" is committed by 2 and 3, the leader has not written it. The round is answered; the read is not, until the leader's own
    // state holds what it must show.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.node(1).disk_held = true;
    net.propose(1, "a");
    net.settle();
    assert_eq!(net.status(1).commit, LogIndex::new(2));
    let read = net.read(1);
    net.settle();
    net.run_ms(600);
    assert_eq!(net.read_outcome(1, read), None);
    net.node(1).disk_held = false;
    net.settle();
    assert_eq!(net.read_outcome(1, read), Some(Ok(LogIndex::new(2))));
}

#[test]
fn answers_that_answer_nothing_confirm_no_read() {
    // H64: of a term that is over, of a stranger, to a round that was never begun, to one that lies ahead in time, twice by the
    // same follower of five.
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    let read = net.read(1);
    let round = net
        .take("heartbeat", 2)
        .into_iter()
        .map(|message| match message.body {
            Body::Heartbeat { round, .. } => round,
            _ => unreachable!(),
        })
        .next_back()
        .unwrap();
    net.wire.clear();
    let template = net.now;
    let mut answer = |from, term, round, sent| {
        let reply = Net::heartbeat_reply(round, sent);
        net.deliver(say(from, 1, term, reply));
        net.read_outcome(1, read)
    };
    let ahead = template + core::time::Duration::from_millis(1);
    assert_eq!(answer(4, 0, round, template), None);
    assert_eq!(answer(5, 0, round, template), None);
    assert_eq!(answer(9, 1, round, template), None);
    assert_eq!(answer(8, 1, round, template), None);
    assert_eq!(answer(3, 1, round + 1, template), None);
    assert_eq!(answer(4, 1, round, ahead), None);
    assert_eq!(answer(5, 1, round - 1, template), None);
    assert_eq!(
        answer(2, 1, round, template),
        None,
        "one of five and the leader"
    );
    assert_eq!(answer(2, 1, round, template), None, "still one");
    assert!(answer(3, 1, round, template).is_some());
}
