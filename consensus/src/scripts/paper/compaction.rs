//! Section 7: logs do not grow for ever.

use super::*;
use crate::{LogIndex, Restored};

#[test]
fn every_replica_compacts_by_itself() {
    // Raft paper 7: each where it likes, the leader not at all; then 3, which kept nothing, leads, and 1 gets on with it.
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c", "d"] {
        net.propose(1, payload);
    }
    net.run_ms(600);
    net.checkpoint(3, true);
    net.propose(1, "e");
    net.run_ms(600);
    net.checkpoint(2, true);
    net.settle();
    let firsts: Vec<_> = (1..=3)
        .map(|replica| net.status(replica).first.get())
        .collect();
    assert_eq!(firsts, [1, 7, 6]);
    assert_eq!(
        net.status(3).configuration,
        Restored::founding(net.status(1).configuration)
            .base
            .configuration,
        "a compacted log still knows who belongs"
    );
    net.isolate(1);
    net.forget_leader(1);
    net.elect(3);
    net.propose(3, "f");
    net.heal();
    net.run_ms(3_000);
    for replica in 1..=3 {
        assert_eq!(net.applied(replica), ["a", "b", "c", "d", "e", "f"]);
        net.crash(replica);
        assert_eq!(net.status(replica).last.index, LogIndex::new(8));
        net.run_ms(5_000);
    }
    assert_eq!(
        net.node(3).shelf.needed,
        0,
        "its log reached back far enough for 1"
    );
}
