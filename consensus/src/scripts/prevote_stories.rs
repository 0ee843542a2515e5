//! Asking before campaigning, and what it meets: terms apart, logs apart, leaders that are still heard.

use core::time::Duration;

use super::*;
use crate::message::Body;
use crate::{ChangeError, LogIndex, Role, Term};

#[test]
fn terms_apart_are_no_reason_to_stay_without_a_leader() {
    // H6, H8: two of three are left. Their terms are 5 and 1; once the log of the later term is the longer one, once the shorter.
    // Answers carry the answerer's term: an earlier one must still count, a later one must be learned from a refusal.
    for (first, second, elected) in [
        ((5, &[1, 1][..]), (1, &[1][..]), 1),
        ((1, &[1, 1][..]), (5, &[1][..]), 1),
        ((5, &[1][..]), (1, &[1, 1][..]), 2),
    ] {
        let mut net = Net::with_logs(&[first, second, (9, &[1])]);
        net.isolate(3);
        net.run_ms(5_000);
        assert_eq!(net.leader(), Some(elected));
        assert_eq!(net.status(elected).term, Term::new(6));
    }
}

#[test]
fn two_camps_that_cannot_lead_alone_find_one_leader() {
    // H8: 1 and 2 have the long log and term 2, 3 and 4 the short log and term 8, 5 is down. Only the long log can win, only in a
    // term above 8.
    let long: &[u64] = &[1, 2, 2];
    let mut net = Net::with_logs(&[(2, long), (2, long), (8, &[1]), (8, &[1]), (0, &[])]);
    net.isolate(5);
    net.run_ms(5_000);
    let leader = net.leader().unwrap();
    assert!([1, 2].contains(&leader));
    assert_eq!(net.status(leader).term, Term::new(9));
    for replica in 1..=4 {
        assert_eq!(net.log(replica), [1, 2, 2, 9]);
    }
}

#[test]
fn a_pre_vote_round_ends_when_the_term_moves() {
    // H13, H10: 1 asks for term 1; before the answers come it hears of term 4. They must carry it into no campaign at all.
    let mut net = Net::new(3);
    net.campaign(1);
    net.deliver(say(2, 1, 4, Body::VoteReply { granted: false }));
    for voter in [2, 3] {
        let (campaign, granted) = (Term::new(1), true);
        net.deliver(say(voter, 1, 0, Body::PreVoteReply { campaign, granted }));
        let campaign = Term::new(5);
        net.deliver(say(voter, 1, 4, Body::PreVoteReply { campaign, granted }));
    }
    assert_eq!(
        (net.status(1).role, net.status(1).term),
        (Role::Follower, Term::new(4))
    );
}

/// When 3, which does not hear 1 from now on and is told so, asks 2 for a vote in the next `millis`.
fn asks_of_a_deaf_one(net: &mut Net, millis: u64) -> Vec<Duration> {
    net.cut_one_way(1, 3);
    let cut = net.now;
    net.group(3).peer_silent(cut, id(1));
    let mut asked = Vec::new();
    for _ in 0..millis {
        net.pass_ms(1);
        if net.on_wire("pre_vote", 2) > 0 {
            asked.push(net.now - cut);
        }
        net.settle();
    }
    asked
}

#[test]
fn who_alone_cannot_hear_the_leader_asks_soon_again_and_then_less_often() {
    // A detector speaks a little earlier here than there: the first refusal must not cost the others' patience. But a thousand groups
    // that cannot hear a node must not ask ten times a second for as long as that lasts.
    let mut net = Net::led(3, 1);
    net.run_ms(1_000);
    let asked = asks_of_a_deaf_one(&mut net, 10_000);
    assert_eq!(net.leader(), Some(1), "it is heard by 2");
    let gaps: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    // After the first round all three have a rank: 3 is second or third of them, or first.
    let fits = |rank: u64| {
        let (mut draw, mut fits) = (50, gaps[0] < Duration::from_millis(50 + 300 + 150));
        for (gap, base) in gaps.iter().zip([50, 100, 200, 400, 500, 500]).skip(1) {
            draw = (draw + 50).min(150);
            let [least, most] =
                [0, draw].map(|more| Duration::from_millis(base + 150 * rank + more + 1));
            fits &= (least - Duration::from_millis(1)..=most).contains(gap);
        }
        fits
    };
    assert!((0..=2).any(fits), "{gaps:?}");
    assert!((12..=22).contains(&asked.len()), "{asked:?}");
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.status(3).leader, Some(id(1)));
    // Known again, lost again: it begins anew.
    let again = asks_of_a_deaf_one(&mut net, 1_000);
    assert!(
        again[1] - again[0] <= Duration::from_millis(50 + 300 + 101),
        "{again:?}"
    );
}

#[test]
fn survivors_that_do_not_know_the_same_of_the_dead_elect_one_of_them_soon() {
    // E33: a voter that restarted knows nobody who led, so its place among the others may be the same as the other survivor's.
    for dead in 1..=3 {
        for restarted in (1..=3).filter(|replica| *replica != dead) {
            let mut net = Net::led(3, dead);
            net.run_ms(1_000);
            net.isolate(dead);
            net.crash(restarted);
            net.forget_leader(dead);
            let began = net.now;
            while net.leader().is_none_or(|leader| leader == dead) {
                net.run_ms(1);
                let took = net.now - began;
                assert!(
                    took < Duration::from_millis(1_100),
                    "{dead}, {restarted}: {took:?}"
                );
            }
        }
    }
}

#[test]
fn a_split_vote_beside_a_dead_voter_costs_no_more_than_a_lost_one() {
    // 2 and 3 both are asked for and both vote for themselves; 1 is dead and never answers.
    let mut net = Net::led(3, 1);
    net.run_ms(1_000);
    net.isolate(1);
    net.forget_leader(1);
    // Both pre-votes are answered before either's vote is on disk.
    net.node(2).disk_held = true;
    net.node(3).disk_held = true;
    net.campaign(2);
    net.campaign(3);
    net.settle();
    assert_eq!(
        [2, 3].map(|replica| net.status(replica).role),
        [Role::Candidate; 2]
    );
    net.node(2).disk_held = false;
    net.node(3).disk_held = false;
    net.settle();
    assert_eq!(
        [2, 3].map(|replica| net.status(replica).role),
        [Role::Candidate; 2]
    );
    net.run_ms(300);
    assert!(net.leader().is_some_and(|leader| leader != 1));
}

#[test]
fn granting_a_pre_vote_changes_nothing_at_all() {
    // H11: neither the state nor the timer; whoever grants campaigns as soon as it would have.
    let mut net = Net::new(3);
    net.run_ms(100);
    let (before, timer) = (net.status(2), net.group(2).wake_at());
    let body = Body::PreVote {
        campaign: Term::new(1),
        last: at(0, 0),
    };
    net.deliver(say(3, 2, 0, body));
    let reply = net.take("pre_vote_reply", 3).pop().unwrap();
    assert!(matches!(
        reply.body,
        Body::PreVoteReply { granted: true, .. }
    ));
    assert_eq!((net.status(2), net.group(2).wake_at()), (before, timer));
    assert!(net.node(2).queue.is_empty(), "nothing to write either");
}

#[test]
fn a_leader_that_starts_again_is_not_refused_for_its_own_sake() {
    // H12, E17: 2 and 3 have just heard 1, which restarts and asks: the leader they stand by is the one that asks. Whoever else asks
    // meanwhile is refused as ever.
    let mut net = Net::led(3, 1);
    net.run_ms(510);
    net.crash(1);
    net.cut(1, 2);
    net.cut(1, 3);
    net.campaign(2);
    net.settle();
    assert_eq!(net.status(2).role, Role::PreCandidate, "3 stands by 1");
    net.heal();
    net.campaign(1);
    net.settle();
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(2)));
    net.crash(1);
    net.run_ms(1_300);
    assert_eq!(
        (net.leader(), net.status(1).term),
        (Some(1), Term::new(3)),
        "by itself too, before anybody's patience with it ends"
    );
}

#[test]
fn learners_do_not_keep_a_leader_in_office() {
    // H14: 2 and 3, the voters, are gone; 4 and 5, learners, answer every heartbeat.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.add_newcomer(4);
    net.add_newcomer(5);
    net.change(1, &[1, 2, 3], &[4, 5]);
    net.run_ms(1_000);
    net.isolate(2);
    net.isolate(3);
    net.run_ms(2_600);
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn a_newcomer_that_has_said_nothing_yet_is_no_reason_to_step_down() {
    // H14: first a learner that never answers, then a voter that falls silent as soon as it is one.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.add_newcomer(4);
    net.isolate(4);
    net.change(1, &[1, 2, 3], &[4]);
    net.run_ms(5_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
    net.heal();
    net.run_ms(1_000);
    net.change(1, &[1, 2, 3, 4], &[]);
    net.isolate(4);
    net.run_ms(10_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
    assert!(!net.status(1).configuration.is_joint());
}

#[test]
fn a_new_leader_has_a_whole_timeout_to_be_heard() {
    // H14: long after the start 2 is elected, and nothing it sends arrives at first. It has heard from nobody since it leads, and that
    // is no reason to give up at its first beat.
    let mut net = Net::led(3, 1);
    net.run_ms(20_100);
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    net.until(|net| net.leader() == Some(2));
    net.isolate(2);
    net.wire.clear();
    net.run_ms(1_300);
    assert_eq!(net.status(2).role, Role::Leader);
    net.heal();
    net.run_ms(3_000);
    assert_eq!((net.leader(), net.status(2).term), (Some(2), Term::new(2)));
}

#[test]
fn a_silent_learner_is_not_made_a_voter() {
    // H14: 2 and 3 had the whole log and then died. As voters they would count as silent at once, and 1, which led alone before,
    // could never commit again, not even to send them away.
    let mut net = Net::led(1, 1);
    net.add_newcomer(2);
    net.add_newcomer(3);
    net.change(1, &[1], &[2, 3]);
    net.run_ms(1_000);
    net.isolate(2);
    net.isolate(3);
    net.run_ms(5_000);
    let (now, wish) = (net.now, net.wish(1, &[1, 2, 3], &[]));
    assert_eq!(
        net.group(1).change(now, wish),
        Err(ChangeError::LearnerSilent { replica: id(2) })
    );
    net.propose(1, "goes on");
    net.run_ms(5_000);
    assert_eq!(net.applied(1), ["goes on"]);
    net.heal();
    net.run_ms(1_000);
    net.change(1, &[1, 2, 3], &[]);
    net.run_ms(1_000);
    assert_eq!(net.status(3).configuration.voters.len(), 3);
    assert_eq!(net.status(3).commit, net.status(1).last.index);
    assert!(net.status(1).last.index > LogIndex::new(3));
}
