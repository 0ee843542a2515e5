//! When a replica may say that it has caught up: a node whose replicas have is one that others can do without.

use super::snapshot_stories::{chunked, laggard};
use super::*;
use crate::message::Body;
use crate::{Claim, GroupOptions, LogIndex};

/// Lets everything happen for a while, and looks at each moment: whoever says that it has caught up has applied so much.
fn never_before(net: &mut Net, replica: u64, goal: LogIndex, millis: u64) {
    for _ in 0..millis {
        net.pass_ms(1);
        loop {
            if net.group(replica).has_caught_up() {
                let applied = net.status(replica).applied;
                assert!(applied >= goal, "caught up at {applied}, not {goal}");
            }
            if !net.step() {
                break;
            }
        }
    }
    assert!(net.group(replica).has_caught_up(), "in the end it has");
}

/// The third of three lost sight of its leader for a while, in which it campaigned in vain and nothing was written; nobody heard of it.
fn out_of_sight() -> Net {
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.run_ms(1_000);
    net.isolate(3);
    net.run(Net::options().election_timeout * 3);
    assert!(!net.group(3).has_caught_up(), "it has no leader");
    net.wire.clear();
    net
}

#[test]
fn who_was_away_has_caught_up_once_all_that_was_committed_meanwhile_is_applied() {
    // Several appends, and pages of them applied one by one.
    let options = GroupOptions {
        append_bytes: 64,
        apply_bytes: 64,
        inflight_appends: 2,
        ..Net::options()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    assert!((1..=3).all(|replica| net.group(replica).has_caught_up()));
    net.isolate(3);
    for entry in 0..50 {
        net.propose(1, &format!("entry {entry}"));
    }
    net.settle();
    net.run_ms(5_000);
    assert!(!net.group(3).has_caught_up(), "it has no leader");
    net.heal();
    let goal = net.status(1).commit;
    never_before(&mut net, 3, goal, 2_000);
}

#[test]
fn who_needs_a_state_has_caught_up_with_it_and_what_was_written_since() {
    let mut net = laggard(chunked());
    for entry in 0..5 {
        net.propose(1, &format!("after {entry}"));
    }
    net.run_ms(5_000);
    assert!(!net.group(3).has_caught_up(), "it has no leader");
    let goal = net.status(1).commit;
    net.heal();
    never_before(&mut net, 3, goal, 5_000);
}

#[test]
fn who_restarts_with_everything_has_caught_up_with_the_first_word_of_its_leader() {
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.run_ms(1_000);
    net.crash(3);
    assert!(!net.group(3).has_caught_up(), "it knows nobody's word yet");
    let goal = net.status(1).commit;
    never_before(&mut net, 3, goal, 1_000);
    // Nothing was written, and nothing need be.
    assert_eq!(net.status(1).commit, goal);
}

#[test]
fn who_takes_a_claim_has_caught_up_whatever_was_said_before() {
    // A leader of an older build says nothing in its heartbeats; a claim says it all.
    let mut net = out_of_sight();
    let status = net.status(1);
    let (now, last) = (net.now, status.last.index);
    let old = Body::Heartbeat {
        round: 99,
        sent: now,
        upto: last,
        commit: last,
        known: LogIndex::ZERO,
    };
    net.deliver(say(1, 3, status.term.get(), old));
    net.settle();
    assert!(!net.group(3).has_caught_up(), "it cannot know");
    let claim = Claim {
        group: status.group,
        term: status.term,
        leader: id(1),
        last,
    };
    assert!(net.group(3).take_claim(now, &claim));
    assert!(net.group(3).has_caught_up());
}

#[test]
fn a_leader_has_caught_up_when_it_may_evaluate() {
    let mut net = Net::new(3);
    net.isolate(1);
    net.heal_link(1, 2);
    net.campaign(1);
    net.until(|net| net.leader() == Some(1));
    assert!(
        !net.group(1).has_caught_up(),
        "its own entry is not committed"
    );
    net.settle();
    assert!(net.group(1).has_caught_up());
}

#[test]
fn who_missed_something_is_behind_as_soon_as_it_can_know() {
    // It was cut off for less than it takes to miss a leader, and then waits until it is its turn to get a state.
    let mut net = laggard(chunked());
    assert!(net.group(3).has_caught_up());
    net.heal();
    for entry in 0..5 {
        net.propose(1, &format!("after {entry}"));
    }
    let goal = net.status(1).commit;
    net.until(|net| net.on_wire("conflict", 1) > 0);
    never_before(&mut net, 3, goal, 3_000);
}

#[test]
fn who_lost_sight_of_its_leader_and_missed_nothing_hears_so_with_a_heartbeat() {
    // Of the same leader in the same term: its log was compared before, and no append need come. It stayed behind for ever.
    let mut net = out_of_sight();
    net.heal();
    let (term, goal) = (net.status(1).term, net.status(1).commit);
    never_before(&mut net, 3, goal, 2_000);
    assert_eq!((net.leader(), net.status(3).term), (Some(1), term));
}

#[test]
fn who_is_left_out_for_longer_than_a_heartbeat_is_behind_although_it_hears_its_leader() {
    // A node without room takes no entries and hears every beat.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.run_ms(2_000);
    assert!(net.group(3).has_caught_up());
    net.propose(1, "b");
    let beats = 2 * Net::options().heartbeat_interval.as_millis() as u64 + 1;
    for _ in 0..=beats {
        net.pass_ms(1);
        net.take("append", 3);
        while net.step() {
            net.take("append", 3);
        }
    }
    assert!(!net.group(3).has_caught_up());
    let goal = net.status(1).commit;
    never_before(&mut net, 3, goal, 3_000);
}

#[test]
fn a_heartbeat_of_an_older_build_is_read_and_says_nothing_of_what_is_committed() {
    #[derive(serde::Serialize)]
    enum Older {
        Heartbeat {
            round: u64,
            sent: core::time::Duration,
            upto: LogIndex,
            commit: LogIndex,
        },
    }
    let [upto, commit] = [4, 3].map(LogIndex::new);
    let sent = core::time::Duration::from_secs(2);
    let bytes = rmp_serde::to_vec_named(&Older::Heartbeat {
        round: 1,
        sent,
        upto,
        commit,
    });
    let read: Body = rmp_serde::from_slice(&bytes.unwrap()).unwrap();
    let expected = Body::Heartbeat {
        round: 1,
        sent,
        upto,
        commit,
        known: LogIndex::ZERO,
    };
    assert_eq!(read, expected);
}
