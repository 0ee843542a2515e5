//! Who may lead, and who may not.

use core::time::Duration;

use super::*;
use crate::message::Body;
use crate::{
    ChangeError, Configuration, Group, GroupId, GroupOptions, LogIndex, Restored, Role, Term,
};

fn vote(from: u64, to: u64, term: u64, last: crate::Position) -> crate::Message {
    say(
        from,
        to,
        term,
        Body::Vote {
            last,
            transfer: false,
        },
    )
}

fn replies(net: &Net, to: u64) -> Vec<bool> {
    let granted = |message: &crate::Message| match message.body {
        Body::VoteReply { granted } if message.to == id(to) => Some(granted),
        _ => None,
    };
    net.wire.iter().filter_map(granted).collect()
}

#[test]
fn three_voters_elect_one_leader_that_opens_its_term() {
    // Raft paper 5.2, 8; etcd-io/raft: campaign
    let mut net = Net::new(3);
    net.run_ms(3_000);
    let leader = net.leader().unwrap();
    let term = net.status(leader).term;
    for replica in 1..=3 {
        assert_eq!(net.log(replica), [term.get()]);
        assert_eq!(net.status(replica).leader, Some(id(leader)));
        assert_eq!(net.status(replica).commit, LogIndex::new(1));
    }
    assert!(net.may_evaluate(leader, term.get()));
}

#[test]
fn a_sole_voter_leads_at_once() {
    // etcd-io/raft: single_node
    let mut net = Net::new(1);
    net.run_ms(1);
    assert_eq!(net.leader(), Some(1));
    assert!(net.may_evaluate(1, 1));
}

#[test]
fn stepping_down_within_a_term_keeps_the_vote() {
    // H1: a former candidate must not vote for another in the same term.
    let mut net = Net::new(3);
    net.campaign(1);
    for voter in [2, 3] {
        net.deliver(say(
            voter,
            1,
            0,
            Body::PreVoteReply {
                campaign: Term::new(1),
                granted: true,
            },
        ));
    }
    net.write_one(1);
    net.wire.clear();
    for voter in [2, 3] {
        net.deliver(say(voter, 1, 1, Body::VoteReply { granted: false }));
    }
    assert_eq!(net.status(1).role, Role::Follower);
    net.deliver(vote(2, 1, 1, at(0, 0)));
    assert_eq!(replies(&net, 2), [false]);
    assert_eq!(net.status(1).vote, Some(id(1)));
}

#[test]
fn a_vote_is_told_only_when_it_is_durable() {
    // H2: crash between vote and fsync.
    let mut net = Net::new(3);
    net.node(2).disk_held = true;
    net.deliver(vote(1, 2, 1, at(0, 0)));
    net.settle();
    assert_eq!(net.status(2).vote, Some(id(1)));
    assert_eq!(net.on_wire("vote_reply", 1), 0);
    net.crash(2);
    assert_eq!(
        net.status(2).vote,
        None,
        "nobody was told, so it may be forgotten"
    );
    net.deliver(vote(3, 2, 1, at(0, 0)));
    net.write_one(2);
    assert_eq!(replies(&net, 3), [true]);
    net.wire.clear();
    net.crash(2);
    net.deliver(vote(1, 2, 1, at(0, 0)));
    assert_eq!(
        replies(&net, 1),
        [false],
        "a vote that was told survives the crash"
    );
}

#[test]
fn a_candidate_asks_only_when_its_own_vote_is_durable() {
    // H2: else it could ask twice in one term, the second time with a shorter log.
    let mut net = Net::new(3);
    net.node(1).disk_held = true;
    net.campaign(1);
    net.settle();
    assert_eq!(
        (net.status(1).role, net.status(1).term),
        (Role::Candidate, Term::new(1))
    );
    assert_eq!(
        (net.status(2).term, net.status(3).term),
        (Term::ZERO, Term::ZERO)
    );
    net.node(1).disk_held = false;
    net.settle();
    assert_eq!(net.leader(), Some(1));
}

#[test]
fn a_refused_candidate_keeps_its_durable_vote() {
    // H3: a vote seen in an answer must not replace one's own.
    let mut net = Net::new(3);
    net.isolate(3);
    net.campaign(1);
    net.settle();
    net.deliver(say(2, 1, 1, Body::VoteReply { granted: false }));
    net.crash(1);
    assert_eq!(
        (net.status(1).term, net.status(1).vote),
        (Term::new(1), Some(id(1)))
    );
}

#[test]
fn a_replica_that_knows_no_configuration_answers_a_vote() {
    // H4: the candidate's configuration may be newer than the voter's own.
    let mut net = Net::led(3, 1);
    net.add_newcomer(4);
    net.deliver(vote(2, 4, 5, at(1, 1)));
    net.settle();
    assert_eq!(net.status(4).vote, Some(id(2)));
}

#[test]
fn a_later_last_term_beats_a_longer_log() {
    // H5, Raft paper 5.4.1
    let mut net = Net::new(3);
    net.deliver(say(
        3,
        1,
        1,
        Body::Append {
            prev: at(0, 0),
            entries: entries(1, 1..=9).into(),
            commit: LogIndex::ZERO,
        },
    ));
    net.settle();
    net.wire.clear();
    net.deliver(say(
        2,
        1,
        20,
        Body::Vote {
            last: at(1, 8),
            transfer: true,
        },
    ));
    assert_eq!(replies(&net, 2), [false]);
    net.wire.clear();
    net.deliver(say(
        2,
        1,
        21,
        Body::Vote {
            last: at(2, 1),
            transfer: true,
        },
    ));
    while net.write_one(1) {}
    assert_eq!(replies(&net, 2), [true]);
}

#[test]
fn an_isolated_follower_disturbs_nobody_when_it_returns() {
    // Ongaro's thesis 9.6; H11: asking has no side effects.
    let mut net = Net::led(3, 1);
    net.isolate(3);
    net.run_ms(10_000);
    assert_eq!(net.status(3).term, Term::new(1));
    net.heal();
    net.run_ms(3_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
}

#[test]
fn a_chain_of_three_keeps_its_leader() {
    // H20: 1 and 2 cannot hear each other, both hear 3.
    let mut net = Net::led(3, 1);
    net.cut(1, 2);
    net.run_ms(20_000);
    assert_eq!((net.leader(), net.status(1).term), (Some(1), Term::new(1)));
}

#[test]
fn a_leader_that_no_majority_hears_steps_down() {
    // H14, E19: it still hears both of them, which proves nothing.
    let mut net = Net::led(3, 1);
    net.cut_one_way(1, 2);
    net.cut_one_way(1, 3);
    net.run_ms(6_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 1);
    assert_ne!(net.status(1).role, Role::Leader);
}

#[test]
fn a_stuck_candidate_of_a_high_term_is_freed_by_the_leader() {
    // H15, H8: its log is short, its term is high, and nobody votes for it.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.isolate(3);
    net.deliver(say(
        3,
        2,
        7,
        Body::Vote {
            last: at(0, 0),
            transfer: true,
        },
    ));
    net.run_ms(6_000);
    let leader = net.leader().unwrap();
    assert!(net.status(leader).term > Term::new(7));
    net.propose(leader, "b");
    net.settle();
    assert_eq!(net.applied(2), ["a", "b"]);
}

#[test]
fn answers_of_another_round_count_nothing() {
    // H9, H10, H13
    let mut net = Net::new(3);
    net.campaign(1);
    net.deliver(say(
        2,
        1,
        0,
        Body::PreVoteReply {
            campaign: Term::new(4),
            granted: true,
        },
    ));
    assert_eq!(net.status(1).role, Role::PreCandidate);
    net.settle();
    assert_eq!(net.leader(), Some(1));
    net.deliver(say(
        2,
        1,
        1,
        Body::PreVoteReply {
            campaign: Term::new(2),
            granted: true,
        },
    ));
    assert_eq!(
        (net.status(1).role, net.status(1).term),
        (Role::Leader, Term::new(1))
    );
}

#[test]
fn suspicion_speeds_an_election_up_but_is_no_evidence() {
    let mut net = Net::led(3, 1);
    let now = net.now;
    net.group(2).peer_silent(now, id(1));
    net.run_ms(5_000);
    assert_eq!(
        (net.leader(), net.status(1).term),
        (Some(1), Term::new(1)),
        "3 still hears the leader and refuses"
    );
    net.isolate(1);
    net.forget_leader(1);
    net.run_ms(400);
    assert!(
        net.status(2).role == Role::Leader || net.status(3).role == Role::Leader,
        "well below the election timeout"
    );
}

#[test]
fn a_process_that_slept_listens_before_it_campaigns() {
    // E22
    let mut net = Net::led(3, 1);
    let later = net.now + Duration::from_secs(5);
    net.group(2).tick(later);
    assert_eq!(net.status(2).role, Role::Follower);
    net.group(1).tick(later);
    assert_eq!(
        net.status(1).role,
        Role::Leader,
        "a leader asks before it judges"
    );
}

#[test]
fn survivors_stagger_and_groups_share_them_out() {
    // E33: of two survivors one always waits longer by its rank, and each of them is first in some groups.
    let mut first = [0; 2];
    for group in 0..20 {
        let deadline = |replica: u64| {
            let restored = Restored::founding(Configuration::of_voters([1, 2, 3].map(id)));
            let options = GroupOptions::default().check().unwrap();
            let mut group = Group::new(
                options,
                GroupId::new(group),
                id(replica),
                restored,
                replica + group * 7,
                Duration::ZERO,
            )
            .unwrap();
            let body = heartbeat(1, Duration::ZERO, 0, 0);
            group.receive(
                Duration::ZERO,
                crate::Message {
                    group: group.id(),
                    ..say(1, replica, 1, body)
                },
            );
            group.wake_at().unwrap()
        };
        let (second, third) = (deadline(2), deadline(3));
        let step = GroupOptions::default().election_stagger;
        let base = GroupOptions::default().election_timeout;
        let (early, late) = (second.min(third), second.max(third));
        assert!(
            base <= early
                && early < base + step / 3
                && base + step <= late
                && late < base + step * 4 / 3,
            "two thirds of a step apart"
        );
        first[usize::from(third < second)] += 1;
    }
    assert_eq!(first, [10, 10]);
}

#[test]
fn a_timeout_is_drawn_anew_for_each_election() {
    // E33
    let mut net = Net::led(3, 1);
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let leader = net.leader().unwrap();
        let follower = (1..=3).find(|replica| *replica != leader).unwrap();
        net.run_ms(500);
        waits.insert(net.group(follower).wake_at().unwrap() - net.now);
        net.isolate(leader);
        net.run_ms(4_000);
        net.heal();
        net.run_ms(4_000);
    }
    assert!(waits.len() > 1, "{waits:?}");
}

#[test]
fn one_voter_and_one_learner_survive_the_learners_death_and_wait_for_the_voter() {
    // E24: two nodes = one voter and one learner.
    let mut net = Net::led(1, 1);
    net.add_newcomer(2);
    net.change(1, &[1], &[2]);
    net.run_ms(1_000);
    net.isolate(2);
    net.propose(1, "alone");
    net.run_ms(10_000);
    assert_eq!(net.applied(1), ["alone"]);
    assert_eq!(
        (net.status(2).role, net.group(2).wake_at()),
        (Role::Follower, None),
        "a learner never campaigns"
    );
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.applied(2), ["alone"]);
}

#[test]
fn a_wiped_store_cannot_vote_in_the_place_of_its_former_self() {
    // E26: "x" lives on 1 and 3; 3 is wiped and comes back as 4; then 1 dies. 2 must not be elected without "x".
    let mut net = Net::led(3, 1);
    net.cut(1, 2);
    net.cut(2, 3);
    net.propose(1, "x");
    net.settle();
    assert_eq!(net.applied(1), ["x"]);
    net.nodes.remove(&3);
    net.add_newcomer(4);
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    net.run_ms(20_000);
    assert_eq!(net.status(2).role, Role::PreCandidate);
    assert_eq!(net.status(4).role, Role::Follower);
}

#[test]
fn nobody_votes_before_it_has_the_log() {
    // E26, Raft paper 6: a replica becomes a voter only after it was a learner that caught up.
    let mut net = Net::led(3, 1);
    net.add_newcomer(4);
    let wish = net.wish(1, &[1, 2, 4], &[]);
    let now = net.now;
    assert_eq!(
        net.group(1).change(now, wish),
        Err(ChangeError::NotLearner { replica: id(4) })
    );
    net.isolate(4);
    net.change(1, &[1, 2, 3], &[4]);
    net.settle();
    let wish = net.wish(1, &[1, 2, 4], &[]);
    assert!(matches!(
        net.group(1).change(now, wish),
        Err(ChangeError::LearnerBehind { .. })
    ));
    net.heal();
    net.run_ms(1_000);
    net.change(1, &[1, 2, 4], &[]);
}
