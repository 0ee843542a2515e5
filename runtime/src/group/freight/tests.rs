//! The freight of one node beside a disk that fails, panics or waits when told. Compiled for tests only.

mod rows;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};

use bytes::Bytes;
use synod_consensus::{GroupId, LogIndex, Position, Term};
use tempfile::TempDir;

use super::*;
use crate::storage::{
    Checkpoint, CheckpointSink, Checkpoints, Disk, DiskFile, OpenMode, RealDisk, StateRows,
};
use crate::system::SystemState;

/// What a disk does with the bytes of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Act {
    #[default]
    Work,
    Refuse,
    Panic,
    /// Until it is told otherwise.
    Wait,
}

/// Of all files of a disk.
#[derive(Debug, Default)]
struct Mood {
    act: Mutex<(Act, usize)>,
    changed: Condvar,
    /// Reads and writes so far.
    passed: AtomicU64,
}

impl Mood {
    fn set(&self, act: Act) {
        self.act.lock().unwrap().0 = act;
        self.changed.notify_all();
    }

    /// Returns once somebody waits.
    fn await_waiting(&self) {
        let act = self.act.lock().unwrap();
        let so = self
            .changed
            .wait_while(act, |(_, waiting)| *waiting == 0)
            .unwrap();
        drop(so);
    }

    /// Reads and writes that were begun so far.
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn pass(&self) -> std::io::Result<()> {
        self.passed.fetch_add(1, Ordering::SeqCst);
        let mut act = self.act.lock().unwrap();
        if act.0 == Act::Wait {
            act.1 += 1;
            self.changed.notify_all();
            act = self
                .changed
                .wait_while(act, |(act, _)| *act == Act::Wait)
                .unwrap();
            act.1 -= 1;
        }
        let now = act.0;
        drop(act);
        match now {
            Act::Refuse => Err(std::io::ErrorKind::StorageFull.into()),
            Act::Panic => panic!("told to"),
            Act::Work | Act::Wait => Ok(()),
        }
    }
}

/// A directory whose files obey a mood.
struct MoodyDisk(RealDisk, Arc<Mood>);

impl Disk for MoodyDisk {
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn open(&self, name: &str, mode: OpenMode) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(MoodyFile(
            self.0.open(name, mode)?,
            self.1.clone(),
        )))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn sync_directory(&self) -> std::io::Result<()> {
        self.0.sync_directory()
    }
    fn share(&self) -> Box<dyn Disk> {
        Box::new(Self(self.0.clone(), self.1.clone()))
    }
    fn place(&self) -> String {
        self.0.place()
    }
}

struct MoodyFile(Box<dyn DiskFile>, Arc<Mood>);

impl DiskFile for MoodyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.pass()?;
        self.0.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.1.pass()?;
        self.0.write_at(offset, bytes)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn allocate(&mut self, length: u64) -> std::io::Result<()> {
        self.0.allocate(length)
    }
    fn length(&self) -> std::io::Result<u64> {
        self.0.length()
    }
}

/// Hears of checkpoints that are durable.
struct Done(Sender<ReplicaKey>);

impl CheckpointSink for Done {
    fn checkpointed(&self, done: Vec<(ReplicaKey, LogIndex)>) {
        for (key, _) in done {
            let _ended = self.0.send(key);
        }
    }
    fn failed(&self, error: String) {
        panic!("{error}");
    }
}

/// Writes down what the freight says.
struct Scribe(Mutex<Sender<(ReplicaKey, News)>>);

impl Receivers for Scribe {
    fn tell(&self, key: ReplicaKey, news: News) -> bool {
        self.0.lock().unwrap().send((key, news)).is_ok()
    }
}

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const STATE: &[u8] = b"a state of nobody";

/// The freight of one node, and whoever talks to it.
struct Port {
    directory: TempDir,
    /// Of the checkpoints.
    shelf: Arc<Mood>,
    /// Of what arrives.
    quay: Arc<Mood>,
    checkpoints: CheckpointWriter,
    durable: Receiver<ReplicaKey>,
    freight: Freight,
    news: Receiver<(ReplicaKey, News)>,
}

fn key(group: u64) -> ReplicaKey {
    ReplicaKey {
        group: GroupId::new(group),
        replica: ReplicaId::new(group * 10),
    }
}

const FOLLOWER: ReplicaId = ReplicaId::new(7);

impl Port {
    /// The first so many replicas have a checkpoint. The budget allows one read; then it is used up for longer than a test lasts.
    fn new(replicas: u64, bytes_per_second: u64) -> Self {
        Self::start(replicas, bytes_per_second, false)
    }

    /// Without budget and checkpoints, for states that lie in rows.
    fn with_rows() -> Self {
        Self::start(0, 1 << 40, true)
    }

    fn start(replicas: u64, bytes_per_second: u64, in_rows: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (shelf, quay) = (Arc::<Mood>::default(), Arc::<Mood>::default());
        let disk = |mood: &Arc<Mood>| {
            let real = RealDisk::new(directory.path().join("state")).unwrap();
            Box::new(MoodyDisk(real, mood.clone()))
        };
        let (done, durable) = channel();
        let checkpoints = Checkpoints::open(disk(&shelf)).unwrap();
        let rows = in_rows.then(|| StateRows::open(directory.path().join("rows")).unwrap());
        let sinks: Vec<Box<dyn CheckpointSink>> = vec![Box::new(Done(done))];
        let checkpoints = CheckpointWriter::start_with(checkpoints, rows, sinks).unwrap();
        for group in 1..=replicas {
            let checkpoint = Checkpoint {
                key: key(group),
                meta: meta(),
                data: Bytes::from_static(STATE),
            };
            checkpoints.submit(0, vec![checkpoint]);
            assert_eq!(durable.recv_timeout(PATIENCE).unwrap(), key(group));
        }
        let (told, news) = channel();
        let freight = Freight::start(
            Arc::new(Scribe(Mutex::new(told))),
            checkpoints.clone(),
            Partials::open(disk(&quay), |_| false).unwrap(),
            [],
            bytes_per_second,
            Arc::new(Overlays::new(0)),
        )
        .unwrap();
        Self {
            directory,
            shelf,
            quay,
            checkpoints,
            durable,
            freight,
            news,
        }
    }

    /// A newer checkpoint of a replica.
    fn checkpoint(&self, group: u64, data: &'static [u8]) {
        let mut meta = meta();
        meta.position.index = meta.position.index.next();
        let checkpoint = Checkpoint {
            key: key(group),
            meta,
            data: Bytes::from_static(data),
        };
        self.checkpoints.submit(0, vec![checkpoint]);
        let done = self.durable.recv_timeout(PATIENCE);
        assert_eq!(done.expect("it is written"), key(group));
    }

    fn hear(&self) -> (ReplicaKey, News) {
        self.news.recv_timeout(PATIENCE).expect("it is answered")
    }

    fn hear_offer(&self) -> (ReplicaKey, SnapshotId) {
        match self.hear() {
            (key, News::Provide(provide)) if provide.to == FOLLOWER => (key, provide.offer.id()),
            other => panic!("{other:?}"),
        }
    }

    fn hear_read(&self) -> Option<Bytes> {
        match self.hear().1 {
            News::Read(read) => read.data,
            other => panic!("{other:?}"),
        }
    }

    fn hear_gone(&self) -> ReplicaKey {
        match self.hear() {
            (key, News::Gone(_)) => key,
            other => panic!("{other:?}"),
        }
    }

    fn hear_stored(&self) -> Option<u64> {
        match self.hear().1 {
            News::Stored(stored) => stored.held,
            other => panic!("{other:?}"),
        }
    }

    /// Keeps the thread of the checkpoints busy until the sender is dropped.
    fn occupy(&self) -> Sender<()> {
        let (release, released) = channel();
        let (begun, begins) = channel();
        let occupied = Box::new(move |_| {
            begun.send(()).unwrap();
            let _dropped = released.recv();
        });
        self.checkpoints.source(key(99), occupied);
        begins.recv_timeout(PATIENCE).unwrap();
        release
    }

    /// Returns once everything that was asked of the checkpoints before is done. Twice: what is done may ask for more.
    fn await_checkpoints(&self) {
        for _ in 0..2 {
            let (done, ends) = channel();
            let take = Box::new(move |_| done.send(()).unwrap());
            self.checkpoints.source(key(98), take);
            ends.recv_timeout(PATIENCE).unwrap();
        }
    }

    /// Whether there is a checkpoint.
    fn has_checkpoint(&self, key: ReplicaKey) -> bool {
        let (told, hears) = channel();
        let take = Box::new(move |source: Result<Option<_>, _>| {
            told.send(source.unwrap().is_some()).unwrap();
        });
        self.checkpoints.source(key, take);
        hears.recv_timeout(PATIENCE).unwrap()
    }

    /// As if nothing had happened to any shipment for as long as it takes to count as idle.
    fn grow_old(&self) {
        for shipment in self.freight.depot.state().shipments.values_mut() {
            shipment.moved_at -= IDLE;
        }
    }

    fn end(self) {
        self.freight.close();
        self.checkpoints.close();
    }
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(1), LogIndex::new(5)),
        ..SnapshotMeta::default()
    }
}

fn wanted(id: SnapshotId, held: u64) -> ChunkWanted {
    let mut wanted = ChunkWanted::default();
    wanted.to = FOLLOWER;
    wanted.id = id;
    wanted.bytes = STATE.len();
    wanted.held = held;
    wanted
}

fn id_of(data: &[u8]) -> SnapshotId {
    SnapshotId {
        position: meta().position,
        bytes: data.len() as u64,
        checksum: u64::from(crc32c::crc32c(data)),
    }
}

fn piece_of(whole: &[u8], offset: usize, data: Bytes) -> ChunkReceived {
    ChunkReceived {
        meta: Box::new(meta()),
        id: id_of(whole),
        offset: offset as u64,
        data,
    }
}

fn piece(offset: usize, data: &'static [u8]) -> ChunkReceived {
    piece_of(STATE, offset, Bytes::from_static(data))
}

fn machine() -> Machine {
    Machine::System(Arc::default(), crate::system::BUILD_LEVEL)
}

#[test]
fn what_is_being_opened_is_not_opened_twice() {
    // The thread of the checkpoints is busy for so long that the groups ask again.
    let port = Port::new(5, 1 << 30);
    let busy = port.occupy();
    (1..=5).for_each(|group| port.freight.request(key(group), FOLLOWER));
    port.grow_old();
    (1..=5).for_each(|group| port.freight.request(key(group), FOLLOWER));
    drop(busy);
    port.await_checkpoints();
    let mut offered: Vec<_> = (1..=4).map(|_| port.hear_offer().0).collect();
    offered.sort();
    assert_eq!(offered, [1, 2, 3, 4].map(key));
    assert!(port.news.try_recv().is_err(), "four at once, each once");
    port.freight.end(key(2), FOLLOWER, false);
    assert_eq!(port.hear_offer().0, key(5), "then it is the fifth's turn");
    port.end();
}

#[test]
fn a_source_that_comes_for_an_earlier_shipment_is_not_offered() {
    // The replica's actor ended while its source was opened; the next one asks for its own.
    let port = Port::new(1, 1 << 30);
    let busy = port.occupy();
    port.freight.request(key(1), FOLLOWER);
    port.freight.leave(key(1));
    port.freight.request(key(1), FOLLOWER);
    drop(busy);
    port.await_checkpoints();
    assert_eq!(port.hear_offer().0, key(1));
    assert!(port.news.try_recv().is_err());
    port.end();
}

#[test]
fn a_follower_that_comes_back_is_offered_what_it_has_half_of() {
    // H70: it was killed half-way; meanwhile the leader's state went on, and its newest snapshot is another one.
    let port = Port::new(1, 1 << 30);
    port.freight.request(key(1), FOLLOWER);
    let (_, first) = port.hear_offer();
    port.checkpoint(1, b"a later state of nobody");
    port.freight.end(key(1), FOLLOWER, true);
    port.freight.request(key(1), FOLLOWER);
    assert_eq!(port.hear_offer().1, first);
    port.freight.read(key(1), wanted(first, 0));
    match port.hear() {
        (_, News::Read(read)) => assert!(read.data.is_some()),
        other => panic!("{other:?}"),
    }
    // Of no use to the group: it came too late, was wrong, or has arrived.
    port.freight.end(key(1), FOLLOWER, false);
    port.freight.request(key(1), FOLLOWER);
    assert_ne!(port.hear_offer().1, first);
    port.end();
}

#[test]
fn an_offer_that_came_too_late_is_followed_by_another_at_once() {
    // The log behind it was compacted: the group asks for another before it says that this one ended.
    let port = Port::new(1, 1 << 30);
    port.freight.request(key(1), FOLLOWER);
    let (_, first) = port.hear_offer();
    port.checkpoint(1, b"a later state of nobody");
    port.freight.request(key(1), FOLLOWER);
    port.freight.end(key(1), FOLLOWER, false);
    assert_ne!(port.hear_offer().1, first);
    port.end();
}

#[test]
fn few_snapshots_are_kept_and_none_for_long() {
    let port = Port::new(1, 1 << 30);
    port.freight.request(key(1), FOLLOWER);
    port.hear_offer();
    let source = {
        let state = port.freight.depot.state();
        let way = (key(1), FOLLOWER);
        state.shipments[&way].source.clone().expect("offered")
    };
    let mut kept = kept::Kept::default();
    let now = Instant::now();
    let later = |seconds| now + Duration::from_secs(seconds);
    for group in 1..=6 {
        kept.put((key(group), FOLLOWER), source.clone(), later(group));
    }
    let has = |kept: &mut kept::Kept, group, at| kept.take((key(group), FOLLOWER), at).is_some();
    assert!(!has(&mut kept, 2, later(6)), "the oldest gave way");
    assert!(has(&mut kept, 3, later(6)));
    assert!(!has(&mut kept, 3, later(6)), "it was taken");
    assert_eq!(kept.until(), Some(later(64)));
    assert!(!has(&mut kept, 4, later(64)), "it lay too long");
    assert!(has(&mut kept, 5, later(64)));
    kept.forget(|(other, _)| other != key(6));
    assert_eq!(kept.until(), None);
    port.end();
}

#[test]
fn a_read_that_is_not_done_any_more_is_answered() {
    // A group that waits for a piece repeats nothing: unanswered, its shipment would stand still for good.
    let port = Port::new(1, 1);
    port.freight.request(key(1), FOLLOWER);
    let (_, id) = port.hear_offer();
    port.freight.read(key(1), wanted(id, 0));
    assert_eq!(port.hear_read().as_deref(), Some(STATE));
    // From now on the budget is used up for some seconds.
    port.freight.read(key(1), wanted(id, 1));
    port.freight.end(key(1), FOLLOWER, false);
    assert_eq!(port.hear_read(), None);
    port.end();
}

#[test]
fn whatever_panics_is_answered() {
    let port = Port::new(1, 1 << 30);
    port.freight.request(key(1), FOLLOWER);
    let (_, id) = port.hear_offer();
    port.shelf.set(Act::Panic);
    port.freight.read(key(1), wanted(id, 0));
    assert_eq!(port.hear_read(), None);

    port.quay.set(Act::Panic);
    port.freight.store(key(1), piece(0, STATE));
    assert_eq!(port.hear_stored(), None);

    port.quay.set(Act::Work);
    port.freight.store(key(1), piece(0, STATE));
    assert_eq!(port.hear_stored(), Some(STATE.len() as u64));
    port.quay.set(Act::Panic);
    port.freight
        .install(key(1), meta(), id_of(STATE), machine());
    let (_, news) = port.hear();
    let News::Fetched(fetched) = news else {
        panic!("{news:?}");
    };
    let error = fetched.result.unwrap_err();
    assert_eq!(error.refusal(), Refusal::NotKept);
    port.shelf.set(Act::Work);
    port.end();
}

#[test]
fn a_checkpoint_that_is_not_to_be_had_is_said_to_be_gone() {
    // Its replica has the state, and can make a fresh one; of an idle group nobody else ever would.
    let port = Port::new(1, 1 << 30);
    port.freight.request(key(1), FOLLOWER);
    let (_, id) = port.hear_offer();
    port.shelf.set(Act::Refuse);
    port.freight.read(key(1), wanted(id, 0));
    assert_eq!(port.hear_gone(), key(1), "it cannot be read");
    assert_eq!(port.hear_read(), None);
    port.freight.end(key(1), FOLLOWER, false);
    port.freight.request(key(1), FOLLOWER);
    assert_eq!(port.hear_gone(), key(1), "it cannot be opened");
    port.freight.request(key(2), FOLLOWER);
    assert_eq!(port.hear_gone(), key(2), "there is none");
    port.shelf.set(Act::Work);
    port.end();
}

#[test]
fn a_piece_that_the_disk_refuses_is_said_to_be_refused() {
    // A full disk: what was held is given up, and what comes behind begins nothing.
    let port = Port::new(0, 1 << 30);
    port.freight.store(key(1), piece(0, &STATE[..4]));
    assert_eq!(port.hear_stored(), Some(4));
    port.quay.set(Act::Refuse);
    port.freight.store(key(1), piece(4, &STATE[4..]));
    assert_eq!(port.hear_stored(), None);
    port.quay.set(Act::Work);
    port.freight.store(key(1), piece(8, &STATE[8..]));
    assert_eq!(port.hear_stored(), Some(0));
    assert_eq!(
        port.freight.counters().not_stored.load(Ordering::Relaxed),
        1
    );
    port.end();
}

#[test]
fn a_receiver_that_takes_nothing_gives_way_and_one_that_does_stays() {
    let port = Port::new(5, 1 << 30);
    let mut names = BTreeMap::new();
    for group in 1..=4 {
        port.freight.request(key(group), FOLLOWER);
        names.extend([port.hear_offer()]);
    }
    port.grow_old();
    // All four are read for, again and again; only at 3 something of it arrives.
    for group in 1..=4 {
        for round in 1..=2 {
            let held = if group == 3 { round } else { 0 };
            port.freight
                .read(key(group), wanted(names[&key(group)], held));
            assert!(port.hear_read().is_some());
        }
    }
    port.freight.request(key(5), FOLLOWER);
    assert_eq!(port.hear_offer().0, key(5));
    port.freight.read(key(3), wanted(names[&key(3)], 3));
    assert!(port.hear_read().is_some(), "its place was kept");
    port.freight.read(key(1), wanted(names[&key(1)], 0));
    assert_eq!(port.hear_read(), None, "so that its group asks again");
    port.end();
}

#[test]
fn what_cannot_wait_is_not_kept_while_it_is_refused() {
    let port = Port::new(0, 1 << 30);
    let whole = vec![7; ARRIVED_BYTES_MAX + 1];
    let data = Bytes::from(whole.clone());
    port.quay.set(Act::Wait);
    port.freight
        .store(key(1), piece_of(&whole, 0, Bytes::from_static(b"\x07")));
    port.quay.await_waiting();
    let late = data.clone();
    port.freight.store(key(1), piece_of(&whole, 0, late));
    assert!(
        data.is_unique(),
        "its memory is free while it waits to be answered"
    );
    port.quay.set(Act::Work);
    assert_eq!((port.hear_stored(), port.hear_stored()), (Some(1), Some(1)));
    port.end();
}

#[test]
fn a_replica_that_goes_while_its_snapshot_is_installed_leaves_no_checkpoint() {
    // Its actor has the checkpoint removed at once; the snapshot becomes one only behind that.
    let port = Port::new(0, 1 << 30);
    let state = SystemState::default().encode();
    port.freight
        .store(key(1), piece_of(&state, 0, state.clone()));
    assert_eq!(port.hear_stored(), Some(state.len() as u64));
    port.quay.set(Act::Wait);
    port.freight
        .install(key(1), meta(), id_of(&state), machine());
    port.quay.await_waiting();
    port.checkpoints.remove(key(1));
    port.freight.forget(key(1));
    port.await_checkpoints();
    port.quay.set(Act::Work);
    assert!(matches!(port.hear().1, News::Fetched(fetched) if fetched.result.is_ok()));
    // The removal is asked for behind whatever the thread did before.
    port.freight.store(key(2), piece(0, STATE));
    assert_eq!(port.hear_stored(), Some(STATE.len() as u64));
    assert!(!port.has_checkpoint(key(1)));
    port.end();
}
