//! Voters that come and go, leaders among them.

use super::*;
use crate::{ChangeError, EntryKind, LogIndex, Output, Role, Term};

/// Every configuration in a log, as (voters of the new half, whether joint).
fn history(net: &Net, replica: u64) -> Vec<(Vec<u64>, bool)> {
    let log = &net.nodes[&replica].group.log;
    let indexes = log.first_index().get()..=log.last_index().get();
    let entries = indexes.filter_map(|index| log.entry(LogIndex::new(index)));
    entries
        .filter(|entry| entry.kind == EntryKind::Configuration)
        .map(|entry| {
            let configuration = entry.configuration().unwrap();
            let voters = configuration.voters.iter().map(|voter| voter.get());
            (voters.collect(), configuration.is_joint())
        })
        .collect()
}

fn learn(net: &mut Net, leader: u64, newcomers: &[u64]) {
    for newcomer in newcomers {
        net.add_newcomer(*newcomer);
    }
    let present = net.voters(leader);
    net.change(leader, &present, newcomers);
    net.run_ms(1_000);
}

#[test]
fn a_wish_is_judged_by_the_log_and_not_by_what_is_applied() {
    // etcd-io/raft: confchange_disable_validation. H42: the state machine lags; while the first change is not committed the second
    // is refused, and once it is committed the second is judged by it, applied or not.
    let mut net = Net::led(1, 1);
    net.add_newcomer(2);
    net.add_newcomer(3);
    net.node(1).apply_held = true;
    net.node(1).disk_held = true;
    net.propose(1, "foo");
    let first = net.change(1, &[1], &[2]);
    let (now, second) = (net.now, net.wish(1, &[1], &[2, 3]));
    assert_eq!(
        net.group(1).change(now, second.clone()),
        Err(ChangeError::UnderWay { index: first.index })
    );
    net.node(1).disk_held = false;
    net.settle();
    assert!(net.status(1).applied < first.index && net.status(1).commit >= first.index);
    net.group(1).change(now, second).unwrap();
    net.settle();
    assert_eq!(net.status(1).configuration.learners, [2, 3].map(id).into());
    assert!(net.status(1).applied < first.index);
}

#[test]
fn a_single_newcomer_becomes_a_voter_through_a_joint_configuration() {
    // etcd-io/raft: confchange_v1_add_single, confchange_v2_add_single_auto. The newcomer gets the log from its beginning and, last
    // of all, a vote; the log says in which steps.
    let mut net = Net::led(1, 1);
    net.propose(1, "before");
    learn(&mut net, 1, &[2]);
    net.change(1, &[1, 2], &[]);
    assert!(
        net.status(1).configuration.is_joint(),
        "at once, uncommitted"
    );
    net.run_ms(600);
    let steps = [(vec![1], false), (vec![1, 2], true), (vec![1, 2], false)];
    for replica in [1, 2] {
        assert_eq!(history(&net, replica), steps);
        assert_eq!(net.log(replica), [1; 5]);
        assert_eq!(net.applied(replica), ["before"]);
    }
    net.isolate(2);
    net.propose(1, "alone");
    net.run_ms(600);
    assert_eq!(
        net.applied(1),
        ["before"],
        "one of two is no majority any more"
    );
}

#[test]
fn a_leader_is_removed_between_two_commands_and_both_survive() {
    // etcd-io/raft: confchange_v1_remove_leader. H48: "foo" goes out with the change, "bar" while it is under way; the leader
    // leaves as soon as its removal is committed, and whoever follows commits what the two that remain have.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[2, 3], &[]);
    net.propose(1, "foo");
    net.until(|net| !net.status(1).configuration.is_joint());
    net.propose(1, "bar");
    net.settle();
    assert_eq!(
        (
            net.status(1).role,
            net.status(1).leader.is_none() || net.leader() != Some(1)
        ),
        (Role::Follower, true)
    );
    net.run_ms(2_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    for replica in [2, 3] {
        assert_eq!(net.applied(replica), ["foo", "bar"]);
        assert_eq!(net.voters(replica), [2, 3]);
    }
    let now = net.now;
    assert!(net.group(1).propose(now, bytes::Bytes::new()).is_err());
    net.campaign(1);
    assert_eq!(net.status(1).role, Role::Follower, "it cannot campaign");
}

#[test]
fn two_come_and_two_go_each_in_one_change() {
    // etcd-io/raft: confchange_v2_add_double_auto, confchange_v2_add_double_implicit. H45: the leader leaves each joint
    // configuration once, by itself, although many things happen meanwhile.
    let mut net = Net::led(1, 1);
    learn(&mut net, 1, &[2, 3]);
    net.change(1, &[1, 2, 3], &[]);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
        net.step();
    }
    net.run_ms(1_000);
    net.change(1, &[1], &[]);
    net.propose(1, "d");
    net.run_ms(1_000);
    let steps = [
        (vec![1], false),
        (vec![1, 2, 3], true),
        (vec![1, 2, 3], false),
        (vec![1], true),
        (vec![1], false),
    ];
    assert_eq!(history(&net, 1), steps);
    assert_eq!(net.applied(1), ["a", "b", "c", "d"]);
    for gone in [2, 3] {
        assert!(net.has_event(gone, &Output::Removed));
    }
}

#[test]
fn the_newcomer_takes_over_in_the_middle_of_the_change_and_finishes_it() {
    // etcd-io/raft: confchange_v2_replace_leader. H45: {1,2,3} becomes {2,3,4}; while the joint configuration is on its way, 1 hands over
    // to 4. A joint configuration is not left during a handover, so 4 finds it and leaves it.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    learn(&mut net, 1, &[4]);
    net.change(1, &[2, 3, 4], &[]);
    net.transfer(1, 4);
    net.until(|net| net.leader() == Some(4));
    assert!(net.status(4).configuration.is_joint());
    net.run_ms(600);
    assert_eq!((net.leader(), net.status(4).term), (Some(4), Term::new(2)));
    assert_eq!(
        history(&net, 4)[1..],
        [(vec![2, 3, 4], true), (vec![2, 3, 4], false)]
    );
    net.run_ms(5_000);
    assert!(net.has_event(1, &Output::Removed));
    net.campaign(1);
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn a_leader_replaces_itself_and_never_campaigns_again() {
    // etcd-io/raft: confchange_v2_replace_leader_stepdown. As above without the handover: 1 sees the change through, steps down,
    // names an heir; it never campaigns again, nor does a restart make it.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    learn(&mut net, 1, &[4]);
    net.change(1, &[2, 3, 4], &[]);
    net.settle();
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    assert_eq!(net.status(leader).term, Term::new(2));
    for replica in [2, 3, 4] {
        assert_eq!(net.voters(replica), [2, 3, 4]);
    }
    assert!(net.has_event(1, &Output::Removed));
    net.campaign(1);
    assert_eq!(
        (net.status(1).role, net.group(1).wake_at()),
        (Role::Follower, None)
    );
    net.crash(1);
    net.run_ms(10_000);
    assert_eq!(
        (net.leader(), net.status(leader).term),
        (Some(leader), Term::new(2))
    );
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn a_leader_that_becomes_a_learner_gives_way_and_goes_on_listening() {
    // H14, H48: demoted, not removed. Whoever follows counts it nowhere; it gets the log, and never campaigns again.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[2, 3], &[1]);
    net.settle();
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    net.propose(leader, "x");
    net.run_ms(600);
    assert_eq!(net.applied(1), ["x"]);
    assert!(!net.has_event(1, &Output::Removed));
    assert_eq!(net.group(1).wake_at(), None);
    let other = 5 - leader;
    net.isolate(other);
    net.propose(leader, "1 and the leader are no majority");
    net.run_ms(3_000);
    assert_eq!((net.leader(), net.applied(1)), (None, vec!["x".to_owned()]));
}

#[test]
fn every_voter_is_replaced_in_one_change() {
    // H42, H48: {1,2,3} becomes {4,5,6} under load; then the old three are switched off, and nothing is missing.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.propose(1, "a");
    learn(&mut net, 1, &[4, 5, 6]);
    net.change(1, &[4, 5, 6], &[]);
    net.propose(1, "b");
    net.settle();
    let leader = net.leader().unwrap();
    assert!(leader >= 4);
    for old in 1..=3 {
        assert!(net.has_event(old, &Output::Removed));
        net.nodes.remove(&old);
    }
    net.propose(leader, "c");
    net.run_ms(1_000);
    for replica in 4..=6 {
        assert_eq!(net.applied(replica), ["a", "b", "c"]);
        assert_eq!(net.voters(replica), [4, 5, 6]);
    }
    net.isolate(leader);
    net.run_ms(4_000);
    let next = net.leader().unwrap();
    assert_ne!(next, leader);
    assert_eq!(net.applied(next), ["a", "b", "c"]);
}
