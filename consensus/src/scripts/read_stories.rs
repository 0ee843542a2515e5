//! Linearizable reads.

use super::*;
use crate::{LogIndex, ReadError, Role};

#[test]
fn a_read_is_answered_after_a_round_and_never_by_time() {
    // Raft paper 8; Ongaro's thesis 6.4
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    let read = net.read(1);
    assert_eq!(net.read_outcome(1, read), None);
    net.settle();
    assert_eq!(net.read_outcome(1, read), Some(Ok(LogIndex::new(2))));
}

#[test]
fn a_sole_voter_answers_at_once() {
    let mut net = Net::led(1, 1);
    let read = net.read(1);
    assert_eq!(net.read_outcome(1, read), Some(Ok(LogIndex::new(1))));
}

#[test]
fn a_new_leader_reads_only_after_its_own_term_opened() {
    // H60, Raft paper 8: it does not yet know what its predecessor committed.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle(); // 2 and 3 hold "a" but were not told that it is committed
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    net.until_led_with_disks_of(2, &[2, 3]);
    assert!(net.status(2).commit < LogIndex::new(2));
    let read = net.read(2);
    let appends = net.take("append", 3);
    net.settle(); // any number of heartbeats is no answer
    assert_eq!(net.read_outcome(2, read), None);
    appends.into_iter().for_each(|message| net.deliver(message));
    net.settle();
    assert_eq!(net.read_outcome(2, read), Some(Ok(LogIndex::new(3))));
    assert_eq!(net.applied(2), ["a"]);
}

#[test]
fn answers_to_an_earlier_round_confirm_no_later_read() {
    // H61, E7: the echo of a round begun before the read says nothing about what happened since.
    let mut net = Net::led(3, 1);
    let first = net.read(1);
    let mut early = Vec::new();
    for follower in [2, 3] {
        for message in net.take("heartbeat", follower) {
            net.deliver(message);
        }
    }
    early.extend(net.take("heartbeat_reply", 1));
    assert_eq!(early.len(), 2);
    let second = net.read(1);
    net.wire.clear(); // the second round is lost
    let doubled = early.clone();
    early
        .into_iter()
        .chain(doubled)
        .for_each(|message| net.deliver(message));
    assert!(net.read_outcome(1, first).is_some());
    assert_eq!(net.read_outcome(1, second), None);
    net.run_ms(600); // the next heartbeat is a later round
    assert!(net.read_outcome(1, second).is_some());
}

#[test]
fn an_old_leader_answers_no_read() {
    // H62: cut off, it does not know of its successor.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.isolate(1);
    net.forget_leader(1);
    let stale = net.read(1);
    net.run_ms(600);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    net.propose(leader, "b");
    net.settle();
    assert_eq!(net.read_outcome(1, stale), None);
    net.heal();
    net.run_ms(3_000);
    assert_eq!(net.read_outcome(1, stale), Some(Err(())));
    let now = net.now;
    assert_eq!(
        net.group(1).read(now),
        Err(ReadError::NotLeader {
            group: crate::GroupId::ZERO,
            leader: Some(id(leader))
        })
    );
}

#[test]
fn a_read_waits_for_the_state_to_catch_up() {
    let mut net = Net::led(3, 1);
    net.node(1).apply_held = true;
    net.propose(1, "a");
    net.settle();
    let read = net.read(1);
    net.settle();
    assert_eq!(net.read_outcome(1, read), None);
    net.node(1).apply_held = false;
    net.settle();
    assert_eq!(net.read_outcome(1, read), Some(Ok(LogIndex::new(2))));
}

#[test]
fn waiting_reads_are_counted_again_when_the_group_shrinks() {
    // H63: 2 of 3 never answer; the group becomes {1}.
    let mut net = Net::led(3, 1);
    let before = net.read(1);
    net.wire.clear();
    net.change(1, &[1], &[]);
    net.settle();
    net.run_ms(100);
    net.isolate(1);
    let after = net.read(1);
    net.settle();
    assert!(
        net.read_outcome(1, before)
            .is_some_and(|outcome| outcome.is_ok())
    );
    assert!(
        net.read_outcome(1, after)
            .is_some_and(|outcome| outcome.is_ok())
    );
}

#[test]
fn reads_do_not_put_off_the_judgement_of_a_leader_that_nobody_hears() {
    // H14, H61: each read comes when a beat is due and before the timer fires; its round is no beat.
    let mut net = Net::led(3, 1);
    net.isolate(1);
    for _ in 0..20 {
        if net.status(1).role != Role::Leader {
            return;
        }
        net.now = net.group(1).wake_at().unwrap();
        let now = net.now;
        net.read(1);
        net.group(1).tick(now);
        net.drain(1);
    }
    panic!("it still leads, {:?} later", net.now);
}
