//! Handing leadership over.

use super::*;
use crate::message::Body;
use crate::{ProposeError, Role, Term, TransferError, TransferOutcome};

#[test]
fn leadership_moves_at_once_although_everybody_hears_the_leader() {
    // H18: neither pre-vote nor stickiness applies.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    net.settle();
    assert_eq!((net.leader(), net.status(2).term), (Some(2), Term::new(2)));
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::Moved));
    net.propose(2, "x");
    net.settle();
    assert_eq!(net.applied(2), ["x"]);
}

#[test]
fn the_target_catches_up_before_it_campaigns_and_proposals_wait() {
    // H17: entries that are not durable at the target would be lost with it.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.node(2).disk_held = true;
    net.propose(1, "x");
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    net.settle();
    assert_eq!(
        (net.leader(), net.status(2).term),
        (Some(1), Term::new(1)),
        "2 has not made x durable and is told nothing"
    );
    let refused = net.group(1).propose(now, bytes::Bytes::new());
    assert_eq!(
        refused,
        Err(ProposeError::Transferring {
            group: crate::GroupId::ZERO,
            to: id(2)
        })
    );
    net.node(2).disk_held = false;
    net.settle();
    assert_eq!(net.leader(), Some(2));
    assert_eq!(net.applied(2), ["x"]);
}

#[test]
fn a_transfer_that_does_not_happen_ends_and_proposals_go_on() {
    // H19
    let mut net = Net::led(3, 1);
    net.isolate(2);
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    assert_eq!(
        net.group(1).transfer(now, id(3)),
        Err(TransferError::UnderWay { to: id(2) })
    );
    net.run_ms(1_600);
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    net.propose(1, "x");
    net.settle();
    assert_eq!(
        (net.leader(), net.applied(1)),
        (Some(1), vec!["x".to_owned()])
    );
}

#[test]
fn a_removed_target_does_not_campaign() {
    // H16: the word arrives after the removal.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.change(1, &[1, 2], &[]);
    net.run_ms(1_000);
    net.deliver(say(1, 3, 1, Body::CampaignNow));
    assert_eq!(
        (net.status(3).role, net.status(3).term),
        (Role::Follower, Term::new(1))
    );
    let now = net.now;
    assert_eq!(
        net.group(1).transfer(now, id(3)),
        Err(TransferError::NotVoter { to: id(3) })
    );
}

#[test]
fn only_the_leader_of_the_term_is_obeyed() {
    let mut net = Net::led(3, 1);
    net.deliver(say(2, 3, 1, Body::CampaignNow));
    net.deliver(say(2, 3, 0, Body::CampaignNow));
    assert_eq!(net.status(3).role, Role::Follower);
}

#[test]
fn another_leader_aborts_the_transfer() {
    let mut net = Net::led(3, 1);
    net.isolate(2);
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    net.deliver(say(3, 1, 9, heartbeat(1, now, 0, 0)));
    net.settle();
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::Aborted));
    assert_eq!(
        net.group(1).transfer(now, id(2)),
        Err(TransferError::NotLeader {
            group: crate::GroupId::ZERO,
            leader: Some(id(3))
        })
    );
}

#[test]
fn a_lost_word_is_said_again() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    net.group(1).transfer(now, id(3)).unwrap();
    net.drain(1);
    assert_eq!(net.take("campaign_now", 3).len(), 1);
    net.run_ms(1_100);
    assert_eq!(net.leader(), Some(3));
}

#[test]
fn a_late_word_to_a_removed_target_elects_nobody_who_lacks_the_removal() {
    // H16: every word to 3 is late; the transfer times out, 3 is cut off and removed, and only then it hears them. It campaigns as
    // it was told to, past everybody's stickiness, but who holds the removal does not vote for it; one of the others leads on.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    net.group(1).transfer(now, id(3)).unwrap();
    net.drain(1);
    let mut late = net.take("campaign_now", 3);
    for _ in 0..32 {
        net.pass_ms(50);
        late.extend(net.take("campaign_now", 3));
        net.settle();
    }
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    net.isolate(3);
    net.change(1, &[1, 2], &[]);
    net.run_ms(300);
    assert!(!net.status(1).configuration.is_joint());
    net.heal();
    late.into_iter().for_each(|word| net.deliver(word));
    assert_eq!(net.status(3).role, Role::Candidate, "as it was told to");
    net.settle();
    assert_ne!(net.status(3).role, Role::Leader);
    net.run_ms(3_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 3);
    net.propose(leader, "x");
    net.run_ms(600);
    assert_eq!(
        (net.applied(1), net.applied(2)),
        (vec!["x".to_owned()], vec!["x".to_owned()])
    );
}

#[test]
fn a_target_that_dies_with_the_word_costs_one_deadline() {
    // H19: 2 hears the word and falls silent before anybody hears of its campaign. The leader goes on leading, refuses until the
    // deadline and takes everything afterwards: commands, another transfer, a change.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    net.drain(1);
    let word = net.take("campaign_now", 2);
    net.isolate(2);
    word.into_iter().for_each(|word| net.deliver(word));
    net.settle();
    assert_eq!(net.status(2).role, Role::Candidate);
    net.run_ms(1_600);
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
    net.propose(1, "x");
    net.settle();
    assert_eq!(net.applied(1), ["x"]);
    net.change(1, &[1, 3], &[]);
    net.settle();
    let now = net.now;
    net.group(1).transfer(now, id(3)).unwrap();
    net.settle();
    assert_eq!(net.leader(), Some(3));
}

#[test]
fn a_joint_configuration_waits_for_the_end_of_a_transfer_and_no_longer() {
    // H17, H45: entries that come up during a transfer would keep the target behind for ever, so the joint configuration is not left
    // while 1 waits for 2, which is gone; nor may another change begin. When the transfer is given up, the change goes on by itself.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(2);
    net.change(1, &[1, 2], &[3]);
    let now = net.now;
    net.group(1).transfer(now, id(2)).unwrap();
    let wish = net.wish(1, &[1, 2], &[]);
    assert_eq!(
        net.group(1).change(now, wish),
        Err(crate::ChangeError::Transferring { to: id(2) })
    );
    net.run_ms(1_000);
    assert!(net.status(1).configuration.is_joint());
    net.run_ms(500);
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    net.heal();
    net.run_ms(1_000);
    assert!(!net.status(1).configuration.is_joint());
    assert_eq!(net.status(1).commit, net.status(1).last.index);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
}
