//! A preferred leader goes first, and costs nobody anything.

use core::time::Duration;

use super::*;
use crate::{GroupOptions, Role};

fn prefer(net: &mut Net, preferred: u64) {
    let now = net.now;
    let replicas: Vec<_> = net.nodes.keys().copied().collect();
    for replica in replicas {
        net.group(replica).prefer(now, Some(id(preferred)));
        net.drain(replica);
    }
}

/// How long after 1 fell silent another leader worked, and who.
fn successor(net: &mut Net) -> (Duration, u64) {
    net.isolate(1);
    let began = net.now;
    loop {
        net.run_ms(1);
        let led = net
            .nodes
            .iter()
            .find(|(replica, node)| **replica != 1 && node.group.role == Role::Leader);
        if let Some((leader, _)) = led {
            return (net.now - began, *leader);
        }
        assert!(net.now - began < Duration::from_secs(20), "nobody leads");
    }
}

#[test]
fn the_preferred_replica_succeeds_a_dead_leader() {
    // DESIGN.md section 8, priority election.
    for preferred in 2..=5 {
        let mut net = Net::led(5, 1);
        prefer(&mut net, preferred);
        net.run_ms(510);
        assert_eq!(successor(&mut net).1, preferred);
    }
}

#[test]
fn a_preferred_replica_that_is_gone_costs_one_step_of_the_stagger() {
    // A vote is never refused for its sake, so the others only wait until its turn has passed.
    let options = GroupOptions::default();
    let worst = options.election_timeout + options.election_stagger * 3;
    for preferred in 2..=5 {
        let mut net = Net::led(5, 1);
        prefer(&mut net, preferred);
        net.run_ms(510);
        net.isolate(preferred);
        let (after, leader) = successor(&mut net);
        assert_ne!(leader, preferred);
        assert!(after < worst, "preferred {preferred}: {after:?}");
    }
}

#[test]
fn a_preferred_replica_without_the_log_leads_nobody() {
    // Raft paper 5.4.1 comes before any preference.
    let mut net = Net::led(3, 1);
    prefer(&mut net, 2);
    net.run_ms(100);
    net.cut(1, 2);
    net.propose(1, "a");
    net.settle();
    net.isolate(1);
    let (_, leader) = successor(&mut net);
    assert_eq!(leader, 3);
    net.run_ms(100);
    assert_eq!(net.applied(3), ["a"]);
}

#[test]
fn a_preference_can_be_taken_back() {
    let mut net = Net::led(3, 1);
    let firsts: Vec<u64> = [None, Some(2), Some(3), None]
        .into_iter()
        .map(|preferred| {
            let now = net.now;
            for replica in [2, 3] {
                net.group(replica).prefer(now, preferred.map(id));
            }
            net.run_ms(510);
            let deadline = |net: &mut Net, replica| net.group(replica).wake_at().unwrap();
            let (second, third) = (deadline(&mut net, 2), deadline(&mut net, 3));
            if second < third { 2 } else { 3 }
        })
        .collect();
    assert_eq!(firsts[1..3], [2, 3]);
    assert_eq!(firsts[0], firsts[3]);
}

#[test]
fn who_led_last_goes_last_whatever_is_preferred_meanwhile() {
    // It stepped down for a reason, or is dead: its turn must not come first while nobody leads.
    let mut net = Net::led(3, 1);
    net.run_ms(510);
    net.isolate(1);
    net.forget_leader(1);
    let now = net.now;
    // 2 and 3 ask each other and are heard by nobody.
    net.cut(2, 3);
    net.run_ms(300);
    assert_eq!(net.status(2).leader, None);
    for replica in [2, 3] {
        net.group(replica).prefer(now, Some(id(2)));
        net.group(replica).prefer(now, None);
    }
    net.heal_link(2, 3);
    let (after, leader) = successor(&mut net);
    assert!([2, 3].contains(&leader));
    assert!(after < Duration::from_millis(900), "{after:?}");
}
