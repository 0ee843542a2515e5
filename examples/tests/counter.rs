//! The counter of the README: the text there is the program here, and the program counts across its own restarts.

use std::path::PathBuf;
use std::process::Command;

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

#[test]
fn the_counter_counts_on_after_its_process_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for so_far in 1..=3 {
        let output = Command::new(example("counter"))
            .arg(directory.path().join("counter"))
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("counted {so_far} so far\n"),
            "{errors}"
        );
    }
}

#[test]
fn the_readme_quotes_the_counter_as_it_is() {
    // S21: an example that no longer compiles is worse than none.
    let program = include_str!("../counter.rs");
    let readme = include_str!("../../README.md");
    assert!(program.lines().count() < 50);
    assert!(
        readme.contains(&format!("```rust\n{program}```")),
        "README.md does not quote examples/counter.rs"
    );
}
