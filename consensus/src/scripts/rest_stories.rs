//! When a leader asks its followers to rest, and how a dead one is missed.

use super::snapshot_stories::{chunked, half_way, laggard};
use super::*;
use crate::options::Sabotage;
use crate::{Claim, GroupOptions, Output, Role};

/// A leader that rests after so many heartbeats without anything to do.
fn resting_after(rest_after: u16) -> GroupOptions {
    GroupOptions {
        rest_after,
        ..Net::options()
    }
}

/// Whether 1 asked for it in the next so many milliseconds.
fn asks_within(net: &mut Net, millis: u64) -> bool {
    net.node(1).events.clear();
    net.run_ms(millis);
    let events = &net.node(1).events;
    events
        .iter()
        .any(|event| matches!(event, Output::Claim { .. }))
}

fn asks_for_rest(net: &mut Net) -> bool {
    asks_within(net, 10_000)
}

#[test]
fn a_leader_with_work_left_lets_nobody_rest() {
    // H51: not while something is to be applied here, nor while one that answers lacks something.
    let mut net = Net::with(3, resting_after(4));
    net.elect(1);
    assert!(asks_for_rest(&mut net));
    net.node(1).apply_held = true;
    net.propose(1, "not applied");
    net.settle();
    assert!(!asks_for_rest(&mut net));
    net.node(1).apply_held = false;
    assert!(asks_for_rest(&mut net));
    net.node(2).disk_held = true;
    net.propose(1, "not written by 2");
    net.settle();
    assert_eq!(net.applied(1), ["not applied", "not written by 2"]);
    assert!(!asks_for_rest(&mut net));
    net.node(2).disk_held = false;
    assert!(asks_for_rest(&mut net));
}

#[test]
fn a_leader_that_owes_an_answer_to_a_read_does_not_rest() {
    // H51: the followers, heard just now, are still taken for present when their answers are lost.
    let mut net = Net::with(3, resting_after(1));
    net.elect(1);
    assert!(asks_within(&mut net, 1_100));
    net.cut_one_way(2, 1);
    net.cut_one_way(3, 1);
    assert!(asks_within(&mut net, 600), "nobody asked for anything");
    let read = net.read(1);
    assert!(!asks_within(&mut net, 1_000));
    assert_eq!(net.read_outcome(1, read), None);
    assert_eq!(net.status(1).role, Role::Leader);
    net.heal();
    assert!(asks_within(&mut net, 3_000));
    assert!(matches!(net.read_outcome(1, read), Some(Ok(_))));
}

#[test]
fn a_leader_with_a_snapshot_on_its_way_does_not_rest() {
    // H51: nor when the follower that it is for falls silent half way, for longer than it takes to find that out.
    let mut net = laggard(GroupOptions {
        rest_after: 1,
        ..chunked()
    });
    half_way(&mut net);
    net.isolate(3);
    assert!(!asks_within(&mut net, 20_000));
    assert!(net.group(1).shipping(id(3)).is_some());
    net.heal();
    assert!(asks_for_rest(&mut net));
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_leader_that_hands_over_does_not_rest() {
    // H51: the word to campaign is lost again and again.
    let mut net = Net::with(3, resting_after(1));
    net.elect(1);
    assert!(asks_within(&mut net, 600));
    net.cut_one_way(1, 2);
    assert!(asks_within(&mut net, 600), "nobody asked for anything");
    net.transfer(1, 2);
    assert!(!asks_within(&mut net, 1_000));
    assert_eq!(net.status(1).transfer, Some(id(2)));
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.leader(), Some(2));
}

#[test]
fn a_leader_of_a_joint_configuration_does_not_rest() {
    // H51, H45: also one that does not leave it by itself.
    let mut net = Net::with(
        3,
        GroupOptions {
            sabotage: Some(Sabotage::JointForEver),
            ..resting_after(1)
        },
    );
    net.elect(1);
    net.add_newcomer(4);
    net.change(1, &[1, 2, 3], &[4]);
    assert!(asks_for_rest(&mut net));
    net.change(1, &[1, 2, 4], &[]);
    net.run_ms(100);
    let status = net.status(1);
    assert!(status.configuration.is_joint());
    assert_eq!(status.commit, status.last.index);
    assert!(!asks_for_rest(&mut net));
}

/// The time until 2 or 3 leads after 1 died, if they were told of it `told` ms later, and a heartbeat of 1 came to both at each of `late`,
/// also in ms after its death.
fn succeeded_after(rests: bool, told: u64, late: &[u64]) -> u64 {
    let mut net = Net::with(3, resting_after(4));
    net.elect(1);
    net.run_ms(1_600);
    let status = net.status(1);
    let claim = Claim {
        group: status.group,
        term: status.term,
        leader: id(1),
        last: status.last.index,
    };
    net.now = core::time::Duration::from_millis(2_000);
    let now = net.now;
    net.group(1).tick(now);
    net.drain(1);
    let heartbeats = [net.take("heartbeat", 2), net.take("heartbeat", 3)].concat();
    assert_eq!(heartbeats.len(), 2);
    for follower in [2, 3] {
        assert!(!rests || net.group(follower).take_claim(now, &claim));
    }
    net.stop(1);
    for millis in 1..60_000 {
        net.run_ms(1);
        if millis == told {
            net.forget_leader(1);
        }
        if late.contains(&millis) {
            heartbeats.iter().for_each(|late| net.deliver(late.clone()));
        }
        if net.leader().is_some() {
            return millis;
        }
    }
    panic!("nobody was elected");
}

#[test]
fn a_late_heartbeat_of_a_dead_leader_puts_the_election_off_by_one_timeout_at_most() {
    // H56. Two ranks and what is drawn.
    let options = Net::options();
    let election = (options.election_timeout + options.election_stagger * 3).as_millis() as u64;
    for rests in [false, true] {
        let at_once = succeeded_after(rests, 450, &[]);
        assert!(at_once < 450 + election - 1_500, "{at_once}");
        for late in [1, 449, 451, 500, at_once - 1] {
            let took = succeeded_after(rests, 450, &[late]);
            assert!(took <= late.max(450) + election, "{late} ms late: {took}");
        }
        // Who is elected is not deposed, and whoever asks for votes in a later term is not held up.
        let took = succeeded_after(rests, 450, &[at_once + 1, at_once + 2]);
        assert_eq!(took, at_once);
        // As many as there are, however they come: the last one counts, and no more is kept of them.
        let many: Vec<u64> = (451..2_000).step_by(37).collect();
        let took = succeeded_after(rests, 450, &many);
        assert!(took <= 2_000 + election, "{took}");
    }
}
