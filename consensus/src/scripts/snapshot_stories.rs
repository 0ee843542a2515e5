//! States that stand for logs.

use core::time::Duration;

use super::shelf::checksum;
use super::*;
use crate::message::Body;
use crate::{
    Configuration, GroupOptions, LogIndex, Output, PeerState, Refusal, Role, ShipmentEnd,
    SnapshotId, SnapshotMeta,
};

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

fn chunk(serial: u64, index: u64, offset: u64, data: &'static [u8]) -> Body {
    Body::Chunk {
        serial,
        meta: Box::new(SnapshotMeta {
            position: at(1, index),
            configuration: Configuration::of_voters([1, 2, 3].map(id)),
            configuration_index: LogIndex::ZERO,
        }),
        total: 30,
        checksum: 0,
        offset,
        data: bytes::Bytes::from_static(data),
    }
}

#[test]
fn only_a_newer_run_of_the_leader_supersedes_what_was_half_received() {
    // H66
    let mut net = Net::new(3);
    let position = |net: &mut Net| {
        let partial = net.node(3).shelf.partial.as_ref();
        partial.map(|partial| (partial.id.position.index.get(), partial.held()))
    };
    net.deliver(say(1, 3, 1, chunk(4, 10, 0, b"0123456789")));
    net.deliver(say(1, 3, 1, chunk(3, 8, 0, b"01234")));
    assert_eq!(position(&mut net), Some((10, 10)), "a late one of before");
    net.deliver(say(1, 3, 1, chunk(2, 10, 10, b"abc")));
    assert_eq!(
        position(&mut net),
        Some((10, 13)),
        "late, but the same state"
    );
    net.deliver(say(1, 3, 1, chunk(5, 12, 0, b"")));
    assert_eq!(position(&mut net), None, "the leader ships another one");
    net.deliver(say(1, 3, 1, chunk(5, 12, 0, b"0123")));
    net.deliver(say(2, 3, 2, chunk(1, 11, 0, b"012")));
    assert_eq!(position(&mut net), Some((11, 3)), "so does a new leader");
    net.deliver(say(1, 3, 1, chunk(9, 12, 4, b"4567")));
    assert_eq!(position(&mut net), Some((11, 3)), "a deposed one does not");
}

#[test]
fn what_a_restart_finds_half_received_may_be_out_of_date() {
    // H66, H70: the log has caught up, or there is more than one.
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
    }
    net.run_ms(600);
    let now = net.now;
    let named = |index: u64| {
        let meta = SnapshotMeta {
            position: at(1, index),
            ..SnapshotMeta::default()
        };
        let id = SnapshotId {
            position: meta.position,
            bytes: 10,
            checksum: 1,
        };
        (meta, id)
    };
    for (index, held, kept) in [
        (3, 4, false),
        (40, 11, false),
        (40, 10, true),
        (50, 2, false),
    ] {
        let (meta, id) = named(index);
        net.group(3).partial_snapshot(now, meta, id, held);
        let mut dropped = false;
        while let Some(output) = net.group(3).poll_output() {
            dropped |= output == Output::DropPartial { id };
        }
        assert_eq!(dropped, !kept, "{index}, {held}");
    }
}

#[test]
fn a_candidate_takes_chunks_of_the_leader_of_its_own_term() {
    // H68: another one won the very election in which this replica stands.
    let mut net = Net::new(3);
    net.campaign(3);
    for message in net.take("pre_vote", 2) {
        net.deliver(message);
    }
    for message in net.take("pre_vote_reply", 3) {
        net.deliver(message);
    }
    assert_eq!(net.status(3).role, Role::Candidate);
    let term = net.status(3).term.get();
    let meta = SnapshotMeta {
        position: at(0, 40),
        configuration: Configuration::of_voters([1, 2, 3].map(id)),
        configuration_index: LogIndex::ZERO,
    };
    let data = rmp_serde::to_vec_named::<Vec<crate::Entry>>(&entries(0, 1..=40)).unwrap();
    let whole = Body::Chunk {
        serial: 1,
        meta: Box::new(meta),
        total: data.len() as u64,
        checksum: checksum(&data),
        offset: 0,
        data: data.into(),
    };
    net.deliver(say(1, 3, term, whole));
    assert_eq!(
        (net.status(3).role, net.status(3).applied),
        (Role::Follower, LogIndex::new(40))
    );
    net.wire.clear();
    net.run_ms(3_000);
    assert!(net.status(3).last.index >= LogIndex::new(40));
}

#[test]
fn an_older_configuration_in_the_snapshot_takes_the_place_of_a_newer_one_in_the_log() {
    // H65: the log's configuration was never committed, and goes with the log.
    let mut net = Net::new(3);
    let mut log = entries(1, 1..=50);
    log[44].kind = crate::EntryKind::Configuration;
    log[44].payload = Configuration::of_voters([3, 4, 5].map(id)).encode();
    let append = Body::Append {
        prev: at(0, 0),
        entries: log.into(),
        commit: LogIndex::ZERO,
    };
    net.deliver(say(1, 3, 1, append));
    net.settle();
    assert_eq!(net.status(3).configuration_index, LogIndex::new(45));
    let older = Configuration::of_voters([1, 2, 3].map(id));
    let meta = SnapshotMeta {
        position: at(5, 40),
        configuration: older.clone(),
        configuration_index: LogIndex::ZERO,
    };
    let data = rmp_serde::to_vec_named::<Vec<crate::Entry>>(&entries(5, 1..=40)).unwrap();
    let whole = Body::Chunk {
        serial: 1,
        meta: Box::new(meta),
        total: data.len() as u64,
        checksum: checksum(&data),
        offset: 0,
        data: data.into(),
    };
    net.deliver(say(2, 3, 6, whole));
    for crash in [false, true] {
        net.settle();
        if crash {
            net.crash(3);
        }
        let status = net.status(3);
        assert_eq!(
            (
                status.configuration,
                status.configuration_index,
                status.last
            ),
            (older.clone(), LogIndex::ZERO, at(5, 40))
        );
    }
}

#[test]
fn an_older_snapshot_changes_nothing() {
    // H66, H67: neither one below the commit index, nor one that names another entry there.
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
    }
    net.run_ms(600);
    let before = (net.log(3), net.applied(3), net.status(3).configuration);
    for term in [0, 1] {
        let meta = SnapshotMeta {
            position: at(term, 2),
            configuration: Configuration::default(),
            configuration_index: LogIndex::ZERO,
        };
        net.deliver(say(
            1,
            3,
            1,
            Body::Chunk {
                serial: 9,
                meta: Box::new(meta),
                total: 0,
                checksum: 0,
                offset: 0,
                data: bytes::Bytes::new(),
            },
        ));
        net.settle();
    }
    assert_eq!(
        (net.log(3), net.applied(3), net.status(3).configuration),
        before
    );
}

#[test]
fn a_late_confirmation_of_an_install_changes_nothing() {
    // H66: the state is newer by now.
    let mut net = laggard(chunked());
    net.heal();
    net.run_ms(5_000);
    let before = net.status(3);
    let now = net.now;
    net.group(3).installed(now, at(1, 3));
    net.group(3).applied(now, LogIndex::new(2));
    net.drain(3);
    assert_eq!(net.status(3), before);
}

#[test]
fn a_snapshot_that_the_log_holds_is_not_installed() {
    // H67, H71, Raft paper 7: entries 1..6 are there, uncommitted; the snapshot only proves them committed.
    let mut net = Net::new(3);
    net.deliver(say(
        1,
        3,
        1,
        Body::Append {
            prev: at(0, 0),
            entries: entries(1, 1..=6).into(),
            commit: LogIndex::ZERO,
        },
    ));
    net.settle();
    let meta = SnapshotMeta {
        position: at(1, 4),
        configuration: Configuration::of_voters([id(1)]),
        configuration_index: LogIndex::ZERO,
    };
    net.deliver(say(
        1,
        3,
        1,
        Body::Chunk {
            serial: 1,
            meta: Box::new(meta),
            total: 50,
            checksum: 0,
            offset: 0,
            data: bytes::Bytes::from_static(&[0; 10]),
        },
    ));
    net.settle();
    assert_eq!(
        (net.status(3).commit, net.status(3).last),
        (LogIndex::new(4), at(1, 6))
    );
    assert_eq!(
        net.status(3).configuration,
        Configuration::of_voters([1, 2, 3].map(id))
    );
}

#[test]
fn an_installed_configuration_replaces_what_the_old_log_said() {
    // H65, Raft paper 7: the old log names {1,2,3} in an entry that the snapshot overrides.
    let mut net = Net::new(3);
    let newer = Configuration::of_voters([1, 4].map(id));
    let meta = SnapshotMeta {
        position: at(5, 40),
        configuration: newer.clone(),
        configuration_index: LogIndex::new(39),
    };
    net.deliver(say(
        1,
        3,
        1,
        Body::Append {
            prev: at(0, 0),
            entries: entries(1, 1..=50).into(),
            commit: LogIndex::ZERO,
        },
    ));
    net.settle();
    let data = rmp_serde::to_vec_named::<Vec<crate::Entry>>(&entries(5, 1..=40)).unwrap();
    net.deliver(say(
        1,
        3,
        6,
        Body::Chunk {
            serial: 1,
            meta: Box::new(meta),
            total: data.len() as u64,
            checksum: checksum(&data),
            offset: 0,
            data: data.into(),
        },
    ));
    net.settle();
    assert_eq!(
        (
            net.status(3).last,
            net.status(3).commit,
            net.status(3).applied
        ),
        (at(5, 40), LogIndex::new(40), LogIndex::new(40))
    );
    assert_eq!(
        (
            net.status(3).configuration,
            net.status(3).configuration_index
        ),
        (newer.clone(), LogIndex::new(39))
    );
    net.crash(3);
    assert_eq!(
        (net.status(3).last, net.status(3).configuration),
        (at(5, 40), newer)
    );
}

#[test]
fn a_crash_between_installing_and_resetting_the_log_is_told_apart() {
    let mut net = Net::new(3);
    let meta = SnapshotMeta {
        position: at(5, 40),
        configuration: Configuration::of_voters([1, 3].map(id)),
        configuration_index: LogIndex::new(4),
    };
    net.deliver(say(
        1,
        3,
        1,
        Body::Append {
            prev: at(0, 0),
            entries: entries(1, 1..=50).into(),
            commit: LogIndex::ZERO,
        },
    ));
    net.settle();
    net.node(3).disk_held = true;
    let data = rmp_serde::to_vec_named::<Vec<crate::Entry>>(&entries(5, 1..=40)).unwrap();
    net.deliver(say(
        1,
        3,
        6,
        Body::Chunk {
            serial: 1,
            meta: Box::new(meta),
            total: data.len() as u64,
            checksum: checksum(&data),
            offset: 0,
            data: data.into(),
        },
    ));
    net.settle();
    net.crash(3); // the checkpoint is durable, the log on disk still is the old one
    assert_eq!(
        (net.status(3).last, net.status(3).applied),
        (at(5, 40), LogIndex::new(40))
    );
    net.node(3).disk_held = false;
    net.settle();
    net.crash(3);
    assert_eq!(
        (net.status(3).last, net.status(3).first),
        (at(5, 40), LogIndex::new(41))
    );
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
fn a_candidate_takes_a_snapshot_from_the_leader() {
    // H68
    let mut net = laggard(chunked());
    net.run_ms(3_000);
    assert_eq!(net.status(3).role, Role::PreCandidate);
    net.heal();
    net.run_ms(5_000);
    assert_eq!(
        (net.status(3).role, net.applied(3).len()),
        (Role::Follower, 20)
    );
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
