//! Reads by lease: what a leader may answer alone, and what its followers keep for it. All times are those of one clock unless a
//! story says otherwise; heartbeats fall on multiples of 500 ms, a promise lasts 400 ms, a lease 16 % less.

use core::time::Duration;

use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, Restored, Role, TransferOutcome};

const LEASE_MS: u64 = 336;

/// A group led by 1 at 510 ms; the heartbeat of 500 ms was answered by everybody.
fn leased(voters: u64) -> Net {
    let mut net = Net::with(voters, GroupOptions::default());
    net.elect(1);
    net.run_ms(510);
    net
}

/// The outcome of a read that 1 begins now, before anything is delivered.
fn read_at_once(net: &mut Net) -> Option<Result<LogIndex, ()>> {
    let read = net.read(1);
    net.read_outcome(1, read)
}

/// Whether 1 could answer a read by itself at this very moment.
fn has_lease(net: &mut Net) -> bool {
    let now = net.now;
    net.group(1).begin(now);
    net.group(1).has_lease()
}

fn advance_to(net: &mut Net, millis: u64) {
    net.now = Duration::from_millis(millis);
}

#[test]
fn a_leader_reads_alone_for_as_long_as_its_lease_lasts() {
    // Ongaro's thesis 6.4.1; H58: by its own clock, from the sending of the heartbeat on.
    let mut net = leased(3);
    assert_eq!(read_at_once(&mut net), Some(Ok(LogIndex::new(1))));
    assert_eq!(net.wire.len(), 0, "nobody was asked");
    advance_to(&mut net, 500 + LEASE_MS - 1);
    assert!(read_at_once(&mut net).is_some());
    advance_to(&mut net, 500 + LEASE_MS);
    assert_eq!(read_at_once(&mut net), None);
    assert_eq!(net.on_wire("heartbeat", 2), 1, "it asks a quorum again");
    net.settle();
    assert!(
        read_at_once(&mut net).is_some(),
        "the round renewed the lease"
    );
}

#[test]
fn a_read_by_lease_still_waits_for_the_state() {
    // H51: committed is not applied.
    let mut net = leased(3);
    net.node(1).apply_held = true;
    net.propose(1, "a");
    net.settle();
    let read = net.read(1);
    assert_eq!(net.read_outcome(1, read), None);
    net.node(1).apply_held = false;
    net.settle();
    assert_eq!(net.read_outcome(1, read), Some(Ok(LogIndex::new(2))));
}

#[test]
fn nobody_else_leads_while_the_lease_lasts() {
    // H57: the others believe that 1 is dead right after they promised, and would like to replace it at once.
    for voters in 2..=7 {
        let mut net = leased(voters);
        net.isolate(1);
        net.forget_leader(1);
        for replica in 2..=voters {
            net.campaign(replica);
        }
        while net.now < Duration::from_millis(1_400) {
            net.run_ms(1);
            let other = (2..=voters).any(|r| net.status(r).role == Role::Leader);
            let leased = has_lease(&mut net);
            assert!(
                !(other && leased),
                "{voters} voters at {:?}: two could answer reads",
                net.now
            );
        }
        let led = (2..=voters).any(|r| net.status(r).role == Role::Leader);
        assert_eq!(led, voters > 2, "promises end, {voters} voters");
    }
}

#[test]
fn a_late_answer_lengthens_no_lease() {
    // H58: the promise began when the heartbeat arrived, not when its answer did.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    advance_to(&mut net, 500);
    net.pass_ms(0);
    for follower in [2, 3] {
        for beat in net.take("heartbeat", follower) {
            net.deliver(beat);
        }
    }
    let answers = net.take("heartbeat_reply", 1);
    assert_eq!(answers.len(), 2);
    advance_to(&mut net, 820);
    answers.into_iter().for_each(|answer| net.deliver(answer));
    assert!(has_lease(&mut net));
    advance_to(&mut net, 500 + LEASE_MS);
    assert_eq!(read_at_once(&mut net), None);
}

#[test]
fn a_lease_ends_before_the_promises_even_if_the_clocks_drift() {
    // H58: by the leader's slow clock 340 ms pass while a follower's fast one counts 400: two clocks
    // that are set right in opposite directions, each as fast as an NTP daemon does it.
    let mut net = leased(3);
    net.isolate(1);
    net.forget_leader(1);
    let real = |millis: u64| Duration::from_micros(millis * 1_000);
    let (slow, fast) = (0.917, 1.083);
    let at = |millis: u64, rate: f64| real(510) + real(millis - 510).mul_f64(rate);
    let mut elected = None;
    for millis in 511..1_500 {
        net.now = at(millis, fast);
        net.campaign(2);
        while let Some(message) = net.wire.pop_front() {
            net.deliver(message);
            for replica in [2, 3] {
                while net.write_one(replica) {}
            }
        }
        if net.leader().is_some_and(|leader| leader != 1) {
            elected = Some(millis);
            break;
        }
    }
    let elected = elected.expect("promises end");
    net.now = at(elected, slow);
    assert!(!has_lease(&mut net), "elected at {elected} ms");
}

#[test]
fn whoever_told_another_to_campaign_reads_by_no_lease_any_more() {
    // H59: the word is under way; it may arrive when the transfer is long given up.
    let mut net = leased(3);
    net.transfer(1, 2);
    let word = net.take("campaign_now", 2);
    assert_eq!(word.len(), 1);
    assert_eq!(read_at_once(&mut net), None, "no lease from the word on");
    for beat in [600, 1_100, 1_600, 2_100] {
        advance_to(&mut net, beat);
        let now = net.now;
        net.group(1).tick(now);
        net.drain(1);
        net.take("campaign_now", 2);
        net.settle();
    }
    assert_eq!(net.transfer_outcome(1), Some(TransferOutcome::TimedOut));
    assert_eq!((net.leader(), net.status(1).term.get()), (Some(1), 1));
    assert_eq!(
        read_at_once(&mut net),
        None,
        "both promised, but not against 1's own wish"
    );
    net.wire.clear();
    net.isolate(1);
    word.into_iter().for_each(|word| net.deliver(word));
    net.settle();
    assert_eq!(
        net.status(2).role,
        Role::Leader,
        "3 helps although it promised"
    );
    assert_eq!(read_at_once(&mut net), None);
}

#[test]
fn a_replica_that_restarts_keeps_what_it_may_have_promised() {
    // H57, E20: 2 heard nothing for long, 3 promised and restarted; without memory they would elect 2 inside 1's lease.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.isolate(2);
    net.run_ms(10);
    advance_to(&mut net, 4_000);
    net.pass_ms(0);
    net.settle();
    assert!(has_lease(&mut net), "by 3's promise");
    net.crash(3);
    net.isolate(1);
    net.heal_link(2, 3);
    while net.now < Duration::from_millis(6_000) {
        net.campaign(2);
        net.run_ms(7);
        let leased = has_lease(&mut net);
        assert!(!(net.status(2).role == Role::Leader && leased));
    }
    assert_eq!(
        net.status(2).role,
        Role::Leader,
        "it keeps still for one promise only"
    );
}

#[test]
fn a_sole_voter_waits_for_no_promise() {
    // E20: it could have promised only to itself.
    let mut net = Net::with(1, GroupOptions::default());
    net.run_ms(10);
    net.crash(1);
    net.run_ms(0);
    assert_eq!(net.leader(), Some(1));
    assert!(read_at_once(&mut net).is_some());
}

#[test]
fn a_new_replica_promised_nothing() {
    // E20: founding does not wait either.
    let mut net = Net::with(3, GroupOptions::default());
    net.campaign(2);
    net.settle();
    assert_eq!(net.leader(), Some(2));
    let group = crate::Group::new(
        GroupOptions::default().check().unwrap(),
        crate::GroupId::ZERO,
        id(4),
        Restored::newcomer(),
        1,
        Duration::ZERO,
    )
    .unwrap();
    assert!(!group.is_bound_against(id(1)));
}

#[test]
fn nothing_is_promised_before_the_term_is_on_disk() {
    // H57, H2: a replica whose term is lost would come back as one that promised nothing.
    let mut net = Net::with(3, GroupOptions::default());
    net.node(3).disk_held = true;
    net.elect(1);
    net.run_ms(510);
    advance_to(&mut net, 1_000);
    net.pass_ms(0);
    for follower in [2, 3] {
        for beat in net.take("heartbeat", follower) {
            net.deliver(beat);
        }
    }
    let promised: Vec<_> = net
        .take("heartbeat_reply", 1)
        .into_iter()
        .map(|message| match message.body {
            Body::HeartbeatReply { promised, .. } => (message.from, promised),
            other => panic!("{other:?}"),
        })
        .collect();
    let lease = GroupOptions::default().lease;
    assert_eq!(promised, [(id(2), lease), (id(3), Duration::ZERO)]);
}

#[test]
fn hearing_others_extends_no_lease() {
    // E19: 1 hears both, neither hears 1; they elect 2, and 1 serves nothing from the past.
    let mut net = leased(3);
    net.cut_one_way(1, 2);
    net.cut_one_way(1, 3);
    net.forget_leader(1);
    while net.now < Duration::from_millis(3_000) {
        net.run_ms(1);
        let other = [2, 3].iter().any(|r| net.status(*r).role == Role::Leader);
        let leased = has_lease(&mut net);
        assert!(!(other && leased));
    }
    assert_ne!(net.leader(), Some(1));
}

#[test]
fn a_leader_that_is_voted_out_has_no_lease() {
    // A group of {1, 2} that becomes {2}: 2 may lead, and restart, without asking 1.
    let mut net = leased(2);
    net.change(1, &[2], &[]);
    net.settle();
    net.run_ms(20);
    assert!(!has_lease(&mut net));
    assert_eq!(net.leader(), Some(2));
}

#[test]
fn a_promise_binds_nobody_against_the_one_it_was_given_to() {
    // The leader itself may come back as a candidate, for instance after its disk made it step down.
    let mut net = leased(3);
    assert!(!net.group(2).is_bound_against(id(1)));
    assert!(net.group(2).is_bound_against(id(3)));
    assert!(net.group(2).is_bound_against(id(2)), "nor does it campaign");
}

#[test]
fn leases_can_be_switched_off() {
    // DESIGN.md section 7: lease reads depend on a stated drift bound and can be switched off.
    let options = GroupOptions {
        lease_reads: false,
        ..GroupOptions::default()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(510);
    assert_eq!(read_at_once(&mut net), None);
    assert!(
        net.group(2).is_bound_against(id(3)),
        "another leader may use them"
    );
}

#[test]
fn options_that_make_leases_unsafe_or_slow_are_refused() {
    let lease = GroupOptions {
        lease: Duration::from_secs(2),
        ..GroupOptions::default()
    };
    let drift = GroupOptions {
        clock_drift_ppm: 1_000_000,
        ..GroupOptions::default()
    };
    assert!(matches!(
        lease.check(),
        Err(crate::OptionsError::LeaseTooLong { .. })
    ));
    assert!(matches!(
        drift.check(),
        Err(crate::OptionsError::DriftTooLarge { .. })
    ));
}
