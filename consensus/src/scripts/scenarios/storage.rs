//! Disks and state machines that take their time.

use super::*;
use crate::message::Body;
use crate::{LogIndex, Term};

#[test]
fn disks_and_state_machines_lag_and_nothing_is_promised_for_them() {
    // etcd-io/raft: async_storage_writes. Three entries are on the way at once while no disk has written any; each write brings
    // exactly its own acknowledgement, and what is committed waits for the state machine without holding up anybody.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    (1..=3).for_each(|replica| net.node(replica).disk_held = true);
    net.node(1).apply_held = true;
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
        net.settle();
    }
    assert_eq!((net.log(2), net.log(3)), (vec![1; 4], vec![1; 4]));
    assert_eq!(
        (net.status(1).commit, net.status(2).persisted),
        (LogIndex::new(1), LogIndex::new(1))
    );
    for written in 2..=4_u64 {
        net.write_one(2);
        let acknowledged: Vec<_> = net.take("appended", 1);
        let matched = LogIndex::new(written);
        assert_eq!(
            acknowledged.last().map(|message| &message.body),
            Some(&Body::Appended { matched })
        );
        acknowledged
            .into_iter()
            .for_each(|message| net.deliver(message));
        net.write_one(1);
        net.settle();
        assert_eq!(net.status(1).commit, matched, "2 and the leader hold it");
    }
    assert_eq!(net.status(1).applied, LogIndex::new(1));
    assert_eq!(net.log(3).len(), 4);
    assert_eq!(net.status(3).persisted, LogIndex::new(1));
    net.node(1).apply_held = false;
    (1..=3).for_each(|replica| net.node(replica).disk_held = false);
    net.run_ms(600);
    for replica in 1..=3 {
        assert_eq!(net.applied(replica), ["a", "b", "c"]);
    }
}

#[test]
fn a_completion_of_a_write_that_was_replaced_twice_vouches_for_nothing() {
    // etcd-io/raft: async_storage_writes_append_aba_race. H27: on replica 1 entry 2 comes from the leader of term 1, then from that of
    // term 2, then, after a heartbeat told it of term 3, from that of term 3. The disk is slow: it writes the three one by one. Only
    // the last one may be acknowledged, and only to the last leader.
    let mut net = Net::new(7);
    net.isolate(1);
    let append = |from, term, prev, entries: Vec<crate::Entry>| {
        let commit = LogIndex::ZERO;
        say(
            from,
            1,
            term,
            Body::Append {
                prev,
                entries: entries.into(),
                commit,
            },
        )
    };
    net.deliver(append(2, 1, at(0, 0), entries(1, 1..=1)));
    net.settle();
    net.node(1).disk_held = true;
    net.heal();
    net.deliver(append(2, 1, at(1, 1), entries(1, 2..=2)));
    net.deliver(append(3, 2, at(1, 1), entries(2, 2..=2)));
    let heartbeat = heartbeat(1, net.now, 0, 0);
    net.deliver(say(4, 1, 3, heartbeat));
    net.deliver(append(4, 3, at(1, 1), entries(3, 2..=2)));
    assert_eq!(net.log(1), [1, 3]);
    net.wire.clear();
    while net.node(1).queue.len() > 1 {
        net.write_one(1);
        assert_eq!(net.status(1).persisted, LogIndex::new(1));
        assert_eq!(
            (net.on_wire("appended", 2), net.on_wire("appended", 3)),
            (0, 0)
        );
        let told = net.take("appended", 4);
        let ahead = |message: &crate::Message| {
            message.body
                == Body::Appended {
                    matched: LogIndex::new(2),
                }
        };
        assert!(!told.iter().any(ahead));
    }
    net.write_one(1);
    assert_eq!(net.status(1).persisted, LogIndex::new(2));
    let told = net.take("appended", 4).pop().unwrap();
    let matched = LogIndex::new(2);
    assert_eq!(
        (told.term, told.body),
        (Term::new(3), Body::Appended { matched })
    );
}
