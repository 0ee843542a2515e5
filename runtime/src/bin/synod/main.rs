//! The `synod` command: runs a node, looks at a cluster, plays with its built-in key-value kind, measures it.
//!
//! The rooms: [`options`] (the command line), [`start`] (a node), [`status`], [`keys`] (get, put, add, delete), [`bench`],
//! [`certs`], [`drain`] (and remove), [`shards`], [`rebalance`] (and move), [`table`] (columns), [`recover`] (when a majority is gone
//! for good), [`kv`] (the kind that every such node hosts), [`connection`] (how commands reach a cluster). Every error is one sentence on
//! the error output and exit status 1; 2 is what the command line itself, or `recover`, refuses to do.

mod bench;
mod certs;
mod connection;
mod drain;
mod keys;
mod kv;
mod options;
mod rebalance;
mod recover;
mod shards;
mod start;
mod status;
mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use options::{Command, Options};
use tracing_subscriber::EnvFilter;

/// A node allocates and frees small buffers on different threads at a high rate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("SYNOD_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match actix_rt::System::new().block_on(run(options.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("synod: {}", sentence(error.as_ref()));
            match error.is::<recover::WrongUse>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Start(options) => start::run(options).await,
        Command::Status(options) => status::run(options).await,
        Command::Get { key, cluster } => keys::get(key, cluster).await,
        Command::Put {
            key,
            value,
            cluster,
        } => keys::put(key, value, cluster).await,
        Command::Add {
            key,
            amount,
            cluster,
        } => keys::add(key, amount, cluster).await,
        Command::Delete { key, cluster } => keys::delete(key, cluster).await,
        Command::Drain {
            node,
            undo,
            cluster,
        } => drain::run(&node, undo, cluster).await,
        Command::Remove { node, cluster } => drain::remove(&node, cluster).await,
        Command::Shards(options) => shards::run(options).await,
        Command::Move {
            shard,
            from,
            to,
            cluster,
        } => rebalance::move_shard(shard, &from, &to, cluster).await,
        Command::Rebalance {
            afresh,
            dry_run,
            cluster,
        } => rebalance::run(afresh, dry_run, cluster).await,
        Command::Bench(options) => bench::run(options).await,
        Command::Certs(options) => certs::run(options),
        Command::Recover(options) => recover::run(&options),
    }
}

/// The error in one sentence, with the causes that it does not name itself.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Silent(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store: {0}")]
    struct Telling(#[source] std::io::Error);

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("the disk is full");
        let told = "cannot open the store: the disk is full";
        assert_eq!(sentence(&Silent(cause())), told);
        assert_eq!(sentence(&Telling(cause())), told);
    }
}
