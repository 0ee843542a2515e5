//! What a replica takes for its state, and what of that it does not: older and newer snapshots, other configurations, crashes in between.

use super::snapshot_stories::{chunked, laggard};
use super::*;
use crate::message::Body;
use crate::{Configuration, LogIndex, Output, Role, SnapshotId, SnapshotMeta};

/// Replica 3 holds this log by the word of 1, in its first term; nothing of it is committed.
fn hold(net: &mut Net, log: Vec<crate::Entry>) {
    let append = Body::Append {
        prev: at(0, 0),
        entries: log.into(),
        commit: LogIndex::ZERO,
    };
    net.deliver(say(1, 3, 1, append));
    net.settle();
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
    net.deliver(say(1, 3, term, whole(meta, &entries(0, 1..=40))));
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
    hold(&mut net, log);
    assert_eq!(net.status(3).configuration_index, LogIndex::new(45));
    let older = Configuration::of_voters([1, 2, 3].map(id));
    let meta = SnapshotMeta {
        position: at(5, 40),
        configuration: older.clone(),
        configuration_index: LogIndex::ZERO,
    };
    net.deliver(say(2, 3, 6, whole(meta, &entries(5, 1..=40))));
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
    hold(&mut net, entries(1, 1..=6));
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
    hold(&mut net, entries(1, 1..=50));
    net.deliver(say(1, 3, 6, whole(meta, &entries(5, 1..=40))));
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
    hold(&mut net, entries(1, 1..=50));
    net.node(3).disk_held = true;
    net.deliver(say(1, 3, 6, whole(meta, &entries(5, 1..=40))));
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
