//! Campaigns, pre-votes, and leaders that nobody hears.

use super::*;
use crate::message::Body;
use crate::{ProposeError, Role, Term};

#[test]
fn a_voter_that_still_thinks_it_is_a_learner_gives_the_deciding_vote() {
    // etcd-io/raft: campaign_learner_must_vote. H4: 1 and 2 have made 3 a voter, 3 has not heard of it; 1 dies. Without the vote of
    // 3 nobody could lead again.
    let mut net = Net::led(2, 1);
    net.run_ms(100);
    net.add_newcomer(3);
    net.change(1, &[1, 2], &[3]);
    net.run_ms(1_000);
    let before = net.log(3);
    net.isolate(3);
    net.change(1, &[1, 2, 3], &[]);
    net.run_ms(100);
    for informed in [1, 2] {
        assert!(net.status(informed).configuration.voters.contains(&id(3)));
        assert!(!net.status(informed).configuration.is_joint());
    }
    assert_eq!(net.status(3).configuration.learners, [id(3)].into());
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    net.until(|net| net.leader() == Some(2));
    assert_eq!(net.log(3), before, "it voted without having the entry");
    net.propose(2, "x");
    net.settle();
    assert_eq!(net.applied(2), ["x"]);
    assert_eq!(net.status(3).configuration, net.status(2).configuration);
}

#[test]
fn a_campaign_by_order_deposes_nobody_who_is_heard() {
    // etcd-io/raft: campaign_now_lease, forget_leader_read_only_lease_based. There an order to campaign may break the promise that
    // a lease rests on; here an order asks like everybody else (only the leader's own word, in a transfer, goes past promises).
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.campaign(2);
    assert_eq!(net.status(2).role, Role::PreCandidate);
    assert_eq!((net.on_wire("vote", 1), net.on_wire("vote", 3)), (0, 0));
    net.run_ms(2_000);
    for replica in 1..=3 {
        assert_eq!(
            (net.status(replica).leader, net.status(replica).term),
            (Some(id(1)), Term::new(1))
        );
    }
}

#[test]
fn a_leader_is_safe_while_it_is_heard_and_gives_up_when_it_hears_nobody() {
    // etcd-io/raft: checkquorum. H14: first a candidate of a later term is not even looked at; then no answer reaches the leader
    // for a timeout, and it steps down within its term; then the others are free.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let transfer = false;
    let last = net.status(2).last;
    for voter in [1, 3] {
        net.deliver(say(2, voter, 2, Body::Vote { last, transfer }));
    }
    assert_eq!(
        (net.status(1).role, net.status(1).term, net.status(3).term),
        (Role::Leader, Term::new(1), Term::new(1))
    );
    assert_eq!(net.on_wire("vote_reply", 2), 0);
    net.cut_one_way(2, 1);
    net.cut_one_way(3, 1);
    net.run_ms(1_400);
    assert_eq!(net.status(1).role, Role::Leader, "not before the timeout");
    net.run_ms(1_100);
    assert_eq!(
        (net.status(1).role, net.status(1).leader, net.status(1).vote),
        (Role::Follower, None, Some(id(1)))
    );
    let now = net.now;
    assert!(matches!(
        net.group(1).propose(now, bytes::Bytes::new()),
        Err(ProposeError::NotLeader { .. })
    ));
    net.run_ms(4_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.status(1).leader, Some(id(leader)));
}

#[test]
fn a_follower_that_suspects_its_leader_still_obeys_it() {
    // etcd-io/raft: forget_leader. Suspicion is not a vote and not a departure: appends, commits and heartbeats count as before,
    // and the first of them ends it.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    net.group(2).peer_silent(now, id(1));
    net.propose(1, "x");
    net.settle();
    net.run_ms(60);
    assert_eq!(
        (net.status(2).leader, net.applied(2)),
        (Some(id(1)), vec!["x".to_owned()])
    );
    net.run_ms(10_000);
    assert_eq!((net.leader(), net.status(2).term), (Some(1), Term::new(1)));
}

#[test]
fn a_follower_that_suspects_its_leader_helps_whoever_has_the_log() {
    // etcd-io/raft: forget_leader_prevote_checkquorum. 3 asks: 2 refuses while it stands by 1, grants when it suspects 1. Then the
    // same with 3 one entry short: suspicion is no reason to elect a shorter log.
    for (short, elected) in [(false, true), (true, false)] {
        let mut net = Net::led(3, 1);
        net.run_ms(100);
        net.cut(1, 3);
        if short {
            net.propose(1, "3 has not got it");
            net.settle();
        }
        net.campaign(3);
        net.settle();
        assert_eq!(net.status(3).term, Term::new(1), "2 stands by 1");
        let now = net.now;
        net.group(2).peer_silent(now, id(1));
        net.campaign(3);
        net.settle();
        assert_eq!(net.status(3).role == Role::Leader, elected);
        assert_eq!(net.status(2).term > Term::new(1), elected);
    }
}

#[test]
fn a_replica_that_is_behind_asks_in_vain_and_changes_no_term() {
    // etcd-io/raft: prevote. The leader is gone; 3 lacks an entry: nobody's term moves when it asks. Then 2 asks and leads.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    net.propose(1, "x");
    net.settle();
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(3);
    net.settle();
    assert_eq!(
        (net.status(2).term, net.status(3).term),
        (Term::new(1), Term::new(1))
    );
    assert_eq!(net.status(3).role, Role::PreCandidate);
    net.elect(2);
    assert_eq!(net.log(3), [1, 1, 2]);
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.log(1), [1, 1, 2]);
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn pre_votes_are_refused_while_the_leader_is_heard_and_granted_once_it_is_not() {
    // etcd-io/raft: prevote_checkquorum. H9: 1 falls silent. 2 asks first: 3 still stands by 1. 3 asks then: 2, itself asking,
    // stands by nobody, so 3 leads; and 2 counts nothing of its own round any more.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(1);
    net.campaign(2);
    net.settle();
    assert_eq!(net.status(2).term, Term::new(1));
    net.campaign(2);
    assert_eq!(net.status(2).role, Role::PreCandidate);
    net.wire.clear();
    net.campaign(3);
    net.settle();
    assert_eq!(
        (net.leader(), net.status(3).term, net.status(2).leader),
        (Some(3), Term::new(2), Some(id(3)))
    );
    let (campaign, granted) = (Term::new(2), true);
    net.deliver(say(3, 2, 2, Body::PreVoteReply { campaign, granted }));
    assert_eq!(net.status(2).role, Role::Follower);
}

#[test]
fn a_shorter_log_loses_again_and_again() {
    // etcd-io/raft: vote. Two voters; 1 alone has "foo", so 2 is never elected, neither when it asks nor when it stands at once,
    // as after a leader's word.
    let mut net = Net::led(2, 1);
    net.run_ms(100);
    net.isolate(2);
    net.propose(1, "foo");
    net.run_ms(3_000);
    assert_eq!(net.leader(), None, "alone, 1 is no majority");
    net.heal();
    for round in 1..=3 {
        net.campaign(2);
        net.settle();
        assert_ne!(net.leader(), Some(2));
        let (term, last, transfer) = (10 * round, net.status(2).last, true);
        net.deliver(say(2, 1, term, Body::Vote { last, transfer }));
        net.settle();
        assert_eq!(net.status(1).vote, None);
        assert_ne!(net.leader(), Some(2));
    }
    net.run_ms(5_000);
    assert_eq!(
        (net.leader(), net.applied(2)),
        (Some(1), vec!["foo".to_owned()])
    );
}
