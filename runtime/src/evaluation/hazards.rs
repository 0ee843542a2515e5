//! One scripted test per hazard that this room answers for, and the rules around them. Compiled for tests only.

use std::time::Duration;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::bench::{
    Account, Balance, Bench, Chatter, Close, Deposit, Grow, Idle, Late, Name, Overdrawn, Slow,
    Spoil, Withdraw, again, at, command, is_open, open, open_door, query,
};
use super::{ApplyError, EvaluatorOptions, Sabotage, ShardState};
use crate::wire::{self, Failure, Intent, Outcome, Refusal, SessionId};

fn deposit(amount: u64) -> Deposit {
    Deposit { amount }
}

fn withdraw(amount: u64) -> Withdraw {
    Withdraw { amount }
}

/// A shard whose account `a` holds 100, and a session that has used sequence 1.
fn account_of_100() -> (Bench, SessionId) {
    let mut bench = Bench::new();
    let session = bench.session(7);
    bench.send(command(session, 1, &deposit(100)));
    bench.settle();
    assert_eq!(bench.balance("a"), 100);
    (bench, session)
}

#[test]
fn a_leader_looks_up_nothing_before_its_no_op_is_applied() {
    // E1: a new leader that evaluates, or looks up sessions, on state that lacks committed entries loses them.
    let mut bench = Bench::idle(EvaluatorOptions::default());
    let command = bench.send(again(command(SessionId(3), 7, &withdraw(10))));
    let read = bench.send(query(&Balance));
    bench.settle();
    for token in [command, read] {
        assert_eq!(
            bench.outcome(token),
            Some(&Outcome::Refused(Refusal::NotLeader { leader: None }))
        );
    }
    assert_eq!(bench.evaluator.counters().activations, 0);
}

#[test]
fn an_effect_on_a_version_that_is_not_there_stops_the_replica() {
    // E1, section 5: the version check at apply turns a lost update into a loud stop, and nothing of the entry is applied.
    let (mut bench, session) = account_of_100();
    bench.send(command(session, 2, &withdraw(5)));
    bench.flush();
    let stale = bench.proposals.pop_front().unwrap().payload;
    bench.end();
    bench.begin(2);
    bench.send(again(command(session, 2, &withdraw(5))));
    bench.settle();
    let before = bench.state.lock().unwrap().clone();
    let mut state = before.clone();
    let error = state.apply(state.applied().next(), &stale).unwrap_err();
    assert!(
        matches!(&error, ApplyError::ChainBroken { kind, key, expected, found, .. }
            if kind == "account" && key == "a" && expected < found),
        "{error}"
    );
    assert_eq!(state, before);
}

#[test]
fn a_panic_returns_the_entity_to_the_effect_in_flight_not_to_the_applied_one() {
    // E2: seq 2 in flight (100 -> 90), seq 3 panics, seq 4 must start from 90.
    let (mut bench, session) = account_of_100();
    let first = bench.send(command(session, 2, &withdraw(10)));
    bench.take();
    let spoiled = bench.send(command(session, 3, &Spoil));
    let second = bench.send(command(session, 4, &withdraw(5)));
    bench.settle();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(first), Ok(90));
    assert!(matches!(
        bench.outcome(spoiled),
        Some(Outcome::Failed(Failure::Panicked { text })) if text == "spoiled on purpose"
    ));
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(second), Ok(85));
    assert_eq!(bench.balance("a"), 85);
}

#[test]
fn a_failure_inside_a_batch_leaves_what_the_batch_did_before() {
    // E2, second half: commands 1 and 2 succeed, 3 panics, 4 returns Err, all in one batch.
    let (mut bench, session) = account_of_100();
    bench.send(command(session, 2, &withdraw(10)));
    bench.send(command(session, 3, &withdraw(10)));
    bench.send(command(session, 4, &Spoil));
    let overdrawn = bench.send(command(session, 5, &withdraw(1_000)));
    let last = bench.send(command(session, 6, &withdraw(1)));
    bench.flush();
    assert_eq!(bench.proposals.len(), 1);
    bench.settle();
    assert_eq!(
        bench.done::<Result<u64, Overdrawn>>(overdrawn),
        Err(Overdrawn)
    );
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(last), Ok(79));
    assert_eq!(bench.balance("a"), 79);
    assert_eq!(bench.evaluator.counters().batches_with_failure, 1);
}

#[test]
fn rollback_to_the_applied_image_breaks_the_chain() {
    // E2 as a negative control: without the rule the version check stops the replica.
    let mut bench = Bench::with(EvaluatorOptions {
        sabotage: Sabotage {
            rollback_to_applied: true,
            ..Sabotage::default()
        },
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    bench.send(command(session, 1, &deposit(100)));
    bench.settle();
    bench.send(command(session, 2, &withdraw(10)));
    bench.take();
    bench.send(command(session, 3, &Spoil));
    bench.send(command(session, 4, &withdraw(5)));
    bench.take();
    assert!(matches!(
        bench.try_apply(),
        Err(ApplyError::ChainBroken { .. })
    ));
}

#[test]
fn a_handler_that_outlives_its_leadership_changes_nothing() {
    // E4: the future starts in one term, another leader commits on the entity, leadership returns to the same node.
    let (mut bench, session) = account_of_100();
    let slow = Slow {
        door: "e4".to_owned(),
        amount: 1,
    };
    let held = bench.send(command(session, 2, &slow));
    bench.settle();
    assert_eq!(bench.outcome(held), None);
    bench.end();
    assert_eq!(
        bench.outcome(held),
        Some(&Outcome::Refused(Refusal::NotLeader { leader: Some(2) }))
    );
    let foreign = {
        // What another leader commits meanwhile: 100 -> 500.
        let mut other = Bench::new();
        *other.state.lock().unwrap() = bench.state.lock().unwrap().clone();
        other.evaluator.end(other.now, None);
        other
            .evaluator
            .begin(other.now, 9, synod_consensus::Term::new(9));
        other.send(command(session, 3, &deposit(400)));
        other.flush();
        other.proposals.pop_front().unwrap().payload
    };
    bench.foreign(foreign);
    bench.begin(2);
    open_door("e4");
    bench.settle();
    assert_eq!(bench.balance("a"), 500);
    let retry = bench.send(again(command(session, 2, &slow)));
    bench.settle();
    assert_eq!(bench.done::<u64>(retry), 501);
    assert_eq!(bench.evaluator.counters().interrupted, 1);
}

#[test]
fn attempts_of_a_queued_a_held_and_an_in_flight_command_join_it() {
    // E5: a retry must attach to the evaluation under way, not start another.
    let (mut bench, session) = account_of_100();
    let slow = Slow {
        door: "e5".to_owned(),
        amount: 1,
    };
    let held = bench.send(command(session, 2, &slow));
    let queued = bench.send(command(session, 3, &deposit(10)));
    let held_again = bench.send(again(command(session, 2, &slow)));
    let queued_again = bench.send(again(command(session, 3, &deposit(10))));
    bench.settle();
    open_door("e5");
    bench.poll();
    bench.take();
    let in_flight_again = bench.send(again(again(command(session, 3, &deposit(10)))));
    assert_eq!(bench.outcome(queued), None);
    bench.settle();
    for token in [held, held_again] {
        assert_eq!(bench.done::<u64>(token), 101);
    }
    for token in [queued, queued_again, in_flight_again] {
        assert_eq!(bench.done::<u64>(token), 111);
        assert!(bench.replies[&token].logged);
    }
    assert_eq!(bench.replies[&in_flight_again].attempt, 3);
    let done_again = bench.send(again(command(session, 3, &deposit(10))));
    assert_eq!(bench.done::<u64>(done_again), 111);
    assert_eq!(bench.balance("a"), 111);
    assert_eq!(bench.evaluator.counters().attached, 3);
}

#[test]
fn nothing_computed_on_speculative_state_leaves_before_that_state_is_applied() {
    // E6: an Err, an unchanged command, a panic's text and a query computed on an effect in flight wait for it.
    let (mut bench, session) = account_of_100();
    bench.send(command(session, 2, &withdraw(60)));
    bench.take();
    let error = bench.send(command(session, 3, &withdraw(50)));
    let idle = bench.send(command(session, 4, &Idle));
    let panic = bench.send(command(session, 5, &Spoil));
    let balance = bench.send(query(&Balance));
    bench.read();
    for token in [error, idle, panic, balance] {
        assert_eq!(bench.outcome(token), None, "request {token} left early");
    }
    bench.apply();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(error), Err(Overdrawn));
    assert_eq!(bench.done::<u64>(idle), 40);
    assert_eq!(bench.done::<u64>(balance), 40);
    assert!(matches!(bench.outcome(panic), Some(Outcome::Failed(_))));
}

#[test]
fn replies_without_an_entry_wait_for_a_round_begun_after_they_arrived() {
    // E7: an applied index alone does not show that nobody else leads by now.
    let (mut bench, session) = account_of_100();
    let balance = bench.send(query(&Balance));
    bench.flush();
    let (serial, read) = bench.reads.pop_front().unwrap();
    let late = bench.send(query(&Balance));
    let error = bench.send(command(session, 2, &withdraw(1_000)));
    bench.evaluator.read_ready(bench.now, serial, read);
    bench.drain();
    assert_eq!(bench.done::<u64>(balance), 100);
    for token in [late, error] {
        assert_eq!(bench.outcome(token), None, "request {token} left early");
    }
    bench.flush();
    let (serial, read) = bench.reads.pop_front().unwrap();
    bench.evaluator.read_failed(bench.now, serial, read);
    bench.flush();
    assert_eq!(
        bench.reads.len(),
        0,
        "a failed round is not repeated at once"
    );
    bench.tick(Duration::from_millis(20));
    bench.read();
    assert_eq!(bench.done::<u64>(late), 100);
    assert!(!bench.replies[&error].logged);
}

#[test]
fn a_refused_proposal_takes_everything_on_top_of_it_back() {
    // E9: the instance had moved on, the batch was never logged: the next batch's base must not be the lost one.
    let (mut bench, session) = account_of_100();
    let kept = bench.send(command(session, 2, &withdraw(1)));
    bench.take();
    let lost = bench.send(command(session, 3, &withdraw(10)));
    bench.flush();
    let refused = bench.proposals.pop_front().unwrap();
    let on_top = bench.send(command(session, 4, &withdraw(20)));
    let slow = bench.send(command(
        session,
        5,
        &Slow {
            door: "e9".to_owned(),
            amount: 1,
        },
    ));
    let balance = bench.send(query(&Balance));
    bench
        .evaluator
        .proposed(bench.now, refused.serial, refused.batch, Err(()));
    bench.drain();
    for token in [lost, on_top] {
        assert!(
            matches!(bench.outcome(token), Some(Outcome::Refused(Refusal::Busy { queue, retry_after_ms })) if queue == "log" && *retry_after_ms > 0),
            "{:?}",
            bench.outcome(token)
        );
    }
    bench.settle();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(kept), Ok(99));
    bench.tick(Duration::from_millis(20));
    open_door("e9");
    let retry = bench.send(again(command(session, 3, &withdraw(10))));
    bench.settle();
    assert_eq!(bench.done::<u64>(slow), 100);
    assert_eq!(bench.done::<u64>(balance), 100);
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(retry), Ok(90));
    assert_eq!(bench.balance("a"), 90);
}

#[test]
fn a_group_is_never_offered_more_than_the_budget() {
    // E9: the budget is checked before a handler runs, so that what it did can be proposed.
    let mut bench = Bench::with(EvaluatorOptions {
        in_flight_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    for sequence in 1..=40 {
        let grow = Grow { bytes: 8 << 10 };
        bench.send(at(
            &format!("k{sequence}"),
            command(session, sequence, &grow),
        ));
    }
    let mut in_flight = 0;
    bench.flush();
    while let Some(proposal) = bench.proposals.pop_front() {
        in_flight += proposal.payload.len();
        assert!(
            in_flight <= (64 << 10) + (16 << 10) + (9 << 10),
            "{in_flight}"
        );
        let index = LogIndex::new(100 + proposal.batch);
        bench
            .evaluator
            .proposed(bench.now, proposal.serial, proposal.batch, Ok(index));
        bench.drain();
    }
    assert!(bench.evaluator.counters().commands < 10);
}

#[test]
fn a_command_of_an_unknown_session_is_never_evaluated() {
    // E10: executed, the ack lost, the session expired: the retry must not run again. What its caller hears is decided
    // by the router, which knows of every attempt whether it was answered.
    let mut bench = Bench::with(EvaluatorOptions {
        session_idle: Duration::from_secs(60),
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    bench.send(command(session, 1, &deposit(100)));
    bench.settle();
    let other = bench.session(8);
    bench.now += Duration::from_secs(61);
    bench.send(command(other, 1, &deposit(1)));
    bench.settle();
    assert_eq!(bench.state.lock().unwrap().sessions(), 1, "one was idle");
    let retry = bench.send(again(command(session, 1, &deposit(100))));
    let first = bench.send(command(session, 2, &deposit(100)));
    bench.settle();
    for token in [retry, first] {
        assert_eq!(
            bench.outcome(token),
            Some(&Outcome::Refused(Refusal::UnknownSession))
        );
    }
    assert_eq!(bench.balance("a"), 101);
}

#[test]
fn sessions_outlive_their_leader_and_any_jump_of_its_clock() {
    // E10: the same on a leader that knows the session only from the log, whose time does not run while nobody leads (E15).
    let (mut bench, session) = account_of_100();
    bench.end();
    bench.now += Duration::from_secs(1_000_000);
    bench.begin(2);
    let done = bench.send(again(command(session, 1, &deposit(100))));
    bench.settle();
    assert_eq!(bench.done::<u64>(done), 100);
    assert!(bench.replies[&done].logged);
    let gone = bench.send(again(command(SessionId(12_345), 1, &deposit(100))));
    bench.settle();
    assert_eq!(
        bench.outcome(gone),
        Some(&Outcome::Refused(Refusal::UnknownSession))
    );
    assert_eq!(bench.balance("a"), 100);
}

#[test]
fn a_session_keeps_a_bounded_number_and_size_of_replies() {
    // E11: one command that hangs must not make the shard keep millions of replies; the low mark is per session.
    let mut bench = Bench::with(EvaluatorOptions {
        session_window: 8,
        session_bytes: 300 << 10,
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    let hanging = bench.send(command(
        session,
        1,
        &Slow {
            door: "e11".to_owned(),
            amount: 1,
        },
    ));
    for sequence in 2..=8 {
        bench.send(at("b", command(session, sequence, &deposit(1))));
    }
    let beyond = bench.send(at("b", command(session, 9, &deposit(1))));
    let other_session = bench.session(8);
    let other = bench.send(at("b", command(other_session, 1, &deposit(1))));
    bench.settle();
    assert!(
        matches!(bench.outcome(beyond), Some(Outcome::Refused(Refusal::Busy { queue, .. })) if queue == "session window")
    );
    assert_eq!(bench.done::<u64>(other), 8);
    open_door("e11");
    bench.settle();
    assert_eq!(bench.done::<u64>(hanging), 1);
    let mut raised = command(session, 9, &Chatter { bytes: 200 << 10 });
    raised.intent = Intent::Command {
        session,
        sequence: 9,
        lowest: 9,
    };
    let large = bench.send(at("c", raised.clone()));
    bench.settle();
    assert_eq!(bench.done::<Vec<u8>>(large).len(), 200 << 10);
    let replies = |bench: &Bench| {
        let state = bench.state.lock().unwrap();
        let kept = state.session(session).unwrap();
        (kept.replies.len(), kept.bytes >> 10)
    };
    assert_eq!(replies(&bench), (1, 200));
    let mut next = raised;
    next.intent = Intent::Command {
        session,
        sequence: 10,
        lowest: 9,
    };
    let too_much = bench.send(at("c", next));
    bench.settle();
    assert!(
        matches!(bench.outcome(too_much), Some(Outcome::Refused(Refusal::Busy { queue, .. })) if queue == "session replies")
    );
    assert_eq!(replies(&bench), (1, 200));
    assert_eq!(bench.balance("c"), 1, "the refused command was taken back");
    let superseded = bench.send(again(at("b", command(session, 3, &deposit(1)))));
    bench.settle();
    assert_eq!(
        bench.outcome(superseded),
        Some(&Outcome::Refused(Refusal::Superseded))
    );
}

#[test]
fn an_outcome_without_an_entry_names_its_attempt_and_says_so() {
    // E31: attempt 1 answers Err without an entry; its late arrival must be recognisable.
    let (mut bench, session) = account_of_100();
    let first = bench.send(command(session, 2, &withdraw(1_000)));
    bench.settle();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(first), Err(Overdrawn));
    assert_eq!(bench.replies[&first].attempt, 1);
    assert!(!bench.replies[&first].logged);
    assert_eq!(
        bench.evaluator.counters().batches,
        2,
        "opening and deposit only"
    );
}

#[test]
fn a_retried_command_is_not_told_err_while_an_older_copy_could_take_effect() {
    // E31 from the other side: attempt 1 is still on its way to a former leader when attempt 2 answers Err here; once
    // that leader leads again, the old copy must find the Err and not withdraw.
    let (mut bench, session) = account_of_100();
    let retry = bench.send(again(command(session, 2, &withdraw(150))));
    bench.settle();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(retry), Err(Overdrawn));
    assert!(bench.replies[&retry].logged);
    bench.send(command(session, 3, &deposit(100)));
    bench.settle();
    bench.end();
    bench.begin(2);
    let straggler = bench.send(command(session, 2, &withdraw(150)));
    bench.settle();
    assert_eq!(
        bench.done::<Result<u64, Overdrawn>>(straggler),
        Err(Overdrawn)
    );
    assert_eq!(bench.balance("a"), 200);
}

#[test]
fn a_retry_of_an_unlogged_outcome_records_it() {
    // E31: attempt 2 joins the outcome that attempt 1 had here, and from then on every attempt finds it.
    let (mut bench, session) = account_of_100();
    let first = bench.send(command(session, 2, &withdraw(150)));
    bench.settle();
    bench.send(command(session, 3, &deposit(100)));
    bench.settle();
    let second = bench.send(again(command(session, 2, &withdraw(150))));
    bench.settle();
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(first), Err(Overdrawn));
    assert_eq!(bench.done::<Result<u64, Overdrawn>>(second), Err(Overdrawn));
    assert!(!bench.replies[&first].logged);
    assert!(bench.replies[&second].logged);
    assert_eq!(bench.balance("a"), 200);
}

#[test]
fn a_panic_fails_its_command_and_nothing_else() {
    // S22: a panic that reaches the actor ends it with its mailbox; here it is one failed command, awaiting or not.
    let (mut bench, session) = account_of_100();
    let spoiled = bench.send(command(session, 2, &Spoil));
    let after = bench.send(command(session, 3, &deposit(1)));
    let elsewhere = bench.send(at("b", command(session, 4, &deposit(5))));
    bench.settle();
    assert!(matches!(
        bench.outcome(spoiled),
        Some(Outcome::Failed(Failure::Panicked { .. }))
    ));
    assert_eq!(bench.done::<u64>(after), 101);
    assert_eq!(bench.done::<u64>(elsewhere), 5);
    assert_eq!(bench.evaluator.counters().panicked, 1);
}

#[test]
fn what_two_versions_share_carries_field_names() {
    // S23: in compact arrays two swapped fields decode silently; named maps survive added fields.
    let (bench, _) = account_of_100();
    let state = bench.state.lock().unwrap().clone();
    let image = state.image("account", "a").unwrap().unwrap().bytes;
    assert!(image.windows(7).any(|window| window == b"balance"));
    let older = b"\x81\xa7balance\x64"; // written before `filler` was added
    let account: Account = wire::decode(older).unwrap();
    assert_eq!(account.balance, 100);
    let batch = b"\x83\xa7version\x01\xa8clock_ms\x05\xa5later\xc3"; // a later version's field is passed over
    let mut empty = ShardState::new();
    empty.apply(LogIndex::new(1), batch).unwrap();
    let newer = b"\x82\xa7version\x02\xa8clock_ms\x05";
    assert_eq!(
        empty.apply(LogIndex::new(2), newer),
        Err(ApplyError::TooNew {
            index: LogIndex::new(2),
            got: 2
        })
    );
}

#[test]
fn a_snapshot_holds_everything_of_the_shard() {
    // Section 7: entities, sessions with replies, log time and the applied index are one value.
    let (mut bench, session) = account_of_100();
    bench.send(at("b", command(session, 2, &deposit(1))));
    bench.settle();
    let state = bench.state.lock().unwrap().clone();
    let bytes = state.encode();
    let decoded = ShardState::decode(&bytes).unwrap();
    assert_eq!(decoded, state);
    assert_eq!(decoded.encode(), bytes);
    assert!(ShardState::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn opening_a_session_twice_finds_the_first() {
    // Section 6: the opening may be retried; the router gets one session, also when both arrive before the entry.
    let mut bench = Bench::new();
    let first = bench.send(open(7));
    let second = bench.send(open(7));
    let other = bench.send(open(8));
    bench.settle();
    let third = bench.send(open(7));
    assert!(matches!(bench.outcome(first), Some(Outcome::Opened { .. })));
    assert_eq!(bench.outcome(first), bench.outcome(second));
    assert_eq!(bench.outcome(first), bench.outcome(third));
    assert_ne!(bench.outcome(first), bench.outcome(other));
    assert_eq!(bench.state.lock().unwrap().sessions(), 2);
}

#[test]
fn the_end_of_a_leadership_tells_what_may_still_take_effect() {
    // Section 5: what was handed to the group may still be logged, and a retry finds out; the rest did not happen.
    let (mut bench, session) = account_of_100();
    let proposed = bench.send(command(session, 2, &deposit(1)));
    bench.take();
    let in_batch = bench.send(command(session, 3, &deposit(1)));
    let balance = bench.send(query(&Balance));
    bench.end();
    assert_eq!(
        bench.outcome(proposed),
        Some(&Outcome::Interrupted { leader: Some(2) })
    );
    for token in [in_batch, balance] {
        assert_eq!(
            bench.outcome(token),
            Some(&Outcome::Refused(Refusal::NotLeader { leader: Some(2) }))
        );
    }
    bench.begin(2);
    let retry = bench.send(again(command(session, 2, &deposit(1))));
    assert_eq!(bench.done::<u64>(retry), 101);
}

#[test]
fn a_pause_drains_what_runs_and_lets_the_rest_wait() {
    // Section 5: during a leadership transfer commands wait unevaluated; a handler still running at the deadline is
    // dropped and its command evaluated again.
    let (mut bench, session) = account_of_100();
    let slow = Slow {
        door: "pause".to_owned(),
        amount: 1,
    };
    let running = bench.send(command(session, 2, &slow));
    bench.poll();
    bench
        .evaluator
        .pause(bench.now, bench.now + Duration::from_millis(50));
    let waiting = bench.send(at("b", command(session, 3, &deposit(5))));
    bench.settle();
    assert!(!bench.paused);
    assert_eq!(
        bench.evaluator.wake_at(),
        Some(bench.now + Duration::from_millis(50))
    );
    bench.tick(Duration::from_millis(50));
    assert!(bench.paused);
    assert_eq!(bench.outcome(waiting), None);
    bench.evaluator.resume(bench.now);
    open_door("pause");
    bench.settle();
    assert_eq!(bench.done::<u64>(running), 101);
    assert_eq!(bench.done::<u64>(waiting), 5);
}

#[test]
fn a_deadline_says_whether_evaluation_had_begun() {
    // Section 4: a deadline passed before evaluation is `Refused`, after it `Unknown`.
    let (mut bench, session) = account_of_100();
    let late = bench.send({
        let mut request = command(session, 2, &deposit(1));
        request.deadline_ms = 0;
        request
    });
    let running = bench.send(command(
        session,
        3,
        &Slow {
            door: "deadline".to_owned(),
            amount: 1,
        },
    ));
    let queued = bench.send(command(session, 4, &deposit(1)));
    let asked = bench.send(query(&Balance));
    bench.tick(Duration::from_secs(6));
    for token in [late, queued, asked] {
        assert_eq!(
            bench.outcome(token),
            Some(&Outcome::Refused(Refusal::DeadlinePassed))
        );
    }
    assert!(matches!(
        bench.outcome(running),
        Some(Outcome::Unknown { .. })
    ));
    open_door("deadline");
    bench.settle();
    assert_eq!(bench.balance("a"), 101, "only what had begun took effect");
    assert_eq!(bench.evaluator.wake_at(), None);
}

#[test]
fn bad_input_fails_one_request_and_names_itself() {
    // What bad input gets: unknown kind or message, undecodable body, limits on message, reply and state.
    let (mut bench, session) = account_of_100();
    let kind = bench.send({
        let mut request = command(session, 2, &deposit(1));
        request.kind = "cart".to_owned();
        request
    });
    let message = bench.send({
        let mut request = command(session, 3, &deposit(1));
        request.message = "Balance".to_owned(); // a query is no command
        request
    });
    let body = bench.send({
        let mut request = command(session, 4, &deposit(1));
        request.body = Bytes::from_static(b"\xc1");
        request
    });
    let state = bench.send(command(session, 5, &Grow { bytes: 2 << 20 }));
    let reply = bench.send(command(session, 6, &Chatter { bytes: 300 << 10 }));
    let large = bench.send({
        let mut request = command(session, 7, &deposit(1));
        request.body = Bytes::from(vec![0; (1 << 20) + 1]);
        request
    });
    let good = bench.send(command(session, 8, &Idle));
    bench.settle();
    let said = |token: u64| match bench.outcome(token) {
        Some(Outcome::Failed(failure)) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said(kind).contains("`cart` is not hosted"));
    assert!(said(message).contains("no message `Balance`"));
    assert!(said(body).contains("`Deposit` does not decode"));
    assert!(said(state).starts_with("state is 2097"));
    assert!(said(reply).starts_with("reply is 307"));
    assert!(said(large).starts_with("message is 1048577"));
    assert_eq!(bench.done::<u64>(good), 100);
}

#[test]
fn an_undecodable_state_is_set_aside_and_others_go_on() {
    // Section 7: a bad state quarantines that one entity with a clear error; its bytes stay.
    let (mut bench, session) = account_of_100();
    let mut other = Bench::new();
    let foreign_session = other.session(7);
    other.send(at("x", command(foreign_session, 1, &deposit(1))));
    other.flush();
    let mut payload = other.proposals.pop_front().unwrap().payload.to_vec();
    let place = payload
        .windows(7)
        .position(|window| window == b"balance")
        .unwrap();
    payload[place] = b'B';
    bench.foreign(Bytes::from(payload));
    let token = bench.send(at("x", command(session, 2, &deposit(1))));
    let asked = bench.send(at("x", query(&Balance)));
    let good = bench.send(command(session, 3, &deposit(1)));
    bench.settle();
    for token in [token, asked] {
        assert!(matches!(
            bench.outcome(token),
            Some(Outcome::Failed(Failure::Quarantined { kind, key, .. })) if kind == "account" && key == "x"
        ));
    }
    assert_eq!(bench.done::<u64>(good), 101);
    assert!(
        bench
            .state
            .lock()
            .unwrap()
            .image("account", "x")
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_command_that_changes_nothing_writes_no_entry() {
    // Section 5; also for an entity that does not exist yet, and for one that is deleted before it exists.
    let (mut bench, session) = account_of_100();
    let before = bench.evaluator.counters().batches;
    let idle = bench.send(command(session, 2, &Idle));
    let fresh = bench.send(at("fresh", command(session, 3, &Idle)));
    let closed = bench.send(at("fresh", command(session, 4, &Close)));
    bench.settle();
    assert_eq!(bench.done::<u64>(idle), 100);
    assert_eq!(bench.done::<u64>(fresh), 0);
    assert_eq!(bench.done::<u64>(closed), 0);
    assert_eq!(bench.evaluator.counters().batches, before);
    assert_eq!(bench.state.lock().unwrap().entities(), 1);
}

#[test]
fn a_deleted_entity_begins_anew() {
    // Section 4, `delete`: within a batch and across batches, and its chain begins anew too.
    let (mut bench, session) = account_of_100();
    let closed = bench.send(command(session, 2, &Close));
    bench.take();
    let reopened = bench.send(command(session, 3, &deposit(7)));
    bench.send(command(session, 4, &Close));
    let again = bench.send(command(session, 5, &deposit(8)));
    bench.settle();
    assert_eq!(bench.done::<u64>(closed), 100);
    assert_eq!(bench.done::<u64>(reopened), 7);
    assert_eq!(bench.done::<u64>(again), 8);
    assert_eq!(bench.balance("a"), 8);
    bench.send(command(session, 6, &Close));
    bench.settle();
    assert_eq!(bench.state.lock().unwrap().entities(), 0);
    let last = bench.send(command(session, 7, &deposit(9)));
    bench.settle();
    assert_eq!(bench.done::<u64>(last), 9);
}

#[test]
fn work_after_commit_waits_for_the_commit() {
    // Section 6: `after_commit` is at most once, and never before the effect is safe.
    let (mut bench, session) = account_of_100();
    bench.send(command(
        session,
        2,
        &Late {
            door: "committed".to_owned(),
        },
    ));
    bench.take();
    assert!(!is_open("committed"));
    bench.apply();
    assert!(is_open("committed"));
}

#[test]
fn a_handler_sees_who_and_where_it_is() {
    // Section 4, the context: own kind, key and node.
    let (mut bench, _) = account_of_100();
    let name = bench.send(query(&Name));
    bench.settle();
    assert_eq!(bench.done::<String>(name), "account/a on n1");
}

#[test]
fn stale_queries_see_applied_state_and_say_how_old() {
    // Section 5: stale queries see applied images only, on the leader too.
    let (mut bench, session) = account_of_100();
    bench.send(command(session, 2, &deposit(1)));
    bench.take();
    let mut request = query(&Balance);
    request.intent = Intent::StaleQuery { max_age_ms: 50 };
    let kinds = std::rc::Rc::new(
        crate::entity::KindTable::build(&[crate::entity::KindFactory::of::<Account>()]).unwrap(),
    );
    let node = std::rc::Rc::from("n1");
    let ask = |age| {
        let state = bench.state.lock().unwrap();
        let answer = super::stale_query(&state, &kinds, &node, &request, age);
        futures_util::FutureExt::now_or_never(answer).unwrap()
    };
    let Outcome::Done { body, age_ms } = ask(Some(Duration::from_micros(20_500))) else {
        panic!("not answered");
    };
    assert_eq!(wire::decode::<u64>(&body).unwrap(), 100);
    assert_eq!(age_ms, 21);
    assert_eq!(
        ask(Some(Duration::from_millis(51))),
        Outcome::Refused(Refusal::TooStale { age_ms: 51 })
    );
    assert_eq!(
        ask(None),
        Outcome::Refused(Refusal::TooStale { age_ms: u64::MAX })
    );
}

#[test]
fn overload_is_refused_with_a_hint_and_costs_no_memory() {
    // Bounded queues everywhere: `Refused` with a retry hint, never unbounded memory.
    let mut bench = Bench::with(EvaluatorOptions {
        waiting_max: 3,
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    let slow = Slow {
        door: "overload".to_owned(),
        amount: 1,
    };
    bench.send(command(session, 1, &slow));
    for sequence in 2..=4 {
        bench.send(command(session, sequence, &deposit(1)));
    }
    let refused = bench.send(command(session, 5, &deposit(1)));
    assert!(matches!(
        bench.outcome(refused),
        Some(Outcome::Refused(Refusal::Busy { queue, retry_after_ms })) if queue == "waiting requests" && *retry_after_ms > 0
    ));
    open_door("overload");
    bench.settle();
    assert_eq!(bench.balance("a"), 4);
}

#[test]
fn batches_close_at_their_bounds() {
    // Section 3: 256 commands or 256 KiB; section 5: an entry is at most 1 MiB or one command's effects.
    let mut bench = Bench::new();
    let session = bench.session(7);
    for sequence in 1..=255 {
        bench.send(command(session, sequence, &deposit(1)));
    }
    assert!(bench.proposals.is_empty());
    bench.send(command(session, 256, &deposit(1)));
    assert_eq!(
        bench.proposals.len(),
        1,
        "full batches do not wait for a flush"
    );
    bench.settle();
    assert_eq!(bench.balance("a"), 256);
    let mut raised = |sequence: u64, key: &str, bytes: usize| {
        let mut request = command(session, sequence, &Grow { bytes });
        request.intent = Intent::Command {
            session,
            sequence,
            lowest: 257,
        };
        bench.send(at(key, request));
    };
    raised(257, "b", 200 << 10);
    raised(258, "c", 1_000 << 10);
    raised(259, "d", 1_000 << 10);
    bench.flush();
    let mut sizes = Vec::new();
    while let Some(proposal) = bench.proposals.pop_front() {
        sizes.push(proposal.payload.len() >> 10);
        bench.evaluator.proposed(
            bench.now,
            proposal.serial,
            proposal.batch,
            Ok(LogIndex::new(1_000 + proposal.batch)),
        );
        bench.drain();
    }
    assert_eq!(sizes, [200, 1_000, 1_000]);
}

#[test]
fn a_session_whose_last_command_failed_expires_too() {
    // E10: the answer that is kept for a repeated attempt must not keep its session for ever.
    let mut bench = Bench::with(EvaluatorOptions {
        session_idle: Duration::from_secs(60),
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    bench.send(command(session, 1, &withdraw(5)));
    bench.settle();
    bench.now += Duration::from_secs(61);
    let other = bench.session(8);
    bench.send(command(other, 1, &deposit(1)));
    bench.settle();
    assert_eq!(bench.state.lock().unwrap().sessions(), 1);
}

#[test]
fn a_session_whose_end_was_refused_by_the_group_lives_on() {
    // E9 meets E10: the entry that would have ended the session was never logged.
    let mut bench = Bench::with(EvaluatorOptions {
        session_idle: Duration::from_secs(60),
        ..EvaluatorOptions::default()
    });
    let session = bench.session(7);
    bench.now += Duration::from_secs(61);
    bench.send(open(8));
    bench.flush();
    let refused = bench.proposals.pop_front().unwrap();
    bench
        .evaluator
        .proposed(bench.now, refused.serial, refused.batch, Err(()));
    bench.drain();
    let early = bench.send(command(session, 1, &deposit(1)));
    bench.tick(Duration::from_millis(20));
    let late = bench.send(command(session, 2, &deposit(1)));
    bench.settle();
    assert_eq!(
        bench.outcome(early),
        Some(&Outcome::Refused(Refusal::UnknownSession))
    );
    assert_eq!(bench.done::<u64>(late), 1);
}

#[test]
fn a_request_for_another_shard_or_with_an_endless_key_is_turned_away() {
    // S8: one key in two shards would be two entities; what bad input gets: the limit is named.
    let (mut bench, session) = account_of_100();
    let astray = bench.send({
        let mut request = command(session, 2, &deposit(1));
        request.shard = crate::wire::ShardId::main(9);
        request
    });
    let endless = bench.send(at(&"k".repeat(2_000), command(session, 3, &deposit(1))));
    assert_eq!(
        bench.outcome(astray),
        Some(&Outcome::Refused(Refusal::NotLeader { leader: None }))
    );
    assert!(matches!(
        bench.outcome(endless),
        Some(Outcome::Failed(Failure::TooLarge { what, .. })) if what == "key"
    ));
}
