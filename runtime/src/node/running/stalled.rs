//! Nodes whose disk takes no rows for a while, although it takes the log. Compiled for tests only.
//!
//! What waits to be written is bounded (DESIGN section 4): a leader refuses, a follower takes no entries, and both go on afterwards.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tests::{on_an_arbiter, until};
use super::*;
use crate::entity::{Context, Entity, Handler, Message};
use crate::group::actor::Describe;
use crate::node::ReplicaStatus;
use crate::router::{AskError, Refused};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "page", commands(Fill), queries())]
struct Page {
    text: String,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Fill(usize);

impl Handler<Fill> for Page {
    async fn handle(&mut self, Fill(bytes): Fill, _cx: &mut Context<Self>) {
        self.text = "x".repeat(bytes);
    }
}

/// The only shard's.
const GROUP: GroupId = GroupId::new(1);
/// What may wait, of one state; all together may have twice as much.
const BOUND: usize = 256 << 10;
/// Size of one page.
const PAGE: usize = 16 << 10;
/// So many pages are eight times what may wait of all states.
const PAGES: usize = 16 * BOUND / PAGE;
/// Longer than a retry hint, shorter than anybody's patience.
const DEADLINE: Duration = Duration::from_millis(500);

async fn start(directory: &Path, name: &str, at: Option<&Node>) -> Node {
    let builder = Node::builder()
        .store(directory.join(name))
        .listen("127.0.0.1:0")
        .shards(1)
        .overlay_bytes(BOUND)
        .entity::<Page>();
    let builder = match at {
        Some(node) => builder.join([node.local_addr().to_string()]),
        None => builder.found(),
    };
    builder.start().await.expect("starts")
}

async fn fill(node: &Node, page: usize) -> Result<(), AskError> {
    let page = node.entities::<Page>().at(format!("page-{page}"));
    page.ask(Fill(PAGE)).deadline(DEADLINE).await
}

async fn describe(node: &Node) -> ReplicaStatus {
    let hosted = node.desk.shared.registry.get(GROUP).expect("hosted");
    let described = hosted.group.send(Describe).await;
    described.expect("it runs")
}

fn held(node: &Node) -> usize {
    node.desk.shared.overlays.held()
}

#[test]
fn a_leader_whose_disk_stands_still_refuses_until_it_moves_again() {
    on_an_arbiter(async {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), "n1", None).await;
        node.ready().await;
        fill(&node, 0).await.expect("there is room");
        let rows = node.desk.shared.checkpoints.rows().expect("has rows");
        let still = rows.hold();
        let mut refused = None;
        let mut taken = 0;
        for page in 1..=PAGES {
            match fill(&node, page).await {
                Ok(()) => taken += 1,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let refused = refused.expect("more than may wait");
        let busy = AskError::from(Refused::Busy {
            queue: "unwritten state".to_owned(),
            retry_after: Duration::ZERO,
        });
        assert_eq!(
            std::mem::discriminant(&refused),
            std::mem::discriminant(&busy),
            "{refused}"
        );
        let sentence = refused.to_string();
        assert!(
            sentence.contains("unwritten state") && sentence.contains("call again in"),
            "{sentence}"
        );
        assert!(taken > BOUND / PAGE / 2, "{taken}: it refused too early");
        assert!(held(&node) <= 2 * BOUND + PAGE * 2, "{}", held(&node));

        drop(still);
        for page in 0..=PAGES {
            // The first ones may come before the first checkpoint is there.
            until("there is room again", async || {
                fill(&node, page).await.is_ok()
            })
            .await;
        }
        node.shutdown().await;
    });
}

#[test]
fn a_follower_whose_disk_stands_still_takes_no_more_entries_and_catches_up() {
    on_an_arbiter(async {
        let directory = tempfile::tempdir().unwrap();
        let n1 = start(directory.path(), "n1", None).await;
        let n2 = start(directory.path(), "n2", Some(&n1)).await;
        let n3 = start(directory.path(), "n3", Some(&n1)).await;
        until("settled", async || {
            let mut settled = false;
            for node in [&n1, &n2, &n3] {
                let status = node.status().await;
                settled |= status.unsettled == Some(0) && status.members.len() == 3;
                if !status.ready {
                    return false;
                }
            }
            settled
        })
        .await;
        fill(&n1, 0).await.expect("there is room");
        let mut nodes = vec![n1, n2, n3];
        let leads = |node: &Node| {
            let hosted = node.desk.shared.registry.get(GROUP);
            hosted.is_some_and(|hosted| hosted.leads())
        };
        let place = nodes.iter().position(leads).expect("somebody leads");
        nodes.rotate_left(place);
        let (leader, slow) = (&nodes[0], &nodes[1]);
        let rows = slow.desk.shared.checkpoints.rows().expect("has rows");
        let still = rows.hold();
        for page in 0..PAGES {
            // One quorum is left; nobody is refused.
            until("it is answered", async || fill(leader, page).await.is_ok()).await;
        }
        let described = describe(slow).await;
        assert!(described.log_bytes <= 8 * BOUND as u64, "{described:?}");
        let left_out = &slow.desk.shared.counters.entries_without_room;
        assert!(left_out.load(Ordering::Relaxed) > 0);
        assert!(held(slow) <= 4 * BOUND, "{} bytes wait", held(slow));
        assert!(leads(leader), "nobody campaigned");

        drop(still);
        // Without the third, it is half of every quorum.
        nodes.pop().expect("three").shutdown().await;
        let leader = &nodes[0];
        for page in 0..PAGES {
            until("it is answered", async || fill(leader, page).await.is_ok()).await;
        }
    });
}
