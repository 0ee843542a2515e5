//! Followers that the log no longer reaches.

use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, PeerState};

fn state_of_3(net: &Net) -> PeerState {
    net.status(1).peers[1].state
}

#[test]
fn a_follower_with_a_full_window_falls_behind_the_log_and_gets_a_snapshot() {
    // etcd-io/raft: slow_follower_after_compaction. H34: two appends are on the way to 3 and lost, more wait behind the full window;
    // the leader compacts beyond all of them.
    let options = GroupOptions {
        inflight_appends: 2,
        append_bytes: 1,
        ..Net::options()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
    }
    net.run_ms(600);
    net.isolate(3);
    for payload in ["d", "e", "f", "g"] {
        net.propose(1, payload);
    }
    net.settle();
    assert_eq!(
        (state_of_3(&net), net.status(1).commit),
        (PeerState::Replicate, LogIndex::new(8))
    );
    net.checkpoint(1, true);
    assert_eq!(net.status(1).first, LogIndex::new(9));
    net.heal();
    net.run_ms(1_500);
    assert_eq!(net.node(1).shelf.needed, 1);
    assert_eq!(net.applied(3).len(), 7);
    assert_eq!(state_of_3(&net), PeerState::Replicate);
}

/// 3 misses five entries, and the leader has compacted them.
fn far_behind() -> Net {
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.isolate(3);
    for payload in ["a", "b", "c", "d", "e"] {
        net.propose(1, payload);
    }
    net.settle();
    net.checkpoint(1, true);
    net
}

#[test]
fn an_acknowledgement_of_the_log_ends_the_snapshot() {
    // etcd-io/raft: snapshot_succeed_via_app_resp. H71: 3 installs the snapshot and says so, but whatever it says of the snapshot is
    // lost from then on; all that arrives is its ordinary acknowledgement of the log.
    let mut net = far_behind();
    net.heal();
    while net.status(3).last < at(1, 6) {
        if !net.step() {
            net.pass_ms(50);
        }
    }
    net.wire.clear();
    net.cut_one_way(3, 1);
    net.settle();
    assert_eq!(state_of_3(&net), PeerState::Snapshot);
    net.heal();
    let matched = LogIndex::new(6);
    net.deliver(say(3, 1, 1, Body::Appended { matched }));
    assert_eq!(
        state_of_3(&net),
        PeerState::Probe,
        "searched once, from there on"
    );
    net.settle();
    assert_eq!(state_of_3(&net), PeerState::Replicate);
    net.propose(1, "f");
    net.settle();
    assert_eq!(net.log(3), [1]);
    assert_eq!(net.node(1).shelf.needed, 1);
}

#[test]
fn an_older_snapshot_than_the_one_under_way_is_good_enough() {
    // etcd-io/raft: snapshot_succeed_via_app_resp_behind. H71: the snapshot under way ends at 7, the log still begins behind 6. 3
    // says that it holds everything through 6, from wherever: the log alone can go on from there.
    let mut net = far_behind();
    net.propose(1, "f");
    net.settle();
    net.heal();
    while net.on_wire("chunk", 3) == 0 {
        if !net.step() {
            net.pass_ms(50);
        }
    }
    let Body::Chunk { meta, .. } = net.take("chunk", 3).remove(0).body else {
        panic!()
    };
    net.wire.clear();
    assert_eq!(state_of_3(&net), PeerState::Snapshot);
    assert_eq!(
        (meta.position.index, net.status(1).first),
        (LogIndex::new(7), LogIndex::new(7))
    );
    for (matched, state) in [(5, PeerState::Snapshot), (6, PeerState::Probe)] {
        let matched = LogIndex::new(matched);
        net.deliver(say(3, 1, 1, Body::Appended { matched }));
        assert_eq!(state_of_3(&net), state);
    }
    let append = net.take("append", 3).pop().unwrap();
    assert!(matches!(append.body, Body::Append { prev, .. } if prev == at(1, 6)));
}
