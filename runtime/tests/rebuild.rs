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

/// Three nodes whose every shard has a checkpoint on the disk of the third.
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
    let state = directory.join("n3/state");
    until("checkpoints are on disk", async || {
        std::fs::read_dir(&state).is_ok_and(|files| files.count() > 0)
    })
    .await;
    [n1, n2, n3]
}

fn key(number: usize) -> String {
    format!("k{number}")
}

/// Sixty of them are more than a checkpoint's worth for every shard.
fn text(number: usize) -> String {
    format!("{number}").repeat(20_000)
}

/// Flips a bit in the state of every shard's newest checkpoint; says of how many. The layout is that of the crate's
/// `storage::checkpoints`: a header of 24 bytes with the count at 12, rows of 60 with the group at 0 and the body's place
/// at 32.
fn damage(state: &Path) -> usize {
    let mut damaged = 0;
    for file in std::fs::read_dir(state).expect("a directory") {
        let path = file.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("a file of checkpoints");
        assert_eq!(&bytes[..8], b"SYNODCHK");
        let number = |at: usize, bytes: &[u8]| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
        };
        let count = number(12, &bytes) & 0xffff_ffff;
        for row in (0..count).map(|nth| 24 + nth * 60) {
            let (group, body) = (number(row, &bytes), number(row + 32, &bytes));
            if group != 0 {
                bytes[body] ^= 1;
                damaged += 1;
            }
        }
        std::fs::write(&path, bytes).expect("written");
    }
    damaged
}

#[actix_rt::test]
async fn a_replica_with_a_damaged_state_is_rebuilt_from_its_peers() {
    // DESIGN section 7: corrupt storage stops that replica, which comes back under a new id.
    let directory = tempfile::tempdir().unwrap();
    let [n1, n2, n3] = three(directory.path()).await;
    let state = directory.path().join("n3/state");
    n3.shutdown().await;
    let damaged = damage(&state);
    assert!(damaged > 0);

    let n3 = start(directory.path(), "n3", Some(&n1)).await;
    let lost = counter(&n3, "replicas_stopped").await;
    assert!(
        (1..=damaged as u64).contains(&lost),
        "{lost} of {damaged} damaged checkpoints were in use"
    );
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
async fn what_stopped_for_good_stays_so_although_its_files_look_whole_again() {
    // H73: a later leader cannot tell what a replica once acknowledged, so it may not vote again on the strength of files.
    let directory = tempfile::tempdir().unwrap();
    for node in three(directory.path()).await {
        node.shutdown().await;
    }
    let (state, kept) = (
        directory.path().join("n3/state"),
        directory.path().join("kept"),
    );
    copy(&state, &kept);
    assert!(damage(&state) > 0);
    let n3 = start(directory.path(), "n3", None).await;
    let lost = counter(&n3, "replicas_stopped").await;
    until("it is kept", async || {
        directory.path().join("n3/lost").exists()
    })
    .await;
    n3.shutdown().await;
    copy(&kept, &state);

    let n3 = start(directory.path(), "n3", None).await;
    assert_eq!(counter(&n3, "replicas_stopped").await, lost);
    let n1 = start(directory.path(), "n1", Some(&n3)).await;
    let n2 = start(directory.path(), "n2", Some(&n3)).await;
    settled([&n1, &n2, &n3], SHARDS).await;
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("a directory") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}
