//! `synod shards`: how every group is, by what each node says of the replicas that it hosts.
//!
//! Here: asking everybody, each for as long as the user waits, and choosing what to show. Who does not answer is named. Not here: what the
//! answers mean together (`view`), columns (`draw`).

mod draw;
mod view;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use synod::Client;
use synod::node::{HostedShards, MemberStatus};

use crate::connection::{any_status, connect, patience};
use crate::options::ShardsOptions;
use view::{Group, Known, View};

pub(crate) async fn run(options: ShardsOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&options.cluster).await?;
    let mut view = look(&client, &options).await?;
    check(&options, &view)?;
    if options.moves {
        let Some(moves) = &view.moves else {
            return Err("no node that answers leads the system group, and only its leader knows of moves: try again".into());
        };
        match options.json {
            true => println!("{}", serde_json::to_string(moves)?),
            false => print!("{}", draw::moves(moves)),
        }
        return Ok(());
    }
    if options.json {
        view.groups.retain(|group| is_wanted(&options, group));
        println!("{}", serde_json::to_string(&view)?);
    } else {
        let groups = view.groups.iter();
        let wanted: Vec<&Group> = groups.filter(|group| is_wanted(&options, group)).collect();
        print!("{}", draw::groups(&view, &wanted));
    }
    Ok(())
}

/// A shard or a node that does not exist is a mistake, and no empty table.
fn check(options: &ShardsOptions, view: &View) -> Result<(), Box<dyn Error>> {
    let shards = view.groups.len().saturating_sub(1);
    if let Some(shard) = options.shard
        && shard as usize >= shards
    {
        let last = shards.saturating_sub(1);
        return Err(format!("there is no shard {shard}: they are 0 to {last}").into());
    }
    if let Some(node) = &options.node
        && !view.nodes.contains(node)
        && !view.silent.contains(node)
    {
        return Err(format!("no member is named `{node}`").into());
    }
    Ok(())
}

fn is_wanted(options: &ShardsOptions, group: &Group) -> bool {
    let holds = |node: &String| {
        let replicas = group.replicas.iter();
        group.goal.contains(node) || replicas.map(|replica| &replica.node).any(|of| of == node)
    };
    options.shard.is_none_or(|shard| group.shard == Some(shard))
        && options.state.is_none_or(|state| group.state == state)
        && options.node.as_ref().is_none_or(holds)
}

/// Asks the first of the addresses that answers who is a member, then every member at the same time.
async fn look(client: &Client, options: &ShardsOptions) -> Result<View, Box<dyn Error>> {
    let first = any_status(client, &options.cluster.at).await?;
    let patience = patience(&options.cluster);
    let asked = first
        .members
        .iter()
        .map(|member| ask(client, member, patience));
    let answers = futures_util::future::join_all(asked).await;
    let hosted: Vec<HostedShards> = answers.into_iter().flatten().collect();
    let names: BTreeMap<u64, String> = first
        .members
        .iter()
        .map(|member| (member.store, member.name.clone()))
        .collect();
    let table = client.table();
    let holders: Vec<Vec<u64>> = table
        .shards
        .iter()
        .map(|shard| shard.replicas.clone())
        .collect();
    let known = Known {
        names: &names,
        holders: &holders,
    };
    Ok(view::compose(&known, &hosted))
}

/// What a member hosts; `None` if it does not answer in time, at any of its addresses.
async fn ask(client: &Client, member: &MemberStatus, patience: Duration) -> Option<HostedShards> {
    let asked = async {
        for address in &member.addresses {
            let answer = client.shards(&address.to_string()).await.ok();
            // Somebody else may have the address by now.
            let answer = answer.filter(|hosted| hosted.store == member.store);
            if answer.is_some() {
                return answer;
            }
        }
        None
    };
    tokio::time::timeout(patience, asked).await.ok().flatten()
}
