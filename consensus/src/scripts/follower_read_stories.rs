//! Reads that a follower serves from its own state.

use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, ReadError, ReadId, Role};

fn read_here(net: &mut Net, replica: u64) -> ReadId {
    let now = net.now;
    let read = net.group(replica).read_here(now).unwrap();
    net.drain(replica);
    read
}

#[test]
fn a_follower_answers_what_was_acknowledged_before_it_was_asked() {
    // Ongaro's thesis 6.4: its own commit index says nothing; the leader's does.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    assert!(
        net.status(2).commit < LogIndex::new(2),
        "2 was not told yet"
    );
    let read = read_here(&mut net, 2);
    assert_eq!(net.read_outcome(2, read), None);
    net.settle();
    assert_eq!(net.read_outcome(2, read), Some(Ok(LogIndex::new(2))));
    assert_eq!(net.applied(2), ["a"]);
}

#[test]
fn a_follower_waits_for_its_own_state() {
    // H51
    let mut net = Net::led(3, 1);
    net.node(2).apply_held = true;
    net.propose(1, "a");
    net.run_ms(100);
    let read = read_here(&mut net, 2);
    net.run_ms(100);
    assert_eq!(net.read_outcome(2, read), None);
    net.node(2).apply_held = false;
    net.settle();
    assert!(net.read_outcome(2, read).is_some());
}

#[test]
fn the_leader_confirms_a_followers_read_by_a_round_begun_after_it() {
    // H61, H64: the question is a read like any other.
    let mut net = Net::led(3, 1);
    net.run_ms(10);
    let read = read_here(&mut net, 2);
    for question in net.take("read_request", 1) {
        net.deliver(question);
    }
    assert_eq!(net.on_wire("read_answer", 2), 0);
    assert_eq!(net.on_wire("heartbeat", 3), 1);
    net.settle();
    assert!(net.read_outcome(2, read).is_some());
}

#[test]
fn with_a_lease_the_leader_answers_a_follower_at_once() {
    // Ongaro's thesis 6.4.1
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.run_ms(510);
    read_here(&mut net, 2);
    for question in net.take("read_request", 1) {
        net.deliver(question);
    }
    assert_eq!(
        (net.on_wire("read_answer", 2), net.on_wire("heartbeat", 3)),
        (1, 0)
    );
}

#[test]
fn a_leader_of_the_past_confirms_no_followers_read() {
    // H62: 1 and 3 are cut off together; 2 leads the rest and has acknowledged "b".
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    for (a, b) in [(1, 2), (1, 4), (1, 5), (3, 2), (3, 4), (3, 5)] {
        net.cut(a, b);
    }
    let read = read_here(&mut net, 3);
    for replica in [2, 4, 5] {
        let now = net.now;
        net.group(replica).peer_silent(now, id(1));
    }
    net.run_ms(600);
    let leader = [2, 4, 5]
        .into_iter()
        .find(|r| net.status(*r).role == Role::Leader);
    net.propose(leader.unwrap(), "b");
    net.settle();
    assert_eq!(net.read_outcome(3, read), None);
    net.run_ms(2_000);
    assert_eq!(
        net.read_outcome(3, read),
        Some(Err(())),
        "and it does not wait for ever"
    );
}

#[test]
fn a_new_leader_answers_followers_only_after_its_own_term_opened() {
    // H60
    let mut net = Net::led(3, 1);
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    net.until_led_with_disks_of(2, &[2, 3]);
    let body = Body::ReadRequest {
        life: 5,
        upto: ReadId::new(1),
    };
    net.drain(2);
    let appends = net.take("append", 3);
    let term = net.status(2).term.get();
    net.deliver(say(3, 2, term, body));
    net.settle();
    assert_eq!(net.on_wire("read_answer", 3), 0);
    assert_eq!(net.status(2).commit, LogIndex::ZERO);
    appends.into_iter().for_each(|append| net.deliver(append));
    for answer in [3, 2] {
        net.write_one(answer);
    }
    let mut answered = false;
    while let Some(message) = net.wire.pop_front() {
        answered |= message.name() == "read_answer";
        net.deliver(message);
        net.write_one(2);
        net.write_one(3);
    }
    assert!(answered);
}

#[test]
fn answers_to_a_former_life_count_nothing() {
    // H61: after a restart ids begin anew; an answer from before knows nothing of what was acknowledged since.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    read_here(&mut net, 2);
    net.settle_until("read_answer", 2);
    let old = net.take("read_answer", 2);
    assert_eq!(old.len(), 1);
    net.crash(2);
    net.run_ms(600);
    net.propose(1, "a");
    net.run_ms(100);
    let read = read_here(&mut net, 2);
    net.take("read_request", 1); // lost
    old.into_iter().for_each(|answer| net.deliver(answer));
    net.settle();
    assert_eq!(net.read_outcome(2, read), None);
}

#[test]
fn a_read_ends_when_the_leader_does() {
    // H62: the question stays open for ever at a leader that is gone.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(1);
    let read = read_here(&mut net, 2);
    net.forget_leader(1);
    net.run_ms(1_000);
    assert_ne!(net.leader(), Some(1));
    assert_eq!(net.read_outcome(2, read), Some(Err(())));
}

#[test]
fn a_lost_question_ends_within_an_election_timeout() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let read = read_here(&mut net, 2);
    assert_eq!(net.take("read_request", 1).len(), 1);
    net.run_ms(1_400);
    assert_eq!(net.read_outcome(2, read), None);
    net.run_ms(200);
    assert_eq!(net.read_outcome(2, read), Some(Err(())));
}

#[test]
fn many_reads_share_one_question() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    let reads: Vec<_> = (0..10)
        .map(|_| net.group(3).read_here(now).unwrap())
        .collect();
    net.drain(3);
    assert_eq!(net.on_wire("read_request", 1), 1);
    net.settle();
    assert!(
        reads
            .iter()
            .all(|read| net.read_outcome(3, *read).is_some())
    );
}

#[test]
fn a_learner_reads_like_a_follower() {
    let mut net = Net::led(1, 1);
    net.add_newcomer(2);
    net.change(1, &[1], &[2]);
    net.run_ms(600);
    net.propose(1, "a");
    net.settle();
    let read = read_here(&mut net, 2);
    net.run_ms(100);
    assert!(matches!(net.read_outcome(2, read), Some(Ok(index)) if index >= LogIndex::new(3)));
}

#[test]
fn reads_that_nobody_can_answer_are_refused() {
    let options = GroupOptions {
        waiting_reads: 2,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    let now = net.now;
    let leaderless = ReadError::NotLeader {
        group: crate::GroupId::ZERO,
        leader: None,
    };
    assert_eq!(net.group(2).read_here(now), Err(leaderless));
    net.elect(1);
    net.run_ms(100);
    net.isolate(2);
    read_here(&mut net, 2);
    read_here(&mut net, 2);
    let now = net.now;
    let busy = ReadError::Busy {
        group: crate::GroupId::ZERO,
        waiting: 2,
    };
    assert_eq!(net.group(2).read_here(now), Err(busy));
}

#[test]
fn a_replica_that_does_not_lead_says_so_at_once() {
    // So that a follower with an old hint does not wait for its deadline.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let body = Body::ReadRequest {
        life: 5,
        upto: ReadId::new(1),
    };
    net.deliver(say(3, 2, 1, body));
    let answers = net.take("read_answer", 3);
    assert!(matches!(
        answers[0].body,
        Body::ReadAnswer { index: None, .. }
    ));
}
