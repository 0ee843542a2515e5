//! A replica whose state on disk is damaged is replaced from its peers; the node and its other replicas go on.

mod looks;

use std::path::Path;

use looks::{counter, settled, until};
use serde::{Deserialize, Serialize};
use synod::node::NodeBuilder;
use synod::{Answer, Context, Entity, Handler, Message, Node, View};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "note", commands(Write), queries(Read))]
struct Note {
    text: String,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Write(String);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Read;

impl Handler<Write> for Note {
    async fn handle(&mut self, Write(text): Write, _cx: &mut Context<Self>) {
        self.text = text;
    }
}

impl Answer<Read> for Note {
    async fn answer(&self, _: Read, _cx: &View<Self>) -> String {
        self.text.clone()
    }
}

const SHARDS: u32 = 4;
/// More than the tails of all logs that are kept.
const CHANGES: usize = 600;

fn builder(directory: &Path, name: &str) -> NodeBuilder {
    Node::builder()
        .store(directory.join(name))
        .listen("127.0.0.1:0")
        .entity::<Note>()
}

async fn start(directory: &Path, name: &str, at: Option<&Node>) -> Node {
    let builder = match at {
        Some(node) => builder(directory, name).join([node.local_addr().to_string()]),
        None => builder(directory, name),
    };
    builder.start().await.expect("starts")
}

/// Three nodes, on the third of which every shard's log begins behind what is in its rows.
async fn three(directory: &Path) -> [Node; 3] {
    let founder = builder(directory, "n1").found().shards(SHARDS);
    let n1 = founder.start().await.expect("founds");
    let n2 = start(directory, "n2", Some(&n1)).await;
    let n3 = start(directory, "n3", Some(&n1)).await;
    settled([&n1, &n2, &n3], SHARDS).await;
    for number in 0..60 {
        let note = n1.entities::<Note>().at(key(number));
        note.ask(Write(text(number))).await.expect("written");
    }
    // More than the logs keep of what is in the rows.
    for number in 0..CHANGES {
        // One after the other, so that few of their states are ever written to the rows.
        let note = n1.entities::<Note>().at(format!("changes-{}", number / 12));
        let change = format!("{number:5}").repeat(4_000);
        note.ask(Write(change)).await.expect("written");
    }
    [n1, n2, n3]
}

fn key(number: usize) -> String {
    format!("k{number}")
}

fn text(number: usize) -> String {
    format!("{number}").repeat(2_000)
}

/// Flips a bit in the first of what is written of the shards' states: nothing behind it can be read any more. The files are the LSM
/// tree's, in `rows`, of which the states here fill no more than the journal.
fn damage(rows: &Path) {
    let files = std::fs::read_dir(rows).expect("a directory");
    let paths = files.map(|file| file.expect("an entry").path());
    let mut journals = paths.filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    let journal = journals.next().expect("a journal");
    assert!(journals.next().is_none());
    let mut bytes = std::fs::read(&journal).expect("a journal");
    bytes[100] ^= 1;
    std::fs::write(&journal, bytes).expect("written");
}

#[actix_rt::test]
async fn a_replica_with_a_damaged_state_is_rebuilt_from_its_peers() {
    // DESIGN section 7: corrupt storage stops that replica, which comes back under a new id.
    let directory = tempfile::tempdir().unwrap();
    let [n1, n2, n3] = three(directory.path()).await;
    n3.shutdown().await;
    damage(&directory.path().join("n3/rows"));

    let n3 = start(directory.path(), "n3", Some(&n1)).await;
    let lost = counter(&n3, "replicas_stopped").await;
    assert_eq!(lost, u64::from(SHARDS));
    settled([&n1, &n2, &n3], SHARDS).await;

    // With n1 gone, the rebuilt replicas are half of every majority.
    n1.shutdown().await;
    for number in 0..60 {
        let read = n2.entities::<Note>().at(key(number)).query(Read).await;
        assert_eq!(read.expect("read"), text(number));
    }
    for node in [n2, n3] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn a_node_whose_rows_vanished_serves_nothing_of_them_and_is_rebuilt() {
    // E28: the logs begin behind what only the rows held, as after a slip of an operator. To go on without would be to answer zeros.
    let directory = tempfile::tempdir().unwrap();
    let [n1, n2, n3] = three(directory.path()).await;
    n3.shutdown().await;
    std::fs::remove_dir_all(directory.path().join("n3/rows")).expect("removed");

    let n3 = start(directory.path(), "n3", Some(&n1)).await;
    let lost = counter(&n3, "replicas_stopped").await;
    assert_eq!(lost, u64::from(SHARDS));
    settled([&n1, &n2, &n3], SHARDS).await;
    n2.shutdown().await;
    for number in 0..60 {
        let read = n3.entities::<Note>().at(key(number)).query(Read).await;
        assert_eq!(read.expect("read"), text(number));
    }
    for node in [n1, n3] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn what_stopped_for_good_stays_so_although_its_files_look_whole_again() {
    // H73: a later leader cannot tell what a replica once acknowledged, so it may not vote again on the strength of files.
    let directory = tempfile::tempdir().unwrap();
    for node in three(directory.path()).await {
        node.shutdown().await;
    }
    let (rows, kept) = (
        directory.path().join("n3/rows"),
        directory.path().join("kept"),
    );
    copy(&rows, &kept);
    damage(&rows);
    let n3 = start(directory.path(), "n3", None).await;
    let lost = counter(&n3, "replicas_stopped").await;
    until("it is kept", async || {
        directory.path().join("n3/lost").exists()
    })
    .await;
    n3.shutdown().await;
    copy(&kept, &rows);

    let n3 = start(directory.path(), "n3", None).await;
    assert_eq!(counter(&n3, "replicas_stopped").await, lost);
    let n1 = start(directory.path(), "n1", Some(&n3)).await;
    let n2 = start(directory.path(), "n2", Some(&n3)).await;
    settled([&n1, &n2, &n3], SHARDS).await;
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn a_start_removes_what_an_interrupted_plan_of_a_recovery_left() {
    // Its links would keep files that were replaced since, for as long as the store is there.
    let directory = tempfile::tempdir().unwrap();
    let founder = builder(directory.path(), "n1").found().shards(1);
    founder.start().await.expect("founds").shutdown().await;
    let left = directory.path().join("n1/rows.look");
    std::fs::create_dir(&left).expect("made");
    std::fs::write(left.join("table"), b"rows").expect("written");
    let n1 = start(directory.path(), "n1", None).await;
    assert!(!left.exists());
    n1.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("a directory") {
        let file = file.expect("an entry");
        let (from, to) = (file.path(), to.join(file.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).expect("copied");
        }
    }
}
