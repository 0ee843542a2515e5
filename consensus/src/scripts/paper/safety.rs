//! Sections 5.4 and 5.5: what is committed stays, whoever leads next, whoever crashes.

use super::*;
use crate::message::Body;
use crate::{LogIndex, Role, Term};

#[test]
fn a_candidate_without_a_committed_entry_is_not_elected() {
    // Raft paper 5.4.1: "kept" is on 1, 2 and 3; 1 dies; 4 and 5 have never seen it and ask again and again.
    let mut net = Net::led(5, 1);
    net.run_ms(100);
    for late in [4, 5] {
        [1, 2, 3].into_iter().for_each(|other| net.cut(late, other));
    }
    net.propose(1, "kept");
    net.settle();
    assert_eq!(net.status(1).commit, LogIndex::new(2));
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    for _ in 0..3 {
        net.campaign(4);
        net.campaign(5);
        net.settle();
        assert_eq!(net.status(4).term, Term::new(1), "refused, and harmless");
    }
    net.run_ms(2_000);
    let leader = net.leader().unwrap();
    assert!([2, 3].contains(&leader));
    net.run_ms(500);
    assert_eq!(
        (net.applied(4), net.applied(5)),
        (vec!["kept".to_owned()], vec!["kept".to_owned()])
    );
}

/// Figure 8 (c): S1 led term 2 and put an entry on 2; S5 led term 3 and put another one in its place; S1 leads again in term 4
/// and brings its old entry to 3, so that a majority holds it. Nothing of term 4 has left S1.
fn figure_8_c() -> Net {
    let mut net = Net::with_logs(&[
        (3, &[1, 2]),
        (3, &[1, 2]),
        (3, &[1]),
        (3, &[1]),
        (3, &[1, 3]),
    ]);
    net.isolate(5);
    net.campaign(1);
    net.until(|net| net.leader() == Some(1));
    assert_eq!(net.status(1).term, Term::new(4));
    net.drain(1);
    net.wire.clear();
    while net.write_one(1) {}
    net.wire.clear();
    let body = Body::Append {
        prev: at(1, 1),
        entries: entries(2, 2..=2).into(),
        commit: LogIndex::ZERO,
    };
    net.deliver(say(1, 3, 4, body));
    net.deliver(say(
        2,
        1,
        4,
        Body::Appended {
            matched: LogIndex::new(2),
        },
    ));
    while net.write_one(3) {}
    net.take("appended", 1)
        .into_iter()
        .for_each(|message| net.deliver(message));
    net.wire.clear();
    let logs: Vec<_> = (1..=5).map(|replica| net.log(replica)).collect();
    assert_eq!(
        logs,
        [vec![1, 2, 4], vec![1, 2], vec![1, 2], vec![1], vec![1, 3]]
    );
    assert_eq!(
        net.status(1).peers[1].matched,
        LogIndex::new(2),
        "S1 knows that 1, 2 and 3 hold it"
    );
    assert_eq!(
        net.status(1).commit,
        LogIndex::ZERO,
        "and commits nothing (H23)"
    );
    net
}

#[test]
fn figure_8_without_an_entry_of_its_own_term_a_leader_may_be_overwritten() {
    // Raft paper 5.4.2, figure 8 (c) and (d): S1 crashes; S5 wins with its entry of term 3, and the entry of term 2 is gone from
    // everywhere although a majority once held it. Nobody had been told that it was committed.
    let mut net = figure_8_c();
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(5);
    net.settle();
    net.campaign(5); // the first answers told it of term 4
    net.settle();
    assert_eq!((net.leader(), net.status(5).term), (Some(5), Term::new(5)));
    net.run_ms(100);
    net.heal();
    net.run_ms(3_000);
    for replica in 1..=5 {
        assert_eq!(net.log(replica), [1, 3, 5]);
    }
}

#[test]
fn figure_8_with_an_entry_of_its_own_term_a_leader_is_safe() {
    // Raft paper 5.4.2, figure 8 (c) and (e): S1 brings its own entry of term 4 to a majority, and with it the old one is
    // committed; S5 cannot win any more.
    let mut net = figure_8_c();
    net.run_ms(600); // a heartbeat shows what is missing
    assert_eq!((net.log(2), net.log(3)), (vec![1, 2, 4], vec![1, 2, 4]));
    assert_eq!(net.status(1).commit, LogIndex::new(3));
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    for _ in 0..3 {
        net.campaign(5);
        net.settle();
        assert_ne!(net.status(5).role, Role::Leader);
    }
    net.run_ms(5_000);
    net.heal();
    net.run_ms(3_000);
    let leader = net.leader().unwrap();
    assert_ne!(leader, 5);
    for replica in 1..=5 {
        assert_eq!(net.log(replica)[..3], [1, 2, 4]);
    }
}

#[test]
fn whoever_is_elected_holds_what_was_committed() {
    // Raft paper 5.4.3: ten reigns, each begun while another replica is cut off; what any of them committed, every later leader has.
    let mut net = Net::led(5, 1);
    let mut said = Vec::new();
    for round in 0..10_u64 {
        let leader = net.leader().unwrap();
        net.heal();
        net.isolate(round % 5 + 1);
        if leader != round % 5 + 1 {
            said.push(format!("round {round}"));
            net.propose(leader, said.last().unwrap());
            net.run_ms(1_000);
            assert_eq!(net.applied(leader), said);
        }
        net.isolate(leader);
        net.run_ms(8_000);
        if net.leader() == Some(leader) || net.leader().is_none() {
            net.heal();
            net.run_ms(8_000);
        }
        let next = net.leader().unwrap();
        assert_eq!(net.applied(next), said, "round {round}");
    }
    assert!(said.len() >= 5);
}

#[test]
fn a_crashed_follower_is_fed_until_it_answers() {
    // Raft paper 5.5: the leader tries for as long as it takes.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    net.crash(3);
    net.propose(1, "a");
    net.propose(1, "b");
    net.run_ms(60_000);
    assert_eq!(net.log(3), [1]);
    net.heal();
    net.run_ms(1_100);
    assert_eq!(net.applied(3), ["a", "b"]);
}

#[test]
fn a_request_answered_before_the_crash_may_come_again() {
    // Raft paper 5.5: the append was written, the answer was not said; after the restart the same append comes once more.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.propose(1, "a");
    let again = net.take("append", 3);
    again
        .iter()
        .cloned()
        .for_each(|message| net.deliver(message));
    while net.write_one(3) {}
    net.take("appended", 1);
    net.crash(3);
    assert_eq!(net.log(3), [1, 1]);
    again.into_iter().for_each(|message| net.deliver(message));
    assert_eq!(net.log(3), [1, 1]);
    net.run_ms(1_100);
    assert_eq!(
        (net.log(3), net.applied(3)),
        (vec![1, 1], vec!["a".to_owned()])
    );
}
