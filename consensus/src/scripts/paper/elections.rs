//! Sections 5.1 and 5.2: terms, and who leads.

use super::*;
use crate::message::Body;
use crate::{LogIndex, Role, Term};

fn vote(from: u64, to: u64, term: u64, last: crate::Position) -> crate::Message {
    let transfer = false;
    say(from, to, term, Body::Vote { last, transfer })
}

fn beat(net: &Net, from: u64, to: u64, term: u64) -> crate::Message {
    let body = heartbeat(1, net.now, 0, 0);
    say(from, to, term, body)
}

/// Lets `replica` win its pre-vote and write its vote for itself; its requests for votes are on the wire.
fn stand(net: &mut Net, replica: u64, pre_votes: &[u64]) {
    net.campaign(replica);
    net.wire.clear();
    let campaign = net.status(replica).term.next();
    for voter in pre_votes {
        let granted = true;
        net.deliver(say(
            *voter,
            replica,
            0,
            Body::PreVoteReply { campaign, granted },
        ));
    }
    net.write_one(replica);
    assert_eq!(net.status(replica).role, Role::Candidate);
}

#[test]
fn whoever_sees_a_later_term_follows() {
    // Raft paper 5.1: a leader, a candidate and a follower, each by a message that is otherwise meaningless to it.
    let mut net = Net::led(3, 1);
    net.deliver(say(2, 1, 5, Body::VoteReply { granted: false }));
    assert_eq!(
        (net.status(1).role, net.status(1).term, net.status(1).leader),
        (Role::Follower, Term::new(5), None)
    );
    let mut net = Net::new(3);
    stand(&mut net, 2, &[1]);
    net.deliver(say(1, 2, 7, Body::VoteReply { granted: false }));
    assert_eq!(
        (net.status(2).role, net.status(2).term),
        (Role::Follower, Term::new(7))
    );
    net.deliver(beat(&net, 1, 3, 9));
    assert_eq!(
        (net.status(3).term, net.status(3).leader),
        (Term::new(9), Some(id(1)))
    );
}

#[test]
fn messages_of_an_earlier_term_change_nothing() {
    // Raft paper 5.1: a deposed leader's append and a late candidate's request; both senders learn of the term.
    let mut net = Net::with_logs(&[(5, &[1, 4]), (5, &[1, 4]), (5, &[1, 4])]);
    let before = net.status(3);
    let append = Body::Append {
        prev: at(1, 1),
        entries: entries(3, 2..=4).into(),
        commit: LogIndex::new(4),
    };
    net.deliver(say(1, 3, 4, append));
    assert_eq!(net.status(3), before);
    assert_eq!(
        net.take("outdated", 1).first().map(|reply| reply.term),
        Some(Term::new(5))
    );
    net.deliver(vote(2, 3, 4, at(9, 9)));
    assert_eq!(net.status(3), before);
    let reply = net.take("vote_reply", 2).pop().unwrap();
    assert_eq!(
        (reply.term, reply.body),
        (Term::new(5), Body::VoteReply { granted: false })
    );
}

#[test]
fn everybody_begins_as_a_follower_and_waits() {
    // Raft paper 5.2: nobody asks for anything before its timeout; then one silent group becomes a led one.
    let mut net = Net::new(3);
    for replica in 1..=3 {
        assert_eq!(
            (net.status(replica).role, net.status(replica).leader),
            (Role::Follower, None)
        );
        assert!(net.group(replica).wake_at().unwrap() > net.now);
    }
    assert!(net.wire.is_empty());
    net.run_ms(3_000);
    assert!(net.leader().is_some());
}

#[test]
fn one_vote_per_term_for_whoever_asks_first() {
    // Raft paper 5.2: the second candidate of the term is refused, the first one may ask again, a later term is another vote.
    let mut net = Net::new(3);
    let mut asked = |from, term| {
        net.deliver(vote(from, 3, term, at(0, 0)));
        while net.write_one(3) {}
        let reply = net.take("vote_reply", from).pop().unwrap();
        reply.body == Body::VoteReply { granted: true }
    };
    assert!(asked(1, 1));
    assert!(!asked(2, 1));
    assert!(asked(1, 1));
    assert!(asked(2, 2));
    assert!(!asked(1, 2));
}

#[test]
fn a_candidate_gives_way_to_a_leader_of_its_term_and_to_none_before() {
    // Raft paper 5.2; H1
    let mut net = Net::with_logs(&[(3, &[1]), (3, &[1]), (3, &[1])]);
    stand(&mut net, 2, &[3]);
    assert_eq!(net.status(2).term, Term::new(4));
    net.deliver(beat(&net, 1, 2, 3));
    assert_eq!(net.status(2).role, Role::Candidate, "that reign is over");
    net.deliver(beat(&net, 1, 2, 4));
    assert_eq!(
        (net.status(2).role, net.status(2).leader),
        (Role::Follower, Some(id(1)))
    );
    assert_eq!(net.status(2).vote, Some(id(2)), "and its vote stays (H1)");
}

#[test]
fn a_split_vote_elects_nobody_and_the_next_round_somebody() {
    // Raft paper 5.2; H9: 1 and 2 stand at once, 3 votes for 1, 4 for 2. Answers of the lost round count nothing in the next.
    let mut net = Net::new(4);
    stand(&mut net, 1, &[3, 4]);
    let ones = net.take("vote", 3);
    net.wire.clear();
    stand(&mut net, 2, &[3, 4]);
    let twos = net.take("vote", 4);
    net.wire.clear();
    ones.into_iter()
        .chain(twos)
        .for_each(|message| net.deliver(message));
    net.settle();
    assert_eq!(
        (net.status(3).vote, net.status(4).vote),
        (Some(id(1)), Some(id(2)))
    );
    assert_eq!(net.leader(), None);
    net.run_ms(3_000);
    let leader = net.leader().unwrap();
    assert!(net.status(leader).term > Term::new(1));
    for replica in 1..=4 {
        assert_eq!(net.status(replica).leader, Some(id(leader)));
    }
}

#[test]
fn heartbeats_keep_everybody_from_campaigning() {
    // Raft paper 5.2: a minute without a single command.
    let mut net = Net::led(5, 2);
    net.run_ms(60_000);
    for replica in 1..=5 {
        assert_eq!(
            (net.status(replica).term, net.status(replica).leader),
            (Term::new(1), Some(id(2)))
        );
        assert_eq!(net.log(replica), [1]);
    }
}
