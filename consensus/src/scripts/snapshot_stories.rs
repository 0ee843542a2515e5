//! States that stand for logs.

use core::time::Duration;

use super::*;
use crate::{Configuration, GroupOptions, LogIndex, PeerState, Position, Refusal, ShipmentEnd};

pub(super) fn chunked() -> GroupOptions {
    GroupOptions {
        chunk_bytes: 16,
        chunk_window_bytes: 40,
        keep_entries: 2,
        lease: Duration::ZERO, // scripts elect whom they like

        ..GroupOptions::default()
    }
}

/// Replica 3 is cut off while 1 and 2 write and compact.
pub(super) fn laggard(options: GroupOptions) -> Net {
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    net.isolate(3);
    for i in 0..20 {
        net.propose(1, &format!("entry {i}"));
    }
    net.settle();
    net.checkpoint(1, true);
    net.settle();
    net
}

#[test]
fn a_laggard_gets_a_snapshot_in_chunks_and_then_the_log() {
    // Raft paper 7
    let mut net = laggard(chunked());
    net.propose(1, "after");
    net.settle();
    net.heal();
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 21);
    assert_eq!(
        net.status(3).first,
        LogIndex::new(23),
        "its log begins after the snapshot"
    );
    assert!(
        net.status(1)
            .peers
            .iter()
            .all(|peer| peer.state == PeerState::Replicate)
    );
    net.crash(3);
    net.run_ms(2_000);
    assert_eq!(net.applied(3).len(), 21);
}

#[test]
fn a_newcomer_starts_from_a_snapshot() {
    let mut net = Net::led(1, 1);
    for i in 0..5 {
        net.propose(1, &i.to_string());
    }
    net.settle();
    net.checkpoint(1, true);
    net.add_newcomer(2);
    net.change(1, &[1], &[2]);
    net.run_ms(2_000);
    assert_eq!(net.applied(2), ["0", "1", "2", "3", "4"]);
    net.change(1, &[1, 2], &[]);
    net.run_ms(1_000);
    assert_eq!(
        net.status(2).configuration,
        Configuration::of_voters([1, 2].map(id))
    );
}

#[test]
fn a_lost_chunk_is_sent_again_from_where_the_follower_is() {
    // H70
    let mut net = laggard(chunked());
    net.heal();
    let mut chunks = 0;
    for _ in 0..400 {
        net.run_ms(50);
        // Every third chunk is lost on the way.
        if net.status(3).last.index >= LogIndex::new(21) {
            break;
        }
        chunks += 1;
        if chunks % 3 == 0 {
            net.isolate(3);
            net.run_ms(300);
            net.heal();
        }
    }
    net.run_ms(10_000);
    assert_eq!(net.applied(3).len(), 20);
}

/// Lets single things happen until `done`.
pub(super) fn step_until(net: &mut Net, done: impl Fn(&mut Net) -> bool) {
    for _ in 0..100_000 {
        if done(net) {
            return;
        }
        if let Some(message) = net.wire.pop_front() {
            net.deliver(message);
            continue;
        }
        let replicas: Vec<u64> = net.nodes.keys().copied().collect();
        if !replicas
            .iter()
            .any(|replica| net.write_one(*replica) | net.apply_one(*replica))
        {
            net.pass_ms(50);
        }
    }
    panic!("it never happened");
}

/// Bytes of a snapshot that are stored at 3.
pub(super) fn held(net: &mut Net) -> u64 {
    let partial = &net.node(3).shelf.partial;
    partial.as_ref().map_or(0, |partial| partial.held())
}

pub(super) fn half_way(net: &mut Net) {
    net.heal();
    step_until(net, |net| held(net) >= 200);
}

#[test]
fn a_follower_that_restarts_half_way_goes_on_where_it_was() {
    // H70: no byte is stored twice, although the follower and what was on the way are gone.
    let mut net = laggard(chunked());
    half_way(&mut net);
    let id = net.node(3).shelf.partial.as_ref().unwrap().id;
    net.crash(3);
    net.wire.clear();
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 20);
    assert_eq!(net.node(3).shelf.stored_bytes, id.bytes);
    assert_eq!(net.node(1).shelf.needed, 1);
}

#[test]
fn a_follower_that_lost_what_it_held_begins_anew() {
    // H70: a chunk in the middle must not open a snapshot there.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(3).shelf.partial = None;
    net.crash(3);
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 20);
    assert_eq!(net.node(1).shelf.needed, 1);
}

#[test]
fn several_chunks_are_on_the_way_but_not_more_than_the_window() {
    let mut net = laggard(GroupOptions {
        chunk_window_bytes: 64,
        ..chunked()
    });
    net.heal();
    step_until(&mut net, |net| held(net) > 0);
    let mut most = 0;
    for _ in 0..20 {
        let chunks = net.take("chunk", 3);
        most = most.max(chunks.len());
        chunks.into_iter().for_each(|chunk| net.deliver(chunk));
        for reply in net.take("chunk_reply", 1) {
            net.deliver(reply);
        }
    }
    assert_eq!(most, 4);
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_lost_chunk_costs_one_new_run_not_a_timeout() {
    // H70: what follows the hole says so at once.
    let mut net = laggard(chunked());
    half_way(&mut net);
    let lost = net.take("chunk", 3);
    assert!(!lost.is_empty());
    net.wire.extend(lost.into_iter().skip(1));
    let before = net.now;
    net.settle();
    assert_eq!((net.applied(3).len(), net.now), (20, before));
}

#[test]
fn overtaking_chunks_lose_nothing() {
    let mut net = laggard(chunked());
    net.heal();
    let before = net.now;
    step_until(&mut net, |net| {
        // Of any two messages the later one arrives first.
        if net.wire.len() > 1 {
            net.wire.swap(0, 1);
        }
        let message = net.wire.pop_front();
        message.into_iter().for_each(|message| net.deliver(message));
        net.status(3).applied >= LogIndex::new(21)
    });
    assert!(net.now - before < Duration::from_secs(3));
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_throttled_shipment_outlasts_commits_and_compactions() {
    // E28: nothing is repeated while the leader's caller takes its time, nobody campaigns, and the log waits.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(1).shelf.reads_held = true;
    net.run_ms(2_000);
    let (held_before, term) = (held(&mut net), net.status(1).term);
    for i in 0..30 {
        net.propose(1, &i.to_string());
        net.run_ms(1_000);
        net.checkpoint(1, true);
        assert_eq!(net.on_wire("chunk", 3), 0);
    }
    assert_eq!(held(&mut net), held_before);
    assert_eq!(
        (net.status(1).first, net.status(1).term),
        (LogIndex::new(22), term)
    );
    assert_eq!(net.leader(), Some(1));
    while net.read_chunk(1) {
        net.settle();
    }
    net.run_ms(1_000);
    assert_eq!(net.applied(3).len(), 50);
    assert_eq!(net.node(1).shelf.needed, 1);
    assert_eq!(net.node(1).shelf.ended, [(id(3), ShipmentEnd::Arrived)]);
}

#[test]
fn a_snapshot_with_other_bytes_than_it_names_is_not_installed_and_begins_anew() {
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(3).shelf.partial.as_mut().unwrap().data[7] ^= 1;
    net.run_ms(8_000);
    assert_eq!(net.node(3).shelf.damaged, 1);
    assert_eq!(
        net.node(1).shelf.ended,
        [
            (id(3), ShipmentEnd::Refused(Refusal::Damaged)),
            (id(3), ShipmentEnd::Arrived)
        ]
    );
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_asked_for_again() {
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(1).shelf.sources.clear();
    net.run_ms(8_000);
    assert_eq!(
        net.node(1).shelf.ended,
        [
            (id(3), ShipmentEnd::Abandoned),
            (id(3), ShipmentEnd::Arrived)
        ]
    );
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_snapshot_that_is_too_long_is_refused_now_and_then_not_always() {
    let mut net = laggard(GroupOptions {
        snapshot_bytes: 100,
        ..chunked()
    });
    net.heal();
    net.run_ms(30_000);
    assert_eq!(net.applied(3).len(), 0);
    let refused = net.node(1).shelf.ended.clone();
    let too_long = (id(3), ShipmentEnd::Refused(Refusal::TooLong));
    assert!((2..=10).contains(&refused.len()), "{refused:?} in 30 s");
    assert!(refused.iter().all(|end| *end == too_long));
    net.run_ms(170_000);
    let refused = net.node(1).shelf.ended.len();
    assert!(
        refused <= 8,
        "{refused} times in 200 s: each time after a longer pause"
    );
}

#[test]
fn a_new_leader_with_the_same_state_goes_on_half_way() {
    // Equal position, length and checksum are the same bytes, whoever ships them.
    let mut net = laggard(chunked());
    net.run_ms(200);
    net.checkpoint(2, true);
    half_way(&mut net);
    let bytes = net.node(3).shelf.partial.as_ref().unwrap().id.bytes;
    net.isolate(1);
    net.wire.clear();
    net.run_ms(200);
    net.forget_leader(1);
    net.node(2).apply_held = true; // its own first entry is not in the state that it ships
    net.elect(2);
    net.run_ms(3_000);
    assert_eq!(net.node(2).shelf.needed, 1);
    assert_eq!(net.node(3).shelf.stored_bytes, bytes);
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_new_leader_with_another_state_begins_anew() {
    // H66: what the old leader sent is dropped once the new one ships something else, not mixed with it.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.isolate(3);
    net.propose(1, "more");
    net.run_ms(200);
    net.checkpoint(2, true);
    let (first, held) = {
        let partial = net.node(3).shelf.partial.as_ref().unwrap();
        (partial.id, partial.held())
    };
    net.heal();
    net.isolate(1);
    net.wire.clear();
    net.forget_leader(1);
    net.elect(2);
    net.run_ms(3_000);
    let total = net.node(3).shelf.stored_bytes;
    assert!(total > held + first.bytes, "{total} stored in all");
    assert_eq!(net.applied(3), net.applied(2));
    assert!(net.node(3).shelf.partial.is_none());
}

#[test]
fn a_leader_that_crashes_half_way_goes_on_when_it_leads_again() {
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.cut(1, 3);
    net.crash(1);
    net.node(1).apply_held = true;
    net.forget_leader(1);
    net.elect(1);
    let bytes = net.node(3).shelf.partial.as_ref().unwrap().id.bytes;
    net.heal();
    net.run_ms(3_000);
    assert_eq!(net.applied(3).len(), 20);
    assert_eq!(net.node(3).shelf.stored_bytes, bytes);
}

#[test]
fn what_was_half_received_goes_when_the_log_catches_up() {
    // H66: replica 2 still has the entries.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.isolate(1);
    net.wire.clear();
    net.forget_leader(1);
    net.elect(2);
    net.run_ms(3_000);
    assert_eq!(net.applied(3).len(), 20);
    assert!(net.node(3).shelf.partial.is_none());
    assert_eq!(net.node(2).shelf.needed, 0);
    net.crash(3);
    assert_eq!(net.applied(3).len(), 0, "no state came with the snapshot");
    net.run_ms(3_000);
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_compaction_keeps_a_tail_and_waits_for_a_snapshot_on_its_way() {
    // E28
    let mut net = laggard(chunked());
    assert_eq!(net.status(1).first, LogIndex::new(22));
    net.heal();
    while net.on_wire("chunk", 3) == 0 {
        match net.wire.pop_front() {
            Some(message) => net.deliver(message),
            None => net.pass_ms(50),
        }
    }
    for i in 0..10 {
        net.propose(1, &i.to_string());
        for message in net.take("append", 2) {
            net.deliver(message);
        }
        while net.write_one(2) | net.write_one(1) {}
        for message in net.take("appended", 1) {
            net.deliver(message);
        }
        while net.apply_one(1) {}
    }
    net.checkpoint(1, true);
    assert_eq!(
        net.status(1).first,
        LogIndex::new(22),
        "what follows the snapshot on its way is kept"
    );
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 30);
    net.checkpoint(1, false);
    assert_eq!(
        net.status(1).first,
        LogIndex::new(30),
        "a tail of two entries stays"
    );
}

#[test]
fn a_tail_of_large_entries_is_shorter() {
    // It lies in memory: what bounds it must be bytes, too.
    for (keep_bytes, kept) in [(usize::MAX, 10), (3_000, 2), (500, 0)] {
        let mut net = Net::with(
            3,
            GroupOptions {
                keep_entries: 10,
                keep_bytes,
                ..chunked()
            },
        );
        net.elect(1);
        net.run_ms(100);
        for _ in 0..20 {
            net.propose(1, &"x".repeat(1_000));
        }
        net.run_ms(1_000);
        net.checkpoint(1, false);
        let status = net.status(1);
        let tail = status.last.index.get() + 1 - status.first.get();
        assert_eq!(tail, kept, "{keep_bytes} bytes");
    }
}

#[test]
fn a_compaction_waits_for_a_snapshot_that_is_being_made() {
    // E28: to make one of a large state takes longer than the log's tail lasts. What is made then would always be too old.
    for told in [false, true] {
        let mut net = laggard(chunked());
        net.node(1).shelf.offers_held = true;
        net.heal();
        net.run_ms(1_000);
        let position = net.status(1).first.previous();
        let term = net.status(1).term;
        if told {
            let now = net.now;
            let position = Position::new(term, position);
            net.group(1).making_snapshot(now, id(3), position, 100);
        }
        for i in 0..10 {
            net.propose(1, &i.to_string());
        }
        net.run_ms(1_000);
        net.checkpoint(1, false);
        let kept = net.status(1).first.previous() == position;
        assert_eq!(kept, told);
        // It is made: from here on it is on its way, or given up and nothing is kept.
        net.node(1).shelf.offers_held = false;
        net.run_ms(10_000);
        net.checkpoint(1, false);
        assert_eq!(net.applied(3), net.applied(1));
        assert!(net.status(1).first.previous() > position);
    }
}

#[test]
fn a_snapshot_that_the_log_left_behind_is_followed_by_another() {
    // E28, H71; found by the simulator (seed 435): the follower is silent for so long after the last chunk that the leader compacts
    // beyond the snapshot; its acknowledgement then leads nowhere.
    let mut net = laggard(chunked());
    net.heal();
    while net.status(3).last.index < LogIndex::new(21) {
        match net.wire.pop_front() {
            Some(message) => net.deliver(message),
            None if (1..=3).any(|replica| net.write_one(replica) | net.apply_one(replica)) => {}
            None => net.pass_ms(50),
        }
    }
    net.wire.clear();
    net.isolate(3);
    for i in 0..10 {
        net.propose(1, &i.to_string());
    }
    net.run_ms(5_000);
    net.checkpoint(1, true);
    assert_eq!(net.status(1).first, net.status(1).last.index.next());
    net.heal();
    net.run_ms(10_000);
    assert_eq!(net.applied(3), net.applied(1));
    assert_eq!(net.node(1).shelf.needed, 2);
}
