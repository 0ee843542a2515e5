//! `synod drain` and `synod remove`: a node leaves for good.

use std::error::Error;
use std::time::Duration;

use synod::Client;
use synod::node::NodeStatus;

use crate::connection::connect;
use crate::options::ClusterOptions;

/// How often the progress of a drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn run(
    node: &str,
    undo: bool,
    cluster: ClusterOptions,
) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    client.drain(first(&cluster)?, node, !undo).await?;
    if undo {
        println!("{node} takes replicas again");
        return Ok(());
    }
    let mut said = None;
    loop {
        let status = any_status(&client, &cluster).await?;
        let member = status.members.iter().find(|member| member.name == node);
        let Some(member) = member else {
            return Err(format!("`{node}` was removed meanwhile").into());
        };
        if !member.draining {
            return Err(format!("the drain of `{node}` was taken back meanwhile").into());
        }
        if said != Some(member.shards) {
            said = Some(member.shards);
            let takers = status.members.iter().filter(|member| !member.draining);
            println!(
                "{node} holds {} shards; {} nodes take replicas",
                member.shards,
                takers.count()
            );
        }
        if member.shards == 0 {
            println!(
                "{node} is drained: stop it for as long as you like, or `synod remove {node}`"
            );
            return Ok(());
        }
        actix_rt::time::sleep(LOOK_EVERY).await;
    }
}

pub(crate) async fn remove(node: &str, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    client.remove(first(&cluster)?, node).await?;
    println!("{node} is removed: its process ends, its store directory can go");
    Ok(())
}

fn first(cluster: &ClusterOptions) -> Result<&str, Box<dyn Error>> {
    let first = cluster.at.first().map(String::as_str);
    first.ok_or_else(|| "no address was given".into())
}

/// The status of the first node that answers.
async fn any_status(
    client: &Client,
    cluster: &ClusterOptions,
) -> Result<NodeStatus, Box<dyn Error>> {
    let mut last = Err("no address was given".into());
    for address in &cluster.at {
        last = client.status(address).await.map_err(Box::<dyn Error>::from);
        if last.is_ok() {
            break;
        }
    }
    last
}
