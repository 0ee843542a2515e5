//! What the fuzzer found, told once more by hand. Before its fix each of these panicked, lost entries, or took room without bound.
//!
//! Here: one story per finding. First those that need a peer that breaks the rules (a bug, or a lie): none of it may stop a replica, and
//! none of it is believed. Then those that need no such peer.

use core::time::Duration;

use bytes::Bytes;

use crate::message::Body;
use crate::{
    ChunkReceived, Configuration, Entry, EntryKind, Group, GroupId, GroupOptions, LogIndex,
    Message, Output, Position, ReplicaId, Restored, Role, SnapshotMeta, Term,
};

const NOW: Duration = Duration::ZERO;

fn group(voters: u64) -> Group {
    let options = GroupOptions::default().check().unwrap();
    let founding = Configuration::of_voters((1..=voters).map(ReplicaId::new));
    let restored = Restored::founding(founding);
    Group::new(options, GroupId::ZERO, ReplicaId::new(1), restored, 1, NOW).unwrap()
}

fn hear(group: &mut Group, from: u64, term: u64, body: Body) {
    let message = Message {
        group: GroupId::ZERO,
        from: ReplicaId::new(from),
        to: ReplicaId::new(1),
        term: Term::new(term),
        body,
    };
    group.receive(NOW, message);
    settle(group);
}

/// The disk does everything at once.
fn settle(group: &mut Group) {
    while let Some(output) = group.poll_output() {
        if let Output::Persist(persist) = output {
            group.persisted(NOW, persist.token);
        }
    }
}

fn at(term: u64, index: u64) -> Position {
    Position::new(Term::new(term), LogIndex::new(index))
}

fn append(prev: Position, entries: &[(u64, u64)], commit: u64) -> Body {
    let entry = |(term, index): &(u64, u64)| Entry {
        term: Term::new(*term),
        index: LogIndex::new(*index),
        kind: EntryKind::Normal,
        payload: Bytes::new(),
    };
    Body::Append {
        prev,
        entries: entries.iter().map(entry).collect(),
        commit: LogIndex::new(commit),
    }
}

// A term at the end of its numbers would leave none for the next election; an index there would leave none for the next entry.
#[test]
fn numbers_that_nobody_reaches_are_not_believed() {
    let mut group = group(3);
    hear(&mut group, 2, u64::MAX, Body::Outdated);
    hear(
        &mut group,
        2,
        1,
        append(at(1, u64::MAX), &[(1, u64::MAX)], 0),
    );
    let meta = SnapshotMeta {
        position: at(1, u64::MAX),
        ..SnapshotMeta::default()
    };
    let chunk = Body::Chunk {
        serial: 1,
        meta: Box::new(meta),
        total: 0,
        checksum: 0,
        offset: 0,
        data: Bytes::new(),
    };
    hear(&mut group, 2, 1, chunk);
    assert_eq!((group.term, group.last()), (Term::ZERO, Position::ZERO));
    group.campaign(NOW);
    settle(&mut group);
}

// An entry from a later term than its leader's: this replica would lead with a log that is ahead of its own term.
#[test]
fn an_entry_of_a_term_that_has_not_come_is_not_taken() {
    let mut group = group(3);
    hear(&mut group, 2, 1, append(Position::ZERO, &[(9, 1)], 0));
    assert_eq!(group.last(), Position::ZERO);
}

// Behind what is committed here, the terms of the entries go back: no leader's log does.
#[test]
fn entries_of_earlier_terms_do_not_follow_committed_ones() {
    let mut group = group(3);
    hear(
        &mut group,
        2,
        5,
        append(Position::ZERO, &[(1, 1), (5, 2)], 2),
    );
    assert_eq!(group.committed, LogIndex::new(2));
    hear(
        &mut group,
        3,
        6,
        append(Position::ZERO, &[(1, 1), (1, 2), (1, 3)], 0),
    );
    assert_eq!(group.last(), at(5, 2));
}

// Raft paper 5.3, Leader Append-Only: a leader that takes back what it said in the same term would leave a commit index beyond the log.
#[test]
fn a_leader_does_not_take_back_what_it_said() {
    let mut group = group(3);
    hear(
        &mut group,
        2,
        2,
        append(Position::ZERO, &[(1, 1), (1, 2), (1, 3)], 0),
    );
    hear(&mut group, 2, 2, append(Position::ZERO, &[(2, 1)], 3));
    assert_eq!((group.last(), group.committed), (at(1, 3), LogIndex::ZERO));
}

// Answers of replicas that have no vote took a place each among the votes.
#[test]
fn strangers_take_no_room_in_a_campaign() {
    let mut group = group(3);
    group.campaign(NOW);
    settle(&mut group);
    for stranger in 100..1_000 {
        let campaign = Term::new(1);
        hear(
            &mut group,
            stranger,
            0,
            Body::PreVoteReply {
                campaign,
                granted: true,
            },
        );
    }
    assert_eq!(group.campaign.ballots(), 1);
}

// A leader numbered its peers in a byte: with the 257th it panicked. (Not by what a peer said: a wish of its own caller did it.)
#[test]
fn a_group_may_have_many_members() {
    let mut group = group(300);
    group.campaign(NOW);
    settle(&mut group);
    for voter in 2..=151 {
        let campaign = Term::new(1);
        let granted = true;
        hear(
            &mut group,
            voter,
            0,
            Body::PreVoteReply { campaign, granted },
        );
    }
    for voter in 2..=151 {
        hear(&mut group, voter, 1, Body::VoteReply { granted: true });
    }
    assert_eq!(group.role, Role::Leader);
}

/// All of a snapshot through 1.5 has come, and waits to be stored.
fn storing() -> (Group, ChunkReceived) {
    let mut group = group(3);
    let meta = SnapshotMeta {
        position: at(1, 5),
        ..SnapshotMeta::founding(Configuration::of_voters([1, 2, 3].map(ReplicaId::new)))
    };
    hear(&mut group, 2, 2, append(Position::ZERO, &[], 0));
    let message = Message {
        group: GroupId::ZERO,
        from: ReplicaId::new(2),
        to: ReplicaId::new(1),
        term: Term::new(2),
        body: chunk(&meta, b"state"),
    };
    group.receive(NOW, message);
    let stored = core::iter::from_fn(|| group.poll_output()).find_map(|output| match output {
        Output::StoreChunk(chunk) => Some(chunk),
        _ => None,
    });
    (group, stored.unwrap())
}

fn chunk(meta: &SnapshotMeta, data: &'static [u8]) -> Body {
    Body::Chunk {
        serial: 1,
        meta: Box::new(meta.clone()),
        total: 5,
        checksum: 0,
        offset: 0,
        data: Bytes::from_static(data),
    }
}

fn installs(group: &mut Group) -> bool {
    core::iter::from_fn(|| group.poll_output())
        .any(|output| matches!(output, Output::Install { .. }))
}

// H66. While the last chunk is being stored, another leader's appends reach further than the snapshot, and are acknowledged. Installed
// now, it would cut them off.
#[test]
fn a_snapshot_that_the_log_has_passed_is_not_installed() {
    let (mut group, stored) = storing();
    let entries: Vec<_> = (1..=7).map(|index| (1, index)).collect();
    hear(&mut group, 3, 3, append(Position::ZERO, &entries, 0));
    group.chunk_stored(NOW, stored.id, 5);
    assert!(!installs(&mut group));
    assert_eq!(group.last(), at(1, 7));
}

// The last chunk is stored while this replica campaigns. Installed now, the state would be replaced under a leader.
#[test]
fn a_snapshot_is_not_installed_during_a_campaign() {
    let (mut group, stored) = storing();
    group.campaign(NOW);
    group.chunk_stored(NOW, stored.id, 5);
    assert!(!installs(&mut group));
    // Nobody elected it; the leader asks how much it holds.
    let message = Message {
        group: GroupId::ZERO,
        from: ReplicaId::new(2),
        to: ReplicaId::new(1),
        term: Term::new(2),
        body: chunk(&stored.meta, b""),
    };
    group.receive(NOW, message);
    assert!(installs(&mut group));
}

// A leader's snapshot that contradicts what the same leader appended before it was whole would leave entries verified, and acknowledged,
// that are beyond the log's new end.
#[test]
fn a_snapshot_does_not_replace_what_its_own_leader_appended_otherwise() {
    let mut group = group(3);
    let meta = SnapshotMeta {
        position: at(1, 1),
        configuration: Configuration::of_voters((1..=3).map(ReplicaId::new)),
        ..SnapshotMeta::default()
    };
    let chunk = Body::Chunk {
        serial: 1,
        meta: Box::new(meta),
        total: 1,
        checksum: 0,
        offset: 0,
        data: Bytes::from_static(b"x"),
    };
    let message = Message {
        group: GroupId::ZERO,
        from: ReplicaId::new(2),
        to: ReplicaId::new(1),
        term: Term::new(1),
        body: chunk,
    };
    group.receive(NOW, message);
    let mut stored = None;
    while let Some(output) = group.poll_output() {
        match output {
            Output::Persist(persist) => group.persisted(NOW, persist.token),
            Output::StoreChunk(ChunkReceived { id, .. }) => stored = Some(id),
            _ => {}
        }
    }
    hear(
        &mut group,
        2,
        1,
        append(Position::ZERO, &[(0, 1), (0, 2)], 0),
    );
    let id = stored.expect("it was to be stored");
    group.chunk_stored(NOW, id, 1);
    while let Some(output) = group.poll_output() {
        assert!(!matches!(output, Output::Install { .. }), "{output:?}");
    }
    hear(&mut group, 2, 1, append(at(0, 2), &[], 2));
    assert_eq!(
        (group.committed, group.last()),
        (LogIndex::new(2), at(0, 2))
    );
}
