//! Tables that say which tests answer what, and the check that those tests exist and say so themselves.
//!
//! Here: [`Answer`], and [`check`], which reads the workspace's sources. The tables: `hazards` (HAZARDS.md), `paper` (the Raft
//! paper's rules), `scenarios` (etcd-io/raft's interaction scenarios).

use std::path::{Path, PathBuf};

/// What stands for one row of a table.
pub(super) enum Answer {
    /// Names of test functions, each of which names the row in the comment at its head.
    Tests(&'static [&'static str]),
    /// One sentence why this design has no such thing.
    CannotBe(&'static str),
}

/// Every Rust file of the workspace's crates.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<_> = ["consensus", "membership", "runtime", "tests"]
        .map(|room| root.join(room))
        .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

/// The comments at the head of the test `name`: those above it and those that open its body. `None`: `text` has no such test.
fn head(text: &str, name: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let opening = format!("fn {name}(");
    let place = lines.iter().position(|line| {
        line.strip_prefix("async ")
            .unwrap_or(line)
            .starts_with(&opening)
    })?;
    let above: Vec<_> = lines[..place]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("//") || line.starts_with("#["))
        .collect();
    if !above
        .iter()
        .any(|line| line.starts_with("#[") && line.contains("test"))
    {
        return None;
    }
    let body = lines[place..].iter().position(|line| line.ends_with('{'))? + place + 1;
    let opening = lines[body..]
        .iter()
        .take_while(|line| line.starts_with("//"));
    let comments = above.into_iter().rev().chain(opening);
    Some(
        comments
            .filter(|line| line.starts_with("//"))
            .map(|line| line.trim_start_matches('/'))
            .collect(),
    )
}

/// Whether a comment names `key` as a word of its own.
fn names(comment: &str, key: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    comment
        .split(|c| !part(c))
        .any(|word| word.trim_matches('.') == key)
}

/// Holds rows of (key, what it is, answer) against the sources: every test exists and names `source` and the key at its head.
pub(super) fn check<'a>(source: &str, rows: impl Iterator<Item = (&'a str, &'a str, &'a Answer)>) {
    let sources = sources();
    let mut wrong = Vec::new();
    for (key, what, answer) in rows {
        match answer {
            Answer::CannotBe(why) => {
                if !why.ends_with('.') {
                    wrong.push(format!("{key} ({what}): a reason is a sentence: {why}"));
                }
            }
            Answer::Tests([]) => wrong.push(format!("{key} ({what}): no test is named")),
            Answer::Tests(tests) => {
                for test in *tests {
                    let heads: Vec<_> = sources
                        .iter()
                        .filter_map(|(_, text)| head(text, test))
                        .collect();
                    if heads.is_empty() {
                        wrong.push(format!("{key} ({what}): there is no test {test}"));
                    } else if !heads
                        .iter()
                        .any(|head| head.contains(source) && names(head, key))
                    {
                        wrong.push(format!(
                            "{key} ({what}): {test} does not name it: {heads:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_is_known_by_its_head() {
    let text = "// H7: above\n#[test]\nfn above() {\n    let x = 1;\n}\n#[test]\nfn inside() {\n    // H71, Raft paper 5.3.\n}\nfn none() {\n    // H7\n}\n";
    assert!(names(&head(text, "above").unwrap(), "H7"));
    let inside = head(text, "inside").unwrap();
    assert!(names(&inside, "H71") && names(&inside, "5.3") && !names(&inside, "H7"));
    assert_eq!(head(text, "none"), None);
    assert_eq!(head(text, "absent"), None);
}
