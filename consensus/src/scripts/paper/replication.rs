//! Section 5.3: how logs become one.

use super::*;
use crate::message::Body;
use crate::{LogIndex, PeerState, Term};

fn append(
    from: u64,
    to: u64,
    term: u64,
    prev: crate::Position,
    entries: Vec<crate::Entry>,
) -> crate::Message {
    let commit = LogIndex::ZERO;
    let body = Body::Append {
        prev,
        entries: entries.into(),
        commit,
    };
    say(from, to, term, body)
}

#[test]
fn an_entry_is_committed_when_a_majority_holds_it() {
    // Raft paper 5.3: with two of five cut off it is, with a third one it is not, and it is as soon as that one is back.
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    net.isolate(4);
    net.isolate(5);
    net.propose(1, "three hold it");
    net.settle();
    assert_eq!(net.status(1).commit, LogIndex::new(2));
    net.isolate(3);
    net.propose(1, "two hold it");
    net.run_ms(900);
    assert_eq!(
        (net.status(1).commit, net.log(2)),
        (LogIndex::new(2), vec![1, 1, 1])
    );
    assert_eq!(net.applied(1), ["three hold it"]);
    net.heal();
    net.run_ms(2_000);
    for replica in 1..=5 {
        assert_eq!(net.applied(replica), ["three hold it", "two hold it"]);
    }
}

#[test]
fn an_append_needs_the_entry_before_it() {
    // Raft paper 5.3: the entry before is missing, then another one than at the leader; nothing is taken, the leader is told.
    let mut net = Net::with_logs(&[(4, &[1, 2, 4]), (4, &[1, 2, 4]), (3, &[1, 3])]);
    net.deliver(append(1, 3, 4, at(2, 3), entries(4, 4..=4)));
    net.deliver(append(1, 3, 4, at(2, 2), entries(4, 3..=3)));
    net.settle();
    assert_eq!(net.log(3), [1, 3]);
    net.deliver(append(1, 3, 4, at(1, 1), entries(2, 2..=2)));
    assert_eq!(
        net.log(3),
        [1, 2],
        "the conflicting entry went, the leader's came"
    );
    net.deliver(append(1, 3, 4, at(2, 2), entries(4, 3..=3)));
    assert_eq!(net.log(3), [1, 2, 4]);
}

#[test]
fn every_follower_of_figure_7_ends_with_the_leaders_log() {
    // Raft paper 5.3, figure 7; etcd-io/raft: probe_and_replicate. 1 leads term 8; 2 to 7 are the figure's (a) to (f): two miss
    // entries, two have more than the leader, two have entries that nobody else has. (c) and (d) refuse the vote.
    let leaders = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let mut logs: Vec<(u64, &[u64])> = vec![(7, &leaders)];
    logs.extend(followers.map(|log| (7, log)));
    let mut net = Net::with_logs(&logs);
    net.campaign(1);
    net.until(|net| net.leader() == Some(1));
    assert_eq!(net.status(1).term, Term::new(8));
    net.settle();
    assert_eq!((net.status(4).vote, net.status(5).vote), (None, None));
    let whole: Vec<_> = leaders.into_iter().chain([8]).collect();
    for replica in 1..=7 {
        assert_eq!(net.log(replica), whole, "replica {replica}");
    }
    net.run_ms(100);
    for replica in 1..=7 {
        assert_eq!(net.status(replica).commit, LogIndex::new(11));
    }
    let peers = net.status(1).peers;
    assert!(peers.iter().all(|peer| peer.state == PeerState::Replicate));
}

#[test]
fn a_leader_only_appends() {
    // Raft paper 5.3 (Leader Append-Only): what a new leader finds in its own log stays there, also what nobody else has.
    let mut net = Net::with_logs(&[(3, &[1, 2, 3, 3]), (3, &[1, 2]), (3, &[1])]);
    net.elect(1);
    assert_eq!(net.log(1), [1, 2, 3, 3, 4]);
    net.deliver(append(2, 1, 4, at(1, 1), entries(4, 2..=2)));
    net.deliver(say(
        3,
        1,
        4,
        Body::Conflict {
            rejected: LogIndex::new(4),
            hint: at(1, 1),
        },
    ));
    net.propose(1, "x");
    net.settle();
    for replica in 1..=3 {
        assert_eq!(net.log(replica), [1, 2, 3, 3, 4, 4]);
    }
}
