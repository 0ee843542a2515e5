//! A disk that comes to its end under a running node, and has room again: a small file system of the node's own.
//!
//! Not here: a write that fails although nobody saw it come (`failover`), what the log and its files do then (crate `tests`).

use std::fs;
use std::path::PathBuf;

use synod::Client;

use super::adders::{SOON, adders, all_go_on, judge};
use super::harness::{Home, Node, printed, sentence, settled, until};
use super::namespace::{in_a_namespace, must};

const TRIAL: &str = "mount -t tmpfs tmpfs /mnt";
/// Room for a log, its next file, rows, and the reserve.
const DISK: &str = "size=640m";
const RESERVE: [&str; 2] = ["--reserve-mib", "32"];

/// A disk of its own for the store of this name.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(home: &Home, name: &str) -> Self {
        let store = home.store(name);
        fs::create_dir(&store).expect("a folder");
        let place = store.display().to_string();
        must("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &place]);
        Self(store)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("somebody-elses")
    }

    /// Takes all room but so many MiB.
    fn fill_but(&self, mib: u64) {
        let room = rustix::fs::statvfs(&self.0).expect("a file system");
        let free = room.f_bavail * room.f_frsize;
        let take = free.checked_sub(mib << 20).expect("room to take");
        let path = self.filler().display().to_string();
        must("fallocate", &["-l", &take.to_string(), &path]);
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).expect("a file");
    }

    fn keeps_reserve(&self) -> bool {
        self.0.join("reserve").exists()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The namespace ends with the story; the node may still use it.
        must("umount", &["-l", &self.0.display().to_string()]);
    }
}

/// Whether this node's own status says that its disk is nearly full.
async fn is_short(client: &Client, node: &Node) -> bool {
    match client.status(&node.address).await {
        Ok(status) => { status.notes.iter() }.any(|note| note.contains("disk is nearly full")),
        Err(_) => false,
    }
}

/// How many groups `node` leads.
async fn led(client: &Client, node: &Node) -> Option<u32> {
    let status = client.status(&node.address).await.ok()?;
    Some(status.led)
}

#[test]
fn a_node_whose_disk_is_nearly_full_lets_others_lead_and_comes_back_with_room() {
    in_a_namespace("-m", TRIAL, "room::among_three");
}

#[actix_rt::test]
#[ignore = "runs within a mount namespace"]
async fn among_three() {
    // DESIGN section 13. Before there was a reserve, the node stopped.
    let home = Home::new();
    let disk = SmallDisk::under(&home, "n1");
    let first = [&["--found", "--shards", "16"][..], &RESERVE].concat();
    let mut nodes = vec![home.start("n1", &first)];
    for name in ["n2", "n3"] {
        let node = home.start(name, &["--join", &nodes[0].address]);
        nodes.push(node);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    let client = home.client(&all).await;
    settled(&client, &all).await;
    assert!(disk.keeps_reserve());
    let adders = adders(&client, 24, SOON);
    all_go_on(&adders).await;

    disk.fill_but(8);
    until("it says so", async || is_short(&client, all[0]).await).await;
    assert!(!disk.keeps_reserve(), "given back");
    until("others lead", async || {
        led(&client, all[0]).await == Some(0)
    })
    .await;
    for _ in 0..20 {
        all_go_on(&adders).await;
    }
    assert_eq!(led(&client, all[0]).await, Some(0), "and go on leading");

    disk.empty();
    until("there is room", async || !is_short(&client, all[0]).await).await;
    assert!(disk.keeps_reserve());
    settled(&client, &all).await;
    assert!(led(&client, all[0]).await > Some(0), "it leads again");
    all_go_on(&adders).await;
    judge(&client, adders).await;
}

#[test]
fn where_nobody_has_room_commands_are_refused_and_queries_answered() {
    in_a_namespace("-m", TRIAL, "room::alone");
}

#[actix_rt::test]
#[ignore = "runs within a mount namespace"]
async fn alone() {
    let home = Home::new();
    let disk = SmallDisk::under(&home, "n1");
    let how = [&["--found", "--shards", "16"][..], &RESERVE].concat();
    let mut node = home.start("n1", &how);
    let client = home.client(&[&node]).await;
    let at = node.address.clone();
    printed(&home.run(&["add", "visits", "5", "--at", &at]));
    disk.fill_but(8);
    until("it says so", async || is_short(&client, &node).await).await;
    let refused = home.run(&["add", "visits", "1", "--at", &at]);
    let said = sentence(&refused);
    assert!(said.contains("the disk is full; call again in"), "{said}");
    assert_eq!(
        printed(&home.run(&["get", "visits", "--at", &at])).trim(),
        "5"
    );
    assert!(node.runs());
    // With what the reserve gave it can also be started anew.
    assert!(node.stop().success());
    node = home.start("n1", &[&RESERVE[..], &["--listen", &at]].concat());
    assert_eq!(
        printed(&home.run(&["get", "visits", "--at", &at])).trim(),
        "5"
    );
    assert!(is_short(&client, &node).await);
    disk.empty();
    until("there is room", async || !is_short(&client, &node).await).await;
    printed(&home.run(&["add", "visits", "1", "--at", &at]));
    assert_eq!(
        printed(&home.run(&["get", "visits", "--at", &at])).trim(),
        "6"
    );
    drop(node);
}
