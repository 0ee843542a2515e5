//! `synod get`, `put`, `add`, `delete`: one command to one key of the kind `kv`.

use std::error::Error;
use std::io::Read;

use synod::Client;
use synod::router::EntityRef;

use crate::connection::{connect, patience};
use crate::kv::{Add, Delete, Get, Pair, Put};
use crate::options::ClusterOptions;

pub(crate) async fn get(key: String, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    match pair(&client, &key)
        .query(Get {})
        .deadline(patience(&cluster))
        .await?
    {
        Some(value) => {
            println!("{value}");
            Ok(())
        }
        None => Err(format!("there is no value under `{key}`").into()),
    }
}

pub(crate) async fn put(
    key: String,
    value: String,
    cluster: ClusterOptions,
) -> Result<(), Box<dyn Error>> {
    let value = if value == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("the standard input cannot be read as UTF-8 text: {error}"))?;
        text
    } else {
        value
    };
    let client = connect(&cluster).await?;
    pair(&client, &key)
        .ask(Put { value })
        .deadline(patience(&cluster))
        .await?;
    Ok(())
}

pub(crate) async fn add(
    key: String,
    amount: i64,
    cluster: ClusterOptions,
) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    let sum = pair(&client, &key)
        .ask(Add { amount })
        .deadline(patience(&cluster))
        .await??;
    println!("{sum}");
    Ok(())
}

pub(crate) async fn delete(key: String, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    if pair(&client, &key)
        .ask(Delete {})
        .deadline(patience(&cluster))
        .await?
    {
        Ok(())
    } else {
        Err(format!("there is no value under `{key}`").into())
    }
}

/// The client must outlive its calls: without it they end as refused.
fn pair(client: &Client, key: &str) -> EntityRef<Pair> {
    client.entities::<Pair>().at(key)
}
