//! At most once: sessions, sequences, low marks, and which outcome counts.

use super::*;
use crate::router::Refused;

#[test]
fn a_retry_carries_the_same_session_and_sequence() {
    // E5: so it attaches to the evaluation that is queued, held or in flight, instead of starting another.
    let mut rig = Rig::with_session();
    let call = rig.command(10_000);
    let [first] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    assert_eq!(first.request.id, second.request.id);
    assert_eq!(first.command(), second.command());
    assert_eq!((first.request.attempt, second.request.attempt), (1, 2));
    rig.answer(&first, true, b"ok"); // logged: whichever attempt brings it
    rig.ended(call).unwrap();
}

#[test]
fn the_first_command_opens_the_session_once_for_all() {
    // DESIGN 6: sessions are per (router, shard), opened lazily.
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.command(5_000);
    }
    let query = rig.query(5_000);
    let [opening, asked] = rig.take();
    assert!(opening.opens() && !asked.opens(), "queries need no session");
    rig.answer(&asked, false, b"0");
    rig.ended(query).unwrap();
    let session = SessionId(10);
    rig.reply(&opening, true, Outcome::Opened { session });
    let sent: [Sent; 3] = rig.take();
    assert_eq!(
        sent.map(|sent| sent.command()),
        [
            (SessionId(10), 1, 1),
            (SessionId(10), 2, 1),
            (SessionId(10), 3, 1)
        ]
    );
}

#[test]
fn a_first_attempt_at_an_unknown_session_opens_a_new_one() {
    // E10: nothing was evaluated, so a new session cannot double it. The session had expired while nobody used it.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.refuse(&first, Refusal::UnknownSession);
    rig.open_session(20);
    let [again] = rig.take();
    assert_eq!(again.command(), (SessionId(20), 1, 1));
    rig.answer(&again, true, b"ok");
    rig.ended(call).unwrap();
}

#[test]
fn a_retry_at_an_unknown_session_ends_as_unknown() {
    // E10: the first attempt may have been executed under the session that expired.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [_lost] = rig.take();
    rig.pass_until_sent();
    let [retry] = rig.take();
    rig.refuse(&retry, Refusal::UnknownSession);
    assert!(matches!(rig.ended(call), Err(AskError::Unknown(_))));
    let next = rig.command(5_000);
    rig.open_session(20);
    let [sent] = rig.take();
    rig.answer(&sent, true, b"ok");
    rig.ended(next).unwrap();
}

#[test]
fn attempts_that_were_all_refused_count_as_none() {
    // E10, the other way round: a command that only met nodes that do not lead was certainly not executed.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.not_leader(&first, Some(2));
    let [second] = rig.take();
    assert_eq!((second.to, second.request.attempt), (2, 2));
    rig.refuse(&second, Refusal::UnknownSession);
    rig.open_session(20);
    let [third] = rig.take();
    assert_eq!(third.command(), (SessionId(20), 1, 1));
    rig.answer(&third, true, b"ok");
    rig.ended(call).unwrap();
}

#[test]
fn sequences_go_on_when_a_repeated_opening_finds_the_same_session() {
    // A deposed leader that never saw the session disowns it: starting again at 1 would find other commands' replies.
    let mut rig = Rig::with_session();
    rig.command(5_000);
    let [sent] = rig.take();
    assert_eq!(sent.command(), (SessionId(10), 2, 2));
    rig.refuse(&sent, Refusal::UnknownSession);
    rig.open_session(10);
    let [again] = rig.take();
    assert_eq!(again.command(), (SessionId(10), 3, 3));
}

#[test]
fn an_older_session_never_comes_back() {
    // Its sequences were used before: their stored replies would answer new commands.
    let mut rig = Rig::with_session();
    rig.command(5_000);
    let [sent] = rig.take();
    rig.refuse(&sent, Refusal::UnknownSession);
    rig.open_session(9);
    rig.take::<0>();
    rig.pass_until_sent();
    rig.open_session(20);
    let [again] = rig.take();
    assert_eq!(again.command(), (SessionId(20), 1, 1));
}

#[test]
fn a_shard_that_forgets_every_session_is_not_asked_in_a_spin() {
    // S4 the other way round: events wake, but a loop of events must pause.
    let mut rig = Rig::with_session();
    let call = rig.command(1_000);
    let mut openings = 0;
    let mut session = 20;
    while rig.running(call) {
        for sent in std::mem::take(&mut rig.sent) {
            if sent.opens() {
                openings += 1;
                session += 1;
                let session = SessionId(session);
                rig.reply(&sent, true, Outcome::Opened { session });
            } else {
                rig.refuse(&sent, Refusal::UnknownSession);
            }
        }
        if rig.sent.is_empty() {
            let at = rig.core.wake_at().unwrap();
            rig.pass(at - rig.now);
        }
    }
    assert!(matches!(
        rig.ended(call),
        Err(AskError::Refused(Refused::DeadlinePassed { .. }))
    ));
    assert!(openings < 30, "{openings} sessions in a second");
}

#[test]
fn one_hanging_command_holds_the_low_mark_of_its_own_shard_only() {
    // E11: a router-wide low mark would make every shard keep millions of replies.
    let mut rig = Rig::bare(RouterOptions::default(), None);
    rig.table(table(1, 8, Some(1)));
    let sharding = Sharding { seed: 5, shards: 8 };
    let other = (0..)
        .map(|n| format!("k{n}"))
        .find(|key| sharding.shard_of(key) != sharding.shard_of("alice"))
        .unwrap();
    let hanging = rig.command(60_000);
    rig.open_session(10);
    let [_hanging] = rig.take();
    rig.ask(&other, Mode::Command, 5_000);
    rig.open_session(11);
    for round in 1..=300 {
        let [sent] = rig.take();
        assert_eq!(sent.command(), (SessionId(11), round, round));
        rig.answer(&sent, true, b"ok");
        rig.ask(&other, Mode::Command, 5_000);
    }
    rig.take::<1>();
    // In its own shard the window is the bound of what has to be kept.
    let mut answered = 0;
    for _ in 0..300 {
        rig.command(5_000);
        for sent in std::mem::take(&mut rig.sent) {
            assert_eq!(sent.command().2, 1);
            answered += 1;
            rig.answer(&sent, true, b"ok");
        }
    }
    assert_eq!(answered, 255);
    assert!(rig.running(hanging));
}

#[test]
fn a_command_that_was_given_up_raises_the_low_mark() {
    // The next request tells the shard that the sequence will not come again, which ends the doubt about it.
    let mut rig = Rig::with_session();
    let call = rig.command(300);
    rig.take::<1>();
    rig.pass(ms(300));
    assert!(matches!(rig.ended(call), Err(AskError::Unknown(_))));
    rig.command(5_000);
    let sent = rig.sent.pop().unwrap();
    assert_eq!(sent.command(), (SessionId(10), 3, 3));
}

#[test]
fn an_unlogged_outcome_is_dropped_once_a_later_attempt_was_sent() {
    // E31: attempt 1 answered `Err` without an entry, attempt 2 takes effect, the late `Err` arrives first.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    rig.answer(&first, false, b"overdrawn");
    assert!(rig.running(call));
    assert_eq!(rig.core.counters().outdated_outcomes, 1);
    rig.answer(&second, true, b"ok");
    assert_eq!(rig.ended(call).unwrap().body, "ok");
}

#[test]
fn an_unlogged_outcome_counts_when_later_attempts_were_refused() {
    // E31: a later attempt that nobody evaluated outdates nothing.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    rig.not_leader(&second, None);
    rig.take::<0>();
    rig.answer(&first, false, b"overdrawn");
    assert_eq!(rig.ended(call).unwrap().body, "overdrawn");
}

#[test]
fn an_interrupted_command_is_sent_to_the_next_leader() {
    // DESIGN 6: the session knows what became of it, so the end of a leadership is no reason to give up.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.reply(&first, false, Outcome::Interrupted { leader: Some(3) });
    let [second] = rig.take();
    assert_eq!((second.to, second.command()), (3, first.command()));
    rig.answer(&second, true, b"ok");
    rig.ended(call).unwrap();
}

#[test]
fn an_interrupted_command_stays_in_doubt() {
    // Its effect may be in the log: a refusal of the retry does not unsay that.
    let mut rig = Rig::with_session();
    let call = rig.command(1_000);
    let [first] = rig.take();
    rig.reply(&first, false, Outcome::Interrupted { leader: Some(3) });
    let [second] = rig.take();
    rig.refuse(&second, Refusal::UnknownSession);
    assert!(matches!(rig.ended(call), Err(AskError::Unknown(_))));
}

#[test]
fn unknown_of_the_newest_attempt_is_final_and_of_an_older_one_is_not() {
    // wire: `Unknown` = no retry can tell; but a retry that is under way may have been told already.
    let mut rig = Rig::with_session();
    let call = rig.command(5_000);
    let [first] = rig.take();
    rig.pass_until_sent();
    let [second] = rig.take();
    let reason = "the reply was not kept".to_owned();
    let outcome = Outcome::Unknown { reason };
    rig.reply(&first, false, outcome.clone());
    assert!(rig.running(call));
    rig.reply(&second, false, outcome);
    let error = rig.ended(call).unwrap_err();
    assert!(matches!(error, AskError::Unknown(_)));
    assert!(error.to_string().contains("the reply was not kept"));
}

#[test]
fn an_opening_ends_with_the_last_command_that_wanted_it() {
    // Nobody waits: a router at rest sends nothing, however long its shard has no leader.
    let mut rig = Rig::new();
    rig.command(500);
    while let Some(at) = rig.core.wake_at() {
        assert!(rig.now < ms(4_000), "still busy");
        rig.pass(at - rig.now);
        for sent in std::mem::take(&mut rig.sent) {
            rig.reply(&sent, false, not_led());
        }
    }
    assert_eq!(rig.core.outstanding(), 0);
}
