//! What a user says before a node starts, and why it may not start.

use core::time::Duration;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::Node;
use super::founding::{Seats, SeatsError};
use crate::entity::{Entity, KindError, KindFactory};
use crate::group::OVERLAY_BYTES;
use crate::group::freight::BYTES_PER_SECOND;
use crate::storage::{
    CheckpointError, DirectoryError, IdentityError, OpenError, RowsError, SealedError,
};
use crate::system::{BUILD_LEVEL, Description, DescriptionError, Level, check_roles};
use crate::transport::{BindError, CaError, IdentityError as CertificateError};

/// How a store without a cluster comes to one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Entrance {
    /// The store was admitted before.
    #[default]
    Known,
    /// Found a cluster of this store alone.
    Found,
    /// Ask at these addresses to be let in; never founds.
    Join(Vec<String>),
    /// Found with these seeds, or join the cluster of one that has data; this node is one of them.
    Seeds(Vec<String>),
}

/// A description that may be started, with everything in it parsed.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) store: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) entrance: CheckedEntrance,
}

/// An [`Entrance`] that can be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CheckedEntrance {
    Known,
    Found,
    Join(Vec<String>),
    Seeds(Seats),
}

/// Certificate files of a node that does not use the development CA.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Describes a node; [`start`](NodeBuilder::start) checks everything once and starts it.
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    pub(crate) store: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) entrance: Entrance,
    pub(crate) shards: u32,
    pub(crate) certificates: Option<CertificateFiles>,
    pub(crate) kinds: Vec<KindFactory>,
    pub(crate) give_up: Option<Duration>,
    pub(crate) arbiters: usize,
    pub(crate) lease_reads: bool,
    pub(crate) snapshot_rate: u64,
    pub(crate) overlay_bytes: usize,
    pub(crate) reserve_bytes: u64,
    /// Zero: never.
    pub(crate) replace_after: Duration,
    pub(crate) description: Description,
    pub(crate) roles: Vec<String>,
    /// What this build knows.
    pub(crate) build: Level,
}

/// Twice a file of the log: the next one, and what checkpoints under way still write.
const RESERVE_BYTES: u64 = 128 << 20;

/// Silence after which a member's copies are rebuilt elsewhere, unless told otherwise: far above a restart or a new kernel, for a
/// rebuilt node is paid for in bytes.
const REPLACE_AFTER: Duration = Duration::from_secs(600);
/// Shards of a cluster unless its founder says otherwise.
const SHARDS: u32 = 256;
/// Most shards a cluster may have: each costs a group on three nodes.
const SHARDS_MAX: u32 = 65_536;

impl NodeBuilder {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            store: None,
            name: None,
            listen: None,
            entrance: Entrance::Known,
            shards: SHARDS,
            certificates: None,
            kinds: Vec::new(),
            give_up: None,
            arbiters: (cores / 2).clamp(1, 8),
            lease_reads: cfg!(target_os = "linux"),
            snapshot_rate: BYTES_PER_SECOND,
            overlay_bytes: OVERLAY_BYTES,
            reserve_bytes: RESERVE_BYTES,
            replace_after: REPLACE_AFTER,
            description: Description {
                zone: None,
                capacity: 1,
            },
            roles: Vec::new(),
            build: BUILD_LEVEL,
        }
    }

    /// The directory that keeps this node's part of the data. Made when it does not exist.
    pub fn store(mut self, path: impl AsRef<Path>) -> Self {
        self.store = Some(path.as_ref().to_owned());
        self
    }

    /// Bytes per second of snapshots that this node sends to replicas whose logs are too far behind, all together. Default 64 MiB/s:
    /// half of a gigabit link, so that the other half stays for commands.
    pub fn snapshot_rate(mut self, bytes_per_second: u64) -> Self {
        self.snapshot_rate = bytes_per_second;
        self
    }

    /// How many bytes of entities' states may wait in memory, all shards together, before the largest are written to the rows on disk.
    /// Default 48 MiB; at least 64 KiB.
    #[must_use]
    pub fn overlay_bytes(mut self, bytes: usize) -> Self {
        self.overlay_bytes = bytes.max(64 << 10);
        self
    }

    /// How many bytes of its disk the store keeps for the end of it. When less than as much is free beside them, they are given back,
    /// so that what is under way is finished; the node refuses commands, takes no entries and no copies, and others lead, until three
    /// times as much is free. Default 128 MiB; zero: nothing is kept, and a node whose disk is full stops.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// How long a member may be silent before the others rebuild its copies among themselves, if they are enough to hold them all;
    /// by default 10 minutes, zero for never. Back earlier, it catches up; back later, it gives up what it had and takes shards
    /// anew. The leader of the system group counts, by its own clock and from its election on, so every node should have the same.
    pub fn replace_after(mut self, silence: Duration) -> Self {
        self.replace_after = silence;
        self
    }

    /// The node's name, unique in the cluster. Recorded in the store at its first start; by default the directory's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where other nodes and clients reach this one, as `host:port`; port 0 takes any free one.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// An empty store founds a cluster of its own. A store that belongs to a cluster starts in that one.
    pub fn found(mut self) -> Self {
        self.entrance = Entrance::Found;
        self
    }

    /// An empty store asks at these addresses to be let in, and never founds. A store that belongs to a cluster also
    /// looks for the others here.
    pub fn join<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.entrance = Entrance::Join(addresses.into_iter().map(Into::into).collect());
        self
    }

    /// An empty store founds a cluster together with these nodes, each written `NAME=HOST:PORT`; this node is one of them. All
    /// of them start with the same list, in any order and at any time: when every one has answered, they found one cluster and
    /// all hold it from its first entry on. When one of them has data of a cluster already, this node joins that. A store that
    /// belongs to a cluster also looks for the others here.
    ///
    /// Choose this where nodes start by themselves from one template, and [`found`](Self::found) where a person starts the first.
    pub fn seeds<A: Into<String>>(mut self, seeds: impl IntoIterator<Item = A>) -> Self {
        self.entrance = Entrance::Seeds(seeds.into_iter().map(Into::into).collect());
        self
    }

    /// Number of shards of the cluster that [`found`](Self::found) or [`seeds`](Self::seeds) founds, for ever; 1 to 65,536, by
    /// default 256. Of several seeds, the number of whichever proposes first counts.
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// PEM files of the cluster's CA, this node's certificate and its key. Without them a development CA in the store's
    /// parent directory is used, on loopback addresses only.
    pub fn certificates(
        mut self,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.certificates = Some(CertificateFiles {
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
        });
        self
    }

    /// Hosts entities of this kind. Every node of a cluster should host the same kinds.
    pub fn entity<E: Entity>(mut self) -> Self {
        self.kinds.push(KindFactory::of::<E>());
        self
    }

    /// Stop asking to be let in, or waiting for other seeds, after this long; by default never.
    pub fn give_up_joining_after(mut self, patience: Duration) -> Self {
        self.give_up = Some(patience);
        self
    }

    /// Threads for Raft, and as many for entities. By default half the cores, between 1 and 8.
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.arbiters = arbiters.clamp(1, 64);
        self
    }

    /// Whether leaders here answer queries by their lease, for up to 336 ms after a majority last answered them, without asking it
    /// again. That is right as long as no two nodes' clocks run more than 16 % apart, be it by an NTP daemon that sets them
    /// right, and as long as they go on while a machine is suspended: on Linux they do, but a virtual machine may be stopped
    /// without its clock noticing (a live migration, a snapshot of its memory). With `false` queries rest on no clock and cost a
    /// round trip to a majority. By default true on Linux, false elsewhere; nodes may differ.
    pub fn lease_reads(mut self, lease_reads: bool) -> Self {
        self.lease_reads = lease_reads;
        self
    }

    /// What fails together with this node: a rack, a room, a data centre. The copies of each shard lie in as many zones as there
    /// are. Named at every start: another zone than before moves copies, none takes the former one back. 1 to 64 letters, digits,
    /// `-`, `_` and `.`; by default none, which is a zone of its own.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.description.zone = Some(zone.into());
        self
    }

    /// How much this node holds and leads, relative to the others; 1 to 64, by default 1. Told at every start, as the zone is.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.description.capacity = capacity;
        self
    }

    /// What this node is for, shown by every node's status; nothing is decided by it. At most 8, of 1 to 32 letters, digits, `-`, `_`
    /// and `.` each.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Passes for an older build: it announces this level to the cluster, and knows no command above it. For tests of clusters of
    /// several builds.
    #[doc(hidden)]
    pub fn build_level(mut self, level: u32) -> Self {
        self.build = Level::new(level).min(BUILD_LEVEL);
        self
    }

    /// Starts the node. Must run inside an actix system. On an error nothing is left running.
    pub async fn start(self) -> Result<Node, StartError> {
        super::start::start(self).await
    }

    pub(crate) fn check(&self) -> Result<Checked, StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAborts);
        }
        let store = self.store.clone().ok_or(StartError::NoStore)?;
        let listen = self.listen.as_deref().ok_or(StartError::NoListen)?;
        let resolved = listen.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let address = resolved
            .unwrap_or_default()
            .into_iter()
            .next()
            .ok_or_else(|| StartError::BadAddress {
                address: listen.to_owned(),
            })?;
        if self.certificates.is_none() && !address.ip().is_loopback() {
            return Err(BindError::DevelopmentBeyondLoopback { address }.into());
        }
        let name = self.name.as_deref();
        if let Some(name) = name.filter(|name| !is_label(name)) {
            return Err(StartError::BadName {
                name: name.to_owned(),
            });
        }
        if self.shards == 0 || self.shards > SHARDS_MAX {
            return Err(StartError::BadShards {
                shards: self.shards,
            });
        }
        self.description.check()?;
        check_roles(&self.roles)?;
        let entrance = match &self.entrance {
            Entrance::Known => CheckedEntrance::Known,
            Entrance::Found => CheckedEntrance::Found,
            Entrance::Seeds(seeds) => CheckedEntrance::Seeds(Seats::parse(seeds)?),
            Entrance::Join(addresses) => {
                if addresses.is_empty() {
                    return Err(StartError::NoEntrance);
                }
                if let Some(bad) = addresses.iter().find(|address| !address.contains(':')) {
                    return Err(StartError::BadAddress {
                        address: bad.clone(),
                    });
                }
                CheckedEntrance::Join(addresses.clone())
            }
        };
        crate::entity::KindTable::build(&self.kinds)?;
        Ok(Checked {
            store,
            listen: address,
            entrance,
        })
    }
}

/// A name is one label of a DNS name, for it stands in the node's certificate (RFC 1123, 2.1).
pub(crate) fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Addresses that `host:port` stands for now; none when it cannot be resolved now. Never blocks the arbiter.
pub(crate) async fn resolve(address: &str) -> Vec<SocketAddr> {
    let resolved = tokio::net::lookup_host(address).await;
    resolved.map(Iterator::collect).unwrap_or_default()
}

/// Why a node did not start. Nothing was left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No directory was given.
    #[error("no store was given: pass the directory that keeps this node's data (--store DIR)")]
    NoStore,
    /// No address was given.
    #[error("no address to listen on was given: pass one (--listen HOST:PORT)")]
    NoListen,
    /// An unsafe recovery of this store was begun and not finished.
    #[error(transparent)]
    Recovery(#[from] crate::recovery::JournalError),
    /// Neither an address nor a name that resolves.
    #[error("`{address}` is no address that resolves: write HOST:PORT")]
    BadAddress {
        /// As given.
        address: String,
    },
    /// No label of a DNS name.
    #[error(
        "`{name}` is no name for a node: use 1 to 63 of a-z, 0-9 and '-', not at the ends (--name NAME)"
    )]
    BadName {
        /// As given, or the directory's name.
        name: String,
    },
    /// Out of range.
    #[error("a cluster has 1 to 65536 shards, not {shards}")]
    BadShards {
        /// As given.
        shards: u32,
    },
    /// A zone, a capacity or a role that cannot be.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// The store is empty, and nobody said how it comes to a cluster.
    #[error(
        "the store is empty: pass --join ADDRESS of any member to join a cluster, --seeds NAME=ADDRESS,.. of all first nodes to found one with them, or --found to found one alone"
    )]
    NoEntrance,
    /// The list of seeds cannot be.
    #[error(transparent)]
    Seeds(#[from] SeatsError),
    /// A word is never taken back.
    #[error(
        "this store promised to found a cluster with the seeds {list}: start it with --seeds of these again, or remove its directory if they hold no data"
    )]
    FoundingBegun {
        /// Whom it promised.
        list: String,
    },
    /// No cluster came of the seeds, for as long as the node was told to try.
    #[error("no cluster was found or founded within {patience:?}: {reason}")]
    FoundingTimedOut {
        /// How long.
        patience: Duration,
        /// What was in the way.
        reason: String,
    },
    /// A small file of the store cannot be read.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A founder that lost its identity may have voted.
    #[error(
        "the store {path} has data of a cluster, and the file `identity` in it is gone: restore it, or remove the whole directory and join as a new store under another name"
    )]
    IdentityGone {
        /// Its directory.
        path: PathBuf,
    },
    /// A panic of a handler would end the process.
    #[error(
        "this program is built with panic = \"abort\", so one handler's panic would end the node: build it with \"unwind\""
    )]
    PanicAborts,
    /// Two entities claim one kind.
    #[error(transparent)]
    Kinds(#[from] KindError),
    /// The store cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store is somebody else's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The development CA cannot be used.
    #[error(transparent)]
    DevelopmentCa(#[from] CaError),
    /// Certificate files cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The endpoint could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log cannot be opened.
    #[error("the log of the store cannot be opened: {0}")]
    Log(#[from] OpenError),
    /// The checkpoints cannot be opened.
    #[error("the checkpoints of the store cannot be opened: {0}")]
    Checkpoints(#[from] CheckpointError),
    /// The rows of the shards' states cannot be opened. When the disk refuses, mend that and start again. Only when they are damaged: if
    /// other nodes have copies, the node gets them again with an empty store; a copy that is the only one is for `synod recover`.
    #[error("the states of the store cannot be opened: {0}")]
    Rows(#[from] RowsError),
    /// A replica on disk cannot be started.
    #[error(transparent)]
    Replica(#[from] super::replicas::ReplicaError),
    /// The cluster said no.
    #[error("the cluster does not let this store in: {reason}")]
    NotAdmitted {
        /// Its sentence.
        reason: String,
    },
    /// Nobody let this store in, for as long as it was told to try.
    #[error("nobody at {addresses} let this store in within {patience:?}: {reason}")]
    JoinTimedOut {
        /// Where it asked.
        addresses: String,
        /// How long.
        patience: Duration,
        /// The last answer or error.
        reason: String,
    },
    /// The log of an admitted store is gone.
    #[error(
        "the log of store {store} in {path} is gone although the store belongs to a cluster: restore it, or remove the whole directory and join as a new store under another name"
    )]
    LogGone {
        /// Its id.
        store: u64,
        /// Its directory.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A newer build ran here.
    #[error("the store {path} cannot be started by this build: {reason}")]
    BuildTooOld {
        /// Its directory.
        path: PathBuf,
        /// What this build does not know.
        reason: String,
    },
    /// A part of the node ended while it started.
    #[error("cannot start: {reason}")]
    Internal {
        /// What.
        reason: String,
    },
}
