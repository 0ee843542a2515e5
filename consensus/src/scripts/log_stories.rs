//! What logs hold, what is committed, what acknowledgements may claim.

use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, Output, PeerState, ProposeError, Role, Sabotage, Term};

fn append(
    from: u64,
    to: u64,
    term: u64,
    prev: crate::Position,
    entries: Vec<crate::Entry>,
    commit: u64,
) -> crate::Message {
    say(
        from,
        to,
        term,
        Body::Append {
            prev,
            entries: entries.into(),
            commit: LogIndex::new(commit),
        },
    )
}

fn acknowledged(net: &Net, to: u64) -> Vec<u64> {
    let matched = |message: &crate::Message| match message.body {
        Body::Appended { matched } if message.to == id(to) => Some(matched.get()),
        _ => None,
    };
    net.wire.iter().filter_map(matched).collect()
}

#[test]
fn proposals_reach_every_replica_in_order() {
    // Raft paper 5.3
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
    }
    net.settle();
    net.run_ms(100);
    for replica in 1..=3 {
        assert_eq!(net.applied(replica), ["a", "b", "c"]);
    }
}

#[test]
fn many_proposals_between_two_polls_share_one_write_and_one_append() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    for _ in 0..64 {
        net.group(1)
            .propose(now, bytes::Bytes::from_static(b"x"))
            .unwrap();
    }
    net.drain(1);
    assert_eq!(
        (
            net.node(1).queue.len(),
            net.on_wire("append", 2),
            net.on_wire("append", 3)
        ),
        (1, 1, 1)
    );
}

fn sabotaged(sabotage: Option<Sabotage>) -> GroupOptions {
    GroupOptions {
        sabotage,
        ..GroupOptions::default()
    }
}

/// Raft paper, figure 8: an entry of term 1 reaches a majority under a leader of a later term, that leader's own entry does not.
/// Returns the commit index then, and after its own entry got there too.
fn figure_8(sabotage: Option<Sabotage>) -> [u64; 2] {
    let mut net = Net::with(5, sabotaged(sabotage));
    net.elect(1);
    net.run_ms(100);
    net.cut(1, 3);
    net.cut(1, 4);
    net.cut(1, 5);
    net.propose(1, "old"); // on 1 and 2 only
    net.settle();
    assert_eq!(net.status(1).commit, LogIndex::new(1));
    net.heal();
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2); // its log has "old": it wins, but its own entry reaches nobody
    net.until_led_with_disks_of(2, &[2, 3, 4, 5]);
    net.wire.clear();
    let term = net.status(2).term.get();
    let acknowledge = |net: &mut Net, index| {
        for follower in [3, 4] {
            let matched = LogIndex::new(index);
            net.deliver(say(follower, 2, term, Body::Appended { matched }));
        }
        while net.write_one(2) {}
        net.status(2).commit.get()
    };
    [acknowledge(&mut net, 2), acknowledge(&mut net, 3)]
}

#[test]
fn an_entry_of_an_older_term_is_not_committed_by_counting() {
    // H23: only an entry of the leader's own term commits, and with it what lies before.
    assert_eq!(figure_8(None), [1, 3]);
    let put_back = figure_8(Some(Sabotage::OldTermsCounted));
    assert_eq!(put_back, [2, 3], "the story can tell");
}

/// Entries 2 to 4 of a follower diverge; an append that checks only 1 and 2 names commit 4. Returns what the follower commits.
fn commit_beyond_the_check(sabotage: Option<Sabotage>) -> u64 {
    let mut net = Net::with(3, sabotaged(sabotage));
    net.deliver(append(2, 3, 1, at(0, 0), entries(1, 1..=4), 0));
    net.deliver(append(1, 3, 2, at(1, 1), entries(1, 2..=2), 4));
    net.deliver(say(
        1,
        3,
        2,
        Body::Committed {
            commit: LogIndex::new(4),
        },
    ));
    net.settle();
    assert_eq!(net.status(3).last, at(1, 4));
    net.status(3).commit.get()
}

#[test]
fn a_follower_commits_only_what_it_checked() {
    // H24
    assert_eq!(commit_beyond_the_check(None), 2);
    let put_back = commit_beyond_the_check(Some(Sabotage::CommittedUnchecked));
    assert_eq!(put_back, 4, "the story can tell");
}

#[test]
fn an_acknowledgement_claims_only_what_was_checked() {
    // H25: a longer, divergent follower gets an empty append.
    let mut net = Net::new(3);
    net.deliver(append(2, 3, 1, at(0, 0), entries(1, 1..=9), 0));
    net.settle();
    net.deliver(append(1, 3, 2, at(1, 5), vec![], 0));
    net.write_one(3); // the new term
    assert_eq!(acknowledged(&net, 1), [5]);
    net.wire.clear();
    let round = heartbeat(1, net.now, 0, 0);
    net.deliver(say(1, 3, 2, round));
    let Some(Body::HeartbeatReply {
        received, matched, ..
    }) = net.wire.pop_front().map(|message| message.body)
    else {
        panic!()
    };
    assert_eq!((received.get(), matched.get()), (5, 5));
}

#[test]
fn a_late_short_append_cuts_nothing() {
    // H26: appends overtake each other.
    let mut net = Net::new(3);
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=6), 6));
    net.settle();
    assert_eq!(net.status(3).commit, LogIndex::new(6));
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=2), 0));
    net.deliver(append(1, 3, 1, at(1, 3), entries(1, 4..=4), 0));
    net.settle();
    assert_eq!(
        (net.status(3).last, net.status(3).commit),
        (at(1, 6), LogIndex::new(6))
    );
}

#[test]
fn a_conflicting_suffix_goes_and_its_bytes_with_it() {
    // H39: nothing of the old suffix may be read or persisted again.
    let mut net = Net::new(3);
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=6), 0));
    net.settle();
    net.deliver(append(2, 3, 2, at(1, 3), entries(2, 4..=4), 0));
    net.settle();
    assert_eq!(net.log(3), [1, 1, 1, 2]);
    net.crash(3);
    assert_eq!(net.log(3), [1, 1, 1, 2]);
}

#[test]
fn late_answers_move_neither_matched_nor_next_back() {
    // H29
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
    }
    net.settle();
    let before = net.status(1).peers;
    net.deliver(say(
        2,
        1,
        1,
        Body::Appended {
            matched: LogIndex::new(1),
        },
    ));
    net.deliver(say(
        2,
        1,
        1,
        Body::Conflict {
            rejected: LogIndex::new(2),
            hint: at(0, 0),
        },
    ));
    assert_eq!(net.status(1).peers, before);
    net.propose(1, "d");
    net.settle();
    assert_eq!(net.status(1).peers[0].matched, LogIndex::new(5));
}

#[test]
fn entries_with_a_hole_are_not_taken() {
    // H32
    let mut net = Net::new(3);
    let mut holed = entries(1, 1..=2);
    holed.extend(entries(1, 4..=4));
    net.deliver(append(1, 3, 1, at(0, 0), holed, 0));
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 2..=3), 0));
    assert_eq!(net.status(3).last, at(0, 0));
}

#[test]
fn an_overwritten_proposal_is_seen_by_its_term() {
    // H31: the caller holds (term, index) and must find another term applied there.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(1);
    let lost = net.propose(1, "lost");
    net.forget_leader(1);
    net.run_ms(2_000);
    let leader = net.leader().unwrap();
    net.propose(leader, "kept");
    net.settle();
    net.heal();
    net.run_ms(3_000);
    let there = net
        .node(1)
        .applied
        .iter()
        .find(|entry| entry.index == lost.index)
        .unwrap()
        .term;
    assert_ne!(there, lost.term);
    assert_eq!(net.applied(1), ["kept"]);
    assert!(net.nodes[&1].events.iter().any(|event| matches!(
        event,
        Output::Role {
            role: Role::Follower,
            ..
        }
    )));
}

#[test]
fn divergent_logs_meet_in_one_round_trip_per_term() {
    // Raft paper 5.3, figure 7 (f): the follower has terms 2 and 3 that nobody else has.
    let mut net = Net::new(3);
    let mut leaders = entries(1, 1..=3);
    leaders.extend(entries(4, 4..=40));
    let mut followers = entries(1, 1..=3);
    followers.extend(entries(2, 4..=20));
    followers.extend(entries(3, 21..=60));
    net.deliver(append(2, 1, 4, at(0, 0), leaders, 0));
    net.deliver(append(2, 3, 3, at(0, 0), followers, 0));
    net.settle();
    net.cut(1, 2);
    net.forget_leader(2);
    net.nodes.remove(&2);
    net.campaign(1);
    let mut conflicts = 0;
    for _ in 0..200 {
        conflicts += net
            .wire
            .iter()
            .filter(|message| message.name() == "conflict")
            .count();
        let Some(message) = net.wire.pop_front() else {
            net.write_one(1);
            net.write_one(3);
            continue;
        };
        net.deliver(message);
    }
    net.settle();
    assert_eq!(net.log(3), net.log(1));
    assert!(conflicts <= 3, "{conflicts}");
}

#[test]
fn a_lost_append_is_noticed_by_the_next_one_and_by_the_next_heartbeat() {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.propose(1, "lost");
    assert_eq!(net.take("append", 2).len(), 1);
    net.propose(1, "seen");
    net.settle();
    assert_eq!(net.applied(1), ["lost", "seen"]);
    assert_eq!(net.log(2), net.log(1), "the gap made a conflict");
    net.propose(1, "last");
    assert_eq!(net.take("append", 2).len(), 1);
    net.run_ms(1_100);
    assert_eq!(
        net.log(2),
        net.log(1),
        "nothing followed, but a heartbeat named what was sent"
    );
}

#[test]
fn a_full_window_waits() {
    // H33; etcd-io/raft: replicate_pause
    let options = GroupOptions {
        inflight_appends: 3,
        append_bytes: 40,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    net.isolate(2);
    for _ in 0..50 {
        net.propose(1, "0123456789");
    }
    net.settle();
    assert_eq!(
        net.status(1).commit,
        LogIndex::new(51),
        "the other follower suffices"
    );
    net.heal();
    net.run_ms(1_500);
    assert_eq!(net.log(2), net.log(1));
    for _ in 0..9 {
        net.propose(1, "0123456789");
    }
    assert_eq!(net.on_wire("append", 2), 3);
    net.settle();
    assert_eq!(net.log(2), net.log(1));
}

/// Half round trips until 3, which missed so many entries of 100 bytes each, has them all; nobody proposes anything meanwhile.
fn half_round_trips_behind(entries: usize, appends: usize) -> usize {
    let options = GroupOptions {
        append_bytes: 800,
        inflight_appends: appends,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    net.isolate(3);
    let payload = "x".repeat(100 - crate::Entry::OVERHEAD);
    for _ in 0..entries {
        net.propose(1, &payload);
    }
    net.settle();
    net.heal();
    net.pass_ms(500);
    let mut halves = 0;
    while net.status(3).last != net.status(1).last {
        for message in core::mem::take(&mut net.wire) {
            net.deliver(message);
        }
        for replica in 1..=3 {
            while net.write_one(replica) || net.apply_one(replica) {}
            net.drain(replica);
        }
        halves += 1;
    }
    halves
}

#[test]
fn a_follower_far_behind_gets_one_window_per_round_trip() {
    // Its speed is the window over the round trip, no less (H33) and, with the window that was asked for, no more.
    for (entries, appends) in [(1_600, 2), (1_600, 8), (3_200, 2)] {
        let halves = half_round_trips_behind(entries, appends);
        let least = 2 * entries / (8 * appends);
        let probing = 8; // a heartbeat, its answer, and the search for the place where the logs meet
        assert!(
            (least - 2..=least + probing).contains(&halves),
            "{entries} entries, {appends} appends of 8: {halves} half round trips, {least} at best"
        );
    }
}

#[test]
fn uncommitted_bytes_are_bounded_and_return_to_zero() {
    // H35
    let options = GroupOptions {
        uncommitted_bytes: 1_000,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.isolate(1);
    let now = net.now;
    let payload = bytes::Bytes::from(vec![0; 300]);
    let accepted = (0..10)
        .filter(|_| net.group(1).propose(now, payload.clone()).is_ok())
        .count();
    assert_eq!(accepted, 3);
    assert!(matches!(
        net.group(1).propose(now, payload.clone()),
        Err(ProposeError::Busy { .. })
    ));
    net.heal();
    net.run_ms(1_100);
    assert_eq!(net.status(1).pending_bytes, 0);
    net.group(1).propose(now, payload).unwrap();
    let huge = bytes::Bytes::from(vec![0; (16 << 20) + 1]);
    assert!(matches!(
        net.group(1).propose(now, huge),
        Err(ProposeError::TooLarge { .. })
    ));
}

#[test]
fn pages_of_applied_entries_follow_each_other_also_after_a_restart() {
    // H36: the script's state machine checks that no index is skipped or repeated.
    let options = GroupOptions {
        apply_bytes: 100,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    for _ in 0..30 {
        net.propose(1, "0123456789");
    }
    net.settle();
    net.run_ms(100);
    assert_eq!(net.applied(3).len(), 30);
    net.crash(3);
    net.run_ms(1_100);
    assert_eq!(net.applied(3).len(), 30);
    net.node(2).apply_held = true;
    for _ in 0..10 {
        net.propose(1, "0123456789");
    }
    net.run_ms(100);
    net.apply_one(2);
    net.node(2).apply_held = false;
    net.run_ms(100);
    assert_eq!(net.applied(2).len(), 40);
}

#[test]
fn evaluation_waits_for_the_leaders_own_term() {
    // H40, E1: commits of an older leader do not count as recovery.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.isolate(1);
    net.forget_leader(1);
    net.node(2).apply_held = true;
    net.campaign(2);
    net.settle();
    let term = net.status(2).term;
    assert_eq!((net.leader(), term), (Some(2), Term::new(2)));
    assert_eq!(net.status(2).commit, net.status(2).last.index);
    assert!(!net.may_evaluate(2, 2), "committed, not yet applied");
    net.node(2).apply_held = false;
    net.settle();
    assert!(net.may_evaluate(2, 2));
}

#[test]
fn a_leader_feeds_a_new_follower_from_probe_to_pipeline() {
    let net = Net::led(3, 1);
    assert!(
        net.status(1)
            .peers
            .iter()
            .all(|peer| peer.state == PeerState::Replicate)
    );
}
