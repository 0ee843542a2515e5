//! Founding by several seeds, as processes: in any order, killed in the middle, wiped, given different lists.
//!
//! What must never be: two clusters. So each test looks at the cluster's id that every node names (E25).

use std::path::Path;

use super::harness::{Home, Node, one_sentence, printed, settled, until};
use super::loopback;

/// Three names with lasting addresses.
struct Seeds(Vec<(String, String)>);

impl Seeds {
    fn three() -> Self {
        let seat = |name: &str| (name.to_owned(), loopback::lasting().to_string());
        Self(["n1", "n2", "n3"].map(seat).to_vec())
    }

    /// What `--seeds` takes, of the seeds at these places.
    fn list(&self, places: &[usize]) -> String {
        let seats = places.iter().map(|place| &self.0[*place]);
        let seats: Vec<_> = seats.map(|(name, at)| format!("{name}={at}")).collect();
        seats.join(",")
    }

    fn all(&self) -> String {
        self.list(&[0, 1, 2])
    }

    fn address(&self, place: usize) -> &str {
        &self.0[place].1
    }

    /// Starts the seed at a place with a list; it need not become ready.
    fn launch(&self, home: &Home, place: usize, list: &str) -> Node {
        let (name, address) = &self.0[place];
        let more = ["--seeds", list, "--listen", address, "--shards", "8"];
        home.launch_only(name, &more)
    }
}

/// The id of the cluster that all these nodes name, once they all name one.
async fn cluster_of(home: &Home, nodes: &[&Node]) -> u128 {
    let client = home.client(nodes).await;
    let mut clusters = Vec::new();
    until("every node is ready", async || {
        clusters.clear();
        for node in nodes {
            match client.status(&node.address).await {
                Ok(status) if status.ready => clusters.push(status.cluster),
                _ => return false,
            }
        }
        true
    })
    .await;
    clusters.dedup();
    assert_eq!(clusters.len(), 1, "one cluster");
    clusters[0]
}

/// What one node took is read at all.
fn serve(home: &Home, nodes: &[&Node], key: &str) {
    printed(&home.run(&["put", key, "v", "--at", &nodes[0].address]));
    for node in nodes {
        assert_eq!(
            printed(&home.run(&["get", key, "--at", &node.address])),
            "v",
            "at {}",
            node.name
        );
    }
}

/// Everything that a seed keeps of its founding, as bytes; nothing when there is no such file.
fn founding_of(store: &Path) -> Vec<u8> {
    std::fs::read(store.join("founding")).unwrap_or_default()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[actix_rt::test]
async fn three_seeds_started_at_once_found_one_cluster_and_serve() {
    // DESIGN section 8, Genesis.
    let (home, seeds) = (Home::new(), Seeds::three());
    let nodes: Vec<_> = (0..3)
        .map(|place| seeds.launch(&home, place, &seeds.all()))
        .collect();
    let nodes: Vec<_> = nodes.iter().collect();
    cluster_of(&home, &nodes).await;
    serve(&home, &nodes, "k");
    let client = home.client(&nodes).await;
    settled(&client, &nodes).await;
    for node in &nodes {
        let status = client.status(&node.address).await.expect("it runs");
        assert_eq!((status.members.len(), status.replicas), (3, 9));
        assert_eq!(status.notes, [""; 0]);
    }
}

#[actix_rt::test]
async fn a_founding_waits_for_the_last_seed_and_goes_on_without_the_first() {
    // Any order; born as voters, two of three go on when the third's disk is lost before it held an entry (E25, third trace).
    let (home, seeds) = (Home::new(), Seeds::three());
    let list = seeds.list(&[2, 0, 1]); // the order makes no difference
    let third = seeds.launch(&home, 2, &list);
    let second = seeds.launch(&home, 1, &seeds.all());
    until("both have stated", async || {
        let stated = |name: &str| !founding_of(&home.store(name)).is_empty();
        stated("n2") && stated("n3")
    })
    .await;
    until("n3 says who is missing", async || {
        third.said(&home).contains("missing: n1 at ")
    })
    .await;
    assert!(!home.store("n1").exists());
    let first = seeds.launch(&home, 0, &seeds.all());
    let cluster = cluster_of(&home, &[&first, &second, &third]).await;
    serve(&home, &[&first, &second, &third], "k");
    first.kill();
    std::fs::remove_dir_all(home.store("n1")).expect("a store");
    assert_eq!(
        printed(&home.run(&["get", "k", "--at", &second.address])),
        "v"
    );
    // With its name it is refused, because a store that comes back empty is not the one that is known (E32)...
    let ended = home.start_to_end(
        "n1",
        &["--seeds", &seeds.all(), "--listen", seeds.address(0)],
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = one_sentence(&ended.said);
    assert!(said.contains("the name `n1` belongs to store 1"), "{said}");
    assert!(!holds(&founding_of(&home.store("n1")), b"\xa6chosen\x82"));
    // ... and as a new node it joins what the others have.
    let list = format!("n4={},{}", seeds.address(0), seeds.list(&[1, 2]));
    let fourth = home.start("n4", &["--seeds", &list, "--listen", seeds.address(0)]);
    let after = cluster_of(&home, &[&second, &fourth]).await;
    assert_eq!(after, cluster);
    assert_eq!(
        printed(&home.run(&["get", "k", "--at", &fourth.address])),
        "v"
    );
    drop(third);
}

#[actix_rt::test]
async fn seeds_killed_in_the_middle_of_founding_found_one_cluster_when_they_are_back() {
    // E25: whatever had reached the disks, the next start goes on from there.
    type Reached = fn(&[Vec<u8>; 3], &Home) -> bool;
    let cuts: [(&str, Reached); 6] = [
        ("one has stated", |files, _| {
            files.iter().any(|file| !file.is_empty())
        }),
        ("one gave its word", |files, _| {
            files.iter().any(|file| holds(file, b"\xaaelectorate\x83"))
        }),
        ("one knows that all did", |files, _| {
            files.iter().any(|file| holds(file, b"\xa8complete\xc3"))
        }),
        ("one accepted a record", |files, _| {
            files.iter().any(|file| holds(file, b"\xa8accepted\x92"))
        }),
        ("one knows the record", |files, _| {
            files.iter().any(|file| holds(file, b"\xa6chosen\x82"))
        }),
        ("one was born", |files, _| {
            files.iter().any(|file| holds(file, b"\xa4born\xc3"))
        }),
    ];
    for (cut, reached) in cuts {
        let (home, seeds) = (Home::new(), Seeds::three());
        let nodes = [0, 1, 2].map(|place| seeds.launch(&home, place, &seeds.all()));
        let files = || ["n1", "n2", "n3"].map(|name| founding_of(&home.store(name)));
        // Looked at without a pause: what comes after is a few syncs away.
        while !reached(&files(), &home) {
            std::thread::yield_now();
        }
        for node in nodes {
            node.kill();
        }
        let far = files().map(|file| holds(&file, b"\xa6chosen\x82"));
        println!("{cut}: the record was known to {far:?}");
        let nodes = [0, 1, 2].map(|place| seeds.launch(&home, place, &seeds.all()));
        let nodes = nodes.each_ref();
        cluster_of(&home, &nodes).await;
        serve(&home, &nodes, cut);
    }
}

#[actix_rt::test]
async fn founders_killed_with_data_just_restart() {
    // `--seeds` on a store with data founds nothing, whatever the list says.
    let (home, seeds) = (Home::new(), Seeds::three());
    let nodes = [0, 1, 2].map(|place| seeds.launch(&home, place, &seeds.all()));
    let cluster = cluster_of(&home, &nodes.each_ref()).await;
    serve(&home, &nodes.each_ref(), "k");
    for node in nodes {
        node.kill();
    }
    let other = format!("n9={}", seeds.address(1));
    let first = seeds.launch(&home, 0, &seeds.all());
    let second = seeds.launch(&home, 1, &other);
    assert_eq!(cluster_of(&home, &[&first, &second]).await, cluster);
    assert_eq!(
        printed(&home.run(&["get", "k", "--at", &first.address])),
        "v"
    );
}

#[actix_rt::test]
async fn seeds_with_different_lists_found_nothing_and_say_who_has_which() {
    // E25: nobody founds while lists differ.
    let (home, seeds) = (Home::new(), Seeds::three());
    let second = seeds.launch(&home, 1, &seeds.list(&[0, 1]));
    let third = seeds.launch(&home, 2, &seeds.all());
    let ended = home.start_to_end(
        "n1",
        &[
            "--seeds",
            &seeds.all(),
            "--listen",
            seeds.address(0),
            "--give-up",
            "8",
        ],
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = one_sentence(&ended.said);
    assert!(
        said.contains("n1 was given n1,n2,n3") && said.contains("n2 was given n1,n2"),
        "{said}"
    );
    assert!(said.contains("the same --seeds"), "{said}");
    // n2 does not list n3, and tells it all the same. Somebody must be at n1's place: nothing is judged while a seed is silent.
    let first = seeds.launch(&home, 0, &seeds.all());
    until("n3 and n2 say it too", async || {
        let n3 = third.said(&home).contains("n2 was given n1,n2:");
        n3 && second
            .said(&home)
            .contains("n2 was given n1,n2, n1 was given n1,n2,n3:")
    })
    .await;
    drop((first, second, third));
    for name in ["n1", "n2", "n3"] {
        assert!(!holds(
            &founding_of(&home.store(name)),
            b"\xaaelectorate\x83"
        ));
    }
}

#[test]
fn a_list_that_cannot_be_is_refused_and_leaves_no_store() {
    let home = Home::new();
    let cases = [
        ("127.0.0.1:7001", "NAME=HOST:PORT"),
        ("n1=127.0.0.1:7001,n2=127.0.0.1:7001", "same address"),
        ("n1=127.0.0.1:7001,n1=127.0.0.1:7002", "listed twice"),
        ("n2=127.0.0.1:7002,n3=127.0.0.1:7003", "not this node, n1"),
    ];
    for (list, part) in cases {
        let ended = home.start_to_end("n1", &["--seeds", list]);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = one_sentence(&ended.said);
        assert!(said.contains(part), "{said}");
        assert!(!home.store("n1").exists(), "nothing half-done");
    }
}

#[test]
fn a_seed_alone_in_its_list_founds_and_keeps_its_word() {
    // A promise is never taken back by another flag: what one seed was promised could still be founded (E25).
    let (home, seeds) = (Home::new(), Seeds::three());
    let alone = home.start(
        "n1",
        &[
            "--seeds",
            &seeds.list(&[0]),
            "--listen",
            seeds.address(0),
            "--shards",
            "4",
        ],
    );
    serve(&home, &[&alone], "k");
    alone.kill();
    let again = home.start("n1", &["--listen", seeds.address(0)]);
    assert_eq!(
        printed(&home.run(&["get", "k", "--at", &again.address])),
        "v"
    );
    again.kill();
    // A founder whose identity is lost may have voted: it is not born again (E26).
    std::fs::remove_file(home.store("n1").join("identity")).expect("a file");
    let ended = home.start_to_end("n1", &["--seeds", &seeds.list(&[0])]);
    let said = one_sentence(&ended.said);
    assert!(said.contains("`identity`"), "{said}");
}
