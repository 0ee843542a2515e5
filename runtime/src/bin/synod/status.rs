//! `synod status`: what every member says of itself, as a table or as JSON.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;
use synod::Client;
use synod::node::{MemberStatus, NodeStatus};

use crate::connection::{any_status, connect};
use crate::options::StatusOptions;
use crate::table::aligned;

/// How long somebody whom gossip holds gone is waited for.
const GONE_PATIENCE: Duration = Duration::from_millis(500);

/// The cluster as its members describe it.
#[derive(Debug, Serialize)]
struct View {
    /// Nodes that answered.
    nodes: Vec<NodeStatus>,
    /// Members that did not, as the first node sees them.
    silent: Vec<MemberStatus>,
}

pub(crate) async fn run(options: StatusOptions) -> Result<(), Box<dyn Error>> {
    let client = connect(&options.cluster).await?;
    let view = look(&client, &options.cluster.at).await?;
    if options.json {
        println!("{}", serde_json::to_string(&view)?);
    } else {
        print!("{}", table(&view));
    }
    Ok(())
}

/// Asks the first of the addresses that answers who is there, then everybody.
async fn look(client: &Client, addresses: &[String]) -> Result<View, Box<dyn Error>> {
    let first = any_status(client, addresses).await?;
    let mut view = View {
        nodes: Vec::new(),
        silent: Vec::new(),
    };
    let others = first
        .members
        .iter()
        .filter(|member| member.store != first.store);
    let asked: Vec<_> = others
        .map(|member| actix_rt::spawn(ask(client.clone(), member.clone())))
        .collect();
    for answer in asked {
        match answer.await? {
            Ok(status) => view.nodes.push(status),
            Err(member) => view.silent.push(member),
        }
    }
    view.nodes.insert(0, first);
    view.nodes.sort_by_key(|node| node.store);
    Ok(view)
}

/// What a member says of itself, or the member when it does not answer. All are asked at once, so that the silent cost no more than one of
/// them.
async fn ask(client: Client, member: MemberStatus) -> Result<NodeStatus, MemberStatus> {
    let answer = async {
        for address in &member.addresses {
            let status = client.status(&address.to_string()).await.ok();
            let found = status.filter(|status| status.store == member.store);
            if found.is_some() {
                return found;
            }
        }
        None
    };
    let found = if ["dead", "left"].contains(&member.state.as_str()) {
        // It may only be cut off from the one that says so.
        let patience = tokio::time::timeout(GONE_PATIENCE, answer).await;
        patience.unwrap_or_default()
    } else {
        answer.await
    };
    found.ok_or(member)
}

/// What gossip says, what the operator wished, and whether others hold its copies because it was silent for too long.
fn state(member: &MemberStatus) -> String {
    match (member.draining, member.absent) {
        (true, _) => format!("{}, draining", member.state),
        (false, true) => format!("{}, replaced", member.state),
        (false, false) => member.state.clone(),
    }
}

fn table(view: &View) -> String {
    let Some(first) = view.nodes.first() else {
        return String::new();
    };
    let leaderless = view
        .nodes
        .iter()
        .map(|node| node.leaderless)
        .max()
        .unwrap_or(0);
    let leader = first
        .system_leader
        .and_then(|store| name_of(view, store))
        .unwrap_or("unknown".to_owned());
    let goal = match view.nodes.iter().find_map(|node| node.unsettled) {
        Some(0) => "every group is where it belongs".to_owned(),
        Some(groups) => format!("{groups} groups on their way"),
        None => "placement unknown".to_owned(),
    };
    let mut text = format!(
        "cluster {:032x}, system leader {leader}, {} groups without a leader, {goal}\n\n",
        first.cluster, leaderless
    );
    let mut rows = vec![
        [
            "NAME", "STORE", "STATE", "ADDRESS", "ZONE", "CAPACITY", "ROLES", "READY", "REPLICAS",
            "LEADS", "COMMANDS", "FSYNCS", "UP",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for node in &view.nodes {
        let member = view
            .nodes
            .iter()
            .flat_map(|node| &node.members)
            .find(|member| member.store == node.store);
        let [zone, capacity, roles] = description(member);
        rows.push(vec![
            node.name.clone(),
            node.store.to_string(),
            member.map_or("alive".to_owned(), state),
            member.map_or(String::new(), addresses),
            zone,
            capacity,
            roles,
            if node.ready { "yes" } else { "no" }.to_owned(),
            node.replicas.to_string(),
            node.led.to_string(),
            node.commands.to_string(),
            node.fsyncs.to_string(),
            duration(node.uptime_s),
        ]);
    }
    for member in &view.silent {
        let [zone, capacity, roles] = description(Some(member));
        let mut row = vec![
            member.name.clone(),
            member.store.to_string(),
            format!("{}, silent", state(member)),
            addresses(member),
            zone,
            capacity,
            roles,
        ];
        row.resize(rows[0].len(), "-".to_owned());
        rows.push(row);
    }
    text.push_str(&aligned(&rows));
    for node in &view.nodes {
        for note in &node.notes {
            text.push_str(&format!("\n{}: {note}", node.name));
        }
    }
    if view.nodes.iter().any(|node| !node.notes.is_empty()) {
        text.push('\n');
    }
    text
}

/// Zone, capacity and roles, as cells.
fn description(member: Option<&MemberStatus>) -> [String; 3] {
    let none = || "-".to_owned();
    let Some(member) = member else {
        return [none(), none(), none()];
    };
    let roles = match member.roles.is_empty() {
        true => none(),
        false => member.roles.join(","),
    };
    let zone = member.zone.clone().unwrap_or_else(none);
    [zone, member.capacity.to_string(), roles]
}

fn name_of(view: &View, store: u64) -> Option<String> {
    let nodes = view
        .nodes
        .iter()
        .filter(|node| node.store == store)
        .map(|node| node.name.clone());
    let members = view
        .silent
        .iter()
        .filter(|member| member.store == store)
        .map(|member| member.name.clone());
    nodes.chain(members).next()
}

fn addresses(member: &MemberStatus) -> String {
    member
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_who_is_silent_and_what_stands_in_the_way() {
        let member = |store: u64, state: &str| MemberStatus {
            store,
            name: format!("n{store}"),
            state: state.to_owned(),
            addresses: vec![([127, 0, 0, 1], 7_000 + store as u16).into()],
            zone: (store == 2).then(|| "rack-7".to_owned()),
            capacity: store as u32,
            roles: vec!["edge".to_owned(); store as usize - 1],
            ..MemberStatus::default()
        };
        let node = NodeStatus {
            name: "n1".to_owned(),
            store: 1,
            system_leader: Some(2),
            unsettled: None,
            leaderless: 3,
            notes: vec!["one copy decides until a third node joins".to_owned()],
            members: vec![member(1, "alive"), member(2, "dead")],
            ..NodeStatus::default()
        };
        let text = table(&View {
            nodes: vec![node],
            silent: vec![member(2, "dead")],
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("system leader n2, 3 groups without a leader"),
            "{text}"
        );
        assert!(lines[2].starts_with("NAME  STORE  STATE"), "{text}");
        assert!(lines[3].starts_with("n1    1      alive"), "{text}");
        assert!(
            lines[4].contains("dead, silent  127.0.0.1:7002  rack-7  2         edge   -"),
            "{text}"
        );
        assert!(
            lines[3].contains("127.0.0.1:7001  -       1         -      no"),
            "{text}"
        );
        assert!(
            text.ends_with("n1: one copy decides until a third node joins\n"),
            "{text}"
        );
    }
}
