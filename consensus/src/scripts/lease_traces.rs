//! Traces in which two could read for one moment if a single line of the lease were missing.
//!
//! Each story names the line it guards; what a lease is good for is told in `lease_stories`.

use core::time::Duration;

use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, ReadId, Role, Term};

fn has_lease(net: &mut Net, replica: u64) -> bool {
    let now = net.now;
    net.group(replica).begin(now);
    net.group(replica).has_lease()
}

/// 3 said yes to 2's pre-vote, then promised to 1, and suspects 1 all the same. Returns 2's requests for 3's vote.
fn promised_after_the_pre_vote() -> (Net, Vec<crate::Message>) {
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.run_ms(510);
    net.cut(1, 2);
    net.now = Duration::from_millis(905);
    net.forget_leader(1);
    net.campaign(2);
    for question in net.take("pre_vote", 3) {
        net.deliver(question);
    }
    for answer in net.take("pre_vote_reply", 2) {
        net.deliver(answer);
    }
    while net.write_one(2) {}
    let votes = net.take("vote", 3);
    assert_eq!(votes.len(), 1);
    net.now = Duration::from_millis(1_000);
    let now = net.now;
    net.group(1).tick(now);
    net.drain(1);
    for beat in net.take("heartbeat", 3) {
        net.deliver(beat);
    }
    for echo in net.take("heartbeat_reply", 1) {
        net.deliver(echo);
    }
    assert!(has_lease(&mut net, 1));
    net.now = Duration::from_millis(1_010);
    net.forget_leader(1);
    net.isolate(1);
    (net, votes)
}

#[test]
fn a_vote_is_bound_although_the_pre_vote_was_not() {
    // H57: guards the promise in the face of a later term.
    let (mut net, votes) = promised_after_the_pre_vote();
    votes.into_iter().for_each(|vote| net.deliver(vote));
    net.settle();
    assert!(has_lease(&mut net, 1));
    assert_ne!(net.status(2).role, Role::Leader);
}

#[test]
fn a_promise_outlives_the_term_it_was_given_in() {
    // H57: guards the promise within the candidate's own term, which 3 learned from elsewhere.
    let (mut net, votes) = promised_after_the_pre_vote();
    let stray = Body::PreVoteReply {
        campaign: Term::new(2),
        granted: false,
    };
    net.deliver(say(2, 3, 2, stray));
    votes.into_iter().for_each(|vote| net.deliver(vote));
    net.settle();
    assert_eq!(net.status(3).term, Term::new(2));
    assert!(has_lease(&mut net, 1));
    assert_ne!(net.status(2).role, Role::Leader);
}

#[test]
fn the_one_that_promised_does_not_campaign_itself() {
    // H57: 3 heard nothing for long and would help; 2 promised, and is told that 1 is silent.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.isolate(3);
    net.run_ms(4_010);
    assert!(has_lease(&mut net, 1));
    net.isolate(1);
    net.heal_link(2, 3);
    net.forget_leader(1);
    let end = net.now + Duration::from_millis(LEASE_LEFT_MS);
    while net.now < end {
        net.campaign(2);
        net.run_ms(1);
        assert!(!(net.status(2).role == Role::Leader && has_lease(&mut net, 1)));
    }
}

/// The lease of a heartbeat at 4,000 ms, seen from 4,010 ms.
const LEASE_LEFT_MS: u64 = 326;

#[test]
fn a_new_leader_has_a_lease_and_still_reads_nothing_before_its_own_term_opened() {
    // H60: its followers answer heartbeats, its appends are lost.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.run_ms(100);
    net.transfer(1, 2);
    while net.status(2).role != Role::Leader {
        assert!(net.step());
    }
    for beat in 1..=3 {
        net.now = Duration::from_millis(beat * 500);
        let now = net.now;
        net.group(2).tick(now);
        for _ in 0..50 {
            for replica in 1..=3 {
                net.drain(replica);
                net.write_one(replica);
            }
            for to in [1, 3] {
                net.take("append", to);
            }
            if let Some(message) = net.wire.pop_front() {
                net.deliver(message);
            }
        }
    }
    assert!(has_lease(&mut net, 2) && !net.group(2).is_open());
    let read = net.read(2);
    assert_eq!(net.read_outcome(2, read), None);
}

#[test]
fn a_sole_voter_leads_at_once_only_when_nobody_else_can_read() {
    // E20: {1, 2} becomes {2}; 1 is cut off after each step of it, 2 restarts and waits for no promise.
    for steps in 0..60 {
        let mut net = Net::with(2, GroupOptions::default());
        net.elect(1);
        net.run_ms(510);
        net.change(1, &[2], &[]);
        for _ in 0..steps {
            net.step();
        }
        net.isolate(1);
        net.wire.clear();
        net.crash(2);
        net.run_ms(1);
        let leads = net.status(2).role == Role::Leader;
        assert!(!(leads && has_lease(&mut net, 1)), "after {steps} steps");
    }
}

#[test]
fn a_lease_holds_through_every_step_of_a_change() {
    // H57 with joint majorities: while 1 has a lease nobody else leads, although all the others try at every moment, some of them
    // after a restart.
    let changes: [(&[u64], &[u64]); 6] = [
        (&[1, 4, 5], &[4, 5]),
        (&[1, 2], &[]),
        (&[1, 2, 3, 4, 5], &[4, 5]),
        (&[1], &[]),
        (&[2, 3], &[]),
        (&[3, 4, 5], &[4, 5]),
    ];
    for (voters, learners) in changes {
        for steps in 0..60 {
            let mut net = Net::with(3, GroupOptions::default());
            net.elect(1);
            for learner in learners {
                net.add_newcomer(*learner);
            }
            if !learners.is_empty() {
                net.change(1, &[1, 2, 3], learners);
            }
            net.run_ms(1_010);
            net.change(1, voters, &[]);
            for _ in 0..steps {
                net.step();
            }
            net.isolate(1);
            if steps % 2 == 0 {
                net.wire.clear();
            }
            net.forget_leader(1);
            let others: Vec<u64> = net.nodes.keys().copied().filter(|r| *r != 1).collect();
            if steps % 3 == 0 {
                others.iter().for_each(|other| net.crash(*other));
            }
            let end = net.now + Duration::from_millis(900);
            while net.now < end {
                others.iter().for_each(|other| net.campaign(*other));
                net.run_ms(3);
                let led = others.iter().any(|r| net.status(*r).role == Role::Leader);
                assert!(
                    !(led && has_lease(&mut net, 1)),
                    "{voters:?} after {steps} steps, {:?}",
                    net.now
                );
            }
        }
    }
}

#[test]
fn a_lease_counts_what_was_promised_not_what_was_hoped() {
    // Replicas may run with other options or as a version without promises.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.run_ms(100);
    net.now = Duration::from_millis(500);
    net.pass_ms(0);
    for follower in [2, 3] {
        for beat in net.take("heartbeat", follower) {
            net.deliver(beat);
        }
    }
    for mut echo in net.take("heartbeat_reply", 1) {
        if let Body::HeartbeatReply { promised, .. } = &mut echo.body {
            *promised = if echo.from == id(2) {
                Duration::ZERO
            } else {
                Duration::from_millis(100)
            };
        }
        net.deliver(echo);
    }
    net.now = Duration::from_millis(583);
    assert!(
        has_lease(&mut net, 1),
        "3 promised 100 ms, 84 of them count"
    );
    net.now = Duration::from_millis(584);
    assert!(!has_lease(&mut net, 1));
}

#[test]
fn hostile_numbers_break_nothing_and_lengthen_nothing() {
    // Whatever an echo claims: it must name a heartbeat that was sent, and no promise counts for longer than a minute.
    let mut net = Net::with(3, GroupOptions::default());
    net.elect(1);
    net.run_ms(510);
    let echoes = [
        (1, Duration::ZERO),
        (u64::MAX, Duration::MAX),
        (1, net.now),
        (0, net.now),
    ];
    for promised in [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_nanos(1),
    ] {
        for (round, sent) in echoes {
            let echo = Body::HeartbeatReply {
                round,
                sent,
                upto: LogIndex::new(u64::MAX),
                received: LogIndex::new(1),
                matched: LogIndex::new(1),
                promised,
            };
            net.deliver(say(2, 1, 1, echo));
        }
    }
    net.isolate(1);
    let later = net.now + Duration::from_secs(61);
    net.group(1).begin(later);
    assert!(!net.group(1).has_lease());
}

#[test]
fn ranks_stay_apart_behind_a_promise() {
    // E33: 1 is suspected long before its promises end; if all woke at that moment they would split the vote.
    for early in [1, 50, 100, 200, 300] {
        let mut net = Net::with(5, GroupOptions::default());
        net.elect(1);
        net.run_ms(510);
        net.isolate(1);
        net.run_ms(early);
        net.forget_leader(1);
        let mut at: Vec<_> = (2..=5).map(|r| net.group(r).wake_at().unwrap()).collect();
        at.sort_unstable();
        let step = GroupOptions::default().election_stagger;
        let free = Duration::from_millis(900);
        for (rank, at) in (0..).zip(&at) {
            let turn = free + step * rank..free + step * rank + step / 3;
            assert!(turn.contains(at), "suspected after {early} ms: {at:?}");
        }
    }
}

#[test]
fn a_read_of_a_follower_ends_also_when_its_state_never_arrives() {
    // It was answered, and then its replica was cut off before it had the entry.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.propose(1, "a");
    assert_eq!(net.take("append", 2).len(), 1);
    net.settle();
    let now = net.now;
    let read = net.group(2).read_here(now).unwrap();
    net.drain(2);
    while net.on_wire("read_answer", 2) == 0 {
        (1..=3).for_each(|replica| net.drain(replica));
        net.take("append", 2);
        let message = net.wire.pop_front().expect("it will be answered");
        net.deliver(message);
    }
    for answer in net.take("read_answer", 2) {
        net.deliver(answer);
    }
    net.isolate(2);
    net.wire.clear();
    net.run_ms(1_300);
    assert_eq!(net.read_outcome(2, read), None);
    net.run_ms(300);
    assert_eq!(net.read_outcome(2, read), Some(Err(())));
}

#[test]
fn an_answer_covers_only_the_reads_it_names() {
    // H61: the second read began after "a" was acknowledged; the answer to the first knows nothing of it.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    let first = net.group(2).read_here(now).unwrap();
    net.drain(2);
    net.settle_until("read_answer", 2);
    let old = net.take("read_answer", 2);
    net.propose(1, "a");
    net.settle();
    let second = net.group(2).read_here(now).unwrap();
    net.drain(2);
    net.take("read_request", 1);
    old.into_iter().for_each(|answer| net.deliver(answer));
    net.settle();
    assert!(net.read_outcome(2, first).is_some());
    assert_eq!(net.read_outcome(2, second), None);
}

#[test]
fn an_answer_counts_only_from_the_leader_that_is_followed() {
    // H62: and "cannot say" ends the reads at once.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    let now = net.now;
    let read = net.group(2).read_here(now).unwrap();
    net.drain(2);
    let question = net.take("read_request", 1).pop().unwrap();
    let Body::ReadRequest { life, upto } = question.body else {
        panic!("{question:?}")
    };
    let answer = |index: Option<u64>| Body::ReadAnswer {
        life,
        upto,
        index: index.map(LogIndex::new),
    };
    net.deliver(say(3, 2, 1, answer(Some(1))));
    net.deliver(say(3, 2, 1, answer(None)));
    assert_eq!(net.read_outcome(2, read), None);
    net.deliver(say(1, 2, 1, answer(None)));
    assert_eq!(net.read_outcome(2, read), Some(Err(())));
}

#[test]
fn a_stalled_state_at_the_leader_holds_no_follower_up() {
    // A follower waits for its own state only.
    let mut net = Net::led(3, 1);
    net.run_ms(100);
    net.node(1).apply_held = true;
    net.propose(1, "a");
    net.settle();
    let here = net.read(1);
    let now = net.now;
    let there = net.group(2).read_here(now).unwrap();
    net.drain(2);
    net.run_ms(100);
    assert_eq!(net.read_outcome(1, here), None);
    assert_eq!(net.read_outcome(2, there), Some(Ok(LogIndex::new(2))));
}

#[test]
fn a_follower_that_asks_a_leader_without_an_open_term_waits_there_once() {
    // Bounded: it asks again and again while the leader's first entry does not commit.
    let mut net = Net::led(3, 1);
    net.isolate(1);
    net.forget_leader(1);
    net.campaign(2);
    while net.status(2).role != Role::Leader {
        assert!(net.step());
    }
    net.take("append", 3);
    let term = net.status(2).term.get();
    for upto in [3, 1, 9, 2] {
        let upto = ReadId::new(upto);
        net.deliver(say(3, 2, term, Body::ReadRequest { life: 5, upto }));
        net.take("append", 3);
    }
    let waiting = |net: &mut Net| {
        let leadership = net.group(2).leadership.as_ref().unwrap();
        leadership
            .reads
            .as_ref()
            .map_or(0, |reads| reads.unopened())
    };
    assert_eq!(waiting(&mut net), 1);
    net.settle();
    net.run_ms(600);
    assert_eq!(waiting(&mut net), 0);
}
