//! One node of the demo: a process that hosts accounts and ends when its parent does.
//!
//! Two lines hold it to its parent: the kernel kills it when the parent's thread ends (Linux), and it ends itself when
//! the pipe at its standard input closes. Called by `main` for `bank node ..`. Not here: starting it (`cluster`).

use std::error::Error;
use std::io::Read;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use synod::Node;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::account::Account;
use super::options::NodeOptions;

/// What the parent waits for, followed by the address.
pub(crate) const LISTENING: &str = "listening ";

pub(crate) async fn run(options: NodeOptions) -> Result<(), Box<dyn Error>> {
    die_with_parent(options.parent)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();

    let mut builder = Node::builder()
        .store(options.store)
        .listen(options.listen)
        .entity::<Account>();
    if options.found {
        builder = builder.found().shards(options.shards);
    } else if !options.join.is_empty() {
        builder = builder.join(options.join);
    }
    let node = builder.start().await?;
    println!("{LISTENING}{}", node.local_addr());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        stopped = node.stopped() => return Err(stopped.into()),
        _ = terminate.recv() => {}
    }
    node.shutdown().await;
    Ok(())
}

fn die_with_parent(parent: u32) -> Result<(), Box<dyn Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before the line above sends no signal any more.
    if getppid().map(Pid::as_raw_pid) != i32::try_from(parent).ok() {
        return Err("the demo that started this node is gone".into());
    }
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(|| {
            // Nothing is ever written: reading ends when the parent's end of the pipe does.
            let _closed = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(1);
        })?;
    Ok(())
}
