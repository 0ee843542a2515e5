//! The smallest useful program: a counter whose state is on disk before anybody sees it.

use serde::{Deserialize, Serialize};
use synod::{Answer, Context, Entity, Handler, Message, Node, View};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "counter", commands(Add), queries(Value))]
struct Counter {
    value: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add(u64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Value;

impl Handler<Add> for Counter {
    async fn handle(&mut self, Add(amount): Add, _cx: &mut Context<Self>) -> u64 {
        self.value += amount;
        self.value
    }
}

impl Answer<Value> for Counter {
    async fn answer(&self, _: Value, _cx: &View<Self>) -> u64 {
        self.value
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = std::env::args().nth(1).unwrap_or("data/counter".to_owned());
    let node = Node::builder()
        .store(store)
        .listen("127.0.0.1:0")
        .found()
        .entity::<Counter>()
        .start()
        .await?;
    let clicks = node.entities::<Counter>().at("clicks");
    clicks.ask(Add(1)).await?;
    println!("counted {} so far", clicks.query(Value).await?);
    node.shutdown().await;
    Ok(())
}
