//! A bank on three node processes, while one after the other is killed: nothing acknowledged is lost, nothing is done twice.
//!
//! `cargo run --release --example bank` starts the nodes (by running itself again), puts load on them from outside, kills
//! and restarts the node that leads most, adds a fourth, kills another, and then reads every account and compares it
//! with the journal of what was asked. The rooms: [`bank::script`] (which events, in which order), [`bank::play`] (bringing
//! them about), [`bank::cluster`] and [`bank::node`] (processes), [`bank::load`] and [`bank::probe`] (clients),
//! [`bank::journal`] (the oracle), [`bank::account`] (the entity), [`bank::growth`] (what a join moved), [`bank::report`] (lines,
//! table, JSON).

mod bank {
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

use std::process::ExitCode;

use bank::options::{Options, Role};
use clap::Parser;

/// Nodes allocate and free small buffers on different threads at a high rate; the system's allocator costs an eighth more
/// processor time. Synod itself works with any.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    let system = actix_rt::System::new();
    let result = match options.role {
        Some(Role::Node(node)) => system
            .block_on(bank::node::run(node))
            .map(|()| ExitCode::SUCCESS),
        None => system.block_on(bank::play::run(options)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bank: {error}");
        ExitCode::FAILURE
    })
}
