//! The command line of the demo, and of the node processes that it starts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::script::Script;

/// Kills nodes under a bank and checks that no command is lost or done twice.
#[derive(Debug, Parser)]
#[command(name = "bank")]
pub(crate) struct Options {
    /// What happens to the cluster under the load.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) script: Script,
    /// Kills of `--script kills`, each followed by a restart.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Nodes at the beginning.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=15))]
    pub(crate) nodes: u16,
    /// Seconds of load in all, shared by the phases; one that has not recovered takes longer.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(6..=86_400))]
    pub(crate) seconds: u64,
    /// Commands in flight at any time, from as many clients.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) clients: u16,
    /// Accounts, shared out among the clients.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) accounts: u32,
    /// Shards of the cluster.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) shards: u32,
    /// Share of the replies to the load that are thrown away after receipt, so that retries are real.
    #[arg(long, default_value_t = 0.016, value_parser = ratio)]
    pub(crate) drop: f64,
    /// Source of amounts, accounts and dropped replies.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keep the data directory and say where it is.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the result as one line of JSON; progress goes to the error output.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// One node of the demo; it ends with the process that started it.
    #[command(hide = true)]
    Node(NodeOptions),
}

#[derive(Args, Debug)]
pub(crate) struct NodeOptions {
    #[arg(long)]
    pub(crate) store: PathBuf,
    #[arg(long)]
    pub(crate) listen: String,
    #[arg(long)]
    pub(crate) found: bool,
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    #[arg(long, default_value_t = 256)]
    pub(crate) shards: u32,
    /// Process that started this one.
    #[arg(long)]
    pub(crate) parent: u32,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=0.5).contains(&ratio) => Ok(ratio),
        _ => Err("a share of replies is a number from 0 to 0.5".to_owned()),
    }
}
