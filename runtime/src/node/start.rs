//! From a checked description to a running node, in the one order that is safe.
//!
//! Directory (lock, start count) -> certificates -> endpoint -> cluster (known, founded, or joined) -> log and
//! checkpoints -> replicas -> gossip, beats, steward. What fails on the way unwinds everything before it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use actix::Actor;
use actix_rt::Arbiter;
use bytes::Bytes;
use synod_consensus::claims::{Claims, ClaimsOptions};
use synod_consensus::{GroupOptions, LogStore, ReplicaKey};
use synod_membership::{LocalMember, Metadata, StoreId, Swim, SwimOptions, Versions};
use tokio::sync::watch;

use super::addresses::{Addresses, keep};
use super::beats::{self, Beats, LastHeard};
use super::builder::{Checked, CheckedEntrance, NodeBuilder, StartError, is_label};
use super::calls::{Calls, Desk};
use super::courier::NodeCourier;
use super::enter::{COPIES, enter};
use super::founding::{Holder, Kept};
use super::gate;
use super::gossip::{GossipActor, Learn, RecordSigner};
use super::inbound::{NodeInbound, Running};
use super::lookout::look_out;
use super::pulse::Pulse;
use super::replicas::{self, Replicas, kept_of};
use super::running::Node;
use super::sight::Sight;
use super::silence::SILENT_AFTER;
use super::steward::{Steward, TableSlot};
use crate::evaluation::EvaluatorOptions;
use crate::group::registry::Completions;
use crate::group::{Clock, Counters, Evaluators, Freight, Outbox, Overlays, Registry, Shared};
use crate::storage::{
    CheckpointError, CheckpointWriter, Checkpoints, IDENTITY_FILE, LogOptions, LogWriter, Partials,
    RealDisk, SegmentedLog, StateRows, StoreDirectory, forget_look,
};
use crate::system::{Founding, MemberEntry, SystemState};
use crate::transport::{
    DevelopmentCa, EndpointKeys, Identity, LocalHello, Transport, TransportOptions,
};

/// Bytes of log behind their compactions that the groups of all shards together keep on a node, in memory too. With less a node that was
/// away for a moment would need whole states where some entries do: a few hundred of them, one after the other, and until then it is no
/// use for a majority. (64 entries of each group were too few for two seconds of load: where another node was killed right after,
/// commands of some shards waited for 1.4 s.)
const KEEP_BYTES: usize = 32 << 20;

/// One shard's part of them: no less than some tens of small entries, no more than a mebibyte.
fn keep_bytes(shards: u32) -> usize {
    (KEEP_BYTES / shards.max(1) as usize).clamp(16 << 10, 1 << 20)
}

/// Heartbeats without anything to do before a shard's group rests: two seconds.
const REST_AFTER: u16 = 4;
/// How soon members learn what the system group committed. Its entries are few, and each step of a copy's way waits for its node to learn
/// one.
const SYSTEM_NOTICE: Duration = Duration::from_millis(10);
/// Bytes of one snapshot on the way to one peer: four snapshots at once (`group::freight`) take half of the 8 MiB that the bulk lane
/// of a peer holds, and 1 MiB in a round trip of 5 ms, with the receiver's disk in it, is 200 MB/s.
const CHUNK_WINDOW_BYTES: usize = 1 << 20;
/// Largest state of one shard that is copied. It travels from disk to disk; what a sender made too much of would fill the receiver's.
const SNAPSHOT_BYTES: usize = 16 << 30;

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
    let Checked {
        store: path,
        listen,
        entrance,
    } = builder.check()?;
    // What is refused here leaves the directory as it was: a store keeps the name of its first start for ever.
    if entrance == CheckedEntrance::Known && !path.join(IDENTITY_FILE).exists() {
        return Err(StartError::NoEntrance);
    }
    let files = builder.certificates.as_ref();
    let presented = files
        .map(|files| Identity::load(&files.ca, &files.certificate, &files.key))
        .transpose()?;
    let default_name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    if let CheckedEntrance::Seeds(seats) = &entrance
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
    if directory.identity().admission.is_none() && entrance == CheckedEntrance::Known {
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

    let reserve = directory.keep_reserve(builder.reserve_bytes)?;
    let mut log = SegmentedLog::open(Box::new(directory.log()?), LogOptions::default())?;
    let joiner = MemberEntry {
        name: name.clone(),
        key: key.clone(),
        capacity: builder.description.capacity,
        zone: builder.description.zone.clone(),
        nonce: 0,
        level: builder.build,
        described: 0,
    };
    let place = enter(
        &builder,
        &entrance,
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
    forget_look(&directory.rows())?;
    let rows = StateRows::open(directory.rows())?;
    rows.retain(|key| recovered.iter().any(|(known, _)| *known == key))?;
    let mut kept_on_disk = Vec::with_capacity(recovered.len());
    for (key, found) in &recovered {
        let kept = match kept_of(&checkpoints, &rows, *key, found.base.position.index) {
            // One replica's state is gone; its group has it elsewhere.
            gone @ Err(CheckpointError::Damaged { .. } | CheckpointError::Missing { .. }) => gone,
            kept => Ok(kept?),
        };
        let whole = match &kept {
            Ok(Some(replicas::Kept::State(checkpoint))) => Some(checkpoint),
            _ => None,
        };
        gate::check(builder.build, *key, found, whole).map_err(|reason| {
            StartError::BuildTooOld {
                path: path.clone(),
                reason,
            }
        })?;
        kept_on_disk.push(kept);
    }
    let log_watch = log.watch();
    let log = LogWriter::start(
        Box::new(log),
        sinks().into_iter().map(|sink| sink as _).collect(),
    )?;
    let checkpoints = CheckpointWriter::start_with(
        checkpoints,
        Some(rows),
        sinks().into_iter().map(|sink| sink as _).collect(),
    )?;

    let known: Vec<_> = recovered.iter().map(|(key, _)| *key).collect();
    let partials = Partials::open(Box::new(directory.state()?), |key| known.contains(&key))?;
    let overlays = Arc::new(Overlays::new(builder.overlay_bytes));
    let freight = Freight::start(
        registry.clone(),
        checkpoints.clone(),
        partials,
        known,
        builder.snapshot_rate,
        overlays.clone(),
    )?;

    unwind.log = Some(log.clone());
    unwind.checkpoints = Some(checkpoints.clone());
    let (fatal, _) = watch::channel(None);
    let (changed, _) = watch::channel(0);
    // Of beats there is one rhythm, whatever lives by it.
    let claims = ClaimsOptions {
        interval: beats::INTERVAL,
        silent_after: SILENT_AFTER,
        ..ClaimsOptions::default()
    };
    let shared = Arc::new(Shared {
        store,
        build: builder.build,
        sharding: place.admission.sharding,
        clock: Clock::start(),
        transport: transport.clone(),
        log,
        log_watch,
        checkpoints,
        overlays,
        freight,
        registry: registry.clone(),
        claims: Mutex::new(Claims::new(claims, generation)),
        system: Arc::new(Mutex::new(SystemState::default())),
        changed,
        reports: Mutex::default(),
        lost: Mutex::default(),
        system_durable: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        degraded: AtomicBool::new(false),
        counters: Counters::default(),
        fatal,
    });
    for (sink, arbiter) in consensus.iter().enumerate() {
        let shared = shared.clone();
        arbiter.spawn_fn(move || Outbox::install(shared, sink));
    }
    let group_options = |rest_after, commit_notice, keep_bytes| {
        let options = GroupOptions {
            commit_notice,
            keep_entries: u64::MAX, // their bytes alone count
            keep_bytes,
            chunk_window_bytes: CHUNK_WINDOW_BYTES,
            snapshot_bytes: SNAPSHOT_BYTES,
            lease_reads: builder.lease_reads,
            rest_after,
            ..GroupOptions::default()
        };
        options.check().expect("the defaults hang together")
    };
    let seed = rand::random();
    let evaluation = EvaluatorOptions {
        node: name.clone(),
        ..EvaluatorOptions::default()
    };
    let mut replicas = Replicas {
        shared: shared.clone(),
        arbiters: consensus.clone(),
        evaluators: Arc::new(Evaluators {
            arbiters: entity.clone(),
            kinds: Arc::new(builder.kinds.clone()),
            options: Arc::new(evaluation.check().expect("the defaults hang together")),
            seed,
        }),
        options: group_options(
            REST_AFTER,
            GroupOptions::default().commit_notice,
            keep_bytes(shared.sharding.shards),
        ),
        system_options: group_options(0, SYSTEM_NOTICE, keep_bytes(1)),
        seed,
        disk: RealDisk::new(&path).map_err(|error| StartError::Internal {
            reason: error.to_string(),
        })?,
        kept: BTreeMap::new(),
        retired: crate::system::Retirements::default(),
    };
    let on_disk = recovered.into_iter().zip(kept_on_disk);
    replicas.bring_back(
        on_disk
            .map(|((key, recovered), kept)| (key, recovered, kept))
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
            zone: builder.description.zone.clone(),
            capacity: builder.description.capacity,
            roles: builder.roles.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            versions: Versions {
                system: builder.build.get(),
            },
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
    let pulse = Pulse::start(&consensus, &entity, beats::INTERVAL);
    let told = Arc::new(OnceLock::new());
    let beats = Beats::start(
        shared.clone(),
        heard.clone(),
        sight.clone(),
        pulse,
        told.clone(),
    )?;
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
        reserve,
        replicas,
        gossip.clone(),
        keys.clone(),
        sight.clone(),
        table.clone(),
        courier.clone(),
        founding,
        Some(builder.replace_after).filter(|silence| !silence.is_zero()),
    )
    .start();
    let _first = told.set(steward.clone());
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
    let seeds = match entrance {
        CheckedEntrance::Join(addresses) => addresses,
        CheckedEntrance::Seeds(seats) => seats.addresses_of_others(&name),
        CheckedEntrance::Found | CheckedEntrance::Known => Vec::new(),
    };
    let known = Addresses::load(&path);
    let keeper = keep(store, sight.clone(), path.clone(), known.clone());
    let lookout = look_out(shared.clone(), gossip.clone(), sight, seeds, mine, known);
    let seeker = actix_rt::spawn(async move {
        tokio::join!(keeper, lookout);
    });
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
pub(super) fn recover(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tails_of_all_logs_together_are_bounded() {
        // Section 4: what a node holds is bounded, however many shards it has.
        for shards in 1..=2_048 {
            assert!(keep_bytes(shards) * shards as usize <= KEEP_BYTES);
        }
        assert_eq!(keep_bytes(16), 1 << 20, "few have enough for a moment");
        assert!(keep_bytes(100_000) > 0);
    }
}
