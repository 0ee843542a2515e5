//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Actors that survive the loss of their node.
#[derive(Debug, Parser)]
#[command(name = "synod", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node that hosts the built-in key-value kind `kv`, until it is told to stop.
    Start(StartOptions),
    /// Show the cluster as its nodes see it.
    Status(StatusOptions),
    /// Print the value of a key.
    Get {
        key: String,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Give a key a value.
    Put {
        key: String,
        /// The value; `-` reads it from the standard input.
        value: String,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Add to a number (a missing key counts as 0) and print the sum.
    Add {
        key: String,
        /// What to add; may be negative.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        amount: i64,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Remove a key.
    Delete {
        key: String,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Move everything off a node, and wait until it holds nothing: before it is removed, or before its machine is.
    Drain {
        /// The node's name.
        node: String,
        /// Let it take replicas again instead.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Take a drained node out of the cluster for ever; its process ends.
    Remove {
        /// The node's name.
        node: String,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Show every shard: leader, replicas, term, applied index, size, state, and what moves.
    ///
    /// Every node is asked for what it hosts. Where a replica lags, the number of entries stands behind its node's name; "+" stands before
    /// a replica that learns and does not vote.
    Shards(ShardsOptions),
    /// Move one copy of a shard from a node to another.
    ///
    /// The move lasts: the system leader leaves copies where they are as long as every node holds its share. Where this one gives a node
    /// more or less than its share, a copy of another shard goes the other way, and is named.
    Move {
        /// The shard's number.
        shard: u32,
        /// Name of the node that gives the copy up.
        #[arg(long, value_name = "NODE")]
        from: String,
        /// Name of the node that gets it.
        #[arg(long, value_name = "NODE")]
        to: String,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Plan now, and show what moves.
    ///
    /// The system leader plans whenever members change, and keeps replicas and leaders of every node within one of its share. So in a
    /// cluster at rest this moves nothing, unless --afresh.
    Rebalance {
        /// Plan as if nothing lay anywhere yet: moves by hand and what is left of history are given up. May move most copies.
        #[arg(long)]
        afresh: bool,
        /// Only show what would move.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        cluster: ClusterOptions,
    },
    /// Put a closed-loop load on a running cluster and print commands per second, p50 and p99.
    Bench(BenchOptions),
    /// Make a development CA, and certificates of nodes and clients, in a directory.
    Certs(CertsOptions),
    /// When a majority is gone for good: make the surviving stores go on without it. Loses data; shows a plan unless confirmed.
    Recover(RecoverOptions),
}

#[derive(Args, Debug)]
pub(crate) struct StartOptions {
    /// Directory that keeps this node's part of the data; made when it does not exist.
    #[arg(long, env = "SYNOD_STORE")]
    pub(crate) store: PathBuf,
    /// Where other nodes and clients reach this one, as HOST:PORT; port 0 takes any free one.
    #[arg(long, env = "SYNOD_LISTEN", default_value = "127.0.0.1:7001")]
    pub(crate) listen: String,
    /// Name, unique in the cluster; recorded in the store at its first start [default: the store directory's name].
    #[arg(long, env = "SYNOD_NAME")]
    pub(crate) name: Option<String>,
    /// With an empty store: found a new cluster of this node alone.
    ///
    /// For a person who starts the first node, once. Other nodes --join it.
    #[arg(long, conflicts_with = "join", group = "founds")]
    pub(crate) found: bool,
    /// With an empty store: join the cluster of these members, and never found one.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', group = "waits")]
    pub(crate) join: Vec<String>,
    /// With an empty store: found a cluster together with these nodes, of which this is one; or join it, if one of them
    /// has data.
    ///
    /// For first nodes that start by themselves, in any order, from one template. All of them get the same list, of the
    /// names that their certificates carry; it takes every one of them to found, and later nodes --join. With a store that
    /// belongs to a cluster, --found, --join and --seeds found nothing: the node just starts.
    #[arg(
        long,
        value_name = "NAME=ADDRESS",
        value_delimiter = ',',
        conflicts_with = "join",
        groups = ["founds", "waits"]
    )]
    pub(crate) seeds: Vec<String>,
    /// Seconds after which a node that nobody lets in, or whose seeds are not complete, gives up; by default it asks for
    /// ever.
    #[arg(long, value_name = "SECONDS", requires = "waits")]
    pub(crate) give_up: Option<u64>,
    /// Shards of the cluster that --found or --seeds founds, for ever [default: 256].
    #[arg(long, requires = "founds", conflicts_with = "join")]
    pub(crate) shards: Option<u32>,
    /// Seconds of silence after which the others rebuild a node's copies among themselves; 0 for never.
    ///
    /// The leader of the system group counts, by its own clock and from its election on; give every node the same.
    #[arg(
        long,
        env = "SYNOD_REPLACE_AFTER",
        value_name = "SECONDS",
        default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(..=31_536_000)
    )]
    pub(crate) replace_after: u64,
    /// What fails together with this node, such as a rack; copies of each shard lie in as many zones as there are.
    ///
    /// Named at every start: another one than before moves copies, and none takes the former one back.
    #[arg(long, env = "SYNOD_ZONE")]
    pub(crate) zone: Option<String>,
    /// How much this node holds and leads relative to the others, from 1 to 64; said at every start.
    #[arg(long, env = "SYNOD_CAPACITY", value_name = "N", default_value_t = 1)]
    pub(crate) capacity: u32,
    /// What this node is for; may be given several times. Shown by `synod status`, and nothing more.
    #[arg(
        long = "role",
        env = "SYNOD_ROLE",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    pub(crate) roles: Vec<String>,
    /// MiB of changed state, of all shards together, that may wait in memory before the largest part is written to disk.
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 48,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    pub(crate) unwritten_mib: u32,
    /// MiB of the disk that are kept for the end of it: when it is nearly full, they are given back, the node refuses commands, and others
    /// lead; 0: none are kept, and a node whose disk is full stops.
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(0..=1_048_576)
    )]
    pub(crate) reserve_mib: u32,
    /// Ask a majority for every query, instead of trusting clocks for 0.4 s: for virtual machines that are stopped and resumed.
    #[arg(long)]
    pub(crate) no_lease_reads: bool,
    #[command(flatten)]
    pub(crate) certificates: CertificateOptions,
}

/// PEM files; without them the development CA is used, on loopback addresses only.
#[derive(Args, Debug)]
pub(crate) struct CertificateOptions {
    /// Certificate of the cluster's CA.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key_file"])]
    pub(crate) ca: Option<PathBuf>,
    /// This process's certificate.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key_file"])]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long = "key", id = "key_file", value_name = "FILE", requires_all = ["ca", "cert"])]
    pub(crate) key_file: Option<PathBuf>,
}

/// How a client command reaches a cluster.
#[derive(Args, Debug)]
pub(crate) struct ClusterOptions {
    /// Any nodes of the cluster, as HOST:PORT.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        env = "SYNOD_AT",
        default_value = "127.0.0.1:7001"
    )]
    pub(crate) at: Vec<String>,
    /// Directory of the development CA: the parent of the stores.
    #[arg(long, value_name = "DIR", env = "SYNOD_CERTS", default_value = "data")]
    pub(crate) certs: PathBuf,
    #[command(flatten)]
    pub(crate) certificates: CertificateOptions,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) patience: u64,
}

#[derive(Args, Debug)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// One line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ShardsOptions {
    /// Only this shard.
    pub(crate) shard: Option<u32>,
    /// Only what this node holds.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only shards in this state.
    #[arg(long, value_enum)]
    pub(crate) state: Option<State>,
    /// Moves under way, and the last ones that ended, instead: as the present system leader saw them.
    #[arg(long, conflicts_with_all = ["shard", "node", "state"])]
    pub(crate) moves: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// One line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a shard is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Led, and where it belongs.
    Serving,
    /// Led, and on its way.
    Moving,
    /// Not led, as far as can be seen.
    Leaderless,
}

#[derive(Args, Debug)]
pub(crate) struct BenchOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Commands in flight at any time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) clients: u32,
    /// Connections that the clients share.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) connections: u32,
    /// Keys, chosen evenly.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) entities: u64,
    /// Size of a value in bytes.
    #[arg(long, default_value_t = 256)]
    pub(crate) value_bytes: usize,
    /// Write every key once before the warm-up.
    #[arg(long)]
    pub(crate) fill: bool,
    /// Share of linearizable reads, from 0 to 1; the rest are writes.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) read_share: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Seconds before, which are not.
    #[arg(long, default_value_t = 2)]
    pub(crate) warm_up: u64,
    /// One line of JSON instead of a sentence.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CertsOptions {
    /// Directory for all of it.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) dir: PathBuf,
    /// Make NAME.crt and NAME.key for the node NAME; may be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) node: Vec<String>,
    /// Make NAME.crt and NAME.key for the client NAME, who can never be a node; may be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) client: Vec<String>,
}

/// The nodes of these stores must not run.
#[derive(Args, Debug)]
pub(crate) struct RecoverOptions {
    /// Store of a node that survives; give every one of them, none of which may run.
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) store: Vec<PathBuf>,
    /// Names of the nodes that are gone for good and will never run on their old disks again.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) lost: Vec<String>,
    /// Do it, and accept that what only the lost disks held is lost; PLAN is the digest that the plan ends with.
    #[arg(long, value_name = "PLAN")]
    pub(crate) accept_data_loss: Option<String>,
    /// Accept too that shards of which no copy is left begin anew, empty.
    #[arg(long, requires = "accept_data_loss")]
    pub(crate) accept_empty_shards: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Options::try_parse_from(line.split_whitespace()).map(|options| options.command)
    }

    #[test]
    fn the_command_line_hangs_together() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_negative_amount_is_no_flag() {
        let command = parse("synod add hits -5 --at 127.0.0.1:1,127.0.0.1:2").expect("valid");
        let Command::Add {
            key,
            amount,
            cluster,
        } = command
        else {
            panic!("add, not {command:?}")
        };
        assert_eq!((key.as_str(), amount, cluster.at.len()), ("hits", -5, 2));
    }

    #[test]
    fn seeds_are_separated_by_commas() {
        let command = parse("synod start --store x --seeds a=h:1,b=h:2 --shards 5 --give-up 9");
        let Command::Start(options) = command.expect("valid") else {
            panic!("start")
        };
        assert_eq!(options.seeds, ["a=h:1", "b=h:2"]);
    }

    #[test]
    fn a_node_describes_itself() {
        let command = parse("synod start --store x --zone a --capacity 2 --role b,c --role d");
        let Command::Start(options) = command.expect("valid") else {
            panic!("start")
        };
        assert_eq!(options.zone.as_deref(), Some("a"));
        assert_eq!((options.capacity, options.roles.len()), (2, 3));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "synod start --store x --found --join 127.0.0.1:1",
            "synod start --store x --join 127.0.0.1:1 --shards 5",
            "synod start --store x --shards 5",
            "synod start --store x --seeds a=h:1 --found",
            "synod start --store x --seeds a=h:1 --join h:1",
            "synod start --store x --found --give-up 5",
            "synod start --store x --ca ca.crt",
            "synod start --store x --found --replace-after -1",
            "synod shards --state well",
            "synod shards 3 --moves",
            "synod move 3 --from n1",
            "synod move x --from n1 --to n2",
            "synod bench --read-share 1.5",
            "synod bench --clients 0",
            "synod start",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
