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
    assert_eq!(net.leader(), Some(1), "2 has not made x durable");
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
    net.deliver(say(
        3,
        1,
        9,
        Body::Heartbeat {
            round: 1,
            sent: now,
            upto: crate::LogIndex::ZERO,
            commit: crate::LogIndex::ZERO,
        },
    ));
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
