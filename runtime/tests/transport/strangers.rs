//! What the transport does with strangers: other ends that hold a certificate and misbehave.

use std::time::Duration;

use synod::transport::CallError;

use crate::{
    stranger::{self, Stranger, hello},
    world::{Endpoint, World},
};

/// Far more than a call needs, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// What a node says of the end of a connection on which `mischief` was done after a proper hello.
fn ending(mischief: impl AsyncFnOnce(&quinn::Connection)) -> (u64, String, Endpoint) {
    let world = World::new();
    let node = world.node("n1", 1, 1);
    let stranger = Stranger::node(&world, "n2");
    let (code, reason) = stranger.run(async |stranger| {
        let connection = stranger.connect(node.address()).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&stranger::framed(&hello("n2", Some(2)).encode()))
            .await
            .unwrap();
        assert!(
            receive.read_chunk(4_096, true).await.unwrap().is_some(),
            "welcome"
        );
        send.write_all(b"!").await.unwrap();
        mischief(&connection).await;
        stranger::end(&connection).await
    });
    (code, reason, node)
}

#[test]
fn a_frame_above_the_limit_closes_the_connection_and_says_so() {
    // M44: unbounded lengths.
    let (code, reason, node) = ending(async |connection| {
        let mut lane = connection.open_uni().await.unwrap();
        lane.write_all(b"SY\x01\x00\x01").await.unwrap();
        lane.write_all(&(4_194_305_u32).to_le_bytes())
            .await
            .unwrap();
    });
    assert_eq!(
        (code, &*reason),
        (
            3,
            "a frame of 4194305 bytes is above the limit of 4194304 bytes (lane raft)"
        )
    );
    assert_eq!(node.counter("connections_broken_protocol"), 1);
}

#[test]
fn garbage_instead_of_a_lane_closes_the_connection_and_says_so() {
    let (code, reason, _node) = ending(async |connection| {
        connection
            .open_uni()
            .await
            .unwrap()
            .write_all(b"GET / HTTP/1.1")
            .await
            .unwrap();
    });
    assert_eq!(
        (code, &*reason),
        (3, "a stream opens with something else than a lane")
    );
}

#[test]
fn a_lane_opened_twice_closes_the_connection_and_says_so() {
    // Two streams of one lane would have no order.
    let (code, reason, _node) = ending(async |connection| {
        let mut lanes = Vec::new(); // open until the end
        for _ in 0..2 {
            let mut lane = connection.open_uni().await.unwrap();
            lane.write_all(b"SY\x01\x00\x03\x01\x00\x00\x00x")
                .await
                .unwrap();
            lanes.push(lane);
        }
        connection.closed().await;
    });
    assert_eq!((code, &*reason), (3, "the reply lane is opened twice"));
}

#[test]
fn the_bulk_lane_does_not_open_on_the_main_connection() {
    // E29.
    let (code, ..) = ending(async |connection| {
        connection
            .open_uni()
            .await
            .unwrap()
            .write_all(b"SY\x01\x00\x05")
            .await
            .unwrap();
    });
    assert_eq!(code, 3);
}

#[test]
fn streams_beyond_the_bound_cannot_be_opened() {
    // M44: unbounded inbound QUIC streams.
    let (code, ..) = ending(async |connection| {
        let mut open = Vec::new();
        // Whatever may be opened opens without waiting; the pause shows that nothing more does.
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), connection.open_uni()).await
        {
            open.push(stream);
        }
        assert_eq!(open.len(), 8);
        open[0].write_all(b"nonsense").await.unwrap(); // ends it
        connection.closed().await;
    });
    assert_eq!(code, 3);
}

/// How a node answers to a stranger's first words, sent as they are.
fn answer_to(certificate: fn(&World) -> Stranger, words: &[u8]) -> (u64, String) {
    let world = World::new();
    let node = world.node("n1", 1, 1);
    let stranger = certificate(&world);
    let answer = stranger.run(async |stranger| {
        let connection = stranger.connect(node.address()).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&stranger::framed(words)).await.unwrap();
        stranger::end(&connection).await
    });
    assert_eq!(
        (node.transport.connections(), node.counter("hellos_refused")),
        (0, 1)
    );
    answer
}

#[test]
fn garbage_instead_of_a_hello_is_refused() {
    let (code, reason) = answer_to(|world| Stranger::node(world, "n2"), b"EHLO mail.example");
    assert_eq!(
        (code, &*reason),
        (1, "the hello of the other end cannot be read")
    );
}

#[test]
fn a_hello_above_its_bound_is_refused() {
    let (_, reason) = answer_to(|world| Stranger::node(world, "n2"), &[0; 5_000]);
    assert_eq!(
        reason,
        "a frame of 5000 bytes is above the limit of 4096 bytes"
    );
}

#[test]
fn a_client_certificate_cannot_act_as_a_node() {
    // DESIGN 12: client certificates are for clientAuth only and cannot be nodes.
    let (code, reason) = answer_to(
        |world| Stranger::client(world, "n2"),
        &hello("n2", Some(2)).encode(),
    );
    assert_eq!(
        (code, &*reason),
        (1, "'n2' acts as a node with a client's certificate")
    );
}

#[test]
fn the_certificate_of_another_node_is_refused() {
    // DESIGN 12: `<name>.node.synod` is checked against the hello.
    let (code, reason) = answer_to(
        |world| Stranger::node(world, "n3"),
        &hello("n2", Some(2)).encode(),
    );
    assert_eq!(code, 1);
    assert!(
        reason.starts_with("'n2' shows the certificate of 'n3'"),
        "{reason}"
    );
}

#[test]
fn protocols_without_a_common_version_are_refused() {
    let mut later = hello("n2", Some(2));
    (later.lowest, later.highest) = (7, 9);
    let (code, reason) = answer_to(|world| Stranger::node(world, "n2"), &later.encode());
    assert_eq!(code, 1);
    assert!(
        reason.starts_with("'n1' speaks the protocols 1 to 1 and 'n2' 7 to 9"),
        "{reason}"
    );
}

#[test]
fn a_client_certificate_cannot_be_dialled() {
    // Without serverAuth and `node.synod` TLS itself refuses it.
    let world = World::new();
    let client = world.client("gateway");
    let stranger = Stranger::listening_client(&world, "n2");
    let refused = client
        .call(stranger.local_addr().unwrap(), "?", SOON)
        .unwrap_err();
    assert!(matches!(refused, CallError::Refused { .. }));
    assert!(
        refused
            .to_string()
            .contains("the other end's certificate is not accepted"),
        "{refused}"
    );
    stranger.close(quinn::VarInt::from_u32(0), b"");
}
