//! States that stand for logs.

use super::*;
use crate::message::Body;
use crate::{Configuration, GroupOptions, LogIndex, PeerState, Role, SnapshotMeta};

fn chunked() -> GroupOptions {
    GroupOptions {
        chunk_bytes: 16,
        keep_entries: 2,
        ..GroupOptions::default()
    }
}

/// Replica 3 is cut off while 1 and 2 write and compact.
fn laggard(options: GroupOptions) -> Net {
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

#[test]
fn a_follower_that_restarts_half_way_begins_again() {
    // H70
    let mut net = laggard(chunked());
    net.heal();
    let mut gathered = 0;
    let mut crashed = false;
    while !crashed {
        let Some(message) = net.wire.pop_front() else {
            if !(1..=3).any(|replica| net.write_one(replica) | net.apply_one(replica)) {
                net.pass_ms(100);
            }
            continue;
        };
        gathered += usize::from(message.name() == "chunk");
        if gathered == 4 {
            crashed = true;
            net.crash(3);
        }
        net.deliver(message);
    }
    net.run_ms(5_000);
    assert!(crashed);
    assert_eq!(net.applied(3).len(), 20);
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
                meta,
                total: 0,
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
    // H67, H71: entries 1..6 are there, uncommitted; the snapshot only proves them committed.
    let mut net = Net::new(3);
    net.deliver(say(
        1,
        3,
        1,
        Body::Append {
            prev: at(0, 0),
            entries: entries(1, 1..=6),
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
            meta,
            total: 50,
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
    // H65: the old log names {1,2,3} in an entry that the snapshot overrides.
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
            entries: entries(1, 1..=50),
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
            meta,
            total: data.len() as u64,
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
            entries: entries(1, 1..=50),
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
            meta,
            total: data.len() as u64,
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
    assert_eq!(net.node(1).snapshots_needed, 2);
}
