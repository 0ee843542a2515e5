//! When a leader asks its followers to rest.

use super::*;
use crate::{GroupOptions, Output};

/// Whether 1 asked for it in the next ten seconds.
fn asks_for_rest(net: &mut Net) -> bool {
    net.node(1).events.clear();
    net.run_ms(10_000);
    let events = &net.node(1).events;
    events
        .iter()
        .any(|event| matches!(event, Output::Claim { .. }))
}

#[test]
fn a_leader_with_work_left_lets_nobody_rest() {
    // H51: not while something is to be applied here, nor while one that answers lacks something.
    let mut net = Net::with(
        3,
        GroupOptions {
            rest_after: 4,
            ..Net::options()
        },
    );
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
