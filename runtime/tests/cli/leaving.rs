//! Nodes that leave for good, while commands go on.

use std::sync::Arc;

use super::adders::{Adder, adders, all_go_on, judge};
use super::harness::{Home, Node, PATIENCE, one_sentence, printed, sentence, settled, until};

#[actix_rt::test]
async fn a_drained_node_is_removed_under_load_and_nobody_notices() {
    // S5, S3: what it leads moves before anything stops. M21: its store is none of the cluster's any more.
    let home = Arc::new(Home::new());
    let (mut nodes, client) = home.settled_three().await;
    let adders = adders(&client, 12, PATIENCE);
    all_go_on(&adders).await;
    let at = nodes[2].address.clone();
    let early = sentence(&home.run(&["remove", "n1", "--at", &at]));
    assert_eq!(early, "synod: `n1` takes replicas: drain it first");
    let nobody = sentence(&home.run(&["drain", "n9", "--at", &at]));
    assert_eq!(nobody, "synod: no member is named `n9`");

    let fourth = home.start_beside("n4", &["--join", &at]).await;
    nodes.push(fourth);
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    // Beside the load, which this thread makes.
    let drain = {
        let (home, at) = (home.clone(), at.clone());
        tokio::task::spawn_blocking(move || home.run(&["drain", "n1", "--at", &at]))
    };
    let said = printed(&drain.await.expect("it was waited for"));
    assert!(said.contains("n1 is drained"), "{said}");
    all_go_on(&adders).await;
    let status = printed(&home.run(&["status", "--at", &at]));
    let line = status.lines().find(|line| line.starts_with("n1 "));
    assert!(
        line.is_some_and(|line| line.contains("alive, draining")),
        "{status}"
    );

    printed(&home.run(&["remove", "n1", "--at", &at]));
    let mut removed: Node = nodes.remove(0);
    until("the removed node ends", async || !removed.runs()).await;
    let said = removed.said(&home);
    assert_eq!(
        one_sentence(&said),
        "synod: the node stopped: store 1 of 'n1' was removed from this cluster: remove its directory and join as a new store"
    );
    settled(&client, &nodes.iter().collect::<Vec<_>>()).await;
    all_go_on(&adders).await;

    // Its disk is of no use any more, and its name is free.
    let back = home.start_to_end("n1", &["--listen", &removed.address, "--join", &at]);
    assert!(
        back.said.contains("was removed from this cluster"),
        "{}",
        back.said
    );
    for Adder { key, tally, .. } in &adders {
        let noticed = (tally.unknown.get(), tally.refused.get());
        assert_eq!(noticed, (0, 0), "{key}: {}", tally.said.borrow());
    }
    judge(&client, adders).await;
}
