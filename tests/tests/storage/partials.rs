//! States that travel in pieces: what a kill, a power loss or damage on the way leaves of them.

use bytes::Bytes;
use synod::storage::{Checkpoint, CheckpointSource, Checkpoints, PartialError, Partials};
use synod_consensus::{ChunkReceived, ReplicaKey};
use tests::disk::VirtualDisk;

use super::{key, meta};

const STATE: &str = "state";
const BYTES: usize = 10_000;
const PIECE: usize = 700;

fn checkpoints(disk: &VirtualDisk) -> Checkpoints {
    Checkpoints::open(disk.folder(STATE)).unwrap_or_else(|error| panic!("{error}"))
}

fn partials(disk: &VirtualDisk) -> Partials {
    Partials::open(disk.folder(STATE), |key| key.replica.get() < 9).unwrap()
}

fn state(index: u64) -> Bytes {
    (0..BYTES)
        .map(|at| (at as u64 * 31 + index) as u8)
        .collect::<Vec<u8>>()
        .into()
}

fn put(disk: &VirtualDisk, key: ReplicaKey, index: u64) {
    let checkpoint = Checkpoint {
        key,
        meta: meta(1, index),
        data: state(index),
    };
    checkpoints(disk).put(&[checkpoint]).unwrap();
}

/// A checkpoint on another machine's disk, open for reading.
fn source(index: u64) -> CheckpointSource {
    let disk = VirtualDisk::new(1);
    put(&disk, key(7, 1), index);
    checkpoints(&disk).source(key(7, 1)).unwrap().unwrap()
}

/// Stores what is missing, up to `end`.
fn receive(partials: &mut Partials, key: ReplicaKey, source: &CheckpointSource, end: usize) {
    let offer = source.offer();
    let held = partials.held(key).filter(|(_, id, _)| *id == offer.id());
    let mut offset = held.map_or(0, |(_, _, held)| held);
    while offset < end as u64 {
        let bytes = PIECE.min(end - offset as usize);
        let chunk = ChunkReceived {
            meta: Box::new(offer.meta.clone()),
            id: offer.id(),
            offset,
            data: source.read(offset, bytes).unwrap(),
        };
        offset = partials.store(key, &chunk).unwrap();
    }
}

fn adopt(disk: &VirtualDisk, partials: &mut Partials, key: ReplicaKey) {
    partials.release(key);
    checkpoints(disk).adopt(key).unwrap();
}

fn covered(disk: &VirtualDisk, key: ReplicaKey) -> Option<u64> {
    let found = checkpoints(disk).load(key).unwrap()?;
    let index = found.meta.position.index.get();
    assert_eq!((found.meta, found.data), (meta(1, index), state(index)));
    Some(index)
}

#[test]
fn pieces_become_a_checkpoint_that_survives_a_power_loss() {
    for seed in 0..16 {
        let disk = VirtualDisk::new(seed);
        let (me, source) = (key(7, 2), source(40));
        put(&disk, me, 11);
        let mut partials = partials(&disk);
        receive(&mut partials, me, &source, BYTES);
        assert_eq!(partials.whole(me, source.offer().id()).unwrap(), state(40));
        assert_eq!(covered(&disk, me), Some(11));
        adopt(&disk, &mut partials, me);
        disk.crash();
        assert_eq!(covered(&disk, me), Some(40));
        assert_eq!(disk.names(STATE).len(), 1, "nothing else stays");
    }
}

#[test]
fn a_source_stays_readable_when_its_checkpoint_is_superseded() {
    let disk = VirtualDisk::new(3);
    put(&disk, key(7, 1), 40);
    let source = checkpoints(&disk).source(key(7, 1)).unwrap().unwrap();
    put(&disk, key(7, 1), 50);
    assert_eq!(source.read(0, BYTES).unwrap(), state(40));
    assert!(source.read(1, BYTES).is_err(), "not beyond its end");
    assert!(checkpoints(&disk).source(key(8, 1)).unwrap().is_none());
}

// H70: a kill in the middle of receiving loses no byte; the page cache has them all.
#[test]
fn a_process_that_was_killed_goes_on_where_it_was() {
    let disk = VirtualDisk::new(4);
    let (me, source) = (key(7, 2), source(40));
    receive(&mut partials(&disk), me, &source, 6_300);
    disk.kill();
    let mut partials = partials(&disk);
    let (found, id, held) = partials.held(me).unwrap();
    assert_eq!((found, id, held), (meta(1, 40), source.offer().id(), 6_300));
    receive(&mut partials, me, &source, BYTES);
    assert_eq!(partials.whole(me, id).unwrap(), state(40));
}

// H70: what a power loss leaves may have holes: then it begins anew, and never becomes another state.
#[test]
fn a_power_loss_leaves_a_beginning_or_is_found_out() {
    let mut found_out = 0;
    for seed in 0..200 {
        let disk = VirtualDisk::new(seed);
        let (me, source) = (key(7, 2), source(40));
        let id = source.offer().id();
        receive(&mut partials(&disk), me, &source, 6_300);
        disk.folder(STATE).sync_directory().unwrap(); // the name is there, whatever of the bytes is
        disk.crash();
        let mut partials = partials(&disk);
        receive(&mut partials, me, &source, BYTES);
        if let Err(error) = partials.whole(me, id) {
            assert!(matches!(error, PartialError::Damaged), "{error}");
            assert!(partials.held(me).is_none());
            found_out += 1;
            receive(&mut partials, me, &source, BYTES);
            assert_eq!(partials.whole(me, id).unwrap(), state(40));
        }
        adopt(&disk, &mut partials, me);
        assert_eq!(covered(&disk, me), Some(40));
    }
    assert!(found_out > 0, "no power loss left a hole");
}

#[test]
fn the_power_may_go_at_every_moment_of_an_adoption() {
    for nth in 1..=8 {
        let disk = VirtualDisk::new(nth);
        let (me, source) = (key(7, 2), source(40));
        put(&disk, me, 11);
        let mut partials = partials(&disk);
        receive(&mut partials, me, &source, BYTES);
        partials.whole(me, source.offer().id()).unwrap();
        partials.release(me);
        let mut checkpoints = checkpoints(&disk);
        disk.lose_power_in(nth);
        let adopted = checkpoints.adopt(me).is_ok();
        disk.crash();
        let covered = covered(&disk, me);
        assert!(covered == Some(40) || (!adopted && covered == Some(11)));
    }
}

#[test]
fn another_state_supersedes_and_what_is_unwanted_goes() {
    let disk = VirtualDisk::new(5);
    let (me, first, second) = (key(7, 2), source(40), source(41));
    {
        let mut partials = partials(&disk);
        receive(&mut partials, me, &first, 6_300);
        receive(&mut partials, me, &second, 700);
        partials.drop_partial(me, first.offer().id());
        assert_eq!(partials.held(me).unwrap().2, 700, "another one was meant");
        assert!(matches!(
            partials.whole(me, second.offer().id()),
            Err(PartialError::Missing)
        ));
        assert!(partials.held(me).is_none());
        receive(&mut partials, me, &first, 1_400);
        receive(&mut partials, key(7, 9), &first, 1_400);
    }
    disk.kill();
    disk.damage(
        STATE,
        "0000000000000007-0000000000000002.partial",
        |bytes| {
            bytes[30] ^= 1;
        },
    );
    let partials = partials(&disk);
    assert!(partials.held(me).is_none() && partials.held(key(7, 9)).is_none());
    assert!(disk.names(STATE).is_empty(), "{:?}", disk.names(STATE));
}
