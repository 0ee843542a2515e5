//! From a checked description to a running node, in the one order that is safe.
//!
//! Directory (lock, start count) -> certificates -> endpoint -> cluster (known, founded, or joined) -> log and
//! checkpoints -> replicas -> gossip, beats, steward. What fails on the way unwinds everything before it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use actix::Actor;
use actix_rt::Arbiter;
use bytes::Bytes;
use synod_consensus::{GroupOptions, LogStore, ReplicaKey};
use synod_membership::{LocalMember, Metadata, SignedRecord, StoreId, Swim, SwimOptions};
use tokio::sync::watch;

use super::beats::{Beats, LastHeard};
use super::builder::{Entrance, NodeBuilder, StartError, is_label, resolve};
use super::calls::{Calls, Desk};
use super::courier::NodeCourier;
use super::enter::{COPIES, enter};
use super::founding::{Holder, Kept, Seats};
use super::gossip::{GossipActor, Learn, RecordSigner, Sight};
use super::inbound::{NodeInbound, Running};
use super::protocol::{Answer, Call};
use super::replicas::{Arbiters, Replicas};
use super::retirements::Retirements;
use super::running::Node;
use super::steward::{Steward, TableSlot};
use crate::evaluation::EvaluatorOptions;
use crate::group::registry::Completions;
use crate::group::{Clock, Counters, Freight, Outbox, Registry, Shared};
use crate::storage::{
    CheckpointError, CheckpointWriter, Checkpoints, IDENTITY_FILE, LogOptions, LogWriter, Partials,
    RealDisk, SegmentedLog, StoreDirectory,
};
use crate::system::{Founding, MemberEntry, SystemState};
use crate::transport::{
    CallError, DevelopmentCa, EndpointKeys, Identity, LocalHello, Transport, TransportOptions,
};
use crate::wire;

/// Entries that each group keeps behind a compaction, in memory: with 256 groups and 1 KiB each, 16 MiB. A replica that
/// was away for longer than they last gets a snapshot, which of a small shard is no larger.
const KEEP_ENTRIES: u64 = 64;
/// Bytes of one snapshot on the way to one peer: four snapshots at once (`group::freight`) take half of the 8 MiB that the bulk lane
/// of a peer holds, and 1 MiB in a round trip of 5 ms, with the receiver's disk in it, is 200 MB/s.
const CHUNK_WINDOW_BYTES: usize = 1 << 20;
/// Patience for one call while joining.
const CALL_PATIENCE: Duration = Duration::from_secs(4);
/// How often an admitted node that hears nobody asks its seeds.
const SEEK_PAUSE: Duration = Duration::from_millis(500);
/// A node that was given seeds asks them at its start even if it misses nobody, and stops when one of them is another
/// cluster's. Later than this the address may have become somebody else's, which is no reason to stop.
const SEEDS_JUDGED: Duration = Duration::from_secs(60);
/// How often it asks while it hears some members and misses others.
const SEEK_REST: Duration = Duration::from_secs(5);
/// File in the store with the addresses of the others, for a restart without `--join`.
pub(crate) const PEERS: &str = "peers";

pub(crate) async fn start(builder: NodeBuilder) -> Result<Node, StartError> {
    let mut endpoint = None;
    let started = launch(builder, &mut endpoint).await;
    if let (Err(_), Some(transport)) = (&started, endpoint) {
        transport.closed().await; // the port is free again
    }
    started
}

/// The start itself. `endpoint` is known to the caller from the moment on that there is one.
async fn launch(
    builder: NodeBuilder,
    endpoint: &mut Option<Transport>,
) -> Result<Node, StartError> {
    let (path, listen) = builder.check()?;
    // What is refused here leaves the directory as it was: a store keeps the name of its first start for ever.
    if builder.entrance == Entrance::Known && !path.join(IDENTITY_FILE).exists() {
        return Err(StartError::NoEntrance);
    }
    let files = builder.certificates.as_ref();
    let presented = files
        .map(|files| Identity::load(&files.ca, &files.certificate, &files.key))
        .transpose()?;
    let default_name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let seats = match &builder.entrance {
        Entrance::Seeds(seeds) => Some(Seats::parse(seeds)?),
        _ => None,
    };
    if let Some(seats) = &seats
        && !path.join(IDENTITY_FILE).exists()
    {
        // Before the name is recorded: a store that cannot be a seed stays as it was.
        let name = builder.name.as_ref().or(default_name.as_ref());
        seats.seat_of(name.map_or("", String::as_str))?;
    }
    let mut directory = match StoreDirectory::open(&path, builder.name.as_deref()) {
        Err(crate::storage::DirectoryError::Identity(
            crate::storage::IdentityError::NameMissing { .. },
        )) => {
            // Checked before it is recorded: a store keeps its name for ever.
            let name = default_name.unwrap_or_default();
            if !is_label(&name) {
                return Err(StartError::BadName { name });
            }
            StoreDirectory::open(&path, Some(&name))?
        }
        opened => opened?,
    };
    crate::recovery::before_start(directory.disk())?;
    let name = directory.identity().name.clone();
    let generation = directory.identity().starts;
    if directory.identity().admission.is_none() && builder.entrance == Entrance::Known {
        return Err(StartError::NoEntrance);
    }
    let identity = match presented {
        Some(identity) => identity,
        None => {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let ca = DevelopmentCa::open(parent.unwrap_or(std::path::Path::new(".")))?;
            ca.check_listener(listen)?;
            ca.node_identity(&name, &path)?
        }
    };
    let key = Bytes::copy_from_slice(identity.public_key().as_bytes());
    let hello = Arc::new(Mutex::new(LocalHello {
        cluster: directory
            .identity()
            .admission
            .as_ref()
            .map(|admission| admission.cluster),
        name: name.clone(),
        store: directory
            .identity()
            .admission
            .as_ref()
            .map(|admission| admission.store),
        generation,
    }));
    let inbound = Arc::new(NodeInbound::default());
    let transport = Transport::bind(
        TransportOptions {
            listen: Some(listen),
            identity: identity.clone(),
            hello: hello.clone(),
            keys: EndpointKeys::load_or_create(&directory.keys())?,
            limits: crate::transport::Limits::default(),
        },
        inbound.clone(),
    )?;
    *endpoint = Some(transport.clone());
    let mut unwind = Unwind {
        armed: true,
        transport: transport.clone(),
        arbiters: Vec::new(),
        log: None,
        checkpoints: None,
    };

    let mut log = SegmentedLog::open(Box::new(directory.log()?), LogOptions::default())?;
    let joiner = MemberEntry {
        name: name.clone(),
        key: key.clone(),
        capacity: 1,
        zone: None,
        nonce: 0,
    };
    let others = seats
        .map(|seats| seats.addresses_of_others(&name))
        .unwrap_or_default();
    let place = enter(
        &builder,
        &mut directory,
        &mut log,
        &transport,
        joiner,
        &inbound,
    )
    .await?;
    {
        let mut hello = crate::group::lock(&hello);
        hello.cluster = Some(place.admission.cluster);
        hello.store = Some(place.admission.store);
    }
    let founding = match place.kept.as_ref().and_then(Kept::founding) {
        Some(founding) => founding?,
        None => Founding {
            cluster: place.admission.cluster,
            sharding: place.admission.sharding,
            copies: COPIES,
            name: name.clone(),
            key: key.clone(),
            others: Vec::new(),
        },
    };
    let store = place.admission.store;
    if log.replicas().is_empty() {
        return Err(StartError::LogGone {
            store,
            path: path.clone(),
        });
    }
    let recovered = recover(&log)?;

    let mut checkpoints = Checkpoints::open(Box::new(directory.state()?))?;
    let registry = Arc::new(Registry::default());
    unwind.arbiters = (0..builder.arbiters * 2).map(|_| Arbiter::new()).collect();
    let (consensus, entity): (Vec<_>, Vec<_>) = {
        let handles: Vec<_> = unwind.arbiters.iter().map(Arbiter::handle).collect();
        let (consensus, entity) = handles.split_at(builder.arbiters);
        (consensus.to_vec(), entity.to_vec())
    };
    let sinks = || -> Vec<Box<Completions>> {
        consensus
            .iter()
            .map(|_| Box::new(Completions(registry.clone())))
            .collect()
    };
    // A crash may come between the end of a replica's log and that of its checkpoint.
    checkpoints.retain(|key| recovered.iter().any(|(known, _)| *known == key));
    let mut checkpoints_on_disk = Vec::with_capacity(recovered.len());
    for (key, found) in &recovered {
        // E28: where the log was compacted a checkpoint was durable once.
        let restored = checkpoints.restore(*key, found.base.position.index);
        checkpoints_on_disk.push(match restored {
            // One replica's state is gone; its group has it elsewhere.
            damaged @ Err(CheckpointError::Damaged { .. } | CheckpointError::Missing { .. }) => {
                damaged
            }
            loaded => Ok(loaded?),
        });
    }
    let log_watch = log.watch();
    let log = LogWriter::start(
        Box::new(log),
        sinks().into_iter().map(|sink| sink as _).collect(),
    )?;
    let checkpoints = CheckpointWriter::start(
        checkpoints,
        sinks().into_iter().map(|sink| sink as _).collect(),
    )?;

    let known: Vec<_> = recovered.iter().map(|(key, _)| *key).collect();
    let partials = Partials::open(Box::new(directory.state()?), |key| known.contains(&key))?;
    let freight = Freight::start(
        registry.clone(),
        checkpoints.clone(),
        partials,
        known,
        builder.snapshot_rate,
    )?;

    unwind.log = Some(log.clone());
    unwind.checkpoints = Some(checkpoints.clone());
    let (fatal, _) = watch::channel(None);
    let (changed, _) = watch::channel(0);
    let shared = Arc::new(Shared {
        store,
        sharding: place.admission.sharding,
        clock: Clock::start(),
        transport: transport.clone(),
        log,
        log_watch,
        checkpoints,
        freight,
        registry: registry.clone(),
        system: Arc::new(Mutex::new(SystemState::default())),
        changed,
        reports: Mutex::default(),
        lost: Mutex::default(),
        system_durable: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        counters: Counters::default(),
        fatal,
    });
    for (sink, arbiter) in consensus.iter().enumerate() {
        let shared = shared.clone();
        arbiter.spawn_fn(move || Outbox::install(shared, sink));
    }
    let seed = rand::random();
    let evaluation = EvaluatorOptions {
        node: name.clone(),
        ..EvaluatorOptions::default()
    };
    let mut replicas = Replicas {
        shared: shared.clone(),
        arbiters: Arbiters {
            consensus: consensus.clone(),
            entity,
        },
        options: GroupOptions {
            keep_entries: KEEP_ENTRIES,
            chunk_window_bytes: CHUNK_WINDOW_BYTES,
            lease_reads: builder.lease_reads,
            ..GroupOptions::default()
        }
        .check()
        .expect("the defaults hang together"),
        evaluation: evaluation.check().expect("the defaults hang together"),
        kinds: Arc::new(builder.kinds.clone()),
        seed,
        disk: RealDisk::new(&path).map_err(|error| StartError::Internal {
            reason: error.to_string(),
        })?,
        kept: BTreeMap::new(),
        retired: Retirements::default(),
    };
    let on_disk = recovered.into_iter().zip(checkpoints_on_disk);
    replicas.bring_back(
        on_disk
            .map(|((key, recovered), checkpoint)| (key, recovered, checkpoint))
            .collect(),
    )?;

    let keys = inbound.keys.clone();
    keys.set([(store, key.clone())]);
    let sight = Sight::default();
    let me = LocalMember {
        store: StoreId::new(store),
        name: name.clone(),
        generation,
        addresses: vec![transport.local_addr()],
        metadata: Metadata {
            capacity: 1,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ..Metadata::default()
        },
    };
    let mine = synod_membership::Record {
        store: me.store,
        name: me.name.clone(),
        generation,
        incarnation: 0,
        state: synod_membership::MemberState::Alive,
        addresses: me.addresses.clone(),
        metadata: me.metadata.clone(),
    }
    .sign(&RecordSigner(identity.signer()))
    .map_err(|error| StartError::Internal {
        reason: error.to_string(),
    })?;
    let swim_options = if listen.ip().is_loopback() {
        SwimOptions::local()
    } else {
        SwimOptions::lan()
    };
    let swim = Swim::new(
        swim_options.check().expect("the presets hang together"),
        me,
        Box::new(RecordSigner(identity.signer())),
        seed,
        shared.clock.now(),
    )
    .map_err(|error| StartError::Internal {
        reason: error.to_string(),
    })?;
    let heard = Arc::new(LastHeard::default());
    let beats = Beats::start(shared.clone(), heard.clone(), sight.clone())?;
    // From here on nothing fails: these live on the caller's thread, where nothing unwinds them.
    let gossip = GossipActor::new(swim, shared.clone(), keys.clone(), sight.clone()).start();
    if let Some(admitted) = &place.admitted {
        keys.set(admitted.keys.clone());
        gossip.do_send(super::gossip::Admitted(
            admitted.keys.iter().map(|(store, _)| *store).collect(),
        ));
        gossip.do_send(Learn(admitted.records.clone()));
    }
    let table = TableSlot::default();
    let courier = NodeCourier::start(shared.clone(), table.clone(), seed);
    if !founding.others.is_empty() && crate::group::lock(&shared.system).founding.is_none() {
        // Until the log says who is a member, the founders are.
        let founders = founding.members();
        gossip.do_send(super::gossip::Admitted(founders.keys().copied().collect()));
        keys.set(
            founders
                .into_iter()
                .map(|(store, member)| (store, member.key)),
        );
    }
    let steward = Steward::new(
        shared.clone(),
        replicas,
        gossip.clone(),
        keys.clone(),
        sight.clone(),
        table.clone(),
        courier.clone(),
        founding,
    )
    .start();
    let desk = Desk {
        shared: shared.clone(),
        gossip: gossip.clone(),
        steward: steward.clone(),
        keys,
        sight: sight.clone(),
        table: table.clone(),
        name: name.clone(),
        generation,
        founding: Mutex::new(Holder::new(&name, place.admission.cluster, place.kept)),
    };
    let desk = Arc::new(desk);
    let running = Running {
        shared: shared.clone(),
        gossip: gossip.clone(),
        steward: steward.clone(),
        heard,
        calls: Calls::start(desk.clone()),
        courier: Arc::downgrade(&courier),
    };
    let first = inbound.running.set(running).is_ok();
    assert!(first, "the inbound was made above and starts once");
    let seeds = match &builder.entrance {
        Entrance::Join(addresses) => addresses.clone(),
        Entrance::Seeds(_) => others,
        Entrance::Found | Entrance::Known => Vec::new(),
    };
    let seeker = actix_rt::spawn(seek(
        shared.clone(),
        gossip.clone(),
        sight,
        seeds,
        mine,
        path.clone(),
    ));
    let arbiters = unwind.keep();
    tracing::info!(node = %name, store, address = %transport.local_addr(), "node started");
    Ok(Node::new(
        desk, courier, arbiters, beats, directory, gossip, seeker,
    ))
}

/// What a start that fails half-way leaves running, unless this ends it: the store's lock goes with the error, so nothing
/// may still write there.
struct Unwind {
    armed: bool,
    transport: Transport,
    arbiters: Vec<Arbiter>,
    log: Option<LogWriter>,
    checkpoints: Option<CheckpointWriter>,
}

impl Unwind {
    /// The start succeeded: everything belongs to the node now.
    fn keep(mut self) -> Vec<Arbiter> {
        self.armed = false;
        std::mem::take(&mut self.arbiters)
    }
}

impl Drop for Unwind {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        for arbiter in self.arbiters.drain(..) {
            let _panicked = arbiter.join();
        }
        if let Some(log) = &self.log {
            log.close();
        }
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.close();
        }
        self.transport.close();
    }
}

/// Everything that the log knows, by replica.
fn recover(
    log: &SegmentedLog,
) -> Result<Vec<(ReplicaKey, synod_consensus::Recovered)>, StartError> {
    let mut recovered = Vec::new();
    for key in log.replicas() {
        let found = log.recover(key).map_err(|error| StartError::Internal {
            reason: error.to_string(),
        })?;
        if let Some(found) = found {
            recovered.push((key, found));
        }
    }
    Ok(recovered)
}

/// Looks for members that gossip does not see alive: introduces this node at its seeds and at the addresses of the last
/// start, for ever and at a bounded rate, until everybody was found (M32, E27). Keeps a record of where the others are.
async fn seek(
    shared: Arc<Shared>,
    gossip: actix::Addr<GossipActor>,
    sight: Sight,
    seeds: Vec<String>,
    mine: SignedRecord,
    path: std::path::PathBuf,
) {
    let mut kept = Addresses::load(&path);
    let call = wire::encode(&Call::Introduce { record: mine });
    let mut asked: Option<Duration> = None;
    let mut judged = seeds.is_empty();
    let mut warned = false;
    loop {
        let seen = sight.all();
        let mut known = kept.clone();
        for (store, member) in seen.iter().filter(|(store, _)| **store != shared.store) {
            known.0.insert(*store, member.addresses.clone());
        }
        if known != kept {
            // A hint for the next start; without it the node needs `--join` again.
            if let Err(error) = known.save(&path) {
                tracing::warn!(%error, "the addresses of the other nodes could not be kept");
            }
            kept = known;
        }
        let alive = sight.alive();
        let members: Vec<u64> = crate::group::lock(&shared.system)
            .members
            .keys()
            .copied()
            .collect();
        let hears_somebody = alive.iter().any(|store| *store != shared.store);
        let misses_somebody =
            members.is_empty() || members.iter().any(|store| !alive.contains(store));
        let pause = if hears_somebody {
            SEEK_REST
        } else {
            SEEK_PAUSE
        };
        let now = shared.clock.now();
        let unjudged = !judged && now < SEEDS_JUDGED;
        if (misses_somebody || unjudged)
            && asked.is_none_or(|last| now.saturating_sub(last) >= pause)
        {
            asked = Some(now);
            let missing = kept.0.iter().filter(|(store, _)| !alive.contains(store));
            let mut addresses: Vec<SocketAddr> = missing.flat_map(|(_, at)| at).copied().collect();
            let mut named = Vec::new();
            for seed in &seeds {
                named.extend(resolve(seed).await);
            }
            addresses.extend(&named);
            let (mut strangers, mut found_ours) = (Vec::new(), hears_somebody);
            for address in addresses {
                if address == shared.transport.local_addr() {
                    continue;
                }
                let answer = shared
                    .transport
                    .call(address, call.clone(), CALL_PATIENCE)
                    .await;
                match answer.map(|answer| wire::decode(&answer)) {
                    Ok(Ok(Answer::View { records })) => {
                        judged |= named.contains(&address);
                        found_ours = true;
                        gossip.do_send(Learn(records));
                    }
                    // A member says so, by its system log (M21).
                    Ok(Ok(Answer::GivenUp { reason })) => shared.fail(&reason),
                    // Another cluster's node, or one of another CA: whoever named it as a seed meant something else.
                    Err(CallError::Refused { reason, .. })
                        if now < SEEDS_JUDGED && named.contains(&address) =>
                    {
                        strangers.push(format!(
                            "--join or --seeds names {address}, where this store does not belong: {reason}"
                        ));
                    }
                    _ => {}
                }
            }
            // In a cluster that has moved on an old template may name somebody else's node, too.
            let named_ours = named
                .iter()
                .filter(|at| **at != shared.transport.local_addr());
            match strangers.first() {
                Some(reason) if !found_ours && strangers.len() == named_ours.count() => {
                    shared.fail(reason);
                }
                Some(reason) if !warned => {
                    tracing::warn!(reason, "going on with those who are of this cluster");
                    (judged, warned) = (true, true);
                }
                _ => {}
            }
        }
        actix_rt::time::sleep(SEEK_PAUSE).await;
    }
}

/// Where other stores were last seen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Addresses(BTreeMap<u64, Vec<SocketAddr>>);

impl Addresses {
    /// One line per store: its id, then its addresses. What cannot be read is no hint.
    fn load(store: &Path) -> Self {
        let text = std::fs::read_to_string(store.join(PEERS)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let store = words.next()?.parse().ok()?;
            Some((store, words.filter_map(|word| word.parse().ok()).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whole or not at all; not synced, for it is only a hint.
    fn save(&self, store: &Path) -> std::io::Result<()> {
        let line = |(store, addresses): (&u64, &Vec<SocketAddr>)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{store} {}", addresses.join(" "))
        };
        let text: Vec<String> = self.0.iter().map(line).collect();
        let new = store.join("peers.new");
        std::fs::write(&new, text.join("\n"))?;
        std::fs::rename(&new, store.join(PEERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_restart_and_garbage_is_no_hint() {
        let directory = tempfile::tempdir().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses(BTreeMap::from([(2, vec![at(1), at(2)]), (3, vec![at(3)])]));
        addresses.save(directory.path()).unwrap();
        assert_eq!(Addresses::load(directory.path()), addresses);
        std::fs::write(directory.path().join(PEERS), "x y\n7 127.0.0.1:9 z").unwrap();
        assert_eq!(
            Addresses::load(directory.path()).0,
            BTreeMap::from([(7, vec![at(9)])])
        );
        assert_eq!(Addresses::load(Path::new("/nowhere")), Addresses::default());
    }
}
