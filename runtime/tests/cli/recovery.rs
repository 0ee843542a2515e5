//! A majority that is gone for good: what `synod recover` makes of the rest, with real processes and real files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::harness::{Home, Node, one_sentence, printed, settled, until};

/// What a command said that was asked for something that cannot be: exit status 2 and one sentence.
fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    one_sentence(&said)
}

/// Every file of a store, with its bytes.
fn bytes_of(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(store).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(bytes_of(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            all.insert(path, bytes);
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).expect("copied");
        }
    }
}

fn put(home: &Home, node: &Node, keys: core::ops::Range<u32>) {
    for key in keys {
        let (key, value) = (format!("k{key}"), format!("v{key}"));
        printed(&home.run(&[
            "put",
            &key,
            &value,
            "--patience",
            "60",
            "--at",
            &node.address,
        ]));
    }
}

fn check(home: &Home, node: &Node, keys: core::ops::Range<u32>) {
    for key in keys {
        let name = format!("k{key}");
        let got = home.run(&["get", &name, "--patience", "60", "--at", &node.address]);
        assert_eq!(printed(&got), format!("v{key}"));
    }
}

/// What confirms a plan.
fn confirmation_of(plan: &str) -> &str {
    let (_, rest) = plan
        .split_once("--accept-data-loss ")
        .expect("what confirms it");
    rest.split_whitespace().next().expect("a digest")
}

#[actix_rt::test]
async fn the_last_of_three_serves_what_it_held_and_grows_again() {
    let home = Home::new();
    let mut nodes = home.three();
    {
        let all: Vec<&Node> = nodes.iter().collect();
        settled(&home.client(&all).await, &all).await;
    }
    put(&home, &nodes[0], 0..5);
    // Without n2, whatever is acknowledged is on the disks of n1 and n3.
    nodes.remove(1).kill();
    put(&home, &nodes[0], 5..25);
    nodes.remove(1).kill();
    until("it is said who is missing", async || {
        let status = printed(&home.run(&["status", "--at", &nodes[0].address]));
        let line = status.lines().find(|line| line.contains("no majority"));
        line.is_some_and(|line| {
            line.contains("the system group and 16 shards have")
                && line.contains("missing: n2, n3;")
        })
    })
    .await;
    nodes.remove(0).kill();
    copy(&home.store("n3"), &home.store("n3-copy"));
    for name in ["n2", "n3"] {
        std::fs::remove_dir_all(home.store(name)).expect("removed");
    }

    // The plan changes nothing.
    let (n1, before) = (home.store("n1"), bytes_of(&home.store("n1")));
    let store = n1.to_str().expect("a path");
    let words = ["recover", "--store", store, "--lost", "n2,n3"];
    let plan = printed(&home.run(&words));
    assert!(plan.contains("MAY BE LOST: in 17 groups"), "{plan}");
    assert!(plan.contains("Nothing was changed."), "{plan}");
    assert!(before == bytes_of(&n1), "a plan changed a file");
    // Nor does a slip of the hand.
    let typed = [&words[..], &["--accept-data-loss", "1234"]].concat();
    let said = refused(&home.run(&typed));
    assert!(said.contains("`1234` does not confirm"), "{said}");
    assert!(before == bytes_of(&n1), "a refusal changed a file");

    let typed = [&words[..], &["--accept-data-loss", confirmation_of(&plan)]].concat();
    let done = printed(&home.run(&typed));
    assert!(done.contains("\nDone. "), "{done}");
    let said = refused(&home.run(&typed));
    assert!(said.contains("no member `n2`"), "{said}");

    // Alone it serves everything that it held, and says what was done to it.
    let n1 = home.start("n1", &[]);
    check(&home, &n1, 5..25);
    let status = printed(&home.run(&["status", "--at", &n1.address]));
    assert!(
        status.contains("recovered unsafely at") && status.contains("n2, n3 were given up"),
        "{status}"
    );

    // A lost node that comes back is nobody.
    let ended = home.start_to_end("n3-copy", &["--name", "n3", "--join", &n1.address]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        one_sentence(&ended.said).contains("was given up"),
        "{ended:?}"
    );

    // Their names are free for new stores, and the copies are rebuilt there.
    let n2 = home.start("n2", &["--join", &n1.address]);
    let n4 = home.start("n4", &["--join", &n1.address]);
    let all = [&n1, &n2, &n4];
    settled(&home.client(&all).await, &all).await;
    put(&home, &n4, 25..30);
    n1.kill();
    check(&home, &n2, 5..30);
}

#[test]
fn wrong_words_get_one_sentence_and_exit_status_2() {
    let home = Home::new();
    let n1 = home.start("n1", &["--found", "--shards", "4"]);
    home.start("m1", &["--found", "--shards", "4"]).stop();
    let path = |name: &str| home.store(name).to_str().expect("a path").to_owned();
    let (one, other, none) = (path("n1"), path("m1"), path("none"));
    let recover = |words: &[&str]| refused(&home.run(&[&["recover"], words].concat()));

    let said = recover(&["--store", &one, "--lost", "n2"]);
    assert!(said.contains("in use by another process"), "{said}");
    n1.stop();
    let before = bytes_of(&home.store("n1"));
    for (words, part) in [
        (vec!["--store", &one], "every group can still elect"),
        (vec!["--store", &one, "--lost", "n9"], "no member `n9`"),
        (vec!["--store", &one, "--lost", "n1"], "n1 cannot be lost"),
        (
            vec!["--store", &one, "--store", &other],
            "belongs to the cluster",
        ),
        (vec!["--store", &one, "--store", &one], "given twice"),
        (vec!["--store", &none], "there is no store"),
    ] {
        let said = recover(&words);
        assert!(said.contains(part), "{said}");
    }
    assert!(before == bytes_of(&home.store("n1")));
    assert!(!home.store("none").exists());
}
