//! Networks in which some links work and others do not.
//!
//! What pre-vote, check-quorum and stickiness give: whoever reaches a majority and has the log leads, and a leader that is heard by
//! a majority stays. What they do not give is recorded too: the one replica that reaches a majority must have the log.
//! Source: H20; Howard and Abraham, "Raft does not guarantee liveness in the face of network faults", 2020; Ng, Haridi and Carbone,
//! "Omni-Paxos", EuroSys 2023.

use super::*;
use crate::{LogIndex, Role, Term};

/// Only the links of `hub` are left.
fn star(net: &mut Net, hub: u64) {
    let others: Vec<_> = net
        .nodes
        .keys()
        .copied()
        .filter(|other| *other != hub)
        .collect();
    for a in &others {
        for b in others.iter().filter(|b| *b != a) {
            net.cut(*a, *b);
        }
    }
}

#[test]
fn two_half_connected_of_five_depose_nobody() {
    // H20: 4 hears 2 and 3, 5 hears only 3; neither hears the leader. Both ask again and again; nobody who hears 1 helps them.
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    for (a, b) in [(4, 1), (4, 5), (5, 1), (5, 2)] {
        net.cut(a, b);
    }
    net.run_ms(10_000);
    net.propose(1, "x");
    net.run_ms(20_000);
    for (replica, applied) in [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)] {
        assert_eq!(net.status(replica).term, Term::new(1), "replica {replica}");
        assert_eq!(net.applied(replica).len(), applied, "replica {replica}");
    }
    assert_eq!(net.leader(), Some(1));
    net.heal();
    net.run_ms(3_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
    assert_eq!(net.applied(5), ["x"]);
}

#[test]
fn a_link_that_comes_and_goes_deposes_nobody() {
    // H20: 3 loses its link to the leader for two seconds out of three, and hears 2 all the time.
    let mut net = Net::led(3, 1);
    for _ in 0..20 {
        net.cut(1, 3);
        net.run_ms(2_000);
        net.heal();
        net.run_ms(1_000);
    }
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
}

#[test]
fn the_hub_of_a_star_takes_over() {
    // H20 (quorum loss): 2 leads five; then 1 is the only one that anybody hears. 2 reaches one of four, gives up, and 1 leads, once.
    let mut net = Net::led(5, 2);
    net.run_ms(100);
    star(&mut net, 1);
    net.run_ms(10_000);
    let term = net.status(1).term;
    assert_eq!(
        (net.leader(), net.status(2).role),
        (Some(1), Role::Follower)
    );
    net.propose(1, "x");
    net.run_ms(20_000);
    for replica in 1..=5 {
        assert_eq!(net.applied(replica), ["x"]);
        assert_eq!(net.status(replica).term, term, "no second election");
    }
}

#[test]
fn a_chain_whose_middle_dies_has_no_leader_and_gets_one_with_either_link() {
    // H20: 1 - 3 - 2. Without 3 there is no majority; with 3 back, one leader, also when only one of its links works.
    let mut net = Net::led(3, 3);
    net.run_ms(100);
    net.cut(1, 2);
    net.cut(1, 3);
    net.cut(2, 3);
    net.run_ms(10_000);
    assert_eq!(net.leader(), None);
    net.heal();
    net.cut(1, 2);
    net.cut(1, 3);
    net.run_ms(5_000);
    let leader = net.leader().unwrap();
    assert!([2, 3].contains(&leader));
    let term = net.status(leader).term;
    net.heal();
    net.cut(1, 2);
    net.run_ms(20_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(leader), term));
}

#[test]
fn known_limit_a_hub_with_an_older_log_leaves_five_without_a_leader() {
    // H20 (constrained election), the known limit of Raft: the leader is gone; of the other four, 1 alone reaches a majority and lacks
    // an entry, so nobody votes for it; 3, 4 and 5 have the entry and reach only 1. Nothing is lost, nothing is decided, no term runs
    // away; one more link ends it.
    let mut net = Net::led(5, 2);
    net.run_ms(100);
    net.isolate(1);
    net.propose(2, "x");
    net.settle();
    assert_eq!(
        (net.status(2).commit, net.log(1)),
        (LogIndex::new(2), vec![1])
    );
    net.heal();
    star(&mut net, 1);
    net.isolate(2);
    net.run_ms(60_000);
    assert_eq!(net.leader(), None);
    for replica in 1..=5 {
        assert_eq!(net.status(replica).term, Term::new(1));
    }
    net.connect(3, 4);
    net.run_ms(5_000);
    let leader = net.leader().unwrap();
    assert!([3, 4].contains(&leader));
    net.propose(leader, "y");
    net.run_ms(1_000);
    assert_eq!(net.applied(1), ["x", "y"]);
}
