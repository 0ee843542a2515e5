//! Majorities that are gone for good, and what an operator's word makes of the rest.
//!
//! Old replicas have the ids 1.., their successors on the same disks 101...

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::node::Disk;
use super::*;
use crate::recovery::{Contradiction, Other, Outlook, Recovery, Survivor, assess, reform};
use crate::storage::{HardState, LogStore, Write};
use crate::{Configuration, GroupId, ReplicaId, ReplicaKey, Restored, SnapshotMeta, Term};

fn renamed(old: ReplicaId) -> ReplicaId {
    id(old.get() + 100)
}

/// A replica as its log alone tells it.
fn survivor(
    replica: u64,
    founding: &Configuration,
    term: u64,
    commit: u64,
    log: &[crate::Entry],
) -> Survivor {
    let restored = Restored {
        hard_state: HardState {
            term: Term::new(term),
            vote: None,
            commit: crate::LogIndex::new(commit),
        },
        entries: log.to_vec(),
        is_new: false,
        ..Restored::founding(founding.clone())
    };
    Survivor::new(GroupId::ZERO, id(replica), restored).unwrap()
}

fn stuck(survivors: &[Survivor]) -> Recovery {
    match assess(GroupId::ZERO, survivors) {
        Ok(Outlook::Stuck(recovery)) => recovery,
        other => panic!("{other:?}"),
    }
}

/// Stops everybody: what the lost ones and the survivors leave on their disks.
fn part(net: &mut Net, lost: &[u64]) -> (BTreeMap<u64, Disk>, BTreeMap<u64, Disk>) {
    let replicas: Vec<u64> = net.nodes.keys().copied().collect();
    let disks = replicas.into_iter().map(|replica| {
        let disk = net.stop(replica);
        (replica, disk)
    });
    let parted = disks.partition(|(replica, _)| lost.contains(replica));
    net.wire.clear();
    parted
}

fn survivors(disks: &BTreeMap<u64, Disk>) -> Vec<Survivor> {
    disks
        .iter()
        .map(|(replica, disk)| {
            Survivor::new(GroupId::ZERO, id(*replica), disk.restored(*replica)).unwrap()
        })
        .collect()
}

/// Does on the disks what the recovery says, and starts everybody under the new ids.
fn carry_out(net: &mut Net, recovery: &Recovery, disks: BTreeMap<u64, Disk>, payloads: &[&str]) {
    let all = survivors(&disks);
    for (survivor, (replica, mut disk)) in all.iter().zip(disks) {
        if !survivor.holds_anything() {
            continue;
        }
        let payloads = payloads.iter().map(|payload| (*payload).to_owned().into());
        let writes = recovery.writes(survivor, renamed, payloads);
        let key = |replica| ReplicaKey {
            group: GroupId::ZERO,
            replica,
        };
        let old = survivor.replica();
        let batch = [(key(renamed(old)), writes), (key(old), vec![Write::Drop])];
        disk.store.write(&batch).unwrap();
        net.start_from(replica + 100, disk);
    }
}

#[test]
fn the_last_of_three_goes_on_with_everything_that_it_held() {
    let mut net = Net::led(3, 1);
    for payload in ["a", "b", "c"] {
        net.propose(1, payload);
        net.settle();
    }
    net.isolate(3);
    net.propose(1, "d"); // acknowledged by 1 and 2, and gone with them
    net.settle();
    let (_, disks) = part(&mut net, &[1, 2]);
    let all = survivors(&disks);
    let recovery = stuck(&all);
    assert_eq!(recovery.chosen, id(3));
    assert_eq!(recovery.missing(), [id(1), id(2)].into());
    assert_eq!((recovery.last, recovery.others.len()), (at(1, 4), 0));
    net.heal();
    carry_out(&mut net, &recovery, disks, &["given up: 1, 2"]);
    net.run_ms(10);
    assert_eq!(net.leader(), Some(103));
    net.propose(103, "e");
    net.settle();
    assert_eq!(net.applied(103), ["a", "b", "c", "given up: 1, 2", "e"]);
    // And it grows again, by the usual way.
    for replica in [104, 105] {
        net.add_newcomer(replica);
    }
    net.change(103, &[103], &[104, 105]);
    net.settle();
    net.change(103, &[103, 104, 105], &[]);
    net.settle();
    assert_eq!(net.applied(105), net.applied(103));
    assert_eq!(net.status(105).configuration.voters.len(), 3);
}

#[test]
fn of_two_survivors_the_better_log_decides_and_the_other_follows_it() {
    let mut net = Net::led(5, 1);
    net.propose(1, "a");
    net.settle();
    net.isolate(4);
    net.propose(1, "b");
    net.settle();
    let (_, disks) = part(&mut net, &[1, 2, 3]);
    let recovery = stuck(&survivors(&disks));
    assert_eq!(recovery.chosen, id(5));
    assert_eq!(
        recovery.others,
        [Other {
            replica: id(4),
            last: at(1, 2),
            agrees: at(1, 2)
        }]
    );
    net.heal();
    carry_out(&mut net, &recovery, disks, &[]);
    net.run_ms(1_000);
    assert_eq!(net.leader(), Some(105));
    assert_eq!(net.status(105).configuration.voters, [id(105)].into());
    assert_eq!(net.status(104).configuration.learners, [id(104)].into());
    net.propose(105, "c");
    net.run_ms(1_000);
    for replica in [104, 105] {
        assert_eq!(net.applied(replica), ["a", "b", "c"]);
    }
}

#[test]
fn what_one_survivor_knows_to_be_committed_outweighs_a_later_term() {
    // Raft paper, figure 8: entry 2 of term 2 is committed by the leader of term 4, which then is lost. The log with an entry of
    // term 3 in its place would win an election among the survivors, were they enough for one.
    let founding = Configuration::of_voters((1..=5).map(id));
    let first = entries(1, 1..=1);
    let held = [first.clone(), entries(2, 2..=2)].concat();
    let rival = [first, entries(3, 2..=2)].concat();
    let all = [
        survivor(2, &founding, 4, 2, &held),
        survivor(5, &founding, 3, 1, &rival),
    ];
    let recovery = stuck(&all);
    assert_eq!(recovery.chosen, id(2));
    assert_eq!(recovery.committed, at(2, 2));
    assert_eq!(recovery.term, Term::new(5));
    assert_eq!(recovery.others[0].agrees, at(1, 1));
    // The follower starts from the common part only.
    let Some(Write::Append(kept)) = recovery.writes(&all[1], renamed, []).pop() else {
        panic!("the common part is written")
    };
    assert_eq!(*kept, entries(1, 1..=1));
    // Without that knowledge the rule of elections decides alone.
    let ignorant = [
        survivor(2, &founding, 4, 1, &held),
        survivor(5, &founding, 3, 1, &rival),
    ];
    assert_eq!(stuck(&ignorant).chosen, id(5));
}

#[test]
fn what_nobody_left_knows_to_be_committed_is_said_and_becomes_so() {
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    net.run_ms(1_000);
    net.cut(1, 2);
    net.cut(1, 3);
    net.propose(1, "never acknowledged");
    net.settle();
    let (_, disks) = part(&mut net, &[2, 3]);
    let recovery = stuck(&survivors(&disks));
    assert_eq!(recovery.undecided(), 1);
    net.heal();
    carry_out(&mut net, &recovery, disks, &[]);
    net.run_ms(10);
    assert_eq!(net.applied(101), ["a", "never acknowledged"]);
}

#[test]
fn a_group_that_can_elect_a_leader_is_left_alone() {
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    let (_, disks) = part(&mut net, &[1]);
    let outlook = assess(GroupId::ZERO, &survivors(&disks)).unwrap();
    assert_eq!(outlook, Outlook::Lives { heir: id(2) });
    // It says the same of them in any order.
    let mut turned = survivors(&disks);
    turned.reverse();
    assert_eq!(assess(GroupId::ZERO, &turned).unwrap(), outlook);
}

#[test]
fn both_halves_of_a_joint_configuration_must_have_a_majority() {
    // H46: {1, 2, 3} is on its way to {3, 4, 5}; the old half is gone.
    let mut net = Net::led(3, 3);
    for replica in [4, 5] {
        net.add_newcomer(replica);
    }
    net.change(3, &[1, 2, 3], &[4, 5]);
    net.settle();
    net.propose(3, "a");
    net.settle();
    net.cut(3, 1);
    net.cut(3, 2); // so the joint configuration stays uncommitted
    net.change(3, &[3, 4, 5], &[]);
    net.settle();
    assert!(net.status(3).configuration.is_joint());
    let (_, disks) = part(&mut net, &[1, 2]);
    let recovery = stuck(&survivors(&disks));
    assert_eq!(recovery.chosen, id(3));
    assert!(recovery.before.is_joint());
    assert_eq!(recovery.missing(), [id(1), id(2)].into());
    carry_out(&mut net, &recovery, disks, &[]);
    net.heal();
    net.run_ms(1_000);
    assert!(!net.status(103).configuration.is_joint());
    assert_eq!(net.applied(104), ["a"]);
}

#[test]
fn the_lost_come_back_and_reach_nobody() {
    // E26: the old ids are nobody's any more.
    let mut net = Net::led(3, 1);
    net.propose(1, "a");
    net.settle();
    let (lost, disks) = part(&mut net, &[1, 2]);
    let recovery = stuck(&survivors(&disks));
    carry_out(&mut net, &recovery, disks, &[]);
    net.run_ms(10);
    net.propose(103, "new history");
    net.settle();
    let (log, term) = (net.log(103), net.status(103).term);
    for (replica, disk) in lost {
        net.start_from(replica, disk);
    }
    net.run_ms(5_000);
    // The limit: two of the old three are a majority of the old three. They go on with the old history, without the new.
    let old = [1, 2].map(|replica| net.status(replica));
    assert!(old.iter().any(|status| status.role == crate::Role::Leader));
    let leader = old[0].leader.expect("one of them").get();
    net.propose(leader, "old history");
    net.settle();
    assert_eq!(net.applied(1), ["a", "old history"]);
    // The new history does not notice, whatever they say: no vote, no entry, not even a later term.
    assert_eq!((net.log(103), net.status(103).term), (log, term));
    assert_eq!(net.leader_of(103), Some(103));
    net.propose(103, "more");
    net.settle();
    assert_eq!(net.applied(103), ["a", "new history", "more"]);
}

#[test]
fn a_single_lost_replica_that_comes_back_elects_nobody_and_is_not_elected() {
    let mut net = Net::led(5, 1);
    net.propose(1, "a");
    net.settle();
    let (mut lost, disks) = part(&mut net, &[1, 2, 3]);
    let recovery = stuck(&survivors(&disks));
    carry_out(&mut net, &recovery, disks, &[]);
    net.run_ms(1_000);
    let leader = net.leader().expect("the survivors are led");
    let term = net.status(leader).term;
    net.start_from(1, lost.remove(&1).expect("it was lost"));
    net.run_ms(5_000);
    for _ in 0..3 {
        net.campaign(1);
        net.run_ms(500);
    }
    assert_ne!(net.status(1).role, crate::Role::Leader);
    assert_eq!(
        (net.leader(), net.status(leader).term),
        (Some(leader), term)
    );
    net.propose(leader, "b");
    net.settle();
    assert_eq!(net.applied(leader), ["a", "b"]);
    assert!(net.log(1).len() < net.log(leader).len());
}

#[test]
fn a_group_of_which_only_an_empty_newcomer_is_left_is_gone() {
    let newcomer = Survivor::new(GroupId::ZERO, id(4), Restored::newcomer()).unwrap();
    let outlook = assess(GroupId::ZERO, &[newcomer]).unwrap();
    assert_eq!(outlook, Outlook::Gone);
    assert_eq!(assess(GroupId::ZERO, &[]).unwrap(), Outlook::Gone);
}

#[test]
fn survivors_of_two_histories_are_refused() {
    let founding = Configuration::of_voters((1..=5).map(id));
    let all = [
        survivor(1, &founding, 2, 2, &entries(2, 1..=2)),
        survivor(2, &founding, 3, 2, &entries(3, 1..=2)),
    ];
    let group = GroupId::ZERO;
    assert_eq!(assess(group, &all), Err(Contradiction { group }));
}

#[test]
fn a_follower_behind_the_compacted_log_of_the_chosen_keeps_what_was_committed() {
    // What cannot be compared is not trusted beyond the follower's own knowledge.
    let founding = Configuration::of_voters((1..=5).map(id));
    let ahead = Restored {
        hard_state: HardState {
            term: Term::new(3),
            vote: None,
            commit: crate::LogIndex::new(20),
        },
        base: SnapshotMeta {
            position: at(3, 20),
            ..SnapshotMeta::founding(founding.clone())
        },
        state: SnapshotMeta {
            position: at(3, 20),
            ..SnapshotMeta::founding(founding.clone())
        },
        ..Restored::default()
    };
    let ahead = Survivor::new(GroupId::ZERO, id(1), ahead).unwrap();
    let behind = survivor(2, &founding, 2, 3, &entries(2, 1..=9));
    let recovery = stuck(&[ahead, behind]);
    assert_eq!((recovery.chosen, recovery.undecided()), (id(1), 0));
    assert_eq!(recovery.others[0].agrees, at(2, 3));
}

/// One random life of a group before the disaster.
#[derive(Clone, Debug)]
enum Event {
    Propose,
    Cut(u64, u64),
    Heal,
    Crash(u64),
    Wait(u64),
    Checkpoint(u64),
    Hold(u64),
    Change(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let replica = || 1..=5u64;
    prop_oneof![
        6 => Just(Event::Propose),
        3 => (replica(), replica()).prop_map(|(a, b)| Event::Cut(a, b)),
        1 => Just(Event::Heal),
        2 => replica().prop_map(Event::Crash),
        3 => (1..3_000u64).prop_map(Event::Wait),
        1 => replica().prop_map(Event::Checkpoint),
        1 => replica().prop_map(Event::Hold),
        1 => replica().prop_map(Event::Change),
    ]
}

fn live(net: &mut Net, events: &[Event], voters: u64) {
    let all: Vec<u64> = net.nodes.keys().copied().collect();
    for (number, event) in events.iter().enumerate() {
        match *event {
            Event::Propose => {
                if let Some(leader) = net.leader() {
                    let now = net.now;
                    let payload = format!("p{number}").into();
                    // Refused during a transfer or above the bound: then it was no command.
                    let _refused = net.group(leader).propose(now, payload);
                }
            }
            Event::Cut(a, b) if a != b => net.cut(a, b),
            Event::Cut(..) => {}
            Event::Heal => {
                net.heal();
                all.iter()
                    .for_each(|replica| net.node(*replica).disk_held = false);
            }
            Event::Crash(replica) if all.contains(&replica) => net.crash(replica),
            Event::Wait(millis) => net.run_ms(millis),
            Event::Checkpoint(replica) if all.contains(&replica) => net.checkpoint(replica, true),
            Event::Hold(replica) if all.contains(&replica) => net.node(replica).disk_held = true,
            Event::Change(out) => {
                if let Some(leader) = net.leader() {
                    let voters: Vec<u64> = (1..=voters).filter(|voter| *voter != out).collect();
                    let wish = net.wish(leader, &voters, &[out]);
                    let now = net.now;
                    // Refused while another is under way, or for want of a caught-up learner.
                    let _refused = net.group(leader).change(now, wish);
                }
            }
            Event::Crash(_) | Event::Checkpoint(_) | Event::Hold(_) => {}
        }
        net.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happened_before_the_rest_goes_on_with_all_that_it_held(
        voters in 1..=5u64,
        events in proptest::collection::vec(event(), 1..60),
        lost in proptest::collection::btree_set(1..=5u64, 1..5),
    ) {
        let mut net = Net::led(voters, 1);
        live(&mut net, &events, voters);
        let lost: Vec<u64> = lost.into_iter().filter(|replica| *replica <= voters).collect();
        let ever_applied: Vec<String> = net
            .nodes
            .keys()
            .map(|replica| net.applied(*replica))
            .max_by_key(Vec::len)
            .unwrap();
        let committed = net.nodes.values().map(|node| node.applied.clone()).max_by_key(Vec::len).unwrap();
        let (lost, disks) = part(&mut net, &lost);
        let all = survivors(&disks);
        let outlook = assess(GroupId::ZERO, &all).unwrap();
        net.heal();
        match outlook {
            Outlook::Gone => prop_assert!(disks.is_empty()),
            Outlook::Lives { heir } => {
                // It is true: they elect a leader by themselves, and lost nothing.
                let kept = disks.clone();
                for (replica, disk) in disks {
                    net.start_from(replica, disk);
                }
                net.run_ms(20_000);
                let leader = net.leader();
                prop_assert!(leader.is_some(), "{heir} was to be elected");
                prop_assert!(net.applied(leader.unwrap()).starts_with(&ever_applied));
                // To be re-formed all the same, as a system group may be, costs it nothing either.
                kept.keys().for_each(|replica| drop(net.stop(*replica)));
                net.wire.clear();
                let recovery = reform(GroupId::ZERO, &all).unwrap().unwrap();
                carry_out(&mut net, &recovery, kept, &[]);
                net.run_ms(20_000);
                let leader = recovery.chosen.get() + 100;
                prop_assert!(net.applied(leader).starts_with(&ever_applied));
            }
            Outlook::Stuck(recovery) => {
                // It is true: they elect nobody.
                for (replica, disk) in &disks {
                    net.start_from(*replica, disk.clone());
                }
                net.run_ms(10_000);
                prop_assert_eq!(net.leader(), None);
                disks.keys().for_each(|replica| drop(net.stop(*replica)));
                net.wire.clear();
                let chosen = all.iter().find(|s| s.replica() == recovery.chosen).unwrap();
                let held = chosen.entries();
                for survivor in &all {
                    prop_assert!(survivor.last().index <= recovery.last.index
                        || survivor.committed().index <= recovery.committed.index);
                }
                prop_assert!(recovery.committed.index <= recovery.last.index);
                carry_out(&mut net, &recovery, disks, &["given up"]);
                for (replica, disk) in lost {
                    net.start_from(replica, disk);
                }
                net.run_ms(20_000);
                let leader = recovery.chosen.get() + 100;
                prop_assert_eq!(net.leader_of(leader), Some(leader));
                net.propose(leader, "after");
                net.run_ms(2_000);
                let applied = net.applied(leader);
                // All that was committed and held by the chosen one is there: what it knew to be committed is as everybody applied
                // it, and the rest are its own entries. (What others committed without it is what may be lost.)
                for entry in committed.iter().filter(|entry| entry.index <= recovery.committed.index) {
                    prop_assert!(net.nodes[&leader].applied.contains(entry), "{:?}", entry);
                }
                for entry in held {
                    prop_assert!(net.nodes[&leader].applied.contains(&entry), "{:?}", entry);
                }
                prop_assert_eq!(applied.last().map(String::as_str), Some("after"));
                for other in &recovery.others {
                    prop_assert_eq!(net.applied(other.replica.get() + 100), applied.clone());
                }
            }
        }
    }
}
