//! Feeding followers: the search, the pipeline, the news of commits.

use super::*;
use crate::{LogIndex, PeerState};

#[test]
fn a_heartbeats_answer_ends_the_search() {
    // etcd-io/raft: heartbeat_resp_recovers_from_probing. The first append of a new leader to 3 is lost, so 3 is still searched for,
    // and there is nothing more to send. The next heartbeat's answer starts the search again, and ends it.
    let mut net = Net::new(3);
    net.campaign(1);
    net.until(|net| net.leader() == Some(1));
    net.drain(1);
    assert_eq!(net.take("append", 3).len(), 1);
    net.settle();
    assert_eq!((net.log(2), net.log(3)), (vec![1], vec![]));
    assert_eq!(net.status(1).peers[1].state, PeerState::Probe);
    net.run_ms(400);
    assert_eq!(net.status(1).peers[1].state, PeerState::Probe, "idle");
    net.run_ms(200);
    assert_eq!(net.status(1).peers[1].state, PeerState::Replicate);
    assert_eq!(net.log(3), [1]);
}

#[test]
fn a_follower_that_missed_the_commit_learns_of_it_soon() {
    // etcd-io/raft: lagging_commit. 3 has both entries, but its acknowledgements are lost and so is the news of the commit. A
    // heartbeat names only what 3 acknowledged (H73), its answer says how far it is, and the next notice tells it all: one interval
    // and two round trips, without another command.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.cut_one_way(3, 1);
    net.propose(1, "data1");
    net.propose(1, "data2");
    net.settle();
    assert_eq!(
        (net.log(3), net.status(1).commit),
        (vec![1; 3], LogIndex::new(3))
    );
    net.run_ms(60);
    assert_eq!((net.applied(2).len(), net.applied(3).len()), (2, 0));
    net.heal();
    net.run_ms(560);
    assert_eq!(net.applied(3), ["data1", "data2"]);
}
