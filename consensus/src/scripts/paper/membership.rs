//! Section 6: changing who belongs, in two steps.

use super::*;
use crate::message::Body;
use crate::{Role, Term};

/// Three voters led by 1, and two learners, 4 and 5, that have the log.
fn with_learners() -> Net {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.add_newcomer(4);
    net.add_newcomer(5);
    net.change(1, &[1, 2, 3], &[4, 5]);
    net.run_ms(1_000);
    net
}

#[test]
fn a_joint_configuration_commits_with_both_majorities_only() {
    // Raft paper 6: {1,2,3} becomes {3,4,5}. First everybody of the old half but 1 is cut off, then everybody of the new one.
    for (gone, enough) in [([2, 3], 3), ([4, 5], 4)] {
        let mut net = with_learners();
        gone.into_iter().for_each(|replica| net.isolate(replica));
        let joint = net.change(1, &[3, 4, 5], &[]);
        net.propose(1, "x");
        net.run_ms(900);
        assert!(net.status(1).commit < joint.index, "without {gone:?}");
        net.heal();
        let other = gone.into_iter().find(|replica| *replica != enough).unwrap();
        net.isolate(other);
        net.run_ms(1_500);
        assert!(net.status(enough).commit >= joint.index, "with {enough}");
    }
}

#[test]
fn figure_11_the_leader_may_crash_at_every_point_of_a_change() {
    // Raft paper 6, figure 11: {1,2,3} becomes {3,4,5}; the leader is cut off after each single step of the change. The others
    // finish the change or know nothing of it, all of them alike, and nothing committed is lost.
    let mut ends = std::collections::BTreeSet::new();
    for steps in 0.. {
        let mut net = with_learners();
        net.propose(1, "x");
        net.settle();
        net.change(1, &[3, 4, 5], &[]);
        let ended = !(0..steps).all(|_| net.step());
        net.isolate(1);
        net.wire.clear();
        net.run_ms(10_000);
        let leader = net.leader().unwrap();
        assert_ne!(leader, 1, "step {steps}");
        net.propose(leader, "y");
        net.run_ms(1_000);
        let end = net.status(leader).configuration;
        assert!(!end.is_joint(), "step {steps}");
        for replica in end
            .voters
            .iter()
            .map(|voter| voter.get())
            .filter(|r| *r != 1)
        {
            assert_eq!(net.status(replica).configuration, end, "step {steps}");
            assert_eq!(net.applied(replica), ["x", "y"], "step {steps}");
        }
        net.heal();
        net.run_ms(5_000);
        let term = net.status(net.leader().unwrap()).term;
        net.run_ms(5_000);
        assert_eq!(
            net.status(net.leader().unwrap()).term,
            term,
            "step {steps}: calm again"
        );
        ends.insert(
            end.voters
                .iter()
                .map(|voter| voter.get())
                .collect::<Vec<_>>(),
        );
        if ended {
            break;
        }
    }
    assert_eq!(ends, [vec![1, 2, 3], vec![3, 4, 5]].into());
}

#[test]
fn figure_10_old_and_new_majority_never_elect_two_leaders_of_a_term() {
    // Raft paper 6, figure 10: 3, 4 and 5 hold the joint configuration, 1 and 2 know only the old one. 1 and 2 are a majority of
    // the old half and elect; 3, 4 and 5 are one of the new half, not of the old one, and do not.
    let mut net = with_learners();
    net.node(1).disk_held = true;
    net.cut(1, 2);
    net.change(1, &[3, 4, 5], &[]);
    net.settle();
    net.crash(1);
    assert!(net.status(3).configuration.is_joint());
    assert_eq!(
        (net.voters(1), net.voters(2)),
        (vec![1, 2, 3], vec![1, 2, 3])
    );
    net.heal();
    for old in [1, 2] {
        [3, 4, 5].into_iter().for_each(|new| net.cut(old, new));
    }
    for _ in 0..20 {
        net.run_ms(500);
        for new in [3, 4, 5] {
            assert_ne!(net.status(new).role, Role::Leader);
        }
    }
    let leader = net.leader().unwrap();
    assert!([1, 2].contains(&leader));
    net.propose(leader, "old");
    net.settle();
    net.heal();
    net.run_ms(10_000);
    for replica in 1..=5 {
        assert_eq!(
            (net.voters(replica), net.applied(replica)),
            (vec![1, 2, 3], vec!["old".to_owned()])
        );
    }
}

#[test]
fn a_leader_that_leaves_does_not_count_itself() {
    // Raft paper 6; H48: {1,2,3} becomes {2,3}. Once 1 has appended that, its own disk counts for nothing: 2 alone is no majority,
    // 2 and 3 are.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[2, 3], &[]);
    net.until(|net| !net.status(1).configuration.is_joint());
    net.drain(1);
    let last = net.status(1).last.index;
    let late = net.take("append", 3);
    net.settle();
    assert_eq!(net.status(1).peers[0].matched, last);
    assert_eq!(
        net.status(1).role,
        Role::Leader,
        "it manages the group until then"
    );
    assert!(net.status(1).commit < last);
    late.into_iter().for_each(|message| net.deliver(message));
    net.settle();
    assert!(net.status(1).commit >= last);
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn a_removed_server_that_was_not_told_deposes_nobody() {
    // Raft paper 6; etcd-io/raft: confchange_v1_remove_leader_stepdown. 3 is cut off while it is removed; back again it knows only
    // the old configuration, times out, and asks. Even a question from a later term and its plain request for votes move nobody who hears a leader.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    net.change(1, &[1, 2], &[]);
    net.run_ms(10_000); // long enough that the leader has stopped feeding it
    net.heal();
    net.run_ms(20_000);
    assert_eq!(net.voters(3), [1, 2, 3]);
    let body = Body::Vote {
        last: net.status(3).last,
        transfer: false,
    };
    let asking = Body::PreVote {
        campaign: Term::new(10),
        last: net.status(3).last,
    };
    net.deliver(say(3, 1, 9, asking));
    net.deliver(say(3, 1, 9, body.clone()));
    net.deliver(say(3, 2, 9, body));
    net.run_ms(5_000);
    assert_eq!(
        (net.leader(), net.status(1).term, net.status(2).term),
        (Some(1), Term::new(1), Term::new(1))
    );
}
