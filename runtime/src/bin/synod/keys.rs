//! `synod get`, `put`, `add`, `delete`: one command to one key of the kind `kv`.

use std::error::Error;
use std::io::Read;

use synod::router::EntityRef;

use crate::connection::{connect, patience};
use crate::kv::{Add, Delete, Get, Pair, Put};
use crate::options::ClusterOptions;

pub(crate) async fn get(key: String, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    match pair(&key, &cluster).await?.query(Get {}).deadline(patience(&cluster)).await? {
        Some(value) => {
            println!("{value}");
            Ok(())
        }
        None => Err(format!("there is no value under `{key}`").into()),
    }
}

pub(crate) async fn put(key: String, value: String, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let value = if value == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("the standard input cannot be read as UTF-8 text: {error}"))?;
        text
    } else {
        value
    };
    pair(&key, &cluster).await?.ask(Put { value }).deadline(patience(&cluster)).await?;
    Ok(())
}

pub(crate) async fn add(key: String, amount: i64, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let sum = pair(&key, &cluster).await?.ask(Add { amount }).deadline(patience(&cluster)).await??;
    println!("{sum}");
    Ok(())
}

pub(crate) async fn delete(key: String, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    if pair(&key, &cluster).await?.ask(Delete {}).deadline(patience(&cluster)).await? {
        Ok(())
    } else {
        Err(format!("there is no value under `{key}`").into())
    }
}

async fn pair(key: &str, cluster: &ClusterOptions) -> Result<EntityRef<Pair>, Box<dyn Error>> {
    Ok(connect(cluster).await?.entities::<Pair>().at(key))
}
