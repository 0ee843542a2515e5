//! `synod drain` and `synod remove`: a node leaves for good.

use std::error::Error;
use std::time::Duration;

use synod::node::{MemberStatus, NodeStatus};

use crate::connection::{any_status, connect};
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
        let status = any_status(&client, &cluster.at).await?;
        let member = status.members.iter().find(|member| member.name == node);
        match member {
            Some(member) if member.draining => {
                if said != Some((member.shards, member.votes)) {
                    said = Some((member.shards, member.votes));
                    say(member, &status);
                }
                if member.shards == 0 && !member.votes {
                    println!("{node} is drained: stop it, or `synod remove {node}`");
                    return Ok(());
                }
            }
            // The node that is asked may be a little behind the one that wrote it down.
            _ if said.is_none() => {}
            Some(_) => return Err(format!("the drain of `{node}` was taken back meanwhile").into()),
            None => return Err(format!("`{node}` was removed meanwhile").into()),
        }
        actix_rt::time::sleep(LOOK_EVERY).await;
    }
}

fn say(member: &MemberStatus, status: &NodeStatus) {
    let takers = status
        .members
        .iter()
        .filter(|member| !member.draining && !member.absent);
    let votes = match member.votes {
        true => " and votes in the system group",
        false => "",
    };
    println!(
        "{} holds {} shards{votes}; {} nodes take replicas",
        member.name,
        member.shards,
        takers.count()
    );
    for note in &status.notes {
        println!("  {note}");
    }
}

pub(crate) async fn remove(node: &str, cluster: ClusterOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&cluster).await?;
    client.remove(first(&cluster)?, node).await?;
    println!("{node} is removed: its process ends, its store directory can go");
    Ok(())
}

pub(crate) fn first(cluster: &ClusterOptions) -> Result<&str, Box<dyn Error>> {
    let first = cluster.at.first().map(String::as_str);
    first.ok_or_else(|| "no address was given".into())
}
