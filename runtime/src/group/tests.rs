//! The first and the last moments of the actors of a replica, on a real log in a temporary store. Compiled for tests only.
//!
//! What they do in between is the machine's (`synod-consensus`), the evaluator's (`evaluation`) and the simulators' affair.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use actix::{Actor, Addr};
use bytes::Bytes;
use synod_consensus::claims::{Claims, ClaimsOptions};
use synod_consensus::{
    Configuration, Group, GroupId, GroupOptions, LogIndex, LogStore, Position, ReplicaKey,
    Restored, SnapshotId, SnapshotMeta, Write,
};
use tempfile::TempDir;
use tokio::sync::watch;

use super::actor::{CheckpointNow, Fetched, Registered, Retire, RowsUnreadable};
use super::evaluator::{Incoming, Leads, LocalReplies, ReplyTo};
use super::freight::BYTES_PER_SECOND;
use super::machine::Decoded;
use super::registry::Completions;
use super::{
    Clock, Counters, Evaluators, Freight, GroupActor, Hosted, Machine, Outbox, Registry, Shared,
    Start,
};
use crate::evaluation::{BaseError, EvaluatorOptions, ShardState};
use crate::group::{OVERLAY_BYTES, Overlays};
use crate::storage::{
    CheckpointWriter, Checkpoints, LogOptions, LogWriter, Partials, RealDisk, SegmentedLog,
};
use crate::system::{Founding, SystemState};
use crate::transport::{
    CallAnswer, DevelopmentCa, EndpointKeys, Inbound, Lane, Limits, LocalHello, Peer, Transport,
    TransportOptions,
};
use crate::wire::{Intent, Outcome, Refusal, Reply, Request, ShardId, Sharding};

const SHARD: ShardId = ShardId {
    class: 0,
    number: 0,
};

/// Hears nothing.
struct Deaf;

impl Inbound for Deaf {
    fn frame(&self, _from: &Peer, _lane: Lane, _frames: Vec<Bytes>) {}
    fn datagram(&self, _from: &Peer, _datagram: Bytes) {}
    fn call(&self, _from: &Peer, _frame: Bytes, _answer: CallAnswer) {}
    fn connected(&self, _peer: &Peer) {}
    fn disconnected(&self, _peer: &Peer) {}
}

/// A node's common ground, with one founded group of one voter on disk.
struct Ground {
    _directory: TempDir,
    shared: Arc<Shared>,
    group: Option<Group>,
    /// Of the group, once it is started.
    state: Weak<Mutex<ShardState>>,
    key: ReplicaKey,
}

impl Ground {
    /// Group actors and their outbox live on this thread.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = |name: &str| Box::new(RealDisk::new(directory.path().join(name)).unwrap());
        let ca = DevelopmentCa::open(directory.path()).unwrap();
        let hello = LocalHello {
            name: "n1".to_owned(),
            ..LocalHello::default()
        };
        let transport = TransportOptions {
            listen: Some(([127, 0, 0, 1], 0).into()),
            identity: ca.node_identity("n1", directory.path()).unwrap(),
            hello: Arc::new(Mutex::new(hello)),
            keys: EndpointKeys::ephemeral(),
            limits: Limits::default(),
        };
        let group = GroupId::new(1);
        let key = ReplicaKey {
            group,
            replica: Founding::replica(group),
        };
        let mut log = SegmentedLog::open(disk("log"), LogOptions::default()).unwrap();
        let to = SnapshotMeta::founding(Configuration::of_voters([key.replica]));
        log.write(&[(key, vec![Write::Reset { to }])]).unwrap();
        let recovered = log.recover(key).unwrap().unwrap();
        let registry = Arc::new(Registry::default());
        let sink = || Box::new(Completions(registry.clone()));
        let checkpoints = Checkpoints::open(disk("state")).unwrap();
        let log_watch = log.watch();
        let checkpoints = CheckpointWriter::start(checkpoints, vec![sink()]).unwrap();
        let partials = Partials::open(disk("state"), |_| false).unwrap();
        let overlays = Arc::new(Overlays::new(OVERLAY_BYTES));
        let freight = Freight::start(
            registry.clone(),
            checkpoints.clone(),
            partials,
            [],
            BYTES_PER_SECOND,
            overlays.clone(),
        )
        .unwrap();
        let shared = Arc::new(Shared {
            store: Founding::FOUNDER,
            build: crate::system::BUILD_LEVEL,
            sharding: Sharding { seed: 1, shards: 1 },
            clock: Clock::start(),
            transport: Transport::bind(transport, Arc::new(Deaf)).unwrap(),
            log: LogWriter::start(Box::new(log), vec![sink()]).unwrap(),
            log_watch,
            checkpoints,
            overlays,
            freight,
            registry: registry.clone(),
            claims: Mutex::new(Claims::new(ClaimsOptions::default(), 1)),
            system: Arc::new(Mutex::new(SystemState::default())),
            changed: watch::channel(0).0,
            reports: Mutex::default(),
            lost: Mutex::default(),
            system_durable: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            degraded: AtomicBool::new(false),
            counters: Counters::default(),
            fatal: watch::channel(None).0,
        });
        Outbox::install(shared.clone(), 0);
        let options = GroupOptions::default().check().unwrap();
        let restored = Restored::after_restart(recovered, None);
        let now = shared.clock.now();
        let machine = Group::new(options, group, key.replica, restored, 7, now).unwrap();
        Self {
            _directory: directory,
            shared,
            group: Some(machine),
            state: Weak::new(),
            key,
        }
    }

    fn start_group(&mut self) -> Addr<GroupActor> {
        let evaluators = evaluators();
        let state = Arc::new(Mutex::new(ShardState::default()));
        self.state = Arc::downgrade(&state);
        let start = Start {
            group: self.group.take().expect("started once"),
            key: self.key,
            machine: Machine::Shard(state),
            shared: self.shared.clone(),
            shard: Some((SHARD, Arc::new(evaluators))),
            applied: SnapshotMeta::default(),
            space: None,
            state_bytes: 0,
        };
        GroupActor::new(start).start()
    }

    /// Makes the group known, as the node does before the actor is told.
    fn enter(&self, actor: &Addr<GroupActor>) -> Arc<Hosted> {
        let hosted = Hosted::new(self.key.replica, actor.clone(), None, Arc::default());
        self.shared.registry.insert(self.key.group, hosted)
    }

    /// The group, started and known, once all of its log is applied.
    async fn start_serving(&mut self) -> (Addr<GroupActor>, Arc<Hosted>) {
        let actor = self.start_group();
        let hosted = self.enter(&actor);
        actor.do_send(Registered(hosted.clone()));
        until("nothing is left to apply", || hosted.serves().is_some()).await;
        (actor, hosted)
    }

    fn end(self) {
        Outbox::remove();
        self.shared.log.close();
        self.shared.checkpoints.close();
        self.shared.transport.close();
    }
}

/// Runs a test as on one arbiter.
fn on_an_arbiter(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(10);

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if so() {
            return;
        }
        actix_rt::time::sleep(GLANCE).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after 2,000 looks");
}

#[test]
fn a_replica_puts_nothing_out_before_it_is_registered() {
    // A sole voter campaigns at once, and its vote must be durable first. The word that it is comes through the registry:
    // without an entry there it is lost, and the group never gets a leader.
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let actor = ground.start_group();
        for _ in 0..20 {
            // The campaign is due; whoever does not wait for `Registered` shows it within these looks.
            actix_rt::time::sleep(GLANCE).await;
            assert_eq!(ground.shared.log.counters().requests, 0);
        }
        let hosted = ground.enter(&actor);
        actor.do_send(Registered(hosted.clone()));
        until("it leads", || hosted.leads()).await;
        ground.end();
    });
}

/// What makes evaluators on this thread.
fn evaluators() -> Evaluators {
    Evaluators {
        arbiters: vec![actix_rt::System::current().arbiter().clone()],
        kinds: Arc::default(),
        options: Arc::new(EvaluatorOptions::default().check().unwrap()),
        seed: 7,
    }
}

/// Asks for a session.
fn opening(id: u64) -> Request {
    Request {
        id,
        attempt: 1,
        shard: SHARD,
        intent: Intent::OpenSession { router: 7 },
        kind: String::new(),
        key: String::new(),
        message: String::new(),
        body: Bytes::new(),
        deadline_ms: 1_000,
        trace: None,
    }
}

/// Hears what a request is answered.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Reply>>);

impl LocalReplies for Heard {
    fn reply(&self, reply: Reply) {
        self.0.lock().unwrap().push(reply);
    }
}

#[test]
fn an_evaluator_frees_its_state_with_its_leadership_and_sends_on_who_comes_late() {
    // A retired replica stays known until its retirement is durable, and others may still hold its evaluator's address: a request that
    // was on its way has a caller who would wait for nothing.
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let group = ground.start_group();
        let hosted = ground.enter(&group);
        assert!(hosted.evaluator().is_none());
        group.do_send(Registered(hosted.clone()));
        let held = ground.state.clone();
        until("it leads, and so does its evaluator", || {
            hosted.serves().is_some() && held.strong_count() == 2
        })
        .await;
        let evaluator = hosted.evaluator().expect("while it leads");
        let key = ground.key;
        ground.shared.registry.remove(key.group, key.replica);
        group.do_send(Retire);
        until("the state is free", || held.strong_count() == 1).await;
        assert!(hosted.evaluator().is_none() && evaluator.connected() && group.connected());
        let heard = Arc::new(Heard::default());
        evaluator.do_send(Incoming {
            request: opening(1),
            reply: ReplyTo::Local(heard.clone()),
        });
        until("it is answered", || !heard.0.lock().unwrap().is_empty()).await;
        let replies = std::mem::take(&mut *heard.0.lock().unwrap());
        assert!(matches!(
            replies[0].outcome,
            Outcome::Refused(Refusal::NotLeader { leader: None })
        ));
        ground.end();
    });
}

/// A replica of which a row cannot be read, after it has stopped.
fn stopped_by(error: BaseError, judge: impl FnOnce(&Ground, &Hosted)) {
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let (actor, hosted) = ground.start_serving().await;
        hosted.overlay_bytes.store(7, Ordering::Relaxed);
        actor.do_send(RowsUnreadable(error));
        until("it has stopped", || !actor.connected()).await;
        judge(&ground, &hosted);
        ground.end();
    });
}

#[test]
fn a_disk_that_refuses_stops_the_node_and_costs_no_replica() {
    // Too many open files pass; a replica that is given up is made anew from its peers, and a group may lose more than one that way.
    let error = BaseError::Unread("too many open files".to_owned());
    stopped_by(error, |ground, _| {
        let fatal = ground.shared.fatal.borrow().clone();
        let sentence = fatal.expect("the node stops");
        assert!(sentence.contains("too many open files"), "{sentence}");
        assert!(ground.shared.lost.lock().unwrap().is_empty());
    });
}

#[test]
fn a_damaged_row_costs_the_replica_and_the_node_goes_on() {
    // DESIGN section 7.
    let error = BaseError::Damaged("its checksum is wrong".to_owned());
    stopped_by(error, |ground, _| {
        assert_eq!(*ground.shared.fatal.borrow(), None);
        let lost = ground.shared.lost.lock().unwrap();
        assert_eq!(lost.get(&ground.key.group), Some(&ground.key.replica));
    });
}

#[test]
fn a_replica_that_has_stopped_is_not_asked_to_make_room() {
    // It stays known until it is buried. Asked because it has the most, it never answers, and nobody else is asked.
    let error = BaseError::Damaged("its checksum is wrong".to_owned());
    stopped_by(error, |ground, hosted| {
        assert_eq!(hosted.overlay_bytes.load(Ordering::Relaxed), 0);
        assert!(ground.shared.registry.largest_overlays(1).is_empty());
    });
}

#[test]
fn what_was_asked_of_the_checkpoints_of_a_replaced_state_is_over_with_it() {
    // The log's oldest file waited for this group; the snapshot that it took over has all that lay there.
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let (actor, hosted) = ground.start_serving().await;
        let position = Position::new(hosted.serves().unwrap(), LogIndex::new(1));
        let meta = SnapshotMeta {
            position,
            ..SnapshotMeta::founding(Configuration::of_voters([ground.key.replica]))
        };
        let id = SnapshotId {
            position,
            bytes: 1,
            checksum: 0,
        };
        let written = || ground.shared.checkpoints.counters().checkpoints;
        actor.do_send(CheckpointNow);
        actor.do_send(CheckpointNow); // another one, as soon as the first is there
        actor.do_send(Fetched {
            meta,
            id,
            result: Ok(Decoded::Shard(Box::default())),
        });
        until("it is written", || written() == 1).await;
        actor.do_send(CheckpointNow);
        for _ in 0..20 {
            // Whoever remembers what was asked before the snapshot shows it within these looks.
            actix_rt::time::sleep(GLANCE).await;
            assert!(written() <= 2);
        }
        until("it is written", || written() == 2).await;
        ground.end();
    });
}

#[test]
fn those_who_have_most_make_room_together_and_nobody_twice() {
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let actor = ground.start_group();
        let registry = &ground.shared.registry;
        let known: Vec<_> = [20, 10, 6, 4, 0]
            .into_iter()
            .zip(10..)
            .map(|(bytes, group)| {
                let hosted = Hosted::new(ground.key.replica, actor.clone(), None, Arc::default());
                hosted.overlay_bytes.store(bytes, Ordering::Relaxed);
                registry.insert(GroupId::new(group), hosted)
            })
            .collect();
        known[0].makes_room.store(true, Ordering::Relaxed);
        let asked = |bytes| {
            let hosted = registry.largest_overlays(bytes);
            let mut bytes: Vec<_> = hosted
                .iter()
                .map(|hosted| hosted.overlay_bytes.load(Ordering::Relaxed))
                .collect();
            bytes.sort_unstable();
            bytes
        };
        assert!(asked(20).is_empty(), "so much is coming");
        assert_eq!(asked(100), [6, 10], "half as much as the largest, at least");
        assert_eq!(asked(100), [4]);
        assert!(asked(100).is_empty());
        for hosted in &known {
            hosted.makes_room.store(false, Ordering::Relaxed);
        }
        assert_eq!(asked(5).len(), 1, "that is enough");
        ground.end();
    });
}

#[test]
fn an_evaluator_has_room_before_it_runs_and_nobody_is_left_without_an_answer() {
    // All who waited for a leader come at once; and then its leadership may be over before it has looked at the first.
    const CALLERS: u64 = 100;
    on_an_arbiter(async {
        let mut ground = Ground::new();
        let (actor, hosted) = ground.start_serving().await;
        let leads = Leads {
            group: actor,
            hosted: hosted.clone(),
            receipt: Arc::default(),
            serial: 7,
            term: hosted.serves().unwrap(),
            clock: None,
        };
        let state = ground.state.upgrade().unwrap();
        let (group, shared) = (ground.key.group, ground.shared.clone());
        let evaluator = evaluators().start(SHARD, group, state, leads, shared);
        hosted.set_evaluator(Some(evaluator));
        let heard = Arc::new(Heard::default());
        for id in 1..=CALLERS {
            let reply = ReplyTo::Local(heard.clone());
            let request = opening(id);
            assert!(hosted.offer(Incoming { request, reply }).is_ok());
        }
        hosted.set_serves(None);
        hosted.set_evaluator(None);
        let answered = || heard.0.lock().unwrap().len() as u64 == CALLERS;
        until("all are answered", answered).await;
        for reply in heard.0.lock().unwrap().iter() {
            let sent_on = matches!(
                reply.outcome,
                Outcome::Refused(Refusal::NotLeader { leader: None })
            );
            assert!(sent_on, "{reply:?}");
        }
        ground.end();
    });
}
