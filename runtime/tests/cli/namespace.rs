//! Stories that need a part of the machine for themselves: a network, mounts.
//!
//! Here: [`in_a_namespace`], which runs one in a namespace of its own, where the machine allows one. What it does not allow is printed and
//! skipped. Not here: the stories (`weather`, `room`).

use std::process::{Command, Output};

/// Runs a command to its end.
fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(arguments).output()
}

/// Runs a command that must succeed.
pub(crate) fn must(program: &str, arguments: &[&str]) {
    let output = run(program, arguments).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Runs this test program's `story` in a namespace of this kind, as unshare(1) calls it, if `trial`, a line for the shell, succeeds in
/// one.
pub(crate) fn in_a_namespace(kind: &str, trial: &str, story: &str) {
    let own = |more: &[&str]| run("unshare", &[&["-Ur", kind, "--"], more].concat());
    match own(&["sh", "-c", trial]) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return println!("skipped {story}, not possible on this machine: {why}");
        }
        Err(error) => return println!("skipped {story}, no unshare(1) on this machine: {error}"),
    }
    let program = std::env::current_exe().expect("this test's");
    let program = program.display().to_string();
    let output = own(&[&program, "--ignored", "--exact", story]).expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
