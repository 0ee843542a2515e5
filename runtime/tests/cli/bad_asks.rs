//! What bad messages get from a running node: an error that names the thing, and a node that goes on as before.

use serde::{Deserialize, Serialize};
use synod::router::{AskError, Failed};
use synod::wire::Failure;
use synod::{Answer, Context, Entity, Handler, Message, View};

use super::harness::{Home, printed, sentence};
use super::kv;

/// Says nothing to `synod start`, which hosts `kv` only.
#[derive(Debug, Default, Deserialize, Entity, Serialize)]
#[entity(kind = "stranger", commands(Nudge as "nudge"))]
struct Stranger {}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Nudge {}

impl Handler<Nudge> for Stranger {
    async fn handle(&mut self, _: Nudge, _cx: &mut Context<Self>) {}
}

/// Has the name of the node's kind and other messages.
#[derive(Debug, Default, Deserialize, Entity, Serialize)]
#[entity(kind = "kv", commands(Append as "append", Misshapen as "put"), queries(Length as "length"))]
struct Impostor {}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Append {}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Misshapen {
    value: Vec<u64>,
}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "u64")]
struct Length {}

impl Handler<Append> for Impostor {
    async fn handle(&mut self, _: Append, _cx: &mut Context<Self>) {}
}

impl Handler<Misshapen> for Impostor {
    async fn handle(&mut self, _: Misshapen, _cx: &mut Context<Self>) {}
}

impl Answer<Length> for Impostor {
    async fn answer(&self, _: Length, _cx: &View<Self>) -> u64 {
        0
    }
}

fn failure<T: std::fmt::Debug>(result: Result<T, AskError>) -> Failure {
    match result {
        Err(AskError::Failed(Failed(failure))) => failure,
        other => panic!("a failure, not {other:?}"),
    }
}

#[actix_rt::test]
async fn unknown_kinds_messages_and_bodies_are_named_and_change_nothing() {
    let home = Home::new();
    let node = home.start("n1", &["--found", "--shards", "4"]);
    let client = home.client(&[&node]).await;
    let pair = client.entities::<kv::Pair>().at("k");
    pair.ask(kv::Put {
        value: "v".to_owned(),
    })
    .await
    .expect("the node serves");

    let unknown = failure(client.entities::<Stranger>().at("k").ask(Nudge {}).await);
    assert!(
        matches!(&unknown, Failure::UnknownKind { kind } if kind == "stranger"),
        "{unknown}"
    );
    let impostor = client.entities::<Impostor>().at("k");
    let unknown = failure(impostor.ask(Append {}).await);
    assert!(
        matches!(&unknown, Failure::UnknownMessage { message, .. } if message == "append"),
        "{unknown}"
    );
    let unknown = failure(impostor.query(Length {}).await);
    assert!(
        matches!(&unknown, Failure::UnknownMessage { message, .. } if message == "length"),
        "{unknown}"
    );
    let bad = failure(impostor.ask(Misshapen { value: vec![1] }).await);
    assert!(
        matches!(&bad, Failure::BadBody { message, .. } if message == "put"),
        "{bad}"
    );

    assert_eq!(
        pair.query(kv::Get {})
            .await
            .expect("still serves")
            .as_deref(),
        Some("v")
    );
}

#[test]
fn a_value_over_the_limit_is_refused_with_both_sizes() {
    let home = Home::new();
    let node = home.start("n1", &["--found", "--shards", "4"]);
    printed(&home.run(&["put", "k", "v", "--at", &node.address]));
    let large = vec![b'x'; (1 << 20) + 1_000];
    let said = sentence(&home.run_with(&["put", "k", "-", "--at", &node.address], &large));
    assert!(said.contains("1048576"), "{said}");
    assert_eq!(
        printed(&home.run(&["get", "k", "--at", &node.address])),
        "v"
    );
}

#[test]
fn text_is_no_number_to_add_to() {
    let home = Home::new();
    let node = home.start("n1", &["--found", "--shards", "4"]);
    let at = ["--at", node.address.as_str()];
    printed(&home.run(&[&["put", "k", "v"][..], &at].concat()));
    let said = sentence(&home.run(&[&["add", "k", "1"][..], &at].concat()));
    assert!(said.contains("no whole number"), "{said}");
    assert_eq!(printed(&home.run(&[&["get", "k"][..], &at].concat())), "v");
    printed(&home.run(&[&["delete", "k"][..], &at].concat()));
    let said = sentence(&home.run(&[&["get", "k"][..], &at].concat()));
    assert!(said.contains("`k`"), "{said}");
    assert_eq!(
        printed(&home.run(&[&["add", "k", "-7"][..], &at].concat())),
        "-7"
    );
}
