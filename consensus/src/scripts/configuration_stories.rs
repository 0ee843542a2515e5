//! Changing who belongs.

use core::time::Duration;

use super::*;
use crate::{ChangeError, GroupOptions, LogIndex, Members, Output, Role, Term};

fn grow(net: &mut Net, newcomers: &[u64]) {
    let leader = net.leader().unwrap();
    for newcomer in newcomers {
        net.add_newcomer(*newcomer);
    }
    let voters: Vec<_> = net
        .status(leader)
        .configuration
        .voters
        .iter()
        .map(|voter| voter.get())
        .collect();
    net.change(leader, &voters, newcomers);
    net.run_ms(1_000);
}

#[test]
fn one_voter_becomes_three_in_one_joint_change() {
    // DESIGN.md section 8, birth; E24
    let mut net = Net::led(1, 1);
    net.propose(1, "before");
    grow(&mut net, &[2, 3]);
    net.change(1, &[1, 2, 3], &[]);
    assert!(net.status(1).configuration.is_joint());
    net.settle();
    net.run_ms(100);
    for replica in 1..=3 {
        assert_eq!(net.voters(replica), [1, 2, 3]);
        assert!(!net.status(replica).configuration.is_joint());
        assert_eq!(net.applied(replica), ["before"]);
    }
    net.isolate(1);
    net.forget_leader(1);
    net.run_ms(1_000);
    assert!(
        net.leader()
            .is_some_and(|leader| leader != 1 && net.status(leader).term > Term::new(1))
    );
}

/// How long it takes until 2, which its node starts `late` ms after it was added, has the log.
fn first_word_after(late: u64, options: GroupOptions) -> u64 {
    let mut net = Net::with(1, options);
    net.elect(1);
    net.propose(1, "before");
    net.run_ms(1_234);
    net.change(1, &[1], &[2]);
    net.run_ms(late);
    assert!(net.on_wire("append", 2) == 0, "nobody was there to take it");
    net.add_newcomer(2);
    let there = net.now;
    while net.applied(2) != ["before"] {
        net.run_ms(1);
        assert!(net.now < there + Duration::from_secs(2));
    }
    u64::try_from((net.now - there).as_millis()).expect("some seconds")
}

#[test]
fn a_newcomer_that_starts_after_it_was_spoken_to_is_spoken_to_again_soon() {
    // H77: what comes before it exists is dropped. It learns what is committed at the notice after it holds it.
    let notice = 50;
    assert!(first_word_after(1, Net::options()) <= 20 + notice);
    assert!(first_word_after(25, Net::options()) <= 40 + notice);
    assert!(
        first_word_after(250, Net::options()) <= 250 + notice,
        "then the next heartbeat is near"
    );
    // Without the question, the next heartbeat would be the first that it answers.
    let patient = GroupOptions {
        first_contact: Duration::from_secs(60),
        ..Net::options()
    };
    assert!(first_word_after(1, patient) > 200);
}

#[test]
fn a_newcomer_that_never_comes_is_left_to_the_heartbeats() {
    let mut net = Net::led(1, 1);
    net.change(1, &[1], &[2]);
    net.settle();
    let mut asked = Vec::new();
    let added = net.now;
    for _ in 0..3_000 {
        net.pass_ms(1);
        if !net.take("append", 2).is_empty() {
            asked.push((net.now - added).as_millis());
        }
    }
    assert_eq!(asked, [20, 60, 140, 300, 620]);
}

#[test]
fn a_new_leader_changes_nothing_before_its_own_term_opened() {
    // H41: Ongaro, raft-dev 2015-07-10. Also: one change at a time, on the configuration that was looked at.
    let mut net = Net::led(5, 1);
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    net.until_led_with_disks_of(2, &[2, 3, 4, 5]);
    let (now, wish) = (net.now, net.wish(2, &[2, 3, 4], &[]));
    assert_eq!(
        net.group(2).change(now, wish.clone()),
        Err(ChangeError::TermNotOpened)
    );
    net.settle();
    net.group(2).change(now, wish.clone()).unwrap();
    assert!(matches!(
        net.group(2).change(now, wish),
        Err(ChangeError::Outdated { .. })
    ));
    let wish = net.wish(2, &[2, 3, 4], &[5]);
    assert!(matches!(
        net.group(2).change(now, wish),
        Err(ChangeError::UnderWay { .. })
    ));
}

#[test]
fn a_configuration_counts_from_its_append_on() {
    // H42, Raft paper 6: 4 and 5 have the joint entry appended, nothing committed; 2 needs both majorities.
    let mut net = Net::led(3, 1);
    grow(&mut net, &[4, 5]);
    net.change(1, &[1, 4, 5], &[]);
    let joint = net.status(1).configuration;
    for follower in [2, 4, 5] {
        for message in net.take("append", follower) {
            net.deliver(message);
        }
        while net.write_one(follower) {}
    }
    net.wire.clear();
    assert_eq!(net.status(4).configuration, joint);
    net.isolate(1);
    net.isolate(3);
    net.forget_leader(1);
    net.campaign(4);
    net.settle();
    assert_ne!(
        net.leader(),
        Some(4),
        "4 and 5 are a majority of the new half, 2 alone is none of the old one"
    );
    net.heal();
    net.isolate(1);
    net.campaign(4);
    net.settle();
    assert_eq!(net.leader(), Some(4));
    assert_eq!(
        net.voters(4),
        [1, 4, 5],
        "the new leader left the joint configuration (H45)"
    );
    assert!(!net.status(4).configuration.is_joint());
}

#[test]
fn a_truncated_configuration_gives_way_to_the_one_before() {
    // H47
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.add_newcomer(4);
    net.isolate(1);
    net.change(1, &[1, 2, 3], &[4]);
    net.settle();
    assert_eq!(net.status(1).configuration.learners, [id(4)].into());
    net.forget_leader(1);
    net.run_ms(1_000);
    let leader = net.leader().unwrap();
    net.propose(leader, "x");
    net.heal();
    net.run_ms(3_000);
    assert_eq!(net.status(1).configuration.learners, [].into());
    let reverted = Output::Configuration {
        configuration: net.status(1).configuration,
        index: LogIndex::ZERO,
    };
    assert!(net.has_event(1, &reverted));
}

#[test]
fn an_appended_configuration_survives_a_restart() {
    // H47, H46: the last one in the log counts, also a joint one, also if nobody committed it.
    let mut net = Net::led(3, 1);
    grow(&mut net, &[4]);
    net.isolate(1);
    net.change(1, &[1, 2, 4], &[]);
    net.settle();
    let joint = net.status(1).configuration;
    assert!(joint.is_joint());
    net.crash(1);
    assert_eq!(net.status(1).configuration, joint);
}

#[test]
fn a_removed_leader_steps_down_after_the_commit_and_somebody_follows() {
    // H48, Raft paper 6; etcd-io/raft: confchange_v1_remove_leader_stepdown
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[2, 3], &[]);
    net.settle();
    assert_ne!(net.status(1).role, Role::Leader);
    let leader = net
        .leader()
        .expect("told to campaign, not left to time out");
    assert_ne!(leader, 1);
    assert!(net.has_event(1, &Output::Removed));
    net.propose(leader, "x");
    net.run_ms(3_000);
    assert_eq!(
        (net.voters(2), net.applied(3)),
        (vec![2, 3], vec!["x".to_owned()])
    );
    assert_eq!(
        net.leader(),
        Some(leader),
        "the removed one disturbs nobody"
    );
}

#[test]
fn a_removed_follower_learns_of_it() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[1, 2], &[]);
    net.run_ms(1_500);
    assert!(net.has_event(3, &Output::Removed));
    assert_eq!(net.group(3).wake_at(), None);
    assert!(!net.has_event(2, &Output::Removed));
    net.run_ms(10_000);
    assert_eq!(net.status(1).peers.len(), 1, "it is not fed for ever");
}

#[test]
fn a_newcomer_that_reads_old_configurations_is_not_removed_by_them() {
    let mut net = Net::led(3, 1);
    net.change(1, &[1, 2], &[]);
    net.run_ms(100);
    grow(&mut net, &[4]);
    net.change(1, &[1, 2, 4], &[]);
    net.run_ms(1_000);
    assert_eq!(net.voters(4), [1, 2, 4]);
    assert!(!net.has_event(4, &Output::Removed));
}

#[test]
fn a_minority_is_replaced_in_one_change_and_a_voter_may_become_a_learner() {
    let mut net = Net::led(3, 1);
    grow(&mut net, &[4]);
    net.isolate(3);
    net.change(1, &[1, 2, 4], &[3]);
    net.settle();
    let configuration = net.status(1).configuration;
    assert_eq!(
        (
            configuration.learners,
            configuration.outgoing,
            configuration.learners_next
        ),
        ([id(3)].into(), [].into(), [].into())
    );
    net.heal();
    net.run_ms(2_000);
    assert_eq!(net.status(3).configuration.learners, [id(3)].into());
    assert!(!net.has_event(3, &Output::Removed));
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    // H49
    let mut net = Net::led(3, 1);
    let now = net.now;
    let mut refused = |voters: &[u64], learners: &[u64]| {
        let wish = net.wish(1, voters, learners);
        net.group(1).change(now, wish).unwrap_err()
    };
    assert_eq!(refused(&[], &[1]), ChangeError::NoVoters);
    assert_eq!(
        refused(&[1, 2], &[2]),
        ChangeError::Overlap {
            both: [id(2)].into()
        }
    );
    assert_eq!(refused(&[1, 2, 3], &[]), ChangeError::Unchanged);
    let crowd: Vec<u64> = (4..5_000).collect();
    let names = 3 + crowd.len() + 3;
    let most = crate::Configuration::MEMBERS_MAX;
    assert_eq!(
        refused(&[1, 2, 3], &crowd),
        ChangeError::TooMany { names, most }
    );
    let wish = net.wish(2, &[1], &[]);
    assert!(
        matches!(net.group(2).change(now, wish), Err(ChangeError::NotLeader { leader: Some(leader), .. }) if leader == id(1))
    );
}

#[test]
fn a_voter_left_out_by_an_uncommitted_configuration_can_still_finish_it() {
    // Ongaro's thesis 4.2.2; found by the simulator: {1,2} -> {1}, led by 2, which alone holds the last entry when it loses its
    // place. 1 cannot win against the longer log, so 2 must.
    let mut net = Net::led(2, 2);
    net.run_ms(100);
    net.change(2, &[1], &[2]);
    while net.status(2).configuration.is_joint() {
        match net.wire.pop_front() {
            Some(message) => net.deliver(message),
            None => {
                net.write_one(1);
                net.write_one(2);
            }
        }
    }
    net.wire.clear(); // 1 never hears that the joint configuration is left
    while net.write_one(2) {}
    net.wire.clear();
    assert!(net.status(1).configuration.is_joint());
    net.crash(2);
    net.run_ms(10_000);
    assert_eq!(net.leader(), Some(1));
    assert_eq!((net.voters(1), net.voters(2)), (vec![1], vec![1]));
}

#[test]
fn voters_who_are_silent_are_not_left_alone() {
    // 3 died. A change to 3 alone, or to 1 and 3, would never be committed, and no other one could begin.
    let mut net = Net::led(3, 1);
    net.isolate(3);
    net.run_ms(5_000);
    let silent = Members::from([id(3)]);
    for wished in [&[3][..], &[1, 3]] {
        let (now, wish) = (net.now, net.wish(1, wished, &[]));
        let silent = silent.clone();
        assert_eq!(
            net.group(1).change(now, wish),
            Err(ChangeError::VotersSilent { silent })
        );
    }
    net.propose(1, "goes on");
    net.change(1, &[2], &[]);
    net.run_ms(1_000);
    assert_eq!(net.voters(2), [2]);
    assert_eq!(net.applied(2), ["goes on"]);
}

#[test]
fn a_new_leader_counts_on_nobody_it_has_not_heard() {
    // 4 and 5 died before 2 led, which gives everybody a whole timeout to be heard: nothing may rest on them meanwhile.
    let mut net = Net::led(5, 1);
    net.isolate(4);
    net.isolate(5);
    net.run_ms(5_000);
    net.transfer(1, 2);
    net.until(|net| net.leader() == Some(2));
    net.settle();
    let (now, wish) = (net.now, net.wish(2, &[2, 4, 5], &[]));
    let silent = Members::from([id(4), id(5)]);
    assert_eq!(
        net.group(2).change(now, wish),
        Err(ChangeError::VotersSilent { silent })
    );
    net.change(2, &[1, 2, 3], &[]);
    net.run_ms(1_000);
    assert_eq!(net.voters(3), [1, 2, 3]);
}
