//! What operators see of shards, and moves by their word.

use serde_json::Value;

use super::adders::{Adder, adders, all_go_on, judge};
use super::harness::{Home, Node, PATIENCE, printed, sentence, settled, until};

/// What `synod shards --json` says, with these further arguments.
pub(crate) fn shards(home: &Home, at: &str, more: &[&str]) -> Value {
    let arguments = [&["shards", "--json", "--at", at], more].concat();
    serde_json::from_str(&printed(&home.run(&arguments))).expect("one line of JSON")
}

/// The shards of a view, without the system group.
pub(crate) fn of_shards(view: &Value) -> Vec<&Value> {
    let groups = view["groups"].as_array().expect("a list");
    groups
        .iter()
        .filter(|group| !group["shard"].is_null())
        .collect()
}

/// The names under `key`, sorted.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    let name = |one: &Value| {
        one.as_str()
            .or(one["node"].as_str())
            .expect("a name")
            .to_owned()
    };
    let mut names: Vec<String> = list.map(name).collect();
    names.sort();
    names
}

#[actix_rt::test]
async fn shards_are_shown_with_leaders_lag_and_the_reason_why_not() {
    let home = Home::new();
    let (mut nodes, client) = home.settled_three().await;
    let at = nodes[0].address.clone();
    printed(&home.run(&["put", "k", "v", "--at", &at]));
    let view = shards(&home, &at, &[]);
    assert_eq!(names(&view["nodes"]), ["n1", "n2", "n3"]);
    assert_eq!(view["groups"].as_array().map(Vec::len), Some(17));
    let all = of_shards(&view);
    for (number, shard) in all.iter().enumerate() {
        assert_eq!(shard["shard"], number, "{shard}");
        assert_eq!(shard["state"], "serving", "{shard}");
        assert_eq!(names(&shard["replicas"]), ["n1", "n2", "n3"], "{shard}");
        assert_eq!(names(&shard["goal"]), ["n1", "n2", "n3"], "{shard}");
        let leader = shard["leader"].as_str().expect("a name").to_owned();
        assert!(names(&view["nodes"]).contains(&leader), "{shard}");
        for replica in shard["replicas"].as_array().expect("a list") {
            assert!(
                replica["lag"].is_u64() && replica["votes"] == true,
                "{shard}"
            );
        }
        assert!(shard["term"].as_u64() > Some(0) && shard["applied"].as_u64() > Some(0));
    }
    let most = all.iter().map(|shard| shard["bytes"].as_u64()).max();
    assert!(most > Some(Some(0)), "a log that says something has a size");
    assert!(view["moves"].is_array(), "the system leader knows of moves");

    // Filters, and a table of a stable shape.
    assert_eq!(of_shards(&shards(&home, &at, &["3"])).len(), 1);
    assert_eq!(of_shards(&shards(&home, &at, &["--node", "n2"])).len(), 16);
    assert!(of_shards(&shards(&home, &at, &["--state", "leaderless"])).is_empty());
    let table = printed(&home.run(&["shards", "3", "--at", &at]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "16 shards: 16 serving, 0 moving, 0 leaderless");
    let columns: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "SHARD", "STATE", "LEADER", "TERM", "APPLIED", "SIZE", "REPLICAS", "WHY"
        ]
    );
    assert!(lines[3].starts_with("3      serving  n"), "{table}");
    assert_eq!(
        sentence(&home.run(&["shards", "99", "--at", &at])),
        "synod: there is no shard 99: they are 0 to 15"
    );
    assert_eq!(
        sentence(&home.run(&["shards", "--node", "n9", "--at", &at])),
        "synod: no member is named `n9`"
    );

    nodes.pop().expect("three").kill();
    until("two of three lead everything", async || {
        let view = shards(&home, &at, &["--state", "serving"]);
        let all = of_shards(&view);
        let odd = |shard: &&Value| shard["why"] == "n3 does not answer";
        names(&view["silent"]) == ["n3"] && all.len() == 16 && all.iter().all(odd)
    })
    .await;
    nodes.pop().expect("two").kill();
    until("one of three leads nothing, and says why", async || {
        let view = shards(&home, &at, &["--state", "leaderless"]);
        let all = of_shards(&view);
        let because = "no majority without n2 (does not answer), n3 (does not answer)";
        all.len() == 16 && all.iter().all(|shard| shard["why"] == because)
    })
    .await;
    client.close();
}

/// The shard of that number, as it is now.
fn shard(home: &Home, at: &str, number: &str) -> Value {
    let view = shards(home, at, &[number]);
    of_shards(&view)
        .first()
        .map(|shard| (*shard).clone())
        .expect("it exists")
}

#[actix_rt::test]
async fn a_copy_moves_by_an_operators_word_and_stays() {
    let home = Home::new();
    let (mut nodes, client) = home.settled_three().await;
    let at = nodes[1].address.clone();
    let fourth = home.start_beside("n4", &["--join", &at]).await;
    nodes.push(fourth);
    let all: Vec<&Node> = nodes.iter().collect();
    settled(&client, &all).await;
    let adders = adders(&client, 12, PATIENCE);
    all_go_on(&adders).await;

    let before = names(&shard(&home, &at, "5")["goal"]);
    let every = ["n1", "n2", "n3", "n4"];
    let to = every
        .iter()
        .find(|name| !before.contains(&(**name).to_owned()));
    let (from, to) = (before[0].as_str(), *to.expect("three of four"));
    let ask = |number: &str, from: &str, to: &str| {
        home.run(&["move", number, "--from", from, "--to", to, "--at", &at])
    };
    for (number, from, to, said) in [
        (
            "16",
            from,
            to,
            "synod: there is no such shard: they are 0 to 15".to_owned(),
        ),
        ("5", from, "n9", "synod: no member is named `n9`".to_owned()),
        ("5", "n9", to, "synod: no member is named `n9`".to_owned()),
        (
            "5",
            from,
            before[1].as_str(),
            format!("synod: `{}` holds a copy of shard 5 already", before[1]),
        ),
    ] {
        assert_eq!(sentence(&ask(number, from, to)), said);
    }
    assert_eq!(
        names(&shard(&home, &at, "5")["goal"]),
        before,
        "nothing changed"
    );

    let said = printed(&ask("5", from, to));
    assert!(
        said.contains(&format!("shard 5: {from} -> {to}\n")),
        "{said}"
    );
    let mut wanted = before.clone();
    wanted[0] = to.to_owned();
    wanted.sort();
    until("the copy is there", async || {
        let now = shard(&home, &at, "5");
        now["state"] == "serving" && names(&now["replicas"]) == wanted
    })
    .await;
    settled(&client, &all).await;
    let again = printed(&ask("5", from, to));
    assert_eq!(
        again,
        format!("shard 5 is to be on {to} and not on {from} already")
    );
    // A plan of now would change nothing, so the move stays.
    let rebalanced = printed(&home.run(&["rebalance", "--at", &at]));
    assert_eq!(rebalanced, "every node has its share: nothing moves");
    assert_eq!(names(&shard(&home, &at, "5")["replicas"]), wanted);
    let moves = printed(&home.run(&["shards", "--moves", "--at", &at]));
    let done = |line: &str| line.starts_with("5 ") && line.ends_with("done");
    assert!(moves.lines().any(done), "{moves}");
    let dry = printed(&home.run(&["rebalance", "--afresh", "--dry-run", "--at", &at]));
    assert!(dry.ends_with("nothing was changed"), "{dry}");
    assert_eq!(names(&shard(&home, &at, "5")["goal"]), wanted);

    all_go_on(&adders).await;
    for Adder { key, tally, .. } in &adders {
        let noticed = (tally.unknown.get(), tally.refused.get());
        assert_eq!(noticed, (0, 0), "{key}: {}", tally.said.borrow());
    }
    judge(&client, adders).await;
}
