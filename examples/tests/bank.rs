//! The bank demo as a whole, small: it passes, and however it ends, no node process and no data stay behind.
//!
//! Its rooms are compiled into this test too, so that the claims about its oracle run with the others: cargo builds an
//! example either as a program or for its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[path = "../bank"]
#[allow(
    dead_code,
    reason = "the program starts elsewhere; here its rooms are tested"
)]
mod rooms {
    pub(crate) mod account;
    pub(crate) mod clients;
    pub(crate) mod cluster;
    pub(crate) mod gaps;
    pub(crate) mod growth;
    pub(crate) mod journal;
    pub(crate) mod load;
    pub(crate) mod node;
    pub(crate) mod options;
    pub(crate) mod play;
    pub(crate) mod probe;
    pub(crate) mod report;
    pub(crate) mod script;
}

/// What is not so after this many looks will not be: two minutes of a machine that runs.
const LOOKS: usize = 2_400;

/// Where cargo put an example of this package: beside the directory of this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --examples` makes it",
        path.display()
    );
    path
}

fn bank(directory: &Path) -> Command {
    let mut command = Command::new(example("bank"));
    command.env("TMPDIR", directory).args([
        "--shards",
        "32",
        "--clients",
        "8",
        "--accounts",
        "100",
    ]);
    command
}

/// Processes whose command line names the directory: the nodes of a demo there.
fn nodes_in(directory: &Path) -> Vec<u32> {
    let wanted = directory.to_str().expect("a plain path");
    let processes = fs::read_dir("/proc")
        .expect("proc(5)")
        .filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(wanted)
        })
        .collect()
}

/// Looks until it is so. Counted in looks and not by the clock: a machine that stands still uses none of them up.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50)); // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after {LOOKS} looks");
}

/// A demo whose three nodes run.
fn running(directory: &TempDir) -> Child {
    let child = bank(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    until("three nodes run", || nodes_in(directory.path()).len() >= 3);
    child
}

#[test]
fn the_bank_loses_nothing_and_leaves_nothing_behind() {
    // Issue 2, item 6, in small: every phase, the verdict, one line of JSON, exit status 0.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = bank(directory.path())
        .args(["--seconds", "6", "--seed", "7", "--json"])
        .args(["--drop", "0.1"]) // retries for certain, however few commands a busy machine does
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(
        (&report["lost"], &report["duplicated"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    assert!(
        report["acked"].as_u64().is_some_and(|acked| acked > 0),
        "{report}"
    );
    assert!(
        report["retried"]
            .as_u64()
            .is_some_and(|retried| retried > 0),
        "{report}"
    );
    let phases = report["phases"].as_array().expect("phases");
    assert_eq!(phases.len(), 5, "{report}");
    for phase in &phases[1..] {
        assert_eq!(phase["shards_probed"], 32, "{report}");
    }
    let joins = report["joins"].as_array().expect("joins");
    assert_eq!(joins.len(), 1, "{report}");
    // A quarter of three copies of each shard; the plan and nothing else moved.
    assert_eq!(
        (&joins[0]["moves"], &joins[0]["least_moves"]),
        (&24.into(), &24.into()),
        "{report}"
    );
    assert_eq!(joins[0]["most_replicas"], 24, "{report}");
    assert_eq!(nodes_in(directory.path()), Vec::<u32>::new());
    assert_eq!(
        fs::read_dir(directory.path()).expect("it exists").count(),
        0,
        "the data is removed"
    );
}

#[test]
fn an_interrupted_bank_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = running(&directory);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    until("no node runs", || nodes_in(directory.path()).is_empty());
    assert_eq!(
        fs::read_dir(directory.path()).expect("it exists").count(),
        0,
        "the data is removed"
    );
}

#[test]
fn a_crashed_bank_leaves_no_process_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = running(&directory);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    until("no node runs", || nodes_in(directory.path()).is_empty());
}

#[test]
fn bad_options_are_refused_in_a_sentence() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for options in [
        ["--nodes", "2"],
        ["--seconds", "1"],
        ["--clients", "0"],
        ["--drop", "2"],
    ] {
        let output = Command::new(example("bank"))
            .env("TMPDIR", directory.path())
            .args(options)
            .output()
            .expect("runs");
        assert!(!output.status.success(), "{options:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(options[0]),
            "{options:?}"
        );
        assert_eq!(
            fs::read_dir(directory.path()).expect("it exists").count(),
            0
        );
    }
}
