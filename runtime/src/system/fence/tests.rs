//! Which orders are refused, and when a replica is shut out.

use synod_consensus::{Configuration, LogIndex};

use super::*;

const LEADER: ReplicaId = ReplicaId::new(1);
const COPY: ReplicaId = ReplicaId::new(9);
const GROUP: GroupId = GroupId::new(4);
const TERM: Term = Term::new(7);

fn order(term: u64, epoch: u64, learners: &[ReplicaId]) -> Order {
    Order {
        group: GROUP,
        leader: LEADER,
        term: TERM,
        stamp: Stamp { term, epoch },
        kind: OrderKind::Change {
            expected: LogIndex::new(3),
            voters: [LEADER].into(),
            learners: learners.iter().copied().collect(),
        },
    }
}

fn report(fence: Fence) -> GroupReport {
    GroupReport {
        group: GROUP,
        term: TERM,
        leader: LEADER,
        configuration: Configuration::of_voters([LEADER]),
        configuration_index: LogIndex::new(3),
        configuration_committed: true,
        last: LogIndex::new(5),
        matched: Vec::new(),
        resting: false,
        fence: fence.stamp(),
    }
}

#[test]
fn an_order_is_carried_out_by_the_leader_it_was_given_to_in_the_same_term() {
    let mut fence = Fence::default();
    let mine = order(2, 10, &[]);
    assert!(!fence.accept(&mine, ReplicaId::new(2), TERM));
    assert!(
        !fence.accept(&mine, LEADER, TERM.next()),
        "led, lost, led again"
    );
    assert_eq!(
        fence.stamp(),
        Stamp::default(),
        "what is refused fences nothing"
    );
    assert!(fence.accept(&mine, LEADER, TERM));
    assert!(fence.accept(&mine, LEADER, TERM), "given again");
}

#[test]
fn what_was_given_before_something_that_was_seen_is_refused() {
    let mut fence = Fence::default();
    assert!(fence.accept(&order(2, 10, &[]), LEADER, TERM));
    assert!(
        !fence.accept(&order(2, 9, &[COPY]), LEADER, TERM),
        "an older placement"
    );
    assert!(
        !fence.accept(&order(1, 99, &[COPY]), LEADER, TERM),
        "a former system leader"
    );
    assert!(fence.accept(&order(3, 1, &[]), LEADER, TERM));
    let unstamped = Order {
        stamp: Stamp::default(),
        ..order(0, 0, &[])
    };
    assert!(
        fence.accept(&unstamped, LEADER, TERM),
        "builds that do not stamp"
    );
    assert_eq!(fence.stamp().term, 3);
}

#[test]
fn a_replica_is_shut_out_once_the_leader_has_seen_an_order_that_cannot_name_it() {
    let (mut fences, mut fence) = (Fences::default(), Fence::default());
    // A former system leader's order that names it is on its way.
    fences.lead(Term::new(2));
    assert!(fence.accept(&order(1, 10, &[]), LEADER, TERM));
    assert!(!fences.shut_out(&report(fence), COPY));
    // Any order of this leader's turns it away.
    let here = fences.give(order(2, 11, &[]), 11);
    assert!(!fences.shut_out(&report(fence), COPY), "not heard yet");
    assert!(fence.accept(&here, LEADER, TERM));
    assert!(fences.shut_out(&report(fence), COPY));
    // This leader's own order names it, and another on the same placement does not.
    fences.give(order(2, 12, &[COPY]), 12);
    fences.give(order(2, 12, &[]), 12);
    assert!(fence.accept(&order(2, 12, &[]), LEADER, TERM));
    assert!(!fences.shut_out(&report(fence), COPY));
    assert!(
        fences.shut_out(&report(fence), ReplicaId::new(8)),
        "never named"
    );
    let later = Order {
        kind: OrderKind::Fence,
        ..order(2, 13, &[])
    };
    let later = fences.give(later, 13);
    assert!(fence.accept(&later, LEADER, TERM));
    assert!(fences.shut_out(&report(fence), COPY));
    assert!(
        !fence.accept(&order(2, 12, &[COPY]), LEADER, TERM),
        "it stays out"
    );
    // What was ordered of another configuration cannot happen any more.
    fences.give(order(2, 14, &[COPY]), 14);
    assert!(!fences.shut_out(&report(fence), COPY));
    let changed = GroupReport {
        configuration_index: LogIndex::new(4),
        ..report(fence)
    };
    assert!(fences.shut_out(&changed, COPY));
    // Whoever leads the system group next knows nothing of that.
    fences.lead(Term::new(3));
    assert!(!fences.shut_out(&report(fence), COPY));
}
