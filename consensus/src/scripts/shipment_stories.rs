//! Snapshots on their way to followers that are slow, full or gone, and what the leader keeps for them meanwhile.

use super::shelf::Room;
use super::snapshot_stories::{chunked, half_way, held, laggard, step_until};
use super::*;
use crate::message::Body;
use crate::{GroupOptions, LogIndex, Output, PeerState, Refusal, ShipmentEnd};

/// What 1 writes while a snapshot is on its way.
fn write(net: &mut Net, count: u64) {
    for i in 0..count {
        net.propose(1, &i.to_string());
    }
}

#[test]
fn a_follower_that_takes_nothing_holds_neither_a_place_nor_the_log() {
    // E28: its log grows and its heartbeats are answered, but not a byte of the snapshot stays there, and it does not say why.
    let mut net = laggard(chunked());
    net.node(3).shelf.room = Room::Silent;
    net.heal();
    net.run_ms(1_000);
    assert!(net.group(1).shipping(id(3)).is_some());
    let (mut idle, mut first) = (0, net.status(1).first);
    let mut moved = 0;
    for _ in 0..120 {
        write(&mut net, 1);
        net.run_ms(1_000);
        net.checkpoint(1, true);
        idle += u32::from(net.group(1).shipping(id(3)).is_none());
        let now = net.status(1).first;
        moved += u32::from(now > std::mem::replace(&mut first, now));
    }
    assert!(idle > 0, "its place is given up now and then");
    assert!(moved > 0, "so is the log that it pins");
    assert!(
        net.status(1).last.index.get().saturating_sub(first.get()) < 40,
        "{first}"
    );
    net.node(3).shelf.room = Room::Enough;
    net.run_ms(60_000);
    assert_eq!(net.applied(3).len(), 140);
}

#[test]
fn a_late_chunk_of_an_earlier_run_voids_the_read_under_way_and_not_the_shipment() {
    // Simulator, seed 10241: the leader read on from where it had sent to, and waited for that read for ever, when the follower said
    // that it held more: a chunk given up for lost had come after all.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(1).shelf.reads_held = true;
    net.settle();
    let wanted = net.node(1).shelf.wanted.remove(&id(3));
    let read = wanted.expect("there is more to send");
    let (meta, data) = {
        let source = &net.node(1).shelf.sources[&id(3)];
        (source.meta.clone(), source.read(&read))
    };
    let late = Body::Chunk {
        serial: read.serial - 1,
        meta: Box::new(meta),
        total: read.id.bytes,
        checksum: read.id.checksum,
        offset: read.offset,
        data: data.clone(),
    };
    let term = net.status(1).term.get();
    net.deliver(say(1, 3, term, late));
    net.settle();
    assert_eq!(held(&mut net), read.offset + data.len() as u64);
    let now = net.now;
    net.group(1).chunk_read(now, read, Some(data));
    net.drain(1);
    net.node(1).shelf.reads_held = false;
    net.read_chunk(1);
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 20);
    assert_eq!(net.node(1).shelf.needed, 1);
}

#[test]
fn a_slow_follower_keeps_its_place_as_long_as_it_takes_something() {
    let mut net = laggard(chunked());
    half_way(&mut net);
    let mut before = held(&mut net);
    // One chunk every nine seconds: silence is not what it is judged by, and it grows.
    for _ in 0..5 {
        net.node(3).shelf.room = Room::Silent;
        net.run_ms(9_000);
        net.node(3).shelf.room = Room::Enough;
        step_until(&mut net, |net| held(net) > before);
        before = held(&mut net);
    }
    net.run_ms(5_000);
    assert_eq!(net.node(1).shelf.needed, 1);
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn the_log_waits_until_the_follower_has_caught_up_behind_its_snapshot() {
    // E28: the leader compacts after every single message; what was written meanwhile is more than two appends hold.
    let mut net = laggard(GroupOptions {
        append_bytes: 64,
        inflight_appends: 2,
        ..chunked()
    });
    net.node(1).shelf.reads_held = true;
    net.heal();
    net.run_ms(1_000);
    write(&mut net, 30);
    net.run_ms(500);
    assert_eq!(net.status(1).peers[1].state, PeerState::Snapshot);
    while net.read_chunk(1) | net.step() {
        net.checkpoint(1, true);
    }
    net.run_ms(1_000);
    assert_eq!(net.applied(3).len(), 50);
    assert_eq!(net.node(1).shelf.needed, 1);
    net.checkpoint(1, true);
    assert_eq!(
        net.status(1).first,
        net.status(1).last.index.next(),
        "nothing is kept for a follower that has caught up"
    );
}

#[test]
fn a_follower_that_answers_nothing_is_asked_for_no_snapshot() {
    // Each request takes a place among those that are served at once.
    let mut net = laggard(chunked());
    net.node(1).shelf.offers_held = true;
    net.heal();
    net.run_ms(1_000);
    assert_eq!(net.node(1).shelf.needed, 1);
    net.isolate(3);
    net.run_ms(4_000);
    let needed = net.node(1).shelf.needed;
    net.run_ms(60_000);
    assert_eq!(net.node(1).shelf.needed, needed);
    // An offer that comes now, after it waited for long, is not taken either.
    net.node(1).shelf.offers_held = false;
    assert!(!net.offer(1, 3));
    net.heal();
    net.run_ms(5_000);
    assert_eq!(net.applied(3).len(), 20);
}

#[test]
fn a_second_offer_leaves_the_shipment_as_it_is() {
    let mut net = laggard(chunked());
    half_way(&mut net);
    let before = net.group(1).shipping(id(3));
    assert!(!net.offer(1, 3));
    assert_eq!(
        (net.group(1).shipping(id(3)), before.is_some()),
        (before, true)
    );
    net.run_ms(2_000);
    assert_eq!(net.applied(3).len(), 20);
    assert_eq!(net.node(1).shelf.needed, 1);
}

/// 3 went away with half of a snapshot, and what the log kept for it is compacted.
fn gone_half_way() -> Net {
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.isolate(3);
    net.run_ms(4_000);
    write(&mut net, 5);
    net.run_ms(1_000);
    net.checkpoint(1, true);
    net
}

#[test]
fn what_was_pinned_for_a_follower_that_went_away_is_let_go() {
    let mut net = gone_half_way();
    assert_eq!(net.status(1).first, LogIndex::new(27));
    net.heal();
    net.run_ms(10_000);
    assert_eq!(net.applied(3), net.applied(1));
}

#[test]
fn a_snapshot_that_was_overtaken_gives_way_to_the_newer() {
    // E28: nothing waits for a follower that is away, so the log behind its half of a snapshot goes. The other half would lead nowhere.
    let mut net = gone_half_way();
    let before = net.node(3).shelf.stored_bytes;
    net.heal();
    net.run_ms(10_000);
    assert_eq!(net.applied(3), net.applied(1));
    assert_eq!(
        net.node(1).shelf.ended,
        [
            (id(3), ShipmentEnd::Abandoned),
            (id(3), ShipmentEnd::Arrived)
        ]
    );
    let newer = net.node(1).shelf.checkpoint.as_ref().unwrap().offer();
    assert_eq!(
        net.node(3).shelf.stored_bytes - before,
        newer.bytes,
        "not a byte more of the overtaken one"
    );
}

#[test]
fn a_follower_whose_disk_refuses_says_so_and_gets_a_snapshot_when_it_has_room() {
    // H75: its log is preallocated and works, its snapshot has no room.
    let mut net = laggard(chunked());
    half_way(&mut net);
    net.node(3).shelf.room = Room::Full;
    net.run_ms(60_000);
    let ended = net.node(1).shelf.ended.clone();
    let refused = (id(3), ShipmentEnd::Refused(Refusal::NotKept));
    assert!((2..=6).contains(&ended.len()), "{ended:?} in a minute");
    assert!(ended.iter().all(|end| *end == refused));
    write(&mut net, 5);
    net.run_ms(100);
    net.checkpoint(1, true);
    assert_eq!(
        net.status(1).first,
        LogIndex::new(27),
        "no log is kept for it"
    );
    net.node(3).shelf.room = Room::Enough;
    net.run_ms(60_000);
    assert_eq!(net.applied(3), net.applied(1));
}

#[test]
fn what_is_kept_for_a_follower_is_bounded_however_long_its_snapshot_is() {
    // The log is memory, and the state may lie on a disk that is larger.
    const MOST: u64 = 200;
    let mut net = laggard(GroupOptions {
        pinned_bytes: 100,
        pinned_bytes_max: MOST as usize,
        ..chunked()
    });
    net.node(1).shelf.reads_held = true;
    net.heal();
    net.run_ms(1_000);
    let (snapshot, _) = net.group(1).shipping(id(3)).unwrap();
    assert!(
        snapshot.bytes * 2 > MOST + 33,
        "it would be kept for longer"
    );
    let left = Output::LeftBehind { to: id(3) };
    let mut kept = 0;
    while !net.has_event(1, &left) {
        kept = net.status(1).last.index.get() - 21;
        assert!(kept * 33 <= MOST, "{kept} entries");
        write(&mut net, 1);
        net.run_ms(100);
        net.checkpoint(1, true);
    }
    assert!(kept * 33 > MOST - 33, "{kept} entries");
    net.node(1).shelf.reads_held = false;
    net.run_ms(10_000);
    assert_eq!(net.applied(3), net.applied(1));
}

#[test]
fn a_log_that_outgrows_what_is_kept_is_let_go_and_another_snapshot_follows() {
    let mut net = laggard(GroupOptions {
        pinned_bytes: 1_000,
        ..chunked()
    });
    net.node(1).shelf.reads_held = true;
    net.heal();
    net.run_ms(1_000);
    let (snapshot, _) = net.group(1).shipping(id(3)).unwrap();
    let left = Output::LeftBehind { to: id(3) };
    for _ in 0..200 {
        write(&mut net, 1);
        net.run_ms(100);
        net.checkpoint(1, true);
        if net.has_event(1, &left) {
            break;
        }
        assert_eq!(net.status(1).first, LogIndex::new(22));
    }
    let grown = net.status(1).last.index.get() - 21;
    assert!(grown * 33 > snapshot.bytes * 2, "{grown} entries");
    assert_eq!(net.status(1).first, net.status(1).last.index.next());
    assert_eq!(
        net.node(1).shelf.ended,
        [(id(3), ShipmentEnd::Abandoned)],
        "what it has of the snapshot is of no use"
    );
    net.node(1).shelf.reads_held = false;
    net.run_ms(10_000);
    assert_eq!(net.applied(3), net.applied(1));
    assert_eq!(net.node(1).shelf.needed, 2);
}
