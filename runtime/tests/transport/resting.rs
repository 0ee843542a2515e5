//! Connections that only gossip uses: bounded, silent, closed without a loss; and those that are more than that are none of them.

use std::time::Duration;

use synod::transport::Lane;

use crate::world::{Endpoint, World, numbered, until};

/// So many nodes, stores 1 and up, that know each other's addresses.
fn crowd(world: &World, size: u64) -> Vec<Endpoint> {
    let nodes: Vec<Endpoint> = (1..=size)
        .map(|store| world.node(&format!("n{store}"), store, 1))
        .collect();
    for node in &nodes {
        for (store, other) in (1..).zip(&nodes) {
            node.transport.set_address(store, vec![other.address()]);
        }
    }
    nodes
}

fn bounded_to(gossip_connections: usize) -> World {
    let mut world = World::new();
    world.limits.gossip_connections = gossip_connections;
    world
}

#[test]
fn gossip_with_more_than_the_bound_loses_nothing_and_keeps_to_the_bound() {
    // Issue 4: a bound on open connections. Each node has five peers and may keep two, so nearly every connection has an end that closes.
    let world = bounded_to(2);
    let mut nodes = crowd(&world, 6);
    let mut sent = 0;
    for round in 0..2 {
        for from in 0..6 {
            for to in (0..6).filter(|to| *to != from) {
                let store = to as u64 + 1;
                let transport = &nodes[from].transport;
                transport
                    .send(store, Lane::Gossip, numbered(sent..sent + 1))
                    .unwrap();
                assert_eq!(
                    nodes[to].frames(Lane::Gossip, 1),
                    numbered(sent..sent + 1),
                    "round {round}: {from} to {to}"
                );
                sent += 1;
            }
        }
        until("every node keeps to the bound", || {
            let open = nodes.iter().map(|node| node.transport.connections());
            open.max() <= Some(2)
        });
    }
    // Nobody dials because something was closed: dials come from what is sent alone.
    let dials: u64 = nodes.iter().map(|node| node.counter("dials")).sum();
    let closed: u64 = nodes
        .iter()
        .map(|node| node.counter("connections_put_to_rest"))
        .sum();
    assert!(dials <= u64::from(sent), "{dials} dials, {sent} sent");
    assert!(
        closed >= 2 * 9,
        "15 pairs, of which 6 may stay: {closed} closed"
    );
}

#[test]
fn a_connection_in_use_is_not_closed_for_the_bound() {
    // Groups, requests and beats keep theirs, whichever end has too many.
    let world = bounded_to(0);
    let mut nodes = crowd(&world, 4);
    for (to, lane) in [(2, Lane::Raft), (3, Lane::Request)] {
        nodes[0].transport.send(to, lane, numbered(0..1)).unwrap();
        nodes[to as usize - 1].frames(lane, 1);
    }
    for round in 0..2 {
        nodes[0]
            .transport
            .send(4, Lane::Gossip, numbered(0..1))
            .unwrap();
        nodes[3].frames(Lane::Gossip, 1);
        until("the one that only gossip used is closed", || {
            nodes[0].transport.connections() == 2 && nodes[3].transport.connections() == 0
        });
        let closed = |node: &Endpoint| node.counter("connections_put_to_rest");
        let of_gossip = closed(&nodes[0]) + closed(&nodes[3]);
        assert!(of_gossip > round, "closed once per round at least");
        assert_eq!((closed(&nodes[1]), closed(&nodes[2])), (0, 0));
    }
    assert_eq!(
        nodes[0].counter("dials"),
        2 + 2,
        "those in use were dialled once"
    );
}

#[test]
fn a_connection_at_rest_costs_nothing_and_one_in_use_is_kept_alive() {
    // A quiet cluster of a thousand would pay more for keep-alives than for all of its gossip.
    let mut world = World::new();
    world.limits.keep_alive = Duration::from_millis(100);
    let mut nodes = crowd(&world, 3);
    let a = &nodes[0].transport;
    a.send(2, Lane::Gossip, numbered(0..1)).unwrap();
    a.send(3, Lane::Raft, numbered(0..1)).unwrap();
    nodes[1].frames(Lane::Gossip, 1);
    nodes[2].frames(Lane::Raft, 1);
    let kept_alive =
        |nodes: &[Endpoint]| nodes[0].counter("keep_alives") + nodes[2].counter("keep_alives");
    // At first it looks for the path's MTU. What QUIC still sends then must end some day.
    until(
        "nothing comes and goes while the other is kept alive",
        || {
            let packets = nodes[1].counter("wire_packets_sent");
            let before = kept_alive(&nodes);
            until("the one in use is kept alive", || {
                kept_alive(&nodes) >= before + 5
            });
            packets > 0 && nodes[1].counter("wire_packets_sent") == packets
        },
    );
    assert_eq!(nodes[1].counter("keep_alives"), 0);
    assert!(
        nodes[0].transport.is_connected(2),
        "it rests, it is not closed"
    );
}

#[test]
fn a_killed_peer_is_noticed_where_its_connection_is_in_use() {
    // QUIC's own idle timeout is that of connections at rest.
    let mut world = World::new();
    world.limits.keep_alive = Duration::from_millis(200);
    world.limits.idle_timeout = Duration::from_secs(1);
    let mut nodes = crowd(&world, 2);
    let mut b = nodes.pop().unwrap();
    let mut a = nodes.pop().unwrap();
    a.transport.send(2, Lane::Raft, numbered(0..1)).unwrap();
    b.frames(Lane::Raft, 1);
    b.kill();
    assert_eq!(a.disconnected().store, Some(2));
}
