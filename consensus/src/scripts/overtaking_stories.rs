//! Appends and their answers that overtake each other: what is sent again, and how often.
//!
//! Here: the leader's reading of late words (H29, H33) and what makes it send again what was really lost. Not here: that no order of
//! messages breaks a log (`log_stories`, `fuzz`).

use super::*;
use crate::{GroupOptions, LogIndex, Message, PeerState};

/// A leader of three that puts one command into an append, after its first entry arrived everywhere.
fn one_by_one() -> Net {
    let options = GroupOptions {
        append_bytes: 1,
        ..Net::options()
    };
    let mut net = Net::with(3, options);
    net.elect(1);
    net.run_ms(100);
    net
}

/// Proposes `count` commands and takes the appends for replica 2 off the wire.
fn appends(net: &mut Net, count: usize) -> Vec<Message> {
    for nth in 0..count {
        net.propose(1, &nth.to_string());
    }
    let taken = net.take("append", 2);
    assert_eq!(taken.len(), count);
    taken
}

/// Delivers messages and lets replica 2 write what came of them; answers stay on the wire.
fn arrive(net: &mut Net, messages: Vec<Message>) {
    for message in messages {
        net.deliver(message);
    }
    while net.write_one(2) {}
}

fn state(net: &Net) -> PeerState {
    net.status(1).peers[0].state
}

/// The first of eight appends comes late, so that the others are refused. Returns the refusals.
fn overtaken(net: &mut Net) -> Vec<Message> {
    let mut sent = appends(net, 8);
    sent.remove(0);
    arrive(net, sent);
    let refusals = net.take("conflict", 1);
    assert_eq!(refusals.len(), 7);
    refusals
}

#[test]
fn an_overtaken_append_makes_the_window_go_again_once() {
    // Of seven refusals for one reason the first one counts. Each of the others would send the whole window again, whose appends
    // overtake each other in turn.
    let mut net = one_by_one();
    let mut refusals = overtaken(&mut net);
    net.deliver(refusals.remove(0));
    assert_eq!(state(&net), PeerState::Probe);
    let probe = net.take("append", 2);
    assert_eq!(probe.len(), 1);

    net.deliver(refusals.remove(0)); // while the probe is on its way
    assert_eq!(net.on_wire("append", 2), 0);

    arrive(&mut net, probe);
    let found = net.take("appended", 1);
    assert_eq!(found.len(), 1);
    arrive(&mut net, found);
    assert_eq!(state(&net), PeerState::Replicate);
    let again = net.take("append", 2);
    assert_eq!(again.len(), 7);

    for late in refusals {
        net.deliver(late);
        assert_eq!(
            (state(&net), net.on_wire("append", 2)),
            (PeerState::Replicate, 0)
        );
    }
    arrive(&mut net, again);
    net.settle();
    assert_eq!(net.log(2), net.log(1));
}

#[test]
fn a_refusal_from_before_a_heartbeats_answer_sends_nothing_again() {
    // The disk of the follower is slow: nothing is acknowledged, but its answer to a heartbeat says how far it got.
    let mut net = one_by_one();
    net.node(2).disk_held = true;
    let refusals = overtaken(&mut net);
    let mut late = refusals.into_iter();
    net.deliver(late.next().unwrap());
    let probe = net.take("append", 2);
    probe.into_iter().for_each(|message| net.deliver(message));
    assert_eq!(net.on_wire("appended", 1), 0);

    net.pass_ms(500);
    let beat = net.take("heartbeat", 2);
    beat.into_iter().for_each(|message| net.deliver(message));
    let answer = net.take("heartbeat_reply", 1);
    answer.into_iter().for_each(|message| net.deliver(message));
    assert_eq!(state(&net), PeerState::Replicate);
    assert_eq!(net.take("append", 2).len(), 7);
    for refusal in late {
        net.deliver(refusal);
    }
    assert_eq!(
        (state(&net), net.on_wire("append", 2)),
        (PeerState::Replicate, 0)
    );
}

#[test]
fn an_acknowledgement_of_less_than_was_probed_for_sends_nothing_again() {
    // The disk of the follower stands still: it answers every copy of an append with what it once wrote, though it received more. Taken
    // as the answer to the probe, each would send everything since again (seen in the simulator: 4,200,000 messages where 45,000 do).
    let mut net = one_by_one();
    net.node(2).disk_held = true;
    let mut sent = appends(&mut net, 8);
    let copy = sent[0].clone();
    sent.remove(3);
    sent.into_iter().for_each(|message| net.deliver(message));
    let refusals = net.take("conflict", 1);
    net.deliver(refusals[0].clone());
    net.take("append", 2);
    assert_eq!(net.status(1).peers[0].next, LogIndex::new(5));

    for _ in 0..3 {
        net.deliver(copy.clone());
        for answer in net.take("appended", 1) {
            net.deliver(answer);
        }
    }
    assert_eq!(
        (state(&net), net.on_wire("append", 2)),
        (PeerState::Probe, 0)
    );
    assert_eq!(net.status(1).peers[0].next, LogIndex::new(5));
    net.run_ms(600);
    assert_eq!(net.status(1).peers[0].next, LogIndex::new(10));
    net.node(2).disk_held = false;
    net.settle();
    assert_eq!(net.status(1).peers[0].matched, LogIndex::new(9));
}

#[test]
fn an_answer_to_a_heartbeat_from_before_a_probe_sends_nothing_again() {
    // It was said before what was sent since could arrive: that something is missing is known already.
    let mut net = one_by_one();
    let refusals = overtaken(&mut net);
    net.pass_ms(500);
    let beat = net.take("heartbeat", 2);
    arrive(&mut net, beat);
    let late = net.take("heartbeat_reply", 1);
    assert_eq!(late.len(), 1);

    net.deliver(refusals[0].clone());
    let probe = net.take("append", 2);
    net.deliver(late[0].clone());
    assert_eq!(
        (state(&net), net.on_wire("append", 2)),
        (PeerState::Probe, 0),
        "the probe is not repeated"
    );

    arrive(&mut net, probe);
    let found = net.take("appended", 1);
    arrive(&mut net, found);
    assert_eq!(net.take("append", 2).len(), 7);
    net.deliver(late[0].clone());
    assert_eq!(
        (state(&net), net.on_wire("append", 2)),
        (PeerState::Replicate, 0),
        "nor is the window"
    );
}

#[test]
fn what_is_lost_from_the_window_that_went_again_is_noticed() {
    // Not to believe late refusals must not make the leader deaf: the next loss is another one.
    let mut net = one_by_one();
    let mut refusals = overtaken(&mut net);
    net.deliver(refusals.remove(0));
    let probe = net.take("append", 2);
    arrive(&mut net, probe);
    let found = net.take("appended", 1);
    arrive(&mut net, found);
    let mut again = net.take("append", 2);
    again.remove(2);
    arrive(&mut net, again);
    for late in refusals {
        net.deliver(late);
    }
    net.settle();
    assert_eq!(net.log(2), net.log(1), "a refusal of what came after it");
}

#[test]
fn a_probe_and_a_tail_that_are_lost_are_noticed_by_heartbeats() {
    // Nothing follows that could be refused: the next heartbeat after it names what should be there.
    let mut net = one_by_one();
    let refusals = overtaken(&mut net);
    net.deliver(refusals[0].clone());
    assert_eq!(net.take("append", 2).len(), 1, "the probe is lost");
    net.run_ms(1_100);
    assert_eq!(net.log(2), net.log(1));
    appends(&mut net, 3);
    assert_eq!(net.on_wire("append", 2), 0, "the tail is lost");
    net.run_ms(1_100);
    assert_eq!(net.log(2), net.log(1));
}

#[test]
fn a_follower_that_lost_what_it_had_not_written_is_fed_again() {
    // The logs met at what it had received, not written; after its restart its refusal names less than that. The heartbeat says it.
    let mut net = one_by_one();
    net.node(2).disk_held = true;
    let sent = appends(&mut net, 4);
    sent.into_iter().for_each(|message| net.deliver(message));
    net.run_ms(600);
    assert_eq!(net.status(1).peers[0].next, LogIndex::new(6));
    net.crash(2);
    appends(&mut net, 1);
    net.run_ms(1_100);
    assert_eq!(net.log(2), net.log(1));
}
