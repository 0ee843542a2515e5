//! Snapshots that are made of rows, and that become rows.

use super::*;
use crate::evaluation::{import, snapshot_of};
use crate::group::actor::Making;

/// A state of some mebibytes, in entities of 16 KiB.
fn state(mebibytes: u64) -> Bytes {
    snapshot_of(meta().position.index, mebibytes * 64, 16 << 10)
}

/// Pieces of a mebibyte, as they are read and written here.
const PIECES: u64 = 4;

/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(1);

fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to that");
        std::thread::sleep(GLANCE); // between two looks; nothing rests on its length
    }
}

impl Port {
    fn rows(&self) -> &StateRows {
        self.checkpoints.rows().expect("has rows")
    }

    /// Gives a replica a state in rows.
    fn settle(&self, group: u64, state: &[u8]) {
        let mut staging = self.rows().stage(GroupId::new(group));
        let put = |row: Vec<u8>, value| {
            let put = staging.put(&row, value);
            put.map_err(|error| error.to_string())
        };
        let (_, head) = import(state, put).unwrap();
        self.rows()
            .adopt(key(group), staging, meta(), head)
            .unwrap();
    }

    fn hear_making(&self) -> ReplicaKey {
        match self.hear() {
            (key, News::Making(Making { to: FOLLOWER, .. })) => key,
            other => panic!("{other:?}"),
        }
    }

    fn exports(&self) -> &Exports {
        self.freight.depot.exports.as_ref().expect("has rows")
    }
}

#[test]
fn a_snapshot_that_nobody_needs_any_more_is_not_made() {
    // Followers go as fast as they come, or are led by somebody else by now; of a large state each took seconds.
    const MEBIBYTES: u64 = 4;
    let port = Port::with_rows();
    let whole = state(MEBIBYTES);
    (1..=5).for_each(|group| port.settle(group, &whole));
    port.quay.set(Act::Wait);
    port.freight.request(key(1), FOLLOWER);
    port.quay.await_waiting();
    assert_eq!(port.hear_making(), key(1));
    for _ in 0..100 {
        for group in 2..=4 {
            port.freight.request(key(group), FOLLOWER);
            port.freight.end(key(group), FOLLOWER, false);
        }
        assert!(port.exports().waiting() <= SHIPMENTS_MAX);
    }
    port.freight.leave(key(1));
    port.freight.request(key(5), FOLLOWER);
    let before = port.quay.passed();
    port.quay.set(Act::Work);
    assert_eq!(port.hear_making(), key(5), "of the others nothing is heard");
    assert_eq!(port.hear_offer().0, key(5));
    let written = port.quay.passed() - before;
    let all = MEBIBYTES * PIECES;
    assert!(
        written > all / 2 && written < all + all / 2,
        "{written} of {all} pieces"
    );
    port.end();
}

/// Ends the freight while a snapshot is being taken over: `still` holds it where it is, and gives it free again.
fn ended_while_installing(reached: u64, hold: impl FnOnce(&Port), free: impl FnOnce(&Port)) {
    let port = Port::with_rows();
    let whole = state(8);
    let pieces = 8 * PIECES;
    port.freight
        .store(key(1), piece_of(&whole, 0, whole.clone()));
    assert_eq!(port.hear_stored(), Some(whole.len() as u64));
    let before = port.quay.passed();
    hold(&port);
    let machine = Machine::Shard(Arc::default());
    port.freight.install(key(1), meta(), id_of(&whole), machine);
    until(|| port.quay.passed() - before >= reached);
    std::thread::scope(|scope| {
        scope.spawn(|| port.freight.close());
        until(|| port.freight.depot.state().closed);
        free(&port);
    });
    let passed = port.quay.passed() - before;
    assert!(
        passed < reached + pieces / 2,
        "{passed} of {pieces} pieces, twice"
    );
    match port.hear() {
        (_, News::Fetched(fetched)) => {
            let error = fetched.result.unwrap_err();
            assert!(
                matches!(error, FetchError::Partial(PartialError::Ended)),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(port.rows().head(key(1)).is_none());
    let disk = RealDisk::new(port.directory.path().join("state")).unwrap();
    let held = Partials::open(Box::new(disk), |_| true).unwrap();
    let (_, id, bytes) = held.held(key(1)).expect("for the next start");
    assert_eq!((id, bytes), (id_of(&whole), whole.len() as u64));
    port.checkpoints.close();
}

#[test]
fn the_end_waits_for_no_snapshot_that_is_being_verified() {
    ended_while_installing(
        1,
        |port| port.quay.set(Act::Wait),
        |port| port.quay.set(Act::Work),
    );
}

#[test]
fn the_end_waits_for_no_snapshot_that_becomes_rows() {
    // Each is read once to be verified, and again to be taken over; the first mebibyte of rows waits for the disk.
    let verified = 8 * PIECES;
    let pieces_of_rows = PIECES / 2;
    let (held, holds) = channel();
    let (free, freed) = channel();
    std::thread::scope(|scope| {
        ended_while_installing(
            verified + pieces_of_rows,
            |port| {
                let rows = port.rows().clone();
                scope.spawn(move || {
                    let still = rows.hold();
                    held.send(()).unwrap();
                    let _freed = freed.recv();
                    drop(still);
                });
                holds.recv().unwrap();
            },
            |_| free.send(()).unwrap(),
        );
    });
}

#[test]
fn what_arrives_meanwhile_does_not_wait_for_a_snapshot_that_becomes_rows() {
    // A leader that sees a follower take nothing for some seconds gives its snapshot up.
    let port = Port::with_rows();
    let whole = state(8);
    port.freight
        .store(key(1), piece_of(&whole, 0, whole.clone()));
    assert_eq!(port.hear_stored(), Some(whole.len() as u64));
    let still = port.rows().hold();
    let before = port.quay.passed();
    let machine = Machine::Shard(Arc::default());
    port.freight.install(key(1), meta(), id_of(&whole), machine);
    until(|| port.quay.passed() - before > 8 * PIECES);
    port.freight.store(key(2), piece(0, STATE));
    assert_eq!(port.hear_stored(), Some(STATE.len() as u64));
    drop(still);
    match port.hear() {
        (installed, News::Fetched(fetched)) => {
            assert_eq!(installed, key(1));
            assert!(fetched.result.is_ok());
        }
        other => panic!("{other:?}"),
    }
    port.end();
}
