//! Slow, crashing and lying disks.

use super::*;
use crate::message::Body;
use crate::storage::{HardState, Recovered};
use crate::{
    Configuration, Group, GroupId, GroupOptions, LogIndex, Output, RestoreError, Restored, Role,
    SnapshotMeta,
};
use core::time::Duration;

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

#[test]
fn a_sole_voter_applies_nothing_that_is_not_durable() {
    // H37: committed and appended in the same batch, then a crash.
    let mut net = Net::led(1, 1);
    net.node(1).disk_held = true;
    net.propose(1, "a");
    net.settle();
    assert_eq!(net.applied(1), Vec::<String>::new());
    assert_eq!(net.status(1).commit, LogIndex::new(1));
    net.node(1).disk_held = false;
    net.settle();
    assert_eq!(net.applied(1), ["a"]);
}

#[test]
fn a_follower_applies_nothing_that_is_not_durable_here() {
    // H38: committed by the others, not yet on this disk.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.node(3).disk_held = true;
    net.propose(1, "a");
    net.settle();
    net.propose(1, "b"); // carries the news that "a" is committed
    net.settle();
    assert_eq!(net.applied(1), ["a", "b"]);
    assert_eq!(net.status(3).commit, LogIndex::new(2));
    assert_eq!(net.applied(3), Vec::<String>::new());
    net.node(3).disk_held = false;
    net.settle();
    assert_eq!(net.applied(3), ["a"]);
}

#[test]
fn a_leader_commits_by_its_followers_while_its_own_disk_is_slow() {
    // etcd-io/raft: async_storage_writes_apply_nonlocally_committed. DESIGN.md section 8: local append in parallel with sending.
    let mut net = Net::led(3, 1);
    net.node(1).disk_held = true;
    net.propose(1, "a");
    net.settle();
    assert_eq!(
        net.status(1).commit,
        LogIndex::new(2),
        "two followers are a majority"
    );
    assert_eq!(
        net.applied(1),
        Vec::<String>::new(),
        "and its own state still waits (H38)"
    );
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    // H73: neither an append, nor its duplicate, nor an empty one, nor a heartbeat.
    let mut net = Net::new(3);
    net.node(3).disk_held = true;
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=2), 0));
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=2), 0));
    net.deliver(append(1, 3, 1, at(1, 2), vec![], 0));
    assert_eq!(net.on_wire("appended", 1), 0);
    net.deliver(say(1, 3, 1, heartbeat(1, net.now, 2, 0)));
    let reply = net.wire.pop_back().unwrap();
    assert!(
        matches!(reply.body, Body::HeartbeatReply { received, matched: LogIndex::ZERO, .. } if received == LogIndex::new(2))
    );
    while net.write_one(3) {}
    assert_eq!(net.on_wire("appended", 1), 1);
}

#[test]
fn an_acknowledgement_from_before_a_truncation_is_worth_nothing_after_it() {
    // H27: entry 2 of term 1 becomes durable only after entry 2 of term 2 was asked to replace it.
    let mut net = Net::new(3);
    net.node(3).disk_held = true;
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=2), 0));
    net.deliver(append(2, 3, 2, at(1, 1), entries(2, 2..=2), 0));
    net.write_one(3);
    assert_eq!(net.status(3).persisted, LogIndex::new(1));
    while net.write_one(3) {}
    assert_eq!(net.status(3).persisted, LogIndex::new(2));
    let acknowledged: Vec<_> = net
        .wire
        .iter()
        .filter(|message| message.name() == "appended")
        .map(|message| message.to)
        .collect();
    assert!(
        acknowledged.iter().all(|to| *to == id(2)),
        "the deposed leader hears nothing"
    );
}

#[test]
fn completions_out_of_order_do_not_vouch_for_each_other() {
    // H28: IO 2 before IO 1.
    let mut net = Net::new(3);
    net.node(3).disk_held = true;
    net.deliver(append(1, 3, 1, at(0, 0), entries(1, 1..=2), 0));
    net.deliver(append(1, 3, 1, at(1, 2), entries(1, 3..=4), 0));
    let second = net.node(3).queue.pop_back().unwrap();
    let now = net.now;
    net.group(3).persisted(now, second.token);
    net.drain(3);
    assert_eq!(
        (net.status(3).persisted, net.on_wire("appended", 1)),
        (LogIndex::ZERO, 0)
    );
}

#[test]
fn a_heartbeat_that_names_more_than_the_log_marks_the_replica_as_broken() {
    // H73; etcd-io/raft: commit_index_regression. No panic, no vote, no acknowledgement ever again.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.nodes.remove(&3);
    let founding = Configuration::of_voters([1, 2, 3].map(id));
    let mut amnesiac = Group::new(
        GroupOptions::default().check().unwrap(),
        GroupId::ZERO,
        id(3),
        Restored::founding(founding),
        9,
        net.now,
    )
    .unwrap();
    let body = heartbeat(9, net.now, 2, 2);
    amnesiac.receive(net.now, say(1, 3, 1, body));
    let outputs: Vec<_> = core::iter::from_fn(|| amnesiac.poll_output()).collect();
    assert!(outputs.contains(&Output::DataLost {
        acknowledged: LogIndex::new(2),
        last: LogIndex::ZERO
    }));
    assert!(amnesiac.status().data_lost);
    amnesiac.receive(
        net.now,
        say(
            2,
            3,
            5,
            Body::Vote {
                last: at(9, 9),
                transfer: true,
            },
        ),
    );
    let silent = core::iter::from_fn(|| amnesiac.poll_output())
        .all(|output| !matches!(output, Output::Send(_)));
    assert!(silent);
    assert_eq!(amnesiac.wake_at(), None);
}

#[test]
fn the_durable_commit_index_never_decreases() {
    // H74: every hard state written, over restarts and leaders.
    let mut net = Net::led(3, 1);
    let mut highest = [LogIndex::ZERO; 4];
    for round in 0..6 {
        let leader = net.leader().unwrap();
        net.propose(leader, "x");
        net.run_ms(700);
        net.crash(leader);
        net.run_ms(4_000);
        for replica in 1..=3 {
            let key = crate::ReplicaKey {
                group: GroupId::ZERO,
                replica: id(replica),
            };
            let commit = crate::LogStore::recover(&net.node(replica).store, key)
                .unwrap()
                .unwrap()
                .hard_state
                .commit;
            assert!(commit >= highest[replica as usize], "round {round}");
            highest[replica as usize] = commit;
        }
    }
    assert!(highest[1] > LogIndex::new(4));
}

#[test]
fn what_was_restored_is_checked() {
    // H73, H75, E28: a log that cannot be right is refused, not read around.
    let start = |restored| {
        Group::new(
            GroupOptions::default().check().unwrap(),
            GroupId::ZERO,
            id(1),
            restored,
            1,
            Duration::ZERO,
        )
        .map(|_| ())
    };
    let base = SnapshotMeta {
        position: at(1, 10),
        configuration: Configuration::of_voters([id(1)]),
        configuration_index: LogIndex::ZERO,
    };
    let recovered = |entries, commit| Recovered {
        hard_state: HardState {
            term: crate::Term::new(3),
            vote: None,
            commit: LogIndex::new(commit),
        },
        base: base.clone(),
        entries,
    };
    let ok = Restored::after_restart(recovered(entries(2, 11..=12), 11), Some(base.clone()));
    assert_eq!(start(ok.clone()), Ok(()));
    let behind = Restored {
        state: SnapshotMeta::default(),
        ..ok.clone()
    };
    assert!(matches!(
        start(behind),
        Err(RestoreError::StateBehindLog { .. })
    ));
    assert_eq!(
        start(Restored {
            entries: entries(2, 12..=13),
            ..ok.clone()
        }),
        Err(RestoreError::Broken { at: at(2, 12) })
    );
    assert_eq!(
        start(Restored {
            entries: entries(0, 11..=11),
            ..ok
        }),
        Err(RestoreError::Broken { at: at(0, 11) })
    );
    let short = Restored::after_restart(recovered(vec![], 12), Some(base.clone()));
    assert!(matches!(
        start(short),
        Err(RestoreError::LogTooShort { .. })
    ));
}

#[test]
fn a_leader_whose_disk_hangs_gives_way() {
    // H21: its heartbeats look healthy.
    let mut net = Net::led(3, 1);
    net.node(1).disk_held = true;
    net.propose(1, "a");
    net.run_ms(15_000);
    assert_ne!(net.leader(), Some(1));
    assert_eq!(net.status(1).role, Role::Follower);
}

#[test]
fn nothing_is_appended_past_compacted_entries_as_if_they_were_not_there() {
    // H75: a follower that needs compacted entries gets a snapshot, never an append with an invented predecessor.
    let mut net = Net::led(3, 1);
    net.isolate(3);
    for _ in 0..5 {
        net.propose(1, "x");
    }
    net.settle();
    net.checkpoint(1, true);
    net.heal();
    net.run_ms(2_000);
    assert!(net.node(1).shelf.needed > 0);
    assert_eq!(net.applied(3).len(), 5);
}
