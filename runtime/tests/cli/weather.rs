//! Real nodes on a network that is cut, loses and delays: in a network namespace of their own, where the machine allows one.
//!
//! Cuts are rules of its routing, so the sender is told at once (M36); loss and delay are the kernel's `netem`, which not every kernel
//! has. What a machine does not allow is printed and skipped. Not here: what needs no real network (the simulators, crate `tests`).

use synod::Client;

use super::adders::{SOON, adders, all_go_on, judge};
use super::harness::{Home, Node, settled, take_leader, until};
use super::namespace::{in_a_namespace, must};

/// What of a node's traffic is cut off.
#[derive(Clone, Copy, Debug)]
enum Cut {
    All,
    /// It hears, and nobody hears it.
    WhatItSends,
    /// It is heard, and hears nobody.
    WhatItHears,
}

impl Cut {
    /// The rules of it, with the numbers under which they are known.
    fn rules(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::All => &[("10", "from"), ("11", "to")],
            Self::WhatItSends => &[("10", "from")],
            Self::WhatItHears => &[("11", "to")],
        }
    }

    fn begin(self, host: &str) {
        for (number, way) in self.rules() {
            must(
                "ip",
                &["rule", "add", "pref", number, way, host, "blackhole"],
            );
        }
    }

    fn end(self) {
        for (number, _) in self.rules() {
            must("ip", &["rule", "del", "pref", number]);
        }
    }
}

/// Three nodes with a loopback address of its own each, in a fresh namespace.
async fn three(home: &Home) -> (Vec<Node>, Client) {
    must("ip", &["link", "set", "lo", "up"]);
    // The rule for local addresses makes room before it.
    must("ip", &["rule", "add", "pref", "100", "lookup", "local"]);
    must("ip", &["rule", "del", "pref", "0"]);
    let first = ["--found", "--shards", "16", "--listen", "127.0.0.2:7000"];
    let mut nodes = vec![home.start("n1", &first)];
    for (name, address) in [("n2", "127.0.0.3:7000"), ("n3", "127.0.0.4:7000")] {
        let how = ["--join", &nodes[0].address.clone(), "--listen", address];
        nodes.push(home.start(name, &how));
    }
    let all: Vec<&Node> = nodes.iter().collect();
    let client = home.client(&all).await;
    settled(&client, &all).await;
    (nodes, client)
}

async fn all_alive(client: &Client, nodes: &[Node]) {
    until("everybody sees everybody alive", async || {
        for node in nodes {
            let Ok(status) = client.status(&node.address).await else {
                return false;
            };
            if status.members.iter().any(|member| member.state != "alive") {
                return false;
            }
        }
        true
    })
    .await;
}

#[test]
fn a_leader_that_is_cut_off_loses_nothing_and_comes_back() {
    in_a_namespace(
        "-n",
        "ip link set lo up && ip rule add pref 10 from 127.0.0.9 blackhole",
        "weather::cuts",
    );
}

#[actix_rt::test]
#[ignore = "runs within a network namespace"]
async fn cuts() {
    let home = Home::new();
    let (mut nodes, client) = three(&home).await;
    let adders = adders(&client, 16, SOON);
    all_go_on(&adders).await;
    for cut in [Cut::All, Cut::WhatItSends, Cut::WhatItHears] {
        let lonely = take_leader(&client, &mut nodes).await;
        let host = lonely.address.split(':').next().expect("a host").to_owned();
        cut.begin(&host);
        all_go_on(&adders).await;
        until("the others do without it", async || {
            for node in &nodes {
                let Ok(status) = client.status(&node.address).await else {
                    return false;
                };
                let seen = status
                    .members
                    .iter()
                    .find(|member| member.name == lonely.name);
                if status.leaderless > 0 || seen.is_none_or(|seen| seen.state == "alive") {
                    return false;
                }
            }
            true
        })
        .await;
        cut.end();
        nodes.push(lonely);
        all_alive(&client, &nodes).await;
        all_go_on(&adders).await;
        settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    }
    judge(&client, adders).await;
}

/// Each packet of the namespace is under way for 4 to 6 ms, and each tenth is lost.
const BAD: &str = "tc qdisc add dev lo root netem delay 5ms 1ms loss 10%";

#[test]
fn commands_go_on_where_packets_are_lost_and_late() {
    in_a_namespace("-n", &format!("ip link set lo up && {BAD}"), "weather::bad");
}

#[actix_rt::test]
#[ignore = "runs within a network namespace"]
async fn bad() {
    let home = Home::new();
    let (nodes, client) = three(&home).await;
    let adders = adders(&client, 16, SOON);
    all_go_on(&adders).await;
    must("sh", &["-c", BAD]);
    for _ in 0..20 {
        all_go_on(&adders).await;
    }
    must("tc", &["qdisc", "del", "dev", "lo", "root"]);
    all_alive(&client, &nodes).await;
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    judge(&client, adders).await;
}
