//! Handing leadership over.

use super::*;
use crate::message::Body;
use crate::{GroupOptions, Output, ProposeError, Role, Term, TransferError, TransferOutcome};

#[test]
fn leadership_moves_at_once_although_everybody_hears_the_leader() {
    // H18: neither pre-vote nor stickiness applies.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.transfer(1, 2);
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
    net.transfer(1, 2);
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
    net.transfer(1, 2);
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
    net.transfer(1, 2);
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
    net.transfer(1, 3);
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
    net.transfer(1, 3);
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
    net.transfer(1, 2);
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
    net.transfer(1, 3);
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
    net.transfer(1, 2);
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

/// A group of three led by 1, with small appends one at a time; 3 lacks fifty entries and hears of them from now on.
fn lagging() -> Net {
    let options = GroupOptions {
        append_bytes: 64,
        inflight_appends: 1,
        ..Net::options()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    net.isolate(3);
    for entry in 0..50 {
        net.propose(1, &format!("entry {entry}"));
    }
    net.settle();
    net.run_ms(1_000);
    net.heal();
    net
}

fn prepared(net: &Net) -> bool {
    net.has_event(1, &Output::TransferPrepared { to: id(3) })
}

#[test]
fn proposals_are_taken_while_the_target_comes_near() {
    // A transfer to a target that was far behind refused everything until it had caught up.
    let mut net = lagging();
    net.prepare_transfer(1, 3);
    let mut taken = 0;
    while !prepared(&net) {
        // A heartbeat finds the target; then an entry or two travel in each millisecond, and one is added now and then.
        assert_eq!(net.status(1).prepares, Some(id(3)), "it is not given up");
        net.propose(1, &format!("meanwhile {taken}"));
        taken += 1;
        for _ in 0..8 {
            net.pass_ms(1);
            for _ in 0..12 {
                net.step();
            }
        }
    }
    assert!(taken > 20, "it came near after {taken} entries");
    let (last, matched) = (net.status(1).last.index, net.status(1).peers[1].matched);
    let missing = last.get() - matched.get();
    assert!(missing <= 5, "{missing} entries are missing");
    assert_eq!(net.status(1).prepares, None, "it is the caller's turn");
    net.propose(1, "not yet at rest");
    net.transfer(1, 3);
    net.settle();
    assert_eq!(net.leader(), Some(3));
}

#[test]
fn a_target_that_lacks_nothing_is_near_at_once() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.prepare_transfer(1, 3);
    assert!(prepared(&net));
    assert_eq!(net.leader(), Some(1), "nobody was told to campaign");
}

#[test]
fn a_target_that_comes_no_nearer_is_as_near_as_it_gets() {
    // Something is always on its way: each round takes as long as the one before.
    let (net, rounds) = rounds_of(20);
    assert!(prepared(&net));
    assert!(rounds < 10, "it is waited for in vain");
    assert!(rounds >= 2, "one round tells nothing");
}

#[test]
fn a_target_that_needs_too_long_for_a_round_is_given_up() {
    // What it lacks now would keep proposals waiting for as long.
    let (net, _) = rounds_of(800);
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    assert!(!prepared(&net));
}

#[test]
fn a_silent_target_is_given_up_and_no_proposal_waited() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    net.propose(1, "before");
    let now = net.now;
    net.prepare_transfer(1, 3);
    let wish = net.wish(1, &[1, 2], &[]);
    assert_eq!(
        net.group(1).change(now, wish),
        Err(crate::ChangeError::Transferring { to: id(3) })
    );
    for passed in 0..15 {
        net.propose(1, &format!("after {passed}"));
        net.run_ms(100);
    }
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    assert!(!prepared(&net));
    assert_eq!(net.applied(1).len(), 16);
    assert_eq!(net.leader(), Some(1));
}

#[test]
fn a_transfer_takes_the_place_of_its_preparation() {
    let mut net = lagging();
    let now = net.now;
    net.prepare_transfer(1, 3);
    net.transfer(1, 3);
    net.prepare_transfer(1, 3);
    assert!(
        matches!(
            net.group(1).propose(now, bytes::Bytes::new()),
            Err(ProposeError::Transferring { .. })
        ),
        "it is not made undone"
    );
    net.run_ms(1_400);
    assert_eq!(net.leader(), Some(3));
    assert!(!prepared(&net));
}

#[test]
fn another_leader_ends_a_preparation() {
    let mut net = Net::led(3, 1);
    net.isolate(3);
    net.propose(1, "x");
    let now = net.now;
    net.prepare_transfer(1, 3);
    net.deliver(say(2, 1, 9, heartbeat(1, now, 0, 0)));
    net.settle();
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::Aborted));
    assert!(!prepared(&net));
}

#[test]
fn a_joint_configuration_is_left_while_a_target_comes_near() {
    // Unlike during a transfer: it need not be waited for until the target, which is cut off, is given up.
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    net.isolate(2);
    net.change(1, &[1, 2, 3, 4], &[5]);
    net.prepare_transfer(1, 2);
    net.run_ms(200);
    assert_eq!(net.status(1).prepares, Some(id(2)));
    assert!(!net.status(1).configuration.is_joint());
}

#[test]
fn a_preparation_gives_way_to_another_target() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    net.propose(1, "x");
    net.prepare_transfer(1, 3);
    net.transfer(1, 2);
    net.settle();
    assert_eq!(net.leader(), Some(2));
    let given_up = Output::TransferEnded {
        to: id(3),
        outcome: TransferOutcome::Aborted,
    };
    assert!(net.has_event(1, &given_up));
}

#[test]
fn a_target_that_comes_slowly_leads_at_last() {
    // Its rounds take longer than a pause should, and never get shorter: a node that is to be left would keep its leaderships for ever.
    let (mut net, _) = rounds_of(450);
    assert!(prepared(&net));
    net.node(3).disk_held = false;
    net.transfer(1, 3);
    net.settle();
    assert_eq!(net.leader(), Some(3));
}

/// A leader that prepares a transfer to 3, which needs so many milliseconds for each entry, until it is prepared or given up; and how
/// many it wrote.
fn rounds_of(millis: u64) -> (Net, u32) {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.node(3).disk_held = true;
    net.propose(1, "x");
    net.prepare_transfer(1, 3);
    net.settle();
    let mut rounds = 0;
    while net.status(1).prepares.is_some() {
        rounds += 1;
        net.run_ms(millis);
        net.propose(1, "on its way");
        net.write_one(3);
        net.settle();
    }
    (net, rounds)
}
