//! Changes that cross leaders, snapshots and crashes.

use super::*;
use crate::{ChangeError, Configuration, Role, Term};

/// `voters` led by 1, and learners that have the log.
fn group(voters: u64, learners: &[u64]) -> Net {
    let mut net = Net::led(voters, 1);
    net.run_ms(100);
    for learner in learners {
        net.add_newcomer(*learner);
    }
    let present: Vec<_> = (1..=voters).collect();
    net.change(1, &present, learners);
    net.run_ms(1_000);
    net
}

#[test]
fn the_three_counter_examples_to_single_server_changes_lead_nowhere() {
    // H41 (Ongaro, raft-dev, 2015-07-10): of four, 1 begins a change that reaches only `reached`; 2 leads the next term and
    // completes another change without ever having seen the first; then 1 tries to lead again with those that took its side. One
    // adds and one removes; both add; both remove.
    let stories: [(&[u64], &[u64], &[u64]); 3] = [
        (&[1, 2, 3, 4, 5], &[5], &[2, 3, 4]),
        (&[1, 2, 3, 4, 5], &[5], &[1, 2, 3, 4, 6]),
        (&[1, 2, 3], &[], &[2, 3, 4]),
    ];
    for (first, reached, second) in stories {
        let mut net = group(4, &[5, 6]);
        [2, 3, 4, 6].into_iter().for_each(|other| net.cut(1, other));
        net.cut(1, 5);
        if !reached.is_empty() {
            net.heal();
            [2, 3, 4, 6].into_iter().for_each(|other| net.cut(1, other));
        }
        net.change(1, first, &[]);
        net.settle();
        for replica in reached {
            assert_eq!(net.voters(*replica), first);
        }
        [2, 3, 4, 6].into_iter().for_each(|other| net.cut(5, other));
        net.forget_leader(1);
        net.campaign(2);
        net.until(|net| net.leader() == Some(2));
        let (now, wish) = (net.now, net.wish(2, second, &[]));
        assert_eq!(
            net.group(2).change(now, wish.clone()),
            Err(ChangeError::TermNotOpened),
            "the rule that the counter-examples led to"
        );
        net.settle();
        net.group(2).change(now, wish).unwrap();
        net.propose(2, "x");
        net.run_ms(1_000);
        assert_eq!(
            (net.voters(2), net.applied(2)),
            (second.to_vec(), vec!["x".to_owned()])
        );
        net.heal();
        net.isolate(2);
        net.isolate(3);
        net.run_ms(5_000);
        for _ in 0..5 {
            net.campaign(1);
            net.settle();
            assert!(
                net.status(1).role != Role::Leader,
                "{first:?} against {second:?}"
            );
        }
        net.heal();
        net.run_ms(10_000);
        let leader = net.leader().unwrap();
        net.propose(leader, "y");
        net.run_ms(1_000);
        for replica in second {
            assert_eq!(net.voters(*replica), second);
            assert_eq!(net.applied(*replica), ["x", "y"]);
        }
    }
}

#[test]
fn survivors_finish_a_joint_configuration_whose_commit_only_the_dead_leader_knew() {
    // H43: {1,2,3} becomes {3,4,5}. Everybody has the joint entry and acknowledged it; 1 alone knows that it is committed, and
    // dies; 5 dies too. Configurations count from their append on, so 2, 3 and 4 need no commit index to know by whom to be elected.
    let mut net = group(3, &[4, 5]);
    let joint = net.change(1, &[3, 4, 5], &[]);
    net.until(|net| net.status(1).commit >= joint.index);
    for survivor in [2, 3, 4] {
        assert!(net.status(survivor).commit < joint.index);
        assert!(net.status(survivor).configuration.is_joint());
    }
    net.isolate(1);
    net.isolate(5);
    net.wire.clear();
    net.run_ms(10_000);
    let leader = net.leader().unwrap();
    assert!([3, 4].contains(&leader));
    net.propose(leader, "x");
    net.run_ms(1_000);
    assert_eq!(
        (net.voters(3), net.applied(4)),
        (vec![3, 4, 5], vec!["x".to_owned()])
    );
    assert!(!net.status(leader).configuration.is_joint());
}

#[test]
fn both_halves_of_a_joint_configuration_come_back_from_a_snapshot() {
    // H46: {1,2,3} becomes {1,4,5}. The joint entry is committed and compacted, the one that leaves it is not committed. 3 was away,
    // gets the snapshot, restarts: both halves are there, and 3, of the outgoing half, may still stand and still counts.
    let mut net = group(3, &[4, 5]);
    net.isolate(3);
    let joint = net.change(1, &[1, 4, 5], &[]);
    net.until(|net| net.status(1).commit >= joint.index);
    [2, 4, 5].into_iter().for_each(|other| net.cut(1, other));
    net.wire.clear();
    net.settle();
    assert_eq!(net.status(1).applied, joint.index);
    net.checkpoint(1, true);
    assert_eq!(net.status(1).first, joint.index.next());
    net.heal();
    [2, 4, 5].into_iter().for_each(|other| net.isolate(other));
    while net.status(3).last.index < joint.index {
        if !net.step() {
            net.pass_ms(50);
        }
        net.take("append", 3); // nothing but the snapshot arrives
    }
    let expected = Configuration {
        voters: [1, 4, 5].map(id).into(),
        outgoing: [1, 2, 3].map(id).into(),
        ..Configuration::default()
    };
    net.wire.clear();
    assert_eq!(net.status(3).configuration, expected);
    net.isolate(3);
    net.settle();
    net.crash(3);
    assert_eq!(net.status(3).configuration, expected);
    assert_eq!(net.status(3).configuration_index, joint.index);
    net.heal();
    net.isolate(1);
    net.isolate(2);
    net.run_ms(10_000);
    assert_eq!(
        net.leader(),
        None,
        "3 alone is no majority of the outgoing half"
    );
    net.heal();
    net.isolate(1);
    net.run_ms(10_000);
    let leader = net.leader().unwrap();
    for replica in [4, 5] {
        assert_eq!(net.voters(replica), [1, 4, 5]);
        assert!(!net.status(replica).configuration.is_joint());
    }
    assert_ne!(leader, 1);
}

#[test]
fn a_group_that_knows_no_voters_elects_nobody() {
    // H49: a newcomer before its first append, and a replica whose configuration has learners only: no majority of nobody.
    let mut net = Net::new(0);
    net.add_newcomer(1);
    net.campaign(1);
    net.run_ms(10_000);
    assert_eq!(
        (net.leader(), net.status(1).role, net.status(1).term),
        (None, Role::Follower, Term::ZERO)
    );
    assert_eq!(net.group(1).wake_at(), None);
}
