//! How calls end: deadlines, refusals, failures, bounds.

use super::*;
use crate::router::{Failed, Refused};
use crate::wire::Failure;

fn busy(retry_after_ms: u64) -> Refusal {
    Refusal::Busy {
        queue: "the shard's queue".to_owned(),
        retry_after_ms,
    }
}

#[test]
fn a_command_that_was_never_sent_is_refused_at_its_deadline() {
    // DESIGN 7: "it did not happen" may be said of what nobody evaluated.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    let call = rig.command(300);
    assert!(rig.table_wanted > 0);
    rig.pass(ms(299));
    assert!(rig.running(call));
    rig.pass(ms(1));
    assert!(matches!(
        rig.ended(call),
        Err(AskError::Refused(Refused::DeadlinePassed { .. }))
    ));
    assert_eq!(rig.core.outstanding(), 0);
}

#[test]
fn a_call_made_after_its_deadline_ends_at_once() {
    // DESIGN 4: a deadline passed before evaluation is `Refused`.
    let mut rig = Rig::with_session();
    let call = rig.command(0);
    assert!(matches!(
        rig.ended(call),
        Err(AskError::Refused(Refused::DeadlinePassed { .. }))
    ));
    let call = rig.query(0);
    assert!(matches!(rig.ended(call), Err(AskError::TimedOut(_))));
    rig.take::<0>();
}

#[test]
fn a_command_that_was_sent_and_not_answered_is_unknown_at_its_deadline() {
    // DESIGN 7: when it is not known whether it took effect, the error says so.
    let mut rig = Rig::with_session();
    let call = rig.command(300);
    rig.pass(ms(300));
    let error = rig.ended(call).unwrap_err();
    assert!(matches!(error, AskError::Unknown(_)));
    assert!(!error.did_not_happen());
    assert!(error.to_string().contains("may have happened"));
}

#[test]
fn a_command_whose_every_attempt_was_refused_is_refused_at_its_deadline() {
    // DESIGN 6: a refusal settles its attempt.
    let mut rig = Rig::with_session();
    let call = rig.command(2_000);
    let end = rig.now + ms(2_000);
    while rig.running(call) {
        for sent in std::mem::take(&mut rig.sent) {
            rig.not_leader(&sent, None);
        }
        let at = rig.core.wake_at().unwrap();
        rig.pass(at - rig.now);
    }
    assert_eq!(rig.now, end);
    assert!(matches!(
        rig.ended(call),
        Err(AskError::Refused(Refused::DeadlinePassed { .. }))
    ));
}

#[test]
fn a_command_that_could_not_leave_is_refused_at_its_deadline() {
    // Wrong addresses, no network: nothing ever left, so nothing happened.
    let mut rig = Rig::with_session();
    let call = rig.command(1_000);
    let mut sendings = 0;
    while rig.running(call) {
        for sent in std::mem::take(&mut rig.sent) {
            sendings += 1;
            let id = CallId(sent.request.id);
            rig.core.unsent(rig.now, sent.to, id, sent.request.attempt);
            rig.drain();
        }
        let at = rig.core.wake_at().unwrap();
        rig.pass(at - rig.now);
    }
    assert!(rig.ended(call).unwrap_err().did_not_happen());
    assert!(
        (10..=80).contains(&sendings),
        "{sendings} tries in a second"
    );
}

#[test]
fn a_query_without_answer_times_out_and_says_that_nothing_changed() {
    // DESIGN 6: queries need no session and change nothing.
    let mut rig = Rig::new();
    let call = rig.query(300);
    let [sent] = rig.take();
    assert_eq!(sent.request.intent, Intent::Query);
    assert_eq!(sent.request.deadline_ms, 300);
    rig.pass(ms(300));
    let error = rig.ended(call).unwrap_err();
    assert!(matches!(error, AskError::TimedOut(_)));
    assert!(error.to_string().contains("changes nothing"));
}

#[test]
fn a_failure_ends_the_call_with_its_sentence() {
    // STYLE 5: errors tell the caller what to do next.
    let mut rig = Rig::with_session();
    let call = rig.command(1_000);
    let [sent] = rig.take();
    let failure = Failure::UnknownKind {
        kind: "account".to_owned(),
    };
    rig.reply(&sent, false, Outcome::Failed(failure.clone()));
    assert_eq!(
        rig.ended(call).unwrap_err(),
        AskError::Failed(Failed(failure))
    );
}

#[test]
fn a_message_over_the_limit_fails_before_it_is_sent() {
    // Issue: message over the limit is a clear error.
    let options = RouterOptions {
        message_max: 0,
        ..Default::default()
    };
    let mut rig = Rig::bare(options, None);
    let call = rig.command(1_000);
    assert!(matches!(
        rig.ended(call),
        Err(AskError::Failed(Failed(Failure::TooLarge { .. })))
    ));
}

#[test]
fn an_overloaded_shard_is_asked_again_after_its_pause() {
    // Overload: bounded queues, `Refused` with a retry hint.
    let mut rig = Rig::with_session();
    let call = rig.command(1_000);
    let [sent] = rig.take();
    rig.refuse(&sent, busy(40));
    let waited = rig.pass_until_sent();
    assert!(waited >= ms(40) && waited <= ms(60), "{waited:?}");
    let [again] = rig.take();
    assert_eq!(again.request.attempt, 2);
    assert_eq!(again.command(), sent.command());
    rig.answer(&again, true, b"ok");
    rig.ended(call).unwrap();
}

#[test]
fn overload_until_the_deadline_is_refused_with_the_retry_hint() {
    // STYLE 5: send the same command again after `retry_after`.
    let mut rig = Rig::with_session();
    let call = rig.command(100);
    let [sent] = rig.take();
    rig.refuse(&sent, busy(400));
    let error = rig.ended(call).unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(400)));
    assert!(error.did_not_happen());
}

#[test]
fn overload_of_a_retry_does_not_unsay_the_first_attempt() {
    // The first sending was never answered: it may yet be evaluated.
    let mut rig = Rig::with_session();
    let call = rig.command(700);
    let [_lost] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    rig.refuse(&second, busy(5_000));
    assert!(rig.running(call));
    rig.pass(ms(700));
    assert!(matches!(rig.ended(call), Err(AskError::Unknown(_))));
}

#[test]
fn queues_are_bounded_and_say_when_to_come_back() {
    // STYLE 14: every queue has a bound; beyond it the call is refused at once.
    let options = RouterOptions {
        window: 2,
        waiting_max: 3,
        calls_max: 7,
        queries_max: 1,
        ..Default::default()
    };
    let mut rig = Rig::bare(options, None);
    rig.table(table(1, 1, Some(1)));
    let calls: Vec<_> = (0..4).map(|_| rig.command(5_000)).collect();
    let refused = rig.ended(calls[3]).unwrap_err();
    assert!(refused.retry_after().is_some(), "{refused}");
    rig.open_session(10);
    let [first, second] = rig.take();
    assert_eq!((first.command().1, second.command().1), (1, 2));
    let one = rig.query(5_000);
    let two = rig.query(5_000);
    assert!(rig.running(one));
    assert!(rig.ended(two).unwrap_err().retry_after().is_some());
    let [query] = rig.take();
    rig.answer(&query, false, b"0");
    rig.ended(one).unwrap();
    rig.answer(&second, true, b"ok");
    rig.ended(calls[1]).unwrap();
    rig.take::<0>();
    rig.answer(&first, true, b"ok"); // the low mark moves, the window opens
    let [third] = rig.take();
    assert_eq!((third.command().1, third.command().2), (3, 3));
}

#[test]
fn the_bytes_of_all_calls_are_bounded() {
    // STYLE 14: bodies are bounded in bytes, not only in number; room comes back with the answers.
    let options = RouterOptions {
        bytes_max: 2,
        ..Default::default()
    };
    let mut rig = Rig::bare(options, None);
    rig.table(table(1, 1, Some(1)));
    let [one, _two, three] = [(); 3].map(|()| rig.query(5_000));
    assert!(rig.ended(three).unwrap_err().retry_after().is_some());
    let [first, _] = rig.take();
    rig.answer(&first, false, b"0");
    rig.ended(one).unwrap();
    let four = rig.query(5_000);
    assert!(rig.running(four));
}

#[test]
fn a_closed_router_ends_every_call_truly() {
    // What was sent is unknown, what was not is refused.
    let mut rig = Rig::with_session();
    let sent = rig.command(1_000);
    let query = rig.query(1_000);
    rig.core.close();
    rig.drain();
    assert!(matches!(rig.ended(sent), Err(AskError::Unknown(_))));
    assert_eq!(rig.ended(query), Err(Refused::Closed.into()));
    let late = rig.command(1_000);
    assert_eq!(rig.ended(late), Err(Refused::Closed.into()));
    assert_eq!((rig.core.outstanding(), rig.core.wake_at()), (0, None));
}

#[test]
fn a_reply_to_nobody_changes_nothing() {
    // Slots are used again: an old id must not end a new call.
    let mut rig = Rig::with_session();
    let first = rig.command(1_000);
    let [sent] = rig.take();
    rig.answer(&sent, true, b"one");
    rig.ended(first).unwrap();
    let second = rig.command(1_000);
    assert_ne!(first, second);
    rig.answer(&sent, true, b"one");
    assert!(rig.running(second));
    assert_eq!(rig.core.counters().late_replies, 1);
    let [sent] = rig.take();
    let mut future = sent.clone();
    future.request.attempt = 9;
    rig.answer(&future, true, b"two");
    assert!(rig.running(second), "an attempt that was never made");
}
